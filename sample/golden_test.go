package sample

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

// recorded plays a noise tape of a reference run.
type recorded struct {
	steps []float32
	size  int
}

func (r recorded) Initial([]float32) error { return fmt.Errorf("x_T is given") }
func (r recorded) Step(k int, dst []float32) error {
	copy(dst, r.steps[k*r.size:(k+1)*r.size])
	return nil
}

// fixture is a reference model on the default backend.
type fixture struct {
	*goldencase.Case
	session *engine.Session
	first   *encode.FirstStage
	sched   *Schedule
	cond    Condition
	uncond  *Condition
}

func newFixture(t *testing.T, c *goldencase.Case) *fixture {
	t.Helper()
	b, err := cpu.Open(cpu.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	m := c.Model(nn.Options{Weights: weights.Auto})
	s := engine.New(m, b)
	t.Cleanup(s.Close)
	f := &fixture{Case: c, session: s}
	if f.first, err = encode.New(s); err != nil {
		t.Fatal(err)
	}
	if f.sched, err = ModelSchedule(m); err != nil {
		t.Fatal(err)
	}
	f.cond = f.condition("cond")
	if c.Has("uncond") {
		u := f.condition("uncond")
		f.uncond = &u
	}
	return f
}

// condition wraps a recorded condition for the model's conditioning key.
func (f *fixture) condition(name string) Condition {
	if !f.Has(name) {
		return Condition{}
	}
	v, shape := f.Tensor(name)
	if f.Config.Diffusion.ConditioningKey == nn.CrossAttn {
		return Condition{Context: v, Tokens: shape[1]}
	}
	return Condition{Concat: v}
}

// denoiser is that of the case's condition for a batch of latents.
func (f *fixture) denoiser(shape []int, c Config) (Denoiser, error) {
	return NewDenoiser(f.session, DenoiserSpec{N: shape[0], H: shape[2], W: shape[3], Cond: f.cond, Uncond: f.uncond, Config: c})
}

func (f *fixture) near(t *testing.T, what string, got []float32, want string) {
	t.Helper()
	golden.Near(t, "ldm/"+f.Name+" "+what, got, f.Values(want), 1e-5)
}

var run = regexp.MustCompile(`^(ddim|plms)_s(\d+)(?:_eta([\d.]+))?(?:_temperature([\d.]+))?(?:_cfg([\d.]+))?(_quantize_x0)?$`)

func atof(s string, otherwise float64) float64 {
	if v, err := strconv.ParseFloat(s, 64); err == nil {
		return v
	}
	return otherwise
}

// TestGoldenSampling walks every recorded run of every reference model.
func TestGoldenSampling(t *testing.T) {
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		f := newFixture(t, c)
		runs := 0
		for _, x := range c.IO.Tensors() {
			m := run.FindStringSubmatch(x.Name)
			if m == nil {
				continue
			}
			runs++
			t.Run(x.Name, func(t *testing.T) { f.walk(t, x.Name, m) })
		}
		if runs == 0 {
			t.Error("no recorded run")
		}
		t.Run("eps", func(t *testing.T) {
			x, shape := f.Tensor("x_T")
			d, err := f.denoiser(shape, Config{Guidance: 1})
			if err != nil {
				t.Fatal(err)
			}
			eps, times := make([]float32, len(x)), make([]float32, shape[0])
			for i := range times {
				times[i] = 500
			}
			if err := d.Predict(x, times, eps); err != nil {
				t.Fatal(err)
			}
			f.near(t, "eps_t500", eps, "eps_t500")
		})
		t.Run("decoded", func(t *testing.T) {
			z, shape := f.Tensor("ddim_s10_eta0")
			x, err := f.first.Decode(z, shape[0], shape[2], shape[3], nn.Quantized)
			if err != nil {
				t.Fatal(err)
			}
			f.near(t, "decoded_ddim_s10_eta0", x, "decoded_ddim_s10_eta0")
		})
		t.Run("ddpm", func(t *testing.T) {
			f.sample(t, Config{Name: "ddpm", Steps: 20, Guidance: 1, Spacing: "uniform", Temperature: 1}, "ddpm_from_t20", "x_T", Hooks{})
		})
		t.Run("condition", f.conditioner)
		if c.Has("mask.x0") {
			t.Run("mask", f.masked)
		}
		if c.Has("start.x_t") {
			t.Run("start", f.start)
		}
		if c.Has("nonsquare.x_T") {
			t.Run("nonsquare", f.nonsquare)
		}
	})
}

