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

// MemoryOf computes the memory of a graph without compiling it.
func MemoryOf(g *nn.Graph) (Memory, error) {
	p, err := plan.Lower(g.Program)
	if err != nil {
		return Memory{}, err
	}
	m := Memory{Arena: 4 * int64(p.ArenaElems)}
	for _, v := range append(append([]*plan.Value(nil), p.Inputs...), p.Outputs...) {
		m.Buffers += 4 * int64(v.Elems())
	}
	return m, nil
}

// Beside is the memory of two networks that run in turns.
func (m Memory) Beside(o Memory) Memory {
	return Memory{Arena: max(m.Arena, o.Arena), Buffers: m.Buffers + o.Buffers}
}

// Total is all of it.
func (m Memory) Total() int64 { return m.Arena + m.Buffers }
