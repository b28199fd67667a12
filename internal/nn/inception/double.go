package inception

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/ir"
)

// Double is the network in double precision, computed by plain loops: what features are without rounding, for audits.
type Double struct {
	program *ir.Program
	feed    map[string][]float64
}

// Double makes the network of some taps. Its weights take 8 bytes each.
func (m *Model) Double(taps ...Tap) (*Double, error) {
	g, err := Graph(1, taps...)
	if err != nil {
		return nil, err
	}
	d := &Double{program: g.Program, feed: map[string][]float64{}}
	for _, n := range g.Program.Nodes {
		if n.Leaf == ir.ParamLeaf {
			if d.feed[n.Name], err = m.values(n.Name); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

// Run returns the taps, in their order, of one image (3,299,299), about [-1,1].
func (d *Double) Run(image []float32) ([][]float64, error) {
	x := make([]float64, len(image))
	for i, v := range image {
		x[i] = float64(v)
	}
	d.feed["image"] = x
	y, err := ir.Evaluate(d.program, d.feed)
	if err != nil {
		return nil, fmt.Errorf("in double precision: %w", err)
	}
	return y, nil
}
