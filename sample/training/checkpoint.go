package training

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/train"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
	"github.com/ldm-batch/ldm-batch/sample"
)

// Model lists the state dict of the model as it is now, in the order and under the names of the reference: schedule tables, raw
// weights, moving average, first stage, conditioner. The tensors are views and change with the next step.
func (t *Trainer) Model() ([]*weights.Tensor, error) {
	c := t.model.Config
	tables, err := buffers(t.model)
	if err != nil {
		return nil, err
	}
	shadows := map[string]string{}
	for _, name := range t.averaged {
		if s, ok := weights.EMAName(name); ok {
			shadows[s] = name
		}
	}
	var list []*weights.Tensor
	for _, k := range nn.Keys(c) {
		values, frozen := []float32(nil), (*weights.Tensor)(nil)
		name := k.Name
		if c.Conditioner.Kind == nn.FirstStageCond && strings.HasPrefix(name, nn.ConditionerPrefix) {
			name = nn.FirstStagePrefix + strings.TrimPrefix(name, nn.ConditionerPrefix)
		}
		switch {
		case strings.HasPrefix(name, weights.EMAPrefix) && !t.averages():
			continue // the configuration has an average and this run keeps none
		case name == weights.EMAPrefix+"decay":
			values = []float32{float32(t.o.Average)}
		case name == weights.EMAPrefix+"num_updates":
			x, err := counter(k.Name, t.steps)
			if err != nil {
				return nil, err
			}
			list = append(list, x)
			continue
		case shadows[name] != "":
			values = t.params.Average(shadows[name])
		case t.params.Has(name):
			values = t.params.Data(name)
		case name == "scale_factor":
			values = []float32{t.model.ScaleFactor}
		case tables[name] != nil:
			values = tables[name]
		default:
			var ok bool
			if frozen, ok = t.model.Tensor(name); !ok {
				return nil, exitcode.Errorf(exitcode.Internal, "checkpoint: no values for %s", k.Name)
			}
			list = append(list, frozen.Renamed(k.Name))
			continue
		}
		x, err := tensor.FromFloat32(k.Name, k.Shape, values)
		if err != nil {
			return nil, fmt.Errorf("checkpoint: %w", err)
		}
		list = append(list, x)
	}
	return list, nil
}

// counter is a scalar of type int32, as the reference counts the updates of its average.
func counter(name string, n int64) (*weights.Tensor, error) {
	b := binary.LittleEndian.AppendUint32(nil, uint32(int32(min(n, math.MaxInt32))))
	return tensor.New(name, tensor.I32, []int{}, nil, 0, tensor.Memory(b), tensor.Limits{})
}

// Optimiser lists the moments of every parameter. The tensors are views and change with the next step.
func (t *Trainer) Optimiser() ([]*weights.Tensor, error) { return train.Moments(t.params) }

// Restore goes on from a checkpoint: the model that [Trainer.Model] listed, the state that [Trainer.Optimiser] listed, and the
// number of steps that had been made.
func (t *Trainer) Restore(model, optimiser *weights.File, steps int64) error {
	if err := train.ReadMoments(optimiser, t.params); err != nil {
		return err
	}
	for _, p := range t.params.List() {
		if err := model.Read(p.Name, t.params.Data(p.Name)); err != nil {
			return err
		}
		if shadow, ok := weights.EMAName(p.Name); ok && slices.Contains(t.averaged, p.Name) {
			if err := model.Read(shadow, t.params.Average(p.Name)); err != nil {
				return err
			}
		}
	}
	if t.model.Config.Diffusion.ScaleByStd {
		v := make([]float32, 1)
		if err := model.Read("scale_factor", v); err != nil {
			return err
		}
		t.model.ScaleFactor = v[0]
	}
	t.params.Changed()
	t.steps, t.batches = steps, 0
	return nil
}

// buffers are the tables of the schedule that a checkpoint holds, by name (reference: register_schedule).
func buffers(m *nn.Model) (map[string][]float32, error) {
	d := m.Config.Diffusion
	s, err := sample.NewSchedule(sample.ScheduleConfig{Kind: d.BetaSchedule, Timesteps: d.Timesteps, LinearStart: d.LinearStart, LinearEnd: d.LinearEnd, CosineS: d.CosineS})
	if err != nil {
		return nil, err
	}
	bar := s.AlphasCumprod
	prev := func(i int) float64 {
		if i == 0 {
			return 1
		}
		return bar[i-1]
	}
	variance := func(i int) float64 {
		return (1-d.VPosterior)*s.Betas[i]*(1-prev(i))/(1-bar[i]) + d.VPosterior*s.Betas[i]
	}
	out := map[string][]float32{}
	for name, f := range map[string]func(i int) float64{
		"betas":                          func(i int) float64 { return s.Betas[i] },
		"alphas_cumprod":                 func(i int) float64 { return bar[i] },
		"alphas_cumprod_prev":            prev,
		"sqrt_alphas_cumprod":            func(i int) float64 { return math.Sqrt(bar[i]) },
		"sqrt_one_minus_alphas_cumprod":  func(i int) float64 { return math.Sqrt(1 - bar[i]) },
		"log_one_minus_alphas_cumprod":   func(i int) float64 { return math.Log(1 - bar[i]) },
		"sqrt_recip_alphas_cumprod":      func(i int) float64 { return math.Sqrt(1 / bar[i]) },
		"sqrt_recipm1_alphas_cumprod":    func(i int) float64 { return math.Sqrt(1/bar[i] - 1) },
		"posterior_variance":             variance,
		"posterior_log_variance_clipped": func(i int) float64 { return math.Log(max(variance(i), 1e-20)) },
		"posterior_mean_coef1":           func(i int) float64 { return s.PosteriorCoef1[i] },
		"posterior_mean_coef2":           func(i int) float64 { return s.PosteriorCo2[i] },
	} {
		if out[name] = m.Schedule[name]; out[name] != nil {
			continue
		}
		out[name] = make([]float32, s.Len())
		for i := range out[name] {
			out[name][i] = float32(f(i))
		}
	}
	return out, nil
}
