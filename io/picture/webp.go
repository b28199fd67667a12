package picture

import (
	"bytes"
	"encoding/binary"
	"image"
	"io"

	"golang.org/x/image/vp8"
	"golang.org/x/image/vp8l"
)

// webpFile is the container: the first frame's chunks; the slices alias the file.
type webpFile struct {
	w, h      int // canvas
	x, y      int // the first frame's place on it
	fw, fh    int
	alpha     bool
	alph      []byte
	vp8, vp8l []byte
	exif, icc []byte
	xmp       []byte
}

// webpChunk cuts the next chunk off b.
func webpChunk(b []byte) (name string, body, rest []byte, err error) {
	if len(b) < 8 {
		return "", nil, nil, truncated("in a chunk header")
	}
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	if n > int64(len(b)-8) {
		return "", nil, nil, truncated("in chunk %q of %d bytes", b[:4], n)
	}
	rest = b[8+n:]
	if n%2 == 1 && len(rest) > 0 {
		rest = rest[1:]
	}
	return string(b[:4]), b[8 : 8+n], rest, nil
}

func webpContainer(data []byte, lim Limits) (*webpFile, error) {
	size := int64(binary.LittleEndian.Uint32(data[4:]))
	if size+8 > int64(len(data)) || size < 4 {
		return nil, truncated("%d bytes, the header says %d", len(data), size+8)
	}
	f := &webpFile{}
	if err := f.chunks(data[12:8+size], lim, false); err != nil {
		return nil, err
	}
	if f.vp8 == nil && f.vp8l == nil {
		return nil, truncated("no image data")
	}
	if f.x+f.fw > f.w || f.y+f.fh > f.h {
		return nil, corrupt("frame of %dx%d at %d,%d on a canvas of %dx%d", f.fw, f.fh, f.x, f.y, f.w, f.h)
	}
	return f, nil
}

func (f *webpFile) chunks(b []byte, lim Limits, inFrame bool) error {
	extended := false
	for len(b) > 0 {
		name, body, rest, err := webpChunk(b)
		if err != nil {
			return err
		}
		b = rest
		have := f.vp8 != nil || f.vp8l != nil
		switch {
		case name == "VP8X" && !inFrame && f.w == 0:
			if len(body) < 10 {
				return corrupt("VP8X chunk of %d bytes", len(body))
			}
			f.alpha = body[0]&0x10 != 0
			f.w, f.h = 1+int(uint24(body[4:])), 1+int(uint24(body[7:]))
			extended = true
			if err := lim.check(int64(f.w), int64(f.h), 10); err != nil {
				return err
			}
		case name == "ANMF" && !inFrame && !have:
			if len(body) < 16 {
				return corrupt("ANMF chunk of %d bytes", len(body))
			}
			f.x, f.y = 2*int(uint24(body)), 2*int(uint24(body[3:]))
			w, h := 1+int(uint24(body[6:])), 1+int(uint24(body[9:]))
			if err := f.chunks(body[16:], lim, true); err != nil {
				return err
			}
			if f.fw != w || f.fh != h {
				return corrupt("frame of %dx%d holds %dx%d", w, h, f.fw, f.fh)
			}
		case name == "ALPH" && !have:
			f.alph = body
		case name == "VP8 " && !have:
			if len(body) < 10 {
				return truncated("VP8 chunk of %d bytes", len(body))
			}
			if body[0]&1 != 0 || body[3] != 0x9d || body[4] != 1 || body[5] != 0x2a {
				return corrupt("VP8 frame header")
			}
			f.fw, f.fh = int(binary.LittleEndian.Uint16(body[6:])&0x3fff), int(binary.LittleEndian.Uint16(body[8:])&0x3fff)
			f.vp8 = body
		case name == "VP8L" && !have:
			if len(body) < 5 {
				return truncated("VP8L chunk of %d bytes", len(body))
			}
			v := binary.LittleEndian.Uint32(body[1:])
			if body[0] != 0x2f || v>>29 != 0 {
				return corrupt("VP8L header")
			}
			f.fw, f.fh = 1+int(v&0x3fff), 1+int(v>>14&0x3fff)
			f.alpha = f.alpha || !extended && !inFrame && v>>28&1 == 1
			f.vp8l = body
		case name == "EXIF" && f.exif == nil:
			f.exif = exifBlock(body)
		case name == "XMP " && f.xmp == nil:
			f.xmp = body
		case name == "ICCP" && f.icc == nil:
			f.icc = body
		}
		if !have && (f.vp8 != nil || f.vp8l != nil) {
			if err := lim.check(int64(f.fw), int64(f.fh), 10); err != nil {
				return err
			}
			if f.w == 0 {
				f.w, f.h = f.fw, f.fh
			}
		}
	}
	return nil
}

func uint24(b []byte) uint32 { return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 }

func (f *webpFile) mode() string {
	if f.alpha {
		return "RGBA"
	}
	return "RGB"
}

