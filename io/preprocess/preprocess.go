package preprocess

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/io/resize"
)

// Picture is a decoded picture: H x W pixels of interleaved channels (HWC), values 0..255.
type Picture struct {
	Pix            []uint8
	H, W, Channels int
}

// Preprocessor applies one Config. It must not be used by two goroutines at a time.
type Preprocessor struct {
	config  Config
	resizer *resize.Resizer // nil for resize none

	cut, bytes  []uint8
	wide, float []float32
	line        []float32
}

// New returns a Preprocessor for a valid Config.
func New(c Config) (*Preprocessor, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	p := &Preprocessor{config: c}
	if c.Resize != resize.None {
		r, err := resize.New(c.Resize)
		if err != nil {
			return nil, fmt.Errorf("preprocess: %w", err)
		}
		p.resizer = r
	}
	return p, nil
}

// OutSize returns the size of the output for a picture of h x w pixels. It does not depend on chance.
func (p *Preprocessor) OutSize(h, w int) (outH, outW int) {
	switch {
	case !p.config.Size.keep():
		return p.config.Size.H, p.config.Size.W
	case p.config.Crop == LSUN:
		return min(h, w), min(h, w)
	}
	return h, w
}

// CHW writes the pixels of a placement as float32 planes (Channels x Window.H x Window.W) in [-1, 1], v/127.5 - 1. Methods
// that exist in floating point only keep their fractions, and may leave the range a little if their filter has negative lobes.
func (p *Preprocessor) CHW(dst []float32, src Picture, at Placement) error {
	return p.floats(dst, src, at, at.Window.H*at.Window.W, 1)
}

// HWC is [Preprocessor.CHW] with interleaved channels (Window.H x Window.W x Channels), the layout of the reference data sets.
func (p *Preprocessor) HWC(dst []float32, src Picture, at Placement) error {
	return p.floats(dst, src, at, 1, src.Channels)
}

// Uint8 writes the pixels of a placement as they are, interleaved (Window.H x Window.W x Channels), values 0..255. Methods that
// exist in floating point only return resize.ErrSampleType.
func (p *Preprocessor) Uint8(dst []uint8, src Picture, at Placement) error {
	if err := check(len(dst), src, at); err != nil {
		return err
	}
	pix, err := p.resized8(src, at)
	if err != nil {
		return err
	}
	c := src.Channels
	for y := range at.Window.H {
		in, out := row(pix, at, y, c), dst[y*at.Window.W*c:][:at.Window.W*c]
		if !at.Flip {
			copy(out, in)
			continue
		}
		for x := 0; x < len(out); x += c {
			copy(out[x:][:c], in[len(in)-c-x:])
		}
	}
	return nil
}

// floats writes channel ch of pixel i to dst[ch*plane + i*step].
func (p *Preprocessor) floats(dst []float32, src Picture, at Placement, plane, step int) error {
	if err := check(len(dst), src, at); err != nil {
		return err
	}
	c := src.Channels
	line := grow(&p.line, at.Window.W*c)
	if p.resizer == nil || p.resizer.Method().Uint8() {
		pix, err := p.resized8(src, at)
		if err != nil {
			return err
		}
		for y := range at.Window.H {
			for i, v := range row(pix, at, y, c) {
				line[i] = unit[v]
			}
			scatter(dst[y*at.Window.W*step:], line, c, at.Flip, plane, step)
		}
		return nil
	}
	pix, err := p.resized32(src, at)
	if err != nil {
		return err
	}
	for y := range at.Window.H {
		for i, v := range row(pix, at, y, c) {
			line[i] = v/127.5 - 1
		}
		scatter(dst[y*at.Window.W*step:], line, c, at.Flip, plane, step)
	}
	return nil
}

// scatter spreads one row of interleaved samples over the channels of the output, mirrored or not.
func scatter(dst, line []float32, c int, flip bool, plane, step int) {
	for ch := range c {
		out := dst[ch*plane:]
		i, move := ch, c
		if flip {
			i, move = len(line)-c+ch, -c
		}
		for x := 0; x < len(line)/c*step; x += step {
			out[x] = line[i]
			i += move
		}
	}
}

// unit maps 0..255 to [-1, 1]. The reference divides a uint8 array by a Python number, which is double precision, and rounds
// the result to float32.
var unit = func() (t [256]float32) {
	for v := range t {
		t[v] = float32(float64(v)/127.5 - 1)
	}
	return t
}()

// row returns row y of the window inside the resized picture.
func row[T any](pix []T, at Placement, y, c int) []T {
	return pix[((at.Window.Y+y)*at.ResizedW+at.Window.X)*c:][:at.Window.W*c]
}

// resized8 returns the resized source box, which is the picture itself where nothing changes.
func (p *Preprocessor) resized8(src Picture, at Placement) ([]uint8, error) {
	pix := p.source(src, at.Source)
	s := shape(src, at)
	if s.SrcH == s.DstH && s.SrcW == s.DstW {
		return pix, nil
	}
	if p.resizer == nil {
		return nil, fmt.Errorf("preprocess: resize none cannot change %v", s)
	}
	out := grow(&p.bytes, s.DstH*s.DstW*s.Channels)
	if err := p.resizer.Uint8(out, pix, s); err != nil {
		return nil, fmt.Errorf("preprocess: %w", err)
	}
	return out, nil
}

func (p *Preprocessor) resized32(src Picture, at Placement) ([]float32, error) {
	pix := p.source(src, at.Source)
	s := shape(src, at)
	in, out := grow(&p.wide, len(pix)), grow(&p.float, s.DstH*s.DstW*s.Channels)
	for i, v := range pix {
		in[i] = float32(v)
	}
	if err := p.resizer.Float32(out, in, s); err != nil {
		return nil, fmt.Errorf("preprocess: %w", err)
	}
	return out, nil
}

// source returns the pixels of a box of the picture.
func (p *Preprocessor) source(src Picture, b Box) []uint8 {
	c := src.Channels
	if b.W == src.W {
		return src.Pix[b.Y*src.W*c:][:b.H*b.W*c]
	}
	cut := grow(&p.cut, b.H*b.W*c)
	for y := range b.H {
		copy(cut[y*b.W*c:][:b.W*c], src.Pix[((b.Y+y)*src.W+b.X)*c:])
	}
	return cut
}

func shape(src Picture, at Placement) resize.Shape {
	return resize.Shape{SrcH: at.Source.H, SrcW: at.Source.W, DstH: at.ResizedH, DstW: at.ResizedW, Channels: src.Channels}
}

func check(dst int, src Picture, at Placement) error {
	if src.H < 1 || src.W < 1 || src.Channels < 1 || len(src.Pix) != src.H*src.W*src.Channels {
		return fmt.Errorf("preprocess: picture of %dx%d pixels with %d channels holds %d samples", src.H, src.W, src.Channels, len(src.Pix))
	}
	if !at.Source.in(src.H, src.W) || at.ResizedH < 1 || at.ResizedW < 1 || at.ResizedH > maxPixels/at.ResizedW || !at.Window.in(at.ResizedH, at.ResizedW) {
		return fmt.Errorf("preprocess: placement %+v does not lie in a picture of %dx%d pixels", at, src.H, src.W)
	}
	if want := at.Window.H * at.Window.W * src.Channels; dst != want {
		return fmt.Errorf("preprocess: destination holds %d samples, not %d", dst, want)
	}
	return nil
}

// grow returns a slice of n elements, reusing buf's memory where it suffices. The content is undefined.
func grow[T any](buf *[]T, n int) []T {
	if cap(*buf) < n {
		*buf = make([]T, n)
	}
	return (*buf)[:n]
}
