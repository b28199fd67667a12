package sample

import "math"

// ddpm makes one ancestral step (Ho et al. 2020; reference: p_sample): the mean of q(x_{t-1} | x_t, x_0) without clipping,
// and noise of the clipped posterior variance except at time 0.
func (p *Sampler) ddpm(w *walk, x []float32) error {
	s, t := p.sched, w.i // every time is visited
	r, m, c1, c2 := s.sqrtRecipAlphasCumprod[t], s.sqrtRecipm1AlphasCumprod[t], s.coef1[t], s.coef2[t]
	for j := range x {
		p.x0[j] = float32(r*x[j]) - float32(m*p.eps[j])
	}
	if w.h.OnX0 != nil {
		if err := w.h.OnX0(p.x0); err != nil {
			return err
		}
	}
	for j := range x {
		x[j] = float32(c1*p.x0[j]) + float32(c2*x[j])
	}
	if t == 0 {
		return nil
	}
	if err := w.noise.Step(w.k, p.noise); err != nil {
		return err
	}
	sigma, temp := float32(math.Exp(float64(0.5*s.logVariance[t]))), float32(p.cfg.Temperature)
	for j := range x {
		x[j] += float32(sigma * float32(p.noise[j]*temp))
	}
	return nil
}
