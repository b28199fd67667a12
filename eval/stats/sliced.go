package stats

import (
	"fmt"
	"math"
	"slices"

	"github.com/ldm-batch/ldm-batch/eval/linalg"
)

// Sliced is the sliced squared 2-Wasserstein distance times 3 D (MIND, Berthet et al. 2026): the mean over directions and
// ranks of the squared difference of the sorted projections. Both sets must have the same number of rows. directions are M
// unit vectors of D.
func Sliced(a, b Features, directions Features) (float64, error) {
	if err := checkPair(a, b, 1); err != nil {
		return 0, err
	}
	if err := directions.check(1); err != nil {
		return 0, fmt.Errorf("directions: %w", err)
	}
	if a.N != b.N || directions.D != a.D {
		return 0, fmt.Errorf("sets of %d and %d rows of %d features along directions of %d", a.N, b.N, a.D, directions.D)
	}
	const block = 64
	sums := make([]float64, directions.N)
	parallel((directions.N+block-1)/block, func(t int) {
		from, to := t*block, min(directions.N, (t+1)*block)
		u := directions.Rows(from, to).double()
		p, q := project(u, a), project(u, b)
		for i := range u.R {
			x, y := p.Row(i), q.Row(i)
			slices.Sort(x)
			slices.Sort(y)
			for j, v := range x {
				sums[from+i] += (v - y[j]) * (v - y[j])
			}
		}
	})
	sum := 0.0
	for _, v := range sums {
		sum += v
	}
	return 3 * float64(a.D) * sum / float64(a.N) / float64(directions.N), nil
}

func project(u linalg.Matrix, f Features) linalg.Matrix {
	const block = 1024
	out := linalg.New(u.R, f.N)
	for i := 0; i < f.N; i += block {
		n := min(block, f.N-i)
		linalg.AddProduct(out.View(0, i, u.R, n), 1, u, linalg.Plain, f.Rows(i, i+n).double(), linalg.Transposed)
	}
	return out
}

// Directions draws m unit vectors of d. They are those of [RandomState], not those of torch.
func Directions(m, d int, seed uint32) Features {
	rng := NewRandomState(seed)
	f := Features{m, d, make([]float32, m*d)}
	v := make([]float64, d)
	for i := range m {
		sum := 0.0
		for j := range v {
			v[j] = rng.Normal()
			sum += v[j] * v[j]
		}
		for j := range v {
			f.Row(i)[j] = float32(v[j] / math.Sqrt(sum))
		}
	}
	return f
}
