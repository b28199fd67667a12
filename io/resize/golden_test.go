package resize

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
)

// side parses "HxW".
func side(t *testing.T, s string) (h, w int) {
	t.Helper()
	if _, err := fmt.Sscanf(s, "%dx%d", &h, &w); err != nil {
		t.Fatalf("size %q: %v", s, err)
	}
	return h, w
}

// split separates inputs (in*.HxW) from results and checks that every entry is one of the two.
func split(t *testing.T, all []golden.Tensor) (inputs map[string]golden.Tensor, results []golden.Tensor) {
	t.Helper()
	inputs = map[string]golden.Tensor{}
	for _, e := range all {
		if strings.HasPrefix(e.Name, "in") {
			inputs[e.Name] = e
		} else {
			results = append(results, e)
		}
	}
	if len(results) == 0 {
		t.Fatal("no result")
	}
	return inputs, results
}

func input(t *testing.T, inputs map[string]golden.Tensor, name string) golden.Tensor {
	t.Helper()
	e, ok := inputs[name]
	if !ok {
		t.Fatalf("no input %s", name)
	}
	return e
}

// tally keeps one difference per group and reports them.
type tally map[string]*difference

func (y tally) check(t *testing.T, group, name string, got, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d samples, not %d", name, len(got), len(want))
	}
	if y[group] == nil {
		y[group] = &difference{}
	}
	d := y[group].compare(got, want)
	golden.Line(t, "images/resize "+name, d, tolerance)
	if !(d <= tolerance) {
		t.Errorf("%s: max abs diff %g, tolerance %g", name, d, tolerance)
	}
}

func (y tally) report(t *testing.T) {
	t.Helper()
	for _, g := range slices.Sorted(maps.Keys(y)) {
		t.Logf("%-24s %v", g, y[g])
	}
}

