package picture

// The formats, as Header.Format and Image.Format name them.
const (
	JPEG = "jpeg"
	PNG  = "png"
	WebP = "webp"
	GIF  = "gif"
	BMP  = "bmp"
	TIFF = "tiff"
	PNM  = "pnm"
)

// Header is what a file declares.
type Header struct {
	Format string
	W, H   int // before orientation, except TIFF, whose size is given as it will be decoded
	Mode   string
}

// Image is a decoded picture.
type Image struct {
	W, H  int
	Pix   []uint8 // H x W x 3, RGB, 0..255
	Alpha []uint8 // H x W, 255 opaque; nil if the file has none. Pix is not multiplied by it.

	// Channels is 1 if the file is gray and 3 if it has colours, alpha not counted; a palette counts as colours unless it is
	// the gray ramp itself. Pix has three channels all the same.
	Channels int
	// Pix16 and Alpha16 are the samples of a file with 16 bits: H x W x Channels and H x W, 0..65535. They are kept if
	// Options.Keep16 asks for it, beside Pix and Alpha, and are nil for CMYK.
	Pix16, Alpha16 []uint16

	Format string
	Mode   string // the file's own kind of pixel in Pillow's terms: "1", "L", "LA", "I;16", "P", "RGB", "RGBA", "CMYK"

	Depth16     bool // the file has 16 bits per sample; Pix holds the high bytes, unless Options.Gray16 says otherwise
	Orientation int  // EXIF orientation 1..8 as the file states it, 0 if none; Pix is already turned, unless Options said no

	ICC   []byte   // colour profile, not applied; nil if none
	EXIF  []byte   // EXIF block from its TIFF header on; nil if none
	xmp   []byte   // XMP packet, only for its orientation
	Notes []string // what a reader should know, such as a missing end chunk
}

// Gray returns the luma of the picture, H x W, by the rounding of Pillow's mode "L" (ITU-R BT.601 weights).
func (m *Image) Gray() []uint8 {
	out := make([]uint8, m.W*m.H)
	for i := range out {
		p := m.Pix[3*i : 3*i+3 : 3*i+3]
		out[i] = luma(p[0], p[1], p[2])
	}
	return out
}

func luma(r, g, b uint8) uint8 {
	return uint8((uint32(r)*19595 + uint32(g)*38470 + uint32(b)*7471 + 0x8000) >> 16)
}

// size prepares the pixel buffers for w x h, reusing what is there.
func (m *Image) size(w, h int, alpha bool) {
	m.W, m.H = w, h
	m.Pix = grow(m.Pix, 3*w*h)
	if alpha {
		m.Alpha = grow(m.Alpha, w*h)
	} else {
		m.Alpha = nil
	}
}

// size16 makes the buffers of 16-bit samples for the picture of size, whose Channels are set.
func (m *Image) size16() {
	n := m.W * m.H
	m.Pix16 = make([]uint16, m.Channels*n)
	if m.Alpha != nil {
		m.Alpha16 = make([]uint16, n)
	}
}

func (m *Image) note(s string) { m.Notes = append(m.Notes, s) }

// grow returns a slice of n bytes, b itself when it is large enough. The content is undefined.
func grow(b []uint8, n int) []uint8 {
	if cap(b) < n {
		return make([]uint8, n)
	}
	return b[:n]
}
