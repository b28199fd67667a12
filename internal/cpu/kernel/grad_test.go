package kernel

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/ir"
)

// array is an operand of the reference: values in logical order, that is NCHW for images.
type array struct {
	shape []int
	data  []float64
}

func rowMajor(x []float32, shape ...int) array {
	a := array{shape: shape, data: make([]float64, len(x))}
	for i, v := range x {
		a.data[i] = float64(v)
	}
	return a
}

// nhwc takes values of images (n,h,w,c).
func nhwc(x []float32, n, h, w, c int) array {
	a := array{shape: []int{n, c, h, w}, data: make([]float64, n*h*w*c)}
	for i := range a.data {
		a.data[((i/(h*w*c))*c+i%c)*h*w+i/c%(h*w)] = float64(x[i])
	}
	return a
}

// images turns values in NCHW order back.
func images(x []float64, n, h, w, c int) []float64 {
	y := make([]float64, len(x))
	for i := range y {
		y[i] = x[((i/(h*w*c))*c+i%c)*h*w+i/c%(h*w)]
	}
	return y
}

// reference runs one operation of package ir in float64.
func reference(t *testing.T, op ir.Op, shape []int, in ...array) []float64 {
	t.Helper()
	p := &ir.Program{Name: "reference"}
	feed := map[string][]float64{}
	node := ir.Node{ID: len(in), Op: op, Shape: shape, Name: "y"}
	for i, a := range in {
		name := fmt.Sprint("in", i)
		p.Nodes = append(p.Nodes, ir.Node{ID: i, Shape: a.shape, Name: name, Leaf: ir.InputLeaf})
		feed[name] = a.data
		node.In = append(node.In, i)
	}
	p.Nodes = append(p.Nodes, node)
	p.Outputs = []int{len(in)}
	out, err := ir.Evaluate(p, feed)
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

func op(k ir.Kind, ints ...int) ir.Op {
	o := ir.Op{Kind: k}
	copy(o.Ints[:], ints)
	return o
}

// gradConvs are shapes of layers whose gradients are compared, odd ones among them.
func gradConvs() []ConvShape {
	square := func(n, h, w, c, o, k, stride, pad int) ConvShape {
		return ConvShape{N: n, H: h, W: w, C: c, O: o, KH: k, KW: k, Stride: stride, PadTop: pad, PadLeft: pad,
			OutH: (h+2*pad-k)/stride + 1, OutW: (w+2*pad-k)/stride + 1}
	}
	asym := square(2, 12, 10, 12, 20, 3, 2, 0) // padding on the right and below
	asym.OutH, asym.OutW = 6, 5
	up := square(2, 12, 16, 24, 20, 3, 1, 1)
	up.Upsample = true
	up5 := square(1, 8, 6, 3, 5, 5, 1, 2)
	up5.Upsample = true
	up1 := square(1, 4, 6, 7, 5, 1, 1, 0)
	up1.Upsample = true
	cropped := square(2, 9, 9, 8, 8, 3, 1, 1)
	cropped.OutH, cropped.OutW = 7, 8
	return []ConvShape{
		{N: 2, H: 6, W: 13, C: 16, O: 20, KH: 1, KW: 7, Stride: 1, PadLeft: 3, OutH: 6, OutW: 13},
		{N: 1, H: 9, W: 8, C: 18, O: 16, KH: 3, KW: 1, Stride: 1, OutH: 7, OutW: 8},
		square(1, 16, 14, 16, 24, 5, 1, 2), square(2, 18, 17, 20, 16, 3, 1, 0),
		square(2, 16, 16, 32, 32, 3, 1, 1), square(1, 17, 13, 40, 24, 3, 1, 1), square(3, 8, 8, 48, 36, 3, 1, 1), square(2, 4, 4, 64, 65, 3, 1, 1),
		square(9, 14, 15, 17, 33, 3, 1, 1), square(1, 5, 3, 16, 16, 3, 1, 1), square(2, 24, 24, 3, 32, 3, 1, 1), square(2, 24, 24, 40, 3, 3, 1, 1),
		square(1, 5, 7, 1, 1, 3, 1, 1), square(2, 9, 9, 24, 40, 1, 1, 0), square(2, 16, 16, 32, 48, 3, 2, 1), square(2, 15, 13, 17, 19, 3, 2, 1),
		square(2, 9, 8, 12, 20, 4, 2, 1), square(1, 8, 8, 6, 5, 4, 1, 1), square(1, 11, 11, 9, 9, 5, 1, 2), square(1, 11, 11, 9, 9, 2, 3, 0),
		square(1, 9, 9, 5, 6, 1, 2, 0), square(1, 5, 5, 4, 4, 1, 1, 2), square(1, 7, 7, 4, 4, 3, 1, 3), square(2, 16, 16, 16, 17, 5, 2, 2), square(1, 30, 31, 20, 8, 7, 4, 2),
		{N: 2, H: 5, W: 6, C: 8, O: 16, KH: 1, KW: 3, Stride: 1, PadLeft: 1, OutH: 5, OutW: 6}, asym, up, up5, up1, cropped,
	}
}

func name(s ConvShape) string {
	return fmt.Sprintf("%dx%dx%dx%d-%d-k%dx%ds%dp%d-up%v", s.N, s.H, s.W, s.C, s.O, s.KH, s.KW, s.Stride, s.PadTop, s.Upsample)
}

// seen returns the input as the convolution sees it, and the attributes of the reference operation.
func seen(s ConvShape, x []float32) (array, []int) {
	if s.Upsample {
		up := make([]float32, s.N*s.H*s.W*s.C)
		for i := range up {
			c, col, row, n := i%s.C, i/s.C%s.W, i/s.C/s.W%s.H, i/s.C/s.W/s.H
			up[i] = x[((n*s.H/2+row/2)*s.W/2+col/2)*s.C+c]
		}
		x = up
	}
	return nhwc(x, s.N, s.H, s.W, s.C), []int{s.Stride, s.PadTop, s.PadLeft, 0, 0}
}

func TestConvGradInput(t *testing.T) {
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, s := range gradConvs() {
			t.Run(name(s), func(t *testing.T) {
				w := random(t, 1, s.O*s.C*s.KH*s.KW, 1/sqrt(float64(s.O*s.KH*s.KW)))
				dy := random(t, 2, s.outLen(), 1)
				want := reference(t, op(ir.KindConv2DGradInput, s.Stride, s.PadTop, s.PadLeft, 0, 0, s.H, s.W), []int{s.N, s.C, s.H, s.W},
					rowMajor(w, s.O, s.C, s.KH, s.KW), nhwc(dy, s.N, s.OutH, s.OutW, s.O))
				want = images(want, s.N, s.H, s.W, s.C)
				if s.Upsample {
					want = reference(t, op(ir.KindAvgPool2), []int{s.N, s.C, s.H / 2, s.W / 2}, nhwc64(want, s.N, s.H, s.W, s.C))
					want = images(want, s.N, s.H/2, s.W/2, s.C)
					for i := range want {
						want[i] *= 4
					}
				}
				cw, err := PackConvGradInput(ps[1], s, w)
				if err != nil {
					t.Fatal(err)
				}
				defer cw.Close()
				dx := same(t, ps, s.inLen(), func(p *Pool, y []float32) { p.ConvGradInput(s, cw, dy, y) }, w, dy)
				near(t, dx, want, 3e-6)
				one := s
				one.N = 1
				size := s.inLen() / s.N
				for n := range s.N {
					single, check := guarded(t, size)
					ps[n%3].ConvGradInput(one, cw, dy[n*s.outLen()/s.N:], single)
					check()
					identical(t, fmt.Sprintf("sample %d alone", n), single, dx[n*size:][:size])
				}
				// Other weights and back again give the same bits.
				other := random(t, 3, len(w), 1)
				cw.Repack(ps[1], other)
				cw.Repack(ps[2], w)
				again := same(t, ps, s.inLen(), func(p *Pool, y []float32) { p.ConvGradInput(s, cw, dy, y) })
				identical(t, "packed again", again, dx)
			})
		}
	})
}

