package scoring

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/nn/lpips"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// TestPerceptual compares pairs of mixed sizes with weights that are computed, in one batch and one by one.
func TestPerceptual(t *testing.T) {
	tmp := t.TempDir()
	for i, size := range [][2]int{{16, 20}, {24, 16}, {16, 20}, {12, 16}} {
		pix := make([]byte, 3*size[0]*size[1])
		for k := range pix {
			pix[k] = byte(k * (3 + i))
		}
		name := fmt.Sprint(i, ".png")
		writePNG(t, filepath.Join(tmp, "a", name), size[0], size[1], pix)
		for k := range pix {
			if i != 2 { // that pair is of equal pictures
				pix[k] += byte(k % 23)
			}
		}
		writePNG(t, filepath.Join(tmp, "b", name), size[0], size[1], pix)
	}
	file := filepath.Join(tmp, "lpips.safetensors")
	if err := writePerceptual(file); err != nil {
		t.Fatal(err)
	}
	var first float64
	for batch := range 3 {
		res := must(t, job(t, filepath.Join(tmp, "a"), filepath.Join(tmp, "b"), "psnr, lpips", filepath.Join(tmp, fmt.Sprint(batch)), "eval.perceptual="+file,
			"limits.max_bad_rows=1", fmt.Sprint("compute.batch=", 1+batch)), jobs.RunOptions{})
		got := res.Scores["lpips"]
		if batch == 0 {
			first = got
		}
		if !(got > 0) || got != first || res.Failed != 1 || res.Details[1].GeneratedRows != 3 {
			t.Errorf("batch %d: %v, before %v: %+v", 1+batch, got, first, res)
		}
		r := readReport(t, filepath.Join(tmp, fmt.Sprint(batch)))
		if len(r.Failed) != 1 || !strings.Contains(r.Failed[0].Reason, "at least 16 x 16") {
			t.Errorf("failed rows %+v", r.Failed)
		}
	}
}

// writePerceptual writes computed weights of the perceptual distance.
func writePerceptual(path string) error {
	var list []*weights.Tensor
	for _, k := range lpips.Keys("")[2:] { // the scaling layer is known
		mode := formula.Weight
		if strings.HasPrefix(k.Name, "lin") {
			mode = formula.NonNegative
		}
		e, err := tensor.Generated(k.Name, k.Shape, func(dst []float32) error {
			formula.Fill(dst, "lpips."+k.Name, mode, k.Shape, 1)
			return nil
		})
		if err != nil {
			return err
		}
		list = append(list, e)
	}
	f, err := weights.NewMemory(list)
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
