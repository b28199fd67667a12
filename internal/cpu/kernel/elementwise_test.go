package kernel

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

func TestGroupNorm(t *testing.T) {
	cases := []GroupNormShape{
		{N: 2, HW: 64, C: 64, Groups: 32, Eps: 1e-6, SiLU: true}, {N: 3, HW: 300, C: 96, Groups: 32, Eps: 1e-5},
		{N: 2, HW: 49, C: 32, Groups: 32, Eps: 1e-6, SiLU: true}, {N: 2, HW: 1, C: 40, Groups: 8, Eps: 1e-6},
		{N: 1, HW: 257, C: 35, Groups: 5, Eps: 1e-6, SiLU: true}, {N: 2, HW: 130, C: 7, Groups: 1, Eps: 1e-6},
		{N: 1, HW: 1024, C: 192, Groups: 32, Eps: 1e-6, SiLU: true}, {N: 2, HW: 33, C: 3, Groups: 3, Eps: 1e-6},
		{N: 1, HW: 10000, C: 24, Groups: 8, Eps: 1e-6},
	}
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for i, s := range cases {
			t.Run(fmt.Sprintf("%dx%dx%d-%d", s.N, s.HW, s.C, s.Groups), func(t *testing.T) {
				x, gamma, beta := random(t, 1, s.N*s.HW*s.C, 2), random(t, 2, s.C, 1), random(t, 3, s.C, 1)
				for i := range x {
					x[i] += 3 // a mean well away from zero
				}
				var ss []float32
				if i%3 == 0 {
					s.ScaleStride = 2*s.C + 4
					ss = random(t, 4, s.N*s.ScaleStride, 1)
				}
				want := make([]float64, len(x))
				per := s.C / s.Groups
				for n := range s.N {
					for g := range s.Groups {
						var sum, sq float64
						visit := func(f func(i, c int)) {
							for p := range s.HW {
								for c := g * per; c < (g+1)*per; c++ {
									f((n*s.HW+p)*s.C+c, c)
								}
							}
						}
						visit(func(i, _ int) { sum += float64(x[i]) })
						mean := sum / float64(per*s.HW)
						visit(func(i, _ int) { sq += (float64(x[i]) - mean) * (float64(x[i]) - mean) })
						rstd := 1 / math.Sqrt(sq/float64(per*s.HW)+s.Eps)
						visit(func(i, c int) {
							v := (float64(x[i])-mean)*rstd*float64(gamma[c]) + float64(beta[c])
							if ss != nil {
								v = v*(1+float64(ss[n*s.ScaleStride+c])) + float64(ss[n*s.ScaleStride+s.C+c])
							}
							if s.SiLU {
								v = refAct(SiLU, v)
							}
							want[i] = v
						})
					}
				}
				y := same(t, ps, len(x), func(p *Pool, y []float32) { p.GroupNorm(s, x, gamma, beta, nil, ss, y) }, x, gamma, beta, ss)
				near(t, y, want, 1e-6)
				inPlace := same(t, ps, len(x), func(p *Pool, y []float32) { copy(y, x); p.GroupNorm(s, y, gamma, beta, nil, ss, y) })
				identical(t, "in place", inPlace, y)
				one, size := s, s.HW*s.C
				one.N = 1
				for n := range s.N {
					part := ss
					if ss != nil {
						part = ss[n*s.ScaleStride:]
					}
					single, check := guarded(t, size)
					ps[n].GroupNorm(one, x[n*size:], gamma, beta, nil, part, single)
					check()
					identical(t, "sample alone", single, y[n*size:][:size])
				}
			})
		}
	})
}

