package training

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// beside writes a file beside every picture, named after it.
func beside(t *testing.T, dir, suffix string, content func(i int) []byte) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "pictures", "*", "*.png"))
	if err != nil || len(all) == 0 {
		t.Fatal(err)
	}
	for i, p := range all {
		if err := os.WriteFile(strings.TrimSuffix(p, ".png")+suffix, content(i), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCaptions trains a text encoder with the U-Net.
func TestCaptions(t *testing.T) {
	model := modelYAML(`cond_stage_config: {target: ldm.modules.encoders.modules.BERTEmbedder, params: {n_embed: 8, n_layer: 1, vocab_size: 8, max_seq_len: 5}}
    cond_stage_key: caption
    cond_stage_trainable: true
    conditioning_key: crossattn`, ", use_spatial_transformer: true, context_dim: 8", 3)
	dir, path := fixture(t, model, "steps: 3", "vocab: vocab.txt", "drop: 0.3")
	beside(t, dir, ".txt", func(i int) []byte { return []byte([]string{"a cat", "a dog", "cat dog cat dog cat dog"}[i%3]) })
	if err := os.WriteFile(filepath.Join(dir, "vocab.txt"), []byte("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\ncat\ndog\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if res, err := runFile(context.Background(), path, jobs.RunOptions{}, set("input.caption", "txt")...); err != nil || res.Losses["loss"] == 0 {
		t.Errorf("%+v, %v", res, err)
	}
	for want, more := range map[string][]string{
		"spec.input.caption: missing": {},
		"spec.train.vocab: missing":   {"input.caption", "txt", "train.vocab", ""},
	} {
		_, err := runFile(context.Background(), path, jobs.RunOptions{}, set(append(more, "output.path", filepath.Join(dir, "none"))...)...)
		if exitcode.Of(err) != exitcode.Usage || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// TestLabelMaps trains a rescaler with the U-Net. The maps are cropped and mirrored with their pictures.
func TestLabelMaps(t *testing.T) {
	model := modelYAML(`cond_stage_config: {target: ldm.modules.encoders.modules.SpatialRescaler, params: {n_stages: 0, in_channels: 3, out_channels: 2}}
    cond_stage_key: segmentation
    cond_stage_trainable: true`, "", 5)
	dir, path := fixture(t, model, "steps: 3")
	maps := func(most uint8) func(int) []byte {
		return func(i int) []byte {
			m := image.NewGray(image.Rect(0, 0, 12, 10))
			for y := range 10 {
				for x := range 12 {
					m.SetGray(x, y, color.Gray{uint8(x/4) % (most + 1)})
				}
			}
			var b bytes.Buffer
			if err := png.Encode(&b, m); err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		}
	}
	beside(t, dir, "_seg.png", maps(2))
	if res, err := runFile(context.Background(), path, jobs.RunOptions{}, set("input.segmentation", "seg")...); err != nil || res.Losses["loss"] == 0 {
		t.Errorf("%+v, %v", res, err)
	}
	_, err := runFile(context.Background(), path, jobs.RunOptions{}, set("train.drop", "0.1", "input.segmentation", "seg", "output.path", filepath.Join(dir, "none"))...)
	if exitcode.Of(err) != exitcode.Usage || !strings.Contains(err.Error(), "none can be left out") {
		t.Errorf("dropping label maps: %v", err)
	}
}

// TestDrawHoles draws many masks: none is empty or full, and their shares of holes are spread.
func TestDrawHoles(t *testing.T) {
	r := &recipe{}
	r.job = &resolved(t).Spec
	small, large := 0, 0
	for i := range int64(300) {
		holes := drawHoles(24, 32, r.numbers(i, 11))
		n := 0
		for _, v := range holes {
			if v == 1 {
				n++
			} else if v != 0 {
				t.Fatalf("mask %d holds %v", i, v)
			}
		}
		if n == 0 || n == len(holes) {
			t.Fatalf("mask %d has %d holes of %d pixels", i, n, len(holes))
		}
		if share := float64(n) / float64(len(holes)); share < 0.15 {
			small++
		} else if share > 0.35 {
			large++
		}
	}
	if small < 20 || large < 20 {
		t.Errorf("%d small and %d large masks of 300", small, large)
	}
}
