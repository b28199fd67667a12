package classifier

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

// Model is a network with weights. It implements plan.WeightSource.
type Model struct {
	Config  Config
	file    *weights.File
	tensors map[string]*weights.Tensor
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
	m := &Model{Config: c, file: f, tensors: map[string]*weights.Tensor{}}
	for i, t := range b.Tensors {
		m.tensors[want[i].Name] = t
	}
	return m, nil
}

// Load implements plan.WeightSource.
func (m *Model) Load(name string, dst []float32) error {
	t, ok := m.tensors[name]
	if !ok {
		return exitcode.Errorf(exitcode.Internal, "classifier: no weight %s", name)
	}
	if t.NumElements() != len(dst) {
		return fmt.Errorf("classifier: %s has shape %v, want %d values", name, t.Shape, len(dst))
	}
	return t.Float32(dst)
}

// View implements plan.WeightSource.
func (m *Model) View(name string) ([]float32, bool) {
	t, ok := m.tensors[name]
	if !ok {
		return nil, false
	}
	return t.View()
}

// Release implements plan.WeightSource.
func (m *Model) Release(name string) {
	if t, ok := m.tensors[name]; ok {
		t.Release()
	}
}

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
