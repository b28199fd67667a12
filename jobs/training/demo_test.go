package training

import (
	"context"
	"path/filepath"
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
	_, path := fixture(t, boxes(), "steps: 3")
	res, err := runFile(context.Background(), path, jobs.RunOptions{}, set("input.path", demo(t, 10), "input.boxes", "boxes", "input.categories", "categories")...)
	if err != nil || res.Losses["loss"] == 0 {
		t.Errorf("%+v, %v", res, err)
	}
	_, err = runFile(context.Background(), path, jobs.RunOptions{}, set("input.path", demo(t, 10), "input.boxes", "boxes")...)
	if exitcode.Of(err) != exitcode.Usage || !strings.Contains(err.Error(), "spec.input.boxes and input.categories: missing") {
		t.Errorf("without categories: %v", err)
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