func nhwc64(x []float64, n, h, w, c int) array {
	a := array{shape: []int{n, c, h, w}, data: make([]float64, len(x))}
	for i := range x {
		a.data[((i/(h*w*c))*c+i%c)*h*w+i/c%(h*w)] = x[i]
	}
	return a
}

func TestConvGradWeight(t *testing.T) {
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, s := range gradConvs() {
			t.Run(name(s), func(t *testing.T) {
				x, dy := random(t, 1, s.inLen(), 1), random(t, 2, s.outLen(), 1)
				in, attributes := seen(s, x)
				want := reference(t, op(ir.KindConv2DGradWeight, append(attributes, s.KH, s.KW)...), []int{s.O, s.C, s.KH, s.KW},
					in, nhwc(dy, s.N, s.OutH, s.OutW, s.O))
				dw := same(t, ps, len(want), func(p *Pool, y []float32) { p.ConvGradWeight(s, x, dy, y) }, x, dy)
				near(t, dw, want, 3e-6)
			})
		}
	})
}

// TestLongSums checks that the error of weight gradients and sums of many equal signs does not grow with their length.
func TestLongSums(t *testing.T) {
	s := ConvShape{N: 6, H: 64, W: 64, C: 16, O: 16, KH: 3, KW: 3, Stride: 1, PadTop: 1, PadLeft: 1, OutH: 64, OutW: 64}
	x, dy := random(t, 1, s.inLen(), 1), random(t, 2, s.outLen(), 1)
	for i := range x {
		x[i], dy[i] = float32(math.Abs(float64(x[i]))), float32(math.Abs(float64(dy[i])))
	}
	in, attributes := seen(s, x)
	want := reference(t, op(ir.KindConv2DGradWeight, append(attributes, 3, 3)...), []int{16, 16, 3, 3}, in, nhwc(dy, s.N, 64, 64, 16))
	rows := s.N * 64 * 64
	linear := reference(t, op(ir.KindLinearGradWeight, 2), []int{16, 16}, rowMajor(x, rows, 16), rowMajor(dy, rows, 16))
	sums := reference(t, op(ir.KindRowSum), []int{16}, rowMajor(x, rows, 16))
	eachISA(t, func(t *testing.T, ps []*Pool) {
		near(t, same(t, ps, len(want), func(p *Pool, y []float32) { p.ConvGradWeight(s, x, dy, y) }), want, 3e-6)
		near(t, same(t, ps, 256, func(p *Pool, y []float32) { p.LinearGradWeight(rows, 16, 16, 0, 0, x, dy, y) }), linear, 1e-6)
		near(t, same(t, ps, 16, func(p *Pool, y []float32) { p.ColumnSum(rows, 16, 0, x, y) }), sums, 1e-6)
	})
}

