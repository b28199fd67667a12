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

// Training compiles objectives of one set of parameters.
type Training struct {
	params *Params
	frozen plan.WeightSource
	steps  map[string]*Step
}

// NewTraining starts a training. frozen gives the parameters of programs that do not change, which params does not have; it may
// be nil. Forward values are dropped and computed again where activations would take more than budget bytes; 0 is no limit.
func NewTraining(p *Params, frozen plan.WeightSource, b plan.Backend, budget int64) *Training {
	return &Training{params: p, frozen: frozen, steps: map[string]*Step{}}
}

// Close frees compiled objectives. The parameters stay the caller's.
func (t *Training) Close() {}

// Step is a compiled objective.
type Step struct {
	objective *Objective
	training  *Training
	values    map[string][]float32
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
	s := &Step{objective: o, training: t, values: map[string][]float32{}}
	t.steps[key] = s
	return s, nil
}

// Run computes the losses and adds the gradients to those of the parameters.
func (s *Step) Run(in map[string][]float32) ([]float64, error) {
	o, p := s.objective, s.training.params
	feed := map[string][]float32{}
	for _, n := range o.Program.Nodes {
		switch n.Leaf {
		case ir.InputLeaf:
			feed[n.Name] = in[n.Name]
		case ir.ParamLeaf:
			var from plan.WeightSource = p
			if !p.Has(n.Name) {
				from = s.training.frozen
			}
			if from == nil {
				return nil, fmt.Errorf("%s: no parameter %s", o.Program.Name, n.Name)
			}
			size := 1
			for _, d := range n.Shape {
				size *= d
			}
			feed[n.Name] = make([]float32, size)
			if err := from.Load(n.Name, feed[n.Name]); err != nil {
				return nil, err
			}
		}
	}
	out, err := ir.Evaluate(o.Program, feed)
	if err != nil {
		return nil, err
	}
	losses := make([]float64, len(o.Losses))
	for i := range losses {
		losses[i] = float64(out[i][0])
	}
	for i, name := range o.Values {
		s.values[name] = out[len(losses)+i]
	}
	for i, name := range o.Grads {
		g := p.Grad(name)
		for j, v := range out[len(losses)+len(o.Values)+i] {
			g[j] += v
		}
	}
	return losses, nil
}

// Value is a value of the last run, row-major in its logical shape. It is valid until the next run.
func (s *Step) Value(name string) []float32 { return s.values[name] }

// Shape is the shape of a value.
func (s *Step) Shape(name string) []int {
	i := slices.Index(s.objective.Values, name)
	if i < 0 {
		return nil
	}
	return s.objective.Program.Nodes[s.objective.Program.Outputs[len(s.objective.Losses)+i]].Shape
}

// Memory is what running the step takes beside parameters.
func (s *Step) Memory() Memory { return Memory{} }
