package training

import (
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

// term is one number of a log line.
type term struct {
	name  string
	value float64
}

// learner is what is trained. Its numbers do not depend on threads.
type learner interface {
	// add computes the losses of batches, at most as many as there are workers, and collects their gradients.
	add(batches ...[]*example) ([][]term, error)
	// step makes a step of the optimiser with what was added.
	step(rate float64) ([]term, error)
	// check finds a parameter that is not finite.
	check() error
	// validate computes the validation losses of examples without changing anything; the first is the one that checkpoints are
	// compared by.
	validate(examples []*example) ([]term, error)
	// tensors and optimiser list what a checkpoint holds.
	tensors() ([]*weights.Tensor, error)
	optimiser() ([]*weights.Tensor, error)
	// restore goes on from a checkpoint.
	restore(model, optimiser *weights.File, steps int64) error
	// elems is how many numbers change.
	elems() int
	// memory is what computing a step takes beside them, in bytes.
	memory() (int64, error)
	close()
}
