package picture

import (
	"encoding/binary"
	"math/bits"
)

// Compression values of a BMP header.
const (
	bmpRGB       = 0
	bmpRLE8      = 1
	bmpRLE4      = 2
	bmpBitfields = 3
	bmpAlphaBits = 6
)

type bmpFile struct {
	w, h        int
	topDown     bool
	depth       int
	compression uint32
	palette     []byte // B, G, R and, from version 3 on, a filler
	entry       int    // bytes per palette entry
	masks       [4]uint32
	pixels      []byte
}

func bmpHeader(data []byte, lim Limits) (*bmpFile, error) {
	if len(data) < 18 {
		return nil, truncated("%d bytes", len(data))
	}
	le := binary.LittleEndian
	offset, size := int64(le.Uint32(data[10:])), int64(le.Uint32(data[14:]))
	b := data[14:]
	if size != 12 && (size < 40 || size > 1024) {
		return nil, unsupported("header of %d bytes", size)
	}
	if int64(len(b)) < size {
		return nil, truncated("in the header")
	}
	f := &bmpFile{entry: 4}
	var w, h, colours int64
	if size == 12 {
		w, h, f.depth, f.entry = int64(le.Uint16(b[4:])), int64(le.Uint16(b[6:])), int(le.Uint16(b[10:])), 3
	} else {
		w, h = int64(int32(le.Uint32(b[4:]))), int64(int32(le.Uint32(b[8:])))
		f.depth, f.compression, colours = int(le.Uint16(b[14:])), le.Uint32(b[16:]), int64(le.Uint32(b[32:]))
	}
	if h < 0 {
		f.topDown, h = true, -h
	}
	if err := lim.check(w, h, 4); err != nil {
		return nil, err
	}
	f.w, f.h = int(w), int(h)
	p := 14 + size
	f.masks = [4]uint32{0xff0000, 0xff00, 0xff}
	if f.depth == 16 {
		f.masks = [4]uint32{0x7c00, 0x3e0, 0x1f}
	}
	ok := f.depth == 1 || f.depth == 4 || f.depth == 8 || f.depth == 16 || f.depth == 24 || f.depth == 32
	switch f.compression {
	case bmpRGB:
	case bmpRLE8:
		ok = f.depth == 8
	case bmpRLE4:
		ok = f.depth == 4
	case bmpBitfields, bmpAlphaBits:
		ok = f.depth == 16 || f.depth == 32
		n := int64(3)
		if f.compression == bmpAlphaBits || size >= 56 {
			n = 4
		}
		if int64(len(data)) < 54+4*n {
			return nil, truncated("in the colour masks")
		}
		for i := range n {
			f.masks[i] = le.Uint32(data[54+4*i:])
		}
		if size == 40 {
			p += 4 * n
		}
	default:
		return nil, unsupported("compression %d", f.compression)
	}
	if !ok || f.topDown && (f.compression == bmpRLE8 || f.compression == bmpRLE4) {
		return nil, corrupt("%d bits with compression %d", f.depth, f.compression)
	}
	if f.depth <= 8 {
		if colours == 0 || colours > 1<<f.depth {
			colours = 1 << f.depth
		}
		if p > int64(len(data)) || int64(len(data))-p < colours*int64(f.entry) {
			return nil, truncated("in the palette")
		}
		f.palette = data[p : p+colours*int64(f.entry)]
	}
	if offset < 14+size || offset > int64(len(data)) {
		return nil, truncated("pixels start at byte %d of %d", offset, len(data))
	}
	f.pixels = data[offset:]
	return f, nil
}

func (f *bmpFile) mode() string {
	if f.depth > 8 {
		if f.masks[3] != 0 {
			return "RGBA"
		}
		return "RGB"
	}
	n := len(f.palette) / f.entry
	for i := range n {
		want := i
		if n == 2 {
			want = 255 * i
		}
		for _, v := range f.palette[i*f.entry : i*f.entry+3] {
			if int(v) != want {
				return "P"
			}
		}
	}
	if n == 2 {
		return "1"
	}
	return "L"
}

func probeBMP(data []byte, lim Limits) (Header, error) {
	f, err := bmpHeader(data, lim)
	if err != nil {
		return Header{}, err
	}
	return Header{Format: BMP, W: f.w, H: f.h, Mode: f.mode()}, nil
}

