package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
)

// The smallest networks that have every kind of block: f4 first stages and a conditional U-Net.
const (
	klConfig = `
model:
  target: ldm.models.autoencoder.AutoencoderKL
  params:
    embed_dim: 3
    ddconfig: {double_z: true, z_channels: 3, resolution: 32, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 1, 1],
      num_res_blocks: 1, attn_resolutions: [], dropout: 0.0}
    lossconfig: {target: torch.nn.Identity}
`
	classConfig = `
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
      params: {image_size: 8, in_channels: 3, out_channels: 3, model_channels: 32, attention_resolutions: [2], num_res_blocks: 1,
        channel_mult: [1, 2], num_heads: 1, use_spatial_transformer: true, transformer_depth: 1, context_dim: 24}
    first_stage_config:
      target: ldm.models.autoencoder.VQModelInterface
      params:
        embed_dim: 3
        n_embed: 64
        ddconfig: {double_z: false, z_channels: 3, resolution: 32, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 1, 1],
          num_res_blocks: 1, attn_resolutions: [], dropout: 0.0}
        lossconfig: {target: torch.nn.Identity}
    cond_stage_config:
      target: ldm.modules.encoders.modules.ClassEmbedder
      params: {n_classes: 11, embed_dim: 24, key: class_label}
    cond_stage_key: class_label
    cond_stage_trainable: true
    conditioning_key: crossattn
    use_ema: false
`
)

// model is a model on disk.
type model struct{ checkpoint, config string }

// settings names the model in a job.
func (m model) settings() []string {
	return []string{"model.checkpoint=" + m.checkpoint, "model.config=" + m.config}
}

// makeModel writes a configuration and computed weights for it.
func makeModel(name, config string, gain float64) (model, error) {
	m := model{filepath.Join(scratch, name+".safetensors"), filepath.Join(scratch, name+".yaml")}
	if err := os.WriteFile(m.config, []byte(config), 0o666); err != nil {
		return m, err
	}
	c, err := nn.LoadConfig(m.config)
	if err != nil {
		return m, err
	}
	var keys []weights.Param
	for _, p := range nn.New(c).Params() {
		keys = append(keys, weights.Param(p))
	}
	f, err := formula.Source{Gain: gain}.File(keys)
	if err != nil {
		return m, err
	}
	return m, convert(f, m.checkpoint)
}

// convert writes the tensors of a file as safetensors.
func convert(in *weights.File, path string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(weights.Convert(in, out, weights.ConvertOptions{}), out.Close())
}

var (
	klModel    = sync.OnceValues(func() (model, error) { return makeModel("kl", klConfig, 0.7) })
	otherModel = sync.OnceValues(func() (model, error) { return makeModel("other", klConfig, 0.6) })
	classModel = sync.OnceValues(func() (model, error) { return makeModel("class", classConfig, 0.7) })
)

