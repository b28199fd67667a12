package picture

import (
	"bytes"
	"fmt"
)

// Frame is a picture to be encoded: W x H pixels of Channels interleaved samples, 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and
// alpha. The samples are in one of Pix8 (0..255) and Pix16 (0..65535). Colours are not multiplied by alpha.
type Frame struct {
	W, H, Channels int
	Pix8           []uint8
	Pix16          []uint16
	ICC            []byte // colour profile, nil for none
	EXIF           []byte // EXIF block from its TIFF header on, nil for none
}

// NewFrame returns a frame of zeros; depth is 8 or 16 bits.
func NewFrame(w, h, channels, depth int) *Frame {
	f := &Frame{W: w, H: h, Channels: channels}
	if n := w * h * channels; depth == 16 {
		f.Pix16 = make([]uint16, n)
	} else {
		f.Pix8 = make([]uint8, n)
	}
	return f
}

// Frame returns the picture in the kind of its file: gray stays gray, alpha stays, 16 bits stay if they were kept. An opaque
// 8-bit RGB picture shares its pixels with the frame. ICC and EXIF are not carried over; see [Frame.Carry].
func (m *Image) Frame() *Frame {
	if m.Pix16 != nil {
		f := &Frame{W: m.W, H: m.H, Channels: m.Channels, Pix16: m.Pix16}
		if m.Alpha16 != nil {
			f.Pix16 = interleave(m.Pix16, m.Alpha16, m.Channels)
			f.Channels++
		}
		return f
	}
	f := &Frame{W: m.W, H: m.H, Channels: 3, Pix8: m.Pix}
	if m.Channels == 1 {
		f.Channels, f.Pix8 = 1, make([]uint8, m.W*m.H)
		for i := range f.Pix8 {
			f.Pix8[i] = m.Pix[3*i]
		}
	}
	if m.Alpha != nil {
		f.Pix8 = interleave(f.Pix8, m.Alpha, f.Channels)
		f.Channels++
	}
	return f
}

// Depth is the bits of a sample, 8 or 16.
func (f *Frame) Depth() int {
	if f.Pix16 != nil {
		return 16
	}
	return 8
}

// HasAlpha reports whether the last channel is alpha.
func (f *Frame) HasAlpha() bool { return f.Channels == 2 || f.Channels == 4 }

// validate checks the sizes against each other.
func (f *Frame) validate() error {
	n := f.W * f.H * f.Channels
	if f.W <= 0 || f.H <= 0 || f.Channels < 1 || f.Channels > 4 || f.Pix8 != nil && f.Pix16 != nil || len(f.Pix8)+len(f.Pix16) != n {
		return fmt.Errorf("picture of %dx%d with %d channels: %d samples of 8 bits and %d of 16", f.W, f.H, f.Channels, len(f.Pix8), len(f.Pix16))
	}
	return nil
}

// AddAlpha makes the gray frame a of the same size and depth the alpha channel of an opaque frame.
func (f *Frame) AddAlpha(a *Frame) error {
	if f.HasAlpha() || a.Channels != 1 || a.W != f.W || a.H != f.H || a.Depth() != f.Depth() {
		return fmt.Errorf("alpha of %dx%d, %d channels, %d bits for a picture of %dx%d, %d channels, %d bits",
			a.W, a.H, a.Channels, a.Depth(), f.W, f.H, f.Channels, f.Depth())
	}
	if f.Pix16 != nil {
		f.Pix16 = interleave(f.Pix16, a.Pix16, f.Channels)
	} else {
		f.Pix8 = interleave(f.Pix8, a.Pix8, f.Channels)
	}
	f.Channels++
	return nil
}

// interleave adds a plane behind the c channels of pix, in new memory.
func interleave[T uint8 | uint16](pix, plane []T, c int) []T {
	out := make([]T, 0, len(pix)+len(plane))
	for i, v := range plane {
		out = append(out, pix[c*i:c*i+c]...)
		out = append(out, v)
	}
	return out
}

