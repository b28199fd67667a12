package train

import "github.com/ldm-batch/ldm-batch/internal/exitcode"

// Gradients are those of all parameters, added up over batches.
type Gradients interface {
	ScaleGrad(f float64, names ...string)
	// GradNorm is the Euclidean norm of all together; a gradient that is not finite is an error.
	GradNorm(names ...string) (float64, error)
}

// Mean makes sums over batches their mean, with a norm of at most limit (PyTorch: clip_grad_norm_); a limit of 0 is none. It returns the
// norm before that.
func Mean(g Gradients, batches int, limit float64) (norm float64, err error) {
	if batches == 0 {
		return 0, exitcode.Errorf(exitcode.Internal, "a step without a batch")
	}
	if batches > 1 {
		g.ScaleGrad(1 / float64(batches))
	}
	if norm, err = g.GradNorm(); err != nil {
		return norm, err
	}
	if f := clipFactor(norm, limit); f < 1 {
		g.ScaleGrad(f)
	}
	return norm, nil
}

// clipFactor is what gradients of a norm are multiplied by.
func clipFactor(norm, limit float64) float64 {
	if limit <= 0 {
		return 1
	}
	return min(1, limit/(norm+1e-6))
}
