package measure

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/eval"
	"github.com/ldm-batch/ldm-batch/eval/extract"
	"github.com/ldm-batch/ldm-batch/eval/reference"
	"github.com/ldm-batch/ldm-batch/eval/stats"
	iostats "github.com/ldm-batch/ldm-batch/io/stats"
)

// random are rows of features as networks have them: not negative, many of them zero.
func random(seed uint64, n, d int, shift float64) stats.Features {
	r := rand.New(rand.NewPCG(seed, 1))
	f := stats.Features{N: n, D: d, Data: make([]float32, n*d)}
	for i := range f.Data {
		f.Data[i] = float32(max(0, r.NormFloat64()+shift+0.1*float64(i%d%3)))
	}
	return f
}

// setOf is a set of features by tap, labels in turn.
func setOf(taps map[string]stats.Features, classes int) *Set {
	n := 0
	for _, f := range taps {
		n = f.N
	}
	return &Set{Rows: int64(n), Labeled: classes > 0, Each: func(tap string, yield func([]float32, int64) error) error {
		f := taps[tap]
		for i := range f.N {
			label := int64(-1)
			if classes > 0 {
				label = int64(i % classes)
			}
			if err := yield(f.Row(i), label); err != nil {
				return err
			}
		}
		return nil
	}}
}

