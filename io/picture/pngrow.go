package picture

import "encoding/binary"

// expander turns unfiltered rows of a PNG into RGB and alpha.
type expander struct {
	f        *pngFile
	clip     bool
	alphaLUT [256]uint8 // palette: alpha by index
	keyed    bool       // gray or RGB with one transparent colour
	key      [3]uint16
}

// usesTRNS reports whether the tRNS chunk gives the picture an alpha channel.
func (f *pngFile) usesTRNS() bool {
	switch f.color {
	case pngPalette:
		return len(f.trns) > 0
	case pngGray:
		return len(f.trns) >= 2
	case pngRGB:
		return len(f.trns) >= 6
	}
	return false
}

func newExpander(f *pngFile, g Gray16) *expander {
	x := &expander{f: f, clip: g == Clip}
	for i := range x.alphaLUT {
		x.alphaLUT[i] = 255
	}
	if !f.usesTRNS() {
		return x
	}
	if f.color == pngPalette {
		copy(x.alphaLUT[:], f.trns)
		return x
	}
	x.keyed = true
	for i := range f.channels() {
		x.key[i] = binary.BigEndian.Uint16(f.trns[2*i:])
	}
	return x
}

// row writes n pixels to positions at, at+step, ... of the picture.
func (x *expander) row(img *Image, row []uint8, n, at, step int) error {
	f, pix := x.f, img.Pix
	wide := f.depth / 8 // bytes per sample, 0 below 8 bit
	switch f.color {
	case pngGray, pngPalette:
		scale := uint8(1)
		if f.color == pngGray && f.depth < 8 {
			scale = uint8(255 / (1<<f.depth - 1))
		}
		entries := len(f.palette) / 3
		for i := range n {
			var v uint8
			full := uint16(0)
			switch f.depth {
			case 16:
				full = binary.BigEndian.Uint16(row[2*i:])
				if v = uint8(full >> 8); x.clip && v != 0 {
					v = 255
				} else if x.clip {
					v = uint8(full)
				}
			case 8:
				v = row[i]
				full = uint16(v)
			default:
				bit := i * f.depth
				v = row[bit/8] >> (8 - f.depth - bit%8) & (1<<f.depth - 1)
				full = uint16(v)
			}
			if f.color == pngPalette {
				if int(v) >= entries {
					return corrupt("palette index %d of %d", v, entries)
				}
				copy(pix[3*at:3*at+3], f.palette[3*int(v):])
				if img.Alpha != nil {
					img.Alpha[at] = x.alphaLUT[v]
				}
			} else {
				v *= scale
				pix[3*at], pix[3*at+1], pix[3*at+2] = v, v, v
				if x.keyed {
					img.Alpha[at] = opaqueUnless(full == x.key[0])
				}
			}
			at += step
		}
	case pngGrayAlpha:
		for i := range n {
			v := row[2*i*wide]
			pix[3*at], pix[3*at+1], pix[3*at+2] = v, v, v
			img.Alpha[at] = row[(2*i+1)*wide]
			at += step
		}
	case pngRGB:
		if step == 1 && wide == 1 && !x.keyed {
			copy(pix[3*at:], row[:3*n])
			return nil
		}
		for i := range n {
			s := row[3*i*wide : 3*(i+1)*wide]
			pix[3*at], pix[3*at+1], pix[3*at+2] = s[0], s[wide], s[2*wide]
			if x.keyed {
				same := true
				for c := range 3 {
					v := uint16(s[c*wide])
					if wide == 2 {
						v = v<<8 | uint16(s[c*wide+1])
					}
					same = same && v == x.key[c]
				}
				img.Alpha[at] = opaqueUnless(same)
			}
			at += step
		}
	case pngRGBA:
		for i := range n {
			s := row[4*i*wide : 4*(i+1)*wide]
			pix[3*at], pix[3*at+1], pix[3*at+2] = s[0], s[wide], s[2*wide]
			img.Alpha[at] = s[3*wide]
			at += step
		}
	}
	return nil
}

func opaqueUnless(transparent bool) uint8 {
	if transparent {
		return 0
	}
	return 255
}

// row16 is like row for the 16-bit samples.
func (x *expander) row16(img *Image, row []uint8, n, at, step int) {
	c := x.f.channels()
	for range n {
		same := x.keyed
		for k := range img.Channels {
			v := binary.BigEndian.Uint16(row[2*k:])
			img.Pix16[img.Channels*at+k] = v
			same = same && v == x.key[k]
		}
		switch {
		case c > img.Channels:
			img.Alpha16[at] = binary.BigEndian.Uint16(row[2*img.Channels:])
		case same:
			img.Alpha16[at] = 0
		case x.keyed:
			img.Alpha16[at] = 0xffff
		}
		row = row[2*c:]
		at += step
	}
}
