package demo

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/browser"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

func set(pairs ...string) (list []spec.Setting) {
	for _, p := range pairs {
		key, value, _ := strings.Cut(p, "=")
		list = append(list, spec.Setting{Key: "spec." + key, Value: value, Origin: "test"})
	}
	return list
}

// TestDemo runs a small demonstration: the models that come along make pictures of their classes, and a second run finds everything
// done and makes the same page.
func TestDemo(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Log: slog.New(slog.DiscardHandler), rows: 20, settings: map[string][]spec.Setting{
		"2-class.yaml":       set("sample.per_class=1", "sampler.steps=8"),
		"3-superres.yaml":    set("input.limit=6", "sampler.steps=8"),
		"4-inpaint.yaml":     set("input.limit=6", "sampler.steps=8"),
		"5-score-class.yaml": set("eval.metrics=[accuracy]"),
	}}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	scores := map[string]Score{}
	for _, s := range r.Scores {
		scores[s.Of+" "+s.Name] = s
	}
	for name, least := range map[string]float64{"generated pictures Accuracy(shapes64)": 0.8, "first stage PSNR": 27, "super-resolution PSNR": 18, "inpainting PSNR within the holes": 12} {
		if s, ok := scores[name]; !ok || !(s.Value >= least) || s.Rows == 0 {
			t.Errorf("%s is %v of %d pictures, want at least %v", name, s.Value, s.Rows, least)
		}
	}
	page, err := os.ReadFile(r.Page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"generated: heart", "upscaled to 64x64", "filled", "decoded from its latent", "Accuracy(shapes64)", "2-class.yaml"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(string(page), "://") {
		t.Error("the page names something outside of it")
	}
	browser.Look(t, r.Page)
	again, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := os.ReadFile(again.Page); err != nil || string(second) != string(page) {
		t.Errorf("the second page differs (%v)", err)
	}
	os.RemoveAll(filepath.Join(dir, "superres", "data"))
	if _, err := collect(t.Context(), dir, nil); err == nil || !strings.Contains(err.Error(), "superres") {
		t.Errorf("without parts: %v", err)
	}
}
