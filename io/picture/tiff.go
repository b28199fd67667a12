package picture

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Tags of a TIFF directory (TIFF 6.0).
const (
	tagWidth        = 256
	tagHeight       = 257
	tagBits         = 258
	tagCompression  = 259
	tagPhotometric  = 262
	tagFillOrder    = 266
	tagStripOffsets = 273
	tagOrientation  = 274
	tagSamples      = 277
	tagRowsPerStrip = 278
	tagStripBytes   = 279
	tagPlanar       = 284
	tagPredictor    = 317
	tagColorMap     = 320
	tagTileWidth    = 322
	tagTileHeight   = 323
	tagTileOffsets  = 324
	tagTileBytes    = 325
	tagExtraSamples = 338
	tagSampleFormat = 339
	tagICC          = 34675
)

// Values of the photometric, compression and extra-samples tags that are decoded.
const (
	photoWhiteIsZero  = 0
	photoBlackIsZero  = 1
	photoRGB          = 2
	photoPalette      = 3
	photoCMYK         = 5
	tiffNone          = 1
	tiffLZW           = 5
	tiffDeflate       = 8
	tiffPackBits      = 32773
	tiffDeflateOld    = 32946
	extraAssociated   = 1
	extraUnassociated = 2
)

// tiffRead lists the tags that are read and the most values that any of them needs: a hostile directory can name the same
// bytes many times.
var tiffRead = map[uint16]int64{
	tagWidth: 1, tagHeight: 1, tagBits: 8, tagCompression: 1, tagPhotometric: 1, tagFillOrder: 1, tagOrientation: 1,
	tagSamples: 1, tagRowsPerStrip: 1, tagPlanar: 1, tagPredictor: 1, tagTileWidth: 1, tagTileHeight: 1, tagExtraSamples: 1,
	tagSampleFormat: 8, tagColorMap: 3 << 8, tagStripOffsets: math.MaxInt64, tagStripBytes: math.MaxInt64,
	tagTileOffsets: math.MaxInt64, tagTileBytes: math.MaxInt64, tagICC: math.MaxInt64,
}

// tiffFile is the first directory of a file.
type tiffFile struct {
	order       binary.ByteOrder
	w, h        int // as stored, before the orientation
	bits        int
	samples     int
	compression int
	photo       int
	orientation int
	planar      bool // one plane per sample
	predictor   int
	alpha       int // kind of the sample after the colours: extraAssociated, extraUnassociated, 0 none
	colorMap    []uint64
	icc         []byte

	tiled          bool
	blockW, blockH int // size of a strip or tile
	offsets, sizes []uint64
}

// tiffTags reads the first directory: every tag's values as numbers, bounded by the file's length. ICC is kept as bytes.
func tiffTags(data []byte) (binary.ByteOrder, map[uint16][]uint64, []byte, error) {
	var order binary.ByteOrder = binary.LittleEndian
	if data[0] == 'M' {
		order = binary.BigEndian
	}
	if order.Uint16(data[2:]) != 42 {
		return nil, nil, nil, unsupported("BigTIFF")
	}
	if len(data) < 8 {
		return nil, nil, nil, truncated("%d bytes", len(data))
	}
	p := int64(order.Uint32(data[4:]))
	if p < 8 {
		return nil, nil, nil, corrupt("directory at byte %d", p)
	}
	if p+2 > int64(len(data)) {
		return nil, nil, nil, truncated("directory at byte %d of %d", p, len(data))
	}
	n := int(order.Uint16(data[p:]))
	if p+2+12*int64(n) > int64(len(data)) {
		return nil, nil, nil, truncated("directory of %d entries at byte %d of %d", n, p, len(data))
	}
	tags := make(map[uint16][]uint64, n)
	var icc []byte
	size := map[uint16]int64{1: 1, 2: 1, 3: 2, 4: 4, 7: 1}
	for i := range n {
		e := data[p+2+12*int64(i):][:12]
		tag, kind, count := order.Uint16(e), order.Uint16(e[2:]), int64(order.Uint32(e[4:]))
		s := size[kind]
		most, known := tiffRead[tag]
		if s == 0 || count == 0 || !known || tags[tag] != nil {
			continue
		}
		b := e[8:]
		if s*count > 4 {
			at := int64(order.Uint32(b))
			if at+s*count > int64(len(data)) {
				if tag == tagICC {
					continue // metadata never fail a picture
				}
				return nil, nil, nil, truncated("tag %d: %d values at byte %d of %d", tag, count, at, len(data))
			}
			b = data[at:]
		}
		if tag == tagICC {
			icc = b[:count*s]
			continue
		}
		v := make([]uint64, min(count, most))
		for j := range v {
			switch s {
			case 1:
				v[j] = uint64(b[j])
			case 2:
				v[j] = uint64(order.Uint16(b[2*j:]))
			case 4:
				v[j] = uint64(order.Uint32(b[4*j:]))
			}
		}
		tags[tag] = v
	}
	return order, tags, icc, nil
}

