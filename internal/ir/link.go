package ir

import (
	"fmt"
	"slices"
)

// Part is a program that [Link] joins to others.
type Part struct {
	*Program
	// From names, for input leaves of the part, the source of their value: an output of any part, itself included, as long as no
	// value depends on itself. The shapes must be equal.
	From map[string]Source
}

// Source is an output of a part.
type Source struct{ Part, Output int }

// Link joins programs, whose names must differ, to one that computes each part once, with inputs of parts fed by outputs of others. Leaves of one name
// that are not fed so are one leaf, whose shape and kind must agree. It is how a gradient of one program becomes the seed of
// another, which one differentiation of a graph cannot express.
//
// The nodes come in the order of the parts as far as what they need allows.
func Link(name string, parts []Part, outputs ...Source) (*Program, error) {
	l := &linker{parts: parts, leaves: map[string]int{}}
	at := 0
	for _, p := range parts {
		l.first = append(l.first, at)
		at += len(p.Nodes)
	}
	for i, p := range parts {
		if slices.ContainsFunc(parts[:i], func(o Part) bool { return o.Name == p.Name }) {
			return nil, fmt.Errorf("link %s: two parts have the name %s", name, p.Name)
		}
		if err := l.add(p); err != nil {
			return nil, fmt.Errorf("link %s: %s: %w", name, p.Name, err)
		}
	}
	want := make([]int, len(outputs))
	for i, s := range outputs {
		k, err := l.source(s)
		if err != nil {
			return nil, fmt.Errorf("link %s: output %d: %w", name, i, err)
		}
		want[i] = k
	}
	if len(want) == 0 {
		return nil, fmt.Errorf("link %s: no outputs", name)
	}
	p, err := l.program(name, want)
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", name, err)
	}
	return p, nil
}

// linker holds the nodes of all parts one after another. A fed input stands for its source.
type linker struct {
	parts  []Part
	first  []int // index of the first node of each part
	nodes  []Node
	alias  []int // per node: the node that takes its place, or itself
	leaves map[string]int
}

func (l *linker) source(s Source) (int, error) {
	if s.Part < 0 || s.Part >= len(l.parts) || s.Output < 0 || s.Output >= len(l.parts[s.Part].Outputs) {
		return 0, fmt.Errorf("there is no output %d of part %d", s.Output, s.Part)
	}
	return l.first[s.Part] + l.parts[s.Part].Outputs[s.Output], nil
}

func (l *linker) add(p Part) error {
	base := len(l.nodes)
	fed := 0
	for i, n := range p.Nodes {
		k := base + i
		n.In = slices.Clone(n.In)
		for j := range n.In {
			n.In[j] += base
		}
		at := k
		if n.Leaf != NotLeaf {
			if s, ok := p.From[n.Name]; ok && n.Leaf == InputLeaf {
				src, err := l.source(s)
				if err != nil {
					return fmt.Errorf("input %s: %w", n.Name, err)
				}
				from := l.parts[s.Part].Nodes[l.parts[s.Part].Outputs[s.Output]].Shape
				if !slices.Equal(from, n.Shape) {
					return fmt.Errorf("input %s has shape %v, its source %v", n.Name, n.Shape, from)
				}
				if src == k {
					return fmt.Errorf("input %s feeds itself", n.Name)
				}
				fed, at = fed+1, src
			} else if old, known := l.leaves[n.Name]; !known {
				l.leaves[n.Name] = k
			} else if o := l.nodes[old]; o.Leaf != n.Leaf || !slices.Equal(o.Shape, n.Shape) {
				return fmt.Errorf("leaf %s has shape %v here and %v elsewhere, or another kind", n.Name, n.Shape, o.Shape)
			} else {
				at = old
			}
		} else {
			n.Name = fmt.Sprintf("%s/%s", p.Name, n.Name)
		}
		l.nodes, l.alias = append(l.nodes, n), append(l.alias, at)
	}
	if fed != len(p.From) {
		return fmt.Errorf("%d of %d sources have an input", fed, len(p.From))
	}
	return nil
}

// resolve follows aliases to the node that computes a value; fed inputs of fed inputs make chains.
func (l *linker) resolve(k int) (int, error) {
	for range len(l.nodes) {
		if l.alias[k] == k {
			return k, nil
		}
		k = l.alias[k]
	}
	return 0, fmt.Errorf("%s feeds itself", l.nodes[k].Name)
}

// program orders what the outputs need: of the nodes whose inputs are there, the first one always comes next.
func (l *linker) program(name string, outputs []int) (*Program, error) {
	needed := make([]bool, len(l.nodes))
	var stack []int
	visit := func(k int) (int, error) {
		k, err := l.resolve(k)
		if err == nil && !needed[k] {
			needed[k] = true
			stack = append(stack, k)
		}
		return k, err
	}
	var err error
	for i := range outputs {
		if outputs[i], err = visit(outputs[i]); err != nil {
			return nil, err
		}
	}
	for len(stack) > 0 {
		n := &l.nodes[stack[len(stack)-1]]
		stack = stack[:len(stack)-1]
		for j := range n.In {
			if n.In[j], err = visit(n.In[j]); err != nil {
				return nil, err
			}
		}
	}
	p := &Program{Name: name}
	index := make([]int, len(l.nodes))
	for i := range index {
		index[i] = -1
	}
	place := func(k int) {
		n := l.nodes[k]
		n.ID = len(p.Nodes)
		for j, in := range n.In {
			n.In[j] = index[in]
		}
		index[k] = n.ID
		p.Nodes = append(p.Nodes, n)
	}
	ready := func(k int) bool {
		return !slices.ContainsFunc(l.nodes[k].In, func(in int) bool { return index[in] < 0 })
	}
	// A pass places all that it can in order. Every pass after the first one is caused by an input fed from a later part.
	for waiting := true; waiting; {
		waiting = false
		placed := len(p.Nodes)
		for k := range l.nodes {
			switch {
			case !needed[k] || index[k] >= 0:
			case ready(k):
				place(k)
			default:
				waiting = true
			}
		}
		if waiting && placed == len(p.Nodes) {
			return nil, fmt.Errorf("the parts wait for each other in a cycle")
		}
	}
	for _, k := range outputs {
		p.Outputs = append(p.Outputs, index[k])
	}
	return p, nil
}
