package sample

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
)

// each calls f for every combination of sampler and spacing.
func each(t *testing.T, f func(t *testing.T, c Config, p *Sampler)) {
	s := ldmSchedule(t)
	for _, name := range Names {
		for _, spacing := range SpacingsOf(name) {
			t.Run(name+" "+spacing, func(t *testing.T) {
				c := Config{Name: name, Spacing: spacing, Steps: 10, Guidance: 1, Temperature: 1}
				if name == "ddim" {
					c.Eta = 0.5
				}
				p, err := New(c, s)
				if err != nil {
					t.Fatal(err)
				}
				f(t, c, p)
			})
		}
	}
}

// rows are the ids, and latents of standard normal numbers, of n rows of four coordinates.
func rows(n int) (RowNoise, []float32) {
	noise := RowNoise{Seed: 5}
	for i := range n {
		noise.Rows = append(noise.Rows, fmt.Sprint("row ", i))
	}
	x := make([]float32, 4*n)
	noise.Fill(StreamInitial, x)
	return noise, x
}

func sampled(t *testing.T, p *Sampler, x []float32, last int, noise RowNoise, h Hooks) []float32 {
	t.Helper()
	g := newGaussian(t, p.sched, []float64{0, 1, -0.5, 2}, []float64{1, 0.5, 0.25, 1.5})
	z := slices.Clone(x)
	if err := p.SampleLast(context.Background(), g, z, len(noise.Rows), last, noise, h); err != nil {
		t.Fatal(err)
	}
	if want := p.Predictions(last); g.calls != want {
		t.Errorf("%d predictions, said to be %d", g.calls, want)
	}
	return z
}

// TestRowsAlone walks five rows together and one by one: the same bytes. The sampler is used again and again, also for parts of a
// walk, so that nothing of a walk may stay behind.
func TestRowsAlone(t *testing.T) {
	each(t, func(t *testing.T, c Config, p *Sampler) {
		noise, x := rows(5)
		for _, last := range []int{p.Steps(), p.Steps() / 2, 1, 0} {
			all := sampled(t, p, x, last, noise, Hooks{})
			for i := range 5 {
				one := sampled(t, p, x[4*i:4*i+4], last, RowNoise{Seed: 5, Rows: noise.Rows[i : i+1]}, Hooks{})
				if !slices.Equal(one, all[4*i:4*i+4]) {
					t.Errorf("last %d: row %d alone is %v, in a batch %v", last, i, one, all[4*i:4*i+4])
				}
			}
		}
	})
}

