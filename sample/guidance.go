package sample

import "math"

// Pair is a denoiser with and without its condition in one doubled call: x and t hold the batch twice, first for the
// unconditional prediction and then for the conditional one, and so does eps.
type Pair interface {
	PredictPair(x, t, eps []float32) error
}

// Guided is classifier-free guidance (Ho and Salimans 2021; paper, section 4.3): eps = eps_u + scale (eps_c - eps_u).
// A scale of 1 is no guidance, and callers should use the conditional denoiser alone.
//
// With a rescale of phi, the guided prediction of each sample is multiplied by phi std(eps_c)/std(eps) + 1 - phi, with standard
// deviations over channels and positions (Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed",
// section 3.4). Standard deviations are computed in float64, sample by sample.
//
// With an interval, guidance is applied at times with From <= t/T < To only (Kynkäänniemi et al. 2024, "Applying Guidance in a
// Limited Interval"). At other times Cond makes the conditional prediction alone, which is half of the work.
type Guided struct {
	Pair    Pair
	Scale   float64
	Rescale float64

	From, To float64  // 0, 0: at all times
	T        int      // length of the process
	Cond     Denoiser // needed with an interval

	x, t, eps []float32
}

// Predict implements [Denoiser]. All samples must be at one time, as samplers have them.
func (g *Guided) Predict(x, t, eps []float32) error {
	if f := float64(t[0]) / float64(g.T); (g.From != 0 || g.To != 0) && !(g.From <= f && f < g.To) {
		return g.Cond.Predict(x, t, eps)
	}
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
	if g.Rescale != 0 {
		for size, i := len(eps)/len(t), 0; i < len(eps); i += size {
			rescale(eps[i:i+size], c[i:i+size], g.Rescale)
		}
	}
	return nil
}

// rescale brings the standard deviation of one sample's prediction towards that of another.
func rescale(eps, like []float32, phi float64) {
	d := deviation(eps)
	if d == 0 {
		return
	}
	f := float32(phi*deviation(like)/d + 1 - phi)
	for i := range eps {
		eps[i] *= f
	}
}

// deviation is the standard deviation.
func deviation(v []float32) float64 {
	var mean, sum float64
	for _, x := range v {
		mean += float64(x)
	}
	mean /= float64(len(v))
	for _, x := range v {
		d := float64(x) - mean
		sum += float64(d * d)
	}
	return math.Sqrt(sum / float64(len(v)))
}
