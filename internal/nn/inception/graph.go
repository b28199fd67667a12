package inception

import (
	"fmt"
	"slices"

	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// Size is the height and width of images.
const Size = 299

// Tap is a feature that the network hands out.
type Tap string

// The taps. The first three are means over all pixels.
const (
	Pool1    Tap = "64"              // (N,64) after the first max-pool
	Pool2    Tap = "192"             // (N,192) after the second
	Mixed6e  Tap = "768"             // (N,768) after the last block of 17x17
	Pool3    Tap = "2048"            // (N,2048) the features of FID
	Unbiased Tap = "logits_unbiased" // (N,1008) without the classifier's bias, of which the Inception Score is made
	Logits   Tap = "logits"          // (N,1008)
	Spatial  Tap = "sfid_2023"       // (N,17*17,7) the first channels of the first branch of Mixed_6d, for sFID
)

// Taps lists every tap from the first layer to the last.
var Taps = []Tap{Pool1, Pool2, Spatial, Mixed6e, Pool3, Unbiased, Logits}

// Graph hands out taps: input "image" (n,3,299,299), about [-1,1]; one output for each tap, of its name. What no tap needs is
// not computed.
func Graph(n int, taps ...Tap) (*nn.Graph, error) {
	if n < 1 {
		return nil, fmt.Errorf("graph inception: %d images", n)
	}
	g := ir.New("inception")
	out := make([]*ir.Tensor, len(taps))
	names := make([]string, len(taps))
	err := ir.Build(func() {
		all := apply(g.Input("image", n, 3, Size, Size), func(string, *ir.Tensor) {})
		for i, t := range taps {
			out[i], names[i] = all[t], string(t)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("graph inception: %w", err)
	}
	for i, t := range taps {
		if out[i] == nil {
			return nil, fmt.Errorf("graph inception: tap %q is not one of %v", t, Taps)
		}
		if slices.Index(taps, t) < i {
			return nil, fmt.Errorf("graph inception: tap %s is listed twice", t)
		}
	}
	p, err := g.Program(out...)
	if err != nil {
		return nil, fmt.Errorf("graph inception: %w", err)
	}
	return &nn.Graph{Program: p, Inputs: []string{"image"}, Outputs: names}, nil
}

// net builds layers; seen is called with the name and result of each.
type net struct {
	seen func(name string, y *ir.Tensor)
}

// conv is a convolution, its normalisation and a ReLU. kernel and padding are height and width. The normalisation is part of
// the weight and the bias.
func (n net) conv(x *ir.Tensor, name string, out int, kernel [2]int, stride int, pad [2]int) *ir.Tensor {
	g := x.Graph()
	w := g.Param(name+weightKey, out, x.Dim(1), kernel[0], kernel[1])
	y := ir.ReLU(ir.Conv2D(x, w, g.Param(name+biasKey, out), ir.Conv{Stride: stride, Top: pad[0], Left: pad[1], Bottom: pad[0], Right: pad[1]}))
	n.seen(name, y)
	return y
}

// The forms of convolution: 1x1, square with and without padding, one row, one column.
func (n net) point(x *ir.Tensor, name string, out int) *ir.Tensor {
	return n.conv(x, name, out, [2]int{1, 1}, 1, [2]int{})
}

func (n net) same(x *ir.Tensor, name string, out, k int) *ir.Tensor {
	return n.conv(x, name, out, [2]int{k, k}, 1, [2]int{k / 2, k / 2})
}

func (n net) valid3(x *ir.Tensor, name string, out, stride int) *ir.Tensor {
	return n.conv(x, name, out, [2]int{3, 3}, stride, [2]int{})
}

func (n net) row(x *ir.Tensor, name string, out, k int) *ir.Tensor {
	return n.conv(x, name, out, [2]int{1, k}, 1, [2]int{0, k / 2})
}

func (n net) column(x *ir.Tensor, name string, out, k int) *ir.Tensor {
	return n.conv(x, name, out, [2]int{k, 1}, 1, [2]int{k / 2, 0})
}

func halve(x *ir.Tensor) *ir.Tensor { return ir.MaxPool(x, ir.Pool{Kernel: 3, Stride: 2}) }

// blockA keeps 35x35: branches of 1x1, 5x5, twice 3x3, and a pool.
func (n net) blockA(x *ir.Tensor, name string, pool int) *ir.Tensor {
	a := n.point(x, name+".branch1x1", 64)
	b := n.same(n.point(x, name+".branch5x5_1", 48), name+".branch5x5_2", 64, 5)
	c := n.same(n.point(x, name+".branch3x3dbl_1", 64), name+".branch3x3dbl_2", 96, 3)
	c = n.same(c, name+".branch3x3dbl_3", 96, 3)
	return n.block(name, a, b, c, n.point(ir.AvgPool3(x), name+".branch_pool", pool))
}

// blockB goes from 35x35 to 17x17.
func (n net) blockB(x *ir.Tensor, name string) *ir.Tensor {
	a := n.valid3(x, name+".branch3x3", 384, 2)
	b := n.same(n.point(x, name+".branch3x3dbl_1", 64), name+".branch3x3dbl_2", 96, 3)
	return n.block(name, a, n.valid3(b, name+".branch3x3dbl_3", 96, 2), halve(x))
}

// blockC keeps 17x17: 7x7 convolutions taken apart into rows and columns.
func (n net) blockC(x *ir.Tensor, name string, c7 int) (y, first *ir.Tensor) {
	first = n.point(x, name+".branch1x1", 192)
	b := n.row(n.point(x, name+".branch7x7_1", c7), name+".branch7x7_2", c7, 7)
	b = n.column(b, name+".branch7x7_3", 192, 7)
	c := n.column(n.point(x, name+".branch7x7dbl_1", c7), name+".branch7x7dbl_2", c7, 7)
	c = n.column(n.row(c, name+".branch7x7dbl_3", c7, 7), name+".branch7x7dbl_4", c7, 7)
	c = n.row(c, name+".branch7x7dbl_5", 192, 7)
	return n.block(name, first, b, c, n.point(ir.AvgPool3(x), name+".branch_pool", 192)), first
}

// blockD goes from 17x17 to 8x8.
func (n net) blockD(x *ir.Tensor, name string) *ir.Tensor {
	a := n.valid3(n.point(x, name+".branch3x3_1", 192), name+".branch3x3_2", 320, 2)
	b := n.row(n.point(x, name+".branch7x7x3_1", 192), name+".branch7x7x3_2", 192, 7)
	b = n.column(b, name+".branch7x7x3_3", 192, 7)
	return n.block(name, a, n.valid3(b, name+".branch7x7x3_4", 192, 2), halve(x))
}

// blockE keeps 8x8; its two instances differ in the pool.
func (n net) blockE(x *ir.Tensor, name string, pool func(*ir.Tensor) *ir.Tensor) *ir.Tensor {
	a := n.point(x, name+".branch1x1", 320)
	b := n.point(x, name+".branch3x3_1", 384)
	b1, b2 := n.row(b, name+".branch3x3_2a", 384, 3), n.column(b, name+".branch3x3_2b", 384, 3)
	c := n.same(n.point(x, name+".branch3x3dbl_1", 448), name+".branch3x3dbl_2", 384, 3)
	c1, c2 := n.row(c, name+".branch3x3dbl_3a", 384, 3), n.column(c, name+".branch3x3dbl_3b", 384, 3)
	return n.block(name, a, b1, b2, c1, c2, n.point(pool(x), name+".branch_pool", 192))
}

func (n net) block(name string, branches ...*ir.Tensor) *ir.Tensor {
	y := ir.Concat(branches...)
	n.seen(name, y)
	return y
}

// apply returns every tap of images x (N,3,299,299). Parameters are asked for in the order of the state dict.
func apply(x *ir.Tensor, seen func(name string, y *ir.Tensor)) map[Tap]*ir.Tensor {
	n, taps := net{seen}, map[Tap]*ir.Tensor{}
	x = n.valid3(x, "Conv2d_1a_3x3", 32, 2)
	x = n.valid3(x, "Conv2d_2a_3x3", 32, 1)
	x = halve(n.same(x, "Conv2d_2b_3x3", 64, 3))
	seen("MaxPool_1", x)
	taps[Pool1] = ir.PixelMean(x)
	x = n.point(x, "Conv2d_3b_1x1", 80)
	x = halve(n.valid3(x, "Conv2d_4a_3x3", 192, 1))
	seen("MaxPool_2", x)
	taps[Pool2] = ir.PixelMean(x)
	x = n.blockA(x, "Mixed_5b", 32)
	x = n.blockA(x, "Mixed_5c", 64)
	x = n.blockA(x, "Mixed_5d", 64)
	x = n.blockB(x, "Mixed_6a")
	x, _ = n.blockC(x, "Mixed_6b", 128)
	x, _ = n.blockC(x, "Mixed_6c", 160)
	x, first := n.blockC(x, "Mixed_6d", 160)
	taps[Spatial] = ir.Tokens(ir.SliceChannels(first, 0, 7))
	x, _ = n.blockC(x, "Mixed_6e", 192)
	taps[Mixed6e] = ir.PixelMean(x)
	x = n.blockD(x, "Mixed_7a")
	x = n.blockE(x, "Mixed_7b", ir.AvgPool3)
	x = n.blockE(x, "Mixed_7c", func(x *ir.Tensor) *ir.Tensor { return ir.MaxPool(x, ir.Pool{Kernel: 3, Stride: 1, Pad: 1}) })
	x = ir.PixelMean(x)
	taps[Pool3] = x
	w, b := x.Graph().Param("fc.weight", Classes, 2048), x.Graph().Param("fc.bias", Classes)
	taps[Unbiased], taps[Logits] = ir.Linear(x, w, nil), ir.Linear(x, w, b)
	return taps
}
