package scoring

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/eval/report"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn/inception"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// weightsFile has the computed weights of the reference vectors.
var weightsFile string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "scoring")
	if err == nil {
		weightsFile = filepath.Join(dir, "inception.safetensors")
		err = writeWeights(weightsFile)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func writeWeights(path string) error {
	var keys []weights.Param
	for _, k := range inception.Keys() {
		keys = append(keys, weights.Param(k))
	}
	f, err := formula.Source{}.File(keys)
	if err != nil {
		return err
	}
	w, err := os.Create(path)
	if err != nil {
		return err
	}
	defer w.Close()
	return weights.Convert(f, w, weights.ConvertOptions{})
}

func job(t *testing.T, generated, ref, metrics, out string, more ...string) *spec.Resolved {
	t.Helper()
	text := fmt.Sprintf("kind: Eval\nspec:\n  eval: {generated: %q, reference: %q, metrics: [%s], extractor: {path: %q}}\n  output: {path: %q, rows_per_part: 8}\n  compute: {batch: 4}\n",
		generated, ref, metrics, weightsFile, out)
	var settings []spec.Setting
	for _, m := range more {
		key, value, _ := strings.Cut(m, "=")
		settings = append(settings, spec.Setting{Key: key, Value: value, Origin: "--set"})
	}
	r, err := spec.Load("job.yaml", []byte(text), t.TempDir(), nil, settings)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func run(t *testing.T, r *spec.Resolved, o jobs.RunOptions) (*Result, error) {
	t.Helper()
	e, err := Prepare(context.Background(), r, nil)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	return e.Run(context.Background(), o)
}

func must(t *testing.T, r *spec.Resolved, o jobs.RunOptions) *Result {
	t.Helper()
	res, err := run(t, r, o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// readReport reads the result of a folder, which checks it.
func readReport(t *testing.T, out string) *report.Result {
	t.Helper()
	f, err := os.Open(filepath.Join(out, ReportName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := report.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func writePNG(t *testing.T, path string, w, h int, pix []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := picture.EncodePNG(&b, &picture.Image{W: w, H: h, Pix: pix, Channels: 3}, picture.PNGOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestGate(t *testing.T) {
	dir := golden.Dir(t, "eval", "files")
	a, ref, out := filepath.Join(dir, "images_a.npz"), filepath.Join(dir, "images_b.npz"), filepath.Join(t.TempDir(), "out")
	plain := "eval.extractor.path="
	res, err := run(t, job(t, a, ref, "fid", out, plain, "eval.fail_if=[\"fid>0.001\"]"), jobs.RunOptions{})
	if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "fid>0.001") || res.ExitCode != 65 || !(res.Scores["fd"] > 0.001) || res.State != "finished" || res.Retryable {
		t.Errorf("gate: %v, %+v", err, res)
	}
	if _, err := os.Stat(filepath.Join(out, "_SUCCESS")); err != nil {
		t.Error(err)
	}
	must(t, job(t, a, ref, "fid", out, plain, "eval.fail_if=[\"fid>1e9\"]"), jobs.RunOptions{}) // another gate is no other job
}
