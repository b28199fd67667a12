package sample

// plms makes one pseudo linear multistep step (Liu et al. 2022; reference: p_sample_plms): the first step averages the
// prediction with one made at the next time, later ones extrapolate from up to three earlier predictions.
func (p *Sampler) plms(w *walk, x []float32) error {
	e := p.eps
	combined := p.eps2
	old := p.history // newest last
	switch len(old) {
	case 0:
		trial := append([]float32(nil), x...)
		if err := p.ddimWith(w, trial, e); err != nil {
			return err
		}
		if err := p.predict(w.d, trial, p.levels[max(w.i-1, 0)], combined); err != nil {
			return err
		}
		for j := range combined {
			combined[j] = (e[j] + combined[j]) / 2
		}
	case 1:
		a := old[0]
		for j := range combined {
			combined[j] = (float32(3*e[j]) - a[j]) / 2
		}
	case 2:
		a, b := old[1], old[0]
		for j := range combined {
			combined[j] = (float32(23*e[j]) - float32(16*a[j]) + float32(5*b[j])) / 12
		}
	default:
		a, b, c := old[2], old[1], old[0]
		for j := range combined {
			combined[j] = (float32(55*e[j]) - float32(59*a[j]) + float32(37*b[j]) - float32(9*c[j])) / 24
		}
	}
	if err := p.ddimWith(w, x, combined); err != nil {
		return err
	}
	p.remember(e, 3)
	return nil
}
