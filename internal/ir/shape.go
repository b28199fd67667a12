package ir

import (
	"fmt"
	"slices"
)

// wantRank checks the number of dimensions of an operand; layout is what the reader should have passed, such as "NCHW".
func wantRank(operand string, shape []int, layout string, ranks ...int) error {
	if !slices.Contains(ranks, len(shape)) {
		return fmt.Errorf("%s has rank %d, want %s", operand, len(shape), layout)
	}
	return nil
}

// wantShape checks the whole shape of an operand.
func wantShape(operand string, shape []int, want ...int) error {
	if !slices.Equal(shape, want) {
		return fmt.Errorf("%s has shape %v, want %v", operand, shape, want)
	}
	return nil
}

// sameAs is the shape rule of operations that return the shape of input i.
func sameAs(i int) func(Op, [][]int) ([]int, error) {
	return func(_ Op, in [][]int) ([]int, error) { return slices.Clone(in[i]), nil }
}

// last is the size of the last dimension.
func last(shape []int) int { return shape[len(shape)-1] }

// withLast is shape with its last dimension replaced.
func withLast(shape []int, last int) []int {
	s := slices.Clone(shape)
	s[len(s)-1] = last
	return s
}

// ints packs integer attributes.
func ints(v ...int) (a [8]int) {
	if copy(a[:], v) < len(v) {
		panic("ir: too many integer attributes")
	}
	return a
}
