package training

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/train"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
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
func (t *Trainer) Optimiser() ([]*weights.Tensor, error) { return train.Moments(t.params) }

// Load begins with the weights of a model file. Moments and the number of steps stay zero.
func (t *Trainer) Load(model *weights.File) error {
	for _, name := range t.names {
		if err := model.Read(name, t.params.Data(name)); err != nil {
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
	if err := train.ReadMoments(optimiser, t.params); err != nil {
		return err
	}
	t.steps, t.batches = steps, 0
	return nil
}
