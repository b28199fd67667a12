package scoring

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/models/shapes64"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/demodata"
)

// TestDefaultExtractor scores without any file of weights: fresh pictures of the demonstration set against others.
func TestDefaultExtractor(t *testing.T) {
	dir := t.TempDir()
	for split, rows := range map[string]int64{"a": 40, "b": 48} {
		if _, err := demodata.Write(context.Background(), dir, demodata.Options{Rows: rows, Size: 64, Seed: 9, Split: split, Objects: 1}); err != nil {
			t.Fatal(err)
		}
	}
	a, b := filepath.Join(dir, "a-*.parquet"), filepath.Join(dir, "b-*.parquet")
	res := must(t, job(t, a, b, "fid, kid, accuracy", filepath.Join(dir, "1"), "eval.extractor.path="), jobs.RunOptions{})
	if s := res.Scores["accuracy"]; s < 0.95 || s > 1 {
		t.Errorf("accuracy %v", s)
	}
	labels := map[string]bool{}
	for _, s := range res.Details {
		labels[s.Label] = true
		if strings.Contains(s.Label, "FID") {
			t.Errorf("a score is called %s", s.Label)
		}
	}
	for key := range res.Scores {
		if strings.Contains(key, "fid") || strings.Contains(key, "kid") {
			t.Errorf("a result is called %s", key)
		}
	}
	if !labels["FD(shapes64)"] || !labels["Accuracy(shapes64)"] || !labels["KD(shapes64)"] {
		t.Errorf("labels %v", labels)
	}
	for _, condition := range []string{"fd>0.001", "fid>0.001"} { // by the name of the result, or of the metric
		_, err := run(t, job(t, a, b, "fid, kid, accuracy", filepath.Join(dir, "1"), "eval.extractor.path=", "eval.fail_if=["+condition+"]"), jobs.RunOptions{})
		if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "fd is ") {
			t.Errorf("%s: %v", condition, err)
		}
	}
	// Statistics are known by the network, and features of another one are refused.
	stats := filepath.Join(dir, "b.arrow")
	must(t, job(t, b, a, "fid", filepath.Join(dir, "2"), "eval.extractor.path=", "eval.save_stats="+stats), jobs.RunOptions{})
	again := must(t, job(t, a, stats, "fid, accuracy", filepath.Join(dir, "3"), "eval.extractor.path="), jobs.RunOptions{})
	if got, want := again.Scores["fd"], res.Scores["fd"]; !(got > 0) || got < want*(1-1e-9) || got > want*(1+1e-9) || again.Scores["accuracy"] != res.Scores["accuracy"] {
		t.Errorf("%v from statistics, %v from pictures", got, want)
	}
	for name, data := range map[string][]byte{"mine.safetensors": shapes64.Weights, "config.yaml": shapes64.Config} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	_, err := run(t, job(t, a, stats, "fid", filepath.Join(dir, "4"), "eval.extractor.name=classifier", "eval.extractor.path="+filepath.Join(dir, "mine.safetensors")), jobs.RunOptions{})
	if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "shapes64") {
		t.Errorf("statistics of another network: %v", err)
	}
}

// TestAccuracyRefused gives sets whose labels are not those of the network.
func TestAccuracyRefused(t *testing.T) {
	m := &picture.Image{W: 8, H: 8, Pix: bytes.Repeat([]byte{1, 2, 3}, 64), Channels: 3}
	var b bytes.Buffer
	if err := picture.EncodePNG(&b, m, picture.PNGOptions{}); err != nil {
		t.Fatal(err)
	}
	for want, folders := range map[string][]string{`classes of the generated set are ["cat" "dog"]`: {"cat", "dog"}, "the generated set has no labels": {"."}} {
		dir := t.TempDir()
		for _, f := range folders {
			path := filepath.Join(dir, "set", f, "1.png")
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		_, err := run(t, job(t, filepath.Join(dir, "set"), "", "accuracy", filepath.Join(dir, "out"), "eval.extractor.path="), jobs.RunOptions{})
		if c := exitcode.Of(err); c != exitcode.Data && c != exitcode.Usage || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
