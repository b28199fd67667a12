package jobs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// encodeJob is a small job over real pictures with a reference first stage.
func encodeJob(t *testing.T, out string, settings ...spec.Setting) *spec.Resolved {
	t.Helper()
	stage := golden.Dir(t, "first_stage", "vq-f4")
	text := fmt.Sprintf(`apiVersion: ldm-batch/v1
kind: Encode
metadata: {name: test}
spec:
  model: {checkpoint: %q, config: %q}
  input: {path: %q, limit: 10}
  preprocess: {size: 32}
  output: {path: %q, rows_per_part: 4}
  compute: {batch: 3, threads: 1}
`, filepath.Join(stage, "model.ckpt"), filepath.Join(stage, "config.yaml"), golden.Data(t, "clothing")+"/train-*.parquet", out)
	r, err := spec.Load("job.yaml", []byte(text), t.TempDir(), nil, settings)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func runJob(t *testing.T, r *spec.Resolved, o RunOptions) (*Result, error) {
	t.Helper()
	p, err := Prepare(context.Background(), r, PrepareOptions{})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return p.Run(context.Background(), o)
}

func mustRun(t *testing.T, r *spec.Resolved, o RunOptions) *Result {
	t.Helper()
	res, err := runJob(t, r, o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// files reads everything below a folder that must not differ between two runs of one job.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	m := map[string][]byte{}
	for _, pattern := range []string{"data/*", "_*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			b, err := os.ReadFile(n)
			if err != nil {
				t.Fatal(err)
			}
			m[strings.TrimPrefix(n, dir)] = b
		}
	}
	return m
}

func sameFiles(t *testing.T, what string, a, b map[string][]byte) {
	t.Helper()
	if len(a) != len(b) {
		t.Errorf("%s: %d files against %d", what, len(a), len(b))
	}
	for n := range a {
		if !bytes.Equal(a[n], b[n]) {
			t.Errorf("%s: %s differs", what, n)
		}
	}
}

func rows(t *testing.T, dir string) []part.Row {
	t.Helper()
	m, err := commit.ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []part.Row
	for _, p := range m.Parts {
		r, err := part.Open(filepath.Join(dir, p.File), p.Expect())
		if err != nil {
			t.Fatal(err)
		}
		for row, err := range r.Rows() {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, row)
		}
		r.Close()
	}
	return all
}

func TestEncode(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "a")
	res := mustRun(t, encodeJob(t, out), RunOptions{})
	if res.State != "finished" || res.Rows != 10 || res.OK != 10 || res.Parts != 3 || res.PartsDone != 3 || res.ExitCode != 0 {
		t.Errorf("result %+v", res)
	}
	if res = mustRun(t, encodeJob(t, out), RunOptions{}); res.State != "nothing" || res.Rows != 10 || res.PartsDone != 0 {
		t.Errorf("second run: %+v", res)
	}
	want := files(t, out)
	if len(want) != 5 {
		t.Errorf("files: %d, want 3 parts, manifest, _SUCCESS", len(want))
	}
	all := rows(t, out)
	for i, r := range all {
		if r.Status != part.OK || len(r.Latent) != 3*8*8 || !r.HasLabel || r.Width == 0 || !strings.HasSuffix(r.ID, fmt.Sprintf("#%d", i)) || r.SourceSHA256 == "" {
			t.Errorf("row %d: %+v", i, r)
		}
	}

	// Nothing about how a job is run may change a byte.
	for i, s := range [][]spec.Setting{
		{{Key: "compute.batch", Value: "1", Origin: "test"}},
		{{Key: "compute.batch", Value: "8", Origin: "test"}, {Key: "compute.threads", Value: "2", Origin: "test"}},
		{{Key: "limits.memory", Value: "64MiB", Origin: "test"}},
	} {
		other := filepath.Join(dir, fmt.Sprint("variant", i))
		mustRun(t, encodeJob(t, other, s...), RunOptions{})
		sameFiles(t, fmt.Sprint(s), want, files(t, other))
	}
	shards := filepath.Join(dir, "shards")
	for i := range 3 {
		state := mustRun(t, encodeJob(t, shards), RunOptions{Shard: commit.Shard{Index: i, Count: 3}}).State
		if last := i == 2; last != (state == "finished") {
			t.Errorf("shard %d: state %s", i, state)
		}
	}
	sameFiles(t, "shards", want, files(t, shards))

	// A part that is lost is written again, the same.
	if err := os.Remove(filepath.Join(out, "data", "part-00001.arrow")); err != nil {
		t.Fatal(err)
	}
	if res := mustRun(t, encodeJob(t, out), RunOptions{}); res.PartsDone != 1 {
		t.Errorf("repair: %+v", res)
	}
	sameFiles(t, "repair", want, files(t, out))

	_, err := runJob(t, encodeJob(t, out, spec.Setting{Key: "preprocess.resize", Value: "pil-lanczos", Origin: "--set"}), RunOptions{})
	if exitcode.Of(err) != exitcode.Conflict || !strings.Contains(err.Error(), "spec.preprocess.resize") {
		t.Errorf("changed job: %v", err)
	}
}

