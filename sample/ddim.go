package sample

import "math"

// ddimStep holds the coefficients of one DDIM step, rounded to float32 where the reference rounds.
type ddimStep struct {
	sqrtA, sqrtOneMinusA, sqrtPrev, direction, sigma float32
}

// Params are the tables of a DDIM walk (reference: make_ddim_sampling_parameters). alphas_prev of the first time is the
// first entry of the process, not 1. Starting from the float32 table is what the reference does.
func ddimParams(s *Schedule, times []int, eta float64) (alphas, prev, sigmas []float64) {
	for i, t := range times {
		a, p := float64(s.alphasCumprod[t]), float64(s.alphasCumprod[0])
		if i > 0 {
			p = float64(s.alphasCumprod[times[i-1]])
		}
		alphas, prev = append(alphas, a), append(prev, p)
		sigmas = append(sigmas, eta*math.Sqrt((1-p)/(1-a)*(1-a/p)))
	}
	return alphas, prev, sigmas
}

func ddimSteps(s *Schedule, times []int, eta float64) []ddimStep {
	alphas, prev, sigmas := ddimParams(s, times, eta)
	steps := make([]ddimStep, len(times))
	for i := range steps {
		a, p, sg := float32(alphas[i]), float32(prev[i]), float32(sigmas[i])
		steps[i] = ddimStep{
			sqrtA:         sqrt32(a),
			sqrtOneMinusA: sqrt32(1 - a),
			sqrtPrev:      sqrt32(p),
			direction:     sqrt32(1 - p - float32(sg*sg)),
			sigma:         sg,
		}
	}
	return steps
}

func sqrt32(v float32) float32 { return float32(math.Sqrt(float64(v))) }

// ddim makes one step (Song et al. 2021, equation 12; reference: p_sample_ddim). Noise is added on the last step too, as there.
func (p *Sampler) ddim(w *walk, x []float32) error { return p.ddimWith(w, x, p.eps) }

// ddimWith makes the step with another prediction of the noise.
func (p *Sampler) ddimWith(w *walk, x, eps []float32) error {
	c := p.steps[w.i]
	for j := range x {
		p.x0[j] = (x[j] - float32(c.sqrtOneMinusA*eps[j])) / c.sqrtA
	}
	if w.h.OnX0 != nil {
		if err := w.h.OnX0(p.x0); err != nil {
			return err
		}
	}
	if c.sigma == 0 {
		for j := range x {
			x[j] = float32(c.sqrtPrev*p.x0[j]) + float32(c.direction*eps[j])
		}
		return nil
	}
	if err := w.noise.Step(w.k, p.noise); err != nil {
		return err
	}
	temp := float32(p.cfg.Temperature)
	for j := range x {
		x[j] = float32(c.sqrtPrev*p.x0[j]) + float32(c.direction*eps[j]) + float32(float32(c.sigma*p.noise[j])*temp)
	}
	return nil
}
