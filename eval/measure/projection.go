package measure

import (
	"cmp"
	"math"
	"slices"

	"github.com/ldm-batch/ldm-batch/eval/linalg"
	"github.com/ldm-batch/ldm-batch/eval/report"
	"github.com/ldm-batch/ldm-batch/eval/stats"
)

func sortNeighbours(list []Neighbour) {
	slices.SortStableFunc(list, func(a, b Neighbour) int { return cmp.Compare(a.Distance, b.Distance) })
}

// points is the most rows of a set that a projection shows.
const points = 2000

// project draws both sets along the first two principal components of them together, found by orthogonal iteration.
func project(g, r *held) *report.Projection {
	draw := func(h *held) (stats.Features, []int64) {
		if h.sample.N <= points {
			return h.sample, h.labels
		}
		take := stats.NewRandomState(seed).Choice(h.sample.N, points)
		slices.Sort(take)
		var labels []int64
		for _, i := range take {
			labels = append(labels, h.labels[i])
		}
		return h.sample.Pick(take), labels
	}
	a, la := draw(g)
	b, lb := draw(r)
	n, d := a.N+b.N, a.D
	if n < 3 || d < 2 {
		return nil
	}
	x := linalg.New(n, d)
	mean := make([]float64, d)
	for i := range n {
		f := a
		k := i
		if i >= a.N {
			f, k = b, i-a.N
		}
		for j, v := range f.Row(k) {
			x.Row(i)[j] = float64(v)
			mean[j] += float64(v) / float64(n)
		}
	}
	total := 0.0
	for i := range n {
		for j := range d {
			x.Row(i)[j] -= mean[j]
			total += x.Row(i)[j] * x.Row(i)[j]
		}
	}
	if total == 0 {
		return nil
	}
	// The rows of v are the directions; two more than are shown make the iteration converge.
	v := linalg.New(min(4, d), d)
	rng := stats.NewRandomState(seed)
	for i := range v.Data {
		v.Data[i] = rng.Normal()
	}
	orthonormal(v)
	for range 40 {
		y := linalg.Product(x, linalg.Plain, v, linalg.Transposed)
		v = linalg.Product(y, linalg.Transposed, x, linalg.Plain)
		orthonormal(v)
	}
	y := linalg.Product(x, linalg.Plain, v, linalg.Transposed)
	p := &report.Projection{Generated: report.Points{Class: classes(la)}, Reference: report.Points{Class: classes(lb)}}
	for c := range 2 {
		sum := 0.0
		for i := range n {
			sum += y.At(i, c) * y.At(i, c)
		}
		p.Explained[c] = report.Number(sum / total)
	}
	for i := range n {
		to := &p.Generated
		if i >= a.N {
			to = &p.Reference
		}
		to.X, to.Y = append(to.X, float32(y.At(i, 0))), append(to.Y, float32(y.At(i, 1)))
	}
	return p
}

// classes are labels, nil if no row has one.
func classes(labels []int64) []int64 {
	if !slices.ContainsFunc(labels, func(l int64) bool { return l >= 0 }) {
		return nil
	}
	return labels
}

// orthonormal makes the rows orthonormal, one after the other, the largest entry of each positive.
func orthonormal(v linalg.Matrix) {
	for i := range v.R {
		row := v.Row(i)
		for range 2 {
			for k := range i {
				dot := 0.0
				for j, u := range v.Row(k) {
					dot += u * row[j]
				}
				for j, u := range v.Row(k) {
					row[j] -= dot * u
				}
			}
		}
		norm, top := 0.0, 0.0
		for _, u := range row {
			norm += u * u
			if math.Abs(u) > math.Abs(top) {
				top = u
			}
		}
		if norm == 0 {
			continue
		}
		scale := math.Copysign(1/math.Sqrt(norm), top)
		for j := range row {
			row[j] *= scale
		}
	}
}
