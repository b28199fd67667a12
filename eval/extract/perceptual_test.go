package extract

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn/lpips"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// writePerceptual writes the computed weights of the reference vectors whose names begin in one of the ways.
func writePerceptual(t *testing.T, path string, begin ...string) {
	t.Helper()
	var list []*weights.Tensor
	for _, k := range lpips.Keys("") {
		kind := formula.Weight
		switch {
		case strings.HasPrefix(k.Name, "lin"):
			kind = formula.NonNegative
		case strings.HasSuffix(k.Name, ".bias"):
			kind = formula.Bias
		}
		for _, b := range begin {
			if !strings.HasPrefix(k.Name, b) {
				continue
			}
			e, err := tensor.Generated(k.Name, k.Shape, func(dst []float32) error {
				formula.Fill(dst, "lpips."+k.Name, kind, k.Shape, 1)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, e)
		}
	}
	f, err := weights.NewMemory(list)
	if err != nil {
		t.Fatal(err)
	}
	w, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := weights.Convert(f, w, weights.ConvertOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestPerceptualGolden compares distances with those of the reference, pair by pair and together.
func TestPerceptualGolden(t *testing.T) {
	entries := map[string]golden.Tensor{}
	for _, e := range golden.Tensors(t, golden.Dir(t, "training", "lpips.safetensors")) {
		entries[e.Name] = e
	}
	dir := t.TempDir()
	net, heads := filepath.Join(dir, "vgg.safetensors"), filepath.Join(dir, "heads.safetensors")
	writePerceptual(t, net, "net.")
	writePerceptual(t, heads, "lin")
	b, err := cpu.Open(cpu.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := OpenPerceptual([]string{net}, b); exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "lin0") {
		t.Errorf("without heads: %v", err)
	}
	p, err := OpenPerceptual([]string{net, heads}, b)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if w := p.Words(); strings.Count(w, "sha256") != 2 || !strings.Contains(w, "vgg.safetensors") {
		t.Errorf("words %q", w)
	}
	pairs, worst := 0, 0.0
	for name, e := range entries {
		pair, ok := strings.CutSuffix(name, ".distance")
		if !ok {
			continue
		}
		pairs++
		x, y, shape := entries[pair+".a"].Float32s(t), entries[pair+".b"].Float32s(t), entries[pair+".a"].Shape
		got, err := p.Distances(x, y, shape[0], shape[2], shape[3])
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range e.Values(t) {
			worst = max(worst, math.Abs(got[i]-w)/w)
			n := len(x) / shape[0]
			if one, err := p.Distances(x[i*n:][:n], y[i*n:][:n], 1, shape[2], shape[3]); err != nil || one[0] != got[i] {
				t.Errorf("%s, image %d alone: %v, %v; together %v", pair, i, one, err, got[i])
			}
		}
	}
	golden.Line(t, "eval/lpips", worst, 1e-5)
	if pairs == 0 || !(worst <= 1e-5) {
		t.Errorf("%d pairs, relative error %g", pairs, worst)
	}
	if _, err := p.Distances(make([]float32, 3), make([]float32, 3), 1, 16, 16); err == nil {
		t.Error("images of another size")
	}
}