// walk repeats one run of the reference.
func (f *fixture) walk(t *testing.T, name string, m []string) {
	steps, _ := strconv.Atoi(m[2])
	cfg := Config{Name: m[1], Steps: steps, Eta: atof(m[3], 0), Temperature: atof(m[4], 1), Guidance: atof(m[5], 1), Spacing: "uniform"}
	if m[6] != "" {
		f.quantized(t, cfg, name)
		return
	}
	h := Hooks{}
	if f.Has(name + ".steps") {
		each, x0s := f.Values(name+".steps"), f.Values(name+".pred_x0")
		h.After = func(k, _ int, x, x0 []float32) error {
			golden.Near(t, fmt.Sprintf("ldm/%s %s step %d", f.Name, name, k), x, each[k*len(x):(k+1)*len(x)], 1e-5)
			golden.Near(t, fmt.Sprintf("ldm/%s %s step %d x0", f.Name, name, k), x0, x0s[k*len(x):(k+1)*len(x)], 1e-5)
			return nil
		}
	}
	f.sample(t, cfg, name, "x_T", h)
}

func (f *fixture) sample(t *testing.T, cfg Config, name, from string, h Hooks) {
	t.Helper()
	f.near(t, name, f.run(t, cfg, name, from, h), name)
}

// run makes one run and returns its latents.
func (f *fixture) run(t *testing.T, cfg Config, name, from string, h Hooks) []float32 {
	t.Helper()
	x, shape := f.Tensor(from)
	d, err := f.denoiser(shape, cfg)
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(cfg, f.sched)
	if err != nil {
		t.Fatal(err)
	}
	tape := recorded{size: len(x)}
	if f.Has(name + ".noise") {
		tape.steps = f.Values(name + ".noise")
	}
	if err := p.Sample(context.Background(), d, x, shape[0], tape, h); err != nil {
		t.Fatal(err)
	}
	return x
}

// tie is a choice between two codes that are equally near up to rounding.
type tie struct {
	step, cell int
	margin     float64 // difference of the squared distances, relative to the larger of 1 and |z|
	second     []float32
}

// closeTie is the margin below which the order of summation in the network may decide which code is nearest.
const closeTie = 1e-4

// quantized repeats a run that snaps the estimate of x_0 to the codebook at every step. Where two codes are equally near up
// to rounding, the reference's choice is not ours to know: if the run differs, it must equal one in which a single such tie
// went to the second code.
func (f *fixture) quantized(t *testing.T, cfg Config, name string) {
	_, shape := f.Tensor("x_T")
	q, err := f.session.Quantizer(shape[0], shape[2], shape[3])
	if err != nil {
		t.Fatal(err)
	}
	first := f.session.Model.FirstStage.Config
	codes := make([]float32, first.NEmbed*first.EmbedDim)
	if err := f.session.Model.Load("first_stage_model.quantize.embedding.weight", codes); err != nil {
		t.Fatal(err)
	}
	walk := func(flip *tie) (x []float32, ties []tie) {
		step := 0
		h := Hooks{OnX0: func(x0 []float32) error {
			if flip == nil {
				ties = append(ties, findTies(x0, shape, codes, step)...)
			}
			out, err := q.Run(map[string][]float32{"z": x0})
			if err != nil {
				return err
			}
			copy(x0, out[0])
			if flip != nil && flip.step == step {
				for c, v := range flip.second {
					x0[at(shape, flip.cell, c)] = v
				}
			}
			step++
			return nil
		}}
		return f.run(t, cfg, name, "x_T", h), ties
	}
	x, ties := walk(nil)
	want := f.Values(name)
	if golden.RelL2(x, want) > 1e-5 {
		for _, tie := range ties {
			if y, _ := walk(&tie); golden.RelL2(y, want) <= 1e-5 {
				t.Logf("a tie with margin %.1e at step %d, cell %d went the other way in the reference", tie.margin, tie.step, tie.cell)
				x = y
				break
			}
		}
	}
	f.near(t, name, x, name)
}

// at is the index of channel c of a cell, counted over samples and positions, in N x C x H x W.
func at(shape []int, cell, c int) int {
	hw := shape[2] * shape[3]
	return cell/hw*shape[1]*hw + c*hw + cell%hw
}

// findTies lists the cells of a latent whose two nearest codes are closer than [closeTie].
func findTies(z []float32, shape []int, codes []float32, step int) []tie {
	c := shape[1]
	var ties []tie
	for cell := range len(z) / c {
		best, second, norm := [2]float64{-1, math.Inf(1)}, [2]float64{-1, math.Inf(1)}, 0.0
		for k := range c {
			norm += math.Pow(float64(z[at(shape, cell, k)]), 2)
		}
		for e := range len(codes) / c {
			d := 0.0
			for k := range c {
				d += math.Pow(float64(z[at(shape, cell, k)])-float64(codes[e*c+k]), 2)
			}
			if d < best[1] {
				best, second = [2]float64{float64(e), d}, best
			} else if d < second[1] {
				second = [2]float64{float64(e), d}
			}
		}
		if m := (second[1] - best[1]) / max(1, math.Sqrt(norm)); m < closeTie {
			e := int(second[0])
			ties = append(ties, tie{step, cell, m, codes[e*c : (e+1)*c]})
		}
	}
	return ties
}

