package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/io/table"
)

const testConfig = `model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    linear_start: 0.0015
    linear_end: 0.0195
    timesteps: 1000
    image_size: 8
    channels: 4
    scale_factor: 0.5
    first_stage_key: image
    cond_stage_config: __is_unconditional__
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params: {image_size: 8, in_channels: 4, out_channels: 4, model_channels: 32, attention_resolutions: [1], num_res_blocks: 1, channel_mult: [1], num_heads: 1}
    first_stage_config:
      target: ldm.models.autoencoder.AutoencoderKL
      params:
        embed_dim: 4
        ddconfig: {double_z: true, z_channels: 4, resolution: 16, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 1], num_res_blocks: 1, attn_resolutions: [], dropout: 0.0}
        lossconfig: {target: torch.nn.Identity}
`

// writeModel writes a small latent diffusion model with computed weights and returns its folder: model.yaml and
// model.safetensors.
func writeModel(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "model.yaml"), testConfig)
	c, err := nn.LoadConfig(filepath.Join(dir, "model.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var keys []weights.Param
	for _, p := range nn.New(c).Params() {
		keys = append(keys, weights.Param{Name: p.Name, Shape: p.Shape})
	}
	f, err := formula.Source{Gain: 0.5}.File(keys)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := weights.Convert(f, &b, weights.ConvertOptions{}); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "model.safetensors"), b.String())
	return dir
}

// writeImages writes a Parquet file of n small pictures; every fifth is damaged where broken says so.
func writeImages(t *testing.T, path string, n int, broken bool) {
	t.Helper()
	var b bytes.Buffer
	w, err := table.NewWriter(&b, table.Options{LabelNames: []string{"even", "odd"}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		img := &picture.Image{W: 16, H: 16, Pix: bytes.Repeat([]byte{byte(i), byte(3 * i), byte(7 * i)}, 16*16)}
		var png bytes.Buffer
		if err := picture.EncodePNG(&png, img, picture.PNGOptions{}); err != nil {
			t.Fatal(err)
		}
		data := png.Bytes()
		if broken && i%5 == 4 {
			data = data[:len(data)/2]
		}
		label := int64(i % 2)
		if err := w.Append(table.Row{ID: fmt.Sprint("img", i), Image: data, Path: "x.png", Label: &label, Status: "ok"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, path, b.String())
}

// sampleJob is a job file for the model in dir.
func sampleJob(dir string) string {
	return fmt.Sprintf(`apiVersion: ldm-batch/v1
kind: Sample
metadata: {name: test}
spec:
  model: {checkpoint: %q, config: %q}
  sample: {task: uncond, rows: 6, size: 16}
  sampler: {steps: 2}
  output: {path: out, rows_per_part: 2}
  compute: {batch: 2, threads: 1}
`, filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "model.yaml"))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