func TestLinearGrad(t *testing.T) {
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, c := range []struct{ rows, in, out, ldx, ldy int }{
			{1, 1, 1, 0, 0}, {7, 33, 31, 0, 0}, {65, 100, 77, 103, 81}, {300, 16, 128, 0, 0}, {130, 257, 129, 257, 387}, {1030, 24, 7, 0, 0},
		} {
			t.Run(fmt.Sprintf("%dx%d-%d", c.rows, c.in, c.out), func(t *testing.T) {
				s := LinearShape{Rows: c.rows, In: c.in, Out: c.out, LdX: c.ldx, LdY: c.ldy}.withDefaults()
				x, dy, w := random(t, 1, c.rows*s.LdX, 1), random(t, 2, c.rows*s.LdY, 1), random(t, 3, c.in*c.out, 1)
				a, d := rowMajor(pick(x, c.rows, c.in, s.LdX), c.rows, c.in), rowMajor(pick(dy, c.rows, c.out, s.LdY), c.rows, c.out)
				want := reference(t, op(ir.KindLinearGradWeight, 2), []int{c.out, c.in}, a, d)
				dw := same(t, ps, len(want), func(p *Pool, y []float32) { p.LinearGradWeight(c.rows, c.in, c.out, c.ldx, c.ldy, x, dy, y) }, x, dy)
				near(t, dw, want, 1e-6)
				want = reference(t, op(ir.KindLinearGradInput), []int{c.rows, c.in}, rowMajor(w, c.out, c.in), d)
				lw, err := PackLinearTransposed(ps[1], c.out, c.in, w)
				if err != nil {
					t.Fatal(err)
				}
				defer lw.Close()
				back := LinearShape{Rows: c.rows, In: c.out, Out: c.in, LdX: s.LdY}
				dx := same(t, ps, len(want), func(p *Pool, y []float32) { p.Linear(back, lw, dy, y, Epilogue{}) }, w)
				near(t, dx, want, 1e-6)
				lw.Repack(ps[2], random(t, 4, len(w), 1))
				lw.Repack(ps[0], w)
				identical(t, "packed again", same(t, ps, len(want), func(p *Pool, y []float32) { p.Linear(back, lw, dy, y, Epilogue{}) }), dx)
			})
		}
	})
}

