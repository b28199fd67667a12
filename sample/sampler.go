package sample

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// Config chooses a sampler and its settings. The zero value of a field after Temperature changes nothing.
type Config struct {
	Name        string  // one of Names
	Steps       int     // how many; ddpm: the time to start from, 0 for all
	Eta         float64 // ddim: 0 deterministic, 1 ancestral (paper, section 4.1)
	Guidance    float64 // classifier-free guidance scale; 1 means none
	Spacing     string  // which times are visited, see SpacingsOf
	Temperature float64 // factor of the sampler's noise

	// GuidanceRescale, 0 to 1, is how far guided predictions get the standard deviation of conditional ones; see [Guided].
	GuidanceRescale float64
	// GuidanceFrom and GuidanceTo limit guidance to times with From <= t/T < To, as fractions of the process; 0, 0 is everywhere.
	GuidanceFrom, GuidanceTo float64

	// ReuseEvery computes the deep part of the U-Net in every N-th step only, which is an approximation; 0 and 1 compute it in
	// every step. ReuseBranch is the skip connection below which it lies, 0 the outermost.
	ReuseEvery, ReuseBranch int
}

// DefaultConfig is DDIM with 50 deterministic steps and no guidance.
func DefaultConfig() Config {
	return Config{Name: "ddim", Steps: 50, Guidance: 1, Spacing: "uniform", Temperature: 1}
}

// Names lists the samplers: those of the reference, then the solvers that end at noise level 0.
var Names = []string{"ddim", "ddpm", "plms", "dpmpp-2m", "unipc", "heun", "euler", "euler-a"}

// Stochastic says whether steps draw noise that matters.
func (c Config) Stochastic() bool {
	return c.Name == "ddpm" || c.Name == "euler-a" || c.Name == "ddim" && c.Eta > 0
}

// Validate checks names, ranges and combinations that are independent of a model.
func (c Config) Validate() error {
	switch {
	case !slices.Contains(Names, c.Name):
		return fmt.Errorf("name: %q is not one of %v", c.Name, Names)
	case c.Name != "ddpm" && c.Steps < 1:
		return fmt.Errorf("steps: %d is not at least 1", c.Steps)
	case c.Steps < 0:
		return fmt.Errorf("steps: %d is negative", c.Steps)
	case !(c.Eta >= 0 && c.Eta <= 1):
		return fmt.Errorf("eta: %g is not in [0, 1]", c.Eta)
	case c.Name != "ddim" && c.Eta != 0:
		return fmt.Errorf("eta: %s needs 0, not %g; eta is ddim's, where 1 is ancestral", c.Name, c.Eta)
	case !slices.Contains(Spacings, c.Spacing):
		return fmt.Errorf("spacing: %q is not one of %v", c.Spacing, Spacings)
	case !slices.Contains(SpacingsOf(c.Name), c.Spacing):
		return fmt.Errorf("spacing: %s has none named %s, only %v", c.Name, c.Spacing, SpacingsOf(c.Name))
	case !(c.Temperature >= 0) || math.IsInf(c.Temperature, 0):
		return fmt.Errorf("temperature: %g is not a number of at least 0", c.Temperature)
	case !(c.GuidanceRescale >= 0 && c.GuidanceRescale <= 1):
		return fmt.Errorf("guidance_rescale: %g is not in [0, 1]", c.GuidanceRescale)
	case c.interval() && !(c.GuidanceFrom >= 0 && c.GuidanceFrom < c.GuidanceTo && c.GuidanceTo <= 1):
		return fmt.Errorf("guidance_from, guidance_to: %g, %g are not 0 <= from < to <= 1; 0, 0 is everywhere", c.GuidanceFrom, c.GuidanceTo)
	case c.ReuseEvery < 0:
		return fmt.Errorf("reuse.every: %d is negative", c.ReuseEvery)
	case c.ReuseBranch < 0:
		return fmt.Errorf("reuse.branch: %d is negative", c.ReuseBranch)
	case math.IsNaN(c.Guidance) || math.IsInf(c.Guidance, 0):
		return fmt.Errorf("guidance: %g is not a number", c.Guidance)
	}
	return nil
}

// interval says whether guidance is limited to some times.
func (c Config) interval() bool { return c.GuidanceFrom != 0 || c.GuidanceTo != 0 }

// Denoiser predicts the noise in a batch of latents.
type Denoiser interface {
	// Predict writes the predicted noise eps for x (N x C x H x W) at one time for each sample. It may not keep the slices.
	Predict(x, t, eps []float32) error
}

// Stepper is a denoiser that wants to know the step that it predicts for: the k-th of a walk of so many steps, counted from 0.
// It is told before the first prediction of each step.
type Stepper interface {
	Step(k, steps int)
}

// Hooks change or watch a walk. Every field may be nil.
type Hooks struct {
	// OnX0 may change an estimate of x_0 in place, for instance to its nearest code (reference: quantize_denoised). It runs once
	// for each prediction that a step combines.
	OnX0 func(x0 []float32) error
	// Before runs before a step, whose level is that of x; it may change x in place, for instance to keep a known region.
	Before func(k int, l Level, x []float32) error
	// After sees the latent and the last estimate of x_0 after a step, and the level that the step began at.
	After func(k int, l Level, x, x0 []float32) error
}

// Sampler walks a schedule backwards. It keeps scratch between calls and is not safe for concurrent use.
//
// Latents keep the variance of the process, x = alpha x_0 + sigma noise, whatever the sampler: a whole walk begins with standard
// normal numbers, and no network input is scaled.
type Sampler struct {
	cfg    Config
	sched  *Schedule
	solve  solver
	levels []Level    // ascending in time: a walk ends with the first
	steps  []ddimStep // ddim, plms

	eps, eps2, x0, noise, t []float32
	history                 [][]float32 // predictions of earlier steps, newest last
	start, guess            []float32   // unipc: the latent that the last step began with, and where it led; heun: scratch
}

