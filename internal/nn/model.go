package nn

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

// Model is the modules of a configuration and, once bound, the weights of a model file. It serves weights to executors by
// [Model.Load] and [Model.View], under the names that its graphs use.
type Model struct {
	Config      *Config
	UNet        *UNet        // nil for a first stage
	FirstStage  *FirstStage  // nil for a U-Net
	Conditioner *Conditioner // nil unless a latent diffusion model

	// ScaleFactor is what the first stage's latents are multiplied with before diffusion: the file's where it was
	// measured in training (scale_by_std), the configuration's otherwise, 1 without a diffusion model.
	ScaleFactor float32
	// Schedule is the schedule tables of the file, by name; empty when it has none.
	Schedule map[string][]float32
	EMA      bool     // the U-Net's weights are their moving average
	Warnings []string // of configuration and file

	tensors weights.Map
}

// Options select what of a model file is bound.
type Options struct {
	// Weights selects raw or averaged weights of the U-Net. Auto follows the configuration's use_ema: without it the raw
	// weights are taken even where the file has an average, as the original does; with it the average is, and a file
	// without one gives a warning.
	Weights weights.Selection
	// FirstStageOnly takes only the first stage of a latent diffusion model. The file may be that model's or the first
	// stage's own. A model loaded so has neither U-Net nor conditioner.
	FirstStageOnly bool
}

// New makes the modules of a valid configuration, without weights.
func New(c *Config) *Model {
	m := &Model{Config: c, ScaleFactor: 1, Warnings: slices.Clone(c.Warnings)}
	if c.FirstStage != nil {
		prefix := ""
		if c.Diffusion != nil {
			prefix = FirstStagePrefix
		}
		m.FirstStage = NewFirstStage(*c.FirstStage, prefix)
	}
	if c.UNet != nil {
		m.UNet = NewUNet(*c.UNet, UNetPrefix)
	}
	if c.Diffusion != nil {
		m.ScaleFactor = float32(c.Diffusion.ScaleFactor)
		m.Conditioner = NewConditioner(*c.Conditioner, ConditionerPrefix, m.FirstStage)
	}
	return m
}

// Params lists the parameters of the modules, U-Net first, in the order of each.
func (m *Model) Params() []ir.Param {
	var p []ir.Param
	if m.UNet != nil {
		p = append(p, m.UNet.Params()...)
	}
	if m.FirstStage != nil {
		p = append(p, m.FirstStage.Params()...)
	}
	if m.Conditioner != nil {
		p = append(p, m.Conditioner.Params()...)
	}
	return p
}

// Load reads the configuration at a path and binds a model file to it. The file must stay open while the model is used.
func Load(config string, f *weights.File, o Options) (*Model, error) {
	c, err := LoadConfig(config)
	if err != nil {
		return nil, err
	}
	return Bind(c, f, o)
}

// Bind binds a model file to a valid configuration. Names and shapes must match exactly but for what inference does not
// need: losses, and parts that [Options] leave out. Errors are of class exitcode.Data.
func Bind(c *Config, f *weights.File, o Options) (*Model, error) {
	if c.FirstStage != nil && (o.FirstStageOnly || c.Diffusion == nil) {
		return bindFirstStage(c, f)
	}
	if o.FirstStageOnly {
		return nil, exitcode.Errorf(exitcode.Data, "%s: describes no first stage", c.Path)
	}
	m := New(c)
	sel := o.Weights
	if (sel == weights.Auto || sel == "") && c.Diffusion != nil && !c.Diffusion.UseEMA {
		sel = weights.Raw
	}
	ignore := append([]string{scaleFactorKey, logvarKey}, weights.ScheduleBuffers...)
	for _, prefix := range []string{FirstStagePrefix, ConditionerPrefix} {
		ignore = append(ignore, prefix+"loss.", prefix+"colorize")
	}
	want := m.Params()
	var twins []ir.Param // the first stage under the conditioner's name
	if c.Conditioner != nil && c.Conditioner.Kind == FirstStageCond && has(f, ConditionerPrefix) {
		twins = NewFirstStage(*c.FirstStage, ConditionerPrefix).Params()
		want = append(want, twins...)
	}
	if err := m.bind(f, want, weights.BindOptions{Ignore: ignore, EMA: sel}); err != nil {
		return nil, err
	}
	for _, p := range twins {
		if err := m.sameAsFirstStage(f, p.Name); err != nil {
			return nil, err
		}
		delete(m.tensors, p.Name)
	}
	return m, m.buffers(f)
}

