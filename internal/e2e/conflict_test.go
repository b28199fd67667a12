package e2e

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights/safetensors"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// TestConflict changes one thing about a job at a time. What the output depends on is refused, with its name; what it does not
// depend on is accepted, and then there is nothing to do.
func TestConflict(t *testing.T) {
	dir := t.TempDir()
	kl, other := get(t, klModel), get(t, otherModel)
	input := copyDir(t, get(t, fewPictures), filepath.Join(dir, "in"), 6)
	more := copyDir(t, input, filepath.Join(dir, "more"), 6)
	b, err := drawing(rand.New(rand.NewPCG(1, 2)), 40, 40)
	if err == nil {
		err = os.WriteFile(filepath.Join(more, "more.png"), b, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	// The nominal resolution decides where attention stands, and there is none: the checkpoint still fits, but what made the
	// output is another configuration.
	config := rewrite(t, kl.config, filepath.Join(dir, "other.yaml"), "resolution: 32", "resolution: 64")
	out := filepath.Join(dir, "out")
	base := encodeJob(t, kl, input, "output.rows_per_part=2").to(out)
	base.must(t, jobs.RunOptions{})
	want := snapshot(t, out)

	class := get(t, classModel)
	sampled := filepath.Join(dir, "sampled")
	noise, noise2 := filepath.Join(dir, "noise"), filepath.Join(dir, "noise2")
	writeNoise(t, noise, 1)
	writeNoise(t, noise2, 2)
	gen := job{kind: "Sample"}.with(class.settings()...).with("sample.task=class", "sample.classes=1", "sample.per_class=2", "sample.size=32",
		"sampler.steps=2", "sampler.noise_from="+noise).to(sampled)
	gen.must(t, jobs.RunOptions{})
	wantSampled := snapshot(t, sampled)

	cases := []struct {
		name     string
		job      job
		mentions string // "" when the change is accepted
	}{
		{"size", base.with("preprocess.size=36"), "spec.preprocess.size"},
		{"crop", base.with("preprocess.crop=lsun"), "spec.preprocess.crop"},
		{"resize", base.with("preprocess.resize=pil-lanczos"), "spec.preprocess.resize"},
		{"flip", base.with("preprocess.flip=true"), "spec.preprocess.flip"},
		{"latent", base.with("encode.latent=sample"), "spec.encode.latent"},
		{"dtype", base.with("encode.dtype=float16"), "spec.encode.dtype"},
		{"scale", base.with("encode.scale=false"), "spec.encode.scale"},
		{"rows per part", base.with("output.rows_per_part=3"), "rows_per_part"},
		{"compression", base.with("output.compression=zstd"), "spec.output.compression"},
		{"layout", base.with("output.latent_layout=tensor"), "spec.output.latent_layout"},
		{"seed", base.with("compute.seed=24"), "spec.compute.seed"},
		{"limit", base.with("input.limit=3"), "spec.input.limit"},
		{"exif", base.with("input.exif=ignore"), "spec.input.exif"},
		{"model", base.with(other.settings()...), "model_sha256"},
		{"configuration", base.with("model.config=" + config), "config"},
		{"weights", base.with("model.weights=raw"), "spec.model.weights"},
		{"input", base.with("input.path=" + more), "input"},
		{"sampler", gen.with("sampler.name=plms"), "spec.sampler.name"},
		{"steps", gen.with("sampler.steps=4"), "spec.sampler.steps"},
		{"eta", gen.with("sampler.eta=0.5", "sampler.noise_from="), "spec.sampler.eta"},
		{"guidance", gen.with("sampler.guidance=2"), "spec.sampler.guidance"},
		{"classes", gen.with("sample.classes=2"), "spec.sample.classes"},
		{"noise file", gen.with("sampler.noise_from=" + noise2), "noise"},
		{"no noise file", gen.with("sampler.noise_from="), "noise"},
		{"format", gen.with("output.format=jpeg"), "spec.output.format"},

		{"threads", base.with("compute.threads=2"), ""},
		{"batch", base.with("compute.batch=3"), ""},
		{"device", base.with("compute.device=cpu"), ""},
		{"memory", base.with("limits.memory=100MiB"), ""},
		{"budget", base.with("limits.max_bad_rows=3"), ""},
		{"pixels", base.with("limits.max_pixels=1000000"), ""},
		{"model elsewhere", base.with("model.checkpoint=" + copyFile(t, kl.checkpoint, filepath.Join(dir, "copy.safetensors"))), ""},
		{"configuration elsewhere", base.with("model.config=" + copyFile(t, kl.config, filepath.Join(dir, "copy.yaml"))), ""},
		{"noise elsewhere", gen.with("sampler.noise_from=" + copyFile(t, noise, filepath.Join(dir, "noise-copy"))), ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r, err := c.job.run(t.Context(), jobs.RunOptions{})
			switch {
			case c.mentions == "" && (err != nil || r.State != "nothing"):
				t.Errorf("should be accepted with nothing to do: %v", err)
			case c.mentions != "" && exitcode.Of(err) != exitcode.Conflict:
				t.Errorf("error %v of class %d, want a conflict", err, exitcode.Of(err))
			case c.mentions != "":
				mentions(t, err.Error(), c.job.set["output.path"], "belongs to another job", c.mentions)
			}
		})
	}
	same(t, out, want)
	same(t, sampled, wantSampled)
}

func writeNoise(t *testing.T, path string, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float32, 2*3*8*8)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	writeTensors(t, path, entry("x_T", x, 2, 3, 8, 8))
}

// entry is a float32 tensor for writeTensors.
func entry(name string, x []float32, shape ...int) safetensors.Entry {
	return safetensors.Entry{Name: name, DType: tensor.F32, Shape: shape, Data: func() io.Reader { return bytes.NewReader(littleEndian(x)) }}
}

func writeTensors(t *testing.T, path string, entries ...safetensors.Entry) {
	t.Helper()
	var b bytes.Buffer
	err := safetensors.Write(&b, entries, nil)
	if err == nil {
		err = os.WriteFile(path, b.Bytes(), 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// copyDir copies the first n files of a folder.
func copyDir(t *testing.T, from, to string, n int) string {
	t.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(to, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries[:n] {
		copyFile(t, filepath.Join(from, e.Name()), filepath.Join(to, e.Name()))
	}
	return to
}

func copyFile(t *testing.T, from, to string) string {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// rewrite copies a text file with one change.
func rewrite(t *testing.T, from, to, old, new string) string {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil || !strings.Contains(string(b), old) {
		t.Fatalf("%s holds no %q: %v", from, old, err)
	}
	if err := os.WriteFile(to, []byte(strings.Replace(string(b), old, new, 1)), 0o666); err != nil {
		t.Fatal(err)
	}
	return to
}

func littleEndian(x []float32) []byte {
	b := make([]byte, 0, 4*len(x))
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}