func tiffHeader(data []byte, lim Limits) (*tiffFile, error) {
	order, tags, icc, err := tiffTags(data)
	if err != nil {
		return nil, err
	}
	one := func(tag uint16, missing uint64) uint64 {
		if v := tags[tag]; len(v) > 0 {
			return v[0]
		}
		return missing
	}
	if tags[tagWidth] == nil || tags[tagHeight] == nil {
		return nil, corrupt("no width or height")
	}
	w, h := int64(one(tagWidth, 0)), int64(one(tagHeight, 0))
	samples := int64(one(tagSamples, 1))
	if samples < 1 || samples > 8 {
		return nil, unsupported("%d samples per pixel", samples)
	}
	bits := int64(one(tagBits, 1))
	if err := lim.check(w, h, 4+samples*max(1, bits/8)); err != nil {
		return nil, err
	}
	f := &tiffFile{
		order: order, w: int(w), h: int(h), bits: int(bits), samples: int(samples), icc: icc,
		compression: int(one(tagCompression, tiffNone)), photo: int(one(tagPhotometric, photoBlackIsZero)),
		orientation: int(one(tagOrientation, 1)), planar: one(tagPlanar, 1) == 2 && samples > 1,
		predictor: int(one(tagPredictor, 1)), colorMap: tags[tagColorMap],
	}
	for _, v := range tags[tagBits] {
		if int64(v) != bits {
			return nil, unsupported("samples of different size: %v bits", tags[tagBits])
		}
	}
	for _, v := range tags[tagSampleFormat] {
		if v != 1 {
			return nil, unsupported("sample format %d (only unsigned integers)", v)
		}
	}
	if one(tagFillOrder, 1) != 1 {
		return nil, unsupported("reversed bit order")
	}
	switch f.compression {
	case tiffNone, tiffLZW, tiffDeflate, tiffDeflateOld, tiffPackBits:
	case 7:
		return nil, unsupported("JPEG compression")
	default:
		return nil, unsupported("compression %d", f.compression)
	}
	if f.predictor != 1 && (f.predictor != 2 || f.bits != 8 && f.bits != 16) {
		return nil, unsupported("predictor %d with %d bits", f.predictor, f.bits)
	}
	if err := f.layout(one, tags); err != nil {
		return nil, err
	}
	colours, ok := map[int]int{photoWhiteIsZero: 1, photoBlackIsZero: 1, photoRGB: 3, photoPalette: 1, photoCMYK: 4}[f.photo]
	switch {
	case !ok:
		return nil, unsupported("photometric interpretation %d", f.photo)
	case colours == 1 && f.bits != 1 && f.bits != 2 && f.bits != 4 && f.bits != 8 && (f.bits != 16 || f.photo == photoPalette),
		colours > 1 && f.bits != 8 && f.bits != 16:
		return nil, unsupported("%d bits with photometric interpretation %d", f.bits, f.photo)
	case f.samples < colours || f.samples > 1 && f.bits < 8:
		return nil, unsupported("%d samples of %d bits with photometric interpretation %d", f.samples, f.bits, f.photo)
	case f.photo == photoPalette && len(f.colorMap) < 3<<f.bits:
		return nil, corrupt("colour map of %d values", len(f.colorMap))
	}
	if f.samples > colours && f.photo != photoCMYK {
		switch one(tagExtraSamples, extraUnassociated) {
		case extraAssociated:
			f.alpha = extraAssociated
		case extraUnassociated, 999:
			f.alpha = extraUnassociated
		}
	}
	return f, nil
}

