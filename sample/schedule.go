package sample

import (
	"fmt"
	"math"
)

// ScheduleConfig describes a forward diffusion process.
type ScheduleConfig struct {
	Kind        string  // linear (in the square root of beta), cosine, sqrt_linear, sqrt
	Timesteps   int     // length of the process, 1000 in every released model
	LinearStart float64 // first beta
	LinearEnd   float64 // last beta
	CosineS     float64 // offset of the cosine schedule; 8e-3 when zero
}

// ScheduleKinds lists the accepted values of ScheduleConfig.Kind.
var ScheduleKinds = []string{"linear", "cosine", "sqrt_linear", "sqrt"}

// Validate checks names and ranges.
func (c ScheduleConfig) Validate() error {
	if c.Timesteps < 1 || c.Timesteps > 1<<20 {
		return fmt.Errorf("timesteps: %d is not in 1..%d", c.Timesteps, 1<<20)
	}
	switch c.Kind {
	case "linear", "sqrt_linear", "sqrt":
		if !(c.LinearStart > 0 && c.LinearStart < 1 && c.LinearEnd > 0 && c.LinearEnd < 1) {
			return fmt.Errorf("linear_start, linear_end: %g, %g are not both in (0, 1)", c.LinearStart, c.LinearEnd)
		}
	case "cosine":
		if c.CosineS < 0 {
			return fmt.Errorf("cosine_s: %g is negative", c.CosineS)
		}
	default:
		return fmt.Errorf("beta_schedule: %q is not one of %v", c.Kind, ScheduleKinds)
	}
	return nil
}

// Schedule holds the tables of the forward process and of its posterior, all indexed by time 0..T-1 (paper, appendix B;
// reference: register_schedule with v_posterior 0).
type Schedule struct {
	// Betas and the tables derived from them, in float64.
	Betas, AlphasCumprod         []float64
	PosteriorVariance            []float64
	PosteriorLogVarianceClipped  []float64
	PosteriorCoef1, PosteriorCo2 []float64

	// The same tables rounded once to float32, as a checkpoint stores them; samplers use these.
	alphasCumprod, sqrtAlphasCumprod, sqrtOneMinusAlphasCumprod []float32
	sqrtRecipAlphasCumprod, sqrtRecipm1AlphasCumprod            []float32
	logVariance, coef1, coef2                                   []float32
}

// Len is the number of timesteps T.
func (s *Schedule) Len() int { return len(s.Betas) }

// NewSchedule builds the tables.
func NewSchedule(c ScheduleConfig) (*Schedule, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("schedule: %w", err)
	}
	n := c.Timesteps
	betas := make([]float64, n)
	switch c.Kind {
	case "linear":
		linspace(betas, math.Sqrt(c.LinearStart), math.Sqrt(c.LinearEnd))
		for i, b := range betas {
			betas[i] = b * b
		}
	case "sqrt_linear":
		linspace(betas, c.LinearStart, c.LinearEnd)
	case "sqrt":
		linspace(betas, c.LinearStart, c.LinearEnd)
		for i, b := range betas {
			betas[i] = math.Sqrt(b)
		}
	case "cosine":
		off := c.CosineS
		if off == 0 {
			off = 8e-3
		}
		bar := func(i int) float64 {
			// Betas are one minus a ratio close to one, so the last bit of the cosine matters: near zero take it from the sine.
			x := (float64(i)/float64(n) + off) / (1 + off) * math.Pi / 2
			v := math.Cos(x)
			if h := math.Sin(x / 2); x < 0.7 {
				v = 1 - 2*h*h
			}
			return v * v
		}
		for i := range betas {
			betas[i] = min(max(1-bar(i+1)/bar(0)/(bar(i)/bar(0)), 0), 0.999)
		}
	}
	return newTables(betas), nil
}

// linspace fills dst with evenly spaced values, each half counted from its own end so that both ends are exact.
func linspace(dst []float64, from, to float64) {
	n := len(dst)
	if n == 1 {
		dst[0] = from
		return
	}
	step := (to - from) / float64(n-1)
	for i := range dst {
		if i < n/2 {
			dst[i] = from + step*float64(i)
		} else {
			dst[i] = to - step*float64(n-1-i)
		}
	}
}

func newTables(betas []float64) *Schedule {
	n := len(betas)
	s := &Schedule{Betas: betas}
	for _, t := range []*[]float64{&s.AlphasCumprod, &s.PosteriorVariance, &s.PosteriorLogVarianceClipped, &s.PosteriorCoef1, &s.PosteriorCo2} {
		*t = make([]float64, n)
	}
	bar := 1.0
	for i, b := range betas {
		prev := bar
		bar *= 1 - b
		s.AlphasCumprod[i] = bar
		s.PosteriorVariance[i] = b * (1 - prev) / (1 - bar)
		s.PosteriorLogVarianceClipped[i] = math.Log(max(s.PosteriorVariance[i], 1e-20))
		s.PosteriorCoef1[i] = b * math.Sqrt(prev) / (1 - bar)
		s.PosteriorCo2[i] = (1 - prev) * math.Sqrt(1-b) / (1 - bar)
	}
	s.round()
	return s
}

func (s *Schedule) round() {
	table := func(f func(i int) float64) []float32 {
		t := make([]float32, s.Len())
		for i := range t {
			t[i] = float32(f(i))
		}
		return t
	}
	bar := s.AlphasCumprod
	s.alphasCumprod = table(func(i int) float64 { return bar[i] })
	s.sqrtAlphasCumprod = table(func(i int) float64 { return math.Sqrt(bar[i]) })
	s.sqrtOneMinusAlphasCumprod = table(func(i int) float64 { return math.Sqrt(1 - bar[i]) })
	s.sqrtRecipAlphasCumprod = table(func(i int) float64 { return math.Sqrt(1 / bar[i]) })
	s.sqrtRecipm1AlphasCumprod = table(func(i int) float64 { return math.Sqrt(1/bar[i] - 1) })
	s.logVariance = table(func(i int) float64 { return s.PosteriorLogVarianceClipped[i] })
	s.coef1 = table(func(i int) float64 { return s.PosteriorCoef1[i] })
	s.coef2 = table(func(i int) float64 { return s.PosteriorCo2[i] })
}

// UseBuffers replaces float32 tables by the buffers of a checkpoint, which win over recomputed values as they do when the
// reference loads a checkpoint. Buffers that are absent keep the computed table.
func (s *Schedule) UseBuffers(lookup func(name string) ([]float32, bool)) error {
	for name, t := range map[string]*[]float32{
		"alphas_cumprod":                 &s.alphasCumprod,
		"sqrt_alphas_cumprod":            &s.sqrtAlphasCumprod,
		"sqrt_one_minus_alphas_cumprod":  &s.sqrtOneMinusAlphasCumprod,
		"sqrt_recip_alphas_cumprod":      &s.sqrtRecipAlphasCumprod,
		"sqrt_recipm1_alphas_cumprod":    &s.sqrtRecipm1AlphasCumprod,
		"posterior_log_variance_clipped": &s.logVariance,
		"posterior_mean_coef1":           &s.coef1,
		"posterior_mean_coef2":           &s.coef2,
	} {
		b, ok := lookup(name)
		if !ok {
			continue
		}
		if len(b) != s.Len() {
			return fmt.Errorf("schedule buffer %s: %d entries, the configuration has %d timesteps", name, len(b), s.Len())
		}
		*t = b
	}
	return nil
}
