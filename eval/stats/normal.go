package stats

import (
	"fmt"
	"math"

	"github.com/ldm-batch/ldm-batch/eval/linalg"
)

// Normal is a normal distribution with the mean and covariance of a set, the latter as a factor: covariance = half' half.
type Normal struct {
	N     int // rows of the set; 0 unknown
	Mean  []float64
	trace float64
	half  linalg.Matrix // r x D
	upper bool          // half is upper triangular
}

// NewNormal makes the distribution of a covariance, whose factor drops what is below D * 2^-52 of the largest variance.
// A covariance that is not finite, not symmetric (beyond 1e-6 of its largest entry) or has a negative variance or an
// eigenvalue that is negative beyond rounding in single precision is an error.
func NewNormal(n int, mean []float64, s linalg.Matrix) (*Normal, error) {
	d := len(mean)
	if d == 0 || s.R != d || s.C != d {
		return nil, fmt.Errorf("covariance is %d x %d for a mean of %d features", s.R, s.C, d)
	}
	top := 0.0
	for i := range d {
		if math.IsNaN(mean[i]) || math.IsInf(mean[i], 0) {
			return nil, fmt.Errorf("mean of feature %d is %v", i, mean[i])
		}
		for j, v := range s.Row(i) {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("covariance of features %d and %d is %v", i, j, v)
			}
			top = max(top, math.Abs(v))
		}
	}
	for i := range d {
		if s.At(i, i) < -1e-6*top {
			return nil, fmt.Errorf("variance of feature %d is %g", i, s.At(i, i))
		}
		for j := range i {
			if a, b := s.At(i, j), s.At(j, i); math.Abs(a-b) > 1e-6*top {
				return nil, fmt.Errorf("covariance is not symmetric: features %d and %d have %g and %g", i, j, a, b)
			}
		}
	}
	f, pivots := linalg.Factor(s)
	p := &Normal{N: n, Mean: mean, trace: s.Trace(), half: f.T(), upper: len(pivots) == d && triangular(pivots)}
	if p.upper {
		return p, nil
	}
	// What the factor leaves shows whether there was a negative eigenvalue.
	rest := s.Clone()
	linalg.AddProduct(rest, -1, f, linalg.Plain, f, linalg.Transposed)
	for i := range d {
		for j, v := range rest.Row(i) {
			if math.Abs(v) > 1e-5*top {
				return nil, fmt.Errorf("covariance is not positive semidefinite: its factor misses %g of %g at features %d and %d", v, s.At(i, j), i, j)
			}
		}
	}
	return p, nil
}

func triangular(pivots []int) bool {
	for i, p := range pivots {
		if i != p {
			return false
		}
	}
	return true
}

// NormalOf makes the distribution of a set of at least two rows from the features themselves.
func NormalOf(f Features) (*Normal, error) {
	if err := f.check(2); err != nil {
		return nil, err
	}
	p := &Normal{N: f.N, Mean: f.mean()}
	root := math.Sqrt(float64(f.N - 1))
	row := func(dst []float64, i int) {
		for j, v := range f.Row(i) {
			dst[j] = (float64(v) - p.Mean[j]) / root
		}
	}
	if f.N <= f.D {
		p.half = linalg.New(f.N, f.D)
		for i := range f.N {
			row(p.half.Row(i), i)
		}
	} else {
		// The triangular factor of all rows, block after block below that of the rows before.
		p.upper = true
		for i, step := 0, max(2*f.D, 256); i < f.N; {
			n := min(step, f.N-i)
			m := linalg.New(max(p.half.R+n, f.D), f.D)
			for k := range p.half.R {
				copy(m.Row(k), p.half.Row(k))
			}
			for k := range n {
				row(m.Row(p.half.R+k), i+k)
			}
			p.half = linalg.TriangularFactor(m)
			i += n
		}
	}
	for _, v := range p.half.Data {
		p.trace += v * v
	}
	return p, nil
}

// D is the number of features.
func (p *Normal) D() int { return len(p.Mean) }

// Rank is the effective rank of the covariance: the number of pivots above 2^-52 times the size of the largest variance.
func (p *Normal) Rank() int {
	var g linalg.Matrix
	if p.half.R < p.half.C {
		g = linalg.Product(p.half, linalg.Plain, p.half, linalg.Transposed)
	} else {
		g = linalg.Product(p.half, linalg.Transposed, p.half, linalg.Plain)
	}
	_, pivots := linalg.Factor(g)
	return len(pivots)
}

// cross is half_p half_q'.
func (p *Normal) cross(q *Normal) linalg.Matrix {
	if !p.upper || !q.upper {
		return linalg.Product(p.half, linalg.Plain, q.half, linalg.Transposed)
	}
	const block = 256
	d := p.half.C
	k := linalg.New(p.half.R, q.half.R)
	for i := 0; i < k.R; i += block {
		for j := 0; j < k.C; j += block {
			from, h, w := max(i, j), min(block, k.R-i), min(block, k.C-j)
			linalg.AddProduct(k.View(i, j, h, w), 1, p.half.View(i, from, h, d-from), linalg.Plain, q.half.View(j, from, w, d-from), linalg.Transposed)
		}
	}
	return k
}
