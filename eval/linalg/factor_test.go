package linalg

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// spectrum returns Q1 diag(values) Q2 with random orthogonal factors, r x c.
func spectrum(seed uint64, r, c int, values []float64) Matrix {
	a := New(r, c)
	for i, v := range values {
		a.Set(i, i, v)
	}
	triangularize(random(seed, c, c)).right(a)
	at := a.T()
	triangularize(random(seed+1, r, r)).right(at)
	return at.T()
}

func TestSingularValues(t *testing.T) {
	for _, c := range []struct {
		r, c int
		f    func(i int) float64
	}{
		{1, 1, func(int) float64 { return 3 }},
		{5, 3, func(i int) float64 { return float64(i) }},
		{3, 5, func(i int) float64 { return float64(i + 1) }},
		{33, 33, func(i int) float64 { return 1 / float64(i+1) }},
		{70, 64, func(i int) float64 { return math.Pow(2, -float64(i)) }},
		{64, 200, func(i int) float64 { return math.Pow(2, float64(i)) }},
		{150, 150, func(i int) float64 { return float64(i % 7) }}, // multiple values, zeros among them
		{100, 97, func(i int) float64 { return 1e-200 * float64(97-i) }},
		{96, 96, func(i int) float64 { return 1e200 * float64(97-i) }},
		{200, 130, func(i int) float64 { return math.Exp(-float64(i*i) / 500) }},
		{40, 40, func(int) float64 { return 0 }},
	} {
		t.Run(fmt.Sprintf("%dx%d", c.r, c.c), func(t *testing.T) {
			var want []float64
			for i := range min(c.r, c.c) {
				want = append(want, c.f(i))
			}
			got, err := SingularValues(spectrum(7, c.r, c.c, want))
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(want)
			slices.Sort(got)
			top := want[len(want)-1]
			for i := range want {
				if !(math.Abs(got[i]-want[i]) <= 2e-14*top) {
					t.Errorf("value %d: %v, want %v", i, got[i], want[i])
				}
			}
		})
	}
	if _, err := SingularValues(Of(1, 2, []float64{1, math.NaN()})); err == nil {
		t.Error("no error for NaN")
	}
}

func TestFactor(t *testing.T) {
	for _, c := range []struct{ n, rank int }{{1, 1}, {1, 0}, {7, 7}, {40, 13}, {150, 150}, {150, 100}, {300, 33}, {64, 0}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			x := random(uint64(c.n), c.n, c.rank)
			s := Product(x, Plain, x, Transposed)
			f, pivots := Factor(s)
			for k, p := range pivots {
				for _, v := range f.Row(p)[k+1:] {
					if v != 0 {
						t.Fatalf("row %d of the factor is not triangular: %v", p, v)
					}
				}
			}
			if f.C != c.rank {
				t.Errorf("rank %d, want %d", f.C, c.rank)
			}
			g := Product(f, Plain, f, Transposed)
			for i := range g.Data {
				if math.Abs(g.Data[i]-s.Data[i]) > 1e-13*float64(c.n) {
					t.Fatalf("element %d of the product: %v, want %v", i, g.Data[i], s.Data[i])
				}
			}
		})
	}
}

func TestInverse(t *testing.T) {
	for _, n := range []int{1, 5, 64, 150} {
		a := random(uint64(n), n, n)
		b, err := Inverse(a)
		if err != nil {
			t.Fatal(err)
		}
		p := Product(a, Plain, b, Plain)
		for i := range n {
			for j := range n {
				want := 0.0
				if i == j {
					want = 1
				}
				if math.Abs(p.At(i, j)-want) > 1e-10 {
					t.Fatalf("%d: element %d, %d of the product: %v", n, i, j, p.At(i, j))
				}
			}
		}
	}
	if _, err := Inverse(New(3, 3)); err == nil {
		t.Error("no error for zero")
	}
}

// TestRoot checks the square root against its definition, on well and ill conditioned and singular matrices.
func TestRoot(t *testing.T) {
	for name, k := range map[string]Matrix{
		"full": random(1, 60, 60), "wide": random(2, 30, 70), "tall": random(3, 70, 30), "zero": New(4, 5), "empty": New(3, 0),
		"graded": spectrum(4, 50, 50, func() (v []float64) {
			for i := range 50 {
				v = append(v, math.Pow(0.5, float64(i)))
			}
			return v
		}()),
		"singular": spectrum(6, 40, 40, []float64{3, 2, 2, 1, 1e-9}),
	} {
		h, err := RootOfSquare(k)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m, sq := Product(k, Plain, k, Transposed), Product(h, Plain, h, Plain)
		top := 0.0
		for _, v := range m.Data {
			top = max(top, math.Abs(v))
		}
		for i := range m.Data {
			if !(math.Abs(m.Data[i]-sq.Data[i]) <= 1e-13*top) {
				t.Fatalf("%s: element %d of the square: %v, want %v", name, i, sq.Data[i], m.Data[i])
			}
		}
		want, err := NuclearNorm(k)
		if err != nil || math.Abs(h.Trace()-want) > 1e-13*(1+want)*10 {
			t.Errorf("%s: trace %v, want %v, %v", name, h.Trace(), want, err)
		}
	}
}

func TestTriangularFactor(t *testing.T) {
	x := random(5, 90, 40)
	r := TriangularFactor(x.Clone())
	g, want := Product(r, Transposed, r, Plain), Product(x, Transposed, x, Plain)
	for i := range g.Data {
		if math.Abs(g.Data[i]-want.Data[i]) > 1e-12 {
			t.Fatalf("element %d: %v, want %v", i, g.Data[i], want.Data[i])
		}
	}
}

func BenchmarkSingularValues(b *testing.B) {
	for _, n := range []int{512, 2048} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			a := random(1, n, n)
			for b.Loop() {
				t := time.Now()
				c := a.Clone()
				band(c)
				b.ReportMetric(time.Since(t).Seconds(), "s/band")
				t = time.Now()
				d, e := bidiagonal(c)
				b.ReportMetric(time.Since(t).Seconds(), "s/bidiagonal")
				t = time.Now()
				if err := chase(d, e); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(time.Since(t).Seconds(), "s/values")
			}
		})
		b.Run(fmt.Sprint("factor", n), func(b *testing.B) {
			x := random(1, n, n)
			s := Product(x, Plain, x, Transposed)
			for b.Loop() {
				Factor(s)
			}
		})
		b.Run(fmt.Sprint("root", n), func(b *testing.B) {
			x := random(1, n, n)
			for b.Loop() {
				if _, err := RootOfSquare(x); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
