package stats

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
)

func tensors(t testing.TB, name string) map[string]golden.Tensor {
	t.Helper()
	m := map[string]golden.Tensor{}
	for _, e := range golden.Tensors(t, filepath.Join(golden.Dir(t, "eval", "statistics"), name)) {
		m[e.Name] = e
	}
	return m
}

func features(t testing.TB, e golden.Tensor) Features {
	t.Helper()
	if len(e.Shape) != 2 {
		t.Fatalf("%q has shape %v", e.Name, e.Shape)
	}
	return Features{e.Shape[0], e.Shape[1], e.Float32s(t)}
}

// sets returns the sets of a case; the second is the first where there is none.
func sets(t testing.TB, m map[string]golden.Tensor, name string) (a, b Features) {
	t.Helper()
	a = features(t, m[name+".a"])
	if e, ok := m[name+".b"]; ok {
		return a, features(t, e)
	}
	return a, a
}

func ints(e golden.Tensor) (v []int64) {
	for i := 0; i < len(e.Data); i += 8 {
		v = append(v, int64(binary.LittleEndian.Uint64(e.Data[i:])))
	}
	return v
}

func indices(e golden.Tensor) (v []int) {
	for _, x := range ints(e) {
		v = append(v, int(x))
	}
	return v
}

func readJSON(t testing.TB, name string, v any) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(golden.Dir(t, "eval", "statistics"), name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(file, v); err != nil {
		t.Fatal(err)
	}
}

// compare fails beyond a relative error and keeps the largest one.
type comparison map[string]float64

func (c comparison) check(t *testing.T, key, what string, got, want, scale, tolerance float64) {
	t.Helper()
	e := math.Abs(got-want) / scale
	if got == want {
		e = 0
	}
	c[key] = max(c[key], e)
	if !(e <= tolerance) {
		t.Errorf("%s: %s: %.16g, want %.16g, error %.2g", what, key, got, want, e)
	}
}

func (c comparison) report(t *testing.T, tolerance float64) {
	for key, e := range c {
		golden.Line(t, "eval/statistics/"+key, e, tolerance)
	}
	if len(c) == 0 {
		t.Error("nothing compared")
	}
}

func TestMomentsGolden(t *testing.T) {
	fs, c := tensors(t, "features.safetensors"), comparison{}
	for name, e := range tensors(t, "moments.safetensors") {
		set, what, _ := strings.Cut(name, ".")
		what, side, _ := strings.Cut(what, "_")
		a, b := sets(t, fs, set)
		if side == "b" {
			a = b
		}
		m := NewMoments(a.D)
		if err := m.Add(a); err != nil {
			t.Fatal(err)
		}
		got := m.Mean()
		if what == "sigma" {
			s, err := m.Covariance()
			if err != nil {
				t.Fatal(err)
			}
			got = s.Data
		}
		want := e.Values(t)
		top := 0.0
		for _, v := range want {
			top = max(top, math.Abs(v))
		}
		for i, v := range want {
			c.check(t, "moments/"+what, name, got[i], v, max(top, math.SmallestNonzeroFloat64), 1e-13)
		}
	}
	c.report(t, 1e-13)
}

// exact is the distance with 60 digits where there is one, and how large the summed traces are.
type frechetCase struct {
	D, NA, NB int
	Float64   float64              `json:"exact_float64"`
	Digits    *struct{ Fd string } `json:"exact_60_digits"`
	Identical bool
}

func TestFrechetGolden(t *testing.T) {
	var want struct{ Cases map[string]frechetCase }
	readJSON(t, "frechet.json", &want)
	fs, c, slack := tensors(t, "features.safetensors"), comparison{}, comparison{}
	for name, w := range want.Cases {
		a, b := sets(t, fs, name)
		exact := w.Float64
		if w.Digits != nil {
			var err error
			if exact, err = strconv.ParseFloat(w.Digits.Fd, 64); err != nil {
				t.Fatal(err)
			}
		}
		p, err := NormalOf(a)
		if err != nil {
			t.Fatal(err)
		}
		q, err := NormalOf(b)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Frechet(p, q)
		if err != nil {
			t.Fatal(err)
		}
		if d.Value < 0 {
			t.Errorf("%s: distance %g is negative", name, d.Value)
		}
		scale := max(p.trace+q.trace, d.Mean)
		c.check(t, "frechet of traces", name, d.Value, exact, scale, 1e-12)
		if !w.Identical {
			c.check(t, "frechet", name, d.Value, exact, exact, 1e-10)
		}
		// From moments, that is from covariances in double precision.
		var ns []*Normal
		for _, f := range []Features{a, b} {
			m := NewMoments(f.D)
			if err := m.Add(f); err != nil {
				t.Fatal(err)
			}
			n, err := m.Normal()
			if err != nil {
				t.Fatal(err)
			}
			ns = append(ns, n)
		}
		if d, err = Frechet(ns[0], ns[1]); err != nil {
			t.Fatal(err)
		}
		slack.check(t, "frechet from moments", name, d.Value, exact, scale, 1e-10)
	}
	c.report(t, 1e-10)
	slack.report(t, 1e-10)
}

