package extract

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/eval"
	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn/inception"
	"github.com/ldm-batch/ldm-batch/internal/nn/lpips"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
	"github.com/ldm-batch/ldm-batch/io/preprocess"
)

// computed has the computed weights of the reference vectors.
func computed(t testing.TB) *inception.Model {
	t.Helper()
	var keys []weights.Param
	for _, k := range inception.Keys() {
		keys = append(keys, weights.Param(k))
	}
	f, err := formula.Source{}.File(keys)
	if err != nil {
		t.Fatal(err)
	}
	m, err := inception.Bind(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestGoldenFeatures makes features of pictures under the protocols: picture k under protocol k, the first one under all. They
// are compared with those of the reference network in double precision.
func TestGoldenFeatures(t *testing.T) {
	if kernel.Detect() == kernel.Generic {
		t.Skip("takes minutes without C; the network's own tests compare it")
	}
	dir := golden.Dir(t, "eval", "features")
	want := map[string][]float64{}
	var tools []string
	for _, e := range golden.Tensors(t, filepath.Join(dir, "taps_f64.safetensors")) {
		want[e.Name] = e.Values(t)
		if tool, _, _ := strings.Cut(e.Name, "/"); !slices.Contains(tools, tool) {
			tools = append(tools, tool)
		}
	}
	images := golden.Tensors(t, filepath.Join(dir, "images.safetensors"))
	if len(images) < 4 || len(tools) < 4 {
		t.Fatalf("%d pictures under %d protocols", len(images), len(tools))
	}
	b, err := cpu.Open(cpu.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var taps []string
	for _, tap := range inception.Taps {
		taps = append(taps, string(tap))
	}
	for k, tool := range tools {
		p, err := eval.ParseProtocol(strings.ReplaceAll(strings.TrimSuffix(tool, "_antialias"), "_", "-"))
		if err != nil {
			t.Fatal(err)
		}
		x, err := NewInception(computed(t), p, b, taps)
		if err != nil {
			t.Fatal(err)
		}
		prepare, err := x.NewPreparer()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		var inputs []float32
		for i, e := range images {
			if i != 0 && i%len(tools) != k {
				continue
			}
			in := make([]float32, x.Inputs())
			if err := prepare.Prepare(in, eval.Picture{H: e.Shape[0], W: e.Shape[1], C: e.Shape[2], Pix8: e.Uint8s(t)}); err != nil {
				t.Fatal(err)
			}
			names, inputs = append(names, e.Name), append(inputs, in...)
		}
		y, err := x.Features(inputs, len(names))
		if err != nil {
			t.Fatal(err)
		}
		worst := 0.0
		for j, tap := range x.Taps() {
			for i, name := range names {
				w := want[fmt.Sprintf("%s/%s/%s", tool, name, tap.Name)]
				if len(w) != tap.D {
					t.Fatalf("%s of %s: %d features, reference %d", tap.Name, name, tap.D, len(w))
				}
				e := relative(y[j][i*tap.D:][:tap.D], w)
				worst = max(worst, e)
				if !(e <= 1e-5) {
					t.Errorf("%s, picture %s, tap %s: relative error %g", tool, name, tap.Name, e)
				}
			}
		}
		golden.Line(t, "eval/features/"+tool, worst, 1e-5)
		x.Close()
	}
}

// TestDouble computes the features of the first layers in double precision; the network's own tests compare all layers.
func TestDouble(t *testing.T) {
	dir := golden.Dir(t, "eval", "features")
	want := map[string]golden.Tensor{}
	for _, e := range golden.Tensors(t, filepath.Join(dir, "taps_f64.safetensors")) {
		want[e.Name] = e
	}
	p, err := eval.ParseProtocol("torch-fidelity")
	if err != nil {
		t.Fatal(err)
	}
	b, err := cpu.Open(cpu.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	x, err := NewInception(computed(t), p, b, []string{string(inception.Pool1)})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if err := x.UseDouble(); err != nil {
		t.Fatal(err)
	}
	prepare, err := x.NewPreparer()
	if err != nil {
		t.Fatal(err)
	}
	e := golden.Tensors(t, filepath.Join(dir, "images.safetensors"))[0]
	in := make([]float32, x.Inputs())
	if err := prepare.Prepare(in, eval.Picture{H: e.Shape[0], W: e.Shape[1], C: e.Shape[2], Pix8: e.Uint8s(t)}); err != nil {
		t.Fatal(err)
	}
	y, err := x.Features(in, 1)
	if err != nil {
		t.Fatal(err)
	}
	worst := 0.0
	for i, w := range want["torch_fidelity/"+e.Name+"/64"].Values(t) {
		worst = max(worst, math.Abs(float64(y[0][i])-w)/max(math.Abs(w), 1e-3))
	}
	golden.Line(t, "eval/features in double precision", worst, 1.2e-7)
	if len(y) != 1 || len(y[0]) != 64 || !(worst <= 1.2e-7) { // one rounding to single precision, and that of the input
		t.Errorf("relative error %g", worst)
	}
}

// relative is the length of the difference over that of the wanted vector.
func relative(got []float32, want []float64) float64 {
	var d, n float64
	for i, w := range want {
		d += (float64(got[i]) - w) * (float64(got[i]) - w)
		n += w * w
	}
	return math.Sqrt(d / n)
}

func TestLatents(t *testing.T) {
	c := LatentsConfig{
		Identity: Identity{Name: "vq"}, Preprocess: preprocess.Config{Size: preprocess.Size{H: 128, W: 256}, Crop: preprocess.Center, Resize: "pil-bicubic"},
		C: 3, H: 32, W: 64,
		Encode: func(images []float32, n int) ([]float32, error) {
			z := make([]float32, n*3*32*64)
			for i := range z {
				c, y, x := i/(32*64), i/64%32, i%64
				z[i] = float32(10000*c + 100*y + x)
			}
			return z, nil
		},
	}
	l, err := NewLatents(c)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Taps()[0]; got != (Tap{"latent_mean2", 3 * 16 * 32}) {
		t.Fatalf("tap %+v", got)
	}
	y, err := l.Features(make([]float32, 2*l.Inputs()), 2)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range y[0] { // means of 2 x 2
		c, row, x := i/(16*32), i/32%16, i%32
		if want := float32(10000*c) + 100*(2*float32(row)+0.5) + 2*float32(x) + 0.5; v != want {
			t.Fatalf("feature %d is %v, want %v", i, v, want)
		}
	}
	p, err := l.NewPreparer()
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]float32, l.Inputs())
	if err := p.Prepare(dst, eval.Picture{H: 1, W: 2, C: 1, Pix8: []uint8{255, 255}}); err != nil || dst[0] != 1 || dst[len(dst)-1] != 1 {
		t.Errorf("gray picture: %v, %v", err, dst[0])
	}
	if got := l.Identity().Label("FID"); got != "FD(vq)" {
		t.Errorf("label %s", got)
	}
	c.Preprocess.Flip = true
	if _, err := NewLatents(c); err == nil {
		t.Error("mirroring by chance is accepted")
	}
}

// TestKnown recognises published files by their digest.
func TestKnown(t *testing.T) {
	b, err := cpu.Open(cpu.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for digest, want := range map[string]string{
		"6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2": "pytorch-fid",
		"f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4": "StyleGAN",
		"0000000000000000000000000000000000000000000000000000000000000000": "",
	} {
		m := computed(t)
		m.SHA256 = digest
		x, err := NewInception(m, eval.Protocols[0], b, []string{string(inception.Pool1)})
		if err != nil {
			t.Fatal(err)
		}
		if id := x.Identity(); (id.Known == "") != (want == "") || !strings.Contains(id.Known, want) || id.SHA256 != digest {
			t.Errorf("%s: identity %+v", digest, id)
		}
		x.Close()
	}
	v := NewVGG16(&lpips.Model{Files: []lpips.File{{Path: "v.pth", SHA256: "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"}}}, b)
	defer v.Close()
	if id := v.Identity(); !strings.Contains(id.Known, "torchvision") || id.Path != "v.pth" {
		t.Errorf("identity %+v", id)
	}
}
