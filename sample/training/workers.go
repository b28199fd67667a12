package training

import (
	"fmt"
	"sync"

	"github.com/ldm-batch/ldm-batch/internal/engine"
)

// worker computes batches with gradients of its own, or with those of the trainer when it is the only one.
type worker struct {
	objective *Objective
	params    *engine.Params
	training  *engine.Training
}

// together computes batches, one on each worker, and gathers their gradients in order.
func (t *Trainer) together(batches []Batch) ([]Losses, error) {
	losses, errs := make([]Losses, len(batches)), make([]error, len(batches))
	if len(batches) == 1 {
		losses[0], errs[0] = t.workers[0].add(batches[0])
	} else {
		var wg sync.WaitGroup
		for i, b := range batches {
			wg.Go(func() { losses[i], errs[i] = t.workers[i].add(b) })
		}
		wg.Wait()
	}
	for i := range batches {
		if w := t.workers[i]; w.params != t.params {
			t.params.Gather(w.params) // after an error too: Check says which gradient is not finite
		}
	}
	for _, err := range errs { // that of the first batch
		if err != nil {
			return nil, err
		}
	}
	return losses, nil
}

// add computes the loss of a batch and its gradient.
func (w *worker) add(b Batch) (Losses, error) {
	step, err := w.training.Compile(fmt.Sprint("train ", b.Size), func() (*engine.Objective, error) { return w.objective.Graph(b.Size, true) })
	if err != nil {
		return Losses{}, err
	}
	return w.run(step, b)
}

func (w *worker) run(step *engine.Step, b Batch) (Losses, error) {
	feed, err := w.objective.Feed(b)
	if err != nil {
		return Losses{}, err
	}
	loss, err := step.Run(feed)
	if err != nil {
		return Losses{}, err
	}
	return w.objective.Losses(loss[0], step.Value("errors"))
}