// Matte blends a frame with alpha over a background, RGB of 8 bits, in the samples as they are (no linear light), and drops
// the alpha. A gray frame is blended over the background's luma. An opaque frame stays as it is.
func (f *Frame) Matte(background [3]uint8) {
	if !f.HasAlpha() {
		return
	}
	f.Channels--
	if f.Pix16 != nil {
		f.Pix16 = matte(f.Pix16, f.Channels, background)
	} else {
		f.Pix8 = matte(f.Pix8, f.Channels, background)
	}
}

func matte[T uint8 | uint16](pix []T, c int, background [3]uint8) []T {
	full := uint32(^T(0))
	bg := background[:]
	if c == 1 {
		bg = []uint8{luma(background[0], background[1], background[2])}
	}
	out := make([]T, len(pix)/(c+1)*c)
	for i := range len(out) / c {
		p := pix[i*(c+1) : (i+1)*(c+1)]
		a := uint32(p[c])
		for k := range c {
			b := uint32(bg[k]) * (full / 255) * (full - a)
			out[i*c+k] = T((uint64(uint32(p[k])*a) + uint64(b) + uint64(full/2)) / uint64(full))
		}
	}
	return out
}

// Matte blends the picture over a background as [Frame.Matte] does, in Pix and Pix16, and drops the alpha.
func (m *Image) Matte(background [3]uint8) {
	if m.Alpha16 != nil {
		m.Pix16 = matte(interleave(m.Pix16, m.Alpha16, m.Channels), m.Channels, background)
	}
	if m.Alpha != nil {
		if m.Channels == 1 { // what is gray in the file stays gray
			g := luma(background[0], background[1], background[2])
			background = [3]uint8{g, g, g}
		}
		m.Pix = matte(interleave(m.Pix, m.Alpha, 3), 3, background)
	}
	m.Alpha, m.Alpha16 = nil, nil
}

// Narrow reduces a frame of 16 bits to 8, rounding v/257.
func (f *Frame) Narrow() {
	if f.Pix16 == nil {
		return
	}
	f.Pix8 = make([]uint8, len(f.Pix16))
	for i, v := range f.Pix16 {
		f.Pix8[i] = uint8((uint32(v) + 128) / 257)
	}
	f.Pix16 = nil
}

// Carry takes over ICC profile and EXIF block of a decoded source for encoding in format. The orientation is reset, since
// decoded pixels are turned already. What cannot be carried is named in the notes: a profile for another kind of colours
// than the frame's, an EXIF block that cannot be read, metadata too large for the format.
func (f *Frame) Carry(src *Image, format string) (notes []string) {
	if src.ICC != nil {
		space := "RGB "
		if f.Channels < 3 {
			space = "GRAY"
		}
		switch {
		case len(src.ICC) < 128 || string(src.ICC[36:40]) != "acsp":
			notes = append(notes, "icc profile dropped: it is broken")
		case string(src.ICC[16:20]) != space:
			notes = append(notes, fmt.Sprintf("icc profile dropped: it is for %q, the picture is %q", src.ICC[16:20], space))
		case format == JPEG && len(src.ICC) > maxJPEGICC:
			notes = append(notes, fmt.Sprintf("icc profile dropped: %d bytes, a jpeg holds at most %d", len(src.ICC), maxJPEGICC))
		default:
			f.ICC = bytes.Clone(src.ICC)
		}
	}
	if src.EXIF != nil {
		switch e := ResetOrientation(src.EXIF); {
		case e == nil:
			notes = append(notes, "exif dropped: it is broken")
		case format == JPEG && len(e) > maxJPEGEXIF:
			notes = append(notes, fmt.Sprintf("exif dropped: %d bytes, a jpeg holds at most %d", len(e), maxJPEGEXIF))
		default:
			f.EXIF = e
		}
	}
	return notes
}
