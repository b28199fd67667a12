package train

// AverageDecay is the decay of a moving average at its n-th update, counted from 1: it starts low, so that the average follows
// the first steps, and grows to the decay that is asked for (reference: LitEma, (1+n)/(10+n)).
func AverageDecay(decay float64, n int64) float64 {
	return min(decay, float64(1+n)/float64(10+n))
}

// ClipFactor is what gradients of a Euclidean norm are multiplied by so that the norm is at most limit (PyTorch:
// clip_grad_norm_). A limit of 0 is none.
func ClipFactor(norm, limit float64) float64 {
	if limit <= 0 {
		return 1
	}
	return min(1, limit/(norm+1e-6))
}