func probeWebP(data []byte, lim Limits) (Header, error) {
	f, err := webpContainer(data, lim)
	if err != nil {
		return Header{}, err
	}
	return Header{Format: WebP, W: f.w, H: f.h, Mode: f.mode()}, nil
}

// decodeWebP decodes the still picture or the first frame of an animation; the canvas around a smaller frame is
// transparent black.
func (d *Decoder) decodeWebP(img *Image, data []byte, opt Options) error {
	f, err := webpContainer(data, opt.Limits)
	if err != nil {
		return err
	}
	img.Mode, img.EXIF, img.xmp, img.ICC = f.mode(), f.exif, f.xmp, f.icc
	img.size(f.w, f.h, f.alpha)
	if f.fw != f.w || f.fh != f.h {
		clear(img.Pix)
		clear(img.Alpha)
	}
	if f.vp8l != nil {
		m, err := vp8l.Decode(bytes.NewReader(f.vp8l))
		if err != nil {
			return webpError(err)
		}
		p, ok := m.(*image.NRGBA)
		if !ok || p.Rect.Dx() != f.fw || p.Rect.Dy() != f.fh {
			return corrupt("VP8L picture of %v, header %dx%d", m.Bounds(), f.fw, f.fh)
		}
		opaque := binary.LittleEndian.Uint32(f.vp8l[1:])>>28&1 == 0
		for y := range f.fh {
			at := (f.y+y)*f.w + f.x
			for x := range f.fw {
				s := p.Pix[y*p.Stride+4*x:]
				copy(img.Pix[3*at:3*at+3], s[:3])
				if img.Alpha != nil {
					if img.Alpha[at] = s[3]; opaque {
						img.Alpha[at] = 255
					}
				}
				at++
			}
		}
		return nil
	}
	dec := vp8.NewDecoder()
	dec.Init(bytes.NewReader(f.vp8), len(f.vp8))
	fh, err := dec.DecodeFrameHeader()
	if err != nil {
		return webpError(err)
	}
	if fh.Width != f.fw || fh.Height != f.fh || f.fw == 0 || f.fh == 0 {
		return corrupt("VP8 frame of %dx%d, header %dx%d", fh.Width, fh.Height, f.fw, f.fh)
	}
	m, err := dec.DecodeFrame()
	if err != nil {
		return webpError(err)
	}
	vp8ToRGB(img.Pix[3*(f.y*f.w+f.x):], 3*f.w, m, f.fw, f.fh)
	if img.Alpha == nil {
		return nil
	}
	a, err := f.alphaPlane()
	if err != nil {
		return err
	}
	for y := range f.fh {
		row := img.Alpha[(f.y+y)*f.w+f.x:][:f.fw]
		if a == nil {
			for x := range row {
				row[x] = 255
			}
		} else {
			copy(row, a[y*f.fw:])
		}
	}
	return nil
}

func webpError(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return truncated("image data end early")
	}
	return corrupt("%v", err)
}

// alphaPlane decodes the ALPH chunk, fh x fw; nil without one.
func (f *webpFile) alphaPlane() ([]byte, error) {
	if len(f.alph) == 0 {
		return nil, nil
	}
	flags, body, n := f.alph[0], f.alph[1:], f.fw*f.fh
	var a []byte
	switch flags & 3 {
	case 0:
		if len(body) < n {
			return nil, truncated("alpha of %d bytes, %d expected", len(body), n)
		}
		a = append(a, body[:n]...)
	case 1:
		// The plane is the green channel of a headless VP8L picture: give it the header.
		w, h := uint32(f.fw-1), uint32(f.fh-1)
		head := append(make([]byte, 0, 5), 0x2f)
		head = binary.LittleEndian.AppendUint32(head, w|h<<14)
		m, err := vp8l.Decode(io.MultiReader(bytes.NewReader(head), bytes.NewReader(body)))
		if err != nil {
			return nil, webpError(err)
		}
		p, ok := m.(*image.NRGBA)
		if !ok || len(p.Pix) < 4*n {
			return nil, corrupt("alpha picture of %v", m.Bounds())
		}
		a = make([]byte, n)
		for i := range a {
			a[i] = p.Pix[4*i+1]
		}
	default:
		return nil, corrupt("alpha compression %d", flags&3)
	}
	unfilterAlpha(a, f.fw, flags>>2&3)
	return a, nil
}

// unfilterAlpha adds the prediction: 1 left, 2 above, 3 left + above - above left, clamped. The first row is always
// predicted from the left, the first column from above.
func unfilterAlpha(a []byte, w int, filter byte) {
	if filter == 0 {
		return
	}
	for i := 1; i < w; i++ {
		a[i] += a[i-1]
	}
	for i := w; i < len(a); i++ {
		switch {
		case i%w == 0 || filter == 2:
			a[i] += a[i-w]
		case filter == 1:
			a[i] += a[i-1]
		default:
			a[i] += uint8(min(max(int(a[i-1])+int(a[i-w])-int(a[i-w-1]), 0), 255))
		}
	}
}
