package picture

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zlib"
)

const pngSignature = "\x89PNG\r\n\x1a\n"

// Colour types of the IHDR chunk.
const (
	pngGray      = 0
	pngRGB       = 2
	pngPalette   = 3
	pngGrayAlpha = 4
	pngRGBA      = 6
)

// pngState holds the buffers that a Decoder keeps between PNG files.
type pngState struct {
	in        *bufio.Reader
	z         io.ReadCloser
	cur, prev []uint8
}

// pngFile is the parsed structure of a file; the slices alias it.
type pngFile struct {
	w, h         int
	depth, color int
	interlaced   bool
	palette      []byte
	trns         []byte
	idat         chunkReader
	idatBytes    int
	exif, iccp   []byte
	xmp          []byte
	end          bool // IEND was there
}

// pngHeader reads the IHDR chunk.
func pngHeader(data []byte, lim Limits) (*pngFile, error) {
	if len(data) < 33 {
		return nil, truncated("%d bytes", len(data))
	}
	b := data[8:]
	if binary.BigEndian.Uint32(b) != 13 || string(b[4:8]) != "IHDR" {
		return nil, corrupt("no IHDR chunk at the start")
	}
	if crc32.ChecksumIEEE(b[4:21]) != binary.BigEndian.Uint32(b[21:]) {
		return nil, corrupt("IHDR chunk: wrong checksum")
	}
	w, h := int64(binary.BigEndian.Uint32(b[8:])), int64(binary.BigEndian.Uint32(b[12:]))
	f := &pngFile{depth: int(b[16]), color: int(b[17]), interlaced: b[20] == 1}
	depths := map[int]int{pngGray: 1 | 2 | 4 | 8 | 16, pngRGB: 8 | 16, pngPalette: 1 | 2 | 4 | 8, pngGrayAlpha: 8 | 16, pngRGBA: 8 | 16}
	if f.depth&(f.depth-1) != 0 || depths[f.color]&f.depth == 0 {
		return nil, corrupt("colour type %d with %d bits", f.color, f.depth)
	}
	if b[18] != 0 || b[19] != 0 || b[20] > 1 {
		return nil, corrupt("compression %d, filter %d, interlace %d", b[18], b[19], b[20])
	}
	if err := lim.check(w, h, 4); err != nil {
		return nil, err
	}
	f.w, f.h = int(w), int(h)
	return f, nil
}

func (f *pngFile) mode() string {
	switch {
	case f.color == pngGray && f.depth == 1:
		return "1"
	case f.color == pngGray && f.depth == 16:
		return "I;16"
	case f.color == pngGray:
		return "L"
	case f.color == pngPalette:
		return "P"
	case f.color == pngRGB:
		return "RGB"
	case f.color == pngGrayAlpha && f.depth == 8:
		return "LA"
	}
	return "RGBA" // gray with alpha at 16 bit too, as Pillow has no such mode
}

func probePNG(data []byte, lim Limits) (Header, error) {
	f, err := pngHeader(data, lim)
	if err != nil {
		return Header{}, err
	}
	return Header{Format: PNG, W: f.w, H: f.h, Mode: f.mode()}, nil
}

