package linalg

import (
	"errors"
	"math"
)

// ErrSingular says that a matrix has no inverse.
var ErrSingular = errors.New("matrix is singular")

// LowerInverse returns the inverse of the lower triangle of l, whose diagonal must not have zeros.
func LowerInverse(l Matrix) Matrix {
	out := New(l.R, l.R)
	lowerInverse(out, l)
	return out
}

func lowerInverse(out, l Matrix) {
	n := l.R
	if n <= 48 {
		for j := range n {
			for i := j; i < n; i++ {
				v := 0.0
				if i == j {
					v = 1
				}
				for k := j; k < i; k++ {
					v -= l.At(i, k) * out.At(k, j)
				}
				out.Set(i, j, v/l.At(i, i))
			}
		}
		return
	}
	h := n / 2
	a, c := out.View(0, 0, h, h), out.View(h, h, n-h, n-h)
	lowerInverse(a, l.View(0, 0, h, h))
	lowerInverse(c, l.View(h, h, n-h, n-h))
	AddProduct(out.View(h, 0, n-h, h), -1, Product(c, Plain, l.View(h, 0, n-h, h), Plain), Plain, a, Plain)
}

// Inverse returns the inverse of a square matrix by elimination with partial pivoting.
func Inverse(a Matrix) (Matrix, error) {
	n := a.R
	lu := a.Clone()
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	for k := 0; k < n; k += panel {
		b := min(panel, n-k)
		for j := k; j < k+b; j++ {
			p := j
			for i := j + 1; i < n; i++ {
				if math.Abs(lu.At(i, j)) > math.Abs(lu.At(p, j)) {
					p = i
				}
			}
			if v := lu.At(p, j); v == 0 || math.IsNaN(v) {
				return Matrix{}, ErrSingular
			}
			if p != j {
				x, y := lu.Row(j), lu.Row(p)
				for t := range x {
					x[t], y[t] = y[t], x[t]
				}
				order[j], order[p] = order[p], order[j]
			}
			pivot := lu.Row(j)
			for i := j + 1; i < n; i++ {
				r := lu.Row(i)
				f := r[j] / pivot[j]
				r[j] = f
				for t, v := range pivot[j+1 : k+b] {
					r[j+1+t] -= f * v
				}
			}
		}
		if k+b == n {
			break
		}
		right := lu.View(k, k+b, b, n-k-b)
		for i := range b {
			r := right.Row(i)
			for t := range i {
				f := lu.At(k+i, k+t)
				for j, v := range right.Row(t) {
					r[j] -= f * v
				}
			}
		}
		AddProduct(lu.View(k+b, k+b, n-k-b, n-k-b), -1, lu.View(k+b, k, n-k-b, b), Plain, right, Plain)
	}
	l, u := New(n, n), New(n, n) // u is transposed
	for i := range n {
		copy(l.Row(i), lu.Row(i)[:i])
		l.Set(i, i, 1)
		for j := i; j < n; j++ {
			u.Set(j, i, lu.At(i, j))
		}
	}
	x := Product(LowerInverse(u), Transposed, LowerInverse(l), Plain)
	out := New(n, n)
	for i := range n {
		for j, p := range order {
			out.Set(i, p, x.At(i, j))
		}
	}
	return out, nil
}

// RootOfSquare returns the symmetric positive semidefinite square root of k k', by the polar decomposition of k with
// Newton's iteration and scaling (Higham 1986), never forming k k'. The error is a few times 1e-16 of the largest singular
// value, also where k is singular.
func RootOfSquare(k Matrix) (Matrix, error) {
	n := k.R
	// A square triangular R with R' R = k k'.
	t := New(max(n, k.C), n)
	for i := range k.C {
		for j := range n {
			t.Set(i, j, k.At(j, i))
		}
	}
	r := TriangularFactor(t)
	top := 0.0
	for _, v := range r.Data {
		top = max(top, math.Abs(v))
	}
	if math.IsNaN(top) || math.IsInf(top, 0) {
		return Matrix{}, errors.New("matrix is not finite")
	}
	if top == 0 {
		return r, nil
	}
	x := r.Clone()
	for i := range n { // a change within the error makes it regular
		if v := x.At(i, i); math.Abs(v) < epsilon*top {
			x.Set(i, i, math.Copysign(epsilon*top, v))
		}
	}
	for range 60 {
		inv, err := Inverse(x)
		if err != nil {
			return Matrix{}, err
		}
		a, b := frobenius(x), frobenius(inv)
		g := math.Sqrt(b / a)
		if math.Abs(g-1) < 1e-2 {
			g = 1
		}
		change := 0.0
		next := New(n, n)
		for i := range n {
			for j := range n {
				v := (g*x.At(i, j) + inv.At(j, i)/g) / 2
				d := v - x.At(i, j)
				change += d * d
				next.Set(i, j, v)
			}
		}
		x = next
		if math.Sqrt(change) < 1e-8*math.Sqrt(float64(n)) { // quadratic: the step after is exact
			inv, err := Inverse(x)
			if err != nil {
				return Matrix{}, err
			}
			for i := range n {
				for j := range n {
					next.Set(i, j, (x.At(i, j)+inv.At(j, i))/2)
				}
			}
			h := Product(next, Transposed, r, Plain)
			for i := range n {
				for j := range i {
					v := (h.At(i, j) + h.At(j, i)) / 2
					h.Set(i, j, v)
					h.Set(j, i, v)
				}
			}
			return h, nil
		}
	}
	return Matrix{}, ErrNoConvergence
}

func frobenius(m Matrix) float64 {
	sum := 0.0
	for _, v := range m.Data {
		sum += v * v
	}
	return math.Sqrt(sum)
}