// solver makes the step of a walk, from the prediction in p.eps.
type solver func(p *Sampler, w *walk, x []float32) error

var solvers = map[string]solver{
	"ddim": (*Sampler).ddim, "ddpm": (*Sampler).ddpm, "plms": (*Sampler).plms, "dpmpp-2m": (*Sampler).dpmpp2M,
	"unipc": (*Sampler).unipc, "heun": (*Sampler).heun, "euler": (*Sampler).euler, "euler-a": (*Sampler).eulerAncestral,
}

// walk is what a step needs to know: its number, counted from the first that is made, and its level.
type walk struct {
	d     Denoiser
	noise Noise
	h     Hooks
	k, i  int
}

// New checks the configuration against the schedule.
func New(c Config, s *Schedule) (*Sampler, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("sampler: %w", err)
	}
	p := &Sampler{cfg: c, sched: s, solve: solvers[c.Name]}
	var err error
	switch c.Name {
	case "ddpm":
		n := c.Steps
		if n == 0 {
			n = s.Len()
		}
		if n > s.Len() {
			return nil, fmt.Errorf("sampler: steps: %d is more than the process has, %d", n, s.Len())
		}
		for t := range n {
			p.levels = append(p.levels, s.level(t))
		}
	case "ddim", "plms":
		var ts []int
		if ts, err = Timesteps(c.Spacing, c.Steps, s.Len()); err != nil {
			break
		}
		p.steps = ddimSteps(s, ts, c.Eta)
		for _, t := range ts {
			p.levels = append(p.levels, s.level(t))
		}
	default:
		p.levels, err = solverLevels(s, c.Spacing, c.Steps, slices.Contains(multistep, c.Name))
	}
	if err != nil {
		return nil, fmt.Errorf("sampler: %w", err)
	}
	return p, nil
}

// Steps is the number of steps that a whole walk makes; it can differ from the configured number, see [Timesteps].
func (p *Sampler) Steps() int { return len(p.levels) }

// Predictions is the number of predictions that the last so many steps of a walk take: one for each step, with plms one more
// for the first, with heun one more for each but the last.
func (p *Sampler) Predictions(last int) int {
	switch {
	case p.cfg.Name == "plms" && last > 0:
		return last + 1
	case p.cfg.Name == "heun" && last > 0:
		return 2*last - 1
	}
	return last
}

// Stochastic says whether steps draw noise that matters.
func (p *Sampler) Stochastic() bool { return p.cfg.Stochastic() }

// Level is the level that the k-th step of a whole walk begins at.
func (p *Sampler) Level(k int) Level { return p.levels[len(p.levels)-1-k] }

// Sample turns x, N latents of noise, into samples in place.
func (p *Sampler) Sample(ctx context.Context, d Denoiser, x []float32, n int, noise Noise, h Hooks) error {
	return p.SampleLast(ctx, d, x, n, p.Steps(), noise, h)
}

// SampleLast makes only the last steps of a walk: x is then a latent brought to the level of the first of them
// (image-to-image, paper section 4.4; reference: stochastic_encode and decode). Multistep samplers begin as they begin a whole
// walk.
func (p *Sampler) SampleLast(ctx context.Context, d Denoiser, x []float32, n, last int, noise Noise, h Hooks) error {
	if last < 0 || last > p.Steps() || n < 1 || len(x)%n != 0 {
		return fmt.Errorf("sampler: %d of %d steps on %d numbers in %d samples", last, p.Steps(), len(x), n)
	}
	for _, b := range []*[]float32{&p.eps, &p.eps2, &p.x0, &p.noise, &p.start, &p.guess} {
		if len(*b) != len(x) {
			*b = make([]float32, len(x))
		}
	}
	if len(p.t) != n {
		p.t = make([]float32, n)
	}
	p.history = p.history[:0]
	w := walk{d: d, noise: noise, h: h}
	for k := range last {
		w.k, w.i = k, last-1-k
		if s, ok := d.(Stepper); ok {
			s.Step(k, last)
		}
		if err := p.step(ctx, &w, x); err != nil {
			return fmt.Errorf("sampler %s: step %d of %d (t=%g): %w", p.cfg.Name, k+1, last, p.levels[w.i].T, err)
		}
	}
	return nil
}

func (p *Sampler) step(ctx context.Context, w *walk, x []float32) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	l := p.levels[w.i]
	if w.h.Before != nil {
		if err := w.h.Before(w.k, l, x); err != nil {
			return err
		}
	}
	if err := p.predict(w.d, x, l, p.eps); err != nil {
		return err
	}
	if err := p.solve(p, w, x); err != nil {
		return err
	}
	if w.h.After != nil {
		return w.h.After(w.k, l, x, p.x0)
	}
	return nil
}

func (p *Sampler) predict(d Denoiser, x []float32, l Level, eps []float32) error {
	for i := range p.t {
		p.t[i] = l.T
	}
	return d.Predict(x, p.t, eps)
}

// remember adds a prediction to the history, which keeps so many.
func (p *Sampler) remember(v []float32, keep int) {
	if len(p.history) < keep {
		p.history = append(p.history, slices.Clone(v))
		return
	}
	oldest := p.history[0]
	copy(p.history, p.history[1:])
	copy(oldest, v)
	p.history[keep-1] = oldest
}
