package training

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/preprocess"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/demodata"
	"github.com/ldm-batch/ldm-batch/sample"
)

// demo writes pictures with captions, masks, label maps and boxes as Parquet, and returns the path of the file.
func demo(t testing.TB, rows int64) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := demodata.Write(context.Background(), dir, demodata.Options{Rows: rows, Size: 24, Seed: 1, Split: "train", Objects: 3}); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.parquet"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	return files[0]
}

// boxes is a model of layouts.
func boxes() string {
	return modelYAML(`cond_stage_config: {target: ldm.modules.encoders.modules.BERTEmbedder, params: {n_embed: 8, n_layer: 1, vocab_size: 64, max_seq_len: 9, use_tokenizer: false}}
    cond_stage_key: coordinates_bbox
    cond_stage_trainable: true
    conditioning_key: crossattn`, ", use_spatial_transformer: true, context_dim: 8", 3)
}

// TestBoxes trains on boxes that are cropped and mirrored with their pictures.
func TestBoxes(t *testing.T) {
	data := demo(t, 10)
	dir, path := fixture(t, boxes(), "steps: 3", "validate_every: 3")
	res, err := runFile(context.Background(), path, jobs.RunOptions{}, set("input.path", data, "train.validation", data, "input.boxes", "boxes", "input.categories", "categories")...)
	if err != nil || res.Losses["loss"] == 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	if n := sheetRows(t, dir, 3, 8); n != 2 {
		t.Errorf("%d rows of pictures, want samples and the pictures of their boxes", n)
	}
	_, err = runFile(context.Background(), path, jobs.RunOptions{}, set("input.path", data, "train.validation", data, "input.boxes", "boxes")...)
	if exitcode.Of(err) != exitcode.Usage || !strings.Contains(err.Error(), "spec.input.boxes and input.categories: missing") {
		t.Errorf("without categories: %v", err)
	}
}

// TestLatentConditions trains models of every other condition on latents with the columns that encode kept beside them: the weights
// are those of a training on the pictures, since the first stage is an identity.
func TestLatentConditions(t *testing.T) {
	t.Parallel()
	data := demo(t, 10)
	for name, c := range map[string]struct {
		model            string
		keep             string   // columns that encode is told to keep
		both             []string // settings of both trainings
		pictures, stored []string
	}{
		"boxes": {boxes(), "boxes, categories", []string{"input.boxes", "boxes", "input.categories", "categories"}, nil, nil},
		"small images": {modelYAML("cond_stage_config: {target: torch.nn.Identity}\n    cond_stage_key: LR_image", "", 6), "image.bytes",
			[]string{"train.degradation", "pil_box"}, nil, []string{"input.image", "image.bytes"}},
		"label maps": {modelYAML(`cond_stage_config: {target: ldm.modules.encoders.modules.SpatialRescaler, params: {n_stages: 0, in_channels: 11, out_channels: 2}}
    cond_stage_key: segmentation
    cond_stage_trainable: true`, "", 5), "segmentation.bytes", nil, []string{"input.segmentation", "segmentation"}, []string{"input.segmentation", "segmentation.bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, path := fixture(t, c.model, "steps: 2")
			all := append([]string{"preprocess.crop", "center", "preprocess.flip", "false"}, c.both...)
			run := func(out string, more ...string) error {
				_, err := runFile(context.Background(), path, jobs.RunOptions{}, set(append(slices.Clone(all), append(more, "output.path", filepath.Join(dir, out))...)...)...)
				return err
			}
			if err := run("images", append([]string{"input.path", data}, c.pictures...)...); err != nil {
				t.Fatal(err)
			}
			latents := filepath.Join(dir, "latents")
			encodeInput(t, dir, latents, identity(t, dir), "model.yaml", "{path: "+data+", columns: ["+c.keep+"]}", true)
			if err := run("stored", append([]string{"input.path", latents, "train.latent", "latent"}, c.stored...)...); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(read(t, filepath.Join(dir, "images", modelName)), read(t, filepath.Join(dir, "stored", modelName))) {
				t.Error("the weights are not those of a training on pictures")
			}
			if name == "boxes" {
				return
			}
			for want, more := range map[string][]string{
				"without random crop and flip": {"preprocess.flip", "true"},
				"want that of the images":      {"preprocess.size", "16"},
			} {
				err := run("none", append(append([]string{"input.path", latents, "train.latent", "latent"}, c.stored...), more...)...)
				if exitcode.Of(err) != exitcode.Usage || !strings.Contains(err.Error(), want) {
					t.Errorf("%v: error %v, want %q", more, err, want)
				}
			}
		})
	}
}

// TestLatentInpainting trains a model for masked images on latents of a first stage that was trained here.
func TestLatentInpainting(t *testing.T) {
	t.Parallel()
	data := demo(t, 10)
	first, path := fixture(t, vq, "steps: 1")
	if _, err := runFile(context.Background(), path, jobs.RunOptions{}, firstStageSettings("input.path", data)...); err != nil {
		t.Fatal(err)
	}
	stage := filepath.Join(first, "out", modelName)
	dir, path := fixture(t, inpainting(), "steps: 2")
	latents := filepath.Join(dir, "latents")
	encodeInput(t, dir, latents, stage, filepath.Join(first, "out", configName), "{path: "+data+", columns: [image.bytes, mask.bytes]}", true)
	for out, more := range map[string][]string{
		"images": {"input.path", data, "input.mask", "mask"},
		"stored": {"input.path", latents, "train.latent", "latent", "input.image", "image.bytes", "input.mask", "mask.bytes"},
	} {
		more = append(more, "train.first_stage", stage, "preprocess.crop", "center", "preprocess.flip", "false", "output.path", filepath.Join(dir, out))
		if _, err := runFile(context.Background(), path, jobs.RunOptions{}, set(more...)...); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(read(t, filepath.Join(dir, "images", modelName)), read(t, filepath.Join(dir, "stored", modelName))) {
		t.Error("the weights are not those of a training on pictures")
	}
}

// TestInPlace follows a box through a crop: a picture of 40x80 is halved, and a window of 20x20 cut from it and mirrored.
func TestInPlace(t *testing.T) {
	at := preprocess.Placement{Source: preprocess.Box{H: 40, W: 80}, ResizedH: 20, ResizedW: 40, Window: preprocess.Box{X: 10, H: 20, W: 20}}
	box := []sample.Box{{Class: 3, Rect: sample.Rect{X: 0.25, Y: 0.5, W: 0.125, H: 0.25}}} // at the left edge of the window
	// Corners on a grid of 5x5: y 0.5 to 0.75, x 0 to 0.25 of the window or, mirrored, 0.75 to 1.
	for flip, want := range map[bool][2]int{false: {0 + 2*5, 1 + 3*5}, true: {3 + 2*5, 4 + 3*5}} {
		at.Flip = flip
		b, c := inPlace(box, sample.LayoutConfig{Tokens: 25, MaxObjects: 1}, 40, 80, at)
		if want := (sample.Rect{X: 0.25, W: 0.5, H: 1}); c.Crop != want {
			t.Errorf("flip %t: crop %+v, want %+v", flip, c.Crop, want)
		}
		tokens, err := sample.LayoutTokens(b, c)
		if err != nil || len(tokens) != 3 || tokens[0] != 3 || tokens[1] != want[0] || tokens[2] != want[1] {
			t.Errorf("flip %t: tokens %v (%v), want 3 and corners %v", flip, tokens, err, want)
		}
	}
	if box[0].X != 0.25 {
		t.Error("the row's boxes were changed")
	}
}
