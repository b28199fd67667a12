package training

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn/classifier"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/train"
)

// Options are what a [Trainer] is made of.
type Options struct {
	Config      classifier.Config
	WeightDecay float64
	Clip        float64 // largest norm of the gradient; 0: none
	Memory      int64   // bytes of activations above which they are dropped and computed again; 0: no limit
	Backend     plan.Backend
}

// Trainer trains a classifier batch by batch. Its weights are zero until [Trainer.Initialize], [Trainer.Load] or [Trainer.Restore].
type Trainer struct {
	o        Options
	names    []string
	params   *engine.Params
	training *engine.Training
	steps    int64
	batches  int // since the last step
}

// New makes a trainer.
func New(o Options) (*Trainer, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	list := o.Config.Params()
	p, err := engine.NewParams(o.Backend, list)
	if err != nil {
		return nil, err
	}
	t := &Trainer{o: o, params: p, training: engine.NewTraining(p, nil, o.Backend, o.Memory)}
	for _, x := range list {
		t.names = append(t.names, x.Name)
	}
	return t, nil
}

// Close frees the parameters and all that was compiled.
func (t *Trainer) Close() {
	t.training.Close()
	t.params.Close()
}

// Params are the parameters.
func (t *Trainer) Params() *engine.Params { return t.params }

// Steps is the number of steps that the optimiser has made.
func (t *Trainer) Steps() int64 { return t.steps }

// Initialize begins with random weights, each of which follows from the seed and its name: uniform within 1/sqrt(fan-in),
// normalisations the identity, biases zero.
func (t *Trainer) Initialize(seed uint64) {
	for _, p := range t.params.List() {
		values := t.params.Data(p.Name)
		fanIn := 1
		for _, d := range p.Shape[1:] {
			fanIn *= d
		}
		switch {
		case strings.HasSuffix(p.Name, ".bias"):
			clear(values)
		case len(p.Shape) == 1:
			for i := range values {
				values[i] = 1
			}
		default:
			h := fnv.New64a()
			h.Write([]byte(p.Name))
			r := rand.New(rand.NewPCG(seed, h.Sum64()))
			bound := 1 / math.Sqrt(float64(fanIn))
			for i := range values {
				values[i] = float32((2*r.Float64() - 1) * bound)
			}
		}
	}
	t.params.Changed()
}

// Result is what a batch measures.
type Result struct {
	Loss  float64 // mean cross-entropy in nats
	Right int     // images whose class has the largest logit
}

// Add computes the loss of a batch, images row-major (N,3,S,S) and a label each, and adds its gradient to those since the last step.
func (t *Trainer) Add(images []float32, labels []int64) (Result, error) {
	if t.batches == 0 {
		t.params.ZeroGrad()
	}
	t.batches++
	return t.run(images, labels, true)
}

// Validate computes the loss of a batch without changing anything.
func (t *Trainer) Validate(images []float32, labels []int64) (Result, error) {
	return t.run(images, labels, false)
}

func (t *Trainer) run(images []float32, labels []int64, gradients bool) (Result, error) {
	n, c := len(labels), t.o.Config
	if n == 0 || len(images) != n*3*c.Size*c.Size {
		return Result{}, fmt.Errorf("%d values for %d images of %dx%d", len(images), n, c.Size, c.Size)
	}
	step, err := t.training.Compile(fmt.Sprint(n, gradients), func() (*engine.Objective, error) {
		p, err := c.Loss(n, gradients)
		o := &engine.Objective{Program: p, Losses: []string{"loss"}, Values: []string{"logits"}}
		if gradients {
			o.Grads = t.names
		}
		return o, err
	})
	if err != nil {
		return Result{}, err
	}
	ids := make([]float32, n)
	for i, l := range labels {
		ids[i] = float32(l)
	}
	losses, err := step.Run(map[string][]float32{"image": images, "label": ids})
	if err != nil {
		return Result{}, err
	}
	r := Result{Loss: losses[0]}
	if math.IsNaN(r.Loss) || math.IsInf(r.Loss, 0) {
		return r, exitcode.Errorf(exitcode.Internal, "loss is not finite")
	}
	logits, classes := step.Value("logits"), len(c.Classes)
	for i, l := range labels {
		if int64(classifier.Largest(logits[i*classes:(i+1)*classes])) == l {
			r.Right++
		}
	}
	return r, nil
}

// Step is one step of AdamW with the mean of the gradients that were added. The norm is that of the gradient before it is clipped. A
// gradient that is not finite is an error of class internal that names the parameter; nothing has changed then.
func (t *Trainer) Step(rate float64) (norm float64, err error) {
	if norm, err = train.Mean(t.params, t.batches, t.o.Clip); err != nil {
		return norm, err
	}
	t.batches = 0
	t.steps++
	t.params.Update(plan.Adam{Rate: rate, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: t.o.WeightDecay, Step: int(t.steps)})
	return norm, nil
}

// Check looks for a parameter that is not finite, and after a batch for one whose gradient is not; the error of class internal
// names it.
func (t *Trainer) Check() error {
	for _, name := range t.names {
		if err := engine.Finite("parameter "+name, t.params.Data(name)); err != nil {
			return err
		}
	}
	if t.batches > 0 {
		_, err := t.params.GradNorm()
		return err
	}
	return nil
}