// layout reads where the strips or tiles are.
func (f *tiffFile) layout(one func(uint16, uint64) uint64, tags map[uint16][]uint64) error {
	f.blockW, f.offsets, f.sizes = f.w, tags[tagStripOffsets], tags[tagStripBytes]
	f.blockH = int(min(one(tagRowsPerStrip, uint64(f.h)), uint64(f.h)))
	if tags[tagTileOffsets] != nil {
		f.tiled = true
		f.offsets, f.sizes = tags[tagTileOffsets], tags[tagTileBytes]
		w, h := one(tagTileWidth, 0), one(tagTileHeight, 0)
		if w == 0 || h == 0 || w > uint64(f.w)+4096 || h > uint64(f.h)+4096 {
			return corrupt("tiles of %dx%d", w, h)
		}
		f.blockW, f.blockH = int(w), int(h)
	}
	if f.blockH == 0 {
		return corrupt("strips of 0 rows")
	}
	nx, ny := f.blocks()
	n := nx * ny
	if f.planar {
		n *= f.samples
	}
	if f.sizes == nil && f.compression == tiffNone && n == 1 && len(f.offsets) == 1 {
		f.sizes = []uint64{uint64(f.h) * uint64(f.rowBytes())}
	}
	if len(f.offsets) < n || len(f.sizes) < n {
		return corrupt("%d strips or tiles, %d offsets, %d sizes", n, len(f.offsets), len(f.sizes))
	}
	return nil
}

func (f *tiffFile) blocks() (nx, ny int) {
	return (f.w + f.blockW - 1) / f.blockW, (f.h + f.blockH - 1) / f.blockH
}

// perPixel is the number of samples that a block holds for each pixel.
func (f *tiffFile) perPixel() int {
	if f.planar {
		return 1
	}
	return f.samples
}

// rowBytes is the length of one block row.
func (f *tiffFile) rowBytes() int { return (f.blockW*f.perPixel()*f.bits + 7) / 8 }

func (f *tiffFile) mode() string {
	switch {
	case f.photo == photoPalette:
		return "P"
	case f.photo == photoCMYK:
		return "CMYK"
	case f.photo == photoRGB && f.alpha != 0:
		return "RGBA"
	case f.photo == photoRGB:
		return "RGB"
	case f.alpha != 0:
		return "LA"
	case f.bits == 1:
		return "1"
	case f.bits == 16:
		return "I;16"
	}
	return "L"
}

func probeTIFF(data []byte, lim Limits) (Header, error) {
	f, err := tiffHeader(data, lim)
	if err != nil {
		return Header{}, err
	}
	h := Header{Format: TIFF, W: f.w, H: f.h, Mode: f.mode()}
	if f.orientation >= 5 && f.orientation <= 8 {
		h.W, h.H = f.h, f.w
	}
	return h, nil
}

func (d *Decoder) decodeTIFF(img *Image, data []byte, opt Options) error {
	f, err := tiffHeader(data, opt.Limits)
	if err != nil {
		return err
	}
	nx, ny := f.blocks()
	planes := 1
	if f.planar {
		planes = f.samples
	}
	// A block's data must lie in the file, and no compression here makes more than 4096 bytes of one.
	want := int64(f.blockH) * int64(f.rowBytes())
	for i := range nx * ny * planes {
		if f.offsets[i] > uint64(len(data)) || f.sizes[i] > uint64(len(data))-f.offsets[i] {
			return truncated("strip or tile %d: bytes %d to %d of %d", i, f.offsets[i], f.offsets[i]+f.sizes[i], len(data))
		}
		if int64(f.sizes[i]) < f.blockBytes(i%(nx*ny)/nx)/4096 {
			return truncated("strip or tile %d: %d bytes cannot hold %d", i, f.sizes[i], want)
		}
	}
	img.Mode, img.Depth16, img.ICC = f.mode(), f.bits == 16, f.icc
	img.size(f.w, f.h, f.alpha != 0)
	img.Channels = modeChannels(img.Mode)
	if img.Depth16 && opt.Keep16 && f.photo != photoCMYK {
		if err := opt.Limits.check(int64(f.w), int64(f.h), int64(12+2*f.samples)); err != nil {
			return err
		}
		img.size16()
	}
	block := make([][]byte, planes)
	for by := range ny {
		for bx := range nx {
			for p := range planes {
				i := (p*ny+by)*nx + bx
				raw := data[f.offsets[i]:][:f.sizes[i]]
				if block[p], err = f.unpack(raw, int(f.blockBytes(by))); err != nil {
					return fmt.Errorf("strip or tile %d: %w", i, err)
				}
				f.unpredict(block[p])
			}
			f.draw(img, block, bx*f.blockW, by*f.blockH, opt.Gray16)
			if img.Pix16 != nil {
				f.draw16(img, block, bx*f.blockW, by*f.blockH)
			}
		}
	}
	if f.orientation >= 1 && f.orientation <= 8 {
		img.Orientation = f.orientation
		d.orient(img)
	}
	return nil
}

// blockBytes is the unpacked size of a block in block row by: the last strip may be lower, tiles are whole.
func (f *tiffFile) blockBytes(by int) int64 {
	rows := f.blockH
	if !f.tiled {
		rows = min(rows, f.h-by*f.blockH)
	}
	return int64(rows) * int64(f.rowBytes())
}

