package sample

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
)

// script stands for both networks and writes down which of them ran.
type script struct{ log *strings.Builder }

func (s script) Run(in map[string][]float32) ([][]float32, error) {
	s.log.WriteByte('f')
	return [][]float32{in["x"], in["x"]}, nil
}

type shallowScript script

func (s shallowScript) Run(in map[string][]float32) ([][]float32, error) {
	s.log.WriteByte('.')
	return [][]float32{in["x"]}, nil
}

func TestReuseSteps(t *testing.T) {
	for _, c := range []struct {
		name  string
		every int
		calls []int // step of each prediction
		want  string
	}{
		{"every step", 1, []int{0, 1, 2, 3}, "ffff"},
		{"every second step", 2, []int{0, 1, 2, 3, 4}, "f.f.f"},
		{"every third step", 3, []int{0, 1, 2, 3, 4, 5, 6, 7}, "f..f..f."},
		{"two predictions in the first step", 3, []int{0, 0, 1, 2, 3, 4}, "ff..f."},
		{"two predictions in every step", 2, []int{0, 0, 1, 1, 2, 2, 3}, "ff..ff."},
		{"guidance from the fourth step to the eighth", 3, []int{4, 5, 6, 7, 8}, "f.f.."},
		{"guidance off and on again", 5, []int{0, 1, 8, 9, 10}, "f.f.f"},
		{"another walk", 3, []int{0, 1, 0, 1, 2}, "f.f.."},
		{"no steps", 3, []int{-1, -1, -1}, "fff"},
	} {
		var log strings.Builder
		r := &reused{full: script{&log}, shallow: shallowScript{&log}, every: c.every, n: 2, step: -1, at: -1}
		for _, k := range c.calls {
			if k >= 0 {
				r.Step(k)
			}
			if _, err := r.Run(map[string][]float32{"x": {1}}); err != nil {
				t.Fatal(err)
			}
		}
		if log.String() != c.want {
			t.Errorf("%s: %s, want %s", c.name, log.String(), c.want)
		}
		if want := (ReuseCount{2 * strings.Count(c.want, "f"), 2 * strings.Count(c.want, ".")}); r.count != want {
			t.Errorf("%s: counted %+v, want %+v", c.name, r.count, want)
		}
	}
}

// reuseWalk makes a walk over samples [from, to) of a case that reuses features in the given way; every 0 is without.
func reuseWalk(t *testing.T, f *fixture, from, to int, cfg Config, every, branch int) ([]float32, ReuseCount) {
	t.Helper()
	x, shape := f.Tensor("x_T")
	of := func(v []float32) []float32 {
		per := len(v) / shape[0]
		return v[from*per : to*per]
	}
	n, h, w := to-from, shape[2], shape[3]
	cond := Condition{Context: of(f.cond.Context), Tokens: f.cond.Tokens, Concat: of(f.cond.Concat)}
	guided := cfg.Guidance != 1
	m := n
	if guided {
		m = 2 * n
		u := Condition{Context: of(f.uncond.Context), Tokens: f.uncond.Tokens, Concat: of(f.uncond.Concat)}
		var err error
		if cond, err = joinConditions(u, cond); err != nil {
			t.Fatal(err)
		}
	}
	u, err := newUNet(f.session, m, h, w, cond, reuse{})
	if err != nil {
		t.Fatal(err)
	}
	if every > 0 {
		if u.net, err = newReused(f.session, m, h, w, cond.Tokens, reuse{every, branch}); err != nil {
			t.Fatal(err)
		}
	}
	var d Denoiser = u
	if guided {
		d = &Guided{Pair: u, Scale: cfg.Guidance}
	}
	p, err := New(cfg, f.sched)
	if err != nil {
		t.Fatal(err)
	}
	z := slices.Clone(of(x))
	if err := p.Sample(context.Background(), d, z, n, nil, Hooks{}); err != nil {
		t.Fatal(err)
	}
	return z, Reuse(d)
}

// TestReuseWalks checks whole walks of every reference model: every step computed is no reuse, bit for bit; the result of a
// sample does not depend on the samples beside it; and the counts are those of the steps.
func TestReuseWalks(t *testing.T) {
	if testing.Short() {
		t.Skip("runs whole networks many times")
	}
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		f := newFixture(t, c)
		_, shape := f.Tensor("x_T")
		cfg := Config{Name: "plms", Steps: 8, Guidance: 1, Spacing: "uniform", Temperature: 1}
		if f.uncond != nil {
			cfg.Guidance = 3
		}
		exact, none := reuseWalk(t, f, 0, shape[0], cfg, 0, 0)
		if none != (ReuseCount{}) {
			t.Errorf("counted %+v without reuse", none)
		}
		if one, _ := reuseWalk(t, f, 0, shape[0], cfg, 1, 0); !slices.Equal(one, exact) {
			t.Error("reuse with every step computed has other bits than no reuse")
		}
		for branch := range 2 {
			all, count := reuseWalk(t, f, 0, shape[0], cfg, 3, branch)
			n := shape[0]
			if cfg.Guidance != 1 {
				n *= 2
			}
			if want := (ReuseCount{Full: 4 * n, Shallow: 5 * n}); count != want { // the first step predicts twice
				t.Errorf("counted %+v, want %+v", count, want)
			}
			if slices.Equal(all, exact) {
				t.Errorf("branch %d: reuse changes nothing", branch)
			}
			for i := range shape[0] {
				alone, _ := reuseWalk(t, f, i, i+1, cfg, 3, branch)
				if per := len(all) / shape[0]; !slices.Equal(alone, all[i*per:(i+1)*per]) {
					t.Errorf("branch %d: sample %d has other bits alone", branch, i)
				}
			}
		}
	})
}

