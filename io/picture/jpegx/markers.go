package jpegx

import (
	"bytes"
	"encoding/binary"
)

const (
	mSOF0, mSOF1, mSOF2, mSOF15 = 0xc0, 0xc1, 0xc2, 0xcf
	mDHT, mJPG, mDAC            = 0xc4, 0xc8, 0xcc
	mRST0, mRST7                = 0xd0, 0xd7
	mSOI, mEOI, mSOS, mDQT      = 0xd8, 0xd9, 0xda, 0xdb
	mDRI                        = 0xdd
	mAPP0, mAPP1, mAPP2, mAPP14 = 0xe0, 0xe1, 0xe2, 0xee
	mTEM                        = 0x01
)

// Info is what a JPEG file's headers say.
type Info struct {
	W, H        int
	Components  int    // 1, 3 or 4
	Mode        string // "L", "RGB" or "CMYK", whatever the coding (YCbCr counts as RGB, YCCK as CMYK)
	Progressive bool
	EXIF        []byte // payload of the first APP1 Exif segment, from the TIFF header on; nil if none; aliases the input
	XMP         []byte // payload of the first APP1 XMP segment; nil if none; aliases the input
	ICC         []byte // profile joined from its APP2 segments; nil if none or incomplete
}

// Probe reads the headers up to the first scan. It allocates nothing that depends on the declared size.
func (d *Decoder) Probe(data []byte) (Info, error) {
	defer d.release()
	if err := d.parse(data, true); err != nil {
		return Info{}, err
	}
	return d.info(), nil
}

func (d *Decoder) info() Info {
	mode := map[int]string{1: "L", 3: "RGB", 4: "CMYK"}[len(d.comps)]
	return Info{W: d.w, H: d.h, Components: len(d.comps), Mode: mode, Progressive: d.progressive, EXIF: d.exif, XMP: d.xmp, ICC: d.profile()}
}

// parse walks the markers. With headerOnly it stops at the first scan, otherwise it decodes every scan into the planes or
// coefficients and stops at the end marker.
func (d *Decoder) parse(data []byte, headerOnly bool) error {
	d.reset()
	if len(data) < 4 {
		return truncated("%d bytes", len(data))
	}
	if data[0] != 0xff || data[1] != mSOI {
		return corrupt("no start-of-image marker")
	}
	d.bits.data, d.bits.pos = data, 2
	for {
		m, err := d.nextMarker()
		if err != nil {
			return err
		}
		if m == mTEM || m >= mRST0 && m <= mRST7 {
			continue
		}
		if m == mEOI {
			if len(d.comps) == 0 {
				return corrupt("no frame header before the end marker")
			}
			return d.complete()
		}
		if m == mSOI {
			return corrupt("second start-of-image marker")
		}
		p := d.bits.pos
		if p+2 > len(data) {
			return truncated("in marker %#x", m)
		}
		n := int(binary.BigEndian.Uint16(data[p:]))
		if n < 2 {
			return corrupt("marker %#x: length %d", m, n)
		}
		if p+n > len(data) {
			return truncated("in marker %#x", m)
		}
		seg := data[p+2 : p+n]
		d.bits.pos = p + n
		switch {
		case m == mDQT:
			err = d.quantTables(seg)
		case m == mDHT:
			if !headerOnly {
				err = d.huffmanTables(seg)
			}
		case m == mDRI:
			if len(seg) < 2 {
				return corrupt("restart interval segment of %d bytes", len(seg))
			}
			d.interval = int(binary.BigEndian.Uint16(seg))
		case m == mDAC:
			err = unsupported("arithmetic coding")
		case m == mSOF0 || m == mSOF1 || m == mSOF2:
			err = d.frame(seg, m == mSOF2)
		case m > mSOF2 && m <= mSOF15 && m != mJPG:
			err = unsupported("%s", sofName(m))
		case m == mSOS:
			if len(d.comps) == 0 {
				return corrupt("scan before the frame header")
			}
			if headerOnly {
				return nil
			}
			err = d.scan(seg)
		case m == mAPP0:
			d.jfif = d.jfif || bytes.HasPrefix(seg, []byte("JFIF\x00"))
		case m == mAPP1:
			if d.exif == nil && bytes.HasPrefix(seg, []byte("Exif\x00\x00")) {
				d.exif = seg[6:]
			}
			if x, ok := bytes.CutPrefix(seg, []byte("http://ns.adobe.com/xap/1.0/\x00")); ok && d.xmp == nil {
				d.xmp = x
			}
		case m == mAPP2:
			if len(seg) > 14 && bytes.HasPrefix(seg, []byte("ICC_PROFILE\x00")) {
				d.icc = append(d.icc, seg[12:])
			}
		case m == mAPP14:
			if len(seg) >= 12 && bytes.HasPrefix(seg, []byte("Adobe")) {
				d.adobe, d.transform = true, seg[11]
			}
		}
		if err != nil {
			return err
		}
	}
}

func sofName(m uint8) string {
	switch {
	case m == 0xc3:
		return "lossless process"
	case m >= 0xc9 && m != 0xcb && m <= 0xca:
		return "arithmetic coding"
	case m == 0xcb:
		return "lossless process with arithmetic coding"
	}
	return "hierarchical or arithmetic-coded process"
}