func TestRandomStateGolden(t *testing.T) {
	var want struct {
		Seed   uint32
		First  []uint32  `json:"first_uint32"`
		Ten    []int     `json:"permutation_10"`
		Many   []int     `json:"then_permutation_500_first_20"`
		Choice [][]int   `json:"choice_500_of_50_then_400_of_50"`
		Sample []float64 `json:"random_sample_4"`
		Normal []float64 `json:"standard_normal_after_4"`
	}
	readJSON(t, "random_state.json", &want)
	r := NewRandomState(want.Seed)
	for i, w := range want.First {
		if v := r.Uint32(); v != w {
			t.Errorf("word %d: %d, want %d", i, v, w)
		}
	}
	r = NewRandomState(want.Seed)
	if p := r.Permutation(10); !slices.Equal(p, want.Ten) {
		t.Errorf("permutation %v, want %v", p, want.Ten)
	}
	if p := r.Permutation(500)[:20]; !slices.Equal(p, want.Many) {
		t.Errorf("permutation %v, want %v", p, want.Many)
	}
	r = NewRandomState(want.Seed)
	for i, n := range []int{500, 400} {
		if p := r.Choice(n, 50); !slices.Equal(p, want.Choice[i]) {
			t.Errorf("choice %v, want %v", p, want.Choice[i])
		}
	}
	r = NewRandomState(want.Seed)
	for i, w := range want.Sample {
		if v := r.Float64(); v != w {
			t.Errorf("sample %d: %v, want %v", i, v, w)
		}
	}
	for i, w := range want.Normal {
		if v := r.Normal(); v != w {
			t.Errorf("normal %d: %v, want %v", i, v, w)
		}
	}
}

func TestExtrapolationGolden(t *testing.T) {
	var want struct {
		Infinity struct {
			Set        string
			Sizes      []int
			Fd         []float64
			Slope      float64
			Value      float64   `json:"fid_infinity"`
			Blocks     []float64 `json:"four_blocks"`
			All        float64   `json:"fd_all"`
			BlockValue float64   `json:"block_extrapolation"`
		} `json:"fid_infinity"`
		Class struct {
			Set     string
			Classes map[string]struct {
				NA      int     `json:"n_a"`
				NB      int     `json:"n_b"`
				ToClass float64 `json:"class_vs_class"`
				ToAll   float64 `json:"class_vs_all"`
			}
		} `json:"per_class"`
		Error struct {
			Cases map[string]struct {
				SE   float64 `json:"delta_se_sample_a"`
				Mean float64 `json:"influence_mean"`
			}
		} `json:"standard_error"`
	}
	readJSON(t, "extrapolation.json", &want)
	fs, extra, c := tensors(t, "features.safetensors"), tensors(t, "extrapolation.safetensors"), comparison{}
	w := want.Infinity
	a, b := sets(t, fs, w.Set)
	all, err := NormalOf(b)
	if err != nil {
		t.Fatal(err)
	}
	var subsets [][]int
	for i := range w.Sizes {
		subsets = append(subsets, indices(extra["subset_"+string(rune('0'+i/10))+string(rune('0'+i%10))]))
	}
	value, slope, fd, err := FrechetInfinity(a, all, subsets)
	if err != nil {
		t.Fatal(err)
	}
	c.check(t, "infinity", w.Set, value, w.Value, w.Value, 1e-10)
	c.check(t, "infinity/slope", w.Set, slope, w.Slope, w.Slope, 1e-10)
	for i, v := range w.Fd {
		c.check(t, "infinity/subsets", w.Set, fd[i], v, v, 1e-10)
	}
	own, err := InfinitySubsets(a.N, w.Sizes[0], len(w.Sizes), 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range own {
		if len(s) != w.Sizes[i] {
			t.Errorf("subset %d has %d rows, want %d", i, len(s), w.Sizes[i])
		}
	}
	value, blocks, err := FrechetBlocks(a, all, len(w.Blocks))
	if err != nil {
		t.Fatal(err)
	}
	c.check(t, "blocks", w.Set, value, w.BlockValue, w.BlockValue, 1e-10)
	for i, v := range w.Blocks {
		c.check(t, "blocks/each", w.Set, blocks[i], v, v, 1e-10)
	}

	a, b = sets(t, fs, want.Class.Set)
	of, err := Classes(b, ints(extra["labels_b"]))
	if err != nil {
		t.Fatal(err)
	}
	if all, err = NormalOf(b); err != nil {
		t.Fatal(err)
	}
	classes, err := FrechetByClass(a, ints(extra["labels_a"]), of, all)
	if err != nil {
		t.Fatal(err)
	}
	if len(classes) != len(want.Class.Classes) {
		t.Errorf("%d classes, want %d", len(classes), len(want.Class.Classes))
	}
	for _, got := range classes {
		key := strconv.FormatInt(got.Class, 10)
		w := want.Class.Classes[key]
		if got.NA != w.NA || got.NB != w.NB {
			t.Errorf("class %s: %d and %d rows, want %d and %d", key, got.NA, got.NB, w.NA, w.NB)
		}
		c.check(t, "class to class", key, got.ToClass, w.ToClass, w.ToClass, 1e-10)
		c.check(t, "class to all", key, got.ToAll, w.ToAll, w.ToAll, 1e-10)
	}

	for name, w := range want.Error.Cases {
		a, b := sets(t, fs, name)
		q, err := NormalOf(b)
		if err != nil {
			t.Fatal(err)
		}
		se, err := FrechetError(a, q)
		if err != nil {
			t.Fatal(err)
		}
		c.check(t, "standard error", name, se, w.SE, w.SE, 1e-10)
		v, err := influences(a, q)
		if err != nil {
			t.Fatal(err)
		}
		mean, _ := meanAndSpread(v, 1)
		c.check(t, "influence", name, mean, w.Mean, 1, 1e-10)
	}
	c.report(t, 1e-10)
}
