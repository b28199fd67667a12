// Package patch cuts images into overlapping patches and puts what a network makes of them together again, as the reference
// does with large inputs (split_input_params).
//
// Concept: a [Grid] places patches of one size at a fixed stride. Every patch has a weight for each of its cells that falls
// from its centre to its border; a cell of the whole is the weighted mean of the patches that cover it.
//
// Data flow: [Grid.Cut] copies one patch of every image of a batch, NCHW; the caller runs it; [Grid.Add] adds the weighted
// result to a sum; [Grid.Divide] divides the sum by the weights. Sums are made in the order of the reference, so that equal
// patches give equal bits.
//
// Ownership: a Grid is read-only after New and may be shared; buffers are the caller's. Errors: sizes that leave cells
// uncovered, of class usage, naming sizes that fit.
package patch

import (
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Config says how an input is cut. Height comes before width.
type Config struct {
	Size, Stride [2]int // cells
	TieBreak     bool   // weigh patches by their place in the grid too (reference: tie_braker)
}

// The bounds that the reference's configurations clip weights to.
const (
	minWeight = 0.01
	maxWeight = 0.5
)

// Grid is the patches of an input.
type Grid struct {
	H, W   int // cells of the input
	Rows   int // of patches
	Cols   int
	Config Config

	weights []float32 // of one patch
	ties    []float32 // of each patch, nil without tie break
	sum     []float32 // of the weights at each cell
}

// Shrink is the configuration with size and stride at most those of the input, as the reference does in its first stage.
func (c Config) Shrink(h, w int) Config {
	c.Size, c.Stride = [2]int{min(c.Size[0], h), min(c.Size[1], w)}, [2]int{min(c.Stride[0], h), min(c.Stride[1], w)}
	return c
}

// Scale is the configuration for an input whose cells are 1/f as large.
func (c Config) Scale(f int) Config {
	c.Size, c.Stride = [2]int{c.Size[0] * f, c.Size[1] * f}, [2]int{c.Stride[0] * f, c.Stride[1] * f}
	return c
}

// New lays patches over an input of h x w cells. Every cell must be covered.
func New(c Config, h, w int) (*Grid, error) {
	g := &Grid{H: h, W: w, Config: c}
	for i, side := range []int{h, w} {
		name := []string{"height", "width"}[i]
		size, stride := c.Size[i], c.Stride[i]
		switch {
		case size < 2 || stride < 1:
			return nil, exitcode.Errorf(exitcode.Usage, "patches: %s %d with stride %d, want at least 2 and 1", name, size, stride)
		case stride > size:
			return nil, exitcode.Errorf(exitcode.Usage, "patches: stride %d of the %s is more than the size %d and leaves gaps", stride, name, size)
		case side < size:
			return nil, exitcode.Errorf(exitcode.Usage, "patches: %s %d is smaller than a patch of %d", name, side, size)
		case (side-size)%stride != 0:
			low := side - (side-size)%stride
			return nil, exitcode.Errorf(exitcode.Usage, "patches of %d with stride %d do not cover a %s of %d; %d and %d fit", size, stride, name, side, low, low+stride)
		}
	}
	g.Rows, g.Cols = (h-c.Size[0])/c.Stride[0]+1, (w-c.Size[1])/c.Stride[1]+1
	g.weights = border(c.Size[0], c.Size[1])
	if c.TieBreak {
		if g.Rows < 2 || g.Cols < 2 {
			return nil, exitcode.Errorf(exitcode.Usage, "patches: tie break needs at least 2 rows and columns of patches; %dx%d has %dx%d", h, w, g.Rows, g.Cols)
		}
		g.ties = border(g.Rows, g.Cols)
	}
	g.sum = make([]float32, h*w)
	for y := range h {
		for x := range w {
			g.each(y, x, func(p, at int) { g.sum[y*w+x] += g.weight(p, at) })
		}
	}
	return g, nil
}

// border is the distance of each of h x w cells from the nearest edge, 0 at the edge and at most one half, clipped
// (reference: delta_border).
func border(h, w int) []float32 {
	out := make([]float32, h*w)
	for y := range h {
		for x := range w {
			a, b := float32(y)/float32(h-1), float32(x)/float32(w-1)
			out[y*w+x] = min(max(min(a, b, 1-a, 1-b), minWeight), maxWeight)
		}
	}
	return out
}

// each calls f with the patches that cover a cell and its index in each, in the order in which the reference adds them up:
// from the last patch to the first.
func (g *Grid) each(y, x int, f func(patch, at int)) {
	c := g.Config
	for r := min(y/c.Stride[0], g.Rows-1); r >= 0 && y-r*c.Stride[0] < c.Size[0]; r-- {
		for q := min(x/c.Stride[1], g.Cols-1); q >= 0 && x-q*c.Stride[1] < c.Size[1]; q-- {
			f(r*g.Cols+q, (y-r*c.Stride[0])*c.Size[1]+x-q*c.Stride[1])
		}
	}
}

// Len is the number of patches.
func (g *Grid) Len() int { return g.Rows * g.Cols }

// Order is the patch to run as the i-th, so that sums are made in the reference's order.
func (g *Grid) Order(i int) int { return g.Len() - 1 - i }

// weight is that of a cell of a patch.
func (g *Grid) weight(patch, at int) float32 {
	if g.ties == nil {
		return g.weights[at]
	}
	return float32(g.weights[at] * g.ties[patch])
}

// Cut copies a patch of every plane of src (planes x H x W) to dst (planes x size).
func (g *Grid) Cut(dst, src []float32, patch int) {
	s, y, x := g.Config.Size, patch/g.Cols*g.Config.Stride[0], patch%g.Cols*g.Config.Stride[1]
	for p := range len(src) / (g.H * g.W) {
		for i := range s[0] {
			from := (p*g.H+y+i)*g.W + x
			copy(dst[(p*s[0]+i)*s[1]:(p*s[0]+i+1)*s[1]], src[from:from+s[1]])
		}
	}
}

// Add adds a patch of every plane, weighted, to dst (planes x H x W), which begins as zeros. Patches must come in the order of
// [Grid.Order].
func (g *Grid) Add(dst, src []float32, patch int) {
	s, y, x := g.Config.Size, patch/g.Cols*g.Config.Stride[0], patch%g.Cols*g.Config.Stride[1]
	for p := range len(dst) / (g.H * g.W) {
		for i := range s[0] {
			to := dst[(p*g.H+y+i)*g.W+x:][:s[1]]
			for j := range to {
				to[j] += float32(src[(p*s[0]+i)*s[1]+j] * g.weight(patch, i*s[1]+j))
			}
		}
	}
}

// Divide divides every plane of a sum by the weights that went into it.
func (g *Grid) Divide(dst []float32) {
	for i := range dst {
		dst[i] /= g.sum[i%len(g.sum)]
	}
}

// Weights are those of every cell of every patch, patches x size.
func (g *Grid) Weights() []float32 {
	var out []float32
	for p := range g.Len() {
		for at := range g.weights {
			out = append(out, g.weight(p, at))
		}
	}
	return out
}

// Sum is the sum of the weights at each cell, H x W.
func (g *Grid) Sum() []float32 { return g.sum }
