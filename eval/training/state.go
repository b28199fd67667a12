package training

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// Names of the entries of the optimiser's state: PyTorch's names for the moments, before that of the parameter.
const (
	firstMoment  = "exp_avg."
	secondMoment = "exp_avg_sq."
)

// Model lists the state dict as it is now. The tensors are views and change with the next step.
func (t *Trainer) Model() ([]*weights.Tensor, error) {
	var list []*weights.Tensor
	for _, p := range t.params.List() {
		x, err := tensor.FromFloat32(p.Name, p.Shape, t.params.Data(p.Name))
		if err != nil {
			return nil, fmt.Errorf("checkpoint: %w", err)
		}
		list = append(list, x)
	}
	return list, nil
}

// Optimiser lists the moments of every parameter. The tensors are views and change with the next step.
func (t *Trainer) Optimiser() ([]*weights.Tensor, error) {
	var list []*weights.Tensor
	for _, p := range t.params.List() {
		m, v := t.params.Moments(p.Name)
		for _, e := range []struct {
			name   string
			values []float32
		}{{firstMoment + p.Name, m}, {secondMoment + p.Name, v}} {
			x, err := tensor.FromFloat32(e.name, p.Shape, e.values)
			if err != nil {
				return nil, fmt.Errorf("optimiser: %w", err)
			}
			list = append(list, x)
		}
	}
	return list, nil
}

// Load begins with the weights of a model file. Moments and the number of steps stay zero.
func (t *Trainer) Load(model *weights.File) error {
	for _, name := range t.names {
		if err := read(model, name, t.params.Data(name)); err != nil {
			return err
		}
	}
	t.params.Changed()
	return nil
}

// Restore goes on from a checkpoint: the model that [Trainer.Model] listed, the state that [Trainer.Optimiser] listed, and the
// number of steps that had been made.
func (t *Trainer) Restore(model, optimiser *weights.File, steps int64) error {
	if err := t.Load(model); err != nil {
		return err
	}
	for _, name := range t.names {
		m, v := t.params.Moments(name)
		if err := read(optimiser, firstMoment+name, m); err != nil {
			return err
		}
		if err := read(optimiser, secondMoment+name, v); err != nil {
			return err
		}
	}
	t.steps, t.batches = steps, 0
	return nil
}

func read(f *weights.File, name string, dst []float32) error {
	x, ok := f.Lookup(name)
	if !ok {
		return exitcode.Errorf(exitcode.Data, "%s: no entry %s", f.Path(), name)
	}
	if x.NumElements() != len(dst) {
		return exitcode.Errorf(exitcode.Data, "%s: %s has shape %v, want %d values", f.Path(), name, x.Shape, len(dst))
	}
	return x.Float32(dst)
}