// chunks walks the file. Every checksum is checked; compressed text is passed over unread, so it cannot inflate.
func (f *pngFile) chunks(data []byte) error {
	for p := 33; p < len(data); {
		if len(data)-p < 12 {
			return truncated("in a chunk header")
		}
		n, name := int64(binary.BigEndian.Uint32(data[p:])), string(data[p+4:p+8])
		if n > int64(len(data)-p-12) {
			return truncated("in chunk %q of %d bytes", name, n)
		}
		body := data[p+8 : p+8+int(n)]
		if crc32.ChecksumIEEE(data[p+4:p+8+int(n)]) != binary.BigEndian.Uint32(data[p+8+int(n):]) {
			return corrupt("chunk %q: wrong checksum", name)
		}
		p += 12 + int(n)
		switch name {
		case "IHDR":
			return corrupt("second IHDR chunk")
		case "PLTE":
			if n == 0 || n%3 != 0 || n > 768 {
				return corrupt("palette of %d bytes", n)
			}
			f.palette = body
		case "tRNS":
			f.trns = body
		case "IDAT":
			f.idat = append(f.idat, body)
			f.idatBytes += len(body)
		case "eXIf":
			f.exif = exifBlock(body)
		case "iTXt":
			// Uncompressed XMP only: keyword, two zero bytes for "not compressed", empty language, empty translation.
			if x, ok := bytes.CutPrefix(body, []byte("XML:com.adobe.xmp\x00\x00\x00")); ok {
				f.xmp = x
			}
		case "iCCP":
			f.iccp = body
		case "IEND":
			f.end = true
			return nil
		default:
			if name[0]&0x20 == 0 {
				return unsupported("critical chunk %q", name)
			}
		}
	}
	return nil
}

func (f *pngFile) channels() int {
	return map[int]int{pngGray: 1, pngRGB: 3, pngPalette: 1, pngGrayAlpha: 2, pngRGBA: 4}[f.color]
}

// rowBytes is the length of a row of w pixels without its filter byte.
func (f *pngFile) rowBytes(w int) int { return (w*f.channels()*f.depth + 7) / 8 }

// passes lists start and step of the columns and rows of each pass.
func (f *pngFile) passes() [][4]int {
	if !f.interlaced {
		return [][4]int{{0, 1, 0, 1}}
	}
	return [][4]int{{0, 8, 0, 8}, {4, 8, 0, 8}, {0, 4, 4, 8}, {2, 4, 0, 4}, {0, 2, 2, 4}, {1, 2, 0, 2}, {0, 1, 1, 2}}
}

func (d *Decoder) decodePNG(img *Image, data []byte, opt Options) error {
	f, err := pngHeader(data, opt.Limits)
	if err != nil {
		return err
	}
	if err := f.chunks(data); err != nil {
		return err
	}
	if len(f.idat) == 0 {
		if !f.end {
			return truncated("no image data")
		}
		return corrupt("no image data")
	}
	if f.color == pngPalette && f.palette == nil {
		return corrupt("palette image without a palette")
	}
	// Deflate expands at most 1032 times: a picture that cannot be there is refused before its buffers are made.
	if raw := int64(f.rowBytes(f.w)) * int64(f.h); raw/1032 > int64(f.idatBytes)+64 {
		return truncated("%d bytes of image data cannot hold %dx%d", f.idatBytes, f.w, f.h)
	}
	if err := d.png.open(&f.idat); err != nil {
		return inflateError(err, 0, f.h)
	}
	img.Mode, img.Depth16 = f.mode(), f.depth == 16
	img.size(f.w, f.h, f.color == pngGrayAlpha || f.color == pngRGBA || f.usesTRNS())
	if img.Channels = 3; f.color == pngGray || f.color == pngGrayAlpha {
		img.Channels = 1
	}
	if img.Depth16 && opt.Keep16 {
		if err := opt.Limits.check(int64(f.w), int64(f.h), 12); err != nil {
			return err
		}
		img.size16()
	}
	img.EXIF, img.xmp = f.exif, f.xmp
	x := newExpander(f, opt.Gray16)
	bpp := max(1, f.channels()*f.depth/8)
	for _, p := range f.passes() {
		pw, ph := (f.w-p[0]+p[1]-1)/p[1], (f.h-p[2]+p[3]-1)/p[3]
		if pw <= 0 || ph <= 0 {
			continue
		}
		n := f.rowBytes(pw) + 1
		d.png.cur, d.png.prev = grow(d.png.cur, n), grow(d.png.prev, n)
		clear(d.png.prev)
		for y := range ph {
			if _, err := io.ReadFull(d.png.z, d.png.cur); err != nil {
				return inflateError(err, p[2]+y*p[3], f.h)
			}
			cur := d.png.cur[1:]
			if err := unfilter(d.png.cur[0], cur, d.png.prev[1:], bpp); err != nil {
				return err
			}
			at := (p[2]+y*p[3])*f.w + p[0]
			if err := x.row(img, cur, pw, at, p[1]); err != nil {
				return err
			}
			if img.Pix16 != nil {
				x.row16(img, cur, pw, at, p[1])
			}
			d.png.cur, d.png.prev = d.png.prev, d.png.cur
		}
	}
	var one [1]byte
	switch _, err := io.ReadFull(d.png.z, one[:]); {
	case err == nil:
		img.note("PNG with more image data than pixels")
	case err != io.EOF:
		return inflateError(err, f.h, f.h)
	}
	if !f.end {
		img.note("PNG without its end chunk")
	}
	img.ICC = f.profile()
	return nil
}

