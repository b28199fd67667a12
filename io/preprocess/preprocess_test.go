package preprocess

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/io/resize"
	"go.yaml.in/yaml/v3"
)

func noise(h, w, c int) Picture {
	rng := rand.New(rand.NewPCG(uint64(h), uint64(w)))
	p := Picture{make([]uint8, h*w*c), h, w, c}
	for i := range p.Pix {
		p.Pix[i] = uint8(rng.UintN(256))
	}
	return p
}

// stream returns a random source with the given numbers, then fails.
func stream(t *testing.T, numbers ...uint64) func() uint64 {
	return func() uint64 {
		if len(numbers) == 0 {
			t.Fatal("too many random numbers drawn")
		}
		n := numbers[0]
		numbers = numbers[1:]
		return n
	}
}

func TestPlace(t *testing.T) {
	const top, one = math.MaxUint64, 1 << 63
	cases := map[string]struct {
		c      Config
		h, w   int
		random []uint64
		want   Placement
	}{
		"center landscape": {Config{Square(64), Center, "cv-linear", false}, 100, 151, nil,
			Placement{Box{0, 0, 100, 151}, 64, 97, Box{0, 16, 64, 64}, false}},
		"half to even": {Config{Square(1), Center, "cv-linear", false}, 2, 5, nil,
			Placement{Box{0, 0, 2, 5}, 1, 2, Box{0, 0, 1, 1}, false}},
		"center up": {Config{Square(64), Center, "pil-bicubic", false}, 48, 32, nil,
			Placement{Box{0, 0, 48, 32}, 96, 64, Box{16, 0, 64, 64}, false}},
		"center to a rectangle": {Config{Size{32, 64}, Center, "pil-bicubic", false}, 100, 100, nil,
			Placement{Box{0, 0, 100, 100}, 64, 64, Box{16, 0, 32, 64}, false}},
		"random first": {Config{Square(64), Random, "cv-linear", false}, 64, 100, []uint64{0, 0},
			Placement{Box{0, 0, 64, 100}, 64, 100, Box{0, 0, 64, 64}, false}},
		"random last, flipped": {Config{Square(64), Random, "cv-linear", true}, 64, 100, []uint64{top, top, one},
			Placement{Box{0, 0, 64, 100}, 64, 100, Box{0, 36, 64, 64}, true}},
		"lsun odd": {Config{Square(32), LSUN, "pil-bicubic", true}, 50, 81, []uint64{one - 1},
			Placement{Box{0, 15, 50, 50}, 32, 32, Box{0, 0, 32, 32}, false}},
		"stretch": {Config{Size{10, 20}, NoCrop, "pil-box", false}, 7, 9, nil,
			Placement{Box{0, 0, 7, 9}, 10, 20, Box{0, 0, 10, 20}, false}},
		"keep": {Config{Size{}, NoCrop, "none", false}, 7, 9, nil,
			Placement{Box{0, 0, 7, 9}, 7, 9, Box{0, 0, 7, 9}, false}},
		"cut without resize": {Config{Square(4), Center, "none", false}, 7, 9, nil,
			Placement{Box{0, 0, 7, 9}, 7, 9, Box{1, 2, 4, 4}, false}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := newPreprocessor(t, c.c)
			got, err := p.Place(c.h, c.w, stream(t, c.random...))
			if err != nil || got != c.want {
				t.Errorf("%+v, %v; want %+v", got, err, c.want)
			}
			if h, w := p.OutSize(c.h, c.w); h != got.Window.H || w != got.Window.W {
				t.Errorf("OutSize %dx%d", h, w)
			}
		})
	}
}