// bindFirstStage binds the first stage alone, from its own file or from that of a latent diffusion model.
func bindFirstStage(c *Config, f *weights.File) (*Model, error) {
	prefix, ignore := "", []string{"loss.", "colorize", weights.EMAPrefix}
	if has(f, FirstStagePrefix) {
		prefix, ignore = FirstStagePrefix, []string{FirstStagePrefix + "loss.", FirstStagePrefix + "colorize"}
	}
	m := &Model{Config: c, FirstStage: NewFirstStage(*c.FirstStage, prefix), ScaleFactor: 1, Warnings: slices.Clone(c.Warnings)}
	want := m.Params()
	for i := range want {
		want[i].Name = strings.TrimPrefix(want[i].Name, prefix)
	}
	if err := m.bind(f, want, weights.BindOptions{Prefix: prefix, Ignore: ignore}); err != nil {
		return nil, err
	}
	if prefix == "" && has(f, weights.EMAPrefix) {
		m.Warnings = append(m.Warnings, "the moving average of the first stage is not used")
	}
	if c.Diffusion == nil {
		return m, nil
	}
	m.ScaleFactor = float32(c.Diffusion.ScaleFactor)
	return m, m.buffers(f)
}

// has says whether any tensor of the file has the prefix.
func has(f *weights.File, prefix string) bool {
	return slices.ContainsFunc(f.Tensors(), func(t *weights.Tensor) bool { return strings.HasPrefix(t.Name, prefix) })
}

func (m *Model) bind(f *weights.File, want []ir.Param, o weights.BindOptions) error {
	params := make([]weights.Param, len(want))
	for i, p := range want {
		params[i] = weights.Param(p)
	}
	b, err := weights.Bind(f, params, o)
	if err != nil {
		return err
	}
	m.EMA, m.Warnings, m.tensors = b.EMA, append(m.Warnings, b.Warnings...), b.Tensors
	return nil
}

// sameAsFirstStage checks that a tensor of a conditioner that is said to be the first stage has the first stage's values.
// In the original's files both names share one storage, so this rarely reads anything.
func (m *Model) sameAsFirstStage(f *weights.File, name string) error {
	twin := FirstStagePrefix + strings.TrimPrefix(name, ConditionerPrefix)
	a, b := m.tensors[name], m.tensors[twin]
	va, okA := a.View()
	vb, okB := b.View()
	if okA && okB && len(va) > 0 && len(vb) > 0 && &va[0] == &vb[0] {
		return nil
	}
	va, err := a.Values()
	if err != nil {
		return err
	}
	if vb, err = b.Values(); err != nil {
		return err
	}
	if !slices.Equal(va, vb) {
		return exitcode.Errorf(exitcode.Data, "model file %s: %s differs from %s, which %s says it is", f.Path(), name, twin, isFirstStage)
	}
	return nil
}

// buffers reads the schedule and the scale factor of a latent diffusion model's file.
func (m *Model) buffers(f *weights.File) error {
	d := m.Config.Diffusion
	if d == nil {
		return nil
	}
	m.Schedule = map[string][]float32{}
	for _, name := range weights.ScheduleBuffers {
		t, ok := f.Lookup(name)
		if !ok {
			continue
		}
		if !slices.Equal(t.Shape, []int{d.Timesteps}) {
			return exitcode.Errorf(exitcode.Data, "model file %s: %s has shape %v, want [%d]", f.Path(), name, t.Shape, d.Timesteps)
		}
		v, err := t.Values()
		if err != nil {
			return fmt.Errorf("model file %s: %w", f.Path(), err)
		}
		m.Schedule[name] = slices.Clone(v)
	}
	t, ok := f.Lookup(scaleFactorKey)
	switch {
	case !d.ScaleByStd && ok:
		m.Warnings = append(m.Warnings, "the file's scale_factor is not used: the configuration does not say scale_by_std")
		return nil
	case !d.ScaleByStd:
		return nil
	case !ok:
		return exitcode.Errorf(exitcode.Data, "model file %s: holds no scale_factor, but the configuration says scale_by_std", f.Path())
	case t.NumElements() != 1:
		return exitcode.Errorf(exitcode.Data, "model file %s: scale_factor has shape %v, want a scalar", f.Path(), t.Shape)
	}
	v, err := t.Values()
	if err != nil {
		return fmt.Errorf("model file %s: %w", f.Path(), err)
	}
	if m.ScaleFactor = v[0]; !(m.ScaleFactor > 0) {
		return exitcode.Errorf(exitcode.Data, "model file %s: scale_factor is %v, want more than 0", f.Path(), v[0])
	}
	return nil
}

// Load converts a weight to float32, row-major in its stored shape, into dst.
func (m *Model) Load(name string, dst []float32) error { return m.tensors.Load(name, dst) }

// View returns a weight without a copy where its storage allows it. It is valid while the model file is open.
func (m *Model) View(name string) ([]float32, bool) { return m.tensors.View(name) }

// Release says that a weight will not be read soon, which frees the memory of a mapped model file.
func (m *Model) Release(name string) { m.tensors.Release(name) }

// Tensor returns the stored tensor that is bound to a parameter.
func (m *Model) Tensor(name string) (*weights.Tensor, bool) {
	t, ok := m.tensors[name]
	return t, ok
}
