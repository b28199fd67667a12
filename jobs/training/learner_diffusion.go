package training

import (
	"fmt"
	"slices"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
	"github.com/ldm-batch/ldm-batch/sample"
	diffusion "github.com/ldm-batch/ldm-batch/sample/training"
)

// diffusionLearner trains a latent diffusion model. What is frozen, the first stage and perhaps the conditioner, runs beside.
type diffusionLearner struct {
	model   *nn.Model
	trainer *diffusion.Trainer
	frozen  *engine.Session
	backend plan.Backend // of what is frozen, and of pictures
	first   *encode.FirstStage
	recipe  *recipe
	seed    uint64
	batch   int
	stored  float32 // factor that latents were multiplied with before they were stored
	measure bool    // the scale factor is that of the first batch
	average bool
}

// newDiffusionLearner makes a learner. b computes what is frozen, workers the batches of a step.
func newDiffusionLearner(m *nn.Model, job *spec.Spec, r *recipe, b plan.Backend, workers []plan.Backend) (*diffusionLearner, error) {
	t := job.Train
	l := &diffusionLearner{model: m, recipe: r, backend: b, seed: job.Compute.Seed, batch: t.Batch, stored: 1, average: m.Config.Diffusion.UseEMA && t.EMA > 0}
	var err error
	if l.trainer, err = diffusion.NewTrainer(m, diffusion.Config{MinSNR: t.MinSNR, OffsetNoise: t.OffsetNoise, Drop: t.Drop}, diffusion.Optimizer{
		WeightDecay: t.WeightDecay, Clip: t.Clip, Average: t.EMA, Memory: int64(job.Limits.Memory), Workers: workers,
	}, b); err != nil {
		return nil, err
	}
	l.frozen = engine.New(m, b)
	if l.first, err = encode.New(l.frozen); err != nil {
		l.close()
		return nil, err
	}
	r.drop = func(number int64) bool { return l.trainer.Objective.Dropped(l.seed, number) }
	return l, nil
}

func (l *diffusionLearner) close() {
	l.trainer.Close()
	if l.frozen != nil {
		l.frozen.Close()
	}
}

func (l *diffusionLearner) add(batches ...[]*example) ([][]term, error) {
	made := make([]diffusion.Batch, len(batches))
	for i, examples := range batches { // what is frozen runs on all threads, batch after batch
		var err error
		if made[i], err = l.batchOf(examples, l.seed); err != nil {
			return nil, err
		}
	}
	losses, err := l.trainer.Add(made...)
	var terms [][]term
	for _, x := range losses {
		terms = append(terms, []term{{"loss", x.Loss}, {"loss_simple", x.Simple}, {"loss_vlb", x.VLB}})
	}
	return terms, err
}

func (l *diffusionLearner) step(rate float64) ([]term, error) {
	norm, err := l.trainer.Step(rate)
	return []term{{"grad_norm", norm}}, err
}

func (l *diffusionLearner) elems() int { return l.trainer.Params().Elems() }

func (l *diffusionLearner) memory() (int64, error) {
	s := diffusion.Size{N: l.batch, H: l.recipe.latent[1], W: l.recipe.latent[2]}
	if s.H == 0 {
		f := l.first.Factor()
		s.H, s.W = l.recipe.config.Size.H/f, l.recipe.config.Size.W/f
	}
	if l.model.UNet.Config.UseSpatialTransformer && !l.trainer.Objective.Learns() {
		s.Tokens = l.recipe.contextTokens(l.model)
	}
	return l.trainer.Memory(s)
}

func (l *diffusionLearner) check() error { return l.trainer.Check() }

// validationSeed tells the noise of validation from that of training.
const validationSeed = 0x5eed_0f_7a1da7e

// validate computes the mean error of the examples at times and with noise that never change. The loss of the moving average
// comes first where there is one.
func (l *diffusionLearner) validate(examples []*example) ([]term, error) {
	var terms []term
	for _, kind := range []struct {
		name    string
		average bool
	}{{"val/loss_simple_ema", true}, {"val/loss_simple", false}} {
		if kind.average && !l.average {
			continue
		}
		v, err := l.trainer.Validate(kind.average)
		if err != nil {
			return nil, err
		}
		sum, n := 0.0, 0
		err = each(examples, l.batch, func(part []*example) error {
			b, err := l.batchOf(part, l.seed^validationSeed)
			if err != nil {
				return err
			}
			x, err := v.Loss(b)
			sum, n = sum+x.Simple*float64(len(part)), n+len(part)
			return err
		})
		v.Close()
		if err != nil {
			return nil, err
		}
		terms = append(terms, term{kind.name, sum / float64(n)})
	}
	return terms, nil
}

// each calls f with batches of n; the last one holds what is left.
func each(examples []*example, n int, f func([]*example) error) error {
	for len(examples) > 0 {
		k := min(n, len(examples))
		if err := f(examples[:k]); err != nil {
			return err
		}
		examples = examples[k:]
	}
	return nil
}

func (l *diffusionLearner) tensors() ([]*weights.Tensor, error)   { return l.trainer.Model() }
func (l *diffusionLearner) optimiser() ([]*weights.Tensor, error) { return l.trainer.Optimiser() }