// conditioner compares what the model's conditioner computes where the inputs are recorded in its own form.
func (f *fixture) conditioner(t *testing.T) {
	if f.Has("class_label") {
		var labels []int64
		for _, v := range f.Values("class_label") {
			labels = append(labels, int64(v))
		}
		c, err := ClassCondition(f.session, labels)
		if err != nil {
			t.Fatal(err)
		}
		f.near(t, "cond", c.Context, "cond")
		null, _ := NullClass(f.session.Model)
		if got := f.Values("null_label")[0]; int64(got) != null {
			t.Errorf("null class %d, want %g", null, got)
		}
		return
	}
	for _, name := range []string{"tokens", "segmentation"} {
		if !f.Has(name) {
			continue
		}
		in, shape := f.Tensor(name)
		h, w := 1, 1
		if name == "segmentation" {
			h, w = shape[1], shape[2]
			in = oneHot(in, shape[0], f.Config.Conditioner.InChannels)
		}
		net, err := f.session.Conditioner(shape[0], h, w)
		if err != nil {
			t.Fatal(err)
		}
		out, err := net.Run(map[string][]float32{name: in})
		if err != nil {
			t.Fatal(err)
		}
		f.near(t, "cond", out[0], "cond")
	}
}

// oneHot turns label maps (N,H,W) into planes (N,classes,H,W).
func oneHot(labels []float32, n, classes int) []float32 {
	cells := len(labels) / n
	out := make([]float32, len(labels)*classes)
	for i, l := range labels {
		out[(i/cells*classes+int(l))*cells+i%cells] = 1
	}
	return out
}

// masked repeats the runs that keep a known region: before each DDIM step, and after each DDPM step, the region is replaced
// by the known latent brought to that time.
func (f *fixture) masked(t *testing.T) {
	x0, shape := f.Tensor("mask.x0")
	mask := f.Values("mask.mask")
	cells := shape[2] * shape[3]
	blend := func(noise []float32) func(k, time int, x []float32) error {
		return func(k, time int, x []float32) error {
			known := make([]float32, len(x))
			f.sched.Diffuse(known, x0, noise[k*len(x):(k+1)*len(x)], time)
			for i := range x {
				m := mask[i/(shape[1]*cells)*cells+i%cells]
				x[i] = known[i]*m + (1-m)*x[i]
			}
			return nil
		}
	}
	for _, x := range f.IO.Tensors() {
		name, ok := strings.CutPrefix(x.Name, "mask.")
		if !ok || !f.Has("mask."+name+".q_noise") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			keep := blend(f.Values("mask." + name + ".q_noise"))
			if from, ok := strings.CutPrefix(name, "ddpm_from_t"); ok {
				n, _ := strconv.Atoi(from)
				cfg := Config{Name: "ddpm", Steps: n, Guidance: 1, Spacing: "uniform", Temperature: 1}
				f.sample(t, cfg, x.Name, "x_T", Hooks{After: func(k, time int, x, _ []float32) error { return keep(k, time, x) }})
				return
			}
			m := run.FindStringSubmatch(name)
			if m == nil {
				t.Fatalf("unknown run %s", name)
			}
			steps, _ := strconv.Atoi(m[2])
			cfg := Config{Name: m[1], Steps: steps, Eta: atof(m[3], 0), Guidance: 1, Temperature: 1, Spacing: "uniform"}
			f.sample(t, cfg, x.Name, "x_T", Hooks{Before: keep})
		})
	}
}

// start repeats image-to-image: the known latent brought to the time of the sixth step from the end, then the last six.
func (f *fixture) start(t *testing.T) {
	p, err := New(Config{Name: "ddim", Steps: 10, Guidance: 1, Temperature: 1, Spacing: "uniform"}, f.sched)
	if err != nil {
		t.Fatal(err)
	}
	const last = 6
	x0, shape := f.Tensor("mask.x0")
	x := make([]float32, len(x0))
	f.sched.Diffuse(x, x0, f.Values("start.noise"), p.Time(p.Steps()-last))
	f.near(t, "start.x_t", x, "start.x_t")
	d, err := f.denoiser(shape, Config{Guidance: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SampleLast(context.Background(), d, x, shape[0], last, nil, Hooks{}); err != nil {
		t.Fatal(err)
	}
	f.near(t, "start.ddim_s10_last6", x, "start.ddim_s10_last6")
}

// nonsquare repeats the runs on a latent that is not square.
func (f *fixture) nonsquare(t *testing.T) {
	square := f.cond
	defer func() { f.cond = square }()
	f.cond = f.condition("nonsquare.lr_image")
	for _, x := range f.IO.Tensors() {
		name, ok := strings.CutPrefix(x.Name, "nonsquare.")
		if m := run.FindStringSubmatch(name); ok && m != nil {
			steps, _ := strconv.Atoi(m[2])
			cfg := Config{Name: m[1], Steps: steps, Eta: atof(m[3], 0), Guidance: 1, Temperature: 1, Spacing: "uniform"}
			f.sample(t, cfg, x.Name, "nonsquare.x_T", Hooks{})
		}
	}
}