func TestBadRows(t *testing.T) {
	input := spec.Setting{Key: "input.path", Value: golden.Data(t, "odd") + "/broken_images.parquet", Origin: "test"}
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	_, err := runJob(t, encodeJob(t, out, input), RunOptions{})
	if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "limits.max_bad_rows") || !strings.Contains(err.Error(), "broken_images.parquet row group 0 row ") {
		t.Errorf("over the budget: %v", err)
	}
	if got := files(t, out); len(got) != 0 {
		t.Errorf("files of a failed run: %d", len(got))
	}
	all := spec.Setting{Key: "limits.max_bad_rows", Value: "100%", Origin: "test"}
	res := mustRun(t, encodeJob(t, out, input, all, spec.Setting{Key: "input.limit", Value: "0", Origin: "test"}), RunOptions{Overwrite: true})
	if res.Failed == 0 || res.Failed+res.OK != res.Rows || len(res.Reasons) == 0 {
		t.Errorf("result %+v", res)
	}
	for _, r := range rows(t, out) {
		if (r.Status == part.Failed) != (r.Error != "") || (r.Status == part.Failed) != (r.Latent == nil) {
			t.Errorf("row %s: %s, error %q, %d values", r.ID, r.Status, r.Error, len(r.Latent))
		}
	}
}

func TestStop(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(exitcode.Errorf(exitcode.Terminated, "stopped by SIGTERM"))
	out := filepath.Join(t.TempDir(), "out")
	p, err := Prepare(context.Background(), encodeJob(t, out), PrepareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	res, err := p.Run(ctx, RunOptions{})
	if exitcode.Of(err) != exitcode.Terminated || res.State != "stopped" || !res.Retryable {
		t.Errorf("stopped run: %v, %+v", err, res)
	}
	if res, err = p.Run(context.Background(), RunOptions{}); err != nil || res.State != "finished" {
		t.Errorf("resumed run: %v, %+v", err, res)
	}
}

func TestGenerate(t *testing.T) {
	model := golden.Dir(t, "ldm", "uncond-kl-scaled")
	sample := "{task: uncond, rows: 5}"
	job := func(out string, settings ...spec.Setting) *spec.Resolved {
		text := fmt.Sprintf(`apiVersion: ldm-batch/v1
kind: Sample
spec:
  model: {checkpoint: %q, config: %q}
  sample: %s
  sampler: {steps: 3, eta: 1, spacing: quad}
  output: {path: %q, rows_per_part: 3}
  compute: {batch: 2, threads: 1}
`, filepath.Join(model, "model.ckpt"), filepath.Join(model, "config.yaml"), sample, out)
		r, err := spec.Load("job.yaml", []byte(text), t.TempDir(), nil, settings)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if res := mustRun(t, job(a), RunOptions{}); res.OK != 5 || res.Parts != 2 {
		t.Errorf("result %+v", res)
	}
	mustRun(t, job(b, spec.Setting{Key: "compute.batch", Value: "5", Origin: "test"}), RunOptions{})
	sameFiles(t, "batch", files(t, a), files(t, b))
	seen := map[string]bool{}
	for _, r := range rows(t, a) {
		img, err := picture.Decode(r.Image, picture.DefaultOptions())
		if err != nil || img.W != 64 || img.H != 64 || r.Steps != 3 || r.Seed != 23 {
			t.Errorf("row %s: %v %+v", r.ID, err, r)
		}
		if seen[string(r.Image)] {
			t.Errorf("row %s repeats another image", r.ID)
		}
		seen[string(r.Image)] = true
	}
	sample = "{task: class, classes: \"1\"}"
	_, err := runJob(t, job(filepath.Join(dir, "c")), RunOptions{})
	if exitcode.Of(err) != exitcode.Usage || !strings.Contains(err.Error(), "not conditioned on classes") {
		t.Errorf("class task on an unconditional model: %v", err)
	}
}