func TestPlaceErrors(t *testing.T) {
	cases := map[string]struct {
		c    Config
		h, w int
		says string
	}{
		"empty":          {Default(), 0, 5, "0x5"},
		"too small":      {Config{Square(8), Center, "none", false}, 7, 9, "7x9"},
		"not that size":  {Config{Square(8), NoCrop, "none", false}, 9, 9, "9x9"},
		"lsun, no size":  {Config{Square(8), LSUN, "none", false}, 9, 12, "9x12"},
		"huge after all": {Config{Square(512), Center, "pil-box", false}, 1, 100000, "1x100000"},
		"no random":      {Config{Square(8), Random, "pil-box", false}, 9, 9, "random source"},
		"no random flip": {Config{Square(8), Center, "pil-box", true}, 9, 9, "random source"},
	}
	for name, c := range cases {
		if _, err := newPreprocessor(t, c.c).Place(c.h, c.w, nil); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRandomCropIsUniform checks that every offset occurs, and none beyond.
func TestRandomCropIsUniform(t *testing.T) {
	p := newPreprocessor(t, Config{Square(8), Random, "none", false})
	rng := rand.New(rand.NewPCG(3, 4))
	var ys, xs [6]int
	for range 6000 {
		at, err := p.Place(11, 13, rng.Uint64)
		if err != nil {
			t.Fatal(err)
		}
		ys[at.Window.Y]++
		xs[at.Window.X]++
	}
	for i := range 4 {
		if ys[i] < 1300 || ys[i] > 1700 {
			t.Errorf("row %d: %d of 6000", i, ys[i])
		}
	}
	for i := range 6 {
		if xs[i] < 850 || xs[i] > 1150 {
			t.Errorf("column %d: %d of 6000", i, xs[i])
		}
	}
}

// TestPixels compares all outputs with a pixel-by-pixel reading of the resized picture.
func TestPixels(t *testing.T) {
	for _, m := range []resize.Method{"pil-bicubic", "cv-linear", "torch-bilinear", "tf1-bilinear", resize.None} {
		for _, c := range []int{1, 3} {
			for _, flip := range []bool{false, true} {
				src := noise(19, 31, c)
				p := newPreprocessor(t, Config{Square(16), Center, m, flip})
				at, err := p.Place(src.H, src.W, stream(t, 1<<63))
				if err != nil {
					t.Fatal(err)
				}
				s := resize.Shape{SrcH: 19, SrcW: 31, DstH: at.ResizedH, DstW: at.ResizedW, Channels: c}
				want := make([]float32, s.DstH*s.DstW*c)
				switch {
				case m == resize.None:
					for i, v := range src.Pix {
						want[i] = float32(v)
					}
				case m.Uint8():
					r, _ := resize.New(m)
					b := make([]uint8, len(want))
					if err := r.Uint8(b, src.Pix, s); err != nil {
						t.Fatal(err)
					}
					for i, v := range b {
						want[i] = float32(v)
					}
				default:
					r, _ := resize.New(m)
					f := make([]float32, len(src.Pix))
					for i, v := range src.Pix {
						f[i] = float32(v)
					}
					if err := r.Float32(want, f, s); err != nil {
						t.Fatal(err)
					}
				}
				chw, hwc, bytes := make([]float32, 256*c), make([]float32, 256*c), make([]uint8, 256*c)
				if err := errors.Join(p.CHW(chw, src, at), p.HWC(hwc, src, at)); err != nil {
					t.Fatal(err)
				}
				err = p.Uint8(bytes, src, at)
				if float := m != resize.None && !m.Uint8(); float != errors.Is(err, resize.ErrSampleType) || !float && err != nil {
					t.Fatalf("%s: uint8: %v", m, err)
				}
				for y := range 16 {
					for x := range 16 {
						for ch := range c {
							sx := x
							if flip {
								sx = 15 - x
							}
							v := want[((at.Window.Y+y)*s.DstW+at.Window.X+sx)*c+ch]
							scaled := float32(float64(v)/127.5 - 1)
							i := (y*16+x)*c + ch
							if got := chw[ch*256+y*16+x]; math.Abs(float64(got-scaled)) > 1e-7 || got != hwc[i] {
								t.Fatalf("%s flip %v: (%d,%d,%d) is %g, %g, not %g", m, flip, y, x, ch, got, hwc[i], scaled)
							}
							if err == nil && float32(bytes[i]) != v {
								t.Fatalf("%s flip %v: (%d,%d,%d) is %d, not %g", m, flip, y, x, ch, bytes[i], v)
							}
						}
					}
				}
			}
		}
	}
}

func TestPixelErrors(t *testing.T) {
	p := newPreprocessor(t, Config{Square(4), Center, "pil-box", false})
	src := noise(8, 8, 3)
	at, err := p.Place(8, 8, nil)
	if err != nil {
		t.Fatal(err)
	}
	short, outside, wide := src, at, at
	short.Pix = short.Pix[1:]
	outside.Source.Y = 1
	wide.Window.W = 5
	if p.CHW(make([]float32, 48), short, at) == nil || p.CHW(make([]float32, 48), src, outside) == nil ||
		p.CHW(make([]float32, 60), src, wide) == nil || p.HWC(make([]float32, 47), src, at) == nil || p.Uint8(make([]uint8, 49), src, at) == nil {
		t.Error("a shape that does not fit was accepted")
	}
}

func TestNoAllocation(t *testing.T) {
	for _, m := range []resize.Method{"pil-bicubic", "torch-bicubic", "none"} {
		p := newPreprocessor(t, Config{Square(32), Random, m, true})
		src, dst := noise(40, 56, 3), make([]float32, 32*32*3)
		rng := rand.New(rand.NewPCG(5, 6))
		if n := testing.AllocsPerRun(5, func() {
			at, err := p.Place(src.H, src.W, rng.Uint64)
			if err == nil {
				err = p.CHW(dst, src, at)
			}
			if err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %g allocations per picture", m, n)
		}
	}
}

func TestValidate(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		c    Config
		says []string
	}{
		"names":      {Config{Square(8), "middle", "bicubic", false}, []string{`"middle"`, "center, random, lsun, none", `"bicubic"`, "pil-bicubic"}},
		"one side":   {Config{Size{8, 0}, NoCrop, "none", false}, []string{"[8, 0]"}},
		"negative":   {Config{Square(-1), NoCrop, "none", false}, []string{"-1"}},
		"large":      {Config{Square(1 << 20), NoCrop, "none", false}, []string{"65536"}},
		"no size":    {Config{Size{}, Center, "none", false}, []string{"center needs a size"}},
		"lsun shape": {Config{Size{8, 9}, LSUN, "pil-box", false}, []string{"squares"}},
	} {
		err := c.c.Validate()
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %q does not say %q", name, err, s)
			}
		}
		if _, err := New(c.c); err == nil {
			t.Errorf("%s: New accepts it", name)
		}
	}
}

