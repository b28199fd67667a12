package linalg

import (
	"errors"
	"math"
	"slices"
)

// ErrNoConvergence says that an iteration did not end, which finite numbers do not cause.
var ErrNoConvergence = errors.New("iteration for singular values did not converge")

// NuclearNorm is the sum of the singular values.
func NuclearNorm(a Matrix) (float64, error) {
	v, err := SingularValues(a)
	sum := 0.0
	slices.Sort(v)
	for _, x := range v {
		sum += x
	}
	return sum, err
}

// SingularValues returns the min(R, C) singular values of a in no particular order, each with an error of a few times
// 1e-16 of the largest.
func SingularValues(a Matrix) ([]float64, error) {
	if a.R < a.C {
		a = a.T()
	} else {
		a = a.Clone()
	}
	if a.C == 0 {
		return nil, nil
	}
	top := 0.0
	for _, v := range a.Data {
		top = max(top, math.Abs(v))
	}
	if math.IsNaN(top) || math.IsInf(top, 0) {
		return nil, errors.New("matrix is not finite")
	}
	if top == 0 {
		return make([]float64, a.C), nil
	}
	_, exp := math.Frexp(top)
	for i := range a.Data { // squares shall neither overflow nor vanish
		a.Data[i] = math.Ldexp(a.Data[i], -exp)
	}
	if a.R > 2*a.C {
		a = TriangularFactor(a)
	}
	band(a)
	d, e := bidiagonal(a)
	if err := chase(d, e); err != nil {
		return nil, err
	}
	for i, v := range d {
		d[i] = math.Ldexp(math.Abs(v), exp)
	}
	return d, nil
}

// band reduces a (m x n, m >= n) to an upper band of `panel` diagonals above the main one, by reflections from both sides.
func band(a Matrix) {
	for k := 0; k < a.C; k += panel {
		b := min(panel, a.C-k)
		eliminate(a, k, b)
		if k+b < a.C {
			h := triangularize(a.View(k, k+b, b, a.C-k-b))
			h.right(a.View(k+b, k+b, a.R-k-b, a.C-k-b))
		}
	}
}

// bidiagonal reduces the band further, one row after the other, chasing what each reflection leaves beside the band down
// to the end.
func bidiagonal(a Matrix) (d, e []float64) {
	n := a.C
	const w = 3*panel + 1 // columns i-panel .. i+2*panel of row i
	store := make([]float64, n*w+2*w)
	// A block of the band is a matrix with rows one element closer to each other.
	view := func(i, j, r, c int) Matrix { return Matrix{r, c, w - 1, store[i*(w-1)+j+panel:]} }
	for i := range n {
		for j := i; j <= min(i+panel, n-1); j++ {
			view(i, j, 1, 1).Data[0] = a.At(i, j)
		}
	}
	v, scratch := make([]float64, panel), make([]float64, 2*panel)
	for i := range n - 1 {
		row := i
		for c0 := i + 1; c0 < n; c0 += panel {
			c1 := min(c0+panel, n)
			m := c1 - c0
			r := view(row, c0, 1, m).Row(0)
			x := v[:m]
			copy(x, r)
			tau, beta := reflector(x)
			clear(r)
			r[0] = beta
			reflectColumns(x, tau, view(row+1, c0, c1-row-1, m))

			b := view(c0, c0, m, min(2*panel, n-c0))
			for k := range m {
				x[k] = b.At(k, 0)
			}
			tau, beta = reflector(x)
			for k := range m {
				b.Set(k, 0, 0)
			}
			b.Set(0, 0, beta)
			reflectRows(x, tau, Matrix{b.R, b.C - 1, b.Stride, b.Data[1:]}, scratch)
			row = c0
		}
	}
	for i := range n {
		d = append(d, view(i, i, 1, 1).Data[0])
		if i+1 < n {
			e = append(e, view(i, i+1, 1, 1).Data[0])
		}
	}
	return d, e
}

const epsilon = 0x1p-53

