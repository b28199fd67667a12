package ir

import (
	"slices"
	"strings"
	"testing"
)

// partOf builds a program of what f returns.
func partOf(t *testing.T, name string, f func(g *Graph) []*Tensor) *Program {
	t.Helper()
	g := New(name)
	var out []*Tensor
	if err := Build(func() { out = f(g) }); err != nil {
		t.Fatal(err)
	}
	p, err := g.Program(out...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// linkModel returns y = 3*w*x and the gradients of y.seed.
func linkModel(t *testing.T) *Program {
	return partOf(t, "model", func(g *Graph) []*Tensor {
		x, w := g.Input("x", 3), g.Param("w", 3, 3)
		y := Scale(Linear(row3(x), w, nil), 3)
		grads, err := Grad(Dot(y, g.Input("seed", 1, 3)), w)
		if err != nil {
			t.Fatal(err)
		}
		return []*Tensor{y, grads[0]}
	})
}

// row3 is a row (1,3) of a vector of three.
func row3(x *Tensor) *Tensor { return pick(x, 0, 1, 3) }

// TestLink compares a chain of programs, the gradient of one feeding another, with one differentiation of the whole.
func TestLink(t *testing.T) {
	model := linkModel(t)
	loss := partOf(t, "loss", func(g *Graph) []*Tensor {
		y := g.Input("y", 1, 3)
		cost := Sum(Exp(y))
		grads, err := Grad(cost, y)
		if err != nil {
			t.Fatal(err)
		}
		return []*Tensor{cost, grads[0], Scale(g.Input("x", 3), 2)}
	})
	relay := partOf(t, "relay", func(g *Graph) []*Tensor { return []*Tensor{g.Input("in", 1, 3)} })
	parts := []Part{
		{model, map[string]Source{"seed": {2, 0}}},
		{loss, map[string]Source{"y": {0, 0}}},
		{relay, map[string]Source{"in": {1, 1}}},
	}
	p, err := Link("all", parts, Source{1, 0}, Source{0, 1}, Source{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for i, n := range p.Nodes {
		if n.ID != i || names[n.Name] || slices.ContainsFunc(n.In, func(k int) bool { return k >= i }) {
			t.Errorf("node %d: %+v", i, n)
		}
		names[n.Name] = true
		if n.Leaf == InputLeaf && n.Name != "x" {
			t.Errorf("%s is left as an input", n.Name)
		}
	}
	feed := map[string][]float64{"x": {1, -1, 0.5}, "w": {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, -0.7, 0.8, 0.9}}
	got, err := Evaluate(p, feed)
	if err != nil {
		t.Fatal(err)
	}
	whole := partOf(t, "whole", func(g *Graph) []*Tensor {
		x, w := g.Input("x", 3), g.Param("w", 3, 3)
		cost := Sum(Exp(Scale(Linear(row3(x), w, nil), 3)))
		grads, err := Grad(cost, w)
		if err != nil {
			t.Fatal(err)
		}
		return []*Tensor{cost, grads[0], Scale(x, 2)}
	})
	want, err := Evaluate(whole, feed)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		near(t, got[i], want[i], 1e-12)
	}
	if again, err := Link("all", parts, Source{1, 0}, Source{0, 1}, Source{1, 2}); err != nil || again.Nodes[3].Name != p.Nodes[3].Name {
		t.Error("parts were changed by linking them")
	}
}

func TestLinkErrors(t *testing.T) {
	vector := func(name, leaf string, n int) *Program {
		return partOf(t, name, func(g *Graph) []*Tensor { return []*Tensor{Exp(g.Input(leaf, n))} })
	}
	param := partOf(t, "param", func(g *Graph) []*Tensor { return []*Tensor{Exp(g.Param("x", 3))} })
	feed := func(name string, part, out int) map[string]Source { return map[string]Source{name: {part, out}} }
	a, b := vector("a", "x", 3), vector("b", "y", 3)
	for _, c := range []struct {
		parts []Part
		out   []Source
		want  string
	}{
		{[]Part{{a, nil}}, nil, "link all: no outputs"},
		{[]Part{{a, nil}}, []Source{{0, 1}}, "output 0: there is no output 1 of part 0"},
		{[]Part{{a, nil}}, []Source{{1, 0}}, "there is no output 0 of part 1"},
		{[]Part{{a, nil}, {a, nil}}, []Source{{0, 0}}, "two parts have the name a"},
		{[]Part{{a, feed("x", 2, 0)}, {b, nil}}, []Source{{0, 0}}, "a: input x: there is no output 0 of part 2"},
		{[]Part{{a, feed("z", 1, 0)}, {b, nil}}, []Source{{0, 0}}, "a: 0 of 1 sources have an input"},
		{[]Part{{a, feed("x", 1, 0)}, {vector("c", "y", 4), nil}}, []Source{{0, 0}}, "input x has shape [3], its source [4]"},
		{[]Part{{a, nil}, {vector("c", "x", 4), nil}}, []Source{{0, 0}}, "c: leaf x has shape [4] here and [3] elsewhere"},
		{[]Part{{a, nil}, {param, nil}}, []Source{{0, 0}}, "or another kind"},
		{[]Part{{a, feed("x", 1, 0)}, {b, feed("y", 0, 0)}}, []Source{{0, 0}}, "wait for each other in a cycle"},
		{[]Part{{partOf(t, "self", func(g *Graph) []*Tensor { return []*Tensor{g.Input("x", 3)} }), feed("x", 0, 0)}}, []Source{{0, 0}}, "x feeds itself"},
	} {
		_, err := Link("all", c.parts, c.out...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}
