package eval

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
)

// number is a JSON number or one of the strings for what JSON has no number for.
type number float64

func (n *number) UnmarshalJSON(b []byte) error {
	if string(b) == `"inf"` {
		*n = number(math.Inf(1))
		return nil
	}
	return json.Unmarshal(b, (*float64)(n))
}

func pairs(t testing.TB) map[string]golden.Tensor {
	m := map[string]golden.Tensor{}
	for _, e := range golden.Tensors(t, filepath.Join(golden.Dir(t, "eval", "image_metrics"), "pairs.safetensors")) {
		m[e.Name] = e
	}
	return m
}

func picture8(t testing.TB, e golden.Tensor) Picture {
	return Picture{H: e.Shape[0], W: e.Shape[1], C: e.Shape[2], Pix8: e.Uint8s(t)}
}

// wide is the same picture with 16 bits.
func (p Picture) wide() Picture {
	for _, v := range p.Pix8 {
		p.Pix16 = append(p.Pix16, uint16(v)*257)
	}
	p.Pix8 = nil
	return p
}

func TestImageMetrics(t *testing.T) {
	file, err := os.ReadFile(filepath.Join(golden.Dir(t, "eval", "image_metrics"), "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Cases map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(file, &want); err != nil {
		t.Fatal(err)
	}
	if len(want.Cases) == 0 {
		t.Fatal("no case")
	}
	ps := pairs(t)
	worst := map[string]float64{}
	for name, c := range want.Cases {
		a, b := picture8(t, ps[name+".a"]), picture8(t, ps[name+".b"])
		check := func(what string, got float64, err error, want number) {
			t.Helper()
			e := math.Abs(got - float64(want))
			if got == float64(want) {
				e = 0
			}
			worst[what] = max(worst[what], e)
			if err != nil || !(e <= 1e-10) {
				t.Errorf("%s: %s: %.14g, %v, want %.14g", name, what, got, err, want)
			}
		}
		one := func(raw json.RawMessage) (n number) {
			if err := json.Unmarshal(raw, &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		seen := 0
		for key, raw := range c {
			seen++
			switch key {
			case "psnr_rgb":
				v, err := PSNR(a, b, Options{})
				check(key, v, err, one(raw))
				v, err = PSNR(a.wide(), b.wide(), Options{})
				check(key+" 16 bit", v, err, one(raw))
			case "psnr_per_channel":
				var w []number
				if err := json.Unmarshal(raw, &w); err != nil {
					t.Fatal(err)
				}
				v, err := ChannelPSNR(a, b, Options{})
				for i := range w {
					check(key, v[i], err, w[i])
				}
			case "mse_rgb":
				v, err := MSE(a, b, Options{})
				check(key, v, err, one(raw))
			case "ssim_uniform7_sample_cov_rgb":
				v, err := SSIM(a, b, Options{Window: Uniform})
				check(key, v, err, one(raw))
			case "ssim_uniform7_sample_cov_gray":
				v, err := SSIM(a.channel(1), b.channel(1), Options{Window: Uniform}) // of the green channel
				check(key, v, err, one(raw))
			case "ssim_gauss11_rgb":
				v, err := SSIM(a, b, Options{})
				check(key, v, err, one(raw))
				v, err = SSIM(a.wide(), b.wide(), Options{})
				check(key+" 16 bit", v, err, one(raw))
			case "ssim_uniform7_01_rgb":
				v, err := SSIM(a.wide(), b.wide(), Options{Window: Uniform})
				check(key, v, err, one(raw))
			case "ssim_gauss11_green":
				v, err := SSIM(a.channel(1), b.channel(1), Options{})
				check(key, v, err, one(raw))
			case "ssim_gauss11_sample_cov_rgb":
				v, err := SSIM(a, b, Options{Window: GaussSample})
				check(key, v, err, one(raw))
			case "torchmetrics_ssim_float64":
				v, err := SSIM(a, b, Options{Window: GaussReflect})
				check(key, v, err, one(raw))
			case "torchmetrics_ms_ssim_float64":
				v, err := MSSSIM(a, b, Options{Window: GaussReflect})
				check(key, v, err, one(raw))
			case "y":
				var crops map[string]map[string]number
				if err := json.Unmarshal(raw, &crops); err != nil {
					t.Fatal(err)
				}
				for crop, w := range crops {
					border := int(strings.TrimPrefix(crop, "crop")[0] - '0')
					for key, w := range w {
						o := Options{Border: border}
						switch {
						case strings.HasSuffix(key, "_y_double"):
							o.Plane = Luma
						case strings.HasSuffix(key, "_y_rounded"):
							o.Plane = LumaRounded
						}
						f := PSNR
						if strings.HasPrefix(key, "ssim") {
							f = SSIM
						}
						v, err := f(a, b, o)
						check(key, v, err, w)
						v, err = f(a.wide(), b.wide(), o)
						check(key+" 16 bit", v, err, w)
					}
				}
			default:
				seen-- // measured in float32, or by another name
			}
		}
		if seen < 6 {
			t.Errorf("%s: only %d scores compared", name, seen)
		}
	}
	for key, e := range worst {
		golden.Line(t, "eval/image_metrics/"+key, e, 1e-10)
	}
}

func (p Picture) channel(c int) Picture {
	q := Picture{H: p.H, W: p.W, C: 1}
	for i := c; i < len(p.Pix8); i += p.C {
		q.Pix8 = append(q.Pix8, p.Pix8[i])
	}
	return q
}

func TestLuma(t *testing.T) {
	ps := pairs(t)
	p := picture8(t, ps["ycbcr.rgb"])
	r, _ := p.raster(Options{Plane: Luma})
	rounded, _ := p.raster(Options{Plane: LumaRounded})
	want := ps["ycbcr.y_double"].Values(t)
	codes := ps["ycbcr.matlab_u8"].Values(t)
	worst := 0.0
	for i, v := range r.planes[0] {
		worst = max(worst, math.Abs(v-want[i]))
		if rounded.planes[0][i] != codes[3*i] {
			t.Errorf("pixel %d: rounded luma %v, want %v", i, rounded.planes[0][i], codes[3*i])
		}
	}
	golden.Line(t, "eval/image_metrics/ycbcr", worst, 1e-12)
	if worst > 1e-12 {
		t.Errorf("luma is off by %g", worst)
	}
}

func TestPictureErrors(t *testing.T) {
	p := func(h, w, c int) Picture { return Picture{H: h, W: w, C: c, Pix8: make([]uint8, h*w*c)} }
	for _, c := range []struct {
		name string
		a, b Picture
		o    Options
	}{
		{"other size", p(12, 12, 3), p(12, 13, 3), Options{}},
		{"other bits", p(12, 12, 3), p(12, 12, 3).wide(), Options{}},
		{"too few samples", Picture{H: 12, W: 12, C: 3, Pix8: make([]uint8, 5)}, p(12, 12, 3), Options{}},
		{"nothing left", p(12, 12, 3), p(12, 12, 3), Options{Border: 6}},
		{"negative border", p(12, 12, 3), p(12, 12, 3), Options{Border: -1}},
		{"plane", p(12, 12, 3), p(12, 12, 3), Options{Plane: "hue"}},
		{"window", p(12, 12, 3), p(12, 12, 3), Options{Window: "box"}},
		{"too small", p(10, 12, 3), p(10, 12, 3), Options{}},
		{"too small for scales", p(160, 170, 3), p(160, 170, 3), Options{}},
	} {
		_, err := MSSSIM(c.a, c.b, c.o)
		if err == nil {
			t.Errorf("%s: no error", c.name)
		}
	}
	// Alpha does not count.
	a, b := p(12, 12, 4), p(12, 12, 4)
	for i := 3; i < len(b.Pix8); i += 4 {
		b.Pix8[i] = 200
	}
	if v, err := PSNR(a, b, Options{}); err != nil || !math.IsInf(v, 1) {
		t.Errorf("pictures that differ in alpha: %v, %v", v, err)
	}
}

func BenchmarkSSIM(b *testing.B) {
	const n = 256
	p, q := Picture{H: n, W: n, C: 3, Pix8: make([]uint8, n*n*3)}, Picture{H: n, W: n, C: 3, Pix8: make([]uint8, n*n*3)}
	for i := range p.Pix8 {
		p.Pix8[i], q.Pix8[i] = uint8(i*7), uint8(i*11)
	}
	for b.Loop() {
		if _, err := SSIM(p, q, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