// nextMarker returns the code of the next marker and moves past it; stray bytes before it are skipped, as every decoder does.
func (d *Decoder) nextMarker() (uint8, error) {
	data := d.bits.data
	for p := d.bits.pos; ; {
		i := bytes.IndexByte(data[min(p, len(data)):], 0xff)
		if i < 0 {
			return 0, truncated("no end marker")
		}
		p += i
		for p < len(data) && data[p] == 0xff {
			p++
		}
		if p >= len(data) {
			return 0, truncated("no end marker")
		}
		if c := data[p]; c != 0 {
			d.bits.pos = p + 1
			return c, nil
		}
	}
}

func (d *Decoder) quantTables(seg []byte) error {
	for len(seg) > 0 {
		id, wide := seg[0]&15, int(seg[0]>>4)
		if id > 3 || wide > 1 {
			return corrupt("quantization table %d, precision %d", id, wide)
		}
		if len(seg) < 1+64*(1+wide) {
			return corrupt("quantization table %d is short", id)
		}
		seg = seg[1:]
		for i := range 64 {
			v := int32(seg[0])
			if wide == 1 {
				v = v<<8 | int32(seg[1])
			}
			d.quant[id][i] = v
			seg = seg[1+wide:]
		}
		d.quantSet[id] = true
	}
	return nil
}

func (d *Decoder) huffmanTables(seg []byte) error {
	for len(seg) > 0 {
		if len(seg) < 17 {
			return corrupt("huffman table is short")
		}
		id, class := seg[0]&15, seg[0]>>4
		if id > 3 || class > 1 {
			return corrupt("huffman table %d of class %d", id, class)
		}
		total := 0
		for _, n := range seg[1:17] {
			total += int(n)
		}
		if total > 256 || len(seg) < 17+total {
			return corrupt("huffman table of %d codes in %d bytes", total, len(seg)-17)
		}
		if class == 0 {
			for _, s := range seg[17 : 17+total] {
				if s > 15 {
					return corrupt("huffman table: DC size %d", s)
				}
			}
		}
		if err := d.huff[class][id].build(seg[1:17], seg[17:17+total]); err != nil {
			return err
		}
		seg = seg[17+total:]
	}
	return nil
}

func (d *Decoder) frame(seg []byte, progressive bool) error {
	if len(d.comps) != 0 {
		return corrupt("two frame headers")
	}
	if len(seg) < 6 {
		return corrupt("frame header of %d bytes", len(seg))
	}
	n := int(seg[5])
	if seg[0] != 8 {
		return unsupported("%d-bit samples", seg[0])
	}
	d.h, d.w = int(binary.BigEndian.Uint16(seg[1:])), int(binary.BigEndian.Uint16(seg[3:]))
	if d.w == 0 {
		return corrupt("width 0")
	}
	if d.h == 0 {
		return unsupported("height 0 (given after the scan)")
	}
	if n != 1 && n != 3 && n != 4 {
		return unsupported("%d components", n)
	}
	if len(seg) < 6+3*n {
		return corrupt("frame header of %d bytes for %d components", len(seg), n)
	}
	d.progressive = progressive
	d.hmax, d.vmax = 1, 1
	comps := d.store[:n]
	for i := range comps {
		s := seg[6+3*i:]
		c := &comps[i]
		*c = component{id: s[0], h: int(s[1] >> 4), v: int(s[1] & 15), tq: s[2], plane: c.plane, coef: c.coef}
		if c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4 {
			return corrupt("component %d: sampling factors %dx%d", i, c.h, c.v)
		}
		if c.tq > 3 {
			return corrupt("component %d: quantization table %d", i, c.tq)
		}
		for j := range i {
			if comps[j].id == c.id {
				return corrupt("components %d and %d share the id %d", j, i, c.id)
			}
		}
		d.hmax, d.vmax = max(d.hmax, c.h), max(d.vmax, c.v)
		for k := range c.bits {
			c.bits[k] = -1
		}
	}
	d.mcux, d.mcuy = ceil(d.w, 8*d.hmax), ceil(d.h, 8*d.vmax)
	for i := range comps {
		c := &comps[i]
		if d.hmax%c.h != 0 || d.vmax%c.v != 0 {
			return unsupported("component %d: fractional sampling %dx%d of %dx%d", i, c.h, c.v, d.hmax, d.vmax)
		}
		c.w, c.height = ceil(d.w*c.h, d.hmax), ceil(d.h*c.v, d.vmax)
		c.bw, c.bh = ceil(c.w, 8), ceil(c.height, 8)
		c.padw, c.padh = d.mcux*c.h, d.mcuy*c.v
		c.stride = 8 * c.padw
	}
	d.comps = comps
	return nil
}

func ceil(a, b int) int { return (a + b - 1) / b }

// profile joins the ICC segments by their numbers; an incomplete or inconsistent set gives nil, it never fails a picture.
func (d *Decoder) profile() []byte {
	if len(d.icc) == 0 || int(d.icc[0][1]) != len(d.icc) {
		return nil
	}
	var parts [256][]byte
	for _, s := range d.icc {
		parts[s[0]] = s[2:]
	}
	var out []byte
	for i := range d.icc {
		if parts[i+1] == nil {
			return nil
		}
		out = append(out, parts[i+1]...)
	}
	return out
}
