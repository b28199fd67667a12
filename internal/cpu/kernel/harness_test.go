package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// random returns n normally distributed floats times scale, outside the Go heap and off the natural alignment.
func random(t testing.TB, seed uint64, n int, scale float64) []float32 {
	buf := Alloc(n + 3)
	t.Cleanup(func() { Free(buf) })
	s := buf[3:]
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	for i := range s {
		s[i] = float32(r.NormFloat64() * scale)
	}
	return s
}

const guard = 64

// guarded returns n floats set to NaN between guard bands, and a function that checks the bands.
func guarded(t testing.TB, n int) ([]float32, func()) {
	t.Helper()
	buf := Alloc(n + 2*guard + 1)
	t.Cleanup(func() { Free(buf) })
	for i := range buf {
		buf[i] = -12345.5
	}
	y := buf[guard+1 : guard+1+n : guard+1+n]
	for i := range y {
		y[i] = float32(math.NaN())
	}
	return y, func() {
		t.Helper()
		for i, v := range buf {
			if (i < guard+1 || i >= guard+1+n) && v != -12345.5 {
				t.Fatalf("element %d of an output of %d was written", i-guard-1, n)
			}
		}
	}
}

// pools opens pools of 1, 2 and 3 threads.
func pools(t testing.TB, isa ISA) []*Pool {
	t.Helper()
	var ps []*Pool
	for n := 1; n <= 3; n++ {
		p, err := NewPool(n, isa)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		ps = append(ps, p)
	}
	return ps
}

// eachISA runs f as a subtest for every implementation that this machine can run.
func eachISA(t *testing.T, f func(t *testing.T, ps []*Pool)) {
	for _, isa := range Available() {
		t.Run(isa.String(), func(t *testing.T) { f(t, pools(t, isa)) })
	}
}

// same runs f with every pool and checks that the n results are bit-identical, that nothing outside was written, and that the
// inputs stay as they were.
func same(t *testing.T, ps []*Pool, n int, f func(p *Pool, y []float32), inputs ...[]float32) []float32 {
	t.Helper()
	var before [][]float32
	for _, in := range inputs {
		before = append(before, slices.Clone(in))
	}
	var first []float32
	for _, p := range ps {
		y, check := guarded(t, n)
		f(p, y)
		check()
		if first == nil {
			first = y
		} else {
			identical(t, fmt.Sprintf("%d threads", p.Threads()), y, first)
		}
	}
	for i, in := range inputs {
		identical(t, fmt.Sprintf("input %d", i), in, before[i])
	}
	return first
}

// columns takes the first n of every ld values, and fails where the others have been written.
func columns(t *testing.T, y []float32, n, ld int) (out []float32) {
	t.Helper()
	for i, v := range y {
		if i%ld < n {
			out = append(out, v)
		} else if v == v {
			t.Fatalf("element %d, between two pixels, is %v", i, v)
		}
	}
	return out
}

func identical(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

// relL2 is |got-want| / |want|.
func relL2(got []float32, want []float64) float64 {
	var d, n float64
	for i, w := range want {
		e := float64(got[i]) - w
		d += e * e
		n += w * w
	}
	return math.Sqrt(d / max(n, 1e-300))
}

func near(t *testing.T, got []float32, want []float64, tol float64) {
	t.Helper()
	if e := relL2(got, want); !(e <= tol) {
		t.Errorf("relative error %.3g, want at most %.1g", e, tol)
	}
}

func refAct(a Act, x float64) float64 {
	switch a {
	case SiLU:
		return x / (1 + math.Exp(-x))
	case GELU:
		return 0.5 * x * math.Erfc(-x/math.Sqrt2)
	case ReLU:
		return max(x, 0)
	}
	return x
}
