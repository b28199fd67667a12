package ir

import (
	"slices"

	_ "go4.org/unsafe/assume-no-moving-gc" // gorgonia's tensors need it, at a version that knows this Go release

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Graph is an expression graph under construction. It is not safe for concurrent use.
type Graph struct {
	name           string
	expr           *G.ExprGraph
	leaves         map[string]*Tensor
	params         []Param
	tensors        map[*G.Node]*Tensor
	count          map[Kind]int
	uid            uint64
	differentiated bool
	terms          map[*G.Node][]*G.Node // gradient terms by the node that they belong to, while Grad runs
}

// Param names a weight by its state-dict key, and gives its shape.
type Param struct {
	Name  string
	Shape []int
}

// New returns an empty graph.
func New(name string) *Graph {
	return &Graph{
		name: name, expr: G.NewGraph(G.WithGraphName(name)),
		leaves: map[string]*Tensor{}, tensors: map[*G.Node]*Tensor{}, count: map[Kind]int{},
	}
}

// Name returns the name given to [New].
func (g *Graph) Name() string { return g.name }

// Input adds a named input of float32 data. Ids are floats that hold whole numbers below 2^24. A second leaf of the same name
// panics.
func (g *Graph) Input(name string, shape ...int) *Tensor {
	if old := g.leaves[name]; old != nil {
		fail("input", []*Tensor{old}, "the name %q is taken", name)
	}
	return g.leaf("input", name, InputLeaf, shape)
}

// Param adds a weight named by its state-dict key. A second call with the same name and shape returns the same tensor; with
// another shape, or a name that an input has, it panics.
func (g *Graph) Param(name string, shape ...int) *Tensor {
	if old := g.leaves[name]; old != nil {
		if old.leaf != ParamLeaf {
			fail("param", []*Tensor{old}, "the name %q belongs to an input", name)
		}
		if !slices.Equal(old.shape, shape) {
			fail("param", []*Tensor{old}, "%q is asked for again with shape %v", name, shape)
		}
		return old
	}
	t := g.leaf("param", name, ParamLeaf, shape)
	g.params = append(g.params, Param{Name: name, Shape: t.Shape()})
	return t
}

// Params lists the weights in the order of their creation.
func (g *Graph) Params() []Param {
	list := make([]Param, len(g.params))
	for i, p := range g.params {
		list[i] = Param{Name: p.Name, Shape: slices.Clone(p.Shape)}
	}
	return list
}

func (g *Graph) leaf(what Kind, name string, leaf Leaf, shape []int) *Tensor {
	if name == "" {
		fail(what, nil, "a name is needed")
	}
	if len(shape) == 0 {
		fail(what, nil, "%q needs at least one dimension", name)
	}
	for _, d := range shape {
		if d < 1 {
			fail(what, nil, "%q has shape %v: every dimension must be at least 1", name, shape)
		}
	}
	n := G.NewTensor(g.expr, tensor.Float32, len(shape), G.WithShape(shape...), G.WithName(name))
	if g.tensors[n] != nil { // gorgonia merges nodes that look alike; names are unique, so this must not happen
		fail(what, []*Tensor{g.tensors[n]}, "%q was merged with another node", name)
	}
	t := &Tensor{g: g, n: n, name: name, shape: slices.Clone(shape), leaf: leaf}
	g.tensors[n], g.leaves[name] = t, t
	return t
}

// of returns the handle of a node; nodes that gorgonia made itself (sums of gradients, the seed 1) get one on first sight.
func (g *Graph) of(n *G.Node) *Tensor {
	t := g.tensors[n]
	if t == nil {
		kind := KindAdd
		if isOne(n) {
			kind = KindOne
		}
		t = &Tensor{g: g, n: n, name: g.opName(kind), shape: slices.Clone([]int(n.Shape()))}
		g.tensors[n] = t
	}
	return t
}

// children lists the inputs of a node in order, duplicates kept.
func (g *Graph) children(n *G.Node) []*G.Node {
	var list []*G.Node
	if it := g.expr.From(n.ID()); it != nil {
		for it.Next() {
			list = append(list, it.Node().(*G.Node))
		}
	}
	return list
}
