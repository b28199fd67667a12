package sample

import (
	"math"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// layoutKey is the name of a layout's condition in model configurations.
const layoutKey = "coordinates_bbox"

// CanLayout says whether a model is conditioned on bounding boxes.
func CanLayout(m *nn.Model) bool { return hasTokens(m) && m.Config.Diffusion.CondStageKey == layoutKey }

// Rect is a rectangle in fractions of the image: left and top, width and height.
type Rect struct{ X, Y, W, H float64 }

// Box is an object of a layout.
type Box struct {
	Class int
	Rect
	Group, Occluded, Depiction, Inside bool // as annotated in Open Images
}

// LayoutConfig says how a model's layouts are written as tokens (reference: taming's ObjectsBoundingBoxConditionalBuilder).
type LayoutConfig struct {
	Tokens     int // of the vocabulary; the last one stands for no object
	MaxObjects int
	EncodeCrop bool // two tokens say which part of the image is generated
	Classes    int  // of objects; 0 if unknown, and then no box may be a group, occluded, a depiction or inside
	Crop       Rect // part of the image to generate; the zero Rect is all of it
}

// NewLayoutConfig is that of a model: objects of three tokens fill its sequence, and the two that may be left encode the crop.
func NewLayoutConfig(m *nn.Model) (LayoutConfig, error) {
	if !CanLayout(m) {
		return LayoutConfig{}, exitcode.Errorf(exitcode.Usage, "%s: the model is not conditioned on layouts", m.Config.Path)
	}
	c := m.Conditioner.Config
	l := LayoutConfig{Tokens: c.VocabSize, MaxObjects: c.MaxSeqLen / 3, EncodeCrop: c.MaxSeqLen%3 == 2}
	if c.MaxSeqLen%3 == 1 {
		return LayoutConfig{}, exitcode.Errorf(exitcode.Usage, "%s: %d tokens are not those of boxes, of three tokens each, with or without two for the crop", m.Config.Path, c.MaxSeqLen)
	}
	return l, nil
}

// slack is how far rounding may put an edge outside of the image.
const slack = 1e-6

// LayoutTokens writes boxes as tokens: class, top left and bottom right corner of each object, then no object for the rest of
// MaxObjects, then the corners of the crop. Corners are points of a square grid, numbered row by row, rounded half to even.
//
// Boxes keep their order, which matters to the model; the reference shuffles them with an unseeded generator. Of more than
// MaxObjects boxes the first are taken, as there. Boxes outside of the crop are left out. Boxes without area and such that reach
// out of the image are errors of class data; the reference drops the first and clips the second.
func LayoutTokens(boxes []Box, c LayoutConfig) ([]int, error) {
	crop := c.Crop
	if crop == (Rect{}) {
		crop = Rect{0, 0, 1, 1}
	}
	if err := crop.check(); err != nil {
		return nil, exitcode.Errorf(exitcode.Data, "crop: %w", err)
	}
	side := int(math.Sqrt(float64(c.Tokens)))
	none := c.Tokens - 1
	corners := func(r Rect) (a, b int) {
		at := func(x, y float64) int {
			x, y = math.RoundToEven(x*float64(side-1)), math.RoundToEven(y*float64(side-1))
			return int(y)*side + int(x)
		}
		return at(r.X, r.Y), at(r.X+r.W, r.Y+r.H)
	}
	var out []int
	for i, b := range boxes {
		if err := b.check(); err != nil {
			return nil, exitcode.Errorf(exitcode.Data, "box %d: %w", i, err)
		}
		class, err := b.class(c)
		if err != nil {
			return nil, exitcode.Errorf(exitcode.Data, "box %d: %w", i, err)
		}
		if i >= c.MaxObjects || !b.meets(crop) {
			continue
		}
		r := b.Rect
		if !c.EncodeCrop {
			r = Rect{(r.X - crop.X) / crop.W, (r.Y - crop.Y) / crop.H, r.W / crop.W, r.H / crop.H}
		}
		r.X, r.Y = min(max(r.X, 0), 1), min(max(r.Y, 0), 1)
		r.W, r.H = min(r.W, 1-r.X), min(r.H, 1-r.Y)
		first, last := corners(r)
		out = append(out, class, first, last)
	}
	for len(out) < 3*c.MaxObjects {
		out = append(out, none)
	}
	if c.EncodeCrop {
		first, last := corners(crop)
		out = append(out, first, last)
	}
	return out, nil
}

func (r Rect) check() error {
	for _, v := range []float64{r.X, r.Y, r.W, r.H} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return exitcode.Errorf(exitcode.Data, "left %g, top %g, width %g, height %g are not all numbers", r.X, r.Y, r.W, r.H)
		}
	}
	switch {
	case r.W <= 0 || r.H <= 0:
		return exitcode.Errorf(exitcode.Data, "width %g and height %g leave no area", r.W, r.H)
	case r.X < -slack || r.Y < -slack || r.X+r.W > 1+slack || r.Y+r.H > 1+slack:
		return exitcode.Errorf(exitcode.Data, "left %g, top %g, width %g, height %g reach out of the image, which is 0 to 1", r.X, r.Y, r.W, r.H)
	}
	return nil
}

// class is the token of the object's class and marks.
func (b Box) class(c LayoutConfig) (int, error) {
	mark := 0
	for i, on := range []bool{b.Group, b.Occluded, b.Depiction, b.Inside} {
		if on {
			mark |= 1 << i
		}
	}
	limit := c.Classes
	if limit == 0 {
		if limit = c.Tokens - 1; mark != 0 {
			return 0, exitcode.Errorf(exitcode.Data, "groups, occluded objects, depictions and insides need the number of classes")
		}
	}
	if b.Class < 0 || b.Class >= limit {
		return 0, exitcode.Errorf(exitcode.Data, "class %d is not in 0..%d", b.Class, limit-1)
	}
	t := b.Class + c.Classes*mark
	if t >= c.Tokens-1 {
		return 0, exitcode.Errorf(exitcode.Data, "class %d with its marks is token %d, past the last of %d", b.Class, t, c.Tokens-2)
	}
	return t, nil
}

// meets says whether two rectangles share an area.
func (r Rect) meets(c Rect) bool {
	return max(0, min(r.X+r.W, c.X+c.W)-max(r.X, c.X))*max(0, min(r.Y+r.H, c.Y+c.H)-max(r.Y, c.Y)) > 0
}

// LayoutCondition is the condition for layouts, given by their tokens: the contexts of the model's token embedder.
func LayoutCondition(s *engine.Session, tokens [][]int) (Condition, error) {
	if !CanLayout(s.Model) {
		return Condition{}, exitcode.Errorf(exitcode.Usage, "%s: the model is not conditioned on layouts", s.Model.Config.Path)
	}
	return tokenCondition(s, tokens)
}
