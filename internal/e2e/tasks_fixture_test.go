package e2e

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// taskConfig is a small model conditioned in some way, with a VQ-f4 first stage.
func taskConfig(inChannels int, unet, cond string) string {
	return fmt.Sprintf(`
model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    linear_start: 0.0015
    linear_end: 0.0195
    timesteps: 1000
    first_stage_key: image
    image_size: 8
    channels: 3
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params: {image_size: 8, in_channels: %d, out_channels: 3, model_channels: 32, attention_resolutions: [2], num_res_blocks: 1,
        channel_mult: [1, 2], num_heads: 1%s}
    first_stage_config:
      target: ldm.models.autoencoder.VQModelInterface
      params:
        embed_dim: 3
        n_embed: 64
        ddconfig: {double_z: false, z_channels: 3, resolution: 32, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 1, 1],
          num_res_blocks: 1, attn_resolutions: [], dropout: 0.0}
        lossconfig: {target: torch.nn.Identity}
    use_ema: false
%s`, inChannels, unet, cond)
}

const attends = ", use_spatial_transformer: true, transformer_depth: 1, context_dim: 24"

// The models of the tasks.
var (
	uncondModel = sync.OnceValues(func() (model, error) {
		return makeModel("uncond", taskConfig(3, "", "    cond_stage_config: __is_unconditional__\n"), 0.7)
	})
	briefModel = sync.OnceValues(func() (model, error) { // whose process has few steps
		return makeModel("brief", strings.Replace(taskConfig(3, "", "    cond_stage_config: __is_unconditional__\n"), "timesteps: 1000", "timesteps: 9", 1), 0.7)
	})
	superresModel = sync.OnceValues(func() (model, error) {
		return makeModel("superres", taskConfig(6, "", `    cond_stage_config: {target: torch.nn.Identity}
    cond_stage_key: LR_image
    concat_mode: true
    cond_stage_trainable: false
`), 0.7)
	})
	inpaintModel = sync.OnceValues(func() (model, error) {
		return makeModel("inpaint", taskConfig(7, "", "    cond_stage_config: __is_first_stage__\n    cond_stage_key: masked_image\n    concat_mode: true\n"), 0.7)
	})
	semanticModel = sync.OnceValues(func() (model, error) {
		return makeModel("semantic", taskConfig(6, "", `    cond_stage_config:
      target: ldm.modules.encoders.modules.SpatialRescaler
      params: {n_stages: 2, in_channels: 12, out_channels: 3}
    cond_stage_key: segmentation
    concat_mode: true
    cond_stage_trainable: true
`), 0.7)
	})
	textModel = sync.OnceValues(func() (model, error) {
		return makeModel("text", taskConfig(3, attends, `    cond_stage_config:
      target: ldm.modules.encoders.modules.BERTEmbedder
      params: {n_embed: 24, n_layer: 1, vocab_size: 200, max_seq_len: 77}
    cond_stage_key: caption
    cond_stage_trainable: true
    conditioning_key: crossattn
`), 0.7)
	})
	layoutModel = sync.OnceValues(func() (model, error) {
		return makeModel("layout", taskConfig(3, attends, `    cond_stage_config:
      target: ldm.modules.encoders.modules.BERTEmbedder
      params: {n_embed: 24, n_layer: 1, vocab_size: 1100, max_seq_len: 17, use_tokenizer: false}
    cond_stage_key: coordinates_bbox
    cond_stage_trainable: true
    conditioning_key: crossattn
`), 0.7)
	})
	admModel = sync.OnceValues(func() (model, error) {
		return makeModel("adm", taskConfig(3, ", num_classes: 10", `    cond_stage_config: {target: torch.nn.Identity}
    cond_stage_key: class_label
    conditioning_key: adm
`), 0.7)
	})
)

// taskJob is a job of kind Sample with few steps.
func taskJob(t testing.TB, m func() (model, error), task string, settings ...string) job {
	t.Helper()
	return job{kind: "Sample"}.with(get(t, m).settings()...).with("sample.task="+task, "sampler.steps=2", "compute.threads=1").with(settings...)
}

// vocab is a vocab.txt of n words: the special ones where bert-base-uncased has them, w<number> for the rest.
func vocab(t testing.TB, n int) string {
	t.Helper()
	special := map[int]string{0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
	var b strings.Builder
	for i := range n {
		word, ok := special[i]
		if !ok {
			word = fmt.Sprint("w", i)
		}
		fmt.Fprintln(&b, word)
	}
	path := filepath.Join(t.TempDir(), "vocab.txt")
	if err := os.WriteFile(path, []byte(b.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// put writes a file below a folder, whose folders are made.
func put(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// pngOf encodes a picture.
func pngOf(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// scene is a picture of two colour ramps.
func scene(t testing.TB, seed uint64, w, h int) []byte {
	t.Helper()
	b, err := drawing(rand.New(rand.NewPCG(seed, 3)), w, h)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// maskOf is a gray picture, white where white says so.
func maskOf(t testing.TB, w, h int, white func(x, y int) bool) []byte {
	t.Helper()
	m := image.NewGray(image.Rect(0, 0, w, h))
	for i := range m.Pix {
		if white(i%w, i/w) {
			m.Pix[i] = 255
		}
	}
	return pngOf(t, m)
}

// labelMap is a gray picture of labels below n.
func labelMap(t testing.TB, seed uint64, w, h, n int) []byte {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 5))
	m := image.NewGray(image.Rect(0, 0, w, h))
	for i := range m.Pix {
		if m.Pix[i] = uint8(r.IntN(n)); i%w >= 5 && i >= w && i%7 > 0 {
			m.Pix[i] = m.Pix[i-w]
		}
	}
	return pngOf(t, m)
}
