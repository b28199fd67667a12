package eval

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
)

// TestInputsGolden compares network inputs, whole or some rows of them.
func TestInputsGolden(t *testing.T) {
	dir := golden.Dir(t, "eval", "features")
	images := map[string]Picture{}
	for _, e := range golden.Tensors(t, filepath.Join(dir, "images.safetensors")) {
		images[e.Name] = picture8(t, e)
	}
	worst := map[string]float64{}
	for _, e := range golden.Tensors(t, filepath.Join(dir, "inputs_299.safetensors")) {
		tool, image, _ := strings.Cut(e.Name, "/")
		image, rows, part := strings.Cut(image, "#rows_")
		lines := []int{}
		for _, r := range strings.Split(rows, "_") {
			var n int
			if _, err := fmt.Sscan(r, &n); part && err != nil {
				t.Fatal(err)
			}
			lines = append(lines, n)
		}
		if !part {
			lines = lines[:0]
			for i := range Side {
				lines = append(lines, i)
			}
		}
		p, err := ParseProtocol(strings.ReplaceAll(strings.TrimSuffix(tool, "_antialias"), "_", "-"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewPreparer(p)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, 3*Side*Side)
		if err := r.Prepare(got, images[image]); err != nil {
			t.Fatal(err)
		}
		want := e.Float32s(t)
		for c := range 3 {
			for k, y := range lines {
				for x := range Side {
					d := math.Abs(float64(got[(c*Side+y)*Side+x]) - float64(want[(c*len(lines)+k)*Side+x]))
					worst[p.Name] = max(worst[p.Name], d)
					if !(d <= 1e-6) {
						t.Fatalf("%s: channel %d, row %d, column %d: error %g", e.Name, c, y, x, d)
					}
				}
			}
		}
	}
	for name, e := range worst {
		golden.Line(t, "eval/features/inputs/"+name, e, 1e-6)
	}
	if len(worst) < 4 {
		t.Errorf("only %d protocols compared", len(worst))
	}
}

func TestPrepareChannels(t *testing.T) {
	p, err := ParseProtocol("torch-fidelity")
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewPreparer(p)
	if err != nil {
		t.Fatal(err)
	}
	input := func(c int, pix ...uint8) []float32 {
		dst := make([]float32, 3*Side*Side)
		if err := r.Prepare(dst, Picture{H: 1, W: 1, C: c, Pix8: pix}); err != nil {
			t.Fatal(err)
		}
		return []float32{dst[0], dst[Side*Side], dst[2*Side*Side]}
	}
	for _, c := range []struct{ got, want []float32 }{
		{input(1, 64), []float32{-0.5, -0.5, -0.5}},
		{input(2, 64, 9), []float32{-0.5, -0.5, -0.5}},
		{input(3, 0, 128, 192), []float32{-1, 0, 0.5}},
		{input(4, 0, 128, 192, 9), []float32{-1, 0, 0.5}},
	} {
		if fmt.Sprint(c.got) != fmt.Sprint(c.want) {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
	for name, err := range map[string]error{
		"16 bit":      r.Prepare(make([]float32, 3*Side*Side), Picture{H: 1, W: 1, C: 1, Pix16: []uint16{1}}),
		"destination": r.Prepare(nil, Picture{H: 1, W: 1, C: 1, Pix8: []uint8{1}}),
		"picture":     r.Prepare(make([]float32, 3*Side*Side), Picture{H: 1, W: 2, C: 1, Pix8: []uint8{1}}),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := ParseProtocol("ttur"); err == nil || !strings.Contains(err.Error(), "clean-fid") {
		t.Errorf("unknown protocol: %v", err)
	}
	for _, p := range Protocols {
		if _, err := NewPreparer(p); err != nil {
			t.Error(err)
		}
	}
}