func (d *Decoder) decodeBMP(img *Image, data []byte, opt Options) error {
	f, err := bmpHeader(data, opt.Limits)
	if err != nil {
		return err
	}
	img.Mode = f.mode()
	stride := (f.w*f.depth + 31) / 32 * 4
	pixels, depth := f.pixels, f.depth
	if f.compression == bmpRLE8 || f.compression == bmpRLE4 {
		// A pair of bytes makes at most 255 pixels, a jump at most 255 rows.
		if int64(f.w)*int64(f.h) > 255*int64(f.w+1)*int64(len(pixels)) {
			return truncated("%d bytes cannot hold %dx%d", len(pixels), f.w, f.h)
		}
		if pixels, err = f.unpackRLE(); err != nil {
			return err
		}
		stride, depth = f.w, 8
	} else if int64(len(pixels)) < int64(stride)*int64(f.h) {
		return truncated("%d bytes of pixels, %d expected", len(pixels), int64(stride)*int64(f.h))
	}
	img.size(f.w, f.h, f.masks[3] != 0)
	entries := 0
	if f.palette != nil {
		entries = len(f.palette) / f.entry
	}
	var fields [4]field
	for i, m := range f.masks {
		fields[i] = newField(m)
	}
	plain := f.depth == 24 || f.depth == 32 && f.masks == [4]uint32{0xff0000, 0xff00, 0xff}
	for y := range f.h {
		sy := y
		if !f.topDown {
			sy = f.h - 1 - y
		}
		row := pixels[sy*stride : (sy+1)*stride]
		out := img.Pix[3*y*f.w : 3*(y+1)*f.w]
		switch {
		case depth <= 8:
			for x := range f.w {
				bit := x * depth
				v := int(row[bit/8] >> (8 - depth - bit%8) & uint8(1<<depth-1))
				if v >= entries {
					return corrupt("palette index %d of %d", v, entries)
				}
				c := f.palette[v*f.entry:]
				out[3*x], out[3*x+1], out[3*x+2] = c[2], c[1], c[0]
			}
		case plain:
			n := f.depth / 8
			for x := range f.w {
				s := row[x*n : x*n+3]
				out[3*x], out[3*x+1], out[3*x+2] = s[2], s[1], s[0]
			}
		default:
			for x := range f.w {
				var v uint32
				if f.depth == 16 {
					v = uint32(binary.LittleEndian.Uint16(row[2*x:]))
				} else {
					v = binary.LittleEndian.Uint32(row[4*x:])
				}
				out[3*x], out[3*x+1], out[3*x+2] = fields[0].of(v), fields[1].of(v), fields[2].of(v)
				if img.Alpha != nil {
					img.Alpha[y*f.w+x] = fields[3].of(v)
				}
			}
		}
	}
	return nil
}

// field is one channel of a pixel word, scaled to 0..255 by truncating division.
type field struct {
	mask  uint32
	shift int
	top   uint64
}

func newField(mask uint32) field {
	if mask == 0 {
		return field{top: 1}
	}
	s := bits.TrailingZeros32(mask)
	return field{mask, s, uint64(mask >> s)}
}

func (f field) of(v uint32) uint8 { return uint8(uint64(v&f.mask>>f.shift) * 255 / f.top) }

// unpackRLE expands run-length data to one index a byte, bottom row first. Jumps leave index 0. The data must reach the
// last row's end or say that the bitmap ends.
func (f *bmpFile) unpackRLE() ([]byte, error) {
	out := make([]byte, f.w*f.h)
	x, y, p := 0, 0, f.pixels
	put := func(v byte) error {
		if x >= f.w || y >= f.h {
			return corrupt("run beyond row %d", y)
		}
		out[y*f.w+x] = v
		x++
		return nil
	}
	nibble := func(b byte, i int) byte {
		if f.depth == 8 {
			return b
		}
		return b >> (4 - 4*(i&1)) & 15
	}
	for y < f.h && (y < f.h-1 || x < f.w) {
		if len(p) < 2 {
			return nil, truncated("run-length data end in row %d of %d", y, f.h)
		}
		n, v := int(p[0]), p[1]
		p = p[2:]
		switch {
		case n > 0:
			for i := range n {
				if err := put(nibble(v, i)); err != nil {
					return nil, err
				}
			}
		case v == 0:
			x, y = 0, y+1
		case v == 1:
			return out, nil
		case v == 2:
			if len(p) < 2 {
				return nil, truncated("run-length data end in a jump")
			}
			x, y = x+int(p[0]), y+int(p[1])
			p = p[2:]
		default:
			n = int(v)
			size := (n*f.depth + 7) / 8
			if len(p) < size {
				return nil, truncated("run-length data end in row %d of %d", y, f.h)
			}
			for i := range n {
				if err := put(nibble(p[i*f.depth/8], i)); err != nil {
					return nil, err
				}
			}
			p = p[min(len(p), size+size&1):]
		}
	}
	return out, nil
}
