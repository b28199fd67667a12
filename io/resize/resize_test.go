package resize

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func noise(n int) []uint8 {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	v := make([]uint8, n)
	for i := range v {
		v[i] = uint8(rng.UintN(256))
	}
	return v
}

// shapes cover growing, shrinking, one axis only, single pixels and odd ratios.
func shapes() []Shape {
	var all []Shape
	for _, c := range []int{1, 2, 3, 4, 5} {
		for _, v := range [][4]int{{7, 5, 7, 5}, {7, 5, 14, 10}, {16, 12, 4, 3}, {16, 12, 16, 5}, {9, 11, 20, 11}, {1, 1, 6, 9}, {13, 8, 1, 1}, {33, 29, 17, 31}, {8, 8, 4, 4}} {
			all = append(all, Shape{v[0], v[1], v[2], v[3], c})
		}
	}
	return all
}

func each(t *testing.T, f func(t *testing.T, r *Resizer)) {
	t.Helper()
	for _, m := range Methods() {
		if m != None {
			t.Run(string(m), func(t *testing.T) { f(t, resizer(t, string(m))) })
		}
	}
}

// resizeAny resizes uint8 samples with the first kernel the method has.
func resizeAny(t testing.TB, r *Resizer, src []uint8, s Shape) []float64 {
	t.Helper()
	n := s.DstH * s.DstW * s.Channels
	if r.Method().Uint8() {
		dst := make([]uint8, n)
		if err := r.Uint8(dst, src, s); err != nil {
			t.Fatal(err)
		}
		return convert[uint8, float64](dst)
	}
	dst := make([]float32, n)
	if err := r.Float32(dst, convert[uint8, float32](src), s); err != nil {
		t.Fatal(err)
	}
	return convert[float32, float64](dst)
}

func TestIdentity(t *testing.T) {
	each(t, func(t *testing.T, r *Resizer) {
		for c := 1; c <= 5; c++ {
			s := Shape{17, 23, 17, 23, c}
			src := noise(17 * 23 * c)
			for i, v := range resizeAny(t, r, src, s) {
				if v != float64(src[i]) {
					t.Fatalf("%d channels: sample %d is %g, not %d", c, i, v, src[i])
				}
			}
		}
	})
}

func TestConstant(t *testing.T) {
	each(t, func(t *testing.T, r *Resizer) {
		for _, s := range shapes() {
			for _, v := range []uint8{0, 1, 127, 255} {
				src := bytes.Repeat([]byte{v}, s.SrcH*s.SrcW*s.Channels)
				if s.Channels == 4 {
					for i := 3; i < len(src); i += 4 {
						src[i] = 255
					}
				}
				tolerance := 0.0
				if !r.Method().Uint8() {
					tolerance = 2e-4 // torch's weights are float32 and not normalised
				} else if r.Method() == "cv-lanczos4" {
					tolerance = 1 // the rounded weights do not sum to one
				}
				for i, got := range resizeAny(t, r, src, s) {
					want := v
					if s.Channels == 4 && i%4 == 3 {
						want = 255
					}
					if math.Abs(got-float64(want)) > tolerance {
						t.Fatalf("%v: constant %d became %g", s, want, got)
					}
				}
			}
		}
	})
}

// TestSeparable checks that resizing the columns and then the rows in two calls equals one call for the methods whose passes
// are independent.
func TestSeparable(t *testing.T) {
	each(t, func(t *testing.T, r *Resizer) {
		switch m := r.Method(); {
		case strings.HasPrefix(string(m), "cv-") && m != "cv-nearest":
			t.Skip("keeps more than 8 bits between the passes")
		case strings.HasPrefix(string(m), "matlab-"):
			t.Skip("order of the passes depends on the scales")
		}
		for _, s := range shapes() {
			if s.Channels == 4 {
				continue // alpha is divided out once per call
			}
			src := noise(s.SrcH * s.SrcW * s.Channels)
			want := resizeAny(t, r, src, s)
			var got []float64
			x, y := Shape{s.SrcH, s.SrcW, s.SrcH, s.DstW, s.Channels}, Shape{s.SrcH, s.DstW, s.DstH, s.DstW, s.Channels}
			if r.Method().Uint8() {
				got = resizeAny(t, r, convert[float64, uint8](resizeAny(t, r, src, x)), y)
			} else {
				middle := resizeAny(t, r, src, x)
				dst := make([]float32, len(want))
				if err := r.Float32(dst, convert[float64, float32](middle), y); err != nil {
					t.Fatal(err)
				}
				got = convert[float32, float64](dst)
			}
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("%v: sample %d: %g in two calls, %g in one", s, i, got[i], want[i])
				}
			}
		}
	})
}

