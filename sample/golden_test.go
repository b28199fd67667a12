package sample

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
	"github.com/ldm-batch/ldm-batch/internal/patch"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

// recorded plays a noise tape of a reference run.
type recorded struct {
	steps, known []float32
	size         int
}

func (r recorded) Initial([]float32) error { return fmt.Errorf("x_T is given") }
func (r recorded) Step(k int, dst []float32) error {
	copy(dst, r.steps[k*r.size:(k+1)*r.size])
	return nil
}
func (r recorded) Known(k int, dst []float32) error {
	copy(dst, r.known[k*r.size:(k+1)*r.size])
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
	used    map[string]bool // entries that were read
}

// Tensor notes that an entry was read.
func (f *fixture) Tensor(name string) ([]float32, []int) {
	f.used[name] = true
	return f.Case.Tensor(name)
}

// Values is Tensor without the shape.
func (f *fixture) Values(name string) []float32 {
	v, _ := f.Tensor(name)
	return v
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
	f := &fixture{Case: c, session: s, used: map[string]bool{}}
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
		for _, name := range []string{"patches", "patches_tie"} {
			if c.Has(name + ".weighting") {
				t.Run(name, func(t *testing.T) { f.patches(t, name) })
			}
		}
		t.Run("alone", f.alone)
		if c.Has("index_margin_min") {
			if m := f.Values("index_margin_min"); !(m[0] > 1e-4) {
				t.Errorf("the reference's choice of codes is a matter of rounding: margin %g", m[0])
			}
		}
		for _, x := range c.IO.Tensors() {
			training := strings.HasPrefix(x.Name, "train.") || strings.HasPrefix(x.Name, "grad")
			if !training && !f.used[x.Name] {
				t.Errorf("entry %s was not compared", x.Name)
			}
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
		h.After = func(k int, _ Level, x, x0 []float32) error {
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

// input makes a condition from rows of the recorded inputs of the model's conditioner.
func (f *fixture) input(rows ...int) (Condition, error) {
	pick := func(name string) ([]float32, []int) {
		v, shape := f.Tensor(name)
		size := len(v) / shape[0]
		var out []float32
		for _, r := range rows {
			out = append(out, v[r*size:(r+1)*size]...)
		}
		return out, shape
	}
	tokens := func(name string) (rows [][]int) {
		v, shape := pick(name)
		for i := 0; i < len(v); i += shape[1] {
			row := make([]int, shape[1])
			for j := range row {
				row[j] = int(v[i+j])
			}
			rows = append(rows, row)
		}
		return rows
	}
	s, m := f.session, f.session.Model
	_, classes := ClassCount(m)
	_, semantic := SemanticClasses(m)
	switch {
	case classes:
		v, _ := pick("class_label")
		labels := make([]int64, len(v))
		for i := range v {
			labels[i] = int64(v[i])
		}
		return ClassCondition(s, labels)
	case CanText(m):
		return TextCondition(s, tokens("tokens"))
	case CanLayout(m):
		return LayoutCondition(s, tokens("tokens"))
	case semantic:
		v, shape := pick("segmentation")
		size := shape[1] * shape[2]
		maps := make([][]uint8, len(rows))
		for i, l := range v {
			maps[i/size] = append(maps[i/size], uint8(l))
		}
		return SemanticCondition(s, maps, shape[1], shape[2])
	case CanSuperres(m):
		v, shape := pick("lr_image")
		return SuperresCondition(s, v, len(rows), shape[2], shape[3])
	case CanInpaint(m):
		v, shape := pick("image")
		for i := range v { // the script's images are in [0, 1]
			v[i] = v[i]*2 - 1
		}
		mask, _ := pick("mask")
		return InpaintCondition(s, v, mask, len(rows), shape[2], shape[3], nil)
	}
	return Condition{}, nil
}

// conditioner compares the conditions of the recorded inputs, also of every row alone.
func (f *fixture) conditioner(t *testing.T) {
	if !f.Has("cond") {
		if m := f.session.Model; m.Conditioner.Config.Kind != nn.Unconditional {
			t.Errorf("no condition recorded for a conditioner of kind %s", m.Conditioner.Config.Kind)
		}
		return
	}
	_, shape := f.Tensor("cond")
	all := make([]int, shape[0])
	for i := range all {
		all[i] = i
	}
	c, err := f.input(all...)
	if err != nil {
		t.Fatal(err)
	}
	values := append(slices.Clone(c.Context), c.Concat...)
	f.near(t, "cond", values, "cond")
	var alone Condition
	for i := range all {
		one, err := f.input(i)
		if err != nil {
			t.Fatal(err)
		}
		alone.Context, alone.Concat = append(alone.Context, one.Context...), append(alone.Concat, one.Concat...)
	}
	if !slices.Equal(alone.Context, c.Context) || !slices.Equal(alone.Concat, c.Concat) {
		t.Error("rows alone have other conditions than in one batch")
	}
	switch {
	case f.Has("null_label"):
		null, _ := NullClass(f.session.Model)
		if got := f.Values("null_label")[0]; int64(got) != null {
			t.Errorf("null class %d, want %g", null, got)
		}
		u, err := ClassCondition(f.session, []int64{null, null})
		if err != nil {
			t.Fatal(err)
		}
		f.near(t, "uncond", u.Context, "uncond")
	case f.Has("null_tokens"):
		v, shape := f.Tensor("null_tokens")
		rows := make([][]int, shape[0])
		for i := range v {
			rows[i/shape[1]] = append(rows[i/shape[1]], int(v[i]))
		}
		u, err := TextCondition(f.session, rows)
		if err != nil {
			t.Fatal(err)
		}
		f.near(t, "uncond", u.Context, "uncond")
	}
}

// row is row i of a condition for n rows.
func (c Condition) row(i, n int) Condition {
	cut := func(v []float32) []float32 {
		if v == nil {
			return nil
		}
		return v[i*len(v)/n : (i+1)*len(v)/n]
	}
	return Condition{Context: cut(c.Context), Tokens: c.Tokens, Concat: cut(c.Concat), Y: cut(c.Y)}
}

// alone generates two rows in one batch and one by one: the images must be the same bytes, with a condition, guidance where the
// case has it, a known region and a start from an image.
func (f *fixture) alone(t *testing.T) {
	_, shape := f.Tensor("x_T")
	n, size := shape[0], shape[1]*shape[2]*shape[3]
	gen, err := NewGenerator(f.session, Config{Name: "ddim", Steps: 4, Eta: 1, Guidance: 2, Temperature: 1, Spacing: "uniform"})
	if err != nil {
		t.Fatal(err)
	}
	known, mask := make([]float32, n*size), make([]float32, n*shape[2]*shape[3])
	Normal(1, "known", 0, known)
	for i := range mask {
		mask[i] = float32(i % 2)
	}
	ids := []string{"a", "b", "c", "d"}[:n]
	request := func(rows []string, cond Condition, uncond *Condition, kind string, from int) Request {
		k := len(rows)
		r := Request{N: k, H: shape[2] * gen.Factor(), W: shape[3] * gen.Factor(), Cond: cond, Uncond: uncond, Noise: RowNoise{Seed: 7, Rows: rows}}
		z, m := known[from*size:(from+k)*size], mask[from*len(mask)/n:(from+k)*len(mask)/n]
		switch kind {
		case "start":
			r.Init, r.Last = z, 2
		case "known":
			r.Known, r.Mask = z, m
		}
		return r
	}
	for _, kind := range []string{"noise", "start", "known"} {
		out, err := gen.Generate(context.Background(), request(ids, f.cond, f.uncond, kind, 0))
		if err != nil {
			t.Fatal(err)
		}
		all := slices.Clone(out)
		for i := range n {
			var uncond *Condition
			if f.uncond != nil {
				u := f.uncond.row(i, n)
				uncond = &u
			}
			one, err := gen.Generate(context.Background(), request(ids[i:i+1], f.cond.row(i, n), uncond, kind, i))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(one, all[i*len(one):(i+1)*len(one)]) {
				t.Errorf("%s: row %d alone differs from the same row in a batch of %d", kind, i, n)
			}
		}
	}
}

// patches repeats what the reference makes of split inputs: weights bit for bit, the two halves of the first stage, and the U-Net.
func (f *fixture) patches(t *testing.T, name string) {
	v := f.Values("patches.ks_stride")
	cfg := PatchConfig{Size: [2]int{int(v[0]), int(v[1])}, Stride: [2]int{int(v[2]), int(v[3])}, TieBreak: name != "patches"}
	x, shape := f.Tensor("patches.x")
	n, h, w := shape[0], shape[2], shape[3]
	g, err := patch.New(cfg, h, w)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []struct {
		name string
		got  []float32
	}{{".weighting", g.Weights()}, {".normalization", g.Sum()}} {
		want, differ := f.Values(name+e.name), 0
		for i := range want {
			if e.got[i] != want[i] {
				differ++
			}
		}
		golden.Line(t, "ldm/"+f.Name+" "+name+e.name, float64(differ), 0)
		if differ > 0 || len(want) != len(e.got) {
			t.Errorf("%s: %d of %d values differ, %d given", e.name, differ, len(want), len(e.got))
		}
	}
	decoded, err := f.first.DecodePatches(slices.Clone(x), n, h, w, nn.Quantized, cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.near(t, name+".decoded", decoded, name+".decoded")
	if f.Has(name + ".encoded") {
		image, s := f.Tensor(name + ".image")
		z, err := f.first.EncodePatches(image, n, s[2], s[3], encode.Options{}, cfg)
		if err != nil {
			t.Fatal(err)
		}
		f.near(t, name+".encoded", z, name+".encoded")
	}
	spec := DenoiserSpec{N: n, H: h, W: w, Cond: Condition{Concat: f.Values("patches.lr_image")}, Config: Config{Guidance: 1}, Patches: &cfg}
	d, err := NewDenoiser(f.session, spec)
	if err != nil {
		t.Fatal(err)
	}
	eps, times := make([]float32, len(x)), make([]float32, n)
	for i := range times {
		times[i] = 500
	}
	if err := d.Predict(x, times, eps); err != nil {
		t.Fatal(err)
	}
	f.near(t, name+".eps_t500", eps, name+".eps_t500")
	for _, e := range f.IO.Tensors() {
		m := run.FindStringSubmatch(strings.TrimPrefix(e.Name, name+"."))
		if !strings.HasPrefix(e.Name, name+".") || m == nil {
			continue
		}
		steps, _ := strconv.Atoi(m[2])
		p, err := New(Config{Name: m[1], Steps: steps, Eta: atof(m[3], 0), Guidance: 1, Temperature: 1, Spacing: "uniform"}, f.sched)
		if err != nil {
			t.Fatal(err)
		}
		z := slices.Clone(x)
		if err := p.Sample(context.Background(), d, z, n, recorded{size: len(z)}, Hooks{}); err != nil {
			t.Fatal(err)
		}
		f.near(t, e.Name, z, e.Name)
	}
}

// masked repeats the runs that keep a known region: before each DDIM step, and after each DDPM step, the region is replaced
// by the known latent brought to that time.
func (f *fixture) masked(t *testing.T) {
	x0, shape := f.Tensor("mask.x0")
	mask := f.Values("mask.mask")
	cells := shape[2] * shape[3]
	for _, x := range f.IO.Tensors() {
		name, ok := strings.CutPrefix(x.Name, "mask.")
		if !ok || !f.Has("mask."+name+".q_noise") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			keep := func(cfg Config) Hooks {
				t.Helper()
				p, err := New(cfg, f.sched)
				if err != nil {
					t.Fatal(err)
				}
				k := Keep{Known: x0, Mask: mask, N: shape[0], Cells: cells, Noise: recorded{known: f.Values("mask." + name + ".q_noise"), size: len(x0)}}
				h, err := k.Hooks(p)
				if err != nil {
					t.Fatal(err)
				}
				return h
			}
			if from, ok := strings.CutPrefix(name, "ddpm_from_t"); ok {
				n, _ := strconv.Atoi(from)
				cfg := Config{Name: "ddpm", Steps: n, Guidance: 1, Spacing: "uniform", Temperature: 1}
				f.sample(t, cfg, x.Name, "x_T", keep(cfg))
				return
			}
			m := run.FindStringSubmatch(name)
			if m == nil {
				t.Fatalf("unknown run %s", name)
			}
			steps, _ := strconv.Atoi(m[2])
			cfg := Config{Name: m[1], Steps: steps, Eta: atof(m[3], 0), Guidance: 1, Temperature: 1, Spacing: "uniform"}
			f.sample(t, cfg, x.Name, "x_T", keep(cfg))
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
	p.Level(p.Steps()-last).Diffuse(x, x0, f.Values("start.noise"))
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
