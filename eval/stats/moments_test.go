package stats

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ldm-batch/ldm-batch/eval/linalg"
)

func sample(seed uint64, n, d int, value func(r *rand.Rand) float64) Features {
	r := rand.New(rand.NewPCG(seed, 2))
	f := Features{n, d, make([]float32, n*d)}
	for i := range f.Data {
		f.Data[i] = float32(value(r))
	}
	return f
}

func normal(r *rand.Rand) float64 { return r.NormFloat64() }

// wild has values of every size that is taken, zeros and negative ones.
func wild(r *rand.Rand) float64 {
	switch r.IntN(6) {
	case 0:
		return 0
	case 1:
		return 65535.99 * (2*r.Float64() - 1)
	default:
		return math.Ldexp(2*r.Float64()-1, r.IntN(87)-70)
	}
}

func moments(t testing.TB, d int, parts ...Features) *Moments {
	t.Helper()
	m := NewMoments(d)
	for _, p := range parts {
		if err := m.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func state(t testing.TB, m *Moments) []byte {
	t.Helper()
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestMomentsExact compares with rational arithmetic.
func TestMomentsExact(t *testing.T) {
	f := sample(3, 300, 5, wild)
	m := moments(t, f.D, f)
	got, err := m.Covariance()
	if err != nil {
		t.Fatal(err)
	}
	mu := m.Mean()
	x := make([]big.Rat, len(f.Data)) // as rounded to 2^-60
	for i, v := range f.Data {
		n, _ := new(big.Float).SetFloat64(math.RoundToEven(math.Ldexp(float64(v), 60))).Int(nil)
		x[i].SetFrac(n, new(big.Int).Lsh(big.NewInt(1), 60))
	}
	for i := range f.D {
		for j := range f.D {
			var sx, sy, sxy big.Rat
			for r := range f.N {
				sx.Add(&sx, &x[r*f.D+i])
				sy.Add(&sy, &x[r*f.D+j])
				sxy.Add(&sxy, new(big.Rat).Mul(&x[r*f.D+i], &x[r*f.D+j]))
			}
			mean, _ := new(big.Rat).Quo(&sx, big.NewRat(int64(f.N), 1)).Float64()
			if math.Abs(mean-mu[i]) > 3e-16*math.Abs(mean) {
				t.Errorf("mean %d: %v, want %v", i, mu[i], mean)
			}
			c := new(big.Rat).Sub(sxy.Mul(&sxy, big.NewRat(int64(f.N), 1)), sx.Mul(&sx, &sy))
			want, _ := c.Quo(c, big.NewRat(int64(f.N)*int64(f.N-1), 1)).Float64()
			if v := got.At(i, j); math.Abs(v-want) > 3e-16*math.Abs(want) {
				t.Errorf("covariance %d, %d: %v, want %v", i, j, v, want)
			}
		}
	}
}

// TestMomentsOrder takes the same rows in several orders, batches and shards.
func TestMomentsOrder(t *testing.T) {
	f := sample(4, 700, 270, wild)
	want := state(t, moments(t, f.D, f))
	perm := NewRandomState(5).Permutation(f.N)
	g := f.Pick(perm)
	shuffled := NewMoments(f.D)
	for i := 0; i < g.N; {
		n := min(1+(i*7)%53, g.N-i)
		if err := shuffled.Add(g.Rows(i, i+n)); err != nil {
			t.Fatal(err)
		}
		i += n
		if i%40 == 0 {
			shuffled.Mean() // takes pending rows up
		}
	}
	if !bytes.Equal(state(t, shuffled), want) {
		t.Error("rows in another order have another state")
	}
	a, b, c := moments(t, f.D, g.Rows(0, 1)), moments(t, f.D, g.Rows(1, 333)), moments(t, f.D, g.Rows(333, 700))
	for _, m := range []*Moments{a, b} {
		if err := c.Merge(m); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(state(t, c), want) {
		t.Error("merged parts have another state")
	}
	var back Moments
	if err := back.UnmarshalBinary(want); err != nil || back.N() != f.N || !bytes.Equal(state(t, &back), want) {
		t.Errorf("state read back has %d rows, %v", back.N(), err)
	}
}

func TestMomentsErrors(t *testing.T) {
	m := moments(t, 2, Features{1, 2, []float32{1, 2}})
	before := state(t, m)
	for name, c := range map[string]struct {
		f    Features
		says string
	}{
		"NaN":      {Features{2, 2, []float32{1, 2, 3, float32(math.NaN())}}, "row 1, feature 1"},
		"infinite": {Features{1, 2, []float32{float32(math.Inf(-1)), 0}}, "row 0, feature 0"},
		"too big":  {Features{1, 2, []float32{0, 65536}}, "row 0, feature 1"},
		"other":    {Features{1, 3, []float32{0, 0, 0}}, "3 features"},
		"short":    {Features{2, 2, []float32{0, 0, 0}}, "3 values"},
	} {
		if err := m.Add(c.f); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	if !bytes.Equal(state(t, m), before) {
		t.Error("an error changed the state")
	}
	if _, err := m.Covariance(); err == nil {
		t.Error("covariance of one row")
	}
	if err := m.Merge(NewMoments(3)); err == nil {
		t.Error("merged with other features")
	}
	for _, b := range [][]byte{nil, before[:len(before)-1], append([]byte{255, 255, 255, 255, 255, 255, 255, 255}, before[8:]...)} {
		if err := new(Moments).UnmarshalBinary(b); err == nil {
			t.Errorf("state of %d bytes was read", len(b))
		}
	}
}

func TestNewNormalErrors(t *testing.T) {
	for name, c := range map[string]struct {
		mean []float64
		s    linalg.Matrix
	}{
		"size":      {[]float64{1}, linalg.New(2, 2)},
		"NaN":       {[]float64{1, math.NaN()}, linalg.New(2, 2)},
		"symmetric": {[]float64{1, 1}, linalg.Of(2, 2, []float64{1, 0.5, 0.4, 1})},
		"negative":  {[]float64{1, 1}, linalg.Of(2, 2, []float64{-1, 0, 0, 1})},
		"not psd":   {[]float64{1, 1}, linalg.Of(2, 2, []float64{1, 1.1, 1.1, 1})},
		"zero diag": {[]float64{1, 1}, linalg.Of(2, 2, []float64{0, 1.1, 1.1, 0})},
	} {
		if _, err := NewNormal(5, c.mean, c.s); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestFrechetProperties checks what holds for all sets: symmetry, zero for itself, a shift counts by its square, orthogonal
// maps do not matter, and agreement of the ways to make a distribution.
func TestFrechetProperties(t *testing.T) {
	for _, s := range []struct{ na, nb, d int }{{5, 9, 20}, {30, 31, 30}, {90, 12, 20}, {700, 300, 60}} {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			a, b := sample(1, s.na, s.d, normal), sample(2, s.nb, s.d, normal)
			of := func(f Features) *Normal {
				p, err := NormalOf(f)
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			fd := func(p, q *Normal) float64 {
				d, err := Frechet(p, q)
				if err != nil {
					t.Fatal(err)
				}
				return d.Value
			}
			p, q := of(a), of(b)
			ab, scale := fd(p, q), p.trace+q.trace
			if v := fd(q, p); math.Abs(v-ab) > 1e-13*scale {
				t.Errorf("not symmetric: %v and %v", ab, v)
			}
			if v := fd(p, p); v > 1e-12*scale {
				t.Errorf("self-distance %g", v)
			}
			for _, f := range []Features{a, b} {
				m, err := moments(t, s.d, f).Normal()
				if err != nil {
					t.Fatal(err)
				}
				if v := fd(m, of(f)); v > 1e-12*scale {
					t.Errorf("moments and features make distributions at distance %g", v)
				}
				if m.Rank() != min(f.N-1, s.d) || of(f).Rank() != m.Rank() {
					t.Errorf("ranks %d and %d, want %d", m.Rank(), of(f).Rank(), min(f.N-1, s.d))
				}
			}
			moved := Features{b.N, b.D, append([]float32(nil), b.Data...)}
			for i := range moved.Data {
				moved.Data[i] = float32(math.Round(float64(moved.Data[i])*1024) / 1024)
			}
			q = of(moved)
			for i := range moved.Data {
				moved.Data[i] += 16
			}
			if d, err := Frechet(q, of(moved)); err != nil || math.Abs(d.Value-256*float64(s.d)) > 1e-9 {
				t.Errorf("distance of a shift: %+v, %v", d, err)
			}
		})
	}
}

// TestFrechetError compares with the spread of the distance over many samples.
func TestFrechetError(t *testing.T) {
	q, err := NormalOf(sample(1, 4000, 4, normal))
	if err != nil {
		t.Fatal(err)
	}
	var fd []float64
	se := 0.0
	const repeats = 60
	for i := range repeats {
		a := sample(uint64(10+i), 200, 4, func(r *rand.Rand) float64 { return 1.3*r.NormFloat64() + 0.4 })
		v, err := frechetOf(a, q)
		if err != nil {
			t.Fatal(err)
		}
		fd = append(fd, v)
		e, err := FrechetError(a, q)
		if err != nil {
			t.Fatal(err)
		}
		se += e / repeats
	}
	if _, sd := meanAndSpread(fd, 1); se < 0.75*sd || se > 1.3*sd {
		t.Errorf("standard error %v, spread %v", se, sd)
	}
	// Fewer rows than features.
	q, err = NormalOf(sample(1, 50, 30, normal))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := FrechetError(sample(2, 20, 30, normal), q); err != nil || !(e > 0) {
		t.Errorf("few rows: %v, %v", e, err)
	}
}

// TestTooSmall checks that every distance says how many rows it needs, and that no two sets of other features are compared.
func TestTooSmall(t *testing.T) {
	one, two, other := sample(1, 1, 3, normal), sample(2, 2, 3, normal), sample(3, 2, 4, normal)
	fail := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	_, err := NormalOf(one)
	fail("normal", err)
	for _, p := range [][2]Features{{one, two}, {two, one}, {two, other}} {
		_, _, err = KernelDistance(p[0], p[1], Kernel{})
		fail("kernel distance", err)
		_, err = Manifolds(p[0], p[1], 1, false)
		fail("manifolds", err)
		_, err = Sliced(p[0], p[1], Directions(4, 3, 1))
		fail("sliced", err)
		_, err = KernelDistanceSubsets(p[0], p[1], Kernel{}, Subsets{Count: 1, Size: 2})
		fail("subsets", err)
	}
	_, err = KernelDistanceSubsets(two, two, Kernel{}, Subsets{Count: 1, Size: 3})
	fail("subset larger than the set", err)
	_, _, err = InceptionScore(two, Splits{Count: 3})
	fail("more parts than rows", err)
	_, _, err = FrechetBlocks(two, nil, 4)
	fail("blocks", err)
	_, err = FrechetByClass(two, []int64{1}, nil, nil)
	fail("labels", err)
	_, err = Classes(two, []int64{1})
	fail("labels of the reference", err)
}

// TestSpeed measures the solver and the sums at full size; it runs only when LDM_EVAL_FULL is set.
func TestSpeed(t *testing.T) {
	if os.Getenv("LDM_EVAL_FULL") == "" {
		t.Skip("2048 features: set LDM_EVAL_FULL")
	}
	const d = 2048
	f := sample(1, 2500, d, func(r *rand.Rand) float64 { return math.Abs(r.NormFloat64()) * 0.4 })
	start := time.Now()
	m := moments(t, d, f)
	m.flush()
	t.Logf("moments: %v a row", time.Since(start)/time.Duration(f.N))
	start = time.Now()
	s, err := m.Covariance()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("covariance: %v", time.Since(start))
	g := moments(t, d, sample(2, 2400, d, func(r *rand.Rand) float64 { return math.Abs(r.NormFloat64()) * 0.5 }))
	u, err := g.Covariance()
	if err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	p, err := NewNormal(m.N(), m.Mean(), s)
	if err != nil {
		t.Fatal(err)
	}
	q, err := NewNormal(g.N(), g.Mean(), u)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("factors: %v", time.Since(start))
	fd, err := Frechet(p, q)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("factors and distance: %v", time.Since(start))
	pf, err := NormalOf(f)
	if err != nil {
		t.Fatal(err)
	}
	exact, err := Frechet(pf, q)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("distance %.15g, with one set from features %.15g", fd.Value, exact.Value)
}
