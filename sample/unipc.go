package sample

import "math"

// unipc makes one step of UniPC of order 2 with B2(h) = e^h - 1 on estimates of x_0 (Zhao et al. 2023; diffusers: solver_type
// bh2): a step of DPM-Solver++(2M), after the last step has been corrected with the prediction at its end. The correction takes
// no prediction of its own, and the network is not asked again at the corrected latent.
func (p *Sampler) unipc(w *walk, x []float32) error {
	if err := p.estimate(w, p.levels[w.i], x, p.eps, p.x0); err != nil {
		return err
	}
	if w.k > 0 {
		p.correct(w, x)
	}
	copy(p.start, x)
	p.advance(w, x, x)
	copy(p.guess, x)
	p.remember(p.x0, 2)
	return nil
}

// correct makes the last step again, with p.x0 as the estimate at its end. What a hook has changed since, such as a known region,
// stays as the hook made it.
func (p *Sampler) correct(w *walk, x []float32) {
	from, to := p.levels[w.i+1], p.levels[w.i]
	h := to.lambda() - from.lambda()
	a, step := to.Sigma/from.Sigma, -to.Alpha*math.Expm1(-h)
	m0 := p.history[len(p.history)-1]
	terms := []term{{a, p.start}, {step / 2, m0}, {step / 2, p.x0}}
	if len(p.history) == 2 {
		// The quadratic through the estimates at the two levels and the one before, r steps away: weights of their differences
		// from m0, which solve w + v = b1, r w + v = b2 (Zhao et al., equation 11).
		r := (p.levels[w.i+2].lambda() - from.lambda()) / h
		phi := math.Expm1(-h)
		b1 := (phi/-h - 1) / phi
		b2 := 2 * ((phi/-h-1)/-h - .5) / phi
		u := (b1 - b2) / (1 - r)
		v := b1 - u
		terms = []term{{a, p.start}, {step * (1 - u/r - v), m0}, {step * u / r, p.history[0]}, {step * v, p.x0}}
	}
	corrected := p.noise
	combine(corrected, terms...)
	for j, g := range p.guess {
		if x[j] == g {
			x[j] = corrected[j]
		}
	}
}
