package ir

import (
	"fmt"
	"slices"
	"strings"

	G "gorgonia.org/gorgonia"
)

// Tensor is a handle of one value of a [Graph].
type Tensor struct {
	g     *Graph
	n     *G.Node
	name  string
	shape []int
	leaf  Leaf
}

// Shape returns the logical shape; a scalar's is empty.
func (t *Tensor) Shape() []int { return slices.Clone(t.shape) }

// Dim returns the size of dimension i.
func (t *Tensor) Dim(i int) int { return t.shape[i] }

// Name returns the name of a leaf, or the unique name of an operation such as "conv2d#3".
func (t *Tensor) Name() string { return t.name }

// Graph returns the graph that the tensor belongs to.
func (t *Tensor) Graph() *Graph { return t.g }

// BuildError says why an operation cannot be added to a graph. Constructors panic with it; [Build] returns it.
type BuildError struct {
	Op      Kind
	Tensors []string // names of the operation's inputs
	Shapes  [][]int  // and their shapes
	Reason  string
}

func (e *BuildError) Error() string {
	args := make([]string, len(e.Tensors))
	for i, name := range e.Tensors {
		args[i] = name
		if e.Shapes[i] != nil {
			args[i] += " " + fmt.Sprint(e.Shapes[i])
		}
	}
	return fmt.Sprintf("%s(%s): %s", e.Op, strings.Join(args, ", "), e.Reason)
}

// Build runs f, which builds graphs, and returns the *[BuildError] that it panics with. Other panics pass through.
func Build(f func()) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *BuildError:
			err = r
		default:
			panic(r)
		}
	}()
	f()
	return nil
}

func fail(op Kind, in []*Tensor, format string, args ...any) {
	e := &BuildError{Op: op, Reason: fmt.Sprintf(format, args...)}
	for _, t := range in {
		if t == nil {
			e.Tensors, e.Shapes = append(e.Tensors, "nil"), append(e.Shapes, nil)
			continue
		}
		e.Tensors, e.Shapes = append(e.Tensors, t.name), append(e.Shapes, t.Shape())
	}
	panic(e)
}

// volume is the number of elements of a shape.
func volume(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}
