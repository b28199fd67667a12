package sample

import "math"

// next is the level that a solver's step leads to.
func (p *Sampler) next(w *walk) Level {
	if w.i == 0 {
		return clean
	}
	return p.levels[w.i-1]
}

// estimate writes x_0 as predicted at a level, for solvers that combine such estimates.
func (p *Sampler) estimate(w *walk, l Level, x, eps, x0 []float32) error {
	a, s := float32(l.Alpha), float32(l.Sigma)
	for j := range x0 {
		x0[j] = (x[j] - float32(s*eps[j])) / a
	}
	if w.h.OnX0 != nil {
		return w.h.OnX0(x0)
	}
	return nil
}

// first is the step of first order from one level to another, a x + b x0. Euler's method in the noise per signal, DDIM and the
// first order of DPM-Solver++ are all this.
func first(from, to Level) (a, b float64) {
	a = to.Sigma / from.Sigma
	return a, to.Alpha - from.Alpha*a
}

// euler makes one step of Euler's method (Karras et al. 2022, algorithm 1 without its corrector).
func (p *Sampler) euler(w *walk, x []float32) error {
	l := p.levels[w.i]
	if err := p.estimate(w, l, x, p.eps, p.x0); err != nil {
		return err
	}
	a, b := first(l, p.next(w))
	combine(x, term{a, x}, term{b, p.x0})
	return nil
}

// eulerAncestral makes one step of Euler's method to a lower level than the next and adds noise up to that (k-diffusion:
// sample_euler_ancestral with eta 1). The last step adds none.
func (p *Sampler) eulerAncestral(w *walk, x []float32) error {
	l, next := p.levels[w.i], p.next(w)
	if err := p.estimate(w, l, x, p.eps, p.x0); err != nil {
		return err
	}
	from, to := l.ratio(), next.ratio()
	down := to * to / from
	a, b := next.Alpha/l.Alpha*down/from, next.Alpha*(1-down/from)
	if to == 0 {
		combine(x, term{a, x}, term{b, p.x0})
		return nil
	}
	if err := w.noise.Step(w.k, p.noise); err != nil {
		return err
	}
	up := next.Alpha * math.Sqrt(to*to-down*down)
	combine(x, term{a, x}, term{b, p.x0}, term{up * p.cfg.Temperature, p.noise})
	return nil
}