// TestGroupMoments compares the moments of windows with plain sums, and norms with given moments with norms of their own.
func TestGroupMoments(t *testing.T) {
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, c := range []struct {
			n, h, w, c, groups int
			windows            []float32
		}{
			{2, 8, 8, 64, 32, []float32{0, 0, 1, 1, 0.25, 0.5, 0.5, 1}},
			{3, 5, 150, 24, 8, []float32{0.2, 0.1, 0.8, 0.9, 0, 0, 1, 1, 0.8, 0, 1, 1. / 150}},
			{1, 130, 33, 35, 5, []float32{0.5, 0.125, 1, 0.875}},
		} {
			s := GroupNormShape{N: c.n, HW: c.h * c.w, C: c.c, Groups: c.groups, Eps: 1e-6}
			x := random(t, 1, s.N*s.HW*s.C, 2)
			for i := range x {
				x[i] += 3
			}
			per, want := c.c/c.groups, make([]float64, 2*c.n*c.groups)
			for n := range c.n {
				v, err := newWindow(c.windows[4*n:4*n+4], c.h, c.w)
				if err != nil {
					t.Fatal(err)
				}
				for g := range c.groups {
					var all []float64
					for r := v.top; r < v.bottom; r++ {
						for col := v.left; col < v.right; col++ {
							for ch := g * per; ch < (g+1)*per; ch++ {
								all = append(all, float64(x[((n*c.h+r)*c.w+col)*c.c+ch]))
							}
						}
					}
					mean, variance := 0.0, 0.0
					for _, f := range all {
						mean += f / float64(len(all))
					}
					for _, f := range all {
						variance += (f - mean) * (f - mean) / float64(len(all))
					}
					want[2*n*c.groups+g], want[(2*n+1)*c.groups+g] = mean, variance
				}
			}
			moments := same(t, ps, len(want), func(p *Pool, y []float32) {
				if err := p.GroupMoments(s, c.w, x, c.windows, y); err != nil {
					t.Fatal(err)
				}
			}, x, c.windows)
			near(t, moments, want, 1e-6)
			one := s
			one.N = 1
			for n := range c.n {
				single, check := guarded(t, 2*c.groups)
				if err := ps[1].GroupMoments(one, c.w, x[n*s.HW*s.C:], c.windows[4*n:], single); err != nil {
					t.Fatal(err)
				}
				check()
				identical(t, "sample alone", single, moments[2*n*c.groups:][:2*c.groups])
			}
			// A norm that is given the moments of its whole input is the norm.
			whole := slices.Repeat([]float32{0, 0, 1, 1}, c.n)
			if err := ps[0].GroupMoments(s, c.w, x, whole, moments); err != nil {
				t.Fatal(err)
			}
			gamma, beta, ss := random(t, 2, s.C, 1), random(t, 3, s.C, 1), random(t, 4, s.N*2*s.C, 1)
			own := make([]float64, len(x))
			for i, v := range same(t, ps, len(x), func(p *Pool, y []float32) { p.GroupNorm(s, x, gamma, beta, nil, ss, y) }) {
				own[i] = float64(v)
			}
			near(t, same(t, ps, len(x), func(p *Pool, y []float32) { p.GroupNorm(s, x, gamma, beta, moments, ss, y) }, moments), own, 1e-6)
		}
		s := GroupNormShape{N: 1, HW: 64, C: 4, Groups: 2}
		for _, w := range [][]float32{{0.5, 0, 0.5, 1}, {0, 0, 1, 1.1}, {-0.2, 0, 1, 1}, {0, 0.9, 1, 0.2}} {
			if err := ps[0].GroupMoments(s, 8, make([]float32, 256), w, make([]float32, 4)); err == nil {
				t.Errorf("window %v was taken", w)
			}
		}
	})
}

func TestPoolMoments(t *testing.T) {
	x := []float32{0, 9, 1, 0, 4, 7, 5, 0, 2, 0, 3, 1, 2, 0, 3, 1, 9, 9, 9, 9, 9, 9, 9, 9} // two groups; the third pair of samples has one that does not count
	y := make([]float32, len(x))
	PoolMoments(6, 2, 2, x, []float32{3, 1, 1, 1, 2, 0}, y)
	want := []float32{1, 8.5, 5, 0.75, 1, 8.5, 5, 0.75, 2, 0, 3, 1, 2, 0, 3, 1, 9, 9, 9, 9, 9, 9, 9, 9}
	identical(t, "pooled", y, want)
}

