package picture

import (
	"fmt"
	"io"
)

// Level is a PNG compression effort.
type Level int

// The levels. Bulk jobs are bound by compression, so the fast one is the default.
const (
	Fast Level = iota
	Small
	None
)

// EncodeOptions controls Encode.
type EncodeOptions struct {
	Format  string // PNG or JPEG
	Quality int    // JPEG: 1..100
	Level   Level  // PNG
}

// Validate reports the first thing wrong with o.
func (o EncodeOptions) Validate() error {
	switch o.Format {
	case PNG:
		if o.Level < Fast || o.Level > None {
			return fmt.Errorf("png level %d is not known", o.Level)
		}
	case JPEG:
		if o.Quality < 1 || o.Quality > 100 {
			return fmt.Errorf("jpeg quality %d is not in 1..100", o.Quality)
		}
	default:
		return fmt.Errorf("pictures are encoded as png or jpeg, not %q", o.Format)
	}
	return nil
}

// Encode writes a frame as a PNG of its channels and bits, or as a baseline JPEG with 4:2:0 chroma, with its ICC profile and
// EXIF block. A JPEG has neither alpha nor 16 bits: such a frame is an error, to be solved by [Frame.Matte] and
// [Frame.Narrow]. Metadata that the format cannot hold are an error too; [Frame.Carry] leaves them out. The bytes depend on
// the arguments alone.
func Encode(w io.Writer, f *Frame, o EncodeOptions) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if err := f.validate(); err != nil {
		return err
	}
	if o.Format == JPEG {
		return encodeJPEG(w, f, o.Quality)
	}
	return encodePNG(w, f, o.Level)
}

// PNGOptions controls EncodePNG.
type PNGOptions struct{ Level Level }

// EncodePNG writes the picture as an 8-bit RGB PNG. Alpha, ICC profile and EXIF are not written.
func EncodePNG(w io.Writer, m *Image, opt PNGOptions) error {
	return Encode(w, m.rgb(), EncodeOptions{Format: PNG, Level: opt.Level})
}

// EncodeJPEG writes the picture as a baseline JPEG with 4:2:0 chroma, quality 1..100. Alpha, ICC profile and EXIF are not
// written.
func EncodeJPEG(w io.Writer, m *Image, quality int) error {
	return Encode(w, m.rgb(), EncodeOptions{Format: JPEG, Quality: quality})
}

// rgb is the opaque RGB picture as a frame, without a copy.
func (m *Image) rgb() *Frame { return &Frame{W: m.W, H: m.H, Channels: 3, Pix8: m.Pix} }
