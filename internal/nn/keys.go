package nn

import (
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

// Prefixes of the parts of a latent diffusion model in its state dict.
const (
	UNetPrefix        = weights.WrapperPrefix + "diffusion_model."
	FirstStagePrefix  = "first_stage_model."
	ConditionerPrefix = "cond_stage_model."
)

// scaleFactorKey and logvarKey are the own entries of a latent diffusion model beside the schedule.
const (
	scaleFactorKey = "scale_factor"
	logvarKey      = "logvar"
)

// Keys lists the whole state dict of the model that a valid configuration describes, in the order in which the original
// saves it: schedule tables, U-Net, moving average, first stage, conditioner, including entries that no computation uses.
// A first stage or a U-Net alone lists its parameters. Losses are not part of it.
func Keys(c *Config) []ir.Param {
	m := New(c)
	if c.Diffusion == nil {
		return m.Params()
	}
	d := c.Diffusion
	var keys []ir.Param
	add := func(name string, shape ...int) { keys = append(keys, ir.Param{Name: name, Shape: shape}) }
	if d.LearnLogvar {
		add(logvarKey, d.Timesteps)
	}
	for _, name := range weights.ScheduleBuffers {
		add(name, d.Timesteps)
	}
	if d.ScaleByStd {
		add(scaleFactorKey)
	}
	keys = append(keys, m.UNet.Params()...)
	if d.UseEMA {
		add(weights.EMAPrefix + "decay")
		add(weights.EMAPrefix + "num_updates")
		for _, p := range m.UNet.Params() {
			if shadow, ok := weights.EMAName(p.Name); ok {
				add(shadow, p.Shape...)
			}
		}
	}
	keys = append(keys, m.FirstStage.Params()...)
	keys = append(keys, m.Conditioner.Params()...)
	if c.Conditioner.Kind == FirstStageCond { // listed once more under the conditioner's name
		keys = append(keys, NewFirstStage(*c.FirstStage, ConditionerPrefix).Params()...)
	}
	return keys
}
