package stats

import (
	"fmt"
	"math"

	"github.com/ldm-batch/ldm-batch/eval/linalg"
)

// Kernel is the kernel k(x, y) of a kernel distance.
type Kernel struct {
	// Sigma is the width of exp(-|x-y|^2 / (2 Sigma^2)). Zero means the polynomial kernel (x.y/D + 1)^3 of Bińkowski et al. 2018.
	Sigma float64
}

// apply makes kernel values of inner products; xx and yy are squared lengths.
func (k Kernel) apply(dots []float64, d int, xx float64, yy []float64) {
	if k.Sigma == 0 {
		for i, v := range dots {
			v = v/float64(d) + 1
			dots[i] = v * v * v
		}
		return
	}
	for i, v := range dots {
		dots[i] = math.Exp(-max(0, xx+yy[i]-2*v) / (2 * k.Sigma * k.Sigma))
	}
}

// KernelDistance is the unbiased estimate of the squared maximum mean discrepancy between two sets (KID with the polynomial
// kernel) over all pairs of rows, with its standard error in first order. Unlike the mean over random subsets it has no
// chance in it. It may be negative.
func KernelDistance(a, b Features, k Kernel) (value, standardError float64, err error) {
	if err := checkPair(a, b, 2); err != nil {
		return 0, 0, err
	}
	aa, ab, bb, ba := rowMeans(a, a, k, true), rowMeans(a, b, k, false), rowMeans(b, b, k, true), rowMeans(b, a, k, false)
	// g(x) = E k(x, a) - E k(x, b), by its mean over either set.
	var ga, gb []float64
	for i := range aa {
		ga = append(ga, aa[i]-ab[i])
	}
	for i := range bb {
		gb = append(gb, bb[i]-ba[i])
	}
	ma, sa := meanAndSpread(ga, 1)
	mb, sb := meanAndSpread(gb, 1)
	return ma + mb, 2 * math.Sqrt(sa*sa/float64(a.N)+sb*sb/float64(b.N)), nil
}

// rowMeans is the mean kernel value of every row of a with the rows of b, without the row itself if both are one set.
func rowMeans(a, b Features, k Kernel, same bool) []float64 {
	out := make([]float64, a.N)
	count := float64(b.N)
	if same {
		count--
	}
	pairs(a, b, func(i, j0 int, dots []float64, xx float64, yy []float64) {
		k.apply(dots, a.D, xx, yy)
		if j := i - j0; same && j >= 0 && j < len(dots) {
			dots[j] = 0
		}
		sum := 0.0
		for _, v := range dots {
			sum += v
		}
		out[i] += sum
	})
	for i := range out {
		out[i] /= count
	}
	return out
}

// pairs calls f with the inner products of row i of a with rows j0, j0+1 ... of b, and squared lengths. For one i the calls
// are in order of j0 and on one goroutine. f may overwrite dots.
func pairs(a, b Features, f func(i, j0 int, dots []float64, xx float64, yy []float64)) {
	const block = 256
	yy := squares(b)
	xx := squares(a)
	parallel((a.N+block-1)/block, func(t int) {
		i0 := t * block
		x := a.Rows(i0, min(a.N, i0+block)).double()
		for j0 := 0; j0 < b.N; j0 += block {
			y := b.Rows(j0, min(b.N, j0+block)).double()
			dots := linalg.Product(x, linalg.Plain, y, linalg.Transposed)
			for i := range x.R {
				f(i0+i, j0, dots.Row(i), xx[i0+i], yy[j0:j0+y.R])
			}
		}
	})
}

// squares are the squared lengths of rows, summed in the order of inner products: a row and its copy are at distance zero.
func squares(f Features) []float64 {
	out := make([]float64, f.N)
	row := make([]float64, f.D)
	for i := range out {
		for j, v := range f.Row(i) {
			row[j] = float64(v)
		}
		out[i] = linalg.SquaredLength(row)
	}
	return out
}

// Subsets is a convention of the mean over random subsets.
type Subsets struct {
	Count, Size int
	Seed        uint32 // of [RandomState], which draws without replacement
	SecondFirst bool   // the second set's rows are drawn before the first's
}

// Estimates of the kernel distance over subsets, in the order drawn; mean and standard deviation (divisor Count).
type Estimates struct {
	Mean, SD float64
	Each     []float64
}

// KernelDistanceSubsets is the mean of [KernelDistance] over random subsets of both sets.
func KernelDistanceSubsets(a, b Features, k Kernel, s Subsets) (Estimates, error) {
	if err := checkPair(a, b, max(2, s.Size)); err != nil {
		return Estimates{}, err
	}
	if s.Count < 1 || s.Size < 2 {
		return Estimates{}, fmt.Errorf("%d subsets of %d rows", s.Count, s.Size)
	}
	rng := NewRandomState(s.Seed)
	draws := make([][2][]int, s.Count)
	for i := range draws {
		if s.SecondFirst {
			draws[i][1] = rng.Choice(b.N, s.Size)
			draws[i][0] = rng.Choice(a.N, s.Size)
		} else {
			draws[i][0] = rng.Choice(a.N, s.Size)
			draws[i][1] = rng.Choice(b.N, s.Size)
		}
	}
	e := Estimates{Each: make([]float64, s.Count)}
	parallel(s.Count, func(i int) {
		x, y := a.Pick(draws[i][0]), b.Pick(draws[i][1])
		aa, ab, bb := rowMeans(x, x, k, true), rowMeans(x, y, k, false), rowMeans(y, y, k, true)
		var within, across float64
		for j := range aa {
			within += aa[j] + bb[j]
			across += ab[j]
		}
		e.Each[i] = (within - 2*across) / float64(s.Size)
	})
	e.Mean, e.SD = meanAndSpread(e.Each, 0)
	return e, nil
}