func fid(metrics ...string) Config {
	p, err := eval.ParseProtocol("torch-fidelity")
	if err != nil {
		panic(err)
	}
	return Config{
		Metrics: metrics, Protocol: p, Network: extract.Identity{Name: extract.InceptionName, FID: true}, MaxFeatures: 1000,
		Taps: []extract.Tap{{Name: extract.Pool, D: 12}, {Name: extract.Spatial, D: 5}, {Name: extract.Unbiased, D: 7}},
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func value(t *testing.T, o *Outcome, key string) float64 {
	t.Helper()
	i := slices.IndexFunc(o.Scores, func(s Keyed) bool { return s.Key == key })
	if i < 0 {
		t.Fatalf("no score %s", key)
	}
	return float64(o.Scores[i].Value)
}

// TestScores compares every metric with what package stats makes of the same rows.
func TestScores(t *testing.T) {
	const n, m = 120, 150
	g := map[string]stats.Features{extract.Pool: random(1, n, 12, 0.2), extract.Spatial: random(2, n, 5, 0), extract.Unbiased: random(3, n, 7, 1)}
	r := map[string]stats.Features{extract.Pool: random(4, m, 12, 0), extract.Spatial: random(5, m, 5, 0.1), extract.Unbiased: random(6, m, 7, 0)}
	metrics := []string{"sfid", "fid", "fid_infinity", "class_fid", "kid", "is", "precision", "recall", "density", "coverage", "mind", "memorised"}
	c := fid(metrics...)
	c.Protocol.KID = stats.Subsets{Count: 10, Size: 50, Seed: 2020}
	o := must[*Outcome](t)(Scores(c, setOf(g, 3), setOf(r, 3), nil))
	var keys []string
	for _, s := range o.Scores {
		keys = append(keys, s.Key)
		if s.GeneratedRows != n || s.ReferenceRows != m && s.Key != "is" && s.Key != "mind" {
			t.Errorf("%s of %d and %d rows", s.Key, s.GeneratedRows, s.ReferenceRows)
		}
		if len(s.Notes) == 0 || s.Label == "" {
			t.Errorf("%s: label %q, notes %q", s.Key, s.Label, s.Notes)
		}
	}
	want := slices.Insert(slices.Clone(metrics), 5, "kid_unbiased")
	if !slices.Equal(keys, want) {
		t.Errorf("scores %q, want %q", keys, want)
	}
	near := func(key string, got, want float64) {
		t.Helper()
		if !(math.Abs(got-want) <= 1e-9*math.Abs(want)) {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	normal := must[*stats.Normal](t)
	for key, tap := range map[string]string{"fid": extract.Pool, "sfid": extract.Spatial} {
		b := normal(stats.NormalOf(r[tap]))
		near(key, value(t, o, key), must[stats.Distance](t)(stats.Frechet(normal(stats.NormalOf(g[tap])), b)).Value)
		s := o.Scores[slices.Index(keys, key)]
		e := must[float64](t)(stats.FrechetError(g[tap], b))
		near(key+" error", float64(*s.StandardError), e)
		near(key+" interval", float64(s.Interval.High), float64(s.Value)+1.959963984540054*e)
		if s.Corrected == nil || !(*s.Corrected < s.Value) {
			t.Errorf("%s: without bias %v", key, s.Corrected)
		}
	}
	a, b := g[extract.Pool], r[extract.Pool]
	kid := must[stats.Estimates](t)(stats.KernelDistanceSubsets(a, b, stats.Kernel{}, c.Protocol.KID))
	near("kid", value(t, o, "kid"), kid.Mean)
	v, _, err := stats.KernelDistance(a, b, stats.Kernel{})
	if err != nil {
		t.Fatal(err)
	}
	near("kid_unbiased", value(t, o, "kid_unbiased"), v)
	is, _, err := stats.InceptionScore(g[extract.Unbiased], c.Protocol.Score)
	if err != nil {
		t.Fatal(err)
	}
	near("is", value(t, o, "is"), is)
	closed, open := must[stats.Manifold](t)(stats.Manifolds(a, b, 3, false)), must[stats.Manifold](t)(stats.Manifolds(a, b, 5, true))
	for key, want := range map[string]float64{"precision": closed.Precision, "recall": closed.Recall, "density": open.Density, "coverage": open.Coverage} {
		near(key, value(t, o, key), want)
	}
	mean := 0.0
	for i, class := range o.Classes {
		pick := func(f stats.Features) *stats.Normal {
			var rows []int
			for k := i; k < f.N; k += 3 {
				rows = append(rows, k)
			}
			return normal(stats.NormalOf(f.Pick(rows)))
		}
		d := must[stats.Distance](t)(stats.Frechet(pick(a), pick(b))).Value
		near(fmt.Sprint("class ", i), float64(*class.ToClass), d)
		mean += d / 3
		if class.Label != int64(i) || class.GeneratedRows != n/3 || class.ReferenceRows != m/3 {
			t.Errorf("class %+v", class)
		}
	}
	near("class_fid", value(t, o, "class_fid"), mean)
	if len(o.Neighbours) != n || !slices.IsSortedFunc(o.Neighbours, func(x, y Neighbour) int { return int(math.Copysign(1, x.Distance-y.Distance)) }) {
		t.Errorf("%d neighbours", len(o.Neighbours))
	}
	copies := 0
	for _, x := range o.Neighbours {
		if x.Copied {
			copies++
		}
	}
	near("memorised", value(t, o, "memorised"), float64(copies)/n)
	if o.Projection == nil || len(o.Projection.Generated.X) != n || len(o.Projection.Reference.X) != m || !(o.Projection.Explained[0] >= o.Projection.Explained[1]) {
		t.Error("projection")
	}
	if w := strings.Join(o.Warnings, "\n"); !strings.Contains(w, "FID is of 120 generated pictures") || !strings.Contains(w, "extrapolated to infinitely many it is") || !strings.Contains(w, "the reference of FID has 150 pictures only") {
		t.Errorf("warnings %q", w)
	}
}

// TestThinned holds fewer rows than the sets have: means and covariances are of all rows all the same.
func TestThinned(t *testing.T) {
	g, r := map[string]stats.Features{extract.Pool: random(1, 900, 12, 0.2)}, map[string]stats.Features{extract.Pool: random(4, 700, 12, 0)}
	c := fid("fid", "precision", "memorised")
	all := must[*Outcome](t)(Scores(c, setOf(g, 0), setOf(r, 0), nil))
	c.MaxFeatures = 100
	some := must[*Outcome](t)(Scores(c, setOf(g, 0), setOf(r, 0), nil))
	if u, v := value(t, all, "fid"), value(t, some, "fid"); math.Abs(u-v) > 1e-9*u {
		t.Errorf("fid %v of all rows, %v", u, v)
	}
	e, f := float64(*all.Scores[0].StandardError), float64(*some.Scores[0].StandardError)
	if math.Abs(e-f) > 0.5*e {
		t.Errorf("standard errors %v and %v", e, f)
	}
	for _, s := range some.Scores {
		if !strings.Contains(strings.Join(s.Notes, " "), "from 100 of 900 rows") {
			t.Errorf("%s: notes %q", s.Key, s.Notes)
		}
	}
	for _, n := range some.Neighbours { // numbers of rows of the sets, not of what is held
		if d := distance(g[extract.Pool].Row(n.Generated), r[extract.Pool].Row(n.Reference)); math.Abs(d-n.Distance) > 1e-6 {
			t.Fatalf("rows %d and %d are at distance %v, not %v", n.Generated, n.Reference, d, n.Distance)
		}
	}
}

func distance(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		sum += float64(a[i]-b[i]) * float64(a[i]-b[i])
	}
	return math.Sqrt(sum)
}

// TestStatistics compares with kept statistics of a set in place of its rows.
func TestStatistics(t *testing.T) {
	g := map[string]stats.Features{extract.Pool: random(1, 60, 12, 0.2), extract.Spatial: random(2, 60, 5, 0), extract.Unbiased: random(3, 60, 7, 0)}
	r := map[string]stats.Features{extract.Pool: random(4, 70, 12, 0), extract.Spatial: random(5, 70, 5, 0), extract.Unbiased: random(6, 70, 7, 0)}
	c := fid("fid", "sfid", "class_fid", "is")
	direct := must[*Outcome](t)(Scores(c, setOf(g, 2), setOf(r, 2), nil))
	c.Keep = true
	kept := must[*Outcome](t)(Scores(c, setOf(r, 2), nil, nil)) // without a reference
	if len(kept.Scores) != 1 || kept.Scores[0].Key != "is" || len(kept.Kept) != 2 {
		t.Fatalf("scores %+v of a set alone, %d kept", kept.Scores, len(kept.Kept))
	}
	path := filepath.Join(t.TempDir(), "r.arrow")
	f := must[*os.File](t)(os.Create(path))
	err := iostats.Write(f, iostats.Meta{}, func(yield func(iostats.Set, error) bool) {
		for _, k := range kept.Kept {
			if !yield(reference.SetOf(k.Tap, k.Moments)) {
				return
			}
			if k.Features.N == 0 {
				continue
			}
			classes := must[map[int64]stats.Features](t)(k.Features.ByClass(k.Labels))
			_ = yield(reference.ClassOf(k.Tap, 0, classes[0])) && yield(reference.ClassOf(k.Tap, 1, classes[1]))
		}
	})
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	given := must[*reference.Reference](t)(reference.Open(path, nil))
	c.Keep = false
	o := must[*Outcome](t)(Scores(c, setOf(g, 2), nil, given))
	for _, s := range direct.Scores {
		if got, want := value(t, o, s.Key), float64(s.Value); math.Abs(got-want) > 1e-9*want {
			t.Errorf("%s is %v from statistics, %v from rows", s.Key, got, want)
		}
	}
	for i, s := range o.Scores {
		if s.ReferenceRows != direct.Scores[i].ReferenceRows {
			t.Errorf("%s of %d rows of the reference", s.Key, s.ReferenceRows)
		}
	}
}

// TestEqualSets: distances of a set from itself are zero and never negative.
func TestEqualSets(t *testing.T) {
	for _, n := range []int{8, 12, 13, 300} { // fewer rows than features, as many, more
		f := map[string]stats.Features{extract.Pool: random(1, n, 12, 0)}
		o := must[*Outcome](t)(Scores(fid("fid"), setOf(f, 0), setOf(f, 0), nil))
		if v := value(t, o, "fid"); v < 0 || v > 1e-12 || o.Scores[0].Interval.Low < 0 || *o.Scores[0].Corrected < 0 {
			t.Errorf("%d rows: %v, %+v", n, v, o.Scores[0])
		}
	}
}

// TestProtocols: what a protocol does not have is made in this program's way, and a note says how.
func TestProtocols(t *testing.T) {
	g, r := map[string]stats.Features{extract.Pool: random(1, 60, 12, 0.2)}, map[string]stats.Features{extract.Pool: random(4, 70, 12, 0)}
	for _, p := range eval.Protocols {
		c := fid("kid", "precision")
		c.Protocol = p
		o := must[*Outcome](t)(Scores(c, setOf(g, 0), setOf(r, 0), nil))
		subsets := p.Name == "clean-fid" // it takes smaller subsets of smaller sets, the others none
		if s := o.Scores[0]; (s.Spread != nil) != subsets || (s.StandardError != nil) == subsets {
			t.Errorf("%s: kid %+v", p.Name, s)
		}
		s := o.Scores[len(o.Scores)-1]
		if half := strings.Contains(strings.Join(s.Notes, " "), "half precision"); half != (p.Name == "adm") || !strings.Contains(s.Notes[0], "3 neighbours") {
			t.Errorf("%s: notes %q", p.Name, s.Notes)
		}
	}
}

func TestErrors(t *testing.T) {
	f := random(1, 30, 12, 0)
	good := map[string]stats.Features{extract.Pool: f}
	far := map[string]stats.Features{extract.Pool: {N: 2, D: 12, Data: append(slices.Clone(f.Data[:23]), float32(math.NaN()))}}
	short := setOf(good, 0)
	short.Rows++
	for want, o := range map[string]func() (*Outcome, error){
		"both sets need labels": func() (*Outcome, error) { return Scores(fid("class_fid"), setOf(good, 2), setOf(good, 0), nil) },
		"row 0 has 5 features, not 12": func() (*Outcome, error) {
			return Scores(fid("fid"), setOf(map[string]stats.Features{extract.Pool: random(1, 9, 5, 0)}, 0), setOf(good, 0), nil)
		},
		"30 rows of features, not 31": func() (*Outcome, error) { return Scores(fid("fid"), short, setOf(good, 0), nil) },
		"row 1, feature 11 is NaN":    func() (*Outcome, error) { return Scores(fid("fid"), setOf(far, 0), setOf(good, 0), nil) },
		"generated: 1 rows of features, 2 ne": func() (*Outcome, error) {
			return Scores(fid("fid"), setOf(map[string]stats.Features{extract.Pool: f.Rows(0, 1)}, 0), setOf(good, 0), nil)
		},
	} {
		if _, err := o(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
