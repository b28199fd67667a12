package linalg

import (
	"fmt"
	"math"
)

// operand is a matrix or its transpose: element i, j is Data[i*rs+j*cs].
type operand struct {
	r, c, rs, cs int
	data         []float64
}

// Op says whether a factor is taken as it is or transposed.
type Op bool

// The two.
const (
	Plain      Op = false
	Transposed Op = true
)

func (m Matrix) operand(t Op) operand {
	if t {
		return operand{m.C, m.R, 1, m.Stride, m.Data}
	}
	return operand{m.R, m.C, m.Stride, 1, m.Data}
}

// depth is how many terms of an inner product are summed, one after the other, before they are added to the result.
const depth = 256

// AddProduct adds alpha * op(a) * op(b) to c, which must not overlap the factors.
func AddProduct(c Matrix, alpha float64, a Matrix, ta Op, b Matrix, tb Op) {
	x, y := a.operand(ta), b.operand(tb)
	if x.c != y.r || x.r != c.R || y.c != c.C {
		panic(fmt.Sprintf("linalg: product of %d x %d and %d x %d into %d x %d", x.r, x.c, y.r, y.c, c.R, c.C))
	}
	if c.R == 0 || c.C == 0 || x.c == 0 {
		return
	}
	if hasNative {
		nativeProduct(c, alpha, x, y)
		return
	}
	plainProduct(c, alpha, x, y)
}

// Product returns op(a) * op(b).
func Product(a Matrix, ta Op, b Matrix, tb Op) Matrix {
	c := New(a.operand(ta).r, b.operand(tb).c)
	AddProduct(c, 1, a, ta, b, tb)
	return c
}

// SquaredLength is the inner product of v with itself, rounded as [AddProduct] rounds it.
func SquaredLength(v []float64) float64 {
	sum := 0.0
	for ; len(v) > 0; v = v[min(depth, len(v)):] {
		acc := 0.0
		for _, x := range v[:min(depth, len(v))] {
			acc = math.FMA(x, x, acc)
		}
		sum += acc
	}
	return sum
}

func plainProduct(c Matrix, alpha float64, a, b operand) {
	row := make([]float64, b.c*min(depth, a.c))
	acc := make([]float64, c.C)
	for p0 := 0; p0 < a.c; p0 += depth {
		n := min(depth, a.c-p0)
		for p := range n { // contiguous rows of b
			for j := range b.c {
				row[p*b.c+j] = b.data[(p0+p)*b.rs+j*b.cs]
			}
		}
		for i := range c.R {
			clear(acc)
			for p := range n {
				v := a.data[i*a.rs+(p0+p)*a.cs]
				for j, w := range row[p*b.c:][:b.c] {
					acc[j] = math.FMA(v, w, acc[j])
				}
			}
			for j, v := range acc {
				c.Data[i*c.Stride+j] += float64(alpha * v)
			}
		}
	}
}

// plainReflectRows is [reflectRows] in Go.
func plainReflectRows(v []float64, tau float64, c Matrix, w []float64) {
	clear(w)
	for i, x := range v {
		for j, y := range c.Row(i) {
			w[j] += x * y
		}
	}
	for i, x := range v {
		x *= tau
		for j, y := range w {
			c.Data[i*c.Stride+j] -= x * y
		}
	}
}

// plainReflectColumns is [reflectColumns] in Go.
func plainReflectColumns(v []float64, tau float64, c Matrix) {
	for i := range c.R {
		row := c.Row(i)
		dot := 0.0
		for j, x := range v {
			dot += x * row[j]
		}
		dot *= tau
		for j, x := range v {
			row[j] -= dot * x
		}
	}
}