// TestRepack packs the weights of forward layers again, in every algorithm and precision.
func TestRepack(t *testing.T) {
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, prec := range []Precision{FP32, Mixed} {
			if prec == Mixed && !ps[0].ISA().BF16() {
				continue
			}
			for _, s := range []ConvShape{
				{N: 1, H: 16, W: 16, C: 20, O: 35, KH: 3, KW: 3, Stride: 1, PadTop: 1, PadLeft: 1, OutH: 16, OutW: 16},
				{N: 1, H: 8, W: 8, C: 17, O: 16, KH: 3, KW: 3, Stride: 1, PadTop: 1, PadLeft: 1, OutH: 8, OutW: 8},
				{N: 1, H: 6, W: 6, C: 5, O: 7, KH: 3, KW: 3, Stride: 2, PadTop: 1, PadLeft: 1, OutH: 3, OutW: 3},
				{N: 1, H: 15, W: 15, C: 16, O: 18, KH: 5, KW: 5, Stride: 1, PadTop: 2, PadLeft: 2, OutH: 15, OutW: 15},
				{N: 1, H: 5, W: 9, C: 17, O: 16, KH: 1, KW: 7, Stride: 1, PadLeft: 3, OutH: 5, OutW: 9},
				{N: 1, H: 9, W: 5, C: 16, O: 17, KH: 3, KW: 1, Stride: 1, PadTop: 1, OutH: 9, OutW: 5},
			} {
				w, other := random(t, 1, s.O*s.C*s.KH*s.KW, 1), random(t, 2, s.O*s.C*s.KH*s.KW, 1)
				a, errA := PackConv(ps[0], s, w, prec)
				b, errB := PackConv(ps[0], s, other, prec)
				if errA != nil || errB != nil {
					t.Fatal(errA, errB)
				}
				b.Repack(ps[2], w)
				identical(t, a.Algorithm(), b.data, a.data)
				a.Close()
				b.Close()
			}
			for _, geglu := range []bool{false, true} {
				w, other := random(t, 1, 2*37*23, 1), random(t, 2, 2*37*23, 1)
				parts := func(x []float32) [][]float32 {
					if geglu {
						return [][]float32{x}
					}
					return [][]float32{x[:23*10], x[23*10 : 23*50], x[23*50:]}
				}
				a, errA := PackLinear(ps[0], 23, parts(w), geglu, prec)
				b, errB := PackLinear(ps[0], 23, parts(other), geglu, prec)
				if errA != nil || errB != nil {
					t.Fatal(errA, errB)
				}
				b.Repack(ps[2], parts(w)...)
				identical(t, "linear", b.data, a.data)
				again := parts(w)
				if n := testing.AllocsPerRun(10, func() { b.Repack(ps[0], again...) }); ps[0].ISA() != Generic && n > 0 {
					t.Errorf("packing again allocates %v times", n)
				}
				a.Close()
				b.Close()
			}
		}
	})
}

func TestNormGrad(t *testing.T) {
	type shape struct{ n, hw, c, groups int }
	shapes := []shape{
		{2, 64, 64, 32}, {3, 300, 96, 32}, {2, 49, 32, 32}, {2, 1, 40, 8}, {1, 257, 35, 5}, {2, 130, 7, 1}, {1, 33, 3, 3}, {5, 64, 130, 2},
		{9, 1, 48, 0}, {200, 1, 37, 0}, {70, 1, 1, 0}, {3, 1, 1280, 0}, // 0 groups: layer norm over rows
	}
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, s := range shapes {
			t.Run(fmt.Sprintf("%dx%dx%d-%d", s.n, s.hw, s.c, s.groups), func(t *testing.T) {
				all := s.n * s.hw * s.c
				x, gamma, dy := random(t, 1, all, 2), random(t, 2, s.c, 1), random(t, 3, all, 1)
				for i := range x {
					x[i] += 3
				}
				input, params := op(ir.KindGroupNormGradInput, s.groups), op(ir.KindGroupNormGradParams, s.groups)
				a, d := nhwc(x, s.n, s.hw, 1, s.c), nhwc(dy, s.n, s.hw, 1, s.c)
				run := func(p *Pool, dx, dgamma, dbeta []float32) {
					p.GroupNormGrad(GroupNormShape{N: s.n, HW: s.hw, C: s.c, Groups: s.groups, Eps: 1e-5}, x, gamma, nil, dy, dx, dgamma, dbeta)
				}
				if s.groups == 0 {
					input, params = op(ir.KindLayerNormGradInput), op(ir.KindLayerNormGradParams)
					a, d = rowMajor(x, s.n, s.c), rowMajor(dy, s.n, s.c)
					run = func(p *Pool, dx, dgamma, dbeta []float32) {
						p.LayerNormGrad(s.n, s.c, 1e-5, x, gamma, dy, dx, dgamma, dbeta)
					}
				}
				input.Eps, params.Eps = 1e-5, 1e-5
				wantX := reference(t, input, a.shape, a, rowMajor(gamma, s.c), d)
				if s.groups > 0 {
					wantX = images(wantX, s.n, s.hw, 1, s.c)
				}
				wantP := reference(t, params, []int{2 * s.c}, a, d)
				y := same(t, ps, all+2*s.c, func(p *Pool, y []float32) { run(p, y[:all], y[all:][:s.c], y[all+s.c:]) }, x, gamma, dy)
				if s.c/max(s.groups, 1)*s.hw > 1 { // else it is zero
					near(t, y[:all], wantX, 2e-6)
					near(t, y[all:][:s.c], wantP[:s.c], 2e-6)
				}
				near(t, y[all+s.c:], wantP[s.c:], 1e-6)
				identical(t, "input alone", same(t, ps, all, func(p *Pool, dx []float32) { run(p, dx, nil, nil) }), y[:all])
				identical(t, "parameters alone", same(t, ps, 2*s.c, func(p *Pool, g []float32) { run(p, nil, g[:s.c], g[s.c:]) }), y[all:])
				inPlace := same(t, ps, all, func(p *Pool, dx []float32) {
					keep := dy
					defer func() { dy = keep }()
					copy(dx, dy)
					dy = dx
					run(p, dx, nil, nil)
				})
				identical(t, "in place", inPlace, y[:all])
				if s.groups == 0 {
					return
				}
				// With an activation after the normalisation.
				beta := random(t, 4, s.c, 1)
				norm := op(ir.KindGroupNorm, s.groups)
				norm.Eps = 1e-5
				h := reference(t, norm, a.shape, a, rowMajor(gamma, s.c), rowMajor(beta, s.c))
				d.data = reference(t, op(ir.KindSiLUGrad), a.shape, array{a.shape, h}, d)
				wantX = images(reference(t, input, a.shape, a, rowMajor(gamma, s.c), d), s.n, s.hw, 1, s.c)
				wantP = reference(t, params, []int{2 * s.c}, a, d)
				silu := func(p *Pool, dx, dgamma, dbeta []float32) {
					p.GroupNormGrad(GroupNormShape{N: s.n, HW: s.hw, C: s.c, Groups: s.groups, Eps: 1e-5, SiLU: true}, x, gamma, beta, dy, dx, dgamma, dbeta)
				}
				y = same(t, ps, all+2*s.c, func(p *Pool, y []float32) { silu(p, y[:all], y[all:][:s.c], y[all+s.c:]) }, x, gamma, beta, dy)
				if s.c/s.groups*s.hw > 1 {
					near(t, y[:all], wantX, 2e-6)
					near(t, y[all:][:s.c], wantP[:s.c], 2e-6)
				}
				near(t, y[all+s.c:], wantP[s.c:], 1e-6)
				identical(t, "parameters alone", same(t, ps, 2*s.c, func(p *Pool, g []float32) { silu(p, nil, g[:s.c], g[s.c:]) }), y[all:])
				identical(t, "in place", same(t, ps, all, func(p *Pool, dx []float32) {
					keep := dy
					defer func() { dy = keep }()
					copy(dx, dy)
					dy = dx
					silu(p, dx, nil, nil)
				}), y[:all])
			})
		}
	})
}

