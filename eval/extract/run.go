package extract

import (
	"fmt"
	"slices"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// run computes the taps of n inputs, whose graph has the input "image" and an output for each tap.
func run(s *engine.Session, name string, n int, inputs []float32, taps []Tap, graph func() (*nn.Graph, error)) ([][]float32, error) {
	net, err := s.Network(fmt.Sprint(name, " ", n), graph)
	if err != nil {
		return nil, err
	}
	y, err := net.Run(map[string][]float32{"image": inputs})
	if err != nil {
		return nil, err
	}
	out := make([][]float32, len(y))
	for i, v := range y {
		if err := engine.Finite("features "+taps[i].Name, v); err != nil {
			return nil, err
		}
		out[i] = slices.Clone(v)
	}
	return out, nil
}

// checkInputs checks the length of n inputs of a network.
func checkInputs(x Network, inputs []float32, n int) error {
	if len(inputs) != n*x.Inputs() {
		return fmt.Errorf("%d values for %d inputs of %d", len(inputs), n, x.Inputs())
	}
	return nil
}
