package stats

import (
	"fmt"
	"math"
)

// Manifold compares generated with real features by balls around each row that reach to its k-th nearest neighbour.
// Precision is the share of generated rows within a ball of a real one, recall that of real rows within a ball of a generated
// one (Kynkäänniemi et al. 2019); density is the number of real balls that hold a generated row over k, coverage the share of
// real rows whose ball holds a generated one (Naeem et al. 2020).
type Manifold struct {
	Precision, Recall, Density, Coverage float64
}

// Manifolds computes [Manifold] with distances in double precision. strict says that a ball is open (<), as in the prdc
// package; torch-fidelity and the ADM suite have closed balls (<=), which matters where distances tie. Memory does not grow
// with the product of the sets' sizes.
func Manifolds(generated, real Features, k int, strict bool) (Manifold, error) {
	if k < 1 {
		return Manifold{}, fmt.Errorf("%d neighbours", k)
	}
	if err := checkPair(generated, real, k+1); err != nil {
		return Manifold{}, err
	}
	rg, rr := radii(generated, k), radii(real, k)
	type row struct{ hits, nearest, inside float64 }
	within := func(d, r float64) bool { return d < r || !strict && d == r }

	gs := make([]row, generated.N)
	pairs(generated, real, func(i, j0 int, dots []float64, xx float64, yy []float64) {
		for j, v := range dots {
			if within(squared(xx, yy[j], v), rr[j0+j]) {
				gs[i].hits++
			}
		}
	})
	rs := make([]row, real.N)
	for i := range rs {
		rs[i].nearest = math.Inf(1)
	}
	pairs(real, generated, func(i, j0 int, dots []float64, xx float64, yy []float64) {
		for j, v := range dots {
			d := squared(xx, yy[j], v)
			rs[i].nearest = min(rs[i].nearest, d)
			if within(d, rg[j0+j]) {
				rs[i].inside = 1
			}
		}
	})
	var m Manifold
	for _, r := range gs {
		m.Density += r.hits
		if r.hits > 0 {
			m.Precision++
		}
	}
	for i, r := range rs {
		m.Recall += r.inside
		if within(r.nearest, rr[i]) {
			m.Coverage++
		}
	}
	m.Precision /= float64(generated.N)
	m.Density /= float64(k) * float64(generated.N)
	m.Recall /= float64(real.N)
	m.Coverage /= float64(real.N)
	return m, nil
}

// squared is the squared distance.
func squared(xx, yy, xy float64) float64 { return max(0, xx+yy-2*xy) }

// radii are the squared distances of every row to its k-th nearest neighbour, itself not counted.
func radii(f Features, k int) []float64 {
	nearest := make([][]float64, f.N)
	pairs(f, f, func(i, j0 int, dots []float64, xx float64, yy []float64) {
		s := nearest[i]
		for j, v := range dots {
			d := squared(xx, yy[j], v)
			if len(s) == k+1 && d >= s[k] {
				continue
			}
			if len(s) <= k {
				s = append(s, 0)
			}
			at := len(s) - 1
			for ; at > 0 && s[at-1] > d; at-- {
				s[at] = s[at-1]
			}
			s[at] = d
		}
		nearest[i] = s
	})
	out := make([]float64, f.N)
	for i, s := range nearest {
		out[i] = s[k]
	}
	return out
}
