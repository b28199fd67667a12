package training

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/train"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

// tiny is a class-conditional model on images themselves; more are lines of its parameters.
func tiny(t *testing.T, more ...string) *nn.Config {
	t.Helper()
	c, err := nn.ParseConfig("tiny.yaml", []byte(`model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    timesteps: 50
    linear_start: 0.0015
    linear_end: 0.0195
    image_size: 4
    channels: 2
    cond_stage_key: class_label
    cond_stage_trainable: true
    conditioning_key: crossattn
    `+strings.Join(more, "\n    ")+`
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params: {in_channels: 2, out_channels: 2, model_channels: 32, attention_resolutions: [1], num_res_blocks: 1, channel_mult: [1], num_heads: 2, use_spatial_transformer: true, context_dim: 8}
    first_stage_config: {target: ldm.models.autoencoder.IdentityFirstStage}
    cond_stage_config:
      target: ldm.modules.encoders.modules.ClassEmbedder
      params: {n_classes: 3, embed_dim: 8, key: class_label}
`))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func trainer(t *testing.T, c *nn.Config, cfg Config, o Optimizer) *Trainer {
	t.Helper()
	m, err := FromScratch(c, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := NewTrainer(m, cfg, o, backend(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	return tr
}

// batchOf is the batch of a step; its content follows from the number alone.
func batchOf(tr *Trainer, number int64) Batch {
	b := Batch{Size: Size{N: 2, H: 4, W: 4}, Z: make([]float32, 2*2*16)}
	tr.Objective.Draw(7, []int64{2 * number, 2*number + 1}, &b)
	for i := range b.Z {
		b.Z[i] = float32(math.Sin(float64(number)*10 + float64(i)))
	}
	b.Input = []float32{float32(number % 3), float32((number + 1) % 3)}
	return b
}

func steps(t *testing.T, tr *Trainer, from, to int64) {
	t.Helper()
	for k := from; k < to; k++ {
		for half := range int64(2) {
			if _, err := tr.Add(batchOf(tr, 2*k+half)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tr.Step(1e-3); err != nil {
			t.Fatal(err)
		}
	}
}

// files writes the checkpoint of a trainer.
func files(t *testing.T, tr *Trainer, s train.State) (model, state []byte) {
	t.Helper()
	list, err := tr.Model()
	if err != nil {
		t.Fatal(err)
	}
	moments, err := tr.Optimiser()
	if err != nil {
		t.Fatal(err)
	}
	var a, b bytes.Buffer
	if err := train.WriteModel(&a, list); err != nil {
		t.Fatal(err)
	}
	if err := train.WriteState(&b, moments, s); err != nil {
		t.Fatal(err)
	}
	return a.Bytes(), b.Bytes()
}

func open(t *testing.T, name string, data []byte) *weights.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := weights.Open(path, weights.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestResume goes on from a checkpoint in the middle and compares every byte with the run that was not stopped.
func TestResume(t *testing.T) {
	c := tiny(t, "use_ema: true", "learn_logvar: true", "scale_by_std: true", "loss_type: l1")
	cfg, o := Config{MinSNR: 5, OffsetNoise: 0.1}, Optimizer{WeightDecay: 0.01, Clip: 0.5, Average: 0.999}
	whole := trainer(t, c, cfg, o)
	whole.model.ScaleFactor = 0.25
	steps(t, whole, 0, 4)
	wantModel, wantState := files(t, whole, train.State{Step: 4})

	first := trainer(t, c, cfg, o)
	first.model.ScaleFactor = 0.25
	steps(t, first, 0, 2)
	model, state := files(t, first, train.State{Step: 2, Samples: 8, Place: 5})
	second := trainer(t, c, cfg, o)
	mf, sf := open(t, "model", model), open(t, "state", state)
	s, err := train.ReadState(sf)
	if err != nil || s != (train.State{Step: 2, Samples: 8, Place: 5}) {
		t.Fatalf("state %+v, %v", s, err)
	}
	if err := second.Restore(mf, sf, s.Step); err != nil {
		t.Fatal(err)
	}
	steps(t, second, 2, 4)
	gotModel, gotState := files(t, second, train.State{Step: 4})
	if !bytes.Equal(gotModel, wantModel) || !bytes.Equal(gotState, wantState) {
		t.Error("the resumed run has other bytes")
	}
	if bytes.Equal(model, wantModel) {
		t.Error("steps change nothing")
	}

	// The file is a whole model under the names of the reference.
	f := open(t, "final", gotModel)
	for i, k := range nn.Keys(c) {
		if x := f.Tensors()[i]; x.Name != k.Name || fmt.Sprint(x.Shape) != fmt.Sprint(k.Shape) {
			t.Errorf("entry %d is %s %v, want %s %v", i, x.Name, x.Shape, k.Name, k.Shape)
		}
	}
	for _, sel := range []weights.Selection{weights.Raw, weights.EMA} {
		m, err := nn.Bind(c, f, nn.Options{Weights: sel})
		if err != nil {
			t.Fatal(err)
		}
		if m.ScaleFactor != 0.25 {
			t.Errorf("scale factor %v", m.ScaleFactor)
		}
		w := second.Weights(sel == weights.EMA)
		for _, p := range m.Params() {
			a, b := make([]float32, volume(p.Shape)), make([]float32, volume(p.Shape))
			if err := m.Load(p.Name, a); err != nil {
				t.Fatal(err)
			}
			if err := w.Load(p.Name, b); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(a) != fmt.Sprint(b) {
				t.Errorf("%s: %s differs", sel, p.Name)
			}
		}
	}
}

// TestLogvar compares the gradient by the learned log-variances with central differences, and what the loss is without them.
func TestLogvar(t *testing.T) {
	tr := trainer(t, tiny(t, "learn_logvar: true", "logvar_init: 0.3", "l_simple_weight: 0.7", "original_elbo_weight: 0.01"), Config{MinSNR: 2}, Optimizer{})
	b := batchOf(tr, 0)
	list, err := tr.Add(b)
	if err != nil {
		t.Fatal(err)
	}
	l := list[0]
	lv, grad := tr.params.Data(LogvarKey), append([]float32(nil), tr.params.Grad(LogvarKey)...)
	v, err := tr.Validate(false)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	loss := func(at int, d float32) float64 {
		old := lv[at]
		lv[at] += d
		tr.params.Changed(LogvarKey)
		x, err := v.Loss(b)
		if err != nil {
			t.Fatal(err)
		}
		lv[at] = old
		return x.Loss
	}
	if x := loss(0, 0); math.Abs(x-l.Loss) > 1e-6 {
		t.Errorf("the loss is %v in validation, %v in training", x, l.Loss)
	}
	used := map[int]bool{}
	for _, at := range b.Times {
		used[at] = true
		want := (loss(at, 0.01) - loss(at, -0.01)) / 0.02
		if e := math.Abs(float64(grad[at]) - want); e > 1e-4 {
			t.Errorf("gradient at time %d is %v, want %v", at, grad[at], want)
		}
	}
	for at, g := range grad {
		if !used[at] && g != 0 {
			t.Errorf("time %d is in no sample and has gradient %v", at, g)
		}
	}
	same := trainer(t, tiny(t, "logvar_init: 0.3", "l_simple_weight: 0.7", "original_elbo_weight: 0.01"), Config{MinSNR: 2}, Optimizer{})
	if x, err := same.Add(b); err != nil || math.Abs(x[0].Loss-l.Loss) > 1e-6 {
		t.Errorf("the loss is %v (%v) with fixed log-variances, %v with learned ones of the same values", x, err, l.Loss)
	}
}

// TestWeights compares the weights of samples with the formulas.
func TestWeights(t *testing.T) {
	for name, c := range map[string]*nn.Config{"eps": tiny(t), "x0": tiny(t, "parameterization: x0")} {
		o, err := NewObjective(nn.New(c), Config{MinSNR: 5})
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{0, 10, 49} {
			a, s := float64(o.tables.alpha[at]), float64(o.tables.sigma[at])
			snr := a * a / (s * s)
			want := min(snr, 5)
			if name == "eps" {
				want /= snr
			}
			if got := float64(o.tables.weight(at, 2)); math.Abs(got-want/2) > 1e-5*want {
				t.Errorf("%s: weight %v at time %d, want %v", name, got, at, want/2)
			}
		}
	}
}

// TestDraw checks that what is drawn depends on the sample alone, is spread as it should be, and that shares hold.
func TestDraw(t *testing.T) {
	o, err := NewObjective(nn.New(tiny(t)), Config{Drop: 0.2, OffsetNoise: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	big, one := Batch{Size: Size{N: 500, H: 4, W: 4}}, Batch{Size: Size{N: 1, H: 4, W: 4}}
	numbers := make([]int64, 500)
	for i := range numbers {
		numbers[i] = 100 + int64(i)
	}
	o.Draw(3, numbers, &big)
	o.Draw(3, []int64{177}, &one)
	if big.Times[77] != one.Times[0] || fmt.Sprint(big.Noise[77*32:78*32]) != fmt.Sprint(one.Noise) {
		t.Error("a sample depends on its batch")
	}
	mean, square, channel, dropped := 0.0, 0.0, 0.0, 0
	for i, at := range big.Times {
		mean += float64(at) / 500
		row := 0.0
		for _, v := range big.Noise[i*32 : i*32+16] {
			square += float64(v) * float64(v) / 500 / 16
			row += float64(v) / 16
		}
		channel += row * row / 500
		if o.Dropped(3, int64(i)) {
			dropped++
		}
	}
	if mean < 22 || mean > 27 {
		t.Errorf("mean time %v of 0..49", mean)
	}
	if math.Abs(square-1.25) > 0.1 || math.Abs(channel-0.25-1./16) > 0.06 {
		t.Errorf("variance of the noise %v, of its mean over a channel %v", square, channel)
	}
	if dropped < 70 || dropped > 130 {
		t.Errorf("%d of 500 dropped, want about 100", dropped)
	}
}

func TestScaleFactor(t *testing.T) {
	if got := ScaleFactor([]float32{1, 3, 5, 7}); math.Abs(float64(got)-1/math.Sqrt(20./3)) > 1e-6 {
		t.Errorf("scale factor %v", got)
	}
}

// TestRefuses asks for what cannot be trained.
func TestRefuses(t *testing.T) {
	c := tiny(t)
	for want, f := range map[string]func() error{
		"negative":   func() error { _, err := NewObjective(nn.New(c), Config{MinSNR: -1}); return err },
		"not in [0,": func() error { _, err := NewObjective(nn.New(c), Config{Drop: 1}); return err },
		"nothing to": func() error {
			d := tiny(t)
			d.Conditioner.Kind = nn.IdentityCond
			_, err := NewObjective(nn.New(d), Config{})
			return err
		},
		"dropout": func() error {
			d := tiny(t)
			d.UNet.Dropout = 0.1
			_, err := NewObjective(nn.New(d), Config{})
			return err
		},
		"not finite": func() error {
			tr := trainer(t, c, Config{}, Optimizer{})
			b := batchOf(tr, 0)
			b.Z[3] = float32(math.NaN())
			_, err := tr.Add(b)
			if err != nil {
				return fmt.Errorf("not finite: %w", err)
			}
			return nil
		},
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// TestCheck finds the parameter that is not finite.
func TestCheck(t *testing.T) {
	tr := trainer(t, tiny(t), Config{}, Optimizer{})
	if err := tr.Check(); err != nil {
		t.Error(err)
	}
	name := tr.params.List()[3].Name
	tr.params.Data(name)[0] = float32(math.Inf(1))
	if err := tr.Check(); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("error %v, want one that names %s", err, name)
	}
}