func TestAttentionGrad(t *testing.T) {
	for _, c := range []struct{ n, tq, tk, heads, d int }{
		{1, 1, 1, 1, 1}, {2, 64, 64, 2, 32}, {1, 5, 1, 2, 8}, {2, 37, 77, 3, 40}, {1, 1, 300, 1, 64}, {1, 130, 513, 1, 33}, {2, 16, 16, 1, 384}, {1, 300, 20, 2, 7},
	} {
		s := PackedAttention(c.n, c.tq, c.tk, c.heads, c.d, float32(1/math.Sqrt(float64(c.d))))
		width := c.heads * c.d
		nq, nk := c.n*c.tq*width, c.n*c.tk*width
		q, k, v, dy := random(t, 1, nq, 1.5), random(t, 2, nk, 1.5), random(t, 3, nk, 1), random(t, 4, nq, 1)
		o := op(ir.KindAttentionGrad, c.heads)
		o.Scale = float64(s.Scale)
		want := reference(t, o, []int{nq + 2*nk}, rowMajor(q, c.n, c.tq, width), rowMajor(k, c.n, c.tk, width), rowMajor(v, c.n, c.tk, width),
			rowMajor(dy, c.n, c.tq, width))
		eachISA(t, func(t *testing.T, ps []*Pool) {
			t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
				y := same(t, ps, nq+2*nk, func(p *Pool, y []float32) { p.AttentionGrad(s, q, k, v, dy, y[:nq], y[nq:nq+nk], y[nq+nk:]) }, q, k, v, dy)
				if c.tk > 1 { // else the weights are 1 and q and k have no gradient
					near(t, y[:nq], want[:nq], 3e-6)
					near(t, y[nq:nq+nk], want[nq:nq+nk], 3e-6)
				}
				near(t, y[nq+nk:], want[nq+nk:], 3e-6)
				if c.tq != c.tk {
					return
				}
				// The same, interleaved in one array per token, as a fused projection is.
				fused := s
				fused.QRow, fused.KRow, fused.VRow = 3*width, 3*width, 3*width
				fused.QSample, fused.KSample, fused.VSample = 3*width*c.tq, 3*width*c.tq, 3*width*c.tq
				join := func(parts ...[]float32) (all []float32) {
					for r := range c.n * c.tq {
						for _, p := range parts {
							all = append(all, p[r*width:][:width]...)
						}
					}
					return all
				}
				qkv := join(q, k, v)
				got := same(t, ps, len(qkv), func(p *Pool, y []float32) {
					p.AttentionGrad(fused, qkv, qkv[width:], qkv[2*width:], dy, y, y[width:], y[2*width:])
				}, qkv, dy)
				identical(t, "interleaved", got, join(y[:nq], y[nq:nq+nk], y[nq+nk:]))
			})
		})
	}
}

