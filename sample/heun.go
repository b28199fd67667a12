package sample

// heun makes one step of Heun's method (Karras et al. 2022, algorithm 1 without noise): the mean of the slopes at the ends of
// an Euler step, the second of which takes another prediction. The last step is Euler's.
func (p *Sampler) heun(w *walk, x []float32) error {
	l, next := p.levels[w.i], p.next(w)
	if err := p.estimate(w, l, x, p.eps, p.x0); err != nil {
		return err
	}
	a, b := first(l, next)
	if w.i == 0 {
		combine(x, term{a, x}, term{b, p.x0})
		return nil
	}
	combine(p.guess, term{a, x}, term{b, p.x0})
	if err := p.predict(w.d, p.guess, next, p.eps); err != nil {
		return err
	}
	begin := p.start
	copy(begin, p.x0)
	if err := p.estimate(w, next, p.guess, p.eps, p.x0); err != nil {
		return err
	}
	// With y = x/alpha and s the noise per signal: y' = y + (s'-s) ((y-x0)/s + (guess-x0')/s') / 2.
	s, t := l.ratio(), next.ratio()
	half := (t - s) / (2 * t)
	combine(x, term{a, x}, term{next.Alpha * (half - (t-s)/s), begin}, term{-next.Alpha * half, p.x0})
	return nil
}
