package training

import (
	"fmt"
	"slices"

	classification "github.com/ldm-batch/ldm-batch/eval/training"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn/classifier"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/io/dataset"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// classifierLearner trains the network of features and classes.
type classifierLearner struct {
	config  classifier.Config
	trainer *classification.Trainer
	batch   int
	budget  int64 // of activations
}

func newClassifierLearner(c classifier.Config, job *spec.Spec, b plan.Backend) (*classifierLearner, error) {
	t, err := classification.New(classification.Options{Config: c, WeightDecay: job.Train.WeightDecay, Clip: job.Train.Clip, Memory: int64(job.Limits.Memory), Backend: b})
	return &classifierLearner{config: c, trainer: t, batch: job.Train.Batch, budget: int64(job.Limits.Memory)}, err
}

// openClassifier readies the stage classifier.
func (p *Prepared) openClassifier(checkpoint *weights.File) error {
	s := &p.spec.Spec
	c, err := classifier.ParseConfig(p.config.Path, p.yaml)
	if err != nil {
		return fmt.Errorf("model: %w", err)
	}
	if s.Preprocess.Size.H != c.Size || s.Preprocess.Size.W != c.Size {
		return exitcode.Errorf(exitcode.Usage, "spec.preprocess.size: %v is not %d, the size of this model's images", s.Preprocess.Size, c.Size)
	}
	p.recipe = &recipe{job: s, condition: class, classes: len(c.Classes)}
	if err := p.recipe.images(); err != nil {
		return err
	}
	l, err := newClassifierLearner(c, s, p.backend)
	if err != nil {
		return err
	}
	p.learner = l
	p.onClose(l.close)
	if checkpoint == nil {
		l.trainer.Initialize(s.Compute.Seed)
		return nil
	}
	return l.trainer.Load(checkpoint)
}

// classNames checks that the labels of a data set mean what those of the model mean.
func (l *classifierLearner) classNames(f dataset.Features) error {
	if f.ClassNames != nil && !slices.Equal(f.ClassNames, l.config.Classes) {
		return exitcode.Errorf(exitcode.Data, "classes are %q, those of the model %q", f.ClassNames, l.config.Classes)
	}
	return nil
}

func (l *classifierLearner) close() { l.trainer.Close() }

func (l *classifierLearner) add(batches ...[]*example) ([][]term, error) {
	var terms [][]term
	for _, examples := range batches {
		r, err := l.trainer.Add(images(examples), labels(examples))
		if err != nil {
			return nil, err
		}
		terms = append(terms, []term{{"loss", r.Loss}, {"accuracy", float64(r.Right) / float64(len(examples))}})
	}
	return terms, nil
}

func labels(examples []*example) []int64 {
	list := make([]int64, len(examples))
	for i, e := range examples {
		list[i] = e.label
	}
	return list
}

func (l *classifierLearner) step(rate float64) ([]term, error) {
	norm, err := l.trainer.Step(rate)
	return []term{{"grad_norm", norm}}, err
}

func (l *classifierLearner) check() error { return l.trainer.Check() }

func (l *classifierLearner) validate(examples []*example) ([]term, error) {
	loss, right := 0.0, 0
	err := each(examples, l.batch, func(part []*example) error {
		r, err := l.trainer.Validate(images(part), labels(part))
		loss, right = loss+r.Loss*float64(len(part)), right+r.Right
		return err
	})
	n := float64(len(examples))
	return []term{{"val/loss", loss / n}, {"val/accuracy", float64(right) / n}}, err
}

func (l *classifierLearner) tensors() ([]*weights.Tensor, error)   { return l.trainer.Model() }
func (l *classifierLearner) optimiser() ([]*weights.Tensor, error) { return l.trainer.Optimiser() }

func (l *classifierLearner) restore(model, optimiser *weights.File, steps int64) error {
	return l.trainer.Restore(model, optimiser, steps)
}

func (l *classifierLearner) elems() int { return l.trainer.Params().Elems() }

func (l *classifierLearner) memory() (int64, error) {
	p, err := l.config.Loss(l.batch, true)
	if err != nil {
		return 0, err
	}
	o := &engine.Objective{Program: p, Losses: []string{"loss"}, Values: []string{"logits"}}
	for _, x := range l.config.Params() {
		o.Grads = append(o.Grads, x.Name)
	}
	m, err := engine.MemoryOf(o, l.budget)
	return m.Total(), err
}
