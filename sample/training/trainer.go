package training

import (
	"fmt"
	"math"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/train"
)

// Optimizer is AdamW as the reference uses it, with PyTorch's defaults for what is not named here.
type Optimizer struct {
	WeightDecay float64
	Clip        float64 // largest norm of the gradient; 0: none
	Average     float64 // decay of the moving average of the U-Net; 0: none
	Memory      int64   // bytes of activations above which they are dropped and computed again; 0: no limit

	// Workers compute batches of one step at the same time, each with gradients of its own, which are added in the order of the
	// batches: sums are the same bits for any number of workers. None: batches are computed one after the other on the trainer's
	// backend and share gradients, with less memory and, where a parameter is used twice, other last bits.
	Workers []plan.Backend
}

// Trainer trains a model batch by batch. It is not safe for concurrent use.
type Trainer struct {
	Objective *Objective
	model     *nn.Model
	backend   plan.Backend
	params    *engine.Params
	workers   []*worker
	o         Optimizer
	averaged  []string
	steps     int64
	batches   int // since the last step
}

// NewTrainer begins a training at the weights of a model, which must stay usable.
func NewTrainer(m *nn.Model, c Config, o Optimizer, b plan.Backend) (*Trainer, error) {
	obj, err := NewObjective(m, c)
	if err != nil {
		return nil, err
	}
	list, err := obj.Params()
	if err != nil {
		return nil, err
	}
	p, err := engine.NewParams(b, list)
	if err != nil {
		return nil, err
	}
	t := &Trainer{Objective: obj, model: m, backend: b, params: p, o: o}
	if len(o.Workers) == 0 {
		t.workers = []*worker{{obj, p, engine.NewTraining(p, nil, b, o.Memory)}}
	}
	for _, b := range o.Workers {
		r := p.Replica(b)
		t.workers = append(t.workers, &worker{obj.another(), r, engine.NewTraining(r, nil, b, o.Memory/int64(len(o.Workers)))})
	}
	for _, x := range list {
		if x.Name == LogvarKey {
			fill(p.Data(LogvarKey), float32(m.Config.Diffusion.LogvarInit))
			continue
		}
		if err := p.Init(m, x.Name); err != nil {
			t.Close()
			return nil, err
		}
	}
	p.Changed()
	if t.averages() {
		t.averaged = Averaged(list)
		p.StartAverage(t.averaged...)
	}
	return t, nil
}

func fill(dst []float32, v float32) {
	for i := range dst {
		dst[i] = v
	}
}

// averages says whether a moving average is kept: where the model's configuration has one.
func (t *Trainer) averages() bool { return t.model.Config.Diffusion.UseEMA && t.o.Average > 0 }

// Close frees parameters and compiled objectives.
func (t *Trainer) Close() {
	for _, w := range t.workers {
		w.training.Close()
		if w.params != t.params {
			w.params.Close()
		}
	}
	t.params.Close()
}

// Params are the parameters that change.
func (t *Trainer) Params() *engine.Params { return t.params }

// Steps is the number of steps that the optimiser has made.
func (t *Trainer) Steps() int64 { return t.steps }

// Add computes the losses of batches and adds their gradients to those since the last step.
func (t *Trainer) Add(batches ...Batch) ([]Losses, error) {
	if t.batches == 0 {
		t.params.ZeroGrad()
	}
	t.batches += len(batches)
	losses := make([]Losses, 0, len(batches))
	for len(batches) > 0 {
		n := min(len(t.workers), len(batches))
		some, err := t.together(batches[:n])
		if err != nil {
			return nil, err
		}
		losses, batches = append(losses, some...), batches[n:]
	}
	return losses, nil
}

// Memory is what computing a step takes for a batch of a size beside parameters and packed weights, of all workers together.
func (t *Trainer) Memory(s Size) (int64, error) {
	o, err := t.Objective.Graph(s, true)
	if err != nil {
		return 0, err
	}
	m, err := engine.MemoryOf(o, t.o.Memory/int64(len(t.workers)))
	return m.Total() * int64(len(t.workers)), err
}

// Step is one step of the optimiser with the mean of the gradients that were added. The norm is that of the gradient before it is
// clipped. A gradient that is not finite is an error of class internal that names the parameter; nothing has changed then.
func (t *Trainer) Step(rate float64) (norm float64, err error) {
	if norm, err = train.Mean(t.params, t.batches, t.o.Clip); err != nil {
		return norm, err
	}
	t.batches = 0
	t.steps++
	a := plan.Adam{Rate: rate, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: t.o.WeightDecay, Step: int(t.steps)}
	if t.averages() {
		a.Average = train.AverageDecay(t.o.Average, t.steps)
	}
	t.params.Update(a)
	return norm, nil
}

// Check looks for a parameter that is not finite, and after a batch for one whose gradient is not; the error of class internal
// names it.
func (t *Trainer) Check() error {
	for _, p := range t.params.List() {
		for _, v := range t.params.Data(p.Name) {
			if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
				return exitcode.Errorf(exitcode.Internal, "parameter %s is not finite", p.Name)
			}
		}
	}
	if t.batches > 0 {
		_, err := t.params.GradNorm()
		return err
	}
	return nil
}

// Validation computes losses without changing anything. With the moving average it uses that of the U-Net.
type Validation struct {
	t     *Trainer
	graph *engine.Training
	none  *engine.Params // of a graph of its own
}

// Validate begins a validation of the present weights.
func (t *Trainer) Validate(average bool) (*Validation, error) {
	if average && !t.averages() {
		return nil, exitcode.Errorf(exitcode.Internal, "no moving average is kept")
	}
	source := t.params.Averages()
	if !average {
		if len(t.workers) == 1 {
			return &Validation{t: t, graph: t.workers[0].training}, nil
		}
		source = t.params // with all threads, not those of a worker
	}
	none, err := engine.NewParams(t.backend, nil)
	if err != nil {
		return nil, err
	}
	return &Validation{t, engine.NewTraining(none, source, t.backend, 0), none}, nil
}

// Loss is that of a batch.
func (v *Validation) Loss(b Batch) (Losses, error) {
	step, err := v.graph.Compile(fmt.Sprint("validate ", b.Size), func() (*engine.Objective, error) { return v.t.Objective.Graph(b.Size, false) })
	if err != nil {
		return Losses{}, err
	}
	return (&worker{objective: v.t.Objective}).run(step, b)
}

// Close frees what the validation compiled.
func (v *Validation) Close() {
	if v.none != nil {
		v.graph.Close()
		v.none.Close()
	}
}

// Weights gives the present weights of the whole model, with the moving average of the U-Net where it is asked for and kept.
func (t *Trainer) Weights(average bool) plan.WeightSource {
	s := source{t.model, t.params, t.params}
	if average && t.averages() {
		s.trained = t.params.Averages()
	}
	return s
}

// source takes what is trained from the parameters and the rest from the model.
type source struct {
	model   *nn.Model
	params  *engine.Params
	trained plan.WeightSource
}

func (s source) of(name string) plan.WeightSource {
	if s.params.Has(name) {
		return s.trained
	}
	return s.model
}

func (s source) Load(name string, dst []float32) error { return s.of(name).Load(name, dst) }
func (s source) View(name string) ([]float32, bool)    { return s.of(name).View(name) }
func (s source) Release(name string)                   { s.of(name).Release(name) }
