package linalg

import "math"

// reflectors are b Householder reflections H1 H2 ... Hb = I - V' T V (compact WY form, Schreiber and Van Loan 1989): the rows
// of v are their vectors, with leading zeros and a one, t is upper triangular.
type reflectors struct{ v, t Matrix }

// reflector turns x into the vector of a reflection with x[0] = 1 and returns its factor and what the reflection makes of
// the first element; the others become zero.
func reflector(x []float64) (tau, beta float64) {
	sum := 0.0
	for _, v := range x[1:] {
		sum += v * v
	}
	alpha := x[0]
	x[0] = 1
	if sum == 0 {
		return 0, alpha
	}
	beta = -math.Copysign(math.Sqrt(alpha*alpha+sum), alpha)
	for i := range x[1:] {
		x[1+i] /= alpha - beta
	}
	return (beta - alpha) / beta, beta
}

// triangularize multiplies p (b x n) from the right so that nothing is left above its diagonal.
func triangularize(p Matrix) reflectors {
	b := min(p.R, p.C)
	v, t := New(b, p.C), New(b, b)
	for j := range b {
		x := v.Row(j)[j:]
		copy(x, p.Row(j)[j:])
		tau, beta := reflector(x)
		row := p.Row(j)[j:]
		clear(row)
		row[0] = beta
		reflectColumns(x, tau, p.View(j+1, j, p.R-j-1, p.C-j))
		t.Set(j, j, tau)
	}
	g := Product(v, Plain, v, Transposed)
	for j := 1; j < b; j++ {
		tau := t.At(j, j)
		for i := range j {
			sum := 0.0
			for k := i; k < j; k++ {
				sum += t.At(i, k) * g.At(k, j)
			}
			t.Set(i, j, -tau*sum)
		}
	}
	return reflectors{v, t}
}

// right computes c H1 ... Hb.
func (r reflectors) right(c Matrix) {
	w := Product(c, Plain, r.v, Transposed)
	AddProduct(c, -1, Product(w, Plain, r.t, Plain), Plain, r.v, Plain)
}

// left computes Hb ... H1 c.
func (r reflectors) left(c Matrix) {
	w := Product(r.v, Plain, c, Plain)
	AddProduct(c, -1, r.v, Transposed, Product(r.t, Transposed, w, Plain), Plain)
}

// panel is how many reflections are applied at once, and the width of the band in between.
const panel = 48

// TriangularFactor returns the upper triangular R (n x n) with R' R = a' a, by reflections, without forming a' a. a is
// m x n with m >= n and is overwritten.
func TriangularFactor(a Matrix) Matrix {
	for k := 0; k < a.C; k += panel {
		eliminate(a, k, min(panel, a.C-k))
	}
	return a.View(0, 0, a.C, a.C).Clone()
}

// eliminate makes columns k..k+b of a upper triangular from row k on and updates those to the right.
func eliminate(a Matrix, k, b int) {
	p := a.View(k, k, a.R-k, b).T()
	h := triangularize(p)
	for i := range a.R - k {
		for j := range b {
			v := 0.0
			if i <= j {
				v = p.At(j, i)
			}
			a.Set(k+i, k+j, v)
		}
	}
	if k+b < a.C {
		h.left(a.View(k, k+b, a.R-k, a.C-k-b))
	}
}
