package preprocess

import (
	"encoding/json"
	"image"
	"image/draw"
	_ "image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/io/resize"
)

// byName returns the entries of a vector file by name.
func byName(t *testing.T, path string) map[string]golden.Tensor {
	t.Helper()
	all := map[string]golden.Tensor{}
	for _, e := range golden.Tensors(t, path) {
		all[e.Name] = e
	}
	return all
}

// loadRGB decodes a PNG file and drops its alpha, as the reference's conversion to RGB does.
func loadRGB(t *testing.T, path string) Picture {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, _, err := image.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	b := img.Bounds()
	n, ok := img.(*image.NRGBA)
	if !ok {
		n = image.NewNRGBA(b)
		draw.Draw(n, b, img, b.Min, draw.Src)
	}
	p := Picture{H: b.Dy(), W: b.Dx(), Channels: 3}
	for i := 0; i < len(n.Pix); i += 4 {
		p.Pix = append(p.Pix, n.Pix[i:i+3]...)
	}
	return p
}

func unequal(t *testing.T, name string, got, want []uint8) int {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d samples, not %d", name, len(got), len(want))
	}
	n, worst := 0, 0
	for i, g := range got {
		if g != want[i] {
			n++
			worst = max(worst, int(g)-int(want[i]), int(want[i])-int(g))
		}
	}
	golden.Line(t, "images/resize "+name, float64(worst), 0)
	if n != 0 {
		t.Errorf("%s: %d of %d samples differ, by up to %d", name, n, len(got), worst)
	}
	return n
}

func newPreprocessor(t testing.TB, c Config) *Preprocessor {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestLSUN compares with the reference data-set class: names are FILE.SIZE.FILTER, with .float for the scaled result.
func TestLSUN(t *testing.T) {
	dir := golden.Dir(t, "images", "resize")
	all := byName(t, filepath.Join(dir, "lsun.safetensors"))
	entries, samples, floats := 0, 0, 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		e := all[name]
		file, rest, _ := strings.Cut(name, ".png.")
		p := strings.Split(rest, ".")
		size := 0
		if p[0] != "crop" {
			var err error
			if size, err = strconv.Atoi(p[0]); err != nil {
				t.Fatal(err)
			}
		}
		src := loadRGB(t, filepath.Join(dir, "lsun", file+".png"))
		pre := newPreprocessor(t, Config{Size: Square(size), Crop: LSUN, Resize: resize.Method("pil-" + p[1])})
		at, err := pre.Place(src.H, src.W, nil)
		if err != nil {
			t.Fatal(err)
		}
		if h, w := pre.OutSize(src.H, src.W); h != e.Shape[0] || w != e.Shape[1] || at.Window.H != h || at.Window.W != w {
			t.Fatalf("%s: size %dx%d, placement %+v", name, h, w, at)
		}
		entries++
		samples += e.Shape[0] * e.Shape[1] * 3
		if len(p) == 3 {
			floats++
			want := e.Float32s(t)
			got := make([]float32, len(want))
			if err := pre.HWC(got, src, at); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: float result differs", name)
			}
			planes := make([]float32, len(want))
			if err := pre.CHW(planes, src, at); err != nil {
				t.Fatal(err)
			}
			n := e.Shape[0] * e.Shape[1]
			for i, v := range planes {
				if v != want[i%n*3+i/n] {
					t.Fatalf("%s: sample %d of the planes is %g, not %g", name, i, v, want[i%n*3+i/n])
				}
			}
			continue
		}
		got := make([]uint8, len(e.Data))
		if err := pre.Uint8(got, src, at); err != nil {
			t.Fatal(err)
		}
		unequal(t, name, got, e.Data)
	}
	if floats == 0 {
		t.Error("no float entry")
	}
	t.Logf("%d entries (%d float), %d samples", entries, floats, samples)
}

// TestImageNetSR compares with the super-resolution data set: crop, area resize, eleven degradations.
func TestImageNetSR(t *testing.T) {
	dir := golden.Dir(t, "images", "resize")
	all := byName(t, filepath.Join(dir, "imagenet_sr.safetensors"))
	raw, err := os.ReadFile(filepath.Join(dir, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Cases []struct {
			Case, H, W, Y0, X0, Size int
			Factor                   float64 `json:"crop_factor"`
			Side                     int     `json:"crop_side"`
			F                        int     `json:"downscale_f"`
			Position                 any
		} `json:"imagenet_sr"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Cases) == 0 {
		t.Fatal("no case")
	}
	used, samples := 0, 0
	for _, c := range doc.Cases {
		prefix := strconv.Itoa(c.Case)
		in := all[prefix+".in"]
		src := Picture{in.Data, c.H, c.W, 3}
		fy, fx := 0.5, 0.5
		if pair, ok := c.Position.([]any); ok {
			fy, fx = pair[0].(float64), pair[1].(float64)
		}
		at, err := SquareCrop(c.H, c.W, c.Factor, fy, fx, c.Size)
		if err != nil {
			t.Fatal(err)
		}
		if want := (Box{c.Y0, c.X0, c.Side, c.Side}); at.Source != want {
			t.Errorf("case %d: box %+v, not %+v", c.Case, at.Source, want)
		}
		hr := make([]uint8, c.Size*c.Size*3)
		if err := newPreprocessor(t, Config{Size: Square(c.Size), Crop: NoCrop, Resize: "cv-area"}).Uint8(hr, src, at); err != nil {
			t.Fatal(err)
		}
		unequal(t, prefix+".hr", hr, all[prefix+".hr"].Data)
		used += 2
		samples += len(hr)
		for name, e := range all {
			d, ok := strings.CutPrefix(name, prefix+".lr.")
			if !ok {
				continue
			}
			m, err := Degradation(d).Method()
			if err != nil {
				t.Fatal(err)
			}
			r, err := resize.New(m)
			if err != nil {
				t.Fatal(err)
			}
			small := c.Size / c.F
			lr := make([]uint8, small*small*3)
			if err := r.Uint8(lr, hr, resize.Shape{SrcH: c.Size, SrcW: c.Size, DstH: small, DstW: small, Channels: 3}); err != nil {
				t.Fatal(err)
			}
			unequal(t, name, lr, e.Data)
			used++
			samples += len(lr)
		}
	}
	if used != len(all) {
		t.Errorf("%d of %d entries compared", used, len(all))
	}
	t.Logf("%d entries, %d samples", used, samples)
}
