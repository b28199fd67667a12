package picture

import "encoding/binary"

// gifFile is the structure up to the first frame.
type gifFile struct {
	w, h         int // canvas: the logical screen, grown to hold the frame
	x, y, fw, fh int
	palette      []byte // RGB triples; nil: gray ramp
	interlaced   bool
	transparent  int // index, -1 none
	litWidth     int
	data         []byte // sub-blocks from the first length byte on
}

// gifFirstFrame reads the headers up to the first image.
func gifFirstFrame(data []byte, lim Limits) (*gifFile, error) {
	if len(data) < 13 {
		return nil, truncated("%d bytes", len(data))
	}
	f := &gifFile{transparent: -1}
	f.w, f.h = int(binary.LittleEndian.Uint16(data[6:])), int(binary.LittleEndian.Uint16(data[8:]))
	if f.w > 0 && f.h > 0 {
		if err := lim.check(int64(f.w), int64(f.h), 5); err != nil {
			return nil, err
		}
	}
	p := 13
	colours := func(flags byte) error {
		if flags&0x80 == 0 {
			return nil
		}
		n := 3 << (flags&7 + 1)
		if len(data)-p < n {
			return truncated("in a colour table")
		}
		f.palette = data[p : p+n]
		p += n
		return nil
	}
	if err := colours(data[10]); err != nil {
		return nil, err
	}
	for {
		if p >= len(data) {
			return nil, truncated("before the first image")
		}
		switch kind := data[p]; kind {
		case 0x21:
			if len(data)-p < 3 {
				return nil, truncated("in an extension")
			}
			label := data[p+1]
			p += 2
			if label == 0xf9 && data[p] == 4 && len(data)-p >= 6 {
				f.transparent = -1
				if data[p+1]&1 != 0 {
					f.transparent = int(data[p+4])
				}
			}
			for {
				if p >= len(data) {
					return nil, truncated("in an extension")
				}
				n := int(data[p])
				p += 1 + n
				if n == 0 {
					break
				}
			}
		case 0x2c:
			if len(data)-p < 11 {
				return nil, truncated("in an image descriptor")
			}
			b := data[p+1:]
			f.x, f.y = int(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint16(b[2:]))
			f.fw, f.fh = int(binary.LittleEndian.Uint16(b[4:])), int(binary.LittleEndian.Uint16(b[6:]))
			f.interlaced = b[8]&0x40 != 0
			if f.fw == 0 || f.fh == 0 {
				return nil, corrupt("frame of %dx%d", f.fw, f.fh)
			}
			f.w, f.h = max(f.w, f.x+f.fw), max(f.h, f.y+f.fh)
			if err := lim.check(int64(f.w), int64(f.h), 5); err != nil {
				return nil, err
			}
			p += 10
			if err := colours(b[8]); err != nil {
				return nil, err
			}
			if p >= len(data) {
				return nil, truncated("before the image data")
			}
			f.litWidth, f.data = int(data[p]), data[p+1:]
			if f.litWidth < 1 || f.litWidth > 8 {
				return nil, corrupt("code size %d", f.litWidth)
			}
			return f, nil
		case 0x3b:
			return nil, corrupt("no image")
		default:
			return nil, corrupt("block %#x", kind)
		}
	}
}

func (f *gifFile) mode() string {
	for i := 0; i < len(f.palette); i++ {
		if int(f.palette[i]) != i/3 {
			return "P"
		}
	}
	return "L"
}

func probeGIF(data []byte, lim Limits) (Header, error) {
	f, err := gifFirstFrame(data, lim)
	if err != nil {
		return Header{}, err
	}
	return Header{Format: GIF, W: f.w, H: f.h, Mode: f.mode()}, nil
}

