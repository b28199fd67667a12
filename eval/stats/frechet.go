package stats

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/ldm-batch/ldm-batch/eval/linalg"
)

// Distance is a Fréchet distance and its parts: |mu1 - mu2|^2 and Tr S1 + Tr S2 - 2 Tr sqrt(S1 S2).
type Distance struct {
	Value, Mean, Covariance float64
}

// Frechet is the squared 2-Wasserstein distance of two normal distributions (Dowson and Landau 1982; Heusel et al. 2017).
// It is not negative. Its error is about 1e-14 of the traces.
func Frechet(a, b *Normal) (Distance, error) {
	if a.D() != b.D() {
		return Distance{}, fmt.Errorf("sets have %d and %d features", a.D(), b.D())
	}
	nuclear, err := linalg.NuclearNorm(a.cross(b))
	if err != nil {
		return Distance{}, err
	}
	var d Distance
	for i, v := range a.Mean {
		d.Mean += (v - b.Mean[i]) * (v - b.Mean[i])
	}
	d.Covariance = max(0, a.trace+b.trace-2*nuclear)
	d.Value = d.Mean + d.Covariance
	return d, nil
}

// FrechetError is the standard error of the Fréchet distance of a from b that comes from the choice of the rows of a, in
// first order (the delta method): the spread of the influence of each row,
//
//	2 (mu_a - mu_b).(x - mu_a) + (x - mu_a)'(I - T)(x - mu_a) - tr((I - T) S_a),
//
// over sqrt(N), where T maps the one normal distribution to the other. Where S_a is singular T is taken within its range.
func FrechetError(a Features, b *Normal) (float64, error) {
	influence, err := influences(a, b)
	if err != nil {
		return 0, err
	}
	_, sd := meanAndSpread(influence, 1)
	return sd / math.Sqrt(float64(len(influence))), nil
}

func influences(a Features, b *Normal) ([]float64, error) {
	if err := a.check(2); err != nil {
		return nil, err
	}
	if a.D != b.D() {
		return nil, fmt.Errorf("sets have %d and %d features", a.D, b.D())
	}
	p, err := NormalOf(a)
	if err != nil {
		return nil, err
	}
	// S_a = F F', and x - mu_a = F c. Then F' T F = sqrt(K K') =: H with K = F' F_b, so that (x-mu)' T (x-mu) = c' H c.
	var c func(i int, x linalg.Matrix) linalg.Matrix // coordinates of rows i, i+1 ... of a, given x - mu
	var k linalg.Matrix
	if a.N <= a.D {
		k = p.cross(b)
		root := math.Sqrt(float64(a.N - 1))
		c = func(i int, x linalg.Matrix) linalg.Matrix { // row i is sqrt(N-1) times row i of F'
			m := linalg.New(x.R, a.N)
			for r := range x.R {
				m.Set(r, i+r, root)
			}
			return m
		}
	} else {
		f, pivots := linalg.Factor(linalg.Product(p.half, linalg.Transposed, p.half, linalg.Plain))
		l := linalg.New(len(pivots), len(pivots))
		for r, row := range pivots {
			copy(l.Row(r), f.Row(row))
		}
		inverse := linalg.LowerInverse(l)
		k = linalg.Product(f, linalg.Transposed, b.half, linalg.Transposed)
		c = func(_ int, x linalg.Matrix) linalg.Matrix {
			m := linalg.New(x.R, len(pivots))
			for r := range x.R {
				for j, q := range pivots {
					m.Set(r, j, x.At(r, q))
				}
			}
			return linalg.Product(m, linalg.Plain, inverse, linalg.Transposed)
		}
	}
	h, err := linalg.RootOfSquare(k)
	if err != nil {
		return nil, err
	}
	trace := p.trace - h.Trace()
	out := make([]float64, a.N)
	const block = 256
	parallel((a.N+block-1)/block, func(t int) {
		i0 := t * block
		x := a.Rows(i0, min(a.N, i0+block)).double()
		for i := range x.R {
			for j, mu := range p.Mean {
				x.Row(i)[j] -= mu
			}
		}
		m := c(i0, x)
		y := linalg.Product(m, linalg.Plain, h, linalg.Plain)
		for i := range x.R {
			v := -trace
			for j, u := range x.Row(i) {
				v += 2*(p.Mean[j]-b.Mean[j])*u + u*u
			}
			for j, u := range m.Row(i) {
				v -= u * y.At(i, j)
			}
			out[i0+i] = v
		}
	})
	return out, nil
}

// meanAndSpread are the mean and the standard deviation with divisor len(v) - ddof.
func meanAndSpread(v []float64, ddof int) (mean, sd float64) {
	for _, x := range v {
		mean += x
	}
	mean /= float64(len(v))
	for _, x := range v {
		sd += (x - mean) * (x - mean)
	}
	return mean, math.Sqrt(sd / float64(len(v)-ddof))
}