// TestHooks checks what hooks see and that what they change counts.
func TestHooks(t *testing.T) {
	each(t, func(t *testing.T, c Config, p *Sampler) {
		noise, x := rows(2)
		plain := sampled(t, p, x, p.Steps(), noise, Hooks{})
		estimates, before, after := 0, 0, 0
		watched := sampled(t, p, x, p.Steps(), noise, Hooks{
			OnX0: func(x0 []float32) error { estimates++; return nil },
			Before: func(k int, l Level, _ []float32) error {
				if k != before || l != p.Level(k) {
					t.Errorf("before step %d at %v, told %d at %v", before, p.Level(before), k, l)
				}
				before++
				return nil
			},
			After: func(k int, l Level, z, x0 []float32) error {
				if k != after || l != p.Level(k) || len(z) != len(x) || len(x0) != len(x) {
					t.Errorf("after step %d, told %d at %v", after, k, l)
				}
				if k == p.Steps()-1 && p.steps == nil && c.Name != "ddpm" && !slices.Equal(z, x0) {
					t.Errorf("the walk ends with %v, not with the estimate %v", z, x0)
				}
				after++
				return nil
			},
		})
		if !slices.Equal(plain, watched) {
			t.Error("hooks that change nothing change the result")
		}
		if before != p.Steps() || after != p.Steps() || estimates != p.Predictions(p.Steps()) {
			t.Errorf("%d calls before and %d after %d steps, %d estimates", before, after, p.Steps(), estimates)
		}
		zero := sampled(t, p, x, p.Steps(), noise, Hooks{OnX0: func(x0 []float32) error { clear(x0); return nil }})
		if slices.Equal(zero, plain) {
			t.Error("changing the estimates changes nothing")
		}
		boom := errors.New("boom")
		for name, h := range map[string]Hooks{
			"OnX0":   {OnX0: func([]float32) error { return boom }},
			"Before": {Before: func(int, Level, []float32) error { return boom }},
			"After":  {After: func(int, Level, []float32, []float32) error { return boom }},
		} {
			g := newGaussian(t, p.sched, []float64{0, 0, 0, 0}, []float64{1, 1, 1, 1})
			if err := p.Sample(context.Background(), g, slices.Clone(x), 2, noise, h); !errors.Is(err, boom) || !strings.Contains(err.Error(), "step 1 of") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestKeepWalks keeps half of the coordinates, which the model treats independently: the others are as without, bit for bit, and
// the kept ones come out close to what is known.
func TestKeepWalks(t *testing.T) {
	each(t, func(t *testing.T, c Config, p *Sampler) {
		noise, x := rows(3)
		keep := Keep{Known: make([]float32, 12), Mask: make([]float32, 12), N: 3, Cells: 4, Noise: noise}
		for i := range keep.Known {
			keep.Known[i], keep.Mask[i] = []float32{1, 1.5, -0.75, 4}[i%4], float32(i%2)
		}
		h, err := keep.Hooks(p)
		if err != nil {
			t.Fatal(err)
		}
		free, kept := sampled(t, p, x, p.Steps(), noise, Hooks{}), sampled(t, p, x, p.Steps(), noise, h)
		low := p.levels[0].ratio()
		for i := range x {
			switch {
			case keep.Mask[i] == 0 && free[i] != kept[i]:
				t.Errorf("free coordinate %d is %v, without a known region %v", i, kept[i], free[i])
			case keep.Mask[i] == 1 && !(math.Abs(float64(kept[i]-keep.Known[i])) < 4*low):
				t.Errorf("kept coordinate %d is %v, known %v", i, kept[i], keep.Known[i])
			}
		}
	})
}

// TestStartInTheMiddle brings samples to the level of a step and walks from there: deterministic samplers follow the ODE.
func TestStartInTheMiddle(t *testing.T) {
	s := ldmSchedule(t)
	for _, name := range Names {
		c := Config{Name: name, Spacing: SpacingsOf(name)[0], Steps: 200, Guidance: 1, Temperature: 1}
		if c.Stochastic() {
			continue
		}
		p, err := New(c, s)
		if err != nil {
			t.Fatal(err)
		}
		noise, x := rows(6)
		known := make([]float32, len(x))
		Normal(9, "known", 0, known)
		const last = 100
		l := p.Level(p.Steps() - last)
		l.Diffuse(x, known, x)
		g := newGaussian(t, s, []float64{0, 1, -0.5, 2}, []float64{1, 0.5, 0.25, 1.5})
		for i, v := range sampled(t, p, x, last, noise, Hooks{}) {
			want := g.exact(float64(x[i]), l, clean, i%4)
			if !(math.Abs(float64(v)-want) < 0.05) {
				t.Errorf("%s: coordinate %d is %g, the ODE leads to %g", name, i, v, want)
			}
		}
	}
}

// ancestralStd is the standard deviation, exact but for rounding, of what Euler-ancestral steps between levels make of standard
// normal numbers when the data has one of d: every step is linear in the latent. DDIM with eta 1 makes the same steps.
func ancestralStd(p *Sampler, end Level, d float64) float64 {
	v := math.Pow(1/p.Level(0).Alpha, 2) // of x / alpha
	for k := range p.Steps() {
		s, t := p.Level(k).ratio(), end.ratio()
		if k+1 < p.Steps() {
			t = p.Level(k + 1).ratio()
		}
		up := t * t * (s*s - t*t) / (s * s)
		down := math.Sqrt(t*t - up)
		a := 1 + (down-s)*s/(d*d+s*s)
		v = a*a*v + up
	}
	return end.Alpha * math.Sqrt(v)
}

// TestDistribution checks that stochastic samplers draw what their steps mean in exact arithmetic, by mean and standard deviation
// of 10,000 samples, and that this comes to the data's distribution as steps are added.
func TestDistribution(t *testing.T) {
	const n, size, mean, std = 10, 1000, 0.75, 0.5
	s := ldmSchedule(t)
	g := newGaussian(t, s, slices.Repeat([]float64{mean}, size), slices.Repeat([]float64{std}, size))
	noise := RowNoise{Seed: 11}
	for i := range n {
		noise.Rows = append(noise.Rows, fmt.Sprint(i))
	}
	for _, c := range []Config{
		{Name: "euler-a", Spacing: "karras"}, {Name: "euler-a", Spacing: "uniform"}, {Name: "ddim", Eta: 1, Spacing: "trailing"},
	} {
		c.Guidance, c.Temperature = 1, 1
		sampler := func(steps int) (p *Sampler, want float64) {
			c.Steps = steps
			p, err := New(c, s)
			if err != nil {
				t.Fatal(err)
			}
			end := clean
			if p.steps != nil {
				end = s.level(0)
			}
			return p, ancestralStd(p, end, std)
		}
		for _, steps := range []int{10, 100} {
			p, want := sampler(steps)
			x := make([]float32, n*size)
			noise.Fill(StreamInitial, x)
			if err := p.Sample(context.Background(), g, x, n, noise, Hooks{}); err != nil {
				t.Fatal(err)
			}
			m, d := 0.0, deviation(x)
			for _, v := range x {
				m += float64(v) / float64(len(x))
			}
			t.Logf("%s %s S=%d: mean %.4f, standard deviation %.4f (exact %.4f)", c.Name, c.Spacing, steps, m, d, want)
			if !(math.Abs(m-mean) < 4*std/math.Sqrt(n*size)) || !(math.Abs(d-want) < 4*want/math.Sqrt(2*n*size)) {
				t.Errorf("%s %s S=%d: mean %g, want %g; standard deviation %g, want %g", c.Name, c.Spacing, steps, m, mean, d, want)
			}
		}
		off := func(steps int) float64 {
			_, d := sampler(steps)
			return 1 - d/std
		}
		a, b, c := off(125), off(250), off(500)
		t.Logf("standard deviation too small by %.4f, %.4f, %.4f with 125, 250, 500 steps", a, b, c)
		if !(c > 0 && c < 0.025 && b < 0.65*a && c < 0.65*b) {
			t.Error("this does not converge to the data's")
		}
	}
}

// TestTemperature checks that a temperature of 0 takes the noise away, with the samplers that have any.
func TestTemperature(t *testing.T) {
	each(t, func(t *testing.T, c Config, p *Sampler) {
		noise, x := rows(2)
		other := RowNoise{Seed: 6, Rows: noise.Rows}
		same := slices.Equal(sampled(t, p, x, p.Steps(), noise, Hooks{}), sampled(t, p, x, p.Steps(), other, Hooks{}))
		if same == c.Stochastic() {
			t.Errorf("stochastic %t, other noise gives the same %t", c.Stochastic(), same)
		}
		p.cfg.Temperature = 0
		if !slices.Equal(sampled(t, p, x, p.Steps(), noise, Hooks{}), sampled(t, p, x, p.Steps(), other, Hooks{})) {
			t.Error("noise counts at temperature 0")
		}
	})
}

// stepping counts calls of Step and fails or cancels in a chosen prediction.
type stepping struct {
	*gaussian
	steps, at int
	do        func() error
}

func (s *stepping) Step(int, int) { s.steps++ }
func (s *stepping) Predict(x, t, eps []float32) error {
	if s.calls == s.at {
		if err := s.do(); err != nil {
			return err
		}
	}
	return s.gaussian.Predict(x, t, eps)
}

// TestStops checks that a denoiser's error and the end of the context end a walk, and that steps are told.
func TestStops(t *testing.T) {
	boom := errors.New("boom")
	each(t, func(t *testing.T, c Config, p *Sampler) {
		noise, x := rows(1)
		g := func() *gaussian {
			return newGaussian(t, p.sched, []float64{0, 0, 0, 0}, []float64{1, 1, 1, 1})
		}
		for at := range 3 { // heun and plms predict twice in the first step
			d := &stepping{gaussian: g(), at: at, do: func() error { return boom }}
			if err := p.Sample(context.Background(), d, slices.Clone(x), 1, noise, Hooks{}); !errors.Is(err, boom) {
				t.Errorf("prediction %d: %v", at, err)
			}
		}
		ctx, cancel := context.WithCancelCause(context.Background())
		d := &stepping{gaussian: g(), at: 4, do: func() error { cancel(boom); return nil }}
		if err := p.Sample(ctx, d, slices.Clone(x), 1, noise, Hooks{}); !errors.Is(err, boom) {
			t.Errorf("cancelled: %v", err)
		}
		if d.steps > 6 || d.calls > 7 {
			t.Errorf("%d steps and %d predictions after the end", d.steps, d.calls)
		}
		d = &stepping{gaussian: g(), at: -1}
		if err := p.Sample(context.Background(), d, x, 1, noise, Hooks{}); err != nil || d.steps != p.Steps() {
			t.Errorf("told %d of %d steps: %v", d.steps, p.Steps(), err)
		}
	})
}

// TestLevels checks spacings against their definitions.
func TestLevels(t *testing.T) {
	s := ldmSchedule(t)
	times := func(name, spacing string, steps int) (ts []float32) {
		p, err := New(Config{Name: name, Spacing: spacing, Steps: steps, Guidance: 1}, s)
		if err != nil {
			t.Fatal(err)
		}
		for k := range p.Steps() {
			ts = append(ts, p.Level(k).T)
		}
		return ts
	}
	for _, c := range []struct {
		name, spacing string
		steps         int
		want          []float32
	}{
		{"ddim", "trailing", 4, []float32{999, 749, 499, 249}},
		{"unipc", "trailing", 3, []float32{999, 666, 332}},
		{"euler", "uniform", 4, []float32{751, 501, 251, 1}},
		{"euler", "linspace", 4, []float32{999, 666, 333, 0}},
		{"euler", "linspace", 3, []float32{999, 499.5, 0}},
		{"euler", "linspace", 1, []float32{999}},
		{"heun", "karras", 1, []float32{999}},
		{"dpmpp-2m", "linspace", 4, []float32{999, 749, 500, 250}},
	} {
		if got := times(c.name, c.spacing, c.steps); !slices.Equal(got, c.want) {
			t.Errorf("%s %s %d: %v, want %v", c.name, c.spacing, c.steps, got, c.want)
		}
	}
	for _, ts := range [][]float32{times("ddim", "trailing", 1000), times("heun", "trailing", 7), times("euler", "karras", 1000)} {
		if ts[0] != 999 || !slices.IsSortedFunc(ts, func(a, b float32) int { return int(math.Copysign(1, float64(b-a))) }) {
			t.Errorf("times do not descend from 999: %v", ts)
		}
	}
	p, err := New(Config{Name: "heun", Spacing: "karras", Steps: 9, Guidance: 1}, s)
	if err != nil {
		t.Fatal(err)
	}
	root := func(k int) float64 { return math.Pow(p.Level(k).ratio(), 1./7) }
	for k := range 7 {
		if d := root(k) - 2*root(k+1) + root(k+2); math.Abs(d) > 1e-12 {
			t.Errorf("seventh roots of the levels are not evenly spaced at step %d: %g", k, d)
		}
	}
	if lo, hi := p.Level(8).ratio(), p.Level(0).ratio(); math.Abs(lo-0.03876) > 1e-5 || math.Abs(hi-83.822) > 0.01 {
		t.Errorf("karras goes from %g to %g", hi, lo)
	}
}

// TestConfig lists configurations and what is said about them.
func TestConfig(t *testing.T) {
	s := ldmSchedule(t)
	for _, c := range []struct {
		change func(c *Config)
		want   string // "" for none
	}{
		{func(c *Config) {}, ""},
		{func(c *Config) { c.Name = "euler_a" }, `name: "euler_a" is not one of [ddim ddpm plms dpmpp-2m unipc heun euler euler-a]`},
		{func(c *Config) { c.Spacing = "cubic" }, `spacing: "cubic" is not one of [uniform quad trailing linspace karras]`},
		{func(c *Config) { c.Spacing = "karras" }, "spacing: ddim has none named karras, only [uniform quad trailing]"},
		{func(c *Config) { c.Spacing = "trailing" }, ""},
		{func(c *Config) { c.Name, c.Spacing = "plms", "trailing" }, ""},
		{func(c *Config) { c.Name, c.Spacing = "ddpm", "quad" }, "spacing: ddpm has none named quad, only [uniform]"},
		{func(c *Config) { c.Name, c.Spacing = "unipc", "quad" }, "spacing: unipc has none named quad, only [uniform trailing linspace karras]"},
		{func(c *Config) { c.Name, c.Spacing = "euler-a", "karras" }, ""},
		{func(c *Config) { c.Name, c.Eta = "unipc", 1 }, "eta: unipc needs 0, not 1"},
		{func(c *Config) { c.Name, c.Steps, c.Spacing = "heun", 1001, "karras" }, "steps: 1001 is not in 1..1000"},
		{func(c *Config) { c.Name, c.Steps, c.Spacing = "unipc", 1000, "linspace" }, "steps: 1000 are too many for linspace spacing of 1000 times"},
		{func(c *Config) { c.Name, c.Steps = "unipc", 0 }, "steps: 0 is not at least 1"},
		{func(c *Config) { c.GuidanceRescale = 1.5 }, "guidance_rescale: 1.5 is not in [0, 1]"},
		{func(c *Config) { c.GuidanceRescale = math.NaN() }, "guidance_rescale: NaN is not in [0, 1]"},
		{func(c *Config) { c.GuidanceRescale, c.GuidanceTo = 0.7, 0.5 }, ""},
		{func(c *Config) { c.GuidanceFrom = 0.5 }, "guidance_from, guidance_to: 0.5, 0 are not 0 <= from < to <= 1"},
		{func(c *Config) { c.GuidanceTo = math.NaN() }, "guidance_from, guidance_to: 0, NaN are not"},
	} {
		cfg := DefaultConfig()
		c.change(&cfg)
		_, err := New(cfg, s)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", cfg, err, c.want)
		}
	}
	flat := ldmSchedule(t)
	flat.alphasCumprod = slices.Clone(flat.alphasCumprod)
	flat.alphasCumprod[999] = 0
	if _, err := New(Config{Name: "euler", Spacing: "uniform", Steps: 10}, flat); err == nil || !strings.Contains(err.Error(), "from time 998 to 999") {
		t.Errorf("a process that ends in pure noise: %v", err)
	}
}

// halves is a pair of known predictions and the conditional one alone.
type halves struct {
	cond, uncond []float32
	pairs, alone int
	times        []float32 // of calls of the pair
}

func (h *halves) PredictPair(x, t, eps []float32) error {
	h.pairs++
	h.times = append(h.times, t[0])
	n := len(x) / 2
	copy(eps, h.uncond[:n])
	copy(eps[n:], h.cond[:n])
	return nil
}

func (h *halves) Predict(x, t, eps []float32) error {
	h.alone++
	copy(eps, h.cond)
	return nil
}

// TestGuided checks guidance, its rescaling and its interval on known predictions.
func TestGuided(t *testing.T) {
	const n, size = 3, 32
	h := &halves{cond: make([]float32, n*size), uncond: make([]float32, n*size)}
	Normal(1, "c", 0, h.cond)
	Normal(1, "u", 0, h.uncond)
	predict := func(g *Guided, n int, at float32) []float32 {
		g.Pair, g.Cond, g.T = h, h, 1000
		eps := make([]float32, n*size)
		if err := g.Predict(make([]float32, n*size), slices.Repeat([]float32{at}, n), eps); err != nil {
			t.Fatal(err)
		}
		return eps
	}
	plain := predict(&Guided{Scale: 3}, n, 500)
	for i, e := range plain {
		if want := h.uncond[i] + float32(3*(h.cond[i]-h.uncond[i])); e != want {
			t.Fatalf("eps %d is %g, want %g", i, e, want)
		}
	}
	for _, phi := range []float64{0.3, 1} {
		got := predict(&Guided{Scale: 3, Rescale: phi}, n, 500)
		for i := range n {
			row := func(v []float32) []float32 { return v[i*size : (i+1)*size] }
			want := phi*deviation(row(h.cond)) + (1-phi)*deviation(row(plain))
			if d := deviation(row(got)); math.Abs(d/want-1) > 1e-6 {
				t.Errorf("rescale %g: standard deviation %g, want %g", phi, d, want)
			}
			alone := &halves{cond: row(h.cond), uncond: row(h.uncond)}
			one := make([]float32, size)
			g := &Guided{Pair: alone, Scale: 3, Rescale: phi}
			if err := g.Predict(make([]float32, size), []float32{500}, one); err != nil || !slices.Equal(one, row(got)) {
				t.Errorf("rescale %g: sample %d alone has other bits (%v)", phi, i, err)
			}
		}
	}
	if eps := predict(&Guided{Scale: 3, Rescale: 1}, 1, 1); len(eps) != size {
		t.Fatal("no prediction")
	}
	flat := []float32{2, 2}
	rescale(flat, []float32{1, 3}, 1)
	if flat[0] != 2 {
		t.Errorf("a constant prediction is rescaled to %g", flat[0])
	}
	for at, guided := range map[float32]bool{0: false, 249.5: false, 250: true, 500: true, 749.5: true, 750: false, 999: false} {
		before := h.alone
		got := predict(&Guided{Scale: 3, From: 0.25, To: 0.75}, n, at)
		want := h.cond
		if guided {
			want = plain
		}
		if !slices.Equal(got, want) || (h.alone > before) == guided {
			t.Errorf("at time %g guided is not %t", at, guided)
		}
	}
}

// TestGuidanceInterval walks reference models with guidance: an interval of everything is no interval, one without any time is
// no guidance, bit for bit; one between makes the predictions that it should and no more.
func TestGuidanceInterval(t *testing.T) {
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		if !c.Has("uncond") {
			t.Skip("no guidance")
		}
		f := newFixture(t, c)
		x, shape := f.Tensor("x_T")
		cfg := Config{Name: "heun", Steps: 4, Guidance: 3, Spacing: "karras", Temperature: 1}
		walk := func(cfg Config) ([]float32, ReuseCount) {
			d, err := f.denoiser(shape, cfg)
			if err != nil {
				t.Fatal(err)
			}
			p, err := New(cfg, f.sched)
			if err != nil {
				t.Fatal(err)
			}
			z := slices.Clone(x)
			if err := p.Sample(context.Background(), d, z, shape[0], nil, Hooks{}); err != nil {
				t.Fatal(err)
			}
			return z, Reuse(d)
		}
		everywhere, _ := walk(cfg)
		cfg.GuidanceTo = 1
		if z, _ := walk(cfg); !slices.Equal(z, everywhere) {
			t.Error("an interval of all times has other bits than none")
		}
		cfg.GuidanceFrom, cfg.GuidanceTo = 0.9999, 1
		nowhere, _ := walk(cfg)
		cfg.Guidance = 1
		if z, _ := walk(cfg); !slices.Equal(z, nowhere) {
			t.Error("an interval of no time has other bits than no guidance")
		}
		cfg.Guidance, cfg.GuidanceFrom, cfg.GuidanceTo, cfg.ReuseEvery = 3, 0.2, 0.8, 2
		z, count := walk(cfg)
		if slices.Equal(z, nowhere) || slices.Equal(z, everywhere) {
			t.Error("an interval changes nothing")
		}
		p, err := New(cfg, f.sched)
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		for k := range p.Steps() {
			for i, l := range []Level{p.Level(k), p.Level(min(k+1, p.Steps()-1))} {
				if v := l.T / 1000; i == 0 || k < p.Steps()-1 {
					want++
					if v >= 0.2 && v < 0.8 {
						want++
					}
				}
			}
		}
		if got := (count.Full + count.Shallow) / shape[0]; got != want {
			t.Errorf("%d predictions of each latent, want %d", got, want)
		}
		cfg.ReuseEvery, cfg.GuidanceFrom, cfg.GuidanceTo, cfg.GuidanceRescale = 0, 0, 0, 0.7
		if z, _ := walk(cfg); slices.Equal(z, everywhere) {
			t.Error("rescaling changes nothing")
		}
	})
}

// TestSolversOnNetworks runs every solver on the reference models: two rows together and alone have the same bytes; times between
// whole ones are predicted for, and lie between.
func TestSolversOnNetworks(t *testing.T) {
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		f := newFixture(t, c)
		x, shape := f.Tensor("x_T")
		eps := func(at float32) []float32 {
			d, err := f.denoiser(shape, Config{Guidance: 1})
			if err != nil {
				t.Fatal(err)
			}
			e := make([]float32, len(x))
			if err := d.Predict(x, slices.Repeat([]float32{at}, shape[0]), e); err != nil {
				t.Fatal(err)
			}
			return e
		}
		lo, mid, hi := eps(500), eps(500.5), eps(501)
		if a, b, whole := golden.RelL2(mid, lo), golden.RelL2(mid, hi), golden.RelL2(lo, hi); !(a > 0 && b > 0 && a < whole && b < whole) {
			t.Errorf("eps at 500.5 is %g from 500 and %g from 501, which are %g apart", a, b, whole)
		}
		for _, name := range Names[3:] {
			gen, err := NewGenerator(f.session, Config{Name: name, Steps: 2, Guidance: 2, GuidanceRescale: 0.5, GuidanceTo: 0.9, Temperature: 1, Spacing: "karras"})
			if err != nil {
				t.Fatal(err)
			}
			ids := []string{"a", "b"}
			latents := func(from, to int) []float32 {
				n := to - from
				cut := func(c Condition) Condition {
					r := c.row(from, shape[0])
					for i := from + 1; i < to; i++ {
						s := c.row(i, shape[0])
						r.Context, r.Concat, r.Y = append(slices.Clone(r.Context), s.Context...), append(slices.Clone(r.Concat), s.Concat...), append(slices.Clone(r.Y), s.Y...)
					}
					return r
				}
				r := Request{N: n, H: shape[2] * gen.Factor(), W: shape[3] * gen.Factor(), Cond: cut(f.cond), Noise: RowNoise{Seed: 3, Rows: ids[from:to]}}
				if f.uncond != nil {
					u := cut(*f.uncond)
					r.Uncond = &u
				}
				z, err := gen.GenerateLatents(context.Background(), r)
				if err != nil {
					t.Fatal(err)
				}
				return slices.Clone(z)
			}
			all := latents(0, 2)
			if err := engine.Finite("latents", all); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for i := range 2 {
				if one := latents(i, i+1); !slices.Equal(one, all[i*len(one):(i+1)*len(one)]) {
					t.Errorf("%s: row %d alone has other bits", name, i)
				}
			}
		}
	})
}
