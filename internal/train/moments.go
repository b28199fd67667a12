package train

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// What the names of moments begin with, as PyTorch calls them; the parameter's own follows.
const (
	firstMoment  = "exp_avg."
	secondMoment = "exp_avg_sq."
)

// arena are parameters with the moments of their optimiser.
type arena interface {
	List() []ir.Param
	Moments(name string) (m, v []float32)
}

// Moments lists the moments of every parameter. The tensors are views and change with the next step.
func Moments(p arena) ([]*weights.Tensor, error) {
	var list []*weights.Tensor
	for _, k := range p.List() {
		m, v := p.Moments(k.Name)
		for _, e := range []struct {
			name   string
			values []float32
		}{{firstMoment + k.Name, m}, {secondMoment + k.Name, v}} {
			t, err := tensor.FromFloat32(e.name, k.Shape, e.values)
			if err != nil {
				return nil, fmt.Errorf("optimiser: %w", err)
			}
			list = append(list, t)
		}
	}
	return list, nil
}

// ReadMoments fills in the moments that [Moments] listed.
func ReadMoments(f *weights.File, p arena) error {
	for _, k := range p.List() {
		m, v := p.Moments(k.Name)
		if err := f.Read(firstMoment+k.Name, m); err != nil {
			return err
		}
		if err := f.Read(secondMoment+k.Name, v); err != nil {
			return err
		}
	}
	return nil
}
