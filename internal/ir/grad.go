package ir

import (
	"errors"
	"fmt"
	"slices"

	G "gorgonia.org/gorgonia"
)

// Grad adds the gradients of the scalar cost with respect to leaves, in the order of wrt and with their shapes. The walk is
// gorgonia's, the gradient of each operation ours. A graph is differentiated once, with every leaf that matters: gorgonia
// keeps state in the nodes. A leaf that does not reach the cost through differentiable inputs is an error; such an error
// leaves the graph unchanged.
func Grad(cost *Tensor, wrt ...*Tensor) ([]*Tensor, error) {
	if cost == nil || len(wrt) == 0 {
		return nil, errors.New("gradient: a cost and at least one leaf are needed")
	}
	g := cost.g
	if len(cost.shape) != 0 {
		return nil, fmt.Errorf("gradient of %s: shape %v, want a scalar", cost.name, cost.shape)
	}
	if g.differentiated {
		return nil, fmt.Errorf("gradient of %s: graph %s is differentiated already", cost.name, g.name)
	}
	reached := g.reached(cost)
	nodes := make([]*G.Node, len(wrt))
	for i, t := range wrt {
		switch {
		case t == nil || t.g != g:
			return nil, fmt.Errorf("gradient of %s: leaf %d is nil or of another graph", cost.name, i)
		case t.leaf == NotLeaf:
			return nil, fmt.Errorf("gradient of %s: %s is not a leaf", cost.name, t.name)
		case !reached[t.n]:
			return nil, fmt.Errorf("gradient of %s: no differentiable path from %s", cost.name, t.name)
		case slices.Contains(nodes[:i], t.n):
			return nil, fmt.Errorf("gradient of %s: %s is given twice", cost.name, t.name)
		}
		nodes[i] = t.n
	}
	g.differentiated, g.terms = true, map[*G.Node][]*G.Node{}
	defer func() { g.terms = nil }()
	grads, err := G.Grad(cost.n, nodes...)
	if err != nil {
		return nil, fmt.Errorf("gradient of %s: %w", cost.name, err)
	}
	if len(grads) != len(wrt) {
		return nil, fmt.Errorf("gradient of %s: got %d gradients for %d leaves", cost.name, len(grads), len(wrt))
	}
	if err := g.checkSums(); err != nil {
		return nil, fmt.Errorf("gradient of %s: %w", cost.name, err)
	}
	list := make([]*Tensor, len(grads))
	for i, n := range grads {
		list[i] = g.of(n)
	}
	return list, nil
}

// reached lists the nodes that the cost depends on through inputs that have a gradient.
func (g *Graph) reached(cost *Tensor) map[*G.Node]bool {
	seen := map[*G.Node]bool{cost.n: true}
	for stack := []*G.Node{cost.n}; len(stack) > 0; {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		s, ok := n.Op().(*symbol)
		if !ok {
			continue
		}
		has := s.DiffWRT(len(s.in))
		for i, c := range g.children(n) {
			if has[i] && !seen[c] {
				seen[c] = true
				stack = append(stack, c)
			}
		}
	}
	return seen
}

// checkSums verifies the additions that gorgonia inserted where several gradients meet. Those nodes carry no identity of
// ours, so a hash collision could silently replace one by another: every derivative must be the chain of its own terms.
func (g *Graph) checkSums() error {
	for _, d := range g.expr.AllNodes() {
		for _, of := range d.DerivOf() {
			terms, sum := g.terms[of], d
			for i := len(terms) - 1; i > 0; i-- {
				in := g.children(sum)
				if !isAdd(sum, in) || in[1] != terms[i] {
					return fmt.Errorf("sum of %d gradients at %s is wrong", len(terms), g.of(of).name)
				}
				sum = in[0]
			}
			if len(terms) > 0 && sum != terms[0] {
				return fmt.Errorf("sum of %d gradients at %s is wrong", len(terms), g.of(of).name)
			}
		}
	}
	return nil
}
