package nn

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// edit replaces, in a configuration of testdata, the first match of a multi-line pattern.
func edit(t *testing.T, name, pattern, replacement string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata/configs", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	re := regexp.MustCompile("(?m)" + pattern)
	at := re.FindIndex(data)
	if at == nil {
		t.Fatalf("%s has no %q", name, pattern)
	}
	return append(append(append([]byte{}, data[:at[0]]...), replacement...), data[at[1]:]...)
}

func TestConfigErrors(t *testing.T) {
	const (
		kl     = "first_stage_kl-f8"
		vq     = "first_stage_vq-f8"
		class  = "ldm_cin256-v2"
		faces  = "ldm_ffhq256"
		super  = "ldm_bsr_sr"
		rescal = "ldm_semantic_synthesis256"
		text   = "ldm_txt2img-1p4B"
		layout = "ldm_layout2img-openimages256"
	)
	cases := []struct{ file, pattern, replacement, want string }{
		// targets
		{kl, `target: ldm.*KL`, "target: ldm.Other", `m.yaml:3: model.target: ldm.Other is not supported; supported are ldm.models.diffusion.ddpm.LatentDiffusion`},
		{kl, `target: ldm.*KL`, "target: ", `model.target: is missing`},
		{faces, `target: .*UNetModel`, "target: a.B", `model.params.unet_config.target: a.B is not supported; supported are ldm.modules.diffusionmodules.openaimodel.UNetModel`},
		{faces, `__is_unconditional__`, "__other__", `cond_stage_config: is "__other__", want a mapping, __is_unconditional__ or __is_first_stage__`},
		{class, `target: .*ClassEmbedder`, "target: ldm.modules.encoders.modules.FrozenCLIPEmbedder", `cond_stage_config.target: ldm.modules.encoders.modules.FrozenCLIPEmbedder is not supported`},
		{faces, `target: .*VQModelInterface`, "target: ldm.models.autoencoder.EMAModel", `first_stage_config.target`},
		{faces, `(?s)    first_stage_config:.*?    cond_stage_config`, "    cond_stage_config", `first_stage_config: is missing`},
		// values of the wrong type
		{faces, `model_channels: 224`, "model_channels: many", `m.yaml:20: model.params.unet_config.params.model_channels: is "many", want a whole number`},
		{faces, `model_channels: 224`, "model_channels: 224.5", `model_channels: is "224.5", want a whole number`},
		{faces, `model_channels: 224`, "model_channels: 99999999999", `model_channels`},
		{faces, `model_channels: 224`, "model_channels: null", `model_channels: is missing`},
		{faces, `model_channels: 224`, "model_channels: [224]", `model_channels: is a list, want a whole number`},
		{faces, `model_channels: 224`, "model_channels: ${x}", `model_channels: is "${x}", want a whole number`},
		{faces, `linear_start: 0.0015`, "linear_start: .inf", `linear_start: is not finite`},
		{faces, `linear_start: 0.0015`, "linear_start: x", `linear_start: is "x", want a number`},
		{faces, `monitor: val/loss_simple_ema`, "parameterization: 3", `parameterization: is "3", want a text`},
		{faces, `monitor: val/loss_simple_ema`, "use_ema: 3", `use_ema: is "3", want true or false`},
		{faces, `(?s)attention_resolutions:.*?- 2$`, "attention_resolutions: 8", `attention_resolutions: is "8", want a list of whole numbers`},
		{faces, `(?s)attention_resolutions:.*?- 2$`, "attention_resolutions: [8, a]", `attention_resolutions: is a list, want a list of whole numbers`},
		{kl, `(?s)ddconfig:.*?dropout: 0.0`, "ddconfig: 3", `model.params.ddconfig: is "3", want a mapping`},
		{kl, `(?s)lossconfig:.*`, "lossconfig: 3", `lossconfig: is "3", want a mapping with target and params`},
		// impossible values
		{faces, `model_channels: 224`, "model_channels: 220", `model_channels: is 220, want a multiple of 32`},
		{faces, `model_channels: 224`, "model_channels: 0", `model_channels: is 0, want 1 or more`},
		{faces, `num_head_channels: 32`, "num_head_channels: 30", `num_head_channels: is 30, which does not divide the 448 channels`},
		{faces, `num_head_channels: 32`, "num_head_channels: 0", `num_head_channels: is 0, want 1 or more`},
		{faces, `num_head_channels: 32`, "dropout: 0", `num_heads: or num_head_channels must be given`},
		{faces, `num_head_channels: 32`, "num_heads: 14\n        num_heads_upsample: 5", `num_heads_upsample: is 5, which does not divide`},
		{faces, `(?s)channel_mult:.*?- 4$`, "channel_mult: [2, 4]", `channel_mult: begins with 2, want 1`},
		{faces, `(?s)channel_mult:.*?- 4$`, "channel_mult: []", `channel_mult: has 0 levels`},
		{faces, `(?s)channel_mult:.*?- 4$`, "channel_mult: [1, -1]", `channel_mult: has the multiplier -1`},
		{faces, `(?s)channel_mult:.*?- 4$`, "channel_mult: [1, 99999999]", `channel_mult: has the multiplier 99999999`},
		{faces, `num_res_blocks: 2`, "num_res_blocks: [2, 2]", `num_res_blocks: has 2 numbers for 4 levels`},
		{faces, `num_res_blocks: 2`, "num_res_blocks: 100000", `num_res_blocks: is 100000, want up to 1000`},
		{class, `context_dim: 512`, "context_dim: 513", `context_dim: is 513, the conditioner has 512`},
		{class, `context_dim: 512`, "context_dim: [512, 512]", `context_dim: has 2 numbers, want one`},
		{class, `transformer_depth: 1`, "transformer_depth: 0", `transformer_depth: is 0`},
		{class, `use_spatial_transformer: true`, "use_spatial_transformer: false", `context_dim: needs use_spatial_transformer`},
		{class, `n_classes: 1001`, "n_classes: 0", `cond_stage_config.params.n_classes: is 0, want 1 or more`},
		{class, `conditioning_key: crossattn`, "concat_mode: true", `in_channels: is 3, want more than the latent's 3`},
		{class, `conditioning_key: crossattn`, "conditioning_key: film", `conditioning_key: is "film", want one of`},
		{super, `conditioning_key|concat_mode: true`, "conditioning_key: crossattn", `in_channels: is 6, the latent and its condition have 3`},
		{super, `in_channels: 6`, "in_channels: 3", `in_channels: is 3, want more than`},
		{rescal, `in_channels: 6`, "in_channels: 7", `in_channels: is 7, the latent and its condition have 6`},
		{rescal, `n_stages: 2`, "n_stages: 2\n        multiplier: 0.25", `multiplier: is 0.25, only 0.5 is supported`},
		{rescal, `n_stages: 2`, "n_stages: 2\n        method: nearest", `method: is "nearest", want bilinear or area`},
		{rescal, `n_stages: 2`, "n_stages: -1", `n_stages: is -1`},
		{text, `n_layer: 32`, "n_layer: 5000", `n_layer: is 5000, want up to 1000`},
		{text, `n_embed: 1280`, "vocab_size: 10", `cond_stage_config.params.n_embed: is missing`},
		{layout, `cond_stage_key: coordinates_bbox`, "cond_stage_key: caption", `cond_stage_key: is "caption", want coordinates_bbox`},
		{faces, `channels: 3$`, "channels: 4", `model.params.channels: is 4, the first stage has embed_dim 3`},
		{faces, `out_channels: 3`, "out_channels: 6", `out_channels: is 6, the latent has 3 channels`},
		{faces, `model_channels: 224`, "model_channels: 224\n        num_classes: 10", `num_classes: and conditioning key adm need each other`},
		{faces, `linear_end: 0.0195`, "linear_end: 0.0001", `linear_end: is 0.0001`},
		{faces, `timesteps: 1000`, "timesteps: 0", `timesteps: is 0`},
		{faces, `monitor: val/loss_simple_ema`, "beta_schedule: log", `beta_schedule: is "log", want one of`},
		{faces, `monitor: val/loss_simple_ema`, "scale_factor: -1", `scale_factor: is -1`},
		{kl, `double_z: true`, "double_z: false", `m.yaml:8: model.params.ddconfig.double_z: must be true`},
		{vq, `double_z: false`, "resamp_with_conv: true", `model.params.ddconfig.double_z: must be false`},
		{vq, `n_embed: 16384`, "image_key: jpg", `model.params.n_embed: is missing`},
		{vq, `n_embed: 16384`, "n_embed: 0", `n_embed: is 0`},
		{kl, `ch: 128`, "ch: 100", `model.params.ddconfig.ch: is 100, want a multiple of 32`},
		{kl, `ch: 128`, "ch: 128\n      attn_type: sparse", `attn_type: is "sparse", want vanilla or none`},
		{kl, `dropout: 0.0`, "dropout: 1.0", `dropout: is 1`},
		{kl, `resolution: 256`, "attn_type: none", `resolution: is missing`},
		// what exists but is not here
		{faces, `model_channels: 224`, "model_channels: 224\n        dims: 3", `dims: is 3, only 2 is supported`},
		{faces, `model_channels: 224`, "model_channels: 224\n        n_embed: 8192", `n_embed: is not supported (it is "8192")`},
		{faces, `model_channels: 224`, "model_channels: 224\n        use_linear_in_transformer: true", `use_linear_in_transformer: is not a parameter of this target; known are attention_resolutions`},
		{faces, `monitor: val/loss_simple_ema`, "parametrization: eps", `m.yaml:13: model.params.parametrization: is not a parameter`},
		{faces, `num_timesteps_cond: 1`, "num_timesteps_cond: 2", `num_timesteps_cond: is 2, only 1`},
		{vq, `embed_dim: 4`, "embed_dim: 4\n    remap: used.npy", `remap: is not supported`},
		{kl, `ch: 128`, "ch: 128\n      tanh_out: true", `tanh_out: is not supported`},
		// the file
		{kl, `ch: 128`, "ch: 128\n      ch: 256", `m.yaml:14: model.params.ddconfig.ch: appears twice`},
		{kl, `ddconfig:`, "ddconfig: &dd", ``},
		{kl, `embed_dim: 4`, "embed_dim: &e 4\n    monitor2: *e", `aliases are not supported`},
		{kl, `embed_dim: 4`, "embed_dim: [", `yaml: line`},
		{kl, `^model:`, "network:", `model: is missing`},
	}
	for _, c := range cases {
		_, err := ParseConfig("m.yaml", edit(t, c.file, c.pattern, c.replacement))
		switch {
		case c.want == "":
			if err != nil {
				t.Errorf("%s: %v", c.replacement, err)
			}
		case err == nil:
			t.Errorf("%s with %q is accepted", c.file, c.replacement)
		case !strings.Contains(err.Error(), c.want):
			t.Errorf("%s with %q: %v, want %q", c.file, c.replacement, err, c.want)
		case exitcode.Of(err) != exitcode.Data || !strings.HasPrefix(err.Error(), "m.yaml:"):
			t.Errorf("%s with %q: class %d: %v", c.file, c.replacement, exitcode.Of(err), err)
		}
	}
}