// FrechetBlocks removes the bias of the Fréchet distance, which is about proportional to 1/N, without any chance in it: with
// the distance of all rows of a and the mean one of k equal blocks of rows in order, (k fd(N) - mean fd(N/k)) / (k-1). Rows
// that do not fill the blocks take part in fd(N) only. Rows should be in random order, not sorted by class.
func FrechetBlocks(a Features, b *Normal, k int) (value float64, blocks []float64, err error) {
	if k < 2 {
		return 0, nil, fmt.Errorf("%d blocks, at least 2 needed", k)
	}
	if err := a.check(2 * k); err != nil {
		return 0, nil, err
	}
	all, err := frechetOf(a, b)
	if err != nil {
		return 0, nil, err
	}
	mean := 0.0
	for i := range k {
		n := a.N / k
		v, err := frechetOf(a.Rows(i*n, (i+1)*n), b)
		if err != nil {
			return 0, nil, err
		}
		blocks = append(blocks, v)
		mean += v / float64(k)
	}
	return (float64(k)*all - mean) / float64(k-1), blocks, nil
}

func frechetOf(a Features, b *Normal) (float64, error) {
	p, err := NormalOf(a)
	if err != nil {
		return 0, err
	}
	d, err := Frechet(p, b)
	return d.Value, err
}

// FrechetInfinity extrapolates the Fréchet distance to infinitely many rows of a (Chong and Forsyth 2020): a line in 1/n
// through the distances of the given subsets of rows. value is its intercept.
func FrechetInfinity(a Features, b *Normal, subsets [][]int) (value, slope float64, distances []float64, err error) {
	var sx, sy, sxx, sxy float64
	for i, s := range subsets {
		v, err := frechetOf(a.Pick(s), b)
		if err != nil {
			return 0, 0, nil, fmt.Errorf("subset %d: %w", i, err)
		}
		distances = append(distances, v)
		sx += 1 / float64(len(s))
		sy += v
	}
	n := float64(len(subsets))
	for i, s := range subsets {
		x := 1/float64(len(s)) - sx/n
		sxx += x * x
		sxy += x * (distances[i] - sy/n)
	}
	if sxx == 0 {
		return 0, 0, nil, fmt.Errorf("%d subsets of equal size fix no line", len(subsets))
	}
	slope = sxy / sxx
	return sy/n - slope*sx/n, slope, distances, nil
}

// InfinitySubsets draws the subsets of [FrechetInfinity]: count sizes evenly from least to n, rounded down, each without
// replacement.
func InfinitySubsets(n, least, count int, seed uint32) ([][]int, error) {
	if least < 2 || least >= n || count < 2 {
		return nil, fmt.Errorf("%d subsets of %d to %d rows fix no line", count, least, n)
	}
	rng := NewRandomState(seed)
	var out [][]int
	for i := range count {
		size := least + (n-least)*i/(count-1)
		out = append(out, rng.Choice(n, size))
	}
	return out, nil
}

// ClassDistance is the Fréchet distance of the rows of one class.
type ClassDistance struct {
	Class   int64
	NA, NB  int
	ToClass float64 // from the rows of b of the class; NaN where either has fewer than two
	ToAll   float64 // from all rows of b
}

// ClassReference are the rows of one class of a reference.
type ClassReference struct {
	N      int
	Normal *Normal // nil below two rows
}

// Classes makes the references of the classes of a set. Rows with the label -1 have no class.
func Classes(b Features, labels []int64) (map[int64]ClassReference, error) {
	sets, err := b.ByClass(labels)
	if err != nil {
		return nil, err
	}
	delete(sets, -1)
	out := map[int64]ClassReference{}
	for class, f := range sets {
		c := ClassReference{N: f.N}
		if f.N >= 2 {
			if c.Normal, err = NormalOf(f); err != nil {
				return nil, fmt.Errorf("class %d: %w", class, err)
			}
		}
		out[class] = c
	}
	return out, nil
}

// FrechetByClass compares every class of a with the same class of the reference and with all of it, in ascending order of classes.
// Rows with the label -1 have no class. Distances of few rows are dominated by their bias; they compare classes, not models.
func FrechetByClass(a Features, labels []int64, of map[int64]ClassReference, all *Normal) ([]ClassDistance, error) {
	sets, err := a.ByClass(labels)
	if err != nil {
		return nil, err
	}
	delete(sets, -1)
	var out []ClassDistance
	for class, f := range sets {
		c := ClassDistance{Class: class, NA: f.N, NB: of[class].N, ToClass: math.NaN(), ToAll: math.NaN()}
		if f.N >= 2 {
			p, err := NormalOf(f)
			if err != nil {
				return nil, fmt.Errorf("class %d: %w", class, err)
			}
			for to, q := range map[*float64]*Normal{&c.ToAll: all, &c.ToClass: of[class].Normal} {
				if q == nil {
					continue
				}
				d, err := Frechet(p, q)
				if err != nil {
					return nil, fmt.Errorf("class %d: %w", class, err)
				}
				*to = d.Value
			}
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(x, y ClassDistance) int { return cmp.Compare(x.Class, y.Class) })
	return out, nil
}