func (l *diffusionLearner) restore(model, optimiser *weights.File, steps int64) error {
	l.measure = false
	return l.trainer.Restore(model, optimiser, steps)
}

// batchOf makes latents and conditions of examples, and draws their times and noise.
func (l *diffusionLearner) batchOf(examples []*example, seed uint64) (diffusion.Batch, error) {
	n := len(examples)
	b := diffusion.Batch{Size: diffusion.Size{N: n}}
	numbers := make([]int64, n)
	for i, e := range examples {
		numbers[i] = e.number
	}
	if err := l.latents(&b, examples, seed); err != nil {
		return b, err
	}
	l.trainer.Objective.Draw(seed, numbers, &b)
	return b, l.conditions(&b, examples)
}

// latents encodes images, or takes what is stored, and scales it.
func (l *diffusionLearner) latents(b *diffusion.Batch, examples []*example, seed uint64) error {
	if examples[0].latent != nil {
		b.H, b.W = l.recipe.latent[1], l.recipe.latent[2]
		for _, e := range examples {
			b.Z = append(b.Z, e.latent...)
		}
		if l.stored != 1 {
			for i := range b.Z {
				b.Z[i] /= l.stored
			}
		}
	} else {
		h, w := l.recipe.config.Size.H, l.recipe.config.Size.W
		b.H, b.W = h/l.first.Factor(), w/l.first.Factor()
		var o encode.Options
		if l.first.Stochastic() {
			each := l.first.Channels() * b.H * b.W
			o.Noise = make([]float32, len(examples)*each)
			for i, e := range examples {
				sample.Normal(seed, diffusion.Key(e.number), sample.StreamPosterior, o.Noise[i*each:(i+1)*each])
			}
		}
		z, err := l.first.Encode(images(examples), len(examples), h, w, o)
		if err != nil {
			return err
		}
		b.Z = append(b.Z, z...)
	}
	if l.measure {
		l.model.ScaleFactor, l.measure = diffusion.ScaleFactor(b.Z), false
		if !(l.model.ScaleFactor > 0) || l.model.ScaleFactor > 1e6 {
			return exitcode.Errorf(exitcode.Data, "scale_by_std: the latents of the first batch give the scale factor %v", l.model.ScaleFactor)
		}
	}
	if s := l.model.ScaleFactor; s != 1 {
		for i := range b.Z {
			b.Z[i] *= s
		}
	}
	return nil
}

// conditions fills in what the model is conditioned on: the input of a conditioner that is trained, else what the frozen one makes.
func (l *diffusionLearner) conditions(b *diffusion.Batch, examples []*example) (err error) {
	if !l.trainer.Objective.Learns() {
		b.Cond, err = l.recipe.conditionBy(l.frozen, examples, b.H, b.W)
		b.Tokens = b.Cond.Tokens
		return err
	}
	switch l.recipe.condition {
	case class:
		for _, e := range examples {
			b.Input = append(b.Input, float32(e.label))
		}
	case text, layout:
		for _, e := range examples {
			for _, t := range e.tokens {
				b.Input = append(b.Input, float32(t))
			}
		}
	case semantic:
		size := l.recipe.config.Size
		b.Input, err = diffusion.Shares(gather(examples, func(e *example) []uint8 { return e.labels }), l.recipe.classes, size.H, size.W, l.model.Conditioner.Config.NStages)
	}
	return err
}

// conditionBy computes what the model of a session is conditioned on, for latents of h x w cells.
func (r *recipe) conditionBy(s *engine.Session, examples []*example, h, w int) (c sample.Condition, err error) {
	n, size := len(examples), r.config.Size
	switch r.condition {
	case class:
		c, err = sample.ClassCondition(s, gather(examples, func(e *example) int64 { return e.label }))
	case text:
		c, err = sample.TextCondition(s, gather(examples, func(e *example) []int { return e.tokens }))
	case layout:
		c, err = sample.LayoutCondition(s, gather(examples, func(e *example) []int { return e.tokens }))
	case semantic:
		c, err = sample.SemanticCondition(s, gather(examples, func(e *example) []uint8 { return e.labels }), size.H, size.W)
	case superres:
		c, err = sample.SuperresCondition(s, slices.Concat(gather(examples, func(e *example) []float32 { return e.small })...), n, h, w)
	case inpaint:
		c, err = sample.InpaintCondition(s, images(examples), holes(examples), n, size.H, size.W, nil)
	}
	if err != nil {
		return c, fmt.Errorf("condition: %w", err)
	}
	return c, nil
}

// gather lists one thing of every example.
func gather[T any](examples []*example, of func(*example) T) []T {
	list := make([]T, len(examples))
	for i, e := range examples {
		list[i] = of(e)
	}
	return list
}

// images are N x 3 x H x W in [-1, 1].
func images(examples []*example) []float32 {
	return slices.Concat(gather(examples, func(e *example) []float32 { return e.image })...)
}

// holes are N x H x W, 1 in a hole.
func holes(examples []*example) []float32 {
	return slices.Concat(gather(examples, func(e *example) []float32 { return e.holes })...)
}