// TestReuseDeviation reports what reuse costs in accuracy and saves in time, by the interval and the branch. The weights of
// these models are not trained, so that the numbers say little about images; that the error grows with the interval is a
// property of the method.
func TestReuseDeviation(t *testing.T) {
	if testing.Short() {
		t.Skip("runs whole networks many times")
	}
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		if c.Has("cond") && c.Config.Conditioner.Kind != nn.ClassEmbedder {
			t.Skip("the report has class-conditional and unconditional models")
		}
		f := newFixture(t, c)
		_, shape := f.Tensor("x_T")
		cfg := Config{Name: "ddim", Steps: 50, Guidance: 1, Spacing: "uniform", Temperature: 1}
		if f.uncond != nil {
			cfg.Guidance = 3
		}
		walk := func(every, branch int) ([]float32, time.Duration) {
			start := time.Now()
			z, _ := reuseWalk(t, f, 0, shape[0], cfg, every, branch)
			return z, time.Since(start)
		}
		exact, whole := walk(0, 0)
		for branch := range 3 {
			last := 0.0
			for _, every := range []int{2, 3, 5} {
				z, took := walk(every, branch)
				dev := golden.RelL2(z, exact)
				t.Logf("branch %d, every %d: relative L2 deviation %.4f, %.2f times as fast", branch, every, dev, whole.Seconds()/took.Seconds())
				if !(dev > last && dev < 1) {
					t.Errorf("branch %d, every %d: deviation %v after %v", branch, every, dev, last)
				}
				last = dev
			}
		}
	})
}

// asking is noise that asks something whenever a walk begins.
type asking struct {
	RowNoise
	ask func()
}

func (n asking) Initial(dst []float32) error { n.ask(); return n.RowNoise.Initial(dst) }

// TestMeasureReuse goes through the generator: its results are those of the walks, and the measure is theirs.
func TestMeasureReuse(t *testing.T) {
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		if c.Has("cond") && c.Config.Conditioner.Kind != nn.ClassEmbedder {
			t.Skip("needs a condition of another kind")
		}
		f := newFixture(t, c)
		cfg := Config{Name: "ddim", Steps: 10, Eta: 0.5, Guidance: 1, Spacing: "uniform", Temperature: 1, ReuseEvery: 3, ReuseBranch: 1}
		if f.uncond != nil {
			cfg.Guidance = 2
		}
		_, shape := f.Tensor("x_T")
		generate := func(cfg Config) (*Generator, Request) {
			g, err := NewGenerator(f.session, cfg)
			if err != nil {
				t.Fatal(err)
			}
			r := Request{N: shape[0], H: shape[2] * g.Factor(), W: shape[3] * g.Factor(), Cond: f.cond, Uncond: f.uncond, Noise: RowNoise{Seed: 1}}
			for i := range r.N {
				r.Noise = RowNoise{Seed: 1, Rows: append(r.Noise.(RowNoise).Rows, string(rune('a'+i)))}
			}
			return g, r
		}
		latents := func(cfg Config) []float32 {
			g, r := generate(cfg)
			z, err := g.GenerateLatents(context.Background(), r)
			if err != nil {
				t.Fatal(err)
			}
			return z
		}
		g, r := generate(cfg)
		needs := func() int64 { // of the walk with reuse, at any time
			need, err := g.Needs(r)
			if err != nil {
				t.Fatal(err)
			}
			return need.FLOP
		}
		want, walks := needs(), 0
		asked := r
		asked.Noise = asking{r.Noise.(RowNoise), func() {
			if walks++; needs() != want {
				t.Errorf("in walk %d the same request needs %d, not %d", walks, needs(), want)
			}
		}}
		z, d, err := g.MeasureReuse(context.Background(), asked)
		if err != nil || walks != 2 {
			t.Fatalf("%d walks, %v", walks, err)
		}
		if !slices.Equal(z, latents(cfg)) {
			t.Error("the measured batch has other bits than one alone")
		}
		exact := cfg
		exact.ReuseEvery = 0
		e := latents(exact)
		if want := golden.RelL2(z, e); d.RelL2 != want || !(d.RelL2 > 0 && d.RelL2 < 1) || d.Worst < d.RelL2 {
			t.Errorf("measured %+v, the deviation is %v", d, want)
		}
		n := r.N
		if cfg.Guidance != 1 {
			n *= 2
		}
		if want := (ReuseCount{Full: 4 * n, Shallow: 6 * n}); g.Reuse() != want {
			t.Errorf("counted %+v, want %+v", g.Reuse(), want)
		}
		one := cfg
		one.ReuseEvery = 1
		if !slices.Equal(latents(one), e) {
			t.Error("reuse of every step has other bits")
		}

		cfg.ReuseBranch = 99
		if _, err := NewGenerator(f.session, cfg); exitcode.Of(err) != exitcode.Usage {
			t.Errorf("branch 99: %v", err)
		}
		cfg.ReuseBranch = 0
		g, r = generate(cfg)
		r.Patches = &PatchConfig{Size: [2]int{shape[2], shape[3]}, Stride: [2]int{shape[2], shape[3]}}
		if _, err := g.GenerateLatents(context.Background(), r); exitcode.Of(err) != exitcode.Usage {
			t.Errorf("patches: %v", err)
		}
	})
}