// Slopes are compared over the whole useful range.
func TestActivationGrads(t *testing.T) {
	var x []float32
	for v := -110.0; v <= 110; v += 0.0137 {
		x = append(x, float32(v))
	}
	x = append(x, 0, float32(math.Copysign(0, -1)), 1e-30, -1e-30, 1e30, -1e30)
	dy := random(t, 1, len(x), 1)
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, a := range []struct {
			kind ir.Kind
			f    func(p *Pool, x, dy, dx []float32)
		}{
			{ir.KindSiLUGrad, (*Pool).SiLUGrad}, {ir.KindGELUGrad, (*Pool).GELUGrad}, {ir.KindReLUGrad, (*Pool).ReLUGrad},
		} {
			want := reference(t, op(a.kind), []int{len(x)}, rowMajor(x, len(x)), rowMajor(dy, len(x)))
			dx := same(t, ps, len(x), func(p *Pool, y []float32) { a.f(p, x, dy, y) }, x, dy)
			for i, v := range dx {
				if d := math.Abs(float64(v) - want[i]); !(d <= (3e-7+1e-6*math.Abs(want[i]))*max(1, math.Abs(float64(dy[i])))) {
					t.Fatalf("%s at %v is %v, want %v", a.kind, x[i], v, want[i])
				}
			}
			identical(t, "in place", same(t, ps, len(x), func(p *Pool, y []float32) { copy(y, dy); a.f(p, x, y, y) }), dx)
		}
		y := same(t, ps, len(x), func(p *Pool, y []float32) { p.LeakyReLU(0.2, x, y) }, x)
		dx := same(t, ps, len(x), func(p *Pool, y []float32) { p.LeakyReLUGrad(0.2, x, dy, y) }, x, dy)
		for i, v := range x {
			want, slope := v, dy[i]
			if v < 0 {
				want *= 0.2
			}
			if !(v > 0) {
				slope *= 0.2
			}
			if y[i] != want || dx[i] != slope {
				t.Fatalf("leaky ReLU of %v is %v with gradient %v, want %v and %v", v, y[i], dx[i], want, slope)
			}
		}
	})
}

