package nn

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/ir"
)

// Double is a network in double precision, computed by plain loops: what its outputs are without rounding on the way, for audits.
type Double struct {
	program *ir.Program
	feed    map[string][]float64 // weights, 8 bytes each, and inputs
}

// NewDouble takes the weights of a graph from values, which returns the n values of a parameter.
func NewDouble(g *Graph, values func(name string, n int) ([]float64, error)) (*Double, error) {
	d := &Double{program: g.Program, feed: map[string][]float64{}}
	for _, node := range g.Nodes {
		if node.Leaf != ir.ParamLeaf {
			continue
		}
		n := 1
		for _, s := range node.Shape {
			n *= s
		}
		v, err := values(node.Name, n)
		if err != nil {
			return nil, err
		}
		d.feed[node.Name] = v
	}
	return d, nil
}

// Run computes the outputs, in their order, of inputs by name.
func (d *Double) Run(in map[string][]float32) ([][]float64, error) {
	for name, v := range in {
		d.feed[name] = Widened(v)
	}
	y, err := ir.Evaluate(d.program, d.feed)
	if err != nil {
		return nil, fmt.Errorf("in double precision: %w", err)
	}
	return y, nil
}

// Widened is a copy in double precision.
func Widened(v []float32) []float64 {
	w := make([]float64, len(v))
	for i, f := range v {
		w[i] = float64(f)
	}
	return w
}