func inflateError(err error, row, h int) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return truncated("image data end in row %d of %d", row, h)
	}
	return corrupt("image data, row %d of %d: %v", row, h, err)
}

// profile inflates the colour profile, at most 4 MiB; a broken one is dropped.
func (f *pngFile) profile() []byte {
	for i, c := range f.iccp {
		if c != 0 {
			continue
		}
		if i+2 > len(f.iccp) {
			return nil
		}
		b, err := inflate(f.iccp[i+2:], 4<<20)
		if err != nil {
			return nil
		}
		return b
	}
	return nil
}

// open starts the inflater on the image data. It reads through a bufio.Reader, for which the inflater has a fast path.
func (s *pngState) open(idat *chunkReader) error {
	if s.in == nil {
		s.in = bufio.NewReaderSize(nil, 32<<10)
	}
	s.in.Reset(idat)
	if s.z != nil {
		return s.z.(zlib.Resetter).Reset(s.in, nil)
	}
	z, err := zlib.NewReader(s.in)
	if err == nil {
		s.z = z
	}
	return err
}

// chunkReader reads pieces one after another.
type chunkReader [][]byte

func (c *chunkReader) Read(p []byte) (int, error) {
	for len(*c) > 0 && len((*c)[0]) == 0 {
		*c = (*c)[1:]
	}
	if len(*c) == 0 {
		return 0, io.EOF
	}
	n := copy(p, (*c)[0])
	(*c)[0] = (*c)[0][n:]
	return n, nil
}

// unfilter undoes a row's filter in place; prev is the row above, bpp the whole bytes per pixel.
func unfilter(kind uint8, cur, prev []uint8, bpp int) error {
	prev = prev[:len(cur)]
	switch kind {
	case 0:
	case 1:
		for i := bpp; i < len(cur); i++ {
			cur[i] += cur[i-bpp]
		}
	case 2:
		for i, p := range prev {
			cur[i] += p
		}
	case 3:
		for i := range min(bpp, len(cur)) {
			cur[i] += prev[i] / 2
		}
		for i := bpp; i < len(cur); i++ {
			cur[i] += uint8((int(cur[i-bpp]) + int(prev[i])) / 2)
		}
	case 4:
		for c := range min(bpp, len(cur)) {
			var a, ul int
			for i := c; i < len(cur); i += bpp {
				up := int(prev[i])
				pa, pb := up-ul, a-ul
				pc := abs(pa + pb)
				pa, pb = abs(pa), abs(pb)
				pred := a
				if pb < pa || pc < pa {
					pred = up
					if pc < pb {
						pred = ul
					}
				}
				a = (int(cur[i]) + pred) & 255
				cur[i] = uint8(a)
				ul = up
			}
		}
	default:
		return corrupt("row filter %d", kind)
	}
	return nil
}

func abs(v int) int {
	if v < 0 {
		return -v
	}
	return v
}