// TestGradients compares the cheap kernels with the reference.
func TestGradients(t *testing.T) {
	const n, h, w, c = 3, 12, 10, 37
	hw, all := h*w, n*h*w*c
	x, dy, s := random(t, 1, 4*all, 1), random(t, 2, 4*all, 1), random(t, 3, n*2*c, 1)
	image := func(v []float32) array { return nhwc(v[:all], n, h, w, c) }
	shape := []int{n, c, h, w}
	back := func(v []float64) []float64 { return images(v, n, h, w, c) }
	whole := []float32{5, 0, 2, 5, 5, 1}
	eps := func(f float64) []float32 { return []float32{float32(f)} }
	cases := []struct {
		name string
		n    int
		f    func(p *Pool, y []float32)
		want []float64
	}{
		{"channel sum", c, func(p *Pool, y []float32) { p.ColumnSum(n*hw, c, 0, dy, y) }, reference(t, op(ir.KindChannelSum), []int{c}, image(dy))},
		{"strided sum", 5, func(p *Pool, y []float32) { p.ColumnSum(7, 5, 11, dy, y) }, reference(t, op(ir.KindRowSum), []int{5}, rowMajor(pick(dy, 7, 5, 11), 7, 5))},
		{"pixel sum", n * c, func(p *Pool, y []float32) { p.PixelSum(n, hw, c, dy, y) }, reference(t, op(ir.KindPixelSum), []int{n, c}, image(dy))},
		{"batch sum", hw * c, func(p *Pool, y []float32) { p.BatchSum(n, hw, c, dy, y) },
			reference(t, op(ir.KindBatchSum), []int{hw, c}, rowMajor(dy[:all], n, hw, c))},
		{"geglu", n * hw * 2 * c, func(p *Pool, y []float32) { p.GEGLUGrad(n*hw, c, x, dy, y) },
			reference(t, op(ir.KindGEGLUGrad), []int{n, hw, 2 * c}, rowMajor(x[:2*all], n, hw, 2*c), rowMajor(dy[:all], n, hw, c))},
		{"modulate x", all, func(p *Pool, y []float32) { p.ModulateGradX(n, hw, c, s, 2*c, dy, y) },
			back(reference(t, op(ir.KindModulateGradX), shape, rowMajor(s, n, 2*c), image(dy)))},
		{"modulate s", n * 2 * c, func(p *Pool, y []float32) { p.ModulateGradS(n, hw, c, x, dy, y) },
			reference(t, op(ir.KindModulateGradS), []int{n, 2 * c}, image(x), image(dy))},
		{"average", all, func(p *Pool, y []float32) {
			p.AvgPoolGrad(WindowShape{N: n, H: h, W: w, C: c, OutH: h, OutW: w, Kernel: 3, Stride: 1, Pad: 1}, dy, y)
		},
			back(reference(t, op(ir.KindAvgPool3Grad), shape, image(dy)))},
		{"maximum", all, func(p *Pool, y []float32) {
			p.MaxPoolGrad(WindowShape{N: n, H: h, W: w, C: c, OutH: 6, OutW: 5, Kernel: 3, Stride: 2, Pad: 1}, x, dy, y)
		}, back(reference(t, op(ir.KindMaxPoolGrad, 3, 2, 1), shape, image(x), nhwc(dy[:n*30*c], n, 6, 5, c)))},
		{"pixel mean", all, func(p *Pool, y []float32) { p.PixelMeanGrad(n, hw, c, dy, y) },
			back(reference(t, op(ir.KindPixelMeanGrad, h, w), shape, rowMajor(dy[:n*c], n, c)))},
		{"upsample", n * hw / 4 * c, func(p *Pool, y []float32) { p.Upsample2Grad(n, h/2, w/2, c, dy, y) }, func() []float64 {
			v := images(reference(t, op(ir.KindAvgPool2), []int{n, c, h / 2, w / 2}, image(dy)), n, h/2, w/2, c)
			for i := range v {
				v[i] *= 4
			}
			return v
		}()},
		{"average 2x2", all, func(p *Pool, y []float32) { p.AvgPool2Grad(n, h, w, c, dy, y) }, func() []float64 {
			v := back(reference(t, op(ir.KindUpsample2), shape, nhwc(dy[:all/4], n, h/2, w/2, c)))
			for i := range v {
				v[i] /= 4
			}
			return v
		}()},
		{"average of odd", 2 * 5 * 3 * c, func(p *Pool, y []float32) { p.AvgPool2Grad(2, 5, 3, c, dy, y) }, func() []float64 {
			v := make([]float64, 2*5*3*c)
			for i := range v {
				if k, col, row, n := i%c, i/c%3, i/c/3%5, i/c/15; col < 2 && row < 4 {
					v[i] = float64(dy[((n*2+row/2)+col/2)*c+k]) / 4
				}
			}
			return v
		}()},
		{"pad", n * hw * 2 * c, func(p *Pool, y []float32) { p.PadColumns(n*hw, 5, c, 2*c, dy, y) },
			reference(t, op(ir.KindPadLast, 5, 2*c), []int{n, hw, 2 * c}, rowMajor(dy[:all], n, hw, c))},
		{"embed", 6 * c, func(p *Pool, y []float32) {
			if err := p.EmbedGrad(whole, c, dy, y); err != nil {
				t.Fatal(err)
			}
		}, reference(t, op(ir.KindEmbedGrad, 6), []int{6, c}, rowMajor(whole, 6), rowMajor(dy[:6*c], 6, c))},
		{"gaussian", 2 * all, func(p *Pool, y []float32) { p.GaussianSampleGrad(n*hw, c, x, s4(dy, all), dy, y) },
			images(reference(t, op(ir.KindGaussianSampleGrad), []int{n, 2 * c, h, w}, nhwc(x[:2*all], n, h, w, 2*c), image(s4(dy, all)), image(dy)), n, h, w, 2*c)},
		{"scale by", all, func(p *Pool, y []float32) { p.ScaleBy(x, eps(0.25), y) }, func() []float64 {
			v := rowMajor(x[:all], all).data
			for i := range v {
				v[i] /= 4
			}
			return v
		}()},
		{"dot", 1, func(p *Pool, y []float32) { p.Dot(x, dy, y) }, reference(t, op(ir.KindDot), []int{}, rowMajor(x, 4*all), rowMajor(dy, 4*all))},
		{"mean square", 1, func(p *Pool, y []float32) { p.MeanSquare(x, dy, y) }, reference(t, op(ir.KindMeanSquare), []int{}, rowMajor(x, 4*all), rowMajor(dy, 4*all))},
		{"mean square gradient", all, func(p *Pool, y []float32) { p.MeanSquareGrad(x, dy, eps(0.75), y) },
			reference(t, op(ir.KindMeanSquareGrad), []int{all}, rowMajor(x[:all], all), rowMajor(dy[:all], all), array{[]int{}, []float64{0.75}})},
		{"sample error", n, func(p *Pool, y []float32) { p.SampleError(n, hw*c, 1, x, dy, y) }, sampleErrors(n, hw*c, 1, x, dy)},
		{"squared sample error", n, func(p *Pool, y []float32) { p.SampleError(n, hw*c, 2, x, dy, y) }, sampleErrors(n, hw*c, 2, x, dy)},
		{"sample error gradient", all, func(p *Pool, y []float32) { p.SampleErrorGrad(n, hw*c, 1, x, dy, s, y) }, sampleErrorGrads(n, hw*c, 1, x, dy, s)},
		{"squared sample error gradient", all, func(p *Pool, y []float32) { p.SampleErrorGrad(n, hw*c, 2, x, dy, s, y) }, sampleErrorGrads(n, hw*c, 2, x, dy, s)},
	}
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, k := range cases {
			t.Run(k.name, func(t *testing.T) {
				near(t, same(t, ps, k.n, k.f, x, dy, s), k.want, 1e-6)
			})
		}
		t.Run("bounds of log-variances", func(t *testing.T) {
			y := same(t, ps, 6, func(p *Pool, y []float32) {
				p.GaussianSampleGrad(1, 3, []float32{0, 0, 0, -31, 21, 0}, []float32{1, 1, 2}, []float32{3, 4, 5}, y)
			})
			identical(t, "gradient", y, []float32{3, 4, 5, 0, 0, 5})
		})
		t.Run("ids", func(t *testing.T) {
			if err := ps[0].EmbedGrad([]float32{6}, c, dy, make([]float32, 6*c)); err == nil {
				t.Error("an id outside the table was accepted")
			}
		})
		t.Run("first of equal maxima, and NaN", func(t *testing.T) {
			in := []float32{1, 1, 1, 1, float32(math.NaN()), 9, 1, float32(math.NaN())}
			y := same(t, ps, 8, func(p *Pool, y []float32) {
				p.MaxPoolGrad(WindowShape{N: 2, H: 2, W: 2, C: 1, OutH: 1, OutW: 1, Kernel: 2, Stride: 2}, in, []float32{2, 3}, y)
			})
			identical(t, "gradient", y, []float32{2, 0, 0, 0, 3, 0, 0, 0})
		})
	})
}

