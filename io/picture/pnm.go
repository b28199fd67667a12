package picture

// PNM: P1 to P6, text and binary; samples up to 16 bit.

type pnmFile struct {
	kind   byte // '1'..'6'
	w, h   int
	maxval int
	body   []byte
}

func space(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// pnmToken returns the number at the front of b, after space and comments, and the rest.
func pnmToken(b []byte) (int64, []byte, error) {
	for len(b) > 0 && (space(b[0]) || b[0] == '#') {
		if b[0] == '#' {
			for len(b) > 0 && b[0] != '\n' && b[0] != '\r' {
				b = b[1:]
			}
			continue
		}
		b = b[1:]
	}
	if len(b) == 0 {
		return 0, nil, truncated("number expected")
	}
	v, n := int64(0), 0
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		if n++; n > 10 {
			return 0, nil, corrupt("number of more than 10 digits")
		}
		v = 10*v + int64(b[n-1]-'0')
	}
	if n == 0 {
		return 0, nil, corrupt("%q where a number belongs", b[0])
	}
	return v, b[n:], nil
}

func pnmHeader(data []byte, lim Limits) (*pnmFile, error) {
	f := &pnmFile{kind: data[1], maxval: 1}
	fields := 3
	if f.kind == '1' || f.kind == '4' {
		fields = 2
	}
	var v [3]int64
	b := data[2:]
	var err error
	for i := range fields {
		if v[i], b, err = pnmToken(b); err != nil {
			return nil, err
		}
	}
	if err := lim.check(v[0], v[1], 3); err != nil {
		return nil, err
	}
	if fields == 3 {
		if v[2] < 1 || v[2] > 65535 {
			return nil, corrupt("largest value %d", v[2])
		}
		f.maxval = int(v[2])
	}
	f.w, f.h = int(v[0]), int(v[1])
	if f.kind >= '4' {
		if len(b) == 0 {
			return nil, truncated("no pixels")
		}
		if !space(b[0]) {
			return nil, corrupt("%q after the header", b[0])
		}
		b = b[1:]
	}
	f.body = b
	return f, nil
}

func (f *pnmFile) mode() string {
	switch {
	case f.kind == '1' || f.kind == '4':
		return "1"
	case f.kind == '3' || f.kind == '6':
		return "RGB"
	case f.maxval > 255:
		return "I"
	}
	return "L"
}

func probePNM(data []byte, lim Limits) (Header, error) {
	f, err := pnmHeader(data, lim)
	if err != nil {
		return Header{}, err
	}
	return Header{Format: PNM, W: f.w, H: f.h, Mode: f.mode()}, nil
}

func (d *Decoder) decodePNM(img *Image, data []byte, opt Options) error {
	f, err := pnmHeader(data, opt.Limits)
	if err != nil {
		return err
	}
	img.Mode, img.Depth16 = f.mode(), f.maxval > 255
	channels, n := 1, f.w*f.h
	if img.Mode == "RGB" {
		channels, n = 3, 3*n
	}
	least := int64(n) * 2 // text: a digit and a space
	switch {
	case f.kind == '1':
		least = int64(n)
	case f.kind == '4':
		least = int64((f.w+7)/8) * int64(f.h)
	case f.kind > '4' && f.maxval < 256:
		least = int64(n)
	}
	if int64(len(f.body)) < least-1 || f.kind >= '4' && int64(len(f.body)) < least {
		return truncated("%d bytes of pixels, at least %d expected", len(f.body), least)
	}
	img.size(f.w, f.h, false)
	if img.Channels = channels; img.Depth16 && opt.Keep16 {
		if err := opt.Limits.check(int64(f.w), int64(f.h), 9); err != nil {
			return err
		}
		img.size16()
	}
	next := f.samples()
	for i := range n {
		v, err := next(i)
		if err != nil {
			return err
		}
		if v > f.maxval {
			return corrupt("sample %d of at most %d", v, f.maxval)
		}
		s := f.scale(v, channels, opt.Gray16)
		if channels == 3 {
			img.Pix[i] = s
		} else {
			img.Pix[3*i], img.Pix[3*i+1], img.Pix[3*i+2] = s, s, s
		}
		if img.Pix16 != nil {
			img.Pix16[i] = f.scale16(v)
		}
	}
	return nil
}

// samples returns the function that reads sample i; it must be called in order.
func (f *pnmFile) samples() func(i int) (int, error) {
	b := f.body
	switch {
	case f.kind == '1':
		return func(int) (int, error) {
			for len(b) > 0 && space(b[0]) {
				b = b[1:]
			}
			if len(b) == 0 {
				return 0, truncated("pixels end early")
			}
			c := b[0]
			b = b[1:]
			if c != '0' && c != '1' {
				return 0, corrupt("%q where 0 or 1 belongs", c)
			}
			return int('1' - c), nil // 1 is black
		}
	case f.kind < '4':
		return func(int) (v int, err error) {
			var n int64
			if n, b, err = pnmToken(b); n > 65535 {
				n = 65536
			}
			return int(n), err
		}
	case f.kind == '4':
		stride := (f.w + 7) / 8
		return func(i int) (int, error) {
			x := i % f.w
			return int(^b[i/f.w*stride+x/8] >> (7 - x%8) & 1), nil
		}
	case f.maxval > 255:
		return func(i int) (int, error) { return int(b[2*i])<<8 | int(b[2*i+1]), nil }
	}
	return func(i int) (int, error) { return int(b[i]), nil }
}

// scale maps 0..maxval to 8 bit: rounded, except 16-bit gray, which goes by way of 0..65535.
func (f *pnmFile) scale(v, channels int, g Gray16) uint8 {
	if f.maxval == 255 {
		return uint8(v)
	}
	if f.maxval < 256 || channels == 3 {
		return uint8((2*v*255 + f.maxval) / (2 * f.maxval))
	}
	w := f.scale16(v)
	if g == Clip {
		return uint8(min(w, 255))
	}
	return uint8(w >> 8)
}

// scale16 maps 0..maxval to 0..65535, rounded.
func (f *pnmFile) scale16(v int) uint16 { return uint16((2*v*65535 + f.maxval) / (2 * f.maxval)) }
