package engine

import (
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// Memory is what running a network takes beside its weights, in bytes.
type Memory struct {
	Arena   int64 // activations; several networks take the largest of theirs
	Buffers int64 // inputs and outputs, which stay
}

// Beside is the memory of two networks that run in turns.
func (m Memory) Beside(o Memory) Memory {
	return Memory{Arena: max(m.Arena, o.Arena), Buffers: m.Buffers + o.Buffers}
}

// Total is all of it.
func (m Memory) Total() int64 { return m.Arena + m.Buffers }

// MemoryOf is what running an objective takes beside parameters and packed weights, with the budget of [NewTraining], without
// compiling it.
func MemoryOf(o *Objective, budget int64) (Memory, error) {
	if err := o.Validate(); err != nil {
		return Memory{}, err
	}
	p, err := plan.LowerFor(o.Program, plan.Options{Gradients: o.Grads, Budget: budget})
	if err != nil {
		return Memory{}, err
	}
	return memoryOf(p), nil
}

// Needs is what running a network takes beside its weights.
type Needs struct {
	Memory
	FLOP      int64 // of the products, multiplications and additions
	Attention int64 // the part of them that grows with the square of the size
}

// NeedsOf computes what a graph needs without compiling it.
func NeedsOf(g *nn.Graph) (Needs, error) {
	p, err := plan.Lower(g.Program)
	if err != nil {
		return Needs{}, err
	}
	n := Needs{Memory: memoryOf(p), FLOP: p.FLOP}
	for _, s := range p.Steps {
		if s.Kind == plan.Attention {
			n.Attention += s.FLOP
		}
	}
	return n, nil
}

// Beside is what two networks need that run in turns.
func (n Needs) Beside(o Needs) Needs {
	return Needs{Memory: n.Memory.Beside(o.Memory), FLOP: n.FLOP + o.FLOP, Attention: n.Attention + o.Attention}
}

// Times is what a network needs that runs k times.
func (n Needs) Times(k int) Needs {
	n.FLOP, n.Attention = n.FLOP*int64(k), n.Attention*int64(k)
	return n
}

func memoryOf(p *plan.Plan) Memory {
	m := Memory{Arena: 4 * int64(p.ArenaElems)}
	for _, v := range append(append([]*plan.Value(nil), p.Inputs...), p.Outputs...) {
		m.Buffers += 4 * int64(v.Elems())
	}
	return m
}
