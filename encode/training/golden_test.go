package training

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/lpips"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

func backend(t testing.TB) plan.Backend {
	t.Helper()
	b, err := cpu.Open(cpu.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// vectors is a file of reference vectors of a training.
type vectors struct {
	t       testing.TB
	name    string
	file    *weights.File
	entries map[string]golden.Tensor
	meta    map[string]string
}

func open(t testing.TB, path string) *vectors {
	t.Helper()
	f, err := weights.Open(path, weights.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	v := &vectors{t, strings.TrimSuffix(filepath.Base(path), ".safetensors"), f, map[string]golden.Tensor{}, f.Metadata()}
	for _, e := range golden.Tensors(t, path) {
		v.entries[e.Name] = e
	}
	return v
}

// each runs f with the files of trainings of first stages whose name passes.
func each(t *testing.T, pass func(name string) bool, f func(t *testing.T, v *vectors)) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(golden.Dir(t, "training"), "ae-*.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".safetensors")
		if !pass(name) {
			continue
		}
		ran++
		t.Run(name, func(t *testing.T) { f(t, open(t, path)) })
	}
	if ran == 0 {
		t.Fatal("no case")
	}
}

func (v *vectors) tensor(name string) ([]float32, []int) {
	v.t.Helper()
	e, ok := v.entries[name]
	if !ok {
		v.t.Fatalf("%s holds no tensor %s", v.name, name)
	}
	return e.Float32s(v.t), e.Shape
}

func (v *vectors) values(name string) []float32 {
	v.t.Helper()
	x, _ := v.tensor(name)
	return x
}

// trainer is made of the description in the metadata, with generated weights.
func (v *vectors) trainer(b plan.Backend) *Trainer {
	t := v.t
	t.Helper()
	c, err := nn.ParseConfig(v.name, []byte(v.meta["config"]))
	if err != nil {
		t.Fatal(err)
	}
	target := "ldm.modules.losses.LPIPSWithDiscriminator"
	if c.FirstStage.Kind == nn.VQ {
		target = "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator"
	}
	c.FirstStage.Loss = &nn.Target{Target: target}
	if err := json.Unmarshal([]byte(v.meta["loss"]), &c.FirstStage.Loss.Params); err != nil {
		t.Fatal(err)
	}
	start, err := strconv.Atoi(v.meta["disc_start"])
	if err != nil {
		t.Fatal(err)
	}
	c.FirstStage.Loss.Params["disc_start"] = start
	loss, ok, err := LossOf(*c.FirstStage)
	if err != nil || !ok {
		t.Fatal(err)
	}
	loss.JudgeEarly = true
	tr, err := New(Options{Stage: *c.FirstStage, Loss: loss, Perceptual: perceptual(t), Backend: b})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	// "formula, prefix ae/kl/, gain 0.7; discriminator prefix ae/kl/disc., gain 1; ..."
	fields := strings.FieldsFunc(v.meta["weights"], func(r rune) bool { return r == ',' || r == ';' || r == ' ' })
	prefix := fields[slices.Index(fields, "prefix")+1]
	gain, err := strconv.ParseFloat(fields[slices.Index(fields, "gain")+1], 64)
	if err != nil {
		t.Fatal(err)
	}
	list := generated(t, prefix, gain, tr.net.stage.Params())
	for _, x := range generated(t, prefix+"disc.", 1, unprefixed(tr.net.discriminator.Keys())) {
		list = append(list, x.Renamed(discriminatorPrefix+x.Name))
	}
	lv, err := tensor.FromFloat32(logVarKey, []int{}, []float32{float32(loss.LogVar)})
	if err != nil {
		t.Fatal(err)
	}
	f, err := weights.NewMemory(append(list, lv))
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Load(f); err != nil {
		t.Fatal(err)
	}
	return tr
}

func unprefixed(list []ir.Param) []ir.Param {
	out := slices.Clone(list)
	for i := range out {
		out[i].Name = strings.TrimPrefix(out[i].Name, discriminatorPrefix)
	}
	return out
}

func generated(t testing.TB, prefix string, gain float64, keys []ir.Param) []*weights.Tensor {
	t.Helper()
	params := make([]weights.Param, len(keys))
	for i, k := range keys {
		params[i] = weights.Param(k)
	}
	list, err := formula.Source{Prefix: prefix, Gain: gain}.Tensors(params)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// perceptual is the distance with the weights of the reference vectors.
func perceptual(t testing.TB) *lpips.Model {
	t.Helper()
	var list []*weights.Tensor
	var convs []ir.Param
	for _, k := range lpips.Keys("") {
		if strings.HasPrefix(k.Name, "net.") {
			convs = append(convs, k)
		} else if strings.HasPrefix(k.Name, "lin") {
			x, err := tensor.Generated(k.Name, k.Shape, func(dst []float32) error {
				formula.Fill(dst, "lpips."+k.Name, formula.NonNegative, k.Shape, 1)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, x)
		}
	}
	f, err := weights.NewMemory(append(list, generated(t, "lpips.", 1, convs)...))
	if err != nil {
		t.Fatal(err)
	}
	m, err := lpips.Bind(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// compare compares the terms of a log with the entries of a scope, all of which must be there.
func (v *vectors) compare(log Log, scope string, tolerance float64) {
	v.t.Helper()
	worst, problems := v.deviation(log, scope, tolerance)
	for _, p := range problems {
		v.t.Error(p)
	}
	golden.Line(v.t, v.name+" "+scope+" terms", worst, tolerance)
}

// deviation is the largest error of the terms of a log, and what is wrong with them.
func (v *vectors) deviation(log Log, scope string, tolerance float64) (worst float64, problems []string) {
	for name, e := range v.entries {
		term, ok := strings.CutPrefix(name, scope)
		if !ok || term == "loss" { // the total under another name
			continue
		}
		want := float64(e.Float32s(v.t)[0])
		got, ok := log.Value(term)
		if !ok {
			problems = append(problems, fmt.Sprintf("%s is not logged: %v", name, log))
			continue
		}
		tol := tolerance
		if term == termWeight {
			tol = max(tol, 1e-4)
		}
		scale := math.Abs(want)
		if term == termGenerator || term == termReal || term == termFake {
			scale = max(scale, 1) // means of logits, which cancel: they carry the rounding of the terms, whose RMS is 1
		}
		e := math.Abs(got - want)
		if scale > 0 {
			e /= scale
		}
		worst = max(worst, e/tol*tolerance)
		if !(e <= tol) {
			problems = append(problems, fmt.Sprintf("%s is %v, want %v (relative error %.1e)", name, got, want, e))
		}
	}
	return worst, problems
}

// gradients compares the gradients of parameters, whose names in the file are another's.
func (v *vectors) gradients(tr *Trainer, list []ir.Param, name func(string) string, tolerance float64) {
	v.t.Helper()
	largest := 0.0
	for _, p := range list {
		if e, ok := v.entries["gradnorm."+name(p.Name)]; ok {
			largest = max(largest, e.Values(v.t)[0])
		}
	}
	worst, compared := 0.0, 0
	for _, p := range list {
		key := name(p.Name)
		e, ok := v.entries["gradnorm."+key]
		if !ok {
			v.t.Errorf("no norm of the gradient of %s", key)
			continue
		}
		size, got := e.Values(v.t)[0], tr.params.Grad(p.Name)
		within := func(what string, diff, size float64) {
			v.t.Helper()
			compared++
			if allowed := tolerance*size + 1e-6*largest; !(diff <= allowed) {
				v.t.Errorf("%s: %s differs by %.3g of %.3g", key, what, diff, size)
			} else if size > 1e-3*largest {
				worst = max(worst, diff/size)
			}
		}
		within("norm of the gradient", math.Abs(length(got)-size), size)
		if want, ok := v.entries["grad."+key]; ok {
			diff := slices.Clone(got)
			for i, w := range want.Float32s(v.t) {
				diff[i] -= w
			}
			within("gradient", length(diff), size)
		}
		if want, ok := v.entries["gradproj."+key]; ok {
			direction := make([]float32, len(got))
			for j, w := range want.Values(v.t) {
				formula.Fill(direction, fmt.Sprintf("proj%d/%s", j, key), formula.Image, p.Shape, 1)
				dot := 0.0
				for k, d := range direction {
					dot += float64(d) * float64(got[k])
				}
				within(fmt.Sprint("projection ", j), math.Abs(dot-w), 4*size*length(direction)/math.Sqrt(float64(len(direction))))
			}
		}
	}
	if compared < 2*len(list) {
		v.t.Errorf("%d comparisons of %d gradients", compared, len(list))
	}
	golden.Line(v.t, v.name+" "+name("gradients"), worst, tolerance)
}

func length(v []float32) float64 {
	s := 0.0
	for _, x := range v {
		s += float64(x) * float64(x)
	}
	return math.Sqrt(s)
}

func isSteps(name string) bool { return strings.Contains(name, "steps") }

// TestGoldenObjectives makes both passes of a batch with fixed weights, just before and just after the discriminator starts.
func TestGoldenObjectives(t *testing.T) {
	each(t, func(name string) bool { return !isSteps(name) }, func(t *testing.T, v *vectors) {
		tr := v.trainer(backend(t))
		x, s := v.tensor("x")
		b := batch{s[0], s[2], s[3]}
		in := map[string][]float32{"image": x}
		if tr.net.kl() {
			in["noise"] = v.values("noise")
		}
		for i, when := range []string{"before", "after"} {
			in[inputFactor] = []float32{float32(i)}
			step, losses, err := tr.run("generator", b, in, tr.net.judged)
			if err != nil {
				t.Fatal(err)
			}
			v.compare(tr.generatorLog(losses, float64(i)), when+".gen.", 1e-5)
			golden.Near(t, v.name+" reconstruction", step.Value(reconstruction), v.values("reconstruction"), 1e-5)
			tr.track(step, momentsFake, tr.counts(b))
			v.gradients(tr, tr.net.stage.Params(), func(n string) string { return when + "." + n }, 5e-4)
			if tr.net.kl() {
				got, want := tr.params.Grad(logVarKey), v.values(when+".grad.logvar")
				golden.Near(t, v.name+" "+when+" gradient of logvar", got, want, 1e-5)
			}
			step, losses, err = tr.run("critic", b, in, tr.net.critic)
			if err != nil {
				t.Fatal(err)
			}
			v.compare(criticLog(losses), when+".disc.", 1e-5)
			tr.track(step, momentsReal, tr.counts(b))
			tr.track(step, momentsFake, tr.counts(b))
			v.gradients(tr, tr.net.discriminator.Params(),
				func(n string) string { return when + ".disc." + strings.TrimPrefix(n, discriminatorPrefix) }, 3e-5)
		}
		for _, n := range tr.norms {
			at := func(name string) string { return "after_4_passes." + strings.TrimPrefix(name, discriminatorPrefix) }
			golden.Near(t, v.name+" "+n.Mean, n.mean, v.values(at(n.Mean)), 1e-5)
			golden.Near(t, v.name+" "+n.Variance, n.variance, v.values(at(n.Variance)), 1e-5)
			if want := int64(v.values(at(n.Counter))[0]); n.counter != want {
				t.Errorf("%s is %d, want %d", n.Counter, n.counter, want)
			}
		}
	})
}

// nudges is how many roundings of the images TestGoldenSteps tries.
const nudges = 40

// TestGoldenSteps trains for three batches, the discriminator having an effect from the second one on.
//
// The first steps of Adam are signs of gradients, and the discriminator has kinks: the last bit of a pixel decides which of a few courses
// the case takes (0.01 apart after three steps, in single precision on any instruction set). The reference's is one of them. Therefore
// images whose pixels are moved by a unit in the last place are tried too, until a run takes its course; one that follows another rule
// of training never does.
func TestGoldenSteps(t *testing.T) {
	each(t, isSteps, func(t *testing.T, v *vectors) {
		rate, err := strconv.ParseFloat(v.meta["lr"], 64)
		if err != nil {
			t.Fatal(err)
		}
		if v.meta["betas"] != fmt.Sprintf("%v,%v", beta1, beta2) || v.meta["eps"] != fmt.Sprint(adamEps) {
			t.Fatalf("Adam with %s, %s", v.meta["betas"], v.meta["eps"])
		}
		var c course
		for nudge := range nudges {
			if c = v.follow(backend(t), rate, nudge); len(c.problems) == 0 {
				t.Logf("images nudged %d times", nudge)
				break
			}
		}
		for _, p := range c.problems {
			t.Error(p)
		}
		tr := c.trainer
		golden.Line(t, v.name+" terms of three steps, worst", c.terms, 5e-4)
		golden.Line(t, v.name+" weights, worst", c.weights, 1e-4)
		x, s := v.tensor("x0")
		in := map[string][]float32{"image": x, inputFactor: {1}}
		if tr.net.kl() {
			in["noise"] = v.values("noise0.0")
		}
		step, _, err := tr.run("generator", batch{s[0], s[2], s[3]}, in, tr.net.judged)
		if err != nil {
			t.Fatal(err)
		}
		golden.Near(t, v.name+" reconstruction", step.Value(reconstruction), v.values("final."+reconstruction), 5e-4)
		if tr.net.kl() {
			return
		}
		val, err := tr.Validate(x, s[0], s[2], s[3])
		if err != nil {
			t.Fatal(err)
		}
		golden.Near(t, v.name+" validation", val.Reconstruction, v.values("final."+reconstruction), 5e-4)
	})
}

// course is what became of three steps.
type course struct {
	trainer        *Trainer
	terms, weights float64 // largest errors
	problems       []string
}

// follow trains with the batches of the file, their pixels moved by a unit in the last place or not, other ones for every nudge but 0.
func (v *vectors) follow(b plan.Backend, rate float64, nudge int) course {
	v.t.Helper()
	c := course{trainer: v.trainer(b)}
	steps := 0
	for ; v.entries[fmt.Sprintf("x%d", steps)].Name != ""; steps++ {
		x, s := v.tensor(fmt.Sprintf("x%d", steps))
		if x = slices.Clone(x); nudge > 0 {
			r := rand.New(rand.NewPCG(uint64(nudge), uint64(steps)))
			for i := range x {
				x[i] = math.Nextafter32(x[i], x[i]+float32(r.IntN(3)-1))
			}
		}
		noise := func(pass int, dst []float32) { copy(dst, v.values(fmt.Sprintf("noise%d.%d", steps, pass))) }
		log, err := c.trainer.Step(x, s[0], s[2], s[3], noise, Rates{rate, rate})
		if err != nil {
			v.t.Fatal(err)
		}
		for _, pass := range []string{"gen", "disc"} {
			worst, problems := v.deviation(log, fmt.Sprintf("step%d.%s.", steps, pass), 5e-4)
			c.terms, c.problems = max(c.terms, worst), append(c.problems, problems...)
		}
		if len(c.problems) > 0 {
			return c // another course, which does not come back
		}
	}
	if steps == 0 || c.trainer.Steps() != int64(steps) {
		v.t.Fatalf("%d steps, %d counted", steps, c.trainer.Steps())
	}
	list, err := c.trainer.Model()
	if err != nil {
		v.t.Fatal(err)
	}
	model := map[string]*weights.Tensor{}
	for _, x := range list {
		model[strings.Replace(x.Name, discriminatorPrefix, "disc.", 1)] = x
	}
	compared := 0
	for entry, e := range v.entries { // large weights are not stored
		name, ok := strings.CutPrefix(entry, "final.")
		if !ok || name == reconstruction || slices.Contains(strings.Fields(v.meta["not_reproducible"]), name) {
			continue
		}
		x, ok := model[name]
		if !ok {
			v.t.Errorf("the model holds no %s", name)
			continue
		}
		got := make([]float32, x.NumElements())
		if err := x.Float32(got); err != nil {
			v.t.Fatal(err)
		}
		err := golden.RelL2(got, e.Float32s(v.t))
		c.weights = max(c.weights, err)
		compared++
		if !(err <= 1e-4) {
			c.problems = append(c.problems, fmt.Sprintf("%s: relative error %.1e", name, err))
		}
	}
	if compared < 100 {
		v.t.Errorf("%d weights compared", compared)
	}
	return c
}
