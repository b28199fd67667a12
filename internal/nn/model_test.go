package nn

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// tiny is a small latent diffusion model; edits replace parts of its text.
func tiny(t *testing.T, edits ...string) *Config {
	t.Helper()
	text := `
model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    timesteps: 10
    channels: 3
    image_size: 8
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params: {in_channels: 3, out_channels: 3, model_channels: 32, attention_resolutions: [2], num_res_blocks: 1, channel_mult: [1, 2], num_heads: 2}
    first_stage_config:
      target: ldm.models.autoencoder.VQModelInterface
      params:
        embed_dim: 3
        n_embed: 16
        ddconfig: {double_z: false, z_channels: 3, resolution: 16, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 1], num_res_blocks: 1, attn_resolutions: []}
    cond_stage_config: __is_unconditional__
`
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			t.Fatalf("no %q", edits[i])
		}
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	c, err := ParseConfig("tiny.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fileOf makes a file of the keys: element i of each tensor is fill(name).
func fileOf(t *testing.T, keys []ir.Param, fill func(name string) float32) *weights.File {
	t.Helper()
	var tensors []*weights.Tensor
	for _, k := range keys {
		v := slices.Repeat([]float32{fill(k.Name)}, count([]ir.Param{k}))
		x, err := tensor.FromFloat32(k.Name, k.Shape, v)
		if err != nil {
			t.Fatal(err)
		}
		tensors = append(tensors, x)
	}
	f, err := weights.NewMemory(tensors)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func ones(string) float32 { return 1 }

// byOrigin tells averaged weights from raw ones.
func byOrigin(name string) float32 {
	switch {
	case strings.HasPrefix(name, weights.EMAPrefix):
		return 2
	case name == scaleFactorKey:
		return 0.5
	}
	return 1
}

func without(keys []ir.Param, prefix string) []ir.Param {
	return slices.DeleteFunc(slices.Clone(keys), func(p ir.Param) bool { return strings.HasPrefix(p.Name, prefix) })
}

func TestBindSelection(t *testing.T) {
	const averaged = "timesteps: 10"
	cases := []struct {
		name      string
		config    *Config
		drop      string // keys the file does not have
		selection weights.Selection
		ema       bool
		warning   string
		err       string
	}{
		{name: "auto", config: tiny(t), ema: true},
		{name: "ema", config: tiny(t), selection: weights.EMA, ema: true},
		{name: "raw", config: tiny(t), selection: weights.Raw},
		{name: "auto of a pruned file", config: tiny(t), drop: weights.EMAPrefix, warning: "no moving average"},
		{name: "ema of a pruned file", config: tiny(t), drop: weights.EMAPrefix, selection: weights.EMA, err: "moving average is incomplete"},
		{name: "auto with use_ema false", config: tiny(t, averaged, "timesteps: 10\n    use_ema: false")},
		{name: "ema with use_ema false", config: tiny(t, averaged, "timesteps: 10\n    use_ema: false"), selection: weights.EMA, ema: true},
		{name: "unknown", config: tiny(t), selection: "best", err: "unknown selection"},
		{name: "missing part", config: tiny(t), drop: FirstStagePrefix + "decoder.mid.", err: "missing: first_stage_model.decoder.mid.block_1.norm1.weight"},
		{name: "no first stage", config: tiny(t), drop: FirstStagePrefix, err: "missing: first_stage_model.encoder.conv_in.weight"},
	}
	full := Keys(tiny(t)) // with an average, whatever the configuration says
	for _, c := range cases {
		keys := full
		if c.drop != "" {
			keys = without(keys, c.drop)
		}
		m, err := Bind(c.config, fileOf(t, keys, byOrigin), Options{Weights: c.selection})
		if c.err != "" || err != nil {
			if err == nil || !strings.Contains(err.Error(), c.err) || c.err == "" {
				t.Errorf("%s: %v, want %q", c.name, err, c.err)
			}
			continue
		}
		if got := strings.Join(m.Warnings, "; "); m.EMA != c.ema || !strings.Contains(got, c.warning) || c.warning == "" && got != "" {
			t.Errorf("%s: EMA %t, warnings %q", c.name, m.EMA, got)
		}
		var v [32]float32
		if err := m.Load(UNetPrefix+"input_blocks.0.0.bias", v[:]); err != nil || v[0] != map[bool]float32{false: 1, true: 2}[c.ema] {
			t.Errorf("%s: loaded %v, %v", c.name, v[0], err)
		}
		if v, ok := m.View(FirstStagePrefix + "decoder.conv_in.bias"); ok && v[0] != 1 {
			t.Errorf("%s: the first stage has no average", c.name)
		}
		if len(m.Schedule) != len(weights.ScheduleBuffers) || len(m.Schedule["betas"]) != 10 {
			t.Errorf("%s: %d tables", c.name, len(m.Schedule))
		}
	}
}

func TestBindStrict(t *testing.T) {
	extra := ir.Param{Name: "first_stage_model.encoder.more.weight", Shape: []int{1}}
	_, err := Bind(tiny(t), fileOf(t, append(Keys(tiny(t)), extra), ones), Options{})
	var bad *weights.MismatchError
	if !errors.As(err, &bad) || !slices.Equal(bad.Extra, []string{extra.Name}) || exitcode.Of(err) != exitcode.Data {
		t.Errorf("%v", err)
	}
	wide := tiny(t, "model_channels: 32", "model_channels: 64")
	if _, err = Bind(wide, fileOf(t, Keys(tiny(t)), ones), Options{}); !errors.As(err, &bad) || len(bad.Shape) < 20 {
		t.Errorf("%v", err)
	}
	loss := ir.Param{Name: FirstStagePrefix + "loss.discriminator.main.0.weight", Shape: []int{1}}
	if _, err = Bind(tiny(t), fileOf(t, append(Keys(tiny(t)), loss), ones), Options{}); err != nil {
		t.Errorf("losses are not ignored: %v", err)
	}
	long := tiny(t, "timesteps: 10", "timesteps: 20")
	if _, err = Bind(long, fileOf(t, Keys(tiny(t)), ones), Options{}); err == nil || !strings.Contains(err.Error(), "betas has shape [10], want [20]") {
		t.Errorf("%v", err)
	}
	m, err := Bind(tiny(t), fileOf(t, New(tiny(t)).Params(), ones), Options{})
	if err != nil || len(m.Schedule) != 0 {
		t.Errorf("a file without schedule: %v, %d tables", err, len(m.Schedule))
	}
	if err := m.Load("nothing", nil); err == nil {
		t.Error("an unknown weight is loaded")
	}
	if _, ok := m.View("nothing"); ok {
		t.Error("an unknown weight is viewed")
	}
}

func TestScaleFactor(t *testing.T) {
	byStd := tiny(t, "timesteps: 10", "timesteps: 10\n    scale_by_std: true")
	fixed := tiny(t, "timesteps: 10", "timesteps: 10\n    scale_factor: 0.25")
	for _, only := range []bool{false, true} {
		o := Options{FirstStageOnly: only}
		if m, err := Bind(byStd, fileOf(t, Keys(byStd), byOrigin), o); err != nil || m.ScaleFactor != 0.5 {
			t.Errorf("measured factor: %v", err)
		}
		if _, err := Bind(byStd, fileOf(t, Keys(fixed), byOrigin), o); err == nil || !strings.Contains(err.Error(), "no scale_factor") {
			t.Errorf("missing factor: %v", err)
		}
		if _, err := Bind(byStd, fileOf(t, Keys(byStd), func(string) float32 { return 0 }), o); err == nil || !strings.Contains(err.Error(), "scale_factor is 0") {
			t.Errorf("zero factor: %v", err)
		}
		m, err := Bind(fixed, fileOf(t, Keys(byStd), byOrigin), o)
		if err != nil || m.ScaleFactor != 0.25 || len(m.Warnings) != 1 {
			t.Errorf("factor of the configuration: %v", err)
		}
	}
}

func TestFirstStageOnly(t *testing.T) {
	c := tiny(t)
	alone := &Config{FirstStage: c.FirstStage}
	own := append(Keys(alone), ir.Param{Name: "loss.logvar", Shape: []int{}})
	for name, f := range map[string]*weights.File{"own file": fileOf(t, own, ones), "whole model": fileOf(t, Keys(c), ones)} {
		for _, config := range []*Config{c, alone} {
			m, err := Bind(config, f, Options{FirstStageOnly: true})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			g, err := m.EncoderGraph(1, 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range g.Nodes {
				if _, ok := m.Tensor(n.Name); n.Leaf == ir.ParamLeaf && !ok {
					t.Errorf("%s: %s is not bound", name, n.Name)
				}
			}
			if _, err := m.UNetGraph(1, 8, 8, 0); err == nil {
				t.Error("a first stage has a U-Net")
			}
		}
	}
	if _, err := Bind(c, fileOf(t, without(Keys(c), FirstStagePrefix), ones), Options{FirstStageOnly: true}); err == nil {
		t.Error("a file without first stage is accepted")
	}
	bare := &Config{UNet: c.UNet}
	if _, err := Bind(bare, fileOf(t, Keys(bare), ones), Options{FirstStageOnly: true}); err == nil {
		t.Error("a U-Net has a first stage")
	}
}

func TestSharedFirstStage(t *testing.T) {
	c := tiny(t, "__is_unconditional__", "__is_first_stage__", "in_channels: 3, out_channels", "in_channels: 7, out_channels")
	keys := Keys(c)
	m, err := Bind(c, fileOf(t, keys, ones), Options{})
	if err != nil {
		t.Fatal(err)
	}
	g, err := m.ConditionerGraph(1, 16, 16)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range g.Nodes {
		if strings.HasPrefix(n.Name, ConditionerPrefix) {
			t.Errorf("%s is not shared", n.Name)
		}
	}
	if _, err := Bind(c, fileOf(t, without(keys, ConditionerPrefix), ones), Options{}); err != nil {
		t.Errorf("listed once: %v", err)
	}
	_, err = Bind(c, fileOf(t, keys, func(name string) float32 {
		if name == ConditionerPrefix+"quant_conv.bias" {
			return 3
		}
		return 1
	}), Options{})
	if err == nil || !strings.Contains(err.Error(), "cond_stage_model.quant_conv.bias differs from first_stage_model.quant_conv.bias") {
		t.Errorf("%v", err)
	}
	if _, err := Bind(c, fileOf(t, without(keys, ConditionerPrefix+"decoder."), ones), Options{}); err == nil {
		t.Error("half a copy is accepted")
	}
}

func TestGraphErrors(t *testing.T) {
	vq := New(tiny(t))
	kl := New(loadConfig(t, "testdata/configs/first_stage_kl-f8.yaml"))
	class := New(loadConfig(t, "testdata/configs/ldm_cin256.yaml"))
	rescaler := New(loadConfig(t, "testdata/configs/ldm_semantic_synthesis256.yaml"))
	identity := New(&Config{FirstStage: &FirstStageConfig{Kind: IdentityFirstStage}})
	for want, f := range map[string]func() (*Graph, error){
		"9x8 (height x width) is no multiple of 2": func() (*Graph, error) { return vq.UNetGraph(1, 9, 8, 0) },
		"0 images":                     func() (*Graph, error) { return vq.UNetGraph(0, 8, 8, 0) },
		"3 context tokens given":       func() (*Graph, error) { return vq.UNetGraph(1, 8, 8, 3) },
		"0 context tokens given":       func() (*Graph, error) { return class.UNetGraph(1, 8, 8, 0) },
		"no U-Net":                     func() (*Graph, error) { return kl.UNetGraph(1, 8, 8, 0) },
		"smaller than one latent cell": func() (*Graph, error) { return kl.EncoderGraph(1, 7, 64) },
		"1 images of 0x8":              func() (*Graph, error) { return kl.DecoderGraph(1, 0, 8, Quantized) },
		"kind kl has no codebook":      func() (*Graph, error) { return kl.CodesGraph(1, 8, 8) },
		"kl has no codebook":           func() (*Graph, error) { return kl.QuantizeGraph(1, 8, 8) },
		"the identity":                 func() (*Graph, error) { return identity.EncoderGraph(1, 8, 8) },
		"no conditioner":               func() (*Graph, error) { return kl.ConditionerGraph(1, 8, 8) },
		"unconditional computes":       func() (*Graph, error) { return vq.ConditionerGraph(1, 8, 8) },
		"cannot be halved 2 times":     func() (*Graph, error) { return rescaler.ConditionerGraph(1, 10, 8) },
		"input of shape [0 1]":         func() (*Graph, error) { return class.ConditionerGraph(0, 8, 8) },
	} {
		if _, err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestPlainResampling builds what released models do not use: resampling without convolutions, and other numbers of blocks.
func TestPlainResampling(t *testing.T) {
	c := tiny(t, "num_res_blocks: 1, channel_mult", "num_res_blocks: [1, 2], conv_resample: false, channel_mult",
		"num_res_blocks: 1, attn", "num_res_blocks: 1, resamp_with_conv: false, attn")
	m := New(c)
	for _, p := range m.Params() {
		if strings.Contains(p.Name, "sample") || strings.Contains(p.Name, ".op.") {
			t.Errorf("%s is declared", p.Name)
		}
	}
	u, err := m.UNetGraph(1, 8, 8, 0)
	if err != nil {
		t.Fatal(err)
	}
	e, err := m.EncoderGraph(1, 16, 24)
	if err != nil {
		t.Fatal(err)
	}
	d, err := m.DecoderGraph(1, 8, 12, Quantized)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		g    *Graph
		name string
		want []int
	}{
		{u, "eps", []int{1, 3, 8, 8}}, {u, "t", []int{1}}, {e, "z", []int{1, 3, 8, 12}}, {d, "image", []int{1, 3, 16, 24}}, {d, "none", nil},
	} {
		if got := c.g.Shape(c.name); !slices.Equal(got, c.want) {
			t.Errorf("%s has shape %v, want %v", c.name, got, c.want)
		}
	}
	seen := map[string]bool{}
	for _, g := range []*Graph{u, e, d} {
		for _, n := range g.Nodes {
			seen[n.Name] = seen[n.Name] || n.Leaf == ir.ParamLeaf
		}
	}
	for _, p := range m.Params() {
		if !seen[p.Name] {
			t.Errorf("%s is never used", p.Name)
		}
	}
}