// unpredict undoes horizontal differencing.
func (f *tiffFile) unpredict(b []byte) {
	if f.predictor != 2 {
		return
	}
	n, stride := f.perPixel(), f.rowBytes()
	for ; len(b) >= stride; b = b[stride:] {
		row := b[:stride]
		if f.bits == 8 {
			for i := n; i < len(row); i++ {
				row[i] += row[i-n]
			}
			continue
		}
		for i := 2 * n; i+1 < len(row); i += 2 {
			f.order.PutUint16(row[i:], f.order.Uint16(row[i:])+f.order.Uint16(row[i-2*n:]))
		}
	}
}

// draw converts one block (a slice per plane) and places it at x0, y0.
func (f *tiffFile) draw(img *Image, block [][]byte, x0, y0 int, g Gray16) {
	n, stride := f.perPixel(), f.rowBytes()
	high := 0 // offset of a 16-bit sample's high byte
	if f.bits == 16 && f.order == binary.LittleEndian {
		high = 1
	}
	bytes := max(1, f.bits/8)
	for y := range min(f.blockH, f.h-y0) {
		row := y * stride
		sample := func(x, s int) uint8 {
			if f.planar {
				return block[s][row+x*bytes+high]
			}
			return block[0][row+(x*n+s)*bytes+high]
		}
		for x := range min(f.blockW, f.w-x0) {
			at := (y0+y)*f.w + x0 + x
			out := img.Pix[3*at : 3*at+3 : 3*at+3]
			switch f.photo {
			case photoRGB:
				out[0], out[1], out[2] = sample(x, 0), sample(x, 1), sample(x, 2)
				if f.alpha != 0 {
					a := sample(x, 3)
					img.Alpha[at] = a
					if f.alpha == extraAssociated {
						unmultiply(out, a)
					}
				}
			case photoCMYK:
				white := 255 - int(sample(x, 3))
				for c := range out {
					t := int(sample(x, c))*white + 128
					out[c] = uint8(max(0, white-(t>>8+t)>>8))
				}
			default:
				var v uint8
				if f.bits >= 8 {
					v = sample(x, 0)
					if f.bits == 16 && g == Clip && f.photo == photoBlackIsZero {
						low := block[0][row+x*n*2+1-high]
						if v != 0 {
							low = 255
						}
						v = low
					}
				} else {
					bit := x * f.bits
					v = block[0][row+bit/8] >> (8 - f.bits - bit%8) & (1<<f.bits - 1)
				}
				if f.photo == photoPalette {
					for c := range out {
						out[c] = uint8(f.colorMap[c<<f.bits+int(v)] >> 8)
					}
					break
				}
				if f.bits < 8 {
					v *= uint8(255 / (1<<f.bits - 1))
				}
				if f.photo == photoWhiteIsZero {
					v = 255 - v
				}
				out[0], out[1], out[2] = v, v, v
				if f.alpha != 0 {
					img.Alpha[at] = sample(x, 1)
				}
			}
		}
	}
}

// draw16 places the samples of one block with 16 bits, gray or RGB.
func (f *tiffFile) draw16(img *Image, block [][]byte, x0, y0 int) {
	n, stride := f.perPixel(), f.rowBytes()
	for y := range min(f.blockH, f.h-y0) {
		sample := func(x, s int) uint16 {
			if f.planar {
				return f.order.Uint16(block[s][y*stride+2*x:])
			}
			return f.order.Uint16(block[0][y*stride+2*(x*n+s):])
		}
		for x := range min(f.blockW, f.w-x0) {
			at := (y0+y)*f.w + x0 + x
			out := img.Pix16[img.Channels*at:][:img.Channels]
			for c := range out {
				if out[c] = sample(x, c); f.photo == photoWhiteIsZero {
					out[c] = 65535 - out[c]
				}
			}
			if f.alpha == 0 {
				continue
			}
			img.Alpha16[at] = sample(x, img.Channels)
			if f.alpha == extraAssociated && f.photo == photoRGB {
				unmultiply(out, img.Alpha16[at])
			}
		}
	}
}

// unmultiply divides colours by their alpha.
func unmultiply[T uint8 | uint16](c []T, a T) {
	full := uint32(^T(0))
	for i, v := range c {
		switch uint32(a) {
		case 0:
			c[i] = 0
		case full:
		default:
			c[i] = T(min(full, uint32(v)*full/uint32(a)))
		}
	}
}