func TestLayerNorm(t *testing.T) {
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, d := range [][2]int{{1, 1}, {5, 7}, {64, 96}, {33, 100}, {20, 1280}} {
			rows, c := d[0], d[1]
			x, gamma, beta := random(t, 1, rows*c, 2), random(t, 2, c, 1), random(t, 3, c, 1)
			want := make([]float64, rows*c)
			for i := range x {
				x[i] += 5
			}
			for r := range rows {
				var sum, sq float64
				for _, v := range x[r*c:][:c] {
					sum += float64(v)
				}
				mean := sum / float64(c)
				for _, v := range x[r*c:][:c] {
					sq += (float64(v) - mean) * (float64(v) - mean)
				}
				for i, v := range x[r*c:][:c] {
					want[r*c+i] = (float64(v)-mean)/math.Sqrt(sq/float64(c)+1e-5)*float64(gamma[i]) + float64(beta[i])
				}
			}
			y := same(t, ps, rows*c, func(p *Pool, y []float32) { p.LayerNorm(rows, c, 1e-5, x, gamma, beta, y) }, x, gamma, beta)
			near(t, y, want, 1e-6)
			single, check := guarded(t, c)
			ps[0].LayerNorm(1, c, 1e-5, x[(rows-1)*c:], gamma, beta, single)
			check()
			identical(t, "row alone", single, y[(rows-1)*c:])
		}
	})
}

// The activations are checked over their whole useful range, with absolute and relative bounds.
func TestActivations(t *testing.T) {
	var x []float32
	for v := -110.0; v <= 110; v += 0.0137 {
		x = append(x, float32(v))
	}
	for e := -140; e <= 7; e++ {
		for m := 1.0; m < 2; m += 0.19 {
			x = append(x, float32(math.Ldexp(m, e)), float32(-math.Ldexp(m, e)))
		}
	}
	x = append(x, 0, float32(math.Copysign(0, -1)), 1e30, -1e30, float32(math.Inf(1)))
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, a := range []Act{SiLU, GELU, ReLU} {
			y := same(t, ps, len(x), func(p *Pool, y []float32) { p.activate(a, x, y) }, x)
			for i, v := range x {
				want := refAct(a, float64(v))
				if math.IsInf(float64(v), 1) {
					want = float64(v)
				}
				got := float64(y[i])
				if d := math.Abs(got - want); d > 1e-7+4e-7*math.Abs(want) {
					t.Fatalf("activation %d of %v is %v, want %v (difference %.3g)", a, v, got, want, d)
				}
			}
			if y := same(t, ps, 1, func(p *Pool, y []float32) { p.activate(a, []float32{float32(math.NaN())}, y) }); y[0] == y[0] {
				t.Errorf("activation %d of NaN is %v", a, y[0])
			}
			inPlace := same(t, ps, len(x), func(p *Pool, y []float32) { copy(y, x); p.activate(a, y, y) })
			identical(t, "in place", inPlace, y)
		}
	})
}

