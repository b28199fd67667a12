package classifier

import (
	"fmt"
	"slices"

	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// groups and eps are those of every normalisation.
const (
	groups = 8
	eps    = 1e-5
)

// Tap is an output of the network.
type Tap string

// The taps.
const (
	Features Tap = "features" // (N,F) the means over all pixels of the last level
	Logits   Tap = "logits"   // (N,C) of the classes
)

// Taps lists every tap.
var Taps = []Tap{Features, Logits}

// apply returns every tap of images x (N,3,S,S). Parameters are asked for in the order of the state dict.
func (c Config) apply(x *ir.Tensor) map[Tap]*ir.Tensor {
	g := x.Graph()
	conv := func(x *ir.Tensor, name string, out int, o ir.Conv) *ir.Tensor {
		return ir.Conv2D(x, g.Param(name+".weight", out, x.Dim(1), 3, 3), g.Param(name+".bias", out), o)
	}
	active := func(x *ir.Tensor, name string) *ir.Tensor {
		n := x.Dim(1)
		return ir.SiLU(ir.GroupNorm(x, g.Param(name+".weight", n), g.Param(name+".bias", n), groups, eps))
	}
	x = conv(x, "stem", c.Channels[0], ir.Same(3))
	for i, out := range c.Channels[1:] {
		level := fmt.Sprintf("levels.%d.", i)
		x = conv(active(x, level+"down.norm"), level+"down.conv", out, ir.Conv{Stride: 2, Top: 1, Left: 1, Bottom: 1, Right: 1})
		x = ir.Add(x, conv(active(x, level+"block.norm"), level+"block.conv", out, ir.Same(3)))
	}
	features := ir.PixelMean(active(x, "norm"))
	w, b := g.Param("head.weight", len(c.Classes), c.Features()), g.Param("head.bias", len(c.Classes))
	return map[Tap]*ir.Tensor{Features: features, Logits: ir.Linear(features, w, b)}
}

// Params lists the parameters in the order of the state dict. The configuration must be valid.
func (c Config) Params() []ir.Param {
	g := ir.New("classifier")
	if err := ir.Build(func() { c.apply(g.Input("image", 1, 3, c.Size, c.Size)) }); err != nil {
		panic(err) // a valid configuration has no impossible shape
	}
	return g.Params()
}

// Graph hands out taps: input "image" (n,3,S,S) in [-1,1]; one output for each tap, of its name.
func (c Config) Graph(n int, taps ...Tap) (*nn.Graph, error) {
	if n < 1 {
		return nil, fmt.Errorf("graph classifier: %d images", n)
	}
	g := ir.New("classifier")
	out, names := make([]*ir.Tensor, len(taps)), make([]string, len(taps))
	err := ir.Build(func() {
		all := c.apply(g.Input("image", n, 3, c.Size, c.Size))
		for i, t := range taps {
			out[i], names[i] = all[t], string(t)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("graph classifier: %w", err)
	}
	for i, t := range taps {
		if out[i] == nil || slices.Index(taps, t) < i {
			return nil, fmt.Errorf("graph classifier: tap %q is listed twice or not one of %v", t, Taps)
		}
	}
	p, err := g.Program(out...)
	if err != nil {
		return nil, fmt.Errorf("graph classifier: %w", err)
	}
	return &nn.Graph{Program: p, Inputs: []string{"image"}, Outputs: names}, nil
}

// Loss is the objective of training: inputs "image" (n,3,S,S) and "label" (n), whole numbers; outputs the mean cross-entropy, the
// logits (n,C), and with gradients that of every parameter, in the order of [Config.Params].
func (c Config) Loss(n int, gradients bool) (*ir.Program, error) {
	g := ir.New("classifier loss")
	var loss, logits *ir.Tensor
	if err := ir.Build(func() {
		logits = c.apply(g.Input("image", n, 3, c.Size, c.Size))[Logits]
		loss = ir.Mean(ir.CrossEntropy(logits, g.Input("label", n)))
	}); err != nil {
		return nil, fmt.Errorf("graph classifier: %w", err)
	}
	out := []*ir.Tensor{loss, logits}
	if gradients {
		var leaves []*ir.Tensor
		for _, p := range g.Params() {
			leaves = append(leaves, g.Param(p.Name, p.Shape...))
		}
		grads, err := ir.Grad(loss, leaves...)
		if err != nil {
			return nil, fmt.Errorf("graph classifier: %w", err)
		}
		out = append(out, grads...)
	}
	return g.Program(out...)
}
