package training

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

const (
	vq = `model:
  target: ldm.models.autoencoder.VQModelInterface
  params:
    embed_dim: 3
    n_embed: 16
    ddconfig: {double_z: false, z_channels: 3, resolution: 8, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 1], num_res_blocks: 1, attn_resolutions: [], dropout: 0.0}
    lossconfig:
      target: taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator
      params: {disc_start: 2, disc_num_layers: 1, disc_ndf: 8, disc_weight: 0.5, codebook_weight: 1.0}
`
	kl = `model:
  target: ldm.models.autoencoder.AutoencoderKL
  params:
    embed_dim: 3
    ddconfig: {double_z: true, z_channels: 3, resolution: 8, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 1], num_res_blocks: 1, attn_resolutions: [], dropout: 0.0}
    lossconfig:
      target: ldm.modules.losses.LPIPSWithDiscriminator
      params: {disc_start: 2, disc_num_layers: 1, kl_weight: 1.0e-6}
`
)

// firstStageSettings turn the fixture's job into one of stage first-stage.
func firstStageSettings(more ...string) []spec.Setting {
	return append(set("train.stage", "first-stage", "train.perceptual", "none"), set(more...)...)
}

// TestFirstStage trains autoencoders of both kinds past the start of their discriminator; a run that is stopped goes on to the same
// bytes, and the model file is one that encodes.
func TestFirstStage(t *testing.T) {
	t.Parallel()
	for name, model := range map[string]string{"vq": vq, "kl": kl} {
		t.Run(name, func(t *testing.T) {
			lines := []string{"steps: 5", "checkpoint_every: 2", "validation: pictures", "validate_every: 5"}
			whole, path := fixture(t, model, lines...)
			res, err := runFile(context.Background(), path, jobs.RunOptions{}, firstStageSettings()...)
			if err != nil {
				t.Fatal(err)
			}
			if res.Losses["rec_loss"] == 0 || res.Losses["disc_loss"] == 0 || res.Validation["val/rec_loss"] == 0 {
				t.Errorf("losses %v, validation %v", res.Losses, res.Validation)
			}
			if !strings.Contains(strings.Join(res.Warnings, " "), "no perceptual loss") {
				t.Errorf("warnings %q", res.Warnings)
			}
			dir, path := fixture(t, model, lines...)
			stopAfter(t, path, 3, firstStageSettings()...)
			if res, err = runFile(context.Background(), path, jobs.RunOptions{}, firstStageSettings()...); err != nil || res.StepsDone != 2 {
				t.Errorf("%d more steps, %v", res.StepsDone, err)
			}
			for _, name := range []string{modelName, logName, "checkpoints/step-00000005.state.safetensors"} {
				if !bytes.Equal(read(t, filepath.Join(whole, "out", name)), read(t, filepath.Join(dir, "out", name))) {
					t.Errorf("%s differs from that of a run that was not stopped", name)
				}
			}
			f, err := weights.Open(filepath.Join(whole, "out", modelName), weights.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := nn.Load(filepath.Join(whole, "out", configName), f, nn.Options{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestInpainting trains a model for masked images on a first stage that was trained here, with drawn holes.
func TestInpainting(t *testing.T) {
	t.Parallel()
	first, path := fixture(t, vq, "steps: 1")
	if _, err := runFile(context.Background(), path, jobs.RunOptions{}, firstStageSettings()...); err != nil {
		t.Fatal(err)
	}
	dir, path := fixture(t, inpainting(), "steps: 3", "validation: pictures", "validate_every: 3")
	res, err := runFile(context.Background(), path, jobs.RunOptions{}, set("train.first_stage", filepath.Join(first, "out", modelName))...)
	if err != nil {
		t.Fatal(err)
	}
	if res.Losses["loss"] == 0 || res.Validation["val/loss_simple"] == 0 {
		t.Errorf("%+v", res)
	}
	if n := sheetRows(t, dir, 3, 8); n != 3 {
		t.Errorf("%d rows of pictures, want what is known, what is made of it, and originals", n)
	}
	f, err := weights.Open(filepath.Join(dir, "out", modelName), weights.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := nn.Load(filepath.Join(dir, "out", configName), f, nn.Options{}); err != nil {
		t.Error(err)
	}
	_, err = runFile(context.Background(), path, jobs.RunOptions{}, set("output.path", filepath.Join(dir, "none"))...)
	if exitcode.Of(err) != exitcode.Usage || !strings.Contains(err.Error(), "first stage is missing") {
		t.Errorf("without a first stage: %v", err)
	}
}

// TestPosterior refuses a log-variance to begin with where there is none to set.
func TestPosterior(t *testing.T) {
	logvar := append(firstStageSettings(), set("train.posterior_logvar", "-6")...)
	_, path := fixture(t, vq, "steps: 1")
	if _, err := runFile(context.Background(), path, jobs.RunOptions{}, logvar...); exitcode.Of(err) != exitcode.Usage || !strings.Contains(err.Error(), "a VQ autoencoder, which has no posterior") {
		t.Errorf("VQ: %v", err)
	}
	dir, path := fixture(t, kl, "steps: 1")
	if _, err := runFile(context.Background(), path, jobs.RunOptions{}, logvar...); err != nil {
		t.Fatal(err)
	}
	_, err := runFile(context.Background(), path, jobs.RunOptions{}, append(logvar, set("model.checkpoint", filepath.Join(dir, "out", modelName), "output.path", filepath.Join(dir, "more"))...)...)
	if exitcode.Of(err) != exitcode.Usage || !strings.Contains(err.Error(), "whose posterior is trained further") {
		t.Errorf("with a checkpoint: %v", err)
	}
}

// inpainting is a model for masked images on the first stage vq.
func inpainting() string {
	model := strings.Replace(modelYAML("cond_stage_config: __is_first_stage__\n    cond_stage_key: masked_image", "", 7), "image_size: 8", "image_size: 4", 1)
	return strings.Replace(model, "{target: ldm.models.autoencoder.IdentityFirstStage}", "\n"+indent(strings.TrimPrefix(vq, "model:\n"), "    "), 1)
}

func indent(text, by string) string {
	return by + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+by) + "\n"
}

// TestSuperResolution trains a model that takes a small image beside the latent.
func TestSuperResolution(t *testing.T) {
	model := modelYAML("cond_stage_config: {target: torch.nn.Identity}\n    cond_stage_key: LR_image", "", 6)
	dir, path := fixture(t, model, "steps: 2", "degradation: pil_bicubic", "validation: pictures", "validate_every: 2")
	if res, err := runFile(context.Background(), path, jobs.RunOptions{}); err != nil || res.Losses["loss"] == 0 {
		t.Errorf("%+v, %v", res, err)
	}
	if n := sheetRows(t, dir, 2, 8); n != 3 {
		t.Errorf("%d rows of pictures, want small ones, what is made of them, and originals", n)
	}
	_, err := runFile(context.Background(), path, jobs.RunOptions{}, set("train.degradation", "", "output.path", filepath.Join(dir, "none"))...)
	if exitcode.Of(err) != exitcode.Usage || !strings.Contains(err.Error(), "spec.train.degradation: missing") {
		t.Errorf("without a degradation: %v", err)
	}
}
