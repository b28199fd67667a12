package main

import (
	"os"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// TestEval scores pictures of the demonstration data with a gate, and names an extractor whose file is of another network.
func TestEval(t *testing.T) {
	t.Chdir(t.TempDir())
	if got := invoke(t, "demo-data", "--rows", "6", "--split", "some", "data"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	eval := func(more ...string) outcome {
		return invoke(t, append([]string{"eval", "--quiet", "--threads", "2", "--generated", "data/some-*.parquet", "--reference", "data/some-*.parquet", "--output", "score"}, more...)...)
	}
	for condition, code := range map[string]exitcode.Code{"fid<1": exitcode.Data, "fid>1": exitcode.OK} {
		got := eval("--json", "--metrics", "fid,accuracy", "--fail-if", condition)
		doc := got.document(t)
		scores, _ := doc["scores"].(map[string]any)
		fd, isNumber := scores["fd"].(float64)
		if got.code != int(code) || doc["exit_code"] != float64(code) || doc["retryable"] != false || !isNumber || fd > 1e-9 || scores["accuracy"] != 1.0 {
			t.Errorf("--fail-if %s: %+v", condition, got)
		}
		reason, _ := doc["error"].(string)
		if said := strings.HasPrefix(reason, "quality gate: fd is ") && strings.HasSuffix(reason, "(fail_if fid<1)") && strings.Contains(got.stderr, reason); said != (code == exitcode.Data) {
			t.Errorf("--fail-if %s: reason %q, %+v", condition, reason, got)
		}
		if _, err := os.Stat("score/_SUCCESS"); err != nil {
			t.Error(err)
		}
	}
	if err := os.WriteFile("vgg16.safetensors", append([]byte{2, 0, 0, 0, 0, 0, 0, 0}, "{}"...), 0o666); err != nil {
		t.Fatal(err)
	}
	got := eval("--metrics", "precision", "--extractor", "vgg16", "--inception", "vgg16.safetensors")
	if got.code != int(exitcode.Data) || !strings.Contains(got.stderr, "features of VGG16: weights do not fit the model: 30 missing") {
		t.Errorf("a file without the network: %+v", got)
	}
	if got := eval("--metrics", "precision", "--extractor", "vgg16"); got.code != int(exitcode.Usage) || !strings.Contains(got.stderr, "spec.eval.extractor.path: missing: the file of the weights of VGG16") {
		t.Errorf("no file: %+v", got)
	}
}