func TestYAML(t *testing.T) {
	for text, want := range map[string]Config{
		"{size: 256, crop: center, resize: pil-bicubic, flip: false}": Default(),
		"{size: [32, 64], crop: none, resize: cv-area, flip: true}":   {Size{32, 64}, NoCrop, "cv-area", true},
		"{size: 0, crop: none, resize: none}":                         {Size{}, NoCrop, resize.None, false},
	} {
		var got Config
		if err := yaml.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		out, err := yaml.Marshal(got)
		var again Config
		if err != nil || yaml.Unmarshal(out, &again) != nil || again != want {
			t.Errorf("%s became %s, %v", text, out, err)
		}
	}
	for _, text := range []string{"size: [1, 2, 3]", "size: big", "size: {h: 1}", "size: [1]"} {
		var c Config
		if err := yaml.Unmarshal([]byte(text), &c); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

func TestToUint8(t *testing.T) {
	in := []float32{-1, -2, 1, 1.5, 0, 0.9999999, float32(math.Inf(1)), float32(math.Inf(-1)), -1 + 2*0.6/255, -1 + 2*1.4/255}
	for rounding, want := range map[Rounding][]uint8{
		Truncate: {0, 0, 255, 255, 127, 254, 255, 0, 0, 1},
		Round:    {0, 0, 255, 255, 128, 255, 255, 0, 1, 1},
	} {
		got := make([]uint8, len(in))
		if err := ToUint8(got, in, 1, 2, 5, rounding); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", rounding, got, err, want)
		}
	}
	got := make([]uint8, 12)
	if err := ToUint8(got, []float32{-1, -1, -1, -1, 1, 1, 1, 1, 0, 0, 0, 0}, 3, 2, 2, Truncate); err != nil || !slices.Equal(got, []uint8{0, 255, 127, 0, 255, 127, 0, 255, 127, 0, 255, 127}) {
		t.Errorf("planes: %v, %v", got, err)
	}
	nan := make([]float32, 12)
	nan[4+3] = float32(math.NaN())
	if err := ToUint8(got, nan, 3, 2, 2, Round); err == nil || !strings.Contains(err.Error(), "channel 1, row 1, column 1") {
		t.Errorf("NaN: %v", err)
	}
	if ToUint8(got, nan, 3, 2, 3, Round) == nil || ToUint8(got, nan, 3, 2, 2, "floor") == nil {
		t.Error("bad arguments accepted")
	}
}

// TestRoundTrip checks that every byte survives the way to [-1, 1] and back with rounding, and how many survive truncation.
func TestRoundTrip(t *testing.T) {
	src := Picture{make([]uint8, 256), 16, 16, 1}
	for i := range src.Pix {
		src.Pix[i] = uint8(i)
	}
	p := newPreprocessor(t, Config{Size{}, NoCrop, resize.None, false})
	at, err := p.Place(16, 16, nil)
	if err != nil {
		t.Fatal(err)
	}
	planes, back := make([]float32, 256), make([]uint8, 256)
	if err := p.CHW(planes, src, at); err != nil {
		t.Fatal(err)
	}
	if err := ToUint8(back, planes, 1, 16, 16, Round); err != nil || !slices.Equal(back, src.Pix) {
		t.Errorf("round: %v, %v", back, err)
	}
	if err := ToUint8(back, planes, 1, 16, 16, Truncate); err != nil {
		t.Fatal(err)
	}
	for i, v := range back {
		if int(v) != i && int(v) != i-1 {
			t.Errorf("truncate: %d became %d", i, v)
		}
	}
}

func TestDegradations(t *testing.T) {
	for _, d := range Degradations() {
		m, err := d.Method()
		if err != nil || !m.Uint8() {
			t.Errorf("%s: %s, %v", d, m, err)
		}
	}
	if _, err := Degradation("bicubic").Method(); err == nil || !strings.Contains(err.Error(), "pil_bicubic") {
		t.Errorf("unknown: %v", err)
	}
	for _, f := range [][3]float64{{1.5, 0, 0}, {0, 0, 0}, {1, -1, 0}, {0.5, 3, 0}} {
		if at, err := SquareCrop(40, 30, f[0], f[1], f[2], 8); err == nil {
			t.Errorf("%v: %+v", f, at)
		}
	}
}

func BenchmarkCHW(b *testing.B) {
	for _, m := range []resize.Method{"pil-bicubic", "cv-linear", "none"} {
		b.Run(string(m), func(b *testing.B) {
			p := newPreprocessor(b, Config{Square(256), Center, m, false})
			src, dst := noise(300, 400, 3), make([]float32, 256*256*3)
			b.ReportAllocs()
			for b.Loop() {
				at, err := p.Place(src.H, src.W, nil)
				if err == nil {
					err = p.CHW(dst, src, at)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestToUint16(t *testing.T) {
	in := []float32{-1, -2, 1, 1.5, 0, -1 + 2*0.6/65535., -1 + 2*257.6/65535.}
	for rounding, want := range map[Rounding][]uint16{
		Truncate: {0, 0, 65535, 65535, 32767, 0, 257},
		Round:    {0, 0, 65535, 65535, 32768, 1, 258},
	} {
		got := make([]uint16, len(in))
		if err := ToUint16(got, in, 1, 1, 7, rounding); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", rounding, got, err, want)
		}
	}
	// Every level survives the way through float32.
	levels, back := make([]float32, 3*256*256), make([]uint16, 3*256*256)
	for i := range levels {
		levels[i] = float32(float64(i%65536)/65535*2 - 1)
	}
	if err := ToUint16(back, levels, 3, 256, 256, Round); err != nil {
		t.Fatal(err)
	}
	for i, v := range back {
		if v != uint16(i/3) {
			t.Fatalf("sample %d is %d", i, v)
		}
	}
}

func TestLuma(t *testing.T) {
	nan := float32(math.NaN())
	src := []float32{-1, 0.3, 1, 3, -1, nan, 1, 0.3, -1, 3, 1, 0, -1, 0.3, -1, 3, -9, 0}
	want := []float32{0.174, 0.3, -0.402, 1, 0.174, nan}
	got := src[:6]
	if err := Luma(got, src); err != nil {
		t.Fatal(err)
	}
	for i, v := range want {
		if d := math.Abs(float64(got[i] - v)); d > 1e-6 || (got[i] != got[i]) != (v != v) {
			t.Errorf("pixel %d is %v, want %v", i, got[i], v)
		}
	}
	if Luma(make([]float32, 2), make([]float32, 5)) == nil {
		t.Error("two planes and a half accepted")
	}
}

func BenchmarkToUint8(b *testing.B) {
	src, dst := make([]float32, 3*256*256), make([]uint8, 3*256*256)
	for b.Loop() {
		if err := ToUint8(dst, src, 3, 256, 256, Truncate); err != nil {
			b.Fatal(err)
		}
	}
}
