package sample

import "math"

// second is the multistep step of second order from one level to another, a x + b m0 + c m1, with the estimates of x_0 at this
// level and at the one before (Lu et al. 2022, "DPM-Solver++", algorithm 2; diffusers: solver_type midpoint).
func second(before, from, to Level) (a, b, c float64) {
	h := to.lambda() - from.lambda()
	r := (from.lambda() - before.lambda()) / h
	step := -to.Alpha * math.Expm1(-h)
	return to.Sigma / from.Sigma, step * (1 + 1/(2*r)), -step / (2 * r)
}

// dpmpp2M makes one step of DPM-Solver++(2M). The first step and the last, which leads to level 0, are of first order.
func (p *Sampler) dpmpp2M(w *walk, x []float32) error {
	if err := p.estimate(w, p.levels[w.i], x, p.eps, p.x0); err != nil {
		return err
	}
	p.advance(w, x, x)
	p.remember(p.x0, 1)
	return nil
}

// advance makes the step from x and p.x0, of second order where there is an earlier estimate and a level above 0 to go to.
func (p *Sampler) advance(w *walk, dst, x []float32) {
	l := p.levels[w.i]
	if w.i == 0 || len(p.history) == 0 {
		a, b := first(l, p.next(w))
		combine(dst, term{a, x}, term{b, p.x0})
		return
	}
	a, b, c := second(p.levels[w.i+1], l, p.levels[w.i-1])
	combine(dst, term{a, x}, term{b, p.x0}, term{c, p.history[len(p.history)-1]})
}