// get fails the test when a fixture cannot be made.
func get[T any](t testing.TB, make func() (T, error)) T {
	t.Helper()
	v, err := make()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// pictures writes n pictures of about side pixels into a new folder below scratch.
func pictures(name string, n, side int) (string, error) {
	dir := filepath.Join(scratch, name)
	if err := os.Mkdir(dir, 0o777); err != nil {
		return "", err
	}
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range n {
		b, err := drawing(r, side+r.IntN(side/4+1), side+r.IntN(side/4+1))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d.png", i)), b, 0o666); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// drawing is a PNG of two colour ramps.
func drawing(r *rand.Rand, w, h int) ([]byte, error) {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	a, b, c := r.IntN(256), 1+r.IntN(7), 1+r.IntN(7)
	for y := range h {
		for x := range w {
			m.SetRGBA(x, y, color.RGBA{uint8(a + b*x), uint8(a + c*y), uint8(b*x + c*y), 255})
		}
	}
	var out bytes.Buffer
	err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&out, m)
	return out.Bytes(), err
}

var (
	fewPictures  = sync.OnceValues(func() (string, error) { return pictures("few", 80, 36) })
	manyPictures = sync.OnceValues(func() (string, error) { return pictures("many", 2000, 40) })
)

// encodeJob encodes a folder of small pictures.
func encodeJob(t testing.TB, m model, input string, settings ...string) job {
	t.Helper()
	return job{kind: "Encode"}.with(m.settings()...).with("input.path="+input, "preprocess.size=32", "compute.threads=1").with(settings...)
}

// forty is a job of forty parts.
func forty(t testing.TB) job {
	return encodeJob(t, get(t, klModel), get(t, fewPictures), "output.rows_per_part=2", "compute.batch=4")
}

// snapshot is the sha256 of every file that is the same in every run of one job, by name.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	names, err := filepath.Glob(filepath.Join(dir, "data", "*"))
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(dir, "images"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, p)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(names, filepath.Join(dir, "failed.csv"), filepath.Join(dir, "_manifest.json"), filepath.Join(dir, "_SUCCESS"), filepath.Join(dir, ".ldm-batch", "plan.json")) {
		b, err := os.ReadFile(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		rel, _ := filepath.Rel(dir, p)
		files[rel] = hex.EncodeToString(sum[:])
	}
	return files
}

// same checks that two finished folders hold the same bytes.
func same(t testing.TB, dir string, want map[string]string) {
	t.Helper()
	got := snapshot(t, dir)
	if _, ok := want["_SUCCESS"]; !ok || len(want) < 4 {
		t.Fatalf("nothing to compare with: %v", want)
	}
	for _, name := range sorted(want) {
		if got[name] != want[name] {
			t.Errorf("%s: %s has sha256 %q, want %q", dir, name, got[name], want[name])
		}
	}
	for _, name := range sorted(got) {
		if want[name] == "" {
			t.Errorf("%s: %s should not exist", dir, name)
		}
	}
}

// honest checks that nothing in an unfinished folder looks finished and is not: whatever has the name of a result holds the
// bytes of one, a journal entry has its part, and the folder is published only when it is whole.
func honest(t testing.TB, dir string, want map[string]string) {
	t.Helper()
	got := snapshot(t, dir)
	for _, name := range sorted(got) {
		if got[name] != want[name] {
			t.Errorf("%s: %s looks finished and differs from an undisturbed run's", dir, name)
		}
	}
	journal, err := filepath.Glob(filepath.Join(dir, ".ldm-batch", "journal", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range journal {
		var e commit.Entry
		b, err := os.ReadFile(p)
		if err == nil {
			err = json.Unmarshal(b, &e)
		}
		if err != nil {
			t.Errorf("journal %s: %v", p, err)
		} else if want[filepath.FromSlash(e.File)] != e.SHA256 || got[filepath.FromSlash(e.File)] != e.SHA256 {
			t.Errorf("journal %s vouches for %s, which is not there or wrong", p, e.File)
		}
	}
	_, published := got["_SUCCESS"]
	_, manifest := got["_manifest.json"]
	if (published || manifest) && len(journal)+3 < len(want) {
		t.Errorf("%s: published with %d of %d parts", dir, len(journal), len(want)-3)
	}
	if published && !manifest {
		t.Errorf("%s: _SUCCESS without a manifest", dir)
	}
}

// readRows reads every row of a finished folder.
func readRows(t testing.TB, dir string) []part.Row {
	t.Helper()
	m, err := commit.ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	var rows []part.Row
	for _, p := range m.Parts {
		r, err := part.Open(filepath.Join(dir, filepath.FromSlash(p.File)), p.Expect())
		if err != nil {
			t.Fatal(err)
		}
		for row, err := range r.Rows() {
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, row)
		}
		r.Close()
	}
	return rows
}

// parts is how many parts a folder has.
func parts(dir string) int {
	names, _ := filepath.Glob(filepath.Join(dir, ".ldm-batch", "journal", "*.json"))
	return len(names)
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// mentions checks that a message holds every word.
func mentions(t testing.TB, message string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(message, w) {
			t.Errorf("message %q does not mention %q", message, w)
		}
	}
}
