package ir

import (
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"slices"

	"github.com/chewxy/hm"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Kind names what an operation computes. The constants stand beside their constructors.
type Kind string

// Op describes an operation completely but for its inputs. It is comparable: equal Ops compute the same function.
// Ints holds the integer attributes of the kind; read them through the accessors.
type Op struct {
	Kind  Kind
	Ints  [8]int
	Eps   float64 // normalisations: added to the variance
	Scale float64 // scale: the factor; attention: the factor on q.k
}

// Class says what differentiation makes of a kind.
type Class int

const (
	Differentiable Class = iota // has a gradient
	InferenceOnly               // no gradient flows through it, by decision
	Backward                    // appears in gradients only, and is not differentiated again
)

// rule is what the package knows about a kind.
type rule struct {
	class    Class
	min, max int // number of inputs; max < 0: any number from min on
	// shape is the shape rule. It may assume the right number of inputs.
	shape func(op Op, in [][]int) ([]int, error)
	// fixed lists the inputs that have no gradient.
	fixed []int
	// grad returns one gradient for every input, nil for fixed ones.
	grad func(op Op, in []*Tensor, dy *Tensor) []*Tensor
	// run is the reference kernel.
	run kernel
}

var rules = map[Kind]rule{}

// register is called from init functions: a rule's gradient refers to constructors, which refer to the rules.
func register(k Kind, r rule) {
	if _, twice := rules[k]; twice {
		panic("ir: kind " + string(k) + " registered twice")
	}
	rules[k] = r
}

// Kinds lists every kind, sorted.
func Kinds() []Kind {
	var list []Kind
	for k := range rules {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// Class returns the class of a kind.
func (k Kind) Class() Class { return rules[k].class }

// gradients reports which of n inputs have a gradient.
func (r rule) gradients(n int) []bool {
	d := make([]bool, n)
	if r.grad != nil {
		for i := range d {
			d[i] = !slices.Contains(r.fixed, i)
		}
	}
	return d
}

// collisionRetries bounds how often apply gives an operation a new identity because gorgonia, which tells nodes apart by a
// 32-bit hash, took it for another one. At 10,000 nodes one retry has a chance of 10^-5.
const collisionRetries = 8

// apply adds an operation to the graph of its inputs.
func apply(op Op, in ...*Tensor) *Tensor {
	r, ok := rules[op.Kind]
	if !ok {
		fail(op.Kind, in, "unknown operation")
	}
	if len(in) < r.min {
		fail(op.Kind, in, "needs at least %d inputs, has %d", r.min, len(in))
	}
	if r.max >= 0 && len(in) > r.max {
		fail(op.Kind, in, "takes at most %d inputs, has %d", r.max, len(in))
	}
	nodes, shapes := make([]*G.Node, len(in)), make([][]int, len(in))
	for i, t := range in {
		if t == nil {
			fail(op.Kind, in, "input %d is nil", i)
		}
		if t.g != in[0].g {
			fail(op.Kind, in, "%s is of graph %q, %s of graph %q", in[0].name, in[0].g.name, t.name, t.g.name)
		}
		nodes[i], shapes[i] = t.n, t.shape
	}
	out, err := r.shape(op, shapes)
	if err != nil {
		fail(op.Kind, in, "%s", err)
	}
	g := in[0].g
	for range collisionRetries {
		g.uid++
		s := &symbol{Op: op, g: g, uid: g.uid, in: shapes, out: out}
		n, err := G.ApplyOp(s, nodes...)
		if err != nil {
			fail(op.Kind, in, "%s", err)
		}
		if n.Op() != G.Op(s) {
			continue
		}
		t := &Tensor{g: g, n: n, name: g.opName(op.Kind), shape: out}
		g.tensors[n] = t
		return t
	}
	fail(op.Kind, in, "node hash collides with other nodes")
	return nil
}

func (g *Graph) opName(k Kind) string {
	g.count[k]++
	return fmt.Sprintf("%s#%d", k, g.count[k])
}

// symbol is the one gorgonia operation type of the package: an [Op] at one place of one graph.
type symbol struct {
	Op
	g   *Graph
	uid uint64 // makes the hash unlike that of every other node, so that gorgonia never merges two
	in  [][]int
	out []int
}

func (s *symbol) Arity() int { return len(s.in) }

// Type must be a fresh value each time: gorgonia returns it to a pool after unification.
func (s *symbol) Type() hm.Type {
	a := hm.TypeVariable('a')
	ts := make([]hm.Type, 0, len(s.in)+1)
	for _, shape := range append(slices.Clone(s.in), s.out) {
		if len(shape) == 0 {
			ts = append(ts, a)
		} else {
			ts = append(ts, G.TensorType{Dims: len(shape), Of: a})
		}
	}
	return hm.NewFnType(ts...)
}

func (s *symbol) InferShape(...G.DimSizer) (tensor.Shape, error) {
	return tensor.Shape(slices.Clone(s.out)), nil
}

// Do is part of gorgonia's interface; its machines, which would call it, merge nodes by hash and are not used.
func (s *symbol) Do(...G.Value) (G.Value, error) {
	return nil, errors.New("ir: graphs run through Program, not through a gorgonia machine")
}

func (s *symbol) ReturnsPtr() bool     { return false }
func (s *symbol) CallsExtern() bool    { return false }
func (s *symbol) OverwritesInput() int { return -1 }
func (s *symbol) WriteHash(h hash.Hash) {
	fmt.Fprintf(h, "%d|%s|%v|%v|%v", s.uid, s.Kind, s.Ints, s.Eps, s.Scale)
}
func (s *symbol) Hashcode() uint32 {
	h := fnv.New32a()
	s.WriteHash(h)
	return h.Sum32()
}
func (s *symbol) String() string { return string(s.Kind) }

func (s *symbol) DiffWRT(inputs int) []bool { return rules[s.Kind].gradients(inputs) }

// SymDiff adds the gradients of the inputs to the graph, and records the terms so that [Grad] can check gorgonia's sums.
func (s *symbol) SymDiff(inputs G.Nodes, _, grad *G.Node) (G.Nodes, error) {
	r := rules[s.Kind]
	nodes := make(G.Nodes, len(inputs))
	if r.grad == nil {
		return nodes, nil
	}
	in := make([]*Tensor, len(inputs))
	for i, n := range inputs {
		in[i] = s.g.of(n)
	}
	err := Build(func() {
		for i, t := range r.grad(s.Op, in, s.g.of(grad)) {
			if t != nil {
				nodes[i] = t.n
			}
		}
	})
	if err != nil {
		return nil, err
	}
	for i, has := range r.gradients(len(inputs)) {
		if !has {
			continue
		}
		if nodes[i] == nil || !slices.Equal([]int(nodes[i].Shape()), in[i].shape) {
			return nil, fmt.Errorf("gradient of %s for input %s is missing or has another shape", s.Kind, in[i].name)
		}
		s.g.terms[inputs[i]] = append(s.g.terms[inputs[i]], nodes[i])
	}
	return nodes, nil
}
