package preprocess

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/ldm-batch/ldm-batch/io/resize"
)

// Box is a rectangle in pixels.
type Box struct{ Y, X, H, W int }

func (b Box) in(h, w int) bool {
	return b.Y >= 0 && b.X >= 0 && b.H > 0 && b.W > 0 && b.H <= h-b.Y && b.W <= w-b.X
}

// Placement says where an output lies in its source: Source is cut out of the picture and resized to ResizedH x ResizedW,
// Window is cut out of that and mirrored if Flip is set.
type Placement struct {
	Source             Box
	ResizedH, ResizedW int
	Window             Box
	Flip               bool
}

// maxPixels bounds the resized picture: a picture of 1 x 100000 pixels would otherwise become 256 x 25600000.
const maxPixels = 178_956_970

// Place returns the placement for a picture of h x w pixels. The random source is used by crop random (two numbers: vertical,
// then horizontal offset) and by flip (one number, after those), always in that number, so that what follows in a stream does
// not depend on the sizes; otherwise it may be nil.
func (p *Preprocessor) Place(h, w int, random func() uint64) (Placement, error) {
	if h < 1 || w < 1 {
		return Placement{}, fmt.Errorf("preprocess: picture of %dx%d pixels", h, w)
	}
	if random == nil && (p.config.Crop == Random || p.config.Flip) {
		return Placement{}, fmt.Errorf("preprocess: crop %s with flip %v needs a random source", p.config.Crop, p.config.Flip)
	}
	at := Placement{Source: Box{H: h, W: w}}
	if p.config.Crop == LSUN {
		side := min(h, w)
		at.Source = Box{(h - side) / 2, (w - side) / 2, side, side}
	}
	out := p.config.Size
	if out.keep() {
		out = Size{at.Source.H, at.Source.W}
	}
	at.ResizedH, at.ResizedW = out.H, out.W
	if p.config.Resize == resize.None {
		at.ResizedH, at.ResizedW = at.Source.H, at.Source.W
	} else if p.config.Crop == Center || p.config.Crop == Random {
		// The shorter side becomes the size and the other is rounded half to even (albumentations SmallestMaxSize).
		scale := max(float64(out.H)/float64(h), float64(out.W)/float64(w))
		at.ResizedH, at.ResizedW = int(math.RoundToEven(float64(h)*scale)), int(math.RoundToEven(float64(w)*scale))
	}
	if at.ResizedH > maxPixels/at.ResizedW {
		return Placement{}, fmt.Errorf("preprocess: picture of %dx%d pixels would be resized to %dx%d, more than %d pixels", h, w, at.ResizedH, at.ResizedW, maxPixels)
	}
	at.Window = Box{H: out.H, W: out.W}
	restH, restW := at.ResizedH-out.H, at.ResizedW-out.W
	switch p.config.Crop {
	case Center:
		at.Window.Y, at.Window.X = restH/2, restW/2
	case Random:
		at.Window.Y, at.Window.X = below(random(), restH+1), below(random(), restW+1)
	}
	if !at.Window.in(at.ResizedH, at.ResizedW) || p.config.Crop != Center && p.config.Crop != Random && (restH != 0 || restW != 0) {
		return Placement{}, fmt.Errorf("preprocess: picture of %dx%d pixels does not give %dx%d with crop %s and resize %s", h, w, out.H, out.W, p.config.Crop, p.config.Resize)
	}
	if p.config.Flip {
		at.Flip = random()>>63 == 1
	}
	return at, nil
}

// below maps a random number to 0..n-1; without room it is 0.
func below(u uint64, n int) int {
	if n <= 1 {
		return 0
	}
	hi, _ := bits.Mul64(u, uint64(n))
	return int(hi)
}

// SquareCrop is the placement of the reference super-resolution data set: a square of int(factor*min(h, w)) pixels whose
// offset is int(fy*(h-side)), int(fx*(w-side)), resized to size x size. 0.5, 0.5 is the centre.
func SquareCrop(h, w int, factor, fy, fx float64, size int) (Placement, error) {
	side := int(factor * float64(min(h, w)))
	at := Placement{
		Source:   Box{int(fy * float64(h-side)), int(fx * float64(w-side)), side, side},
		ResizedH: size, ResizedW: size,
		Window: Box{H: size, W: size},
	}
	if !at.Source.in(h, w) || size < 1 || size > maxSide {
		return Placement{}, fmt.Errorf("preprocess: crop %g at %g, %g of %dx%d pixels to size %d", factor, fy, fx, h, w, size)
	}
	return at, nil
}
