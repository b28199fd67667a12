package engine

import (
	"fmt"
	"slices"

	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// Objective is a program that says how well parameters do and in what direction they should go. Its outputs are, in this order,
// losses (scalars), values of any shape, and gradients, each with the shape of the parameter that it belongs to.
type Objective struct {
	Program *ir.Program
	Losses  []string
	Values  []string
	Grads   []string // names of parameters
}

// Validate checks that the program has the outputs that the lists name.
func (o *Objective) Validate() error {
	if o.Program == nil {
		return fmt.Errorf("objective: no program")
	}
	if have, want := len(o.Program.Outputs), len(o.Losses)+len(o.Values)+len(o.Grads); have != want {
		return fmt.Errorf("objective %s: %d outputs, %d are named", o.Program.Name, have, want)
	}
	for i, name := range o.Losses {
		if shape := o.Program.Nodes[o.Program.Outputs[i]].Shape; len(shape) != 0 {
			return fmt.Errorf("objective %s: loss %s has shape %v, want a scalar", o.Program.Name, name, shape)
		}
	}
	return nil
}

// Training compiles objectives of one set of parameters and runs them on a device. All of them share packed weights, which follow
// the parameters. It is not safe for concurrent use.
type Training struct {
	device plan.Model
	params *Params
	budget int64
	steps  map[string]*Step
}

// NewTraining starts a training. frozen gives the parameters of programs that do not change, which params does not have; it may
// be nil. Forward values are dropped and computed again where activations would take more than budget bytes; 0 is no limit.
func NewTraining(p *Params, frozen plan.WeightSource, b plan.Backend, budget int64) *Training {
	return &Training{device: b.NewModel(&parameters{p, frozen}), params: p, budget: budget, steps: map[string]*Step{}}
}

// Close frees compiled objectives and packed weights. The parameters stay the caller's.
func (t *Training) Close() {
	for _, s := range t.steps {
		s.exec.Close()
	}
	t.steps = nil
	t.device.Close()
}

// WeightBytes is the memory that packed weights take.
func (t *Training) WeightBytes() int64 { return t.device.Bytes() }

// Step is a compiled objective.
type Step struct {
	Plan      *plan.Plan
	objective *Objective
	exec      plan.Executable
	in, out   [][]float32
	losses    []float64
}

// Compile returns the compiled objective of a key, building it the first time. The key must name everything that the objective
// depends on.
func (t *Training) Compile(key string, build func() (*Objective, error)) (*Step, error) {
	if s, ok := t.steps[key]; ok {
		return s, nil
	}
	o, err := build()
	if err != nil {
		return nil, err
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	for i, name := range o.Grads {
		shape := o.Program.Nodes[o.Program.Outputs[len(o.Losses)+len(o.Values)+i]].Shape
		if k, ok := t.params.index[name]; !ok {
			return nil, fmt.Errorf("objective %s: %s is no parameter of the training", o.Program.Name, name)
		} else if !slices.Equal(shape, t.params.list[k].Shape) {
			return nil, fmt.Errorf("objective %s: gradient of %s has shape %v, want %v", o.Program.Name, name, shape, t.params.list[k].Shape)
		}
	}
	p, err := plan.LowerFor(o.Program, plan.Options{Gradients: o.Grads, Budget: t.budget})
	if err != nil {
		return nil, err
	}
	x, err := t.device.Compile(p)
	if err != nil {
		return nil, err
	}
	s := &Step{Plan: p, objective: o, exec: x, losses: make([]float64, len(o.Losses))}
	for _, v := range p.Outputs {
		s.out = append(s.out, make([]float32, v.Elems()))
	}
	t.steps[key] = s
	return s, nil
}

// Run computes the losses, in the order of the objective, and adds the gradients to those of the parameters. Inputs are row-major in
// their logical shapes (images NCHW). The losses are valid until the next run.
func (s *Step) Run(in map[string][]float32) ([]float64, error) {
	s.in = s.in[:0]
	for _, v := range s.Plan.Inputs {
		x, ok := in[v.Name]
		if !ok {
			return nil, fmt.Errorf("%s: input %s is missing", s.Plan.Name, v.Name)
		}
		s.in = append(s.in, x)
	}
	if err := s.exec.Run(s.in, s.out); err != nil {
		return nil, err
	}
	for i := range s.losses {
		s.losses[i] = float64(s.out[i][0])
	}
	return s.losses, nil
}

// value is the index of a value among the outputs, -1 for an unknown name.
func (s *Step) value(name string) int {
	i := slices.Index(s.objective.Values, name)
	if i >= 0 {
		i += len(s.losses)
	}
	return i
}

// Value is a value of the last run, row-major in its logical shape. It is valid until the next run. A name that the objective does
// not have is a bug and panics.
func (s *Step) Value(name string) []float32 { return s.out[s.value(name)] }

// Shape is the shape of a value, nil for an unknown name.
func (s *Step) Shape(name string) []int {
	if i := s.value(name); i >= 0 {
		return s.Plan.Outputs[i].Shape
	}
	return nil
}

// Memory is what running the step takes beside parameters and packed weights.
func (s *Step) Memory() Memory { return memoryOf(s.Plan) }

// parameters gives the tensors of a training by name: those that change, then frozen ones.
type parameters struct {
	*Params
	frozen plan.WeightSource
}

func (p *parameters) Load(name string, dst []float32) error {
	if p.Has(name) || p.frozen == nil {
		return p.Params.Load(name, dst)
	}
	return p.frozen.Load(name, dst)
}

func (p *parameters) View(name string) ([]float32, bool) {
	if p.Has(name) || p.frozen == nil {
		return p.Params.View(name)
	}
	return p.frozen.View(name)
}

func (p *parameters) Release(name string) {
	if !p.Has(name) && p.frozen != nil {
		p.frozen.Release(name)
	}
}

// Version implements [plan.Parameters].
func (p *parameters) Version(name string) uint64 {
	if i, ok := p.index[name]; ok {
		return p.version[i]
	}
	return 0
}

// Gradient implements [plan.Parameters].
func (p *parameters) Gradient(name string) []float32 {
	if i, ok := p.index[name]; ok {
		return p.Params.view(p.grad, i)
	}
	return nil
}

// StartGradient implements [plan.Parameters].
func (p *parameters) StartGradient(name string) bool {
	i := p.at(name)
	first := p.empty[i]
	p.empty[i] = false
	return first
}
