package extract

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/engine"
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

// stored takes the parameters of a network in double precision from a file.
func stored(source plan.WeightSource) func(name string, n int) ([]float64, error) {
	return func(name string, n int) ([]float64, error) {
		v := make([]float32, n)
		if err := source.Load(name, v); err != nil {
			return nil, fmt.Errorf("weight %s: %w", name, err)
		}
		return nn.Widened(v), nil
	}
}

// runDouble is [run] in double precision.
func runDouble(d *nn.Double, inputs []float32, n int, taps []Tap) ([][]float32, error) {
	out := make([][]float32, len(taps))
	for i := range n {
		y, err := d.Run(map[string][]float32{"image": inputs[len(inputs)/n*i : len(inputs)/n*(i+1)]})
		if err != nil {
			return nil, err
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
