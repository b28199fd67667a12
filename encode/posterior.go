package encode

import "math"

// std is the standard deviation of a posterior with the given logarithm of the variance (paper, appendix G; reference:
// DiagonalGaussianDistribution).
func std(logvar float32) float32 {
	return float32(math.Exp(float64(0.5 * min(max(logvar, -30), 20))))
}
