package ir

import (
	"fmt"
	"reflect"
	"slices"
	"sync"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Leaf says whether a node is computed, fed or a weight.
type Leaf int

const (
	NotLeaf Leaf = iota
	InputLeaf
	ParamLeaf
)

// Node is one value of a [Program].
type Node struct {
	ID    int
	Op    Op    // zero for leaves
	In    []int // indices into Program.Nodes, all below ID
	Shape []int
	Name  string // of a leaf its own, else unique within the program
	Leaf  Leaf
}

// Program is the part of a graph that given outputs need, in topological order. It refers to no other package's types and
// must not be changed: programs are shared.
type Program struct {
	Name    string
	Nodes   []Node
	Outputs []int
}

// KindOne is the scalar 1, the seed of every gradient.
const KindOne Kind = "one"

func init() {
	register(KindOne, rule{
		class: Backward,
		shape: func(Op, [][]int) ([]int, error) { return []int{}, nil },
		run:   func(c *call) error { c.y[0] = 1; return nil },
	})
}

// Program exports the nodes that the outputs depend on. The same construction gives an identical Program.
func (g *Graph) Program(outputs ...*Tensor) (*Program, error) {
	if len(outputs) == 0 {
		return nil, fmt.Errorf("program %s: no outputs", g.name)
	}
	children := map[*G.Node][]*G.Node{}
	var order, stack []*G.Node
	for i, t := range outputs {
		if t == nil || t.g != g {
			return nil, fmt.Errorf("program %s: output %d is nil or of another graph", g.name, i)
		}
		stack = append(stack, t.n)
	}
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if _, seen := children[n]; seen {
			continue
		}
		children[n] = g.children(n)
		order = append(order, n)
		stack = append(stack, children[n]...)
	}
	// Ids are handed out on creation and inputs exist before what uses them: the order of ids is topological.
	slices.SortFunc(order, func(a, b *G.Node) int { return int(a.ID() - b.ID()) })
	p := &Program{Name: g.name, Nodes: make([]Node, 0, len(order))}
	index := make(map[*G.Node]int, len(order))
	for i, n := range order {
		t := g.of(n)
		node := Node{ID: i, In: []int{}, Shape: t.Shape(), Name: t.name, Leaf: t.leaf}
		for _, c := range children[n] {
			k, known := index[c]
			if !known {
				return nil, fmt.Errorf("program %s: %s comes before its input %s", g.name, t.name, g.of(c).name)
			}
			node.In = append(node.In, k)
		}
		if t.leaf == NotLeaf {
			switch op := n.Op().(type) {
			case *symbol:
				node.Op = op.Op
			default:
				switch {
				case isOne(n):
					node.Op.Kind = KindOne
				case isAdd(n, children[n]):
					node.Op.Kind = KindAdd
				default:
					return nil, fmt.Errorf("program %s: %v is not an operation of this package", g.name, n)
				}
			}
		}
		index[n] = i
		p.Nodes = append(p.Nodes, node)
	}
	for _, t := range outputs {
		p.Outputs = append(p.Outputs, index[t.n])
	}
	return p, nil
}

// isOne recognises the constant that gorgonia seeds a gradient with.
func isOne(n *G.Node) bool {
	c, ok := n.Op().(interface{ Value() G.Value })
	if n.Op() == nil || !ok {
		return false
	}
	one, ok := c.Value().(*G.F32)
	return ok && float32(*one) == 1
}

// isAdd recognises gorgonia's element-wise sum of two tensors of one shape, which it inserts where gradients meet. Its type
// is not exported but comparable: it must equal the operation that the public Add makes of like operands.
func isAdd(n *G.Node, in []*G.Node) bool {
	return len(in) == 2 && n.Op() != nil && reflect.TypeOf(n.Op()).Comparable() &&
		slices.Equal(in[0].Shape(), in[1].Shape()) && n.Op() == addOf(len(in[0].Shape()))
}

var (
	adds   = map[int]G.Op{} // by rank
	addsMu sync.Mutex
)

func addOf(rank int) G.Op {
	addsMu.Lock()
	defer addsMu.Unlock()
	if op := adds[rank]; op != nil {
		return op
	}
	g := G.NewGraph()
	operand := func(name string) *G.Node {
		if rank == 0 {
			return G.NewScalar(g, tensor.Float32, G.WithName(name))
		}
		shape := slices.Repeat([]int{2}, rank)
		return G.NewTensor(g, tensor.Float32, rank, G.WithShape(shape...), G.WithName(name))
	}
	adds[rank] = G.Must(G.Add(operand("a"), operand("b"))).Op()
	return adds[rank]
}