// TestChannels checks that channels do not mix and that the specialised loops equal the general ones.
func TestChannels(t *testing.T) {
	each(t, func(t *testing.T, r *Resizer) {
		for _, s := range shapes() {
			if s.Channels == 4 && strings.HasPrefix(string(r.Method()), "pil-") {
				continue
			}
			src := noise(s.SrcH * s.SrcW * s.Channels)
			all := resizeAny(t, r, src, s)
			for ch := range s.Channels {
				one := s
				one.Channels = 1
				plane := make([]uint8, s.SrcH*s.SrcW)
				for i := range plane {
					plane[i] = src[i*s.Channels+ch]
				}
				for i, v := range resizeAny(t, r, plane, one) {
					tolerance := 0.0
					if (r.Method() == "cv-area" || r.Method() == "cv-linear") && s.Channels != 1 {
						tolerance = 1 // the 2x2 mean rounds halves by the number of channels
					}
					if math.Abs(v-all[i*s.Channels+ch]) > tolerance {
						t.Fatalf("%v channel %d sample %d: %g alone, %g together", s, ch, i, v, all[i*s.Channels+ch])
					}
				}
			}
		}
	})
}

// TestReuse checks that a used Resizer, with its tables and scratch of other shapes, gives what a new one gives.
func TestReuse(t *testing.T) {
	each(t, func(t *testing.T, r *Resizer) {
		for range 2 {
			for h := 5; h < 5+cacheSize+3; h += 3 {
				s := Shape{h, 9, 11, 7, 3}
				src := noise(h * 9 * 3)
				got, want := resizeAny(t, r, src, s), resizeAny(t, resizer(t, string(r.Method())), src, s)
				for i := range want {
					if got[i] != want[i] {
						t.Fatalf("%v: sample %d: %g reused, %g new", s, i, got[i], want[i])
					}
				}
			}
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	var c cache[int]
	for i := range 3 * cacheSize {
		if got := c.get(axis{in: i}, func(a axis) int { return a.in }); got != i {
			t.Fatalf("table %d is %d", i, got)
		}
		if len(c) > cacheSize {
			t.Fatalf("%d tables", len(c))
		}
	}
}

func TestNoAllocation(t *testing.T) {
	each(t, func(t *testing.T, r *Resizer) {
		s := Shape{40, 30, 24, 36, 3}
		src, dst := noise(40*30*3), make([]uint8, 24*36*3)
		fsrc, fdst := convert[uint8, float32](src), make([]float32, len(dst))
		n := testing.AllocsPerRun(5, func() {
			var err error
			if r.Method().Uint8() {
				err = r.Uint8(dst, src, s)
			} else {
				err = r.Float32(fdst, fsrc, s)
			}
			if err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%g allocations per call", n)
		}
	})
}

func TestNames(t *testing.T) {
	for _, m := range Methods() {
		if got, err := ParseMethod(string(m)); err != nil || got != m {
			t.Errorf("%s: %v, %v", m, got, err)
		}
	}
	if _, err := ParseMethod("bicubic"); err == nil || !strings.Contains(err.Error(), "pil-bicubic") || !strings.Contains(err.Error(), `"bicubic"`) {
		t.Errorf("unknown name: %v", err)
	}
	for _, m := range []Method{None, "", "bicubic"} {
		if _, err := New(m); err == nil {
			t.Errorf("a resizer for %q", m)
		}
	}
}

func TestErrors(t *testing.T) {
	r := resizer(t, "pil-bicubic")
	ok := Shape{4, 4, 2, 2, 3}
	for name, c := range map[string]struct {
		dst, src int
		s        Shape
	}{
		"source short":      {12, 47, ok},
		"destination long":  {13, 48, ok},
		"zero side":         {0, 48, Shape{4, 4, 0, 2, 3}},
		"negative side":     {12, 48, Shape{-4, -4, 2, 2, 3}},
		"no channel":        {0, 0, Shape{4, 4, 2, 2, 0}},
		"side out of range": {12, 48, Shape{1 << 40, 4, 2, 2, 3}},
	} {
		if err := r.Uint8(make([]uint8, c.dst), make([]uint8, c.src), c.s); err == nil || !strings.HasPrefix(err.Error(), "resize pil-bicubic: ") {
			t.Errorf("%s: %v", name, err)
		}
		if err := r.Float32(make([]float32, c.dst), make([]float32, c.src), c.s); err == nil {
			t.Errorf("%s: no error for float32", name)
		}
		if err := resizer(t, "torch-bilinear").Float64(make([]float64, c.dst), make([]float64, c.src), c.s); err == nil {
			t.Errorf("%s: no error for float64", name)
		}
	}
	if err := resizer(t, "tf1-bilinear").Uint8(make([]uint8, 12), make([]uint8, 48), ok); !errors.Is(err, ErrSampleType) {
		t.Errorf("tf1 uint8: %v", err)
	}
	if err := resizer(t, "torch-bilinear").Uint8(make([]uint8, 12), make([]uint8, 48), ok); !errors.Is(err, ErrSampleType) {
		t.Errorf("torch uint8: %v", err)
	}
	if err := resizer(t, "cv-area").Float32(make([]float32, 12), make([]float32, 48), ok); !errors.Is(err, ErrSampleType) {
		t.Errorf("cv float32: %v", err)
	}
	if err := r.Float64(make([]float64, 12), make([]float64, 48), ok); !errors.Is(err, ErrSampleType) {
		t.Errorf("pillow float64: %v", err)
	}
	m := resizer(t, "matlab-bicubic")
	if err := m.Uint8Scale(make([]uint8, 12), make([]uint8, 48), ok, 0.3); err != nil {
		t.Errorf("ceil(4*0.3) is 2: %v", err)
	}
	for _, scale := range []float64{0, -1, math.NaN(), 0.75} {
		if err := m.Uint8Scale(make([]uint8, 12), make([]uint8, 48), ok, scale); err == nil {
			t.Errorf("no error for scale %g", scale)
		}
	}
	if err := r.Uint8Scale(make([]uint8, 12), make([]uint8, 48), ok, 0.5); err == nil {
		t.Error("a scale for pillow")
	}
}

func BenchmarkUint8(b *testing.B) {
	for _, m := range []string{"pil-nearest", "pil-bilinear", "pil-bicubic", "pil-lanczos", "torch-bicubic-antialias", "cv-linear", "cv-cubic", "cv-area", "cv-lanczos4", "matlab-bicubic"} {
		for _, s := range []Shape{{512, 512, 256, 256, 3}, {300, 300, 256, 256, 3}, {128, 128, 256, 256, 3}} {
			b.Run(m+"/"+strings.ReplaceAll(s.String(), " ", "_"), func(b *testing.B) {
				r, src, dst := resizer(b, m), noise(s.SrcH*s.SrcW*s.Channels), make([]uint8, s.DstH*s.DstW*s.Channels)
				b.ReportAllocs()
				for b.Loop() {
					if err := r.Uint8(dst, src, s); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkFloat32(b *testing.B) {
	for _, m := range []string{"pil-bicubic", "tf1-bilinear", "torch-bilinear"} {
		s := Shape{256, 256, 299, 299, 3}
		b.Run(m, func(b *testing.B) {
			r, src, dst := resizer(b, m), convert[uint8, float32](noise(s.SrcH*s.SrcW*s.Channels)), make([]float32, s.DstH*s.DstW*s.Channels)
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Float32(dst, src, s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