// chase makes the bidiagonal matrix with diagonal d and superdiagonal e diagonal by implicit QR steps (Golub and Kahan 1965),
// without shift where that would harm small values (Demmel and Kahan 1990).
func chase(d, e []float64) error {
	n := len(d)
	if n == 0 {
		return nil
	}
	norm := 0.0
	for i := range d {
		norm = max(norm, math.Abs(d[i]))
		if i < len(e) {
			norm = max(norm, math.Abs(e[i]))
		}
	}
	lastLo, lastHi := -1, -1
	left := 60*n + 100
	for hi := n - 1; hi > 0; {
		lo := hi
		for ; lo > 0; lo-- {
			if math.Abs(e[lo-1]) <= epsilon*(math.Abs(d[lo])+math.Abs(d[lo-1])) || math.Abs(e[lo-1]) <= epsilon*norm*0x1p-10 {
				e[lo-1] = 0
				break
			}
		}
		if lo == hi {
			hi--
			continue
		}
		if left--; left < 0 {
			return ErrNoConvergence
		}
		if lo > lastHi || hi < lastLo || lastHi < 0 { // a new block: its large end goes first; the transpose, read backwards
			if math.Abs(d[lo]) < math.Abs(d[hi]) {
				slices.Reverse(d[lo : hi+1])
				slices.Reverse(e[lo:hi])
			}
		}
		lastLo, lastHi = lo, hi
		smallest := math.Inf(1)
		for _, v := range d[lo : hi+1] {
			smallest = min(smallest, math.Abs(v))
		}
		shift := smaller(d[hi-1], e[hi-1], d[hi])
		if q := shift / math.Abs(d[lo]); smallest <= epsilon*norm || !(q*q >= epsilon) {
			zeroShift(d[lo:hi+1], e[lo:hi])
		} else {
			shifted(d[lo:hi+1], e[lo:hi], shift)
		}
	}
	return nil
}

// smaller is the smaller singular value of [f g; 0 h].
func smaller(f, g, h float64) float64 {
	f, g, h = math.Abs(f), math.Abs(g), math.Abs(h)
	lo, hi := min(f, h), max(f, h)
	if lo == 0 {
		return 0
	}
	a, b := 1+lo/hi, (hi-lo)/hi
	if g < hi {
		u := (g / hi) * (g / hi)
		return lo * (2 / (math.Sqrt(a*a+u) + math.Sqrt(b*b+u)))
	}
	u := hi / g
	a, b = a*u, b*u
	return 2 * lo * u / (math.Sqrt(1+a*a) + math.Sqrt(1+b*b))
}

// rotation returns c, s and r with c f + s g = r and c g = s f.
func rotation(f, g float64) (c, s, r float64) {
	if g == 0 {
		return 1, 0, f
	}
	if f == 0 {
		return 0, 1, g
	}
	r = math.Sqrt(f*f + g*g)
	if r < 0x1p-500 {
		r = math.Hypot(f, g)
	}
	return f / r, g / r, r
}

func shifted(d, e []float64, shift float64) {
	n := len(d) - 1
	f := (math.Abs(d[0]) - shift) * (math.Copysign(1, d[0]) + shift/d[0])
	g := e[0]
	for i := range n {
		c, s, r := rotation(f, g)
		if i > 0 {
			e[i-1] = r
		}
		f, e[i] = c*d[i]+s*e[i], c*e[i]-s*d[i]
		g, d[i+1] = s*d[i+1], c*d[i+1]
		c, s, d[i] = rotation(f, g)
		f, d[i+1] = c*e[i]+s*d[i+1], c*d[i+1]-s*e[i]
		if i < n-1 {
			g, e[i+1] = s*e[i+1], c*e[i+1]
		}
	}
	e[n-1] = f
}

func zeroShift(d, e []float64) {
	n := len(d) - 1
	c, oldC, oldS := 1.0, 1.0, 0.0
	for i := range n {
		var s, r float64
		c, s, r = rotation(d[i]*c, e[i])
		if i > 0 {
			e[i-1] = oldS * r
		}
		oldC, oldS, d[i] = rotation(oldC*r, d[i+1]*s)
	}
	h := d[n] * c
	d[n], e[n-1] = h*oldC, h*oldS
}