// s4 is another part of x of n elements.
func s4(x []float32, n int) []float32 { return x[n : 2*n] }

func sampleErrors(n, size, power int, x, target []float32) []float64 {
	y := make([]float64, n)
	for i := range n * size {
		y[i/size] += math.Pow(math.Abs(float64(x[i])-float64(target[i])), float64(power)) / float64(size)
	}
	return y
}

func sampleErrorGrads(n, size, power int, x, target, dy []float32) []float64 {
	y := make([]float64, n*size)
	for i := range y {
		d := float64(x[i]) - float64(target[i])
		if power == 1 {
			d = math.Copysign(0.5, d)
		}
		y[i] = 2 * d * float64(dy[i/size]) / float64(size)
	}
	return y
}

// TestAdamW follows five steps in float64.
func TestAdamW(t *testing.T) {
	const n = 10007
	c := AdamConfig{Rate: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 0.01, EMA: 0.99}
	start := random(t, 1, n, 1)
	var grads [][]float32
	w, m, v, e := rowMajor(start, n).data, make([]float64, n), make([]float64, n), rowMajor(start, n).data
	for step := 1; step <= 5; step++ {
		g := random(t, uint64(10+step), n, 0.1)
		grads = append(grads, g)
		for i := range w {
			d := float64(g[i])
			m[i] = c.Beta1*m[i] + (1-c.Beta1)*d
			v[i] = c.Beta2*v[i] + (1-c.Beta2)*d*d
			mean, square := m[i]/(1-math.Pow(c.Beta1, float64(step))), v[i]/(1-math.Pow(c.Beta2, float64(step)))
			w[i] = w[i]*(1-c.Rate*c.Decay) - c.Rate*mean/(math.Sqrt(square)+c.Eps)
			e[i] = c.EMA*e[i] + (1-c.EMA)*w[i]
		}
	}
	eachISA(t, func(t *testing.T, ps []*Pool) {
		run := func(p *Pool, y []float32, average bool) {
			clear(y)
			copy(y, start)
			var ema []float32
			if average {
				ema = y[3*n:]
				copy(ema, start)
			}
			for i, g := range grads {
				c := c
				c.Step = i + 1
				p.AdamW(c, y[:n], g, y[n:2*n], y[2*n:3*n], ema)
			}
		}
		y := same(t, ps, 4*n, func(p *Pool, y []float32) { run(p, y, true) }, grads...)
		for i, want := range [][]float64{w, m, v, e} {
			near(t, y[i*n:][:n], want, 3e-7)
		}
		plain := same(t, ps, 4*n, func(p *Pool, y []float32) { run(p, y, false) })
		identical(t, "without average", plain[:3*n], y[:3*n])
		if !slices.Equal(plain[3*n:], make([]float32, n)) {
			t.Error("an average was written")
		}
	})
}
