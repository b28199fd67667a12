package stats

import (
	"fmt"
	"math"

	"github.com/ldm-batch/ldm-batch/eval/linalg"
)

// Features are N rows of D features, row major.
type Features struct {
	N, D int
	Data []float32
}

func (f Features) check(least int) error {
	if f.D < 1 || f.N < 0 || len(f.Data) != f.N*f.D {
		return fmt.Errorf("%d values are not %d rows of %d features", len(f.Data), f.N, f.D)
	}
	if f.N < least {
		return fmt.Errorf("%d rows of features, %d needed", f.N, least)
	}
	return finite(f.Data, f.D)
}

func finite(data []float32, d int) error {
	for i, v := range data {
		if w := float64(v); math.IsNaN(w) || math.IsInf(w, 0) {
			return fmt.Errorf("row %d, feature %d is %v", i/d, i%d, v)
		}
	}
	return nil
}

func checkPair(a, b Features, least int) error {
	if err := a.check(least); err != nil {
		return fmt.Errorf("first set: %w", err)
	}
	if err := b.check(least); err != nil {
		return fmt.Errorf("second set: %w", err)
	}
	if a.D != b.D {
		return fmt.Errorf("sets have %d and %d features", a.D, b.D)
	}
	return nil
}

// Row returns row i.
func (f Features) Row(i int) []float32 { return f.Data[i*f.D:][:f.D] }

// Rows are the rows from..to-1; they share memory.
func (f Features) Rows(from, to int) Features {
	return Features{to - from, f.D, f.Data[from*f.D : to*f.D]}
}

// Pick copies the rows of the given indices.
func (f Features) Pick(rows []int) Features {
	out := Features{len(rows), f.D, make([]float32, 0, len(rows)*f.D)}
	for _, r := range rows {
		out.Data = append(out.Data, f.Row(r)...)
	}
	return out
}

// ByClass splits rows by their label, which keep their order.
func (f Features) ByClass(labels []int64) (map[int64]Features, error) {
	if len(labels) != f.N {
		return nil, fmt.Errorf("%d labels for %d rows of features", len(labels), f.N)
	}
	out := map[int64]Features{}
	for i, l := range labels {
		c := out[l]
		out[l] = Features{c.N + 1, f.D, append(c.Data, f.Row(i)...)}
	}
	return out, nil
}

// double returns rows in double precision.
func (f Features) double() linalg.Matrix {
	m := linalg.New(f.N, f.D)
	for i, v := range f.Data {
		m.Data[i] = float64(v)
	}
	return m
}

// mean is the mean of the rows, once corrected by that of what is left.
func (f Features) mean() []float64 {
	mu := make([]float64, f.D)
	for range 2 {
		rest := make([]float64, f.D)
		for i := range f.N {
			for j, v := range f.Row(i) {
				rest[j] += float64(v) - mu[j]
			}
		}
		for j, v := range rest {
			mu[j] += v / float64(f.N)
		}
	}
	return mu
}
