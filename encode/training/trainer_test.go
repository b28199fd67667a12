package training

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

const side = 16 // of the images in these tests

// tiny is a first stage of factor 2, and its loss.
func tiny(kind nn.FirstStageKind) (nn.FirstStageConfig, Loss) {
	c := nn.FirstStageConfig{Kind: kind, EmbedDim: 2, AutoencoderConfig: nn.AutoencoderConfig{
		DoubleZ: kind == nn.KL, ZChannels: 2, Resolution: side, InChannels: 3, OutCh: 3, Ch: 32, ChMult: []int{1, 1}, NumResBlocks: 1,
		ResampWithConv: true, AttnType: nn.AttnNone,
	}}
	if kind == nn.VQ {
		c.NEmbed = 8
	}
	l := DefaultLoss()
	l.DiscStart = 1
	l.Discriminator = &nn.DiscriminatorConfig{InChannels: 3, Channels: 8, Layers: 1}
	return c, l
}

func tinyTrainer(t *testing.T, kind nn.FirstStageKind, change func(l *Loss)) *Trainer {
	t.Helper()
	c, l := tiny(kind)
	if change != nil {
		change(&l)
	}
	tr, err := New(Options{Stage: c, Loss: l, Backend: backend(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	tr.Initialize(1)
	return tr
}

// images are two blurry pictures.
func images(seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 5))
	v := make([]float32, 2*3*side*side)
	for p := range 6 {
		a, b, c := r.Float64()*6, r.Float64()/3, r.Float64()/3
		for i := range side * side {
			v[p*side*side+i] = float32(0.8 * math.Sin(a+b*float64(i/side)+c*float64(i%side)))
		}
	}
	return v
}

func noise(seed uint64) func(int, []float32) {
	return func(pass int, dst []float32) {
		r := rand.New(rand.NewPCG(seed, uint64(pass)))
		for i := range dst {
			dst[i] = float32(r.NormFloat64())
		}
	}
}

func steps(t *testing.T, tr *Trainer, from, to int) Log {
	t.Helper()
	var log Log
	for i := from; i < to; i++ {
		var err error
		if log, err = tr.Step(images(uint64(i)), 2, side, side, noise(uint64(i)), Rates{1e-3, 1e-3}); err != nil {
			t.Fatal(err)
		}
	}
	return log
}

// stored writes tensors to a file and opens it.
func stored(t *testing.T, list []*weights.Tensor, err error) (*weights.File, []byte) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	f, err := weights.NewMemory(list)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := weights.Convert(f, &b, weights.ConvertOptions{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err = weights.Open(path, weights.Limits{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, b.Bytes()
}

// TestResume checks that a training that was stored and restored goes on to the same bytes.
func TestResume(t *testing.T) {
	for name, c := range map[string]struct {
		kind   nn.FirstStageKind
		change func(l *Loss)
	}{
		"kl":                     {nn.KL, func(l *Loss) { l.LearnLogVar = true }},
		"vq":                     {nn.VQ, nil},
		"vq, shift and scale":    {nn.VQ, func(l *Loss) { l.Discriminator.ActNorm = true }},
		"kl, no discriminator":   {nn.KL, func(l *Loss) { l.Discriminator = nil }},
		"vq, squared difference": {nn.VQ, func(l *Loss) { l.Pixel, l.Adversarial, l.BetaOnCommitment = Squared, Vanilla, true }},
	} {
		t.Run(name, func(t *testing.T) {
			a := tinyTrainer(t, c.kind, c.change)
			steps(t, a, 0, 2)
			list, err := a.Model()
			model, _ := stored(t, list, err)
			list, err = a.Optimiser()
			optimiser, _ := stored(t, list, err)
			want := steps(t, a, 2, 4)
			list, err = a.Model()
			_, wantModel := stored(t, list, err)
			list, err = a.Optimiser()
			_, wantOptimiser := stored(t, list, err)

			b := tinyTrainer(t, c.kind, c.change)
			b.Initialize(99)
			if err := b.Restore(model, optimiser, 2); err != nil {
				t.Fatal(err)
			}
			got := steps(t, b, 2, 4)
			if !slices.Equal(got, want) || b.Steps() != 4 {
				t.Errorf("after %d steps\n%v, want\n%v", b.Steps(), got, want)
			}
			list, err = b.Model()
			if _, m := stored(t, list, err); !bytes.Equal(m, wantModel) {
				t.Error("the models differ")
			}
			list, err = b.Optimiser()
			if _, o := stored(t, list, err); !bytes.Equal(o, wantOptimiser) {
				t.Error("the optimisers differ")
			}
		})
	}
}

// TestModelFile checks the order of the state dict, and that the model binds as a first stage.
func TestModelFile(t *testing.T) {
	tr := tinyTrainer(t, nn.KL, nil)
	steps(t, tr, 1, 3) // without the discriminator, then with it
	list, err := tr.Model()
	f, _ := stored(t, list, err)
	var names []string
	for _, x := range list {
		names = append(names, x.Name)
	}
	at := func(name string) int {
		i := slices.Index(names, name)
		if i < 0 {
			t.Fatalf("no entry %s in %v", name, names)
		}
		return i
	}
	order := []int{at("encoder.conv_in.weight"), at("decoder.conv_out.bias"), at("loss.logvar"), at("loss.discriminator.main.0.weight"),
		at("loss.discriminator.main.3.num_batches_tracked"), at("quant_conv.weight"), at("post_quant_conv.bias")}
	if !slices.IsSorted(order) || order[6] != len(names)-1 || order[2] != order[1]+1 {
		t.Errorf("order %v of %d", order, len(names))
	}
	counter, err := list[order[4]].Values()
	if err != nil || counter[0] != 3 || list[order[4]].DType.String() != "I64" || len(list[order[4]].Shape) != 0 {
		t.Errorf("batches seen by the discriminator: %v %v %v, %v", counter, list[order[4]].DType, list[order[4]].Shape, err)
	}
	if len(list[order[2]].Shape) != 0 {
		t.Errorf("the log-variance has shape %v", list[order[2]].Shape)
	}
	c, _ := tiny(nn.KL)
	m, err := nn.Bind(&nn.Config{FirstStage: &c}, f, nn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, 3)
	if err := m.Load("decoder.conv_out.bias", v); err != nil || !slices.Equal(v, tr.Params().Data("decoder.conv_out.bias")) {
		t.Errorf("bound %v, %v", v, err)
	}
}

// TestLoad begins from files with and without a loss.
func TestLoad(t *testing.T) {
	a := tinyTrainer(t, nn.VQ, nil)
	steps(t, a, 0, 2)
	whole, err := a.Model()
	f, _ := stored(t, whole, err)
	var alone []*weights.Tensor
	for _, x := range whole {
		if !strings.HasPrefix(x.Name, lossPrefix) {
			alone = append(alone, x)
		}
	}
	g, _ := stored(t, alone, nil)
	const inStage, inLoss, inNorm = "encoder.conv_in.weight", discriminatorPrefix + "main.0.weight", discriminatorPrefix + "main.3.running_mean"
	for name, c := range map[string]struct {
		file *weights.File
		loss bool
	}{"whole": {f, true}, "without its loss": {g, false}} {
		b := tinyTrainer(t, nn.VQ, nil)
		b.Initialize(7)
		if err := b.Load(c.file); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(b.params.Data(inStage), a.params.Data(inStage)) {
			t.Errorf("%s: the first stage was not loaded", name)
		}
		if slices.Equal(b.params.Data(inLoss), a.params.Data(inLoss)) != c.loss {
			t.Errorf("%s: discriminator", name)
		}
		if slices.Equal(b.norms[0].mean, a.norms[0].mean) != c.loss || (b.norms[0].counter == 3) != c.loss {
			t.Errorf("%s: running statistics", name)
		}
		if b.Steps() != 0 {
			t.Errorf("%s: %d steps", name, b.Steps())
		}
	}
	b := tinyTrainer(t, nn.KL, nil)
	if err := b.Load(f); err == nil || exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), f.Path()) {
		t.Errorf("another first stage: %v", err)
	}
	if err := tinyTrainer(t, nn.VQ, nil).Restore(g, f, 1); err == nil || !strings.Contains(err.Error(), "no entry loss.discriminator") {
		t.Errorf("a model without a discriminator was restored: %v", err)
	}
	if err := tinyTrainer(t, nn.VQ, nil).Restore(f, g, 1); err == nil || !strings.Contains(err.Error(), "no entry exp_avg.") {
		t.Errorf("a training was restored without moments: %v", err)
	}
}

// TestShiftAndScale checks that the first batch sets normalisations by shift and scale so that their outputs are standard.
func TestShiftAndScale(t *testing.T) {
	tr := tinyTrainer(t, nn.VQ, func(l *Loss) { l.Discriminator.ActNorm, l.Discriminator.Layers = true, 2 })
	b := batch{2, side, side}
	in := map[string][]float32{"image": images(3)}
	if err := tr.setShiftAndScale(b, in); err != nil {
		t.Fatal(err)
	}
	step, _, err := tr.run("initial", b, in, tr.net.initial)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range tr.norms {
		moments, count := step.Value(momentsFake+string(rune('0'+i))), float64(tr.counts(b)[i])
		shift, scale := tr.params.Data(n.Shift), tr.params.Data(n.Scale)
		for c := range shift {
			mean := (float64(moments[c]) + float64(shift[c])) * float64(scale[c])
			variance := float64(moments[n.Channels+c]) * float64(scale[c]) * float64(scale[c]) * count / (count - 1)
			if math.Abs(mean) > 1e-3 || math.Abs(variance-1) > 1e-2 { // a deviation of 1e-3 counts 1e-6 as much
				t.Errorf("norm %d, channel %d: mean %v, variance %v", i, c, mean, variance)
			}
		}
		if n.counter != 1 {
			t.Errorf("norm %d is not said to be set", i)
		}
	}
	before := slices.Clone(tr.params.Data(tr.norms[0].Shift))
	in["image"] = images(4)
	if err := tr.setShiftAndScale(b, in); err != nil || !slices.Equal(before, tr.params.Data(tr.norms[0].Shift)) {
		t.Errorf("set twice: %v", err)
	}
}

// TestBeta checks which term of the codebook beta belongs to: with zero, the reference's does not move the codebook.
func TestBeta(t *testing.T) {
	for _, onCommitment := range []bool{false, true} {
		tr := tinyTrainer(t, nn.VQ, func(l *Loss) { l.Beta, l.BetaOnCommitment, l.Discriminator = 0, onCommitment, nil })
		if _, _, err := tr.run("generator", batch{2, side, side}, map[string][]float32{"image": images(0)}, tr.net.unjudged); err != nil {
			t.Fatal(err)
		}
		if moved := length(tr.params.Grad("quantize.embedding.weight")) > 0; moved != onCommitment {
			t.Errorf("beta on the commitment %t: the codebook has a gradient: %t", onCommitment, moved)
		}
	}
}

func TestLogVar(t *testing.T) {
	for _, learn := range []bool{false, true} {
		tr := tinyTrainer(t, nn.KL, func(l *Loss) { l.LearnLogVar, l.LogVar = learn, 0.5 })
		log := steps(t, tr, 0, 1)
		if v, ok := log.Value("logvar"); !ok || v != 0.5 {
			t.Errorf("logged %v", v)
		}
		if v := tr.params.Data(logVarKey)[0]; (v != 0.5) != learn {
			t.Errorf("learned %t: %v", learn, v)
		}
	}
}

// TestNotFinite checks that a bad batch is an error that says where, and changes nothing.
func TestNotFinite(t *testing.T) {
	tr := tinyTrainer(t, nn.VQ, nil)
	steps(t, tr, 0, 1)
	list, err := tr.Model()
	_, before := stored(t, list, err)
	bad := images(0)
	bad[7] = float32(math.NaN())
	_, err = tr.Step(bad, 2, side, side, nil, Rates{1e-3, 1e-3})
	if err == nil || exitcode.Of(err) != exitcode.Internal || !strings.Contains(err.Error(), "_loss is not finite") {
		t.Errorf("got %v", err)
	}
	list, err = tr.Model()
	if _, after := stored(t, list, err); !bytes.Equal(before, after) || tr.Steps() != 1 {
		t.Error("the model was changed")
	}
}

func TestStepErrors(t *testing.T) {
	tr := tinyTrainer(t, nn.VQ, func(l *Loss) { l.DiscStart = 0 })
	for _, c := range []struct {
		values, n, h, w int
		want            string
	}{
		{0, 0, side, side, "batch of 0 images"}, {2 * 3 * 15 * 16, 2, 15, 16, "multiples of 2"}, {5, 2, side, side, "5 values, want 1536"},
		{3 * 4 * 4, 1, 4, 4, "smaller than the 4x4 kernel"},
	} {
		if _, err := tr.Step(make([]float32, c.values), c.n, c.h, c.w, nil, Rates{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestNewErrors(t *testing.T) {
	b := backend(t)
	for want, change := range map[string]func(c *nn.FirstStageConfig, l *Loss){
		"first stage: ":                func(c *nn.FirstStageConfig, _ *Loss) { c.Ch = 33 },
		"beta is -1":                   func(_ *nn.FirstStageConfig, l *Loss) { l.Beta = -1 },
		"discriminator takes 1":        func(_ *nn.FirstStageConfig, l *Loss) { l.Discriminator.InChannels = 1 },
		"images have 1 channels":       func(c *nn.FirstStageConfig, _ *Loss) { c.InChannels = 1 },
		"training without dropout":     func(c *nn.FirstStageConfig, _ *Loss) { c.Dropout = 0.1 },
		"of kind identity has nothing": func(c *nn.FirstStageConfig, _ *Loss) { c.Kind = nn.IdentityFirstStage },
	} {
		c, l := tiny(nn.VQ)
		change(&c, &l)
		if _, err := New(Options{Stage: c, Loss: l, Backend: b}); err == nil || !strings.Contains(err.Error(), want) || exitcode.Of(err) != exitcode.Data {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestInitialize checks the distributions, and that each parameter follows from the seed and its name alone.
func TestInitialize(t *testing.T) {
	a, b := tinyTrainer(t, nn.VQ, nil), tinyTrainer(t, nn.VQ, func(l *Loss) { l.Discriminator.Layers = 2 })
	for _, name := range []string{"encoder.conv_in.weight", "decoder.conv_out.bias", "quantize.embedding.weight", discriminatorPrefix + "main.0.weight"} {
		if !slices.Equal(a.params.Data(name), b.params.Data(name)) {
			t.Errorf("%s depends on other parameters", name)
		}
	}
	check := func(name string, bound, deviation float64) {
		v := a.params.Data(name)
		largest, square := 0.0, 0.0
		for _, x := range v {
			largest = max(largest, math.Abs(float64(x)))
			square += float64(x) * float64(x) / float64(len(v))
		}
		if largest > bound || math.Abs(math.Sqrt(square)-deviation) > 0.12*deviation {
			t.Errorf("%s: up to %v, deviation %v; want %v and %v", name, largest, math.Sqrt(square), bound, deviation)
		}
	}
	third := math.Sqrt(3)
	check("encoder.conv_in.weight", 1/math.Sqrt(27), 1/math.Sqrt(27)/third)
	check("encoder.down.0.block.0.conv1.bias", 1/math.Sqrt(288), 1/math.Sqrt(288)/third)
	check("quantize.embedding.weight", 1./8, 1./8/third)
	check(discriminatorPrefix+"main.2.weight", 0.12, 0.02)
	check("encoder.norm_out.weight", 1, 1)
	if slices.Max(a.params.Data("encoder.norm_out.bias")) != 0 || a.norms[0].variance[0] != 1 {
		t.Error("normalisations")
	}
	before := slices.Clone(a.params.Data("encoder.conv_in.weight"))
	a.Initialize(2)
	if slices.Equal(before, a.params.Data("encoder.conv_in.weight")) {
		t.Error("the seed has no effect")
	}
}

// TestLearns trains on one batch.
func TestLearns(t *testing.T) {
	for _, kind := range []nn.FirstStageKind{nn.KL, nn.VQ} {
		tr := tinyTrainer(t, kind, func(l *Loss) { l.DiscStart = 8 })
		x := images(0)
		first, err := tr.Validate(x, 2, side, side)
		if err != nil {
			t.Fatal(err)
		}
		before, _ := first.Log.Value(termRec)
		for i := range 12 {
			if _, err := tr.Step(x, 2, side, side, noise(uint64(i)), Rates{2e-3, 1e-3}); err != nil {
				t.Fatal(err)
			}
		}
		last, err := tr.Validate(x, 2, side, side)
		if err != nil {
			t.Fatal(err)
		}
		after, _ := last.Log.Value(termRec)
		if !(after < 0.8*before) {
			t.Errorf("%s: the difference went from %v to %v", kind, before, after)
		}
	}
}

// TestJudgeEarly checks that running the discriminator before it has an effect changes no weight.
func TestJudgeEarly(t *testing.T) {
	var models [2]map[string][]float32
	for i, early := range []bool{false, true} {
		tr := tinyTrainer(t, nn.KL, func(l *Loss) { l.JudgeEarly, l.DiscStart, l.Discriminator.ActNorm = early, 2, true })
		log := steps(t, tr, 0, 1)
		if _, ok := log.Value(termWeight); ok != early {
			t.Errorf("early %t: %v", early, log)
		}
		steps(t, tr, 1, 4)
		models[i] = map[string][]float32{}
		for _, p := range tr.params.List() {
			models[i][p.Name] = slices.Clone(tr.params.Data(p.Name))
		}
	}
	for name, v := range models[0] {
		if !slices.Equal(v, models[1][name]) {
			t.Errorf("%s differs", name)
		}
	}
}
