package scoring

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/eval/report"
	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn/inception"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
	"github.com/ldm-batch/ldm-batch/io/commit"
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

// TestGoldenScores compares whole evaluations with those of the reference tools on the same files.
func TestGoldenScores(t *testing.T) {
	if kernel.Detect() == kernel.Generic {
		t.Skip("takes minutes without C")
	}
	dir := golden.Dir(t, "eval", "files")
	b, err := os.ReadFile(filepath.Join(dir, "end_to_end.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]any
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	a, ref := filepath.Join(dir, "images_a.npz"), filepath.Join(dir, "images_b.npz")
	out := filepath.Join(t.TempDir(), "out")
	res := must(t, job(t, a, ref, "fid, fid_64, fid_192, fid_768, is, kid, precision, recall, memorised", out), jobs.RunOptions{})
	check := func(key string, got, want, tolerance float64) {
		t.Helper()
		e := math.Abs(got-want) / math.Abs(want)
		golden.Line(t, "eval/files/"+key, e, tolerance)
		if !(e <= tolerance) {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	for metric, key := range map[string]string{"fid": "exact_fd_2048", "fid_64": "exact_fd_64", "fid_192": "exact_fd_192", "fid_768": "exact_fd_768"} {
		check(key, res.Scores[metric], want[key].(float64), 1e-5)
	}
	check("is", res.Scores["is"], want["torch_fidelity_isc_a"].(map[string]any)["inception_score_mean"].(float64), 1e-6)
	pr := want["torch_fidelity_precision_recall_k3_a_generated"].([]any)
	check("precision", res.Scores["precision"], pr[0].(float64), 1e-6)
	check("recall", res.Scores["recall"], pr[1].(float64), 1e-6)
	if _, ok := res.Scores["kid"]; !ok || res.State != "finished" {
		t.Errorf("result %+v", res)
	}
	f, err := os.Open(filepath.Join(out, ReportName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := report.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Samples) == 0 || len(r.Neighbours) == 0 || r.Projection == nil || r.Scores[0].Label != "FID" || r.Scores[0].StandardError == nil || r.Generated.Rows == 0 {
		t.Errorf("report %+v", r.Scores)
	}
	if len(r.Warnings) == 0 || !strings.Contains(strings.Join(r.Warnings, "\n"), "extrapolated") {
		t.Errorf("warnings %q", r.Warnings)
	}

	res = must(t, job(t, a, ref, "fid_64, fid_192", filepath.Join(t.TempDir(), "out"), "eval.protocol=pytorch-fid"), jobs.RunOptions{})
	check("pytorch_fid_dims64", res.Scores["fid_64"], want["pytorch_fid_dims64"].(float64), 1e-5)
	check("pytorch_fid_dims192", res.Scores["fid_192"], want["pytorch_fid_dims192"].(float64), 1e-5)
}

// TestShards: shards and finalize give the bytes of one run, whatever batch and threads.
func TestShards(t *testing.T) {
	dir := golden.Dir(t, "eval", "files")
	a, ref := filepath.Join(dir, "images_a.npz"), filepath.Join(dir, "images_b.npz")
	one, many := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "out")
	const metrics = "fid_64, psnr, ssim"
	if res := must(t, job(t, a, ref, metrics, one, "input.limit=20"), jobs.RunOptions{}); res.State != "finished" || res.Rows != 40 {
		t.Fatalf("%+v", res)
	}
	for i := range 3 {
		r := job(t, a, ref, metrics, many, "input.limit=20", fmt.Sprint("compute.batch=", 3+i), fmt.Sprint("compute.threads=", 1+i%2))
		res := must(t, r, jobs.RunOptions{Shard: commit.Shard{Index: i, Count: 3}})
		if (res.State == "partial") != (i < 2) {
			t.Errorf("shard %d is %s", i, res.State)
		}
		if i == 1 {
			if _, err := Finalize(context.Background(), many); exitcode.Of(err) != exitcode.Temporary {
				t.Errorf("finalize too early: %v", err)
			}
		}
	}
	for _, name := range []string{ReportName, "_SUCCESS"} {
		if err := os.Remove(filepath.Join(many, name)); err != nil {
			t.Fatal(err)
		}
	}
	res, err := Finalize(context.Background(), many)
	if err != nil || res.Rows != 40 || len(res.Scores) != 3 {
		t.Fatalf("%v, %+v", err, res)
	}
	list, err := filepath.Glob(filepath.Join(one, "data", "*"))
	if err != nil || len(list) != 6 {
		t.Fatal(list, err)
	}
	for _, p := range append(list, filepath.Join(one, ReportName), filepath.Join(one, "_manifest.json"), filepath.Join(one, "_SUCCESS")) {
		rel, _ := filepath.Rel(one, p)
		x, err1 := os.ReadFile(p)
		y, err2 := os.ReadFile(filepath.Join(many, rel))
		if err1 != nil || err2 != nil || string(x) != string(y) {
			t.Errorf("%s differs: %v, %v", rel, err1, err2)
		}
	}
	if res := must(t, job(t, a, ref, metrics, one, "input.limit=20"), jobs.RunOptions{}); res.State != "nothing" || len(res.Scores) != 3 {
		t.Errorf("second run: %+v", res)
	}
}

func TestStatisticsAndGate(t *testing.T) {
	dir := golden.Dir(t, "eval", "files")
	a, ref := filepath.Join(dir, "images_a.npz"), filepath.Join(dir, "images_b.npz")
	tmp := t.TempDir()
	direct := must(t, job(t, a, ref, "fid_64", filepath.Join(tmp, "1")), jobs.RunOptions{}).Scores["fid_64"]
	for _, ext := range []string{".npz", ".arrow"} {
		stats := filepath.Join(tmp, "stats", "b"+ext)
		must(t, job(t, ref, a, "fid_64", filepath.Join(tmp, "2"+ext), "eval.save_stats="+stats), jobs.RunOptions{})
		res := must(t, job(t, a, stats, "fid_64", filepath.Join(tmp, "3"+ext)), jobs.RunOptions{})
		if got := res.Scores["fid_64"]; math.Abs(got-direct) > 1e-9*direct {
			t.Errorf("%s: %v from statistics, %v from pictures", ext, got, direct)
		}
		if said := strings.Contains(strings.Join(res.Warnings, " "), "does not say how"); said != (ext == ".npz") {
			t.Errorf("%s: warnings %q", ext, res.Warnings)
		}
		_, err := run(t, job(t, a, stats, "kid", filepath.Join(tmp, "4"+ext)), jobs.RunOptions{})
		if exitcode.Of(err) != exitcode.Usage && exitcode.Of(err) != exitcode.Data {
			t.Errorf("kid from statistics: %v", err)
		}
	}
	other := filepath.Join(tmp, "stats", "b.arrow")
	_, err := run(t, job(t, a, other, "fid_64", filepath.Join(tmp, "5"), "eval.protocol=clean-fid"), jobs.RunOptions{})
	if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "protocol is") {
		t.Errorf("other protocol: %v", err)
	}
	res := must(t, job(t, a, other, "fid_64", filepath.Join(tmp, "5"), "eval.protocol=clean-fid", "eval.force=true"), jobs.RunOptions{})
	if !strings.Contains(strings.Join(res.Warnings, " "), "because of --force") {
		t.Errorf("warnings %q", res.Warnings)
	}

	res, err = run(t, job(t, a, ref, "fid_64", filepath.Join(tmp, "6"), "eval.fail_if=[\"fid_64>0.5\"]"), jobs.RunOptions{})
	if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "fid_64>0.5") || res.ExitCode != 65 || res.Scores["fid_64"] != direct || res.State != "finished" {
		t.Errorf("gate: %v, %+v", err, res)
	}
	if _, err := os.Stat(filepath.Join(tmp, "6", "_SUCCESS")); err != nil {
		t.Error(err)
	}
	must(t, job(t, a, ref, "fid_64", filepath.Join(tmp, "6"), "eval.fail_if=[\"fid_64>50\"]"), jobs.RunOptions{})
}

// TestBadRows: rows that cannot be used are refused unless the job allows them, and are counted.
func TestBadRows(t *testing.T) {
	folder := t.TempDir()
	for i := range 7 {
		m := &picture.Image{W: 16, H: 12 + i, Pix: bytes.Repeat([]byte{byte(40 * i), byte(7 * i), 99}, 16*(12+i)), Channels: 3}
		var b bytes.Buffer
		if err := picture.EncodePNG(&b, m, picture.PNGOptions{}); err != nil {
			t.Fatal(err)
		}
		data := b.Bytes()
		if i%3 == 1 {
			data = data[:len(data)/2]
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprint(i, ".png")), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ref := filepath.Join(golden.Dir(t, "eval", "files"), "images_b.npz")
	out := filepath.Join(t.TempDir(), "out")
	_, err := run(t, job(t, folder, ref, "fid_64", out), jobs.RunOptions{})
	if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "limits.max_bad_rows") {
		t.Errorf("bad rows: %v", err)
	}
	res := must(t, job(t, folder, ref, "fid_64", out, "limits.max_bad_rows=2"), jobs.RunOptions{})
	if res.Failed != 2 || res.OK+res.Failed != res.Rows || !strings.Contains(strings.Join(res.Warnings, " "), "2 rows could not be used") || res.Details[0].GeneratedRows != 5 {
		t.Errorf("%+v", res)
	}
}

// TestReconstruct scores what a first stage leaves of pictures, by its own latents.
func TestReconstruct(t *testing.T) {
	model := golden.Dir(t, "ldm", "uncond-kl-scaled")
	ref := filepath.Join(golden.Dir(t, "eval", "files"), "images_b.npz")
	res := must(t, job(t, "", ref, "fid, psnr, ssim", filepath.Join(t.TempDir(), "out"), "eval.reconstruct=true", "eval.extractor.name=first-stage", "eval.extractor.path=",
		"model.checkpoint="+filepath.Join(model, "model.ckpt"), "model.config="+filepath.Join(model, "config.yaml"), "preprocess.size=64", "input.limit=12"), jobs.RunOptions{})
	if len(res.Details) != 3 || res.Details[0].Label != "rFD(model)" || res.Details[0].Metric != "rfid" || !(res.Scores["fid"] > 0) || !(res.Scores["psnr"] > 0) {
		t.Errorf("%+v", res.Details)
	}
}
