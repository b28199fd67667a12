package picture

import (
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"sync"
)

// Level is a PNG compression effort.
type Level int

// The levels. Bulk jobs are bound by compression, so the fast one is the default.
const (
	Fast Level = iota
	Small
	None
)

// PNGOptions controls EncodePNG.
type PNGOptions struct{ Level Level }

// EncodePNG writes the picture as an 8-bit RGB PNG. Alpha, ICC profile and EXIF are not written.
func EncodePNG(w io.Writer, m *Image, opt PNGOptions) error {
	if err := m.encodable(); err != nil {
		return err
	}
	level, ok := map[Level]png.CompressionLevel{Fast: png.BestSpeed, Small: png.BestCompression, None: png.NoCompression}[opt.Level]
	if !ok {
		return fmt.Errorf("png level %d is not known", opt.Level)
	}
	e := png.Encoder{CompressionLevel: level, BufferPool: &pngBuffers}
	if err := e.Encode(w, m.rgba()); err != nil {
		return fmt.Errorf("encode png: %w", err)
	}
	return nil
}

// EncodeJPEG writes the picture as a baseline JPEG with 4:2:0 chroma, quality 1..100. Alpha, ICC profile and EXIF are not
// written.
func EncodeJPEG(w io.Writer, m *Image, quality int) error {
	if err := m.encodable(); err != nil {
		return err
	}
	if quality < 1 || quality > 100 {
		return fmt.Errorf("jpeg quality %d is not in 1..100", quality)
	}
	if m.W > 65535 || m.H > 65535 {
		return fmt.Errorf("jpeg holds at most 65535 pixels a side, the picture is %dx%d", m.W, m.H)
	}
	if err := jpeg.Encode(w, m.rgba(), &jpeg.Options{Quality: quality}); err != nil {
		return fmt.Errorf("encode jpeg: %w", err)
	}
	return nil
}

func (m *Image) encodable() error {
	if m.W <= 0 || m.H <= 0 || len(m.Pix) != 3*m.W*m.H {
		return fmt.Errorf("picture of %dx%d with %d bytes of pixels", m.W, m.H, len(m.Pix))
	}
	return nil
}

// rgba copies the picture to the layout that the encoders read fastest; an opaque one is written as RGB.
func (m *Image) rgba() *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, m.W, m.H))
	for i := range m.W * m.H {
		s, o := m.Pix[3*i:3*i+3:3*i+3], out.Pix[4*i:4*i+4:4*i+4]
		o[0], o[1], o[2], o[3] = s[0], s[1], s[2], 255
	}
	return out
}

// pngBuffers lets encoders on many goroutines share their compressors.
var pngBuffers pngPool

type pngPool struct{ p sync.Pool }

func (b *pngPool) Get() *png.EncoderBuffer {
	e, _ := b.p.Get().(*png.EncoderBuffer)
	return e
}

func (b *pngPool) Put(e *png.EncoderBuffer) { b.p.Put(e) }