func TestElementwise(t *testing.T) {
	const n, tt, c = 3, 500, 31 // enough for all threads
	size := n * tt * c
	x, b, d := random(t, 1, size, 1), random(t, 2, size, 1), random(t, 3, size, 1)
	v, m := random(t, 4, n*(c+2), 1), random(t, 5, n*(2*c+3), 1)
	at := func(i int) (int, int, int) { return i / c / tt, i / c % tt, i % c }
	cases := []struct {
		name string
		n    int
		f    func(p *Pool, y []float32)
		want func(i int) float64
	}{
		{"scale", size, func(p *Pool, y []float32) { p.Scale(0.3, x, y) }, func(i int) float64 { return float64(float32(0.3)) * float64(x[i]) }},
		{"add", size, func(p *Pool, y []float32) { p.Add(y, x, b, d) }, func(i int) float64 { return float64(x[i]) + float64(b[i]) + float64(d[i]) }},
		{"add one", size, func(p *Pool, y []float32) { p.Add(y, x) }, func(i int) float64 { return float64(x[i]) }},
		{"rows per sample", size, func(p *Pool, y []float32) { p.AddRowsPerSample(n, tt, c, x, v, c+2, y) }, func(i int) float64 {
			s, _, k := at(i)
			return float64(x[i]) + float64(v[s*(c+2)+k])
		}},
		{"rows", size, func(p *Pool, y []float32) { p.AddRows(n, tt, c, x, b, y) }, func(i int) float64 {
			_, r, k := at(i)
			return float64(x[i]) + float64(b[r*c+k])
		}},
		{"modulate", size, func(p *Pool, y []float32) { p.Modulate(n, tt, c, x, m, 2*c+3, y) }, func(i int) float64 {
			s, _, k := at(i)
			return float64(x[i])*(1+float64(m[s*(2*c+3)+k])) + float64(m[s*(2*c+3)+c+k])
		}},
		{"broadcast", size, func(p *Pool, y []float32) { p.Broadcast(n, tt, c, v, c+2, y) }, func(i int) float64 {
			s, _, k := at(i)
			return float64(v[s*(c+2)+k])
		}},
		{"columns", 7 * 4, func(p *Pool, y []float32) { p.CopyColumns(7, 3, 4, 11, x, y) }, func(i int) float64 { return float64(x[i/4*11+3+i%4]) }},
		{"concat", 8 * 12, func(p *Pool, y []float32) { p.Concat(8, []int{5, 0, 1, 6}, [][]float32{x, nil, b, d}, y) }, func(i int) float64 {
			r, k := i/12, i%12
			switch {
			case k < 5:
				return float64(x[r*5+k])
			case k < 6:
				return float64(b[r])
			}
			return float64(d[r*6+k-6])
		}},
		{"upsample", 2 * 6 * 8 * 5, func(p *Pool, y []float32) { p.Upsample2(2, 3, 4, 5, x, y) }, func(i int) float64 {
			s, r, q, k := i/5/8/6, i/5/8%6, i/5%8, i%5
			return float64(x[((s*3+r/2)*4+q/2)*5+k])
		}},
		{"average", 2 * 2 * 2 * 5, func(p *Pool, y []float32) { p.AvgPool2(2, 5, 4, 5, x, y) }, func(i int) float64 {
			s, r, q, k := i/5/2/2, i/5/2%2, i/5%2, i%5
			sum := 0.0
			for e := range 4 {
				sum += float64(x[((s*5+2*r+e/2)*4+2*q+e%2)*5+k])
			}
			return sum / 4
		}},
		{"to nhwc", 2 * 5 * 23, func(p *Pool, y []float32) { p.ToNHWC(2, 5, 23, x, y) }, func(i int) float64 {
			s, r, k := i/5/23, i/5%23, i%5
			return float64(x[(s*5+k)*23+r])
		}},
		{"to nchw", 2 * 5 * 23, func(p *Pool, y []float32) { p.ToNCHW(2, 5, 23, x, y) }, func(i int) float64 {
			s, k, r := i/5/23, i/23%5, i%23
			return float64(x[(s*23+r)*5+k])
		}},
		{"geglu", 7 * 9, func(p *Pool, y []float32) { p.GEGLU(7, 9, x, y) }, func(i int) float64 {
			return float64(x[i/9*18+i%9]) * refAct(GELU, float64(x[i/9*18+9+i%9]))
		}},
		{"gaussian", 7 * 9, func(p *Pool, y []float32) { p.GaussianSample(7, 9, x, b, y) }, func(i int) float64 {
			return float64(x[i/9*18+i%9]) + math.Exp(0.5*float64(x[i/9*18+9+i%9]))*float64(b[i])
		}},
	}
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, k := range cases {
			t.Run(k.name, func(t *testing.T) {
				y := same(t, ps, k.n, k.f, x, b, d, v, m)
				want := make([]float64, k.n)
				for i := range want {
					want[i] = k.want(i)
				}
				near(t, y, want, 1e-6)
			})
		}
		t.Run("large transpose", func(t *testing.T) {
			x := random(t, 1, 2*130*259, 1)
			y := same(t, ps, len(x), func(p *Pool, y []float32) { p.ToNHWC(2, 130, 259, x, y) }, x)
			back := same(t, ps, len(x), func(p *Pool, z []float32) { p.ToNCHW(2, 130, 259, y, z) }, y)
			identical(t, "there and back", back, x)
			if y[130*5+7] != x[7*259+5] {
				t.Error("not transposed")
			}
		})
		t.Run("gaussian clamps", func(t *testing.T) {
			y := same(t, ps, 2, func(p *Pool, y []float32) { p.GaussianSample(1, 2, []float32{1, 2, -100, 90}, []float32{1, 1}, y) })
			near(t, y, []float64{1 + math.Exp(-15), 2 + math.Exp(10)}, 1e-6)
		})
	})
}

