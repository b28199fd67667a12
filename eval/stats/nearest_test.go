package stats

import (
	"math"
	"slices"
	"testing"
)

func TestNearest(t *testing.T) {
	real := Features{4, 2, []float32{0, 0, 10, 0, 10, 3, 50, 50}}
	generated := Features{3, 2, []float32{1, 1, 10, 1, 40, 50}}
	rows, d, err := Nearest(generated, real)
	if err != nil || !slices.Equal(rows, []int{0, 1, 3}) || math.Abs(d[0]-math.Sqrt2) > 1e-12 || d[1] != 1 || d[2] != 10 {
		t.Fatalf("rows %v, distances %v, %v", rows, d, err)
	}
	copies, err := Copies(real, rows, d)
	if err != nil || !slices.Equal(copies, []bool{true, true, true}) {
		t.Errorf("copies %v, %v", copies, err)
	}
	far := Features{1, 2, []float32{10, 8}} // nearest is (10, 3), whose own neighbour is as far as 3
	rows, d, err = Nearest(far, real)
	if err != nil {
		t.Fatal(err)
	}
	if copies, err = Copies(real, rows, d); err != nil || copies[0] {
		t.Errorf("row %v at %v is a copy: %v, %v", rows, d, copies, err)
	}
	if _, _, err := Nearest(Features{1, 1, []float32{1}}, real); err == nil {
		t.Error("sets of other features are compared")
	}
}

// TestNearestAgrees compares with the plain loop on sets larger than a block.
func TestNearestAgrees(t *testing.T) {
	rng := NewRandomState(7)
	draw := func(n int) Features {
		f := Features{n, 5, make([]float32, 5*n)}
		for i := range f.Data {
			f.Data[i] = float32(rng.Normal())
		}
		return f
	}
	a, b := draw(300), draw(700)
	rows, d, err := Nearest(a, b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range a.N {
		best, at := math.Inf(1), 0
		for j := range b.N {
			sum := 0.0
			for k, v := range a.Row(i) {
				sum += (float64(v) - float64(b.Row(j)[k])) * (float64(v) - float64(b.Row(j)[k]))
			}
			if sum < best {
				best, at = sum, j
			}
		}
		if rows[i] != at || math.Abs(d[i]-math.Sqrt(best)) > 1e-9 {
			t.Fatalf("row %d: %d at %v, want %d at %v", i, rows[i], d[i], at, math.Sqrt(best))
		}
	}
}
