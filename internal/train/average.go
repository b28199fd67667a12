package train

// AverageDecay is the decay of a moving average at its n-th update, counted from 1: it starts low, so that the average follows
// the first steps, and grows to the decay that is asked for (reference: LitEma, (1+n)/(10+n)).
func AverageDecay(decay float64, n int64) float64 {
	return min(decay, float64(1+n)/float64(10+n))
}
