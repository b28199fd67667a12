package lpips

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// eps is added to the length of a pixel's features.
const eps = 1e-10

// MinSize is the least height and width of images: four times they are halved.
const MinSize = 16

// part is a slice of VGG16 whose output is compared. Convolutions have the numbers of the whole network; all slices but the first
// begin with a maximum over 2x2 pixels.
type part struct {
	convs    []int
	channels int
}

var parts = []part{{[]int{0, 2}, 64}, {[]int{5, 7}, 128}, {[]int{10, 12, 14}, 256}, {[]int{17, 19, 21}, 512}, {[]int{24, 26, 28}, 512}}

// Layers is the number of layers that are compared.
const Layers = 5

func convKey(slice, number int, what string) string {
	return fmt.Sprintf("net.slice%d.%d.%s", slice+1, number, what)
}
func headKey(layer int) string { return fmt.Sprintf("lin%d.model.1.weight", layer) }

const (
	shiftKey = "scaling_layer.shift"
	scaleKey = "scaling_layer.scale"
)

// constants are the entries of the scaling layer, which turns images in [-1,1] into what VGG16 was trained on. Files need not have them.
var constants = map[string][]float32{shiftKey: {-.030, -.088, -.188}, scaleKey: {.458, .448, .450}}

// Keys lists the state dict in the order in which it is saved, with a prefix before every name.
func Keys(prefix string) []ir.Param {
	keys := []ir.Param{{Name: prefix + shiftKey, Shape: []int{1, 3, 1, 1}}, {Name: prefix + scaleKey, Shape: []int{1, 3, 1, 1}}}
	in := 3
	for i, s := range parts {
		for _, k := range s.convs {
			keys = append(keys,
				ir.Param{Name: prefix + convKey(i, k, "weight"), Shape: []int{s.channels, in, 3, 3}},
				ir.Param{Name: prefix + convKey(i, k, "bias"), Shape: []int{s.channels}})
			in = s.channels
		}
	}
	for i, s := range parts {
		keys = append(keys, ir.Param{Name: prefix + headKey(i), Shape: []int{1, s.channels, 1, 1}})
	}
	return keys
}

// Features returns the features (N,C,H,W) that are compared, for images x (N,3,H,W) in [-1,1] of at least [MinSize] pixels, and
// the scaled images that go into the network. Names of weights have the prefix.
func Features(x *ir.Tensor, prefix string) (scaled *ir.Tensor, features []*ir.Tensor) {
	g := x.Graph()
	param := func(key string, shape ...int) *ir.Tensor { return g.Param(prefix+key, shape...) }
	scaled = ir.ScaleChannels(
		ir.ShiftChannels(x, ir.Scale(param(shiftKey, 1, 3, 1, 1), -1)),
		ir.Reciprocal(param(scaleKey, 1, 3, 1, 1)))
	h := scaled
	for i, s := range parts {
		if i > 0 {
			h = ir.MaxPool(h, ir.Pool{Kernel: 2, Stride: 2})
		}
		for _, k := range s.convs {
			w := param(convKey(i, k, "weight"), s.channels, h.Dim(1), 3, 3)
			h = ir.ReLU(ir.Conv2D(h, w, param(convKey(i, k, "bias"), s.channels), ir.Same(3)))
		}
		features = append(features, h)
	}
	return scaled, features
}

// Distance returns the distances (N,1) of images a and b (N,3,H,W) in [-1,1], and those of each layer, of which they are the sum.
func Distance(a, b *ir.Tensor, prefix string) (distance *ir.Tensor, layers []*ir.Tensor) {
	_, fa := Features(a, prefix)
	_, fb := Features(b, prefix)
	for i := range fa {
		w := a.Graph().Param(prefix+headKey(i), 1, parts[i].channels, 1, 1)
		layers = append(layers, ir.UnitDistance(fa[i], fb[i], w, eps))
	}
	return ir.Add(layers[0], layers[1], layers[2:]...), layers
}

// Graph compares pairs of images: inputs "a" and "b" (n,3,h,w) in [-1,1], output "distance" (n,1).
func Graph(n, h, w int) (*nn.Graph, error) {
	if n < 1 || h < MinSize || w < MinSize {
		return nil, fmt.Errorf("graph lpips: %d images of %dx%d (height x width), want at least one of %dx%d", n, h, w, MinSize, MinSize)
	}
	g := ir.New("lpips")
	var distance *ir.Tensor
	if err := ir.Build(func() { distance, _ = Distance(g.Input("a", n, 3, h, w), g.Input("b", n, 3, h, w), "") }); err != nil {
		return nil, fmt.Errorf("graph lpips: %w", err)
	}
	p, err := g.Program(distance)
	if err != nil {
		return nil, fmt.Errorf("graph lpips: %w", err)
	}
	return &nn.Graph{Program: p, Inputs: []string{"a", "b"}, Outputs: []string{"distance"}}, nil
}