func TestEmbed(t *testing.T) {
	table := random(t, 1, 6*5, 1)
	eachISA(t, func(t *testing.T, ps []*Pool) {
		y := same(t, ps, 3*5, func(p *Pool, y []float32) {
			if err := p.Embed([]float32{5, 0, 2}, 5, table, y); err != nil {
				t.Fatal(err)
			}
		})
		identical(t, "rows", y, slices.Concat(table[25:30], table[0:5], table[10:15]))
		for _, id := range []float32{-1, 6, 1.5, float32(math.NaN())} {
			if err := ps[0].Embed([]float32{id}, 5, table, make([]float32, 5)); err == nil {
				t.Errorf("id %v was accepted", id)
			}
		}
	})
}

func TestTimeEmbedding(t *testing.T) {
	times := []float32{0, 1, 999, 500.5, 981}
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, dim := range []int{192, 7, 2, 1} {
			y := same(t, ps, len(times)*dim, func(p *Pool, y []float32) { p.TimeEmbedding(times, dim, y) })
			half := dim / 2
			for i, ti := range times {
				for j := range half {
					f := float32(math.Exp(float64(float32(-math.Log(10000)) * float32(j) / float32(half))))
					a := float64(ti * f)
					if y[i*dim+j] != float32(math.Cos(a)) || y[i*dim+half+j] != float32(math.Sin(a)) {
						t.Fatalf("time %v of %d, frequency %d: %v, %v", ti, dim, j, y[i*dim+j], y[i*dim+half+j])
					}
				}
				if dim%2 == 1 && y[i*dim+dim-1] != 0 {
					t.Fatalf("last column of an odd embedding is %v", y[i*dim+dim-1])
				}
			}
		}
	})
}

func TestCodeIndex(t *testing.T) {
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, d := range [][3]int{{1, 1, 1}, {37, 3, 100}, {64, 4, 1025}, {13, 257, 64}, {5, 8, 17}} {
			rows, c, v := d[0], d[1], d[2]
			z, book := random(t, 1, rows*c, 1), random(t, 2, v*c, 1)
			if v > 20 { // rows that are equal to two codes: the first wins
				copy(book[20*c:], book[3*c:][:c])
				copy(z[(rows-1)*c:], book[3*c:][:c])
			}
			idx := same(t, ps, rows, func(p *Pool, y []float32) { p.CodeIndex(rows, c, v, z, book, y) }, z, book)
			distance := func(r, k int) (s float64) {
				for i := range c {
					e := float64(z[r*c+i]) - float64(book[k*c+i])
					s += e * e
				}
				return s
			}
			for r := range rows {
				best := 0
				for k := range v {
					if distance(r, k) < distance(r, best) {
						best = k
					}
				}
				if got := int(idx[r]); got != best && distance(r, got) > distance(r, best)+1e-5*float64(c) {
					t.Fatalf("%v: row %d is code %d at %v, want %d at %v", d, r, got, distance(r, got), best, distance(r, best))
				}
			}
			if v > 20 && idx[rows-1] != 3 {
				t.Errorf("%v: a tie gives code %v, want the first, 3", d, idx[rows-1])
			}
			y := same(t, ps, rows*c, func(p *Pool, y []float32) { p.Quantize(rows, c, v, z, book, make([]float32, rows), y) })
			for i := range y {
				e := book[int(idx[i/c])*c+i%c]
				if d := e - z[i]; y[i] != z[i]+d {
					t.Fatalf("quantized %v, want %v", y[i], z[i]+d)
				}
			}
		}
	})
}
