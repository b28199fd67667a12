package sample

// Pair is a denoiser with and without its condition in one doubled call: x and t hold the batch twice, first for the
// unconditional prediction and then for the conditional one, and so does eps.
type Pair interface {
	PredictPair(x, t, eps []float32) error
}

// Guided is classifier-free guidance (Ho and Salimans 2021; paper, section 4.3): eps = eps_u + scale (eps_c - eps_u).
// A scale of 1 is no guidance, and callers should use the conditional denoiser alone.
type Guided struct {
	Pair  Pair
	Scale float64

	x, t, eps []float32
}

// Predict implements [Denoiser].
func (g *Guided) Predict(x, t, eps []float32) error {
	if len(g.x) != 2*len(x) {
		g.x, g.t, g.eps = make([]float32, 2*len(x)), make([]float32, 2*len(t)), make([]float32, 2*len(x))
	}
	copy(g.x[copy(g.x, x):], x)
	copy(g.t[copy(g.t, t):], t)
	if err := g.Pair.PredictPair(g.x, g.t, g.eps); err != nil {
		return err
	}
	u, c, s := g.eps[:len(x)], g.eps[len(x):], float32(g.Scale)
	for i := range eps {
		eps[i] = u[i] + float32(s*(c[i]-u[i]))
	}
	return nil
}
