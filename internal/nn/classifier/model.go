package classifier

import "github.com/ldm-batch/ldm-batch/internal/weights"

// Model is a network with weights. It implements plan.WeightSource.
type Model struct {
	Config  Config
	file    *weights.File
	tensors weights.Map
}

// Bind takes the weights of a file, which must hold exactly the network's parameters. The file is closed with the model.
func Bind(c Config, f *weights.File) (*Model, error) {
	var want []weights.Param
	for _, p := range c.Params() {
		want = append(want, weights.Param(p))
	}
	b, err := weights.Bind(f, want, weights.BindOptions{})
	if err != nil {
		return nil, err
	}
	return &Model{Config: c, file: f, tensors: b.Tensors}, nil
}

// Load implements plan.WeightSource.
func (m *Model) Load(name string, dst []float32) error { return m.tensors.Load(name, dst) }

// View implements plan.WeightSource.
func (m *Model) View(name string) ([]float32, bool) { return m.tensors.View(name) }

// Release implements plan.WeightSource.
func (m *Model) Release(name string) { m.tensors.Release(name) }

// Close frees the file of the weights.
func (m *Model) Close() error { return m.file.Close() }

// Largest is the index of the first largest value: the class of a row of logits.
func Largest(logits []float32) int {
	best := 0
	for i, v := range logits {
		if v > logits[best] {
			best = i
		}
	}
	return best
}
