package training

import (
	first "github.com/ldm-batch/ldm-batch/encode/training"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/lpips"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
	"github.com/ldm-batch/ldm-batch/sample"
	diffusion "github.com/ldm-batch/ldm-batch/sample/training"
)

// firstStageLearner trains an autoencoder with its discriminator. Each batch is a step of both.
type firstStageLearner struct {
	trainer *first.Trainer
	recipe  *recipe
	seed    uint64
	batch   int
	pending []*example
	assumed bool // the configuration names no loss
}

func newFirstStageLearner(c *nn.FirstStageConfig, perceptual *lpips.Model, job *spec.Spec, r *recipe, b plan.Backend) (*firstStageLearner, error) {
	if job.Train.Accumulate > 1 {
		return nil, exitcode.Errorf(exitcode.Usage, "spec.train.accumulate: stage first-stage makes a step of both optimisers with every batch")
	}
	if job.Train.Clip > 0 {
		return nil, exitcode.Errorf(exitcode.Usage, "spec.train.clip: has no meaning for stage first-stage")
	}
	loss, ok, err := first.LossOf(*c)
	if err != nil {
		return nil, err
	}
	if !ok {
		loss = first.DefaultLoss()
	}
	t, err := first.New(first.Options{Stage: *c, Loss: loss, Perceptual: perceptual, Backend: b, Memory: int64(job.Limits.Memory)})
	if err != nil {
		return nil, err
	}
	return &firstStageLearner{trainer: t, recipe: r, seed: job.Compute.Seed, batch: job.Train.Batch, assumed: !ok}, nil
}

func (l *firstStageLearner) close() { l.trainer.Close() }

// add keeps the batch: both passes are one with their steps.
func (l *firstStageLearner) add(batches ...[]*example) ([][]term, error) {
	l.pending = batches[0]
	return make([][]term, len(batches)), nil
}

func (l *firstStageLearner) step(rate float64) ([]term, error) {
	size, n := l.recipe.config.Size, len(l.pending)
	log, err := l.trainer.Step(images(l.pending), n, size.H, size.W, func(pass int, dst []float32) {
		each := len(dst) / n
		for i, e := range l.pending {
			sample.Normal(l.seed, diffusion.Key(e.number), sample.StreamPosterior+uint32(pass)*diffusion.StreamSecondPass, dst[i*each:(i+1)*each])
		}
	}, first.Rates{Stage: rate, Discriminator: rate})
	return termsOf("", log), err
}

func termsOf(prefix string, log first.Log) []term {
	var terms []term
	for _, t := range log {
		terms = append(terms, term{prefix + t.Name, t.Value})
	}
	return terms
}

func (l *firstStageLearner) elems() int { return l.trainer.Params().Elems() }

func (l *firstStageLearner) memory() (int64, error) {
	size := l.recipe.config.Size
	return l.trainer.Memory(l.batch, size.H, size.W)
}

func (l *firstStageLearner) check() error { return l.trainer.Check() }

func (l *firstStageLearner) validate(examples []*example) ([]term, error) {
	size := l.recipe.config.Size
	var names []string
	sums, n := map[string]float64{}, 0
	err := each(examples, l.batch, func(part []*example) error {
		v, err := l.trainer.Validate(images(part), len(part), size.H, size.W)
		if err != nil {
			return err
		}
		for _, t := range v.Log {
			if _, ok := sums[t.Name]; !ok {
				names = append(names, t.Name)
			}
			sums[t.Name] += t.Value * float64(len(part))
		}
		n += len(part)
		return nil
	})
	var terms []term
	for _, name := range names {
		t := term{"val/" + name, sums[name] / float64(n)}
		if name == "rec_loss" { // what the reference's checkpoints are compared by
			terms = append([]term{t}, terms...)
		} else {
			terms = append(terms, t)
		}
	}
	return terms, err
}

func (l *firstStageLearner) tensors() ([]*weights.Tensor, error)   { return l.trainer.Model() }
func (l *firstStageLearner) optimiser() ([]*weights.Tensor, error) { return l.trainer.Optimiser() }

func (l *firstStageLearner) restore(model, optimiser *weights.File, steps int64) error {
	return l.trainer.Restore(model, optimiser, steps)
}