// decodeGIF decodes the first frame onto the logical screen. Around it lies the transparent index, else index 0.
func (d *Decoder) decodeGIF(img *Image, data []byte, opt Options) error {
	f, err := gifFirstFrame(data, opt.Limits)
	if err != nil {
		return err
	}
	// One code of at most 12 bits stands for at most 4096 pixels.
	if int64(f.fw)*int64(f.fh)/4096 > int64(len(f.data))*8/3 {
		return truncated("%d bytes cannot hold %dx%d", len(f.data), f.fw, f.fh)
	}
	index := make([]uint8, f.fw*f.fh)
	if err := gifLZW(index, f.data, f.litWidth); err != nil {
		return err
	}
	var ramp [768]uint8
	palette := f.palette
	if palette == nil {
		for i := range ramp {
			ramp[i] = uint8(i / 3)
		}
		palette = ramp[:]
	}
	entries := len(palette) / 3
	img.Mode = f.mode()
	img.size(f.w, f.h, f.transparent >= 0)
	set := func(at int, v uint8) {
		copy(img.Pix[3*at:3*at+3], palette[3*int(v):])
		if img.Alpha != nil {
			img.Alpha[at] = opaqueUnless(int(v) == f.transparent)
		}
	}
	if f.fw != f.w || f.fh != f.h {
		around := uint8(max(f.transparent, 0))
		if int(around) >= entries {
			around = 0
		}
		for at := range f.w * f.h {
			set(at, around)
		}
	}
	src := 0
	row := func(y int) error {
		at := (f.y+y)*f.w + f.x
		for i, v := range index[src : src+f.fw] {
			if int(v) >= entries {
				return corrupt("palette index %d of %d", v, entries)
			}
			set(at+i, v)
		}
		src += f.fw
		return nil
	}
	passes := [][2]int{{0, 1}}
	if f.interlaced {
		passes = [][2]int{{0, 8}, {4, 8}, {2, 4}, {1, 2}}
	}
	for _, p := range passes {
		for y := p[0]; y < f.fh; y += p[1] {
			if err := row(y); err != nil {
				return err
			}
		}
	}
	return nil
}

// gifLZW decodes sub-blocks of variable-length codes into out and needs them to fill it.
func gifLZW(out []uint8, data []byte, litWidth int) error {
	const maxCode = 4096
	var prefix [maxCode]uint16
	var suffix, first [maxCode]uint8
	var length [maxCode]int32
	clearCode := 1 << litWidth
	for i := range clearCode {
		suffix[i], first[i], length[i] = uint8(i), uint8(i), 1
	}
	next, width, last := clearCode+2, litWidth+1, -1
	acc, n := uint32(0), 0
	block, o := 0, 0
	for o < len(out) {
		for n < width {
			if block == 0 {
				if len(data) == 0 {
					return truncated("image data end at pixel %d of %d", o, len(out))
				}
				if block, data = int(data[0]), data[1:]; block == 0 {
					return truncated("image data end at pixel %d of %d", o, len(out))
				}
			}
			if len(data) == 0 {
				return truncated("image data end at pixel %d of %d", o, len(out))
			}
			acc |= uint32(data[0]) << n
			data = data[1:]
			block--
			n += 8
		}
		code := int(acc & (1<<width - 1))
		acc >>= width
		n -= width
		switch {
		case code == clearCode:
			next, width, last = clearCode+2, litWidth+1, -1
			continue
		case code == clearCode+1:
			return truncated("end code at pixel %d of %d", o, len(out))
		case last < 0 && code > clearCode, code > next, code == next && next >= maxCode:
			return corrupt("code %d of %d", code, next)
		}
		if last >= 0 && next < maxCode {
			prefix[next], first[next], length[next] = uint16(last), first[last], length[last]+1
			if code == next {
				suffix[next] = first[last]
			} else {
				suffix[next] = first[code]
			}
			next++
			if next == 1<<width && width < 12 {
				width++
			}
		}
		end := o + int(length[code])
		for c, p := code, end-1; p >= o; p-- {
			if p < len(out) {
				out[p] = suffix[c]
			}
			c = int(prefix[c])
		}
		o = end
		last = code
	}
	return nil
}
