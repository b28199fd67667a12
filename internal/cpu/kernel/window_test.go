package kernel

import (
	"math"
	"testing"
)

func TestWindows(t *testing.T) {
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, s := range []WindowShape{
			{2, 9, 12, 35, 4, 5, 3, 2, 0, 0},
			{3, 8, 8, 64, 8, 8, 3, 1, 1, 0},
			{1, 1, 1, 3, 1, 1, 3, 1, 1, 0},
			{2, 5, 4, 17, 5, 4, 1, 1, 0, 0},
			{1, 40, 41, 48, 20, 20, 2, 2, 0, 0},
			{1, 7, 6, 5, 4, 4, 4, 2, 2, 0},
		} {
			x := random(t, 1, s.N*s.H*s.W*s.C, 1)
			largest, means := make([]float64, s.N*s.OutH*s.OutW*s.C), make([]float64, s.N*s.OutH*s.OutW*s.C)
			for i := range largest {
				c, o := i%s.C, i/s.C
				n, oy, ox := o/s.OutW/s.OutH, o/s.OutW%s.OutH, o%s.OutW
				best, sum, count := math.Inf(-1), 0.0, 0.0
				for y := oy*s.Stride - s.Pad; y < oy*s.Stride-s.Pad+s.Kernel; y++ {
					for u := ox*s.Stride - s.Pad; u < ox*s.Stride-s.Pad+s.Kernel; u++ {
						if y >= 0 && y < s.H && u >= 0 && u < s.W {
							v := float64(x[((n*s.H+y)*s.W+u)*s.C+c])
							best, sum, count = max(best, v), sum+v, count+1
						}
					}
				}
				largest[i], means[i] = best, sum/count
			}
			near(t, same(t, ps, len(largest), func(p *Pool, y []float32) { p.MaxPool(s, x, y) }, x), largest, 0)
			y := same(t, ps, len(means), func(p *Pool, y []float32) { p.AvgPool(s, false, x, y) }, x)
			near(t, y, means, 3e-7)
			one, in, out := s, s.H*s.W*s.C, s.OutH*s.OutW*s.C
			one.N = 1
			single, check := guarded(t, out)
			ps[1].AvgPool(one, false, x[(s.N-1)*in:], single)
			check()
			identical(t, "sample alone", single, y[(s.N-1)*out:])
			s.LdY = s.C + 3
			apart := func(average, relu bool) []float32 {
				wide := same(t, ps, (s.N*s.OutH*s.OutW-1)*s.LdY+s.C, func(p *Pool, y []float32) {
					if average {
						p.AvgPool(s, relu, x, y)
					} else {
						p.MaxPool(s, x, y)
					}
				}, x)
				return columns(t, wide, s.C, s.LdY)
			}
			near(t, apart(false, false), largest, 0)
			identical(t, "pixels apart", apart(true, false), y)
			for i, v := range y {
				y[i] = max(v, 0)
			}
			identical(t, "positive means", apart(true, true), y)
		}
		nan := float32(math.NaN())
		for _, x := range [][]float32{{nan, 1, 2, 3}, {1, nan, 2, 3}, {1, 2, 3, nan}} {
			y := make([]float32, 1)
			if ps[0].MaxPool(WindowShape{1, 2, 2, 1, 1, 1, 2, 2, 0, 0}, x, y); y[0] == y[0] {
				t.Errorf("the largest of %v is %v", x, y[0])
			}
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Error("windows outside the image are taken")
				}
			}()
			ps[0].MaxPool(WindowShape{1, 2, 2, 1, 3, 1, 2, 2, 1, 0}, make([]float32, 4), make([]float32, 3))
		}()
	})
}

// TestPixelMean has many pixels of one sign, where plain float32 sums lose digits.
func TestPixelMean(t *testing.T) {
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, d := range [][3]int{{2, 5329, 64}, {1, 1, 1}, {3, 289, 37}, {2, 64, 2048}} {
			n, hw, c := d[0], d[1], d[2]
			x, want := random(t, 1, n*hw*c, 1), make([]float64, n*c)
			for i := range x {
				x[i] += 3
				want[i/c/hw*c+i%c] += float64(x[i]) / float64(hw)
			}
			y := same(t, ps, n*c, func(p *Pool, y []float32) { p.PixelMean(n, hw, c, x, y) }, x)
			for i, w := range want {
				if e := math.Abs(float64(y[i])-w) / math.Abs(w); e > 1.2e-7 {
					t.Fatalf("%v: mean %d is %v, want %v (relative error %.1e)", d, i, y[i], w, e)
				}
			}
			single, check := guarded(t, c)
			ps[2].PixelMean(1, hw, c, x[(n-1)*hw*c:], single)
			check()
			identical(t, "sample alone", single, y[(n-1)*c:])
		}
	})
}