func TestConfigFiles(t *testing.T) {
	if _, err := LoadConfig(filepath.Join(t.TempDir(), "none.yaml")); exitcode.Of(err) != exitcode.NoInput {
		t.Errorf("missing file: %v", err)
	}
	for _, data := range []string{"", "# nothing\n", "[1, 2]", "a", "3: 4", strings.Repeat(" ", maxConfig+1)} {
		if _, err := ParseConfig("m.yaml", []byte(data)); exitcode.Of(err) != exitcode.Data {
			t.Errorf("%.20q: %v", data, err)
		}
	}
}

func TestConfigWarnings(t *testing.T) {
	c, err := ParseConfig("m.yaml", edit(t, "first_stage_kl-f8", `ch: 128`, "ch: 128\n      use_magic: true"))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) != 1 || c.Warnings[0] != "m.yaml:14: model.params.ddconfig.use_magic: is unknown and ignored" {
		t.Errorf("%q", c.Warnings)
	}
}

func TestConfigValues(t *testing.T) {
	c := loadConfig(t, "testdata/configs/ldm_txt2img-1p4B.yaml")
	d := c.Diffusion
	if d.ScaleFactor != 0.18215 || d.LinearStart != 0.00085 || d.LinearEnd != 0.012 || d.UseEMA || d.ConditioningKey != CrossAttn ||
		d.Timesteps != 1000 || d.LossType != "l2" || d.Parameterization != "eps" || d.BaseLearningRate != 2e-6 || d.VPosterior != 0 {
		t.Errorf("%+v", *d)
	}
	if !c.Conditioner.UseTokenizer || c.Conditioner.VocabSize != 30522 || c.Conditioner.MaxSeqLen != 77 || c.UNet.Legacy {
		t.Errorf("%+v %+v", *c.Conditioner, *c.UNet)
	}
	c = loadConfig(t, "testdata/configs/first_stage_kl-f8.yaml")
	if c.FirstStage.Loss == nil || c.FirstStage.Loss.Params["disc_start"] != 50001 || c.FirstStage.Factor() != 8 {
		t.Errorf("%+v", c.FirstStage)
	}
	// How the condition enters, by every rule.
	for name, want := range map[string]ConditioningKey{
		"ldm_ffhq256": NoConditioning, "ldm_lsun_churches256": NoConditioning, "ldm_bsr_sr": Concat, "ldm_inpainting_big": Concat,
		"ldm_cin256": CrossAttn,
	} {
		if got := loadConfig(t, "testdata/configs/"+name+".yaml").Diffusion.ConditioningKey; got != want {
			t.Errorf("%s: conditioning key %q, want %q", name, got, want)
		}
	}
	alone, err := ParseConfig("m.yaml", edit(t, "ldm_cin256", `conditioning_key: crossattn`, "concat_mode: false"))
	if err != nil || alone.Diffusion.ConditioningKey != CrossAttn {
		t.Errorf("concat_mode false: %v", err)
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, name := range []string{"first_stage_vq-f8", "ldm_cin256-v2", "ldm_semantic_synthesis256", "ldm_inpainting_big", "ldm_layout2img-openimages256"} {
		data, err := os.ReadFile(filepath.Join("testdata/configs", name+".yaml"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("model: {target: *a, params: !!binary x}\nunet_config: &a [*a]"))
	f.Add([]byte("model: {<<: {target: a}, ? [1] : 2}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig("m.yaml", data)
		if err != nil {
			if exitcode.Of(err) != exitcode.Data {
				t.Errorf("class %d: %v", exitcode.Of(err), err)
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Errorf("parsed but not valid: %v", err)
		}
		if layers := depth(c); layers < 2000 {
			Keys(c)
		}
	})
}

// depth is about the number of layers of a model.
func depth(c *Config) int {
	n := 0
	if u := c.UNet; u != nil {
		for _, r := range u.NumResBlocks {
			n += 2 * r * max(1, u.TransformerDepth)
		}
	}
	if f := c.FirstStage; f != nil {
		n += f.NumResBlocks * len(f.ChMult)
	}
	if s := c.Conditioner; s != nil {
		n += s.NLayer
	}
	return n
}
