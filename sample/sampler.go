package sample

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// Config chooses a sampler and its settings.
type Config struct {
	Name        string  // ddpm, ddim or plms
	Steps       int     // DDIM and PLMS: how many; DDPM: the time to start from, 0 for all
	Eta         float64 // DDIM: 0 deterministic, 1 ancestral (paper, section 4.1)
	Guidance    float64 // classifier-free guidance scale; 1 means none
	Spacing     string  // uniform or quad
	Temperature float64 // factor of the sampler's noise

	// ReuseEvery computes the deep part of the U-Net in every N-th step only, which is an approximation; 0 and 1 compute it in
	// every step. ReuseBranch is the skip connection below which it lies, 0 the outermost.
	ReuseEvery, ReuseBranch int
}

// DefaultConfig is DDIM with 50 deterministic steps and no guidance.
func DefaultConfig() Config {
	return Config{Name: "ddim", Steps: 50, Guidance: 1, Spacing: "uniform", Temperature: 1}
}

// Names lists the samplers.
var Names = []string{"ddim", "ddpm", "plms"}

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
	case c.Name == "plms" && c.Eta != 0:
		return fmt.Errorf("eta: plms needs 0, not %g", c.Eta)
	case c.Name == "ddpm" && c.Eta != 0:
		return fmt.Errorf("eta: ddpm has none; it is ddim's, where 1 is ancestral")
	case !slices.Contains(Spacings, c.Spacing):
		return fmt.Errorf("spacing: %q is not one of %v", c.Spacing, Spacings)
	case !(c.Temperature >= 0) || math.IsInf(c.Temperature, 0):
		return fmt.Errorf("temperature: %g is not a number of at least 0", c.Temperature)
	case c.ReuseEvery < 0:
		return fmt.Errorf("reuse.every: %d is negative", c.ReuseEvery)
	case c.ReuseBranch < 0:
		return fmt.Errorf("reuse.branch: %d is negative", c.ReuseBranch)
	case math.IsNaN(c.Guidance) || math.IsInf(c.Guidance, 0):
		return fmt.Errorf("guidance: %g is not a number", c.Guidance)
	}
	return nil
}

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
	// OnX0 may change the estimate of x_0 in place, for instance to its nearest code (reference: quantize_denoised).
	OnX0 func(x0 []float32) error
	// Before runs before a step at time t; it may change x in place, for instance to keep a known region.
	Before func(k, t int, x []float32) error
	// After sees the latent and the estimate of x_0 after a step.
	After func(k, t int, x, x0 []float32) error
}

// Sampler walks a schedule backwards. It keeps scratch between calls and is not safe for concurrent use.
type Sampler struct {
	cfg   Config
	sched *Schedule
	times []int // ascending
	steps []ddimStep

	eps, eps2, x0, noise, t []float32
	history                 [][]float32
}

// New checks the configuration against the schedule.
func New(c Config, s *Schedule) (*Sampler, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("sampler: %w", err)
	}
	p := &Sampler{cfg: c, sched: s}
	if c.Name == "ddpm" {
		n := c.Steps
		if n == 0 {
			n = s.Len()
		}
		if n > s.Len() {
			return nil, fmt.Errorf("sampler: steps: %d is more than the process has, %d", n, s.Len())
		}
		for t := range n {
			p.times = append(p.times, t)
		}
		return p, nil
	}
	ts, err := Timesteps(c.Spacing, c.Steps, s.Len())
	if err != nil {
		return nil, fmt.Errorf("sampler: %w", err)
	}
	p.times, p.steps = ts, ddimSteps(s, ts, c.Eta)
	return p, nil
}

// Steps is the number of steps that a whole walk makes; it can differ from the configured number, see [Timesteps].
func (p *Sampler) Steps() int { return len(p.times) }

// Stochastic says whether steps draw noise that matters.
func (p *Sampler) Stochastic() bool { return p.cfg.Name == "ddpm" || p.cfg.Eta > 0 }

// Time is the time of the k-th step of a whole walk.
func (p *Sampler) Time(k int) int { return p.times[len(p.times)-1-k] }

// Sample turns x, N latents of noise, into samples in place.
func (p *Sampler) Sample(ctx context.Context, d Denoiser, x []float32, n int, noise Noise, h Hooks) error {
	return p.SampleLast(ctx, d, x, n, p.Steps(), noise, h)
}

// SampleLast makes only the last steps of a walk: x is then a latent brought to the time of the first of them
// (image-to-image, paper section 4.4; reference: stochastic_encode and decode).
func (p *Sampler) SampleLast(ctx context.Context, d Denoiser, x []float32, n, last int, noise Noise, h Hooks) error {
	if last < 0 || last > p.Steps() || n < 1 || len(x)%n != 0 {
		return fmt.Errorf("sampler: %d of %d steps on %d numbers in %d samples", last, p.Steps(), len(x), n)
	}
	for _, b := range []*[]float32{&p.eps, &p.eps2, &p.x0, &p.noise} {
		if len(*b) != len(x) {
			*b = make([]float32, len(x))
		}
	}
	if len(p.t) != n {
		p.t = make([]float32, n)
	}
	p.history = p.history[:0]
	for k := range last {
		i := last - 1 - k
		if s, ok := d.(Stepper); ok {
			s.Step(k, last)
		}
		if err := p.step(ctx, d, x, k, i, noise, h); err != nil {
			return fmt.Errorf("sampler %s: step %d of %d (t=%d): %w", p.cfg.Name, k+1, last, p.times[i], err)
		}
	}
	return nil
}

func (p *Sampler) step(ctx context.Context, d Denoiser, x []float32, k, i int, noise Noise, h Hooks) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	t := p.times[i]
	if h.Before != nil {
		if err := h.Before(k, t, x); err != nil {
			return err
		}
	}
	if err := p.predict(d, x, t, p.eps); err != nil {
		return err
	}
	var err error
	switch p.cfg.Name {
	case "ddpm":
		err = p.ddpm(x, k, t, noise, h)
	case "ddim":
		err = p.ddim(x, p.eps, k, i, noise, h)
	case "plms":
		err = p.plms(d, x, k, i, h)
	}
	if err != nil {
		return err
	}
	if h.After != nil {
		return h.After(k, t, x, p.x0)
	}
	return nil
}

func (p *Sampler) predict(d Denoiser, x []float32, t int, eps []float32) error {
	for i := range p.t {
		p.t[i] = float32(t)
	}
	return d.Predict(x, p.t, eps)
}