func resizer(t testing.TB, m string) *Resizer {
	t.Helper()
	r, err := New(Method(m))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func run8(t testing.TB, m string, src []uint8, s Shape) []uint8 {
	t.Helper()
	dst := make([]uint8, s.DstH*s.DstW*s.Channels)
	if err := resizer(t, m).Uint8(dst, src, s); err != nil {
		t.Fatal(err)
	}
	return dst
}

func run32(t testing.TB, m string, src []float32, s Shape) []float32 {
	t.Helper()
	dst := make([]float32, s.DstH*s.DstW*s.Channels)
	if err := resizer(t, m).Float32(dst, src, s); err != nil {
		t.Fatal(err)
	}
	return dst
}

func run64(t testing.TB, m string, src []float64, s Shape) []float64 {
	t.Helper()
	dst := make([]float64, s.DstH*s.DstW*s.Channels)
	if err := resizer(t, m).Float64(dst, src, s); err != nil {
		t.Fatal(err)
	}
	return dst
}

// parts splits a result's name, kind.HxW.OHxOW.filter, and returns the shape for the number of channels.
func parts(t *testing.T, name string, channels int) (kind, in, filter string, s Shape) {
	t.Helper()
	p := strings.Split(name, ".")
	if len(p) == 3 {
		p = append(p, "")
	}
	if len(p) != 4 {
		t.Fatalf("name %q", name)
	}
	s.SrcH, s.SrcW = side(t, p[1])
	s.DstH, s.DstW = side(t, p[2])
	s.Channels = channels
	return p[0], p[1], p[3], s
}

func TestPillowUint8(t *testing.T) {
	inputs, results := split(t, golden.Tensors(t, filepath.Join(golden.Dir(t, "images", "resize"), "pillow_u8.safetensors")))
	y := tally{}
	for _, e := range results {
		kind, in, filter, s := parts(t, e.Name, e.Shape[2])
		src := input(t, inputs, strings.Replace(kind, "out", "in", 1)+"."+in).Uint8s(t)
		got := run8(t, "pil-"+filter, src, s)
		y.check(t, kind+" "+filter, e.Name, convert[uint8, float64](got), e.Values(t), 0)
	}
	y.report(t)
}

// TestPillow13 documents the other order of the passes: the results of Pillow 13 that differ from the older ones are those of
// the same two passes, columns first.
func TestPillow13(t *testing.T) {
	inputs, results := split(t, golden.Tensors(t, filepath.Join(golden.Dir(t, "images", "resize"), "pillow13_u8.safetensors")))
	y := tally{}
	for _, e := range results {
		_, in, filter, s := parts(t, e.Name, e.Shape[2])
		src := input(t, inputs, "in."+in).Uint8s(t)
		p := resizer(t, "pil-"+filter).kernel.(*pillow)
		c := s.Channels
		middle, dst := make([]uint8, s.DstH*s.SrcW*c), make([]uint8, s.DstH*s.DstW*c)
		intV(middle, src, s.SrcW*c, p.buildInteger(axis{in: s.SrcH, out: s.DstH}))
		intH(dst, middle, s.DstH, s.SrcW, c, p.buildInteger(axis{in: s.SrcW, out: s.DstW}), make([]int64, s.SrcW*c))
		y.check(t, "columns first "+filter, e.Name, convert[uint8, float64](dst), e.Values(t), 0)
		if slices.Equal(dst, run8(t, "pil-"+filter, src, s)) {
			t.Errorf("%s: both orders agree", e.Name)
		}
	}
	y.report(t)
}

func TestPillowFloat32(t *testing.T) {
	inputs, results := split(t, golden.Tensors(t, filepath.Join(golden.Dir(t, "images", "resize"), "pillow_f32.safetensors")))
	y := tally{}
	for _, e := range results {
		_, in, filter, s := parts(t, e.Name, 1)
		got := run32(t, "pil-"+filter, input(t, inputs, "in."+in).Float32s(t), s)
		y.check(t, filter, e.Name, convert[float32, float64](got), e.Values(t), 3e-5)
	}
	y.report(t)
}

func TestTorch(t *testing.T) {
	inputs, results := split(t, golden.Tensors(t, filepath.Join(golden.Dir(t, "images", "resize"), "torch.safetensors")))
	y := tally{}
	for _, e := range results {
		kind, in, filter, s := parts(t, e.Name, e.Shape[1])
		m := "torch-" + strings.NewReplacer("_aa", "-antialias", "_corners", "-corners").Replace(filter)
		src := hwc(input(t, inputs, "in."+in).Float32s(t), s.Channels, s.SrcH, s.SrcW)
		want := hwc(e.Values(t), s.Channels, s.DstH, s.DstW)
		var got []float64
		var tolerance float64
		switch kind {
		case "out":
			got, tolerance = convert[float32, float64](run32(t, m, src, s)), 1e-4
		case "out64":
			got, tolerance = run64(t, m, convert[float32, float64](src), s), 1e-10
		case "out_u8":
			got, tolerance = convert[uint8, float64](run8(t, m, convert[float32, uint8](src), s)), 0
		default:
			t.Fatalf("name %q", e.Name)
		}
		y.check(t, kind+" "+filter, e.Name, got, want, tolerance)
	}
	y.report(t)
}

func TestTF1(t *testing.T) {
	inputs, results := split(t, golden.Tensors(t, filepath.Join(golden.Dir(t, "images", "resize"), "tf1_bilinear.safetensors")))
	y := tally{}
	for _, e := range results {
		_, in, _, s := parts(t, e.Name, 3)
		got := convert[float32, float64](run32(t, "tf1-bilinear", convert[uint8, float32](input(t, inputs, "in."+in).Uint8s(t)), s))
		if rows := e.Shape[0]; rows != s.DstH { // the file keeps every 13th row of the large ones
			row := s.DstW * s.Channels
			var kept []float64
			for y := 0; y < s.DstH; y += 13 {
				kept = append(kept, got[y*row:][:row]...)
			}
			got = kept
		}
		y.check(t, "bilinear", e.Name, got, e.Values(t), 0)
	}
	y.report(t)
}

func TestOpenCV(t *testing.T) {
	inputs, results := split(t, golden.Tensors(t, filepath.Join(golden.Dir(t, "images", "resize"), "opencv_u8.safetensors")))
	y := tally{}
	for _, e := range results {
		_, in, filter, s := parts(t, e.Name, e.Shape[2])
		tolerance := 0.0
		if filter == "cubic" || filter == "lanczos4" {
			tolerance = 1
		}
		got := run8(t, "cv-"+filter, input(t, inputs, "in."+in).Uint8s(t), s)
		y.check(t, filter, e.Name, convert[uint8, float64](got), e.Values(t), tolerance)
	}
	y.report(t)
}

func TestMatlab(t *testing.T) {
	inputs, results := split(t, golden.Tensors(t, filepath.Join(golden.Dir(t, "images", "imresize"), "imresize.safetensors")))
	y := tally{}
	for _, e := range results {
		p := strings.Split(e.Name, ".") // kind.HxW.operation
		m := "matlab-bicubic"
		if strings.HasSuffix(p[0], "_symmetric") {
			m += "-symmetric"
		}
		op, aliased := strings.CutSuffix(p[2], "_noaa")
		if aliased {
			m += "-aliased"
		}
		src := input(t, inputs, "in."+p[1])
		s := Shape{DstH: e.Shape[0], DstW: e.Shape[1], Channels: 1}
		s.SrcH, s.SrcW = side(t, p[1])
		if len(e.Shape) == 3 {
			s.Channels = e.Shape[2]
		}
		scale := 0.0
		if f, ok := strings.CutPrefix(op, "down"); ok {
			n, _ := strconv.ParseFloat(f, 64)
			scale = 1 / n
		} else if f, ok := strings.CutPrefix(op, "up"); ok {
			scale, _ = strconv.ParseFloat(f, 64)
		}
		r := resizer(t, m)
		got, tolerance := make([]float64, len(e.Values(t))), 0.0
		var err error
		if strings.HasPrefix(p[0], "u8") {
			dst := make([]uint8, len(got))
			if scale != 0 {
				err = r.Uint8Scale(dst, src.Uint8s(t), s, scale)
			} else {
				err = r.Uint8(dst, src.Uint8s(t), s)
			}
			got = convert[uint8, float64](dst)
		} else {
			tolerance = 1e-10
			plane := make([]float64, s.SrcH*s.SrcW) // the first channel
			for i := range plane {
				plane[i] = float64(src.Data[i*3])
			}
			err = r.Float64Scale(got, plane, s, scale)
		}
		if err != nil {
			t.Fatal(err)
		}
		y.check(t, p[0]+" "+op+p[2][len(op):], e.Name, got, e.Values(t), tolerance)
	}
	y.report(t)
}
