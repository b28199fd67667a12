package extract

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// Auditable is a network that can compute in double precision.
type Auditable interface {
	Network
	// UseDouble makes Features compute in double precision from here on, one picture after the other in plain loops: hundreds of times
	// slower. Features are rounded once, when they are handed out.
	UseDouble() error
}

// double is a network in double precision: what its features are without rounding on the way.
type double struct {
	program *ir.Program
	feed    map[string][]float64 // weights, 8 bytes each, and the input "image"
}

// newDouble takes the graph of one input. values returns the n values of a parameter.
func newDouble(g *nn.Graph, values func(name string, n int) ([]float64, error)) (*double, error) {
	d := &double{program: g.Program, feed: map[string][]float64{}}
	for _, node := range g.Program.Nodes {
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

// stored takes parameters from a file.
func stored(source plan.WeightSource) func(name string, n int) ([]float64, error) {
	return func(name string, n int) ([]float64, error) {
		v := make([]float32, n)
		if err := source.Load(name, v); err != nil {
			return nil, fmt.Errorf("weight %s: %w", name, err)
		}
		return widened(v), nil
	}
}

func widened(v []float32) []float64 {
	w := make([]float64, len(v))
	for i, f := range v {
		w[i] = float64(f)
	}
	return w
}

// features computes the taps of n inputs.
func (d *double) features(inputs []float32, n int, taps []Tap) ([][]float32, error) {
	out := make([][]float32, len(taps))
	for i := range n {
		d.feed["image"] = widened(inputs[len(inputs)/n*i : len(inputs)/n*(i+1)])
		y, err := ir.Evaluate(d.program, d.feed)
		if err != nil {
			return nil, fmt.Errorf("in double precision: %w", err)
		}
		for t, v := range y {
			for _, f := range v {
				out[t] = append(out[t], float32(f))
			}
		}
	}
	for t, v := range out {
		if err := engine.Finite("features "+taps[t].Name, v); err != nil {
			return nil, err
		}
	}
	return out, nil
}
