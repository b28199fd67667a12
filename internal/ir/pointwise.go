package ir

import (
	"fmt"
	"math"
)

const (
	KindSiLU          Kind = "silu"            // x
	KindSiLUGrad      Kind = "silu_grad"       // x, dy
	KindGELU          Kind = "gelu"            // x
	KindGELUGrad      Kind = "gelu_grad"       // x, dy
	KindGEGLU         Kind = "geglu"           // x (...,2C)
	KindGEGLUGrad     Kind = "geglu_grad"      // x, dy
	KindScale         Kind = "scale"           // x
	KindAdd           Kind = "add"             // two or more of one shape
	KindAddChannels   Kind = "add_channels"    // x, t
	KindPixelSum      Kind = "pixel_sum"       // dy (N,C,H,W): (N,C)
	KindModulate      Kind = "modulate"        // x, s
	KindModulateGradX Kind = "modulate_grad_x" // s, dy
	KindModulateGradS Kind = "modulate_grad_s" // x, dy
	KindAddRows       Kind = "add_rows"        // x, p
	KindBatchSum      Kind = "batch_sum"       // dy (N,T,C): (T,C)
)

// SiLU is x*sigmoid(x), on any shape.
func SiLU(x *Tensor) *Tensor { return apply(Op{Kind: KindSiLU}, x) }

// GELU is x*Phi(x) with the normal distribution function Phi, computed by erf and not by the tanh approximation.
func GELU(x *Tensor) *Tensor { return apply(Op{Kind: KindGELU}, x) }

// GEGLU halves the last dimension of x (M,2C) or (N,T,2C): the first half, the value, is multiplied by the GELU of the
// second half, the gate.
func GEGLU(x *Tensor) *Tensor { return apply(Op{Kind: KindGEGLU}, x) }

// Scale is a*x, on any shape.
func Scale(x *Tensor, a float64) *Tensor { return apply(Op{Kind: KindScale, Scale: a}, x) }

// Add is the element-wise sum of two or more tensors of one shape, taken from left to right.
func Add(a, b *Tensor, more ...*Tensor) *Tensor {
	return apply(Op{Kind: KindAdd}, append([]*Tensor{a, b}, more...)...)
}

// AddChannels adds t (N,C) to every pixel of x (N,C,H,W).
func AddChannels(x, t *Tensor) *Tensor { return apply(Op{Kind: KindAddChannels}, x, t) }

// Modulate is x*(1+scale)+shift for x (N,C,H,W), scale and shift the first and second half of the channels of s (N,2C).
func Modulate(x, s *Tensor) *Tensor { return apply(Op{Kind: KindModulate}, x, s) }

// AddRows adds the position table p (T,C) to every sample of x (N,T,C).
func AddRows(x, p *Tensor) *Tensor { return apply(Op{Kind: KindAddRows}, x, p) }

func init() {
	elementwise(KindSiLU, KindSiLUGrad, plain(silu), plain(siluSlope))
	elementwise(KindGELU, KindGELUGrad, plain(gelu), plain(geluSlope))

	register(KindGEGLU, rule{
		min: 1, max: 1,
		shape: func(_ Op, in [][]int) ([]int, error) {
			if err := wantRank("x", in[0], "2 or 3 with channels last", 2, 3); err != nil {
				return nil, err
			}
			if last(in[0])%2 != 0 {
				return nil, fmt.Errorf("%d channels do not divide into value and gate", last(in[0]))
			}
			return withLast(in[0], last(in[0])/2), nil
		},
		grad: func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
			return []*Tensor{apply(Op{Kind: KindGEGLUGrad}, in[0], dy)}
		},
		run: func(c *call) error {
			w := last(c.out)
			for i := range c.y {
				at := i/w*2*w + i%w
				c.y[i] = c.in[0][at] * gelu(c.in[0][at+w])
			}
			return nil
		},
	})
	register(KindGEGLUGrad, rule{
		class: Backward, min: 2, max: 2, shape: sameAs(0),
		run: func(c *call) error {
			x, w := c.in[0], last(c.sh[1])
			for i, d := range c.in[1] {
				at := i/w*2*w + i%w
				c.y[at] = d * gelu(x[at+w])
				c.y[at+w] = d * x[at] * geluSlope(x[at+w])
			}
			return nil
		},
	})
	register(KindScale, rule{
		min: 1, max: 1, shape: sameAs(0),
		grad: func(op Op, _ []*Tensor, dy *Tensor) []*Tensor { return []*Tensor{Scale(dy, op.Scale)} },
		run: func(c *call) error {
			axpy(c.y, c.op.Scale, c.in[0])
			return nil
		},
	})
	register(KindAdd, rule{
		min: 2, max: -1,
		shape: func(op Op, in [][]int) ([]int, error) {
			for i, s := range in {
				if err := wantShape(fmt.Sprintf("input %d", i), s, in[0]...); err != nil {
					return nil, err
				}
			}
			return sameAs(0)(op, in)
		},
		grad: func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
			g := make([]*Tensor, len(in))
			for i := range g {
				g[i] = dy
			}
			return g
		},
		run: func(c *call) error {
			for _, x := range c.in {
				axpy(c.y, 1, x)
				if c.single { // sums of float32 values round at every step
					for i, v := range c.y {
						c.y[i] = float64(float32(v))
					}
				}
			}
			return nil
		},
	})
	register(KindAddChannels, rule{
		min: 2, max: 2,
		shape: func(op Op, in [][]int) ([]int, error) {
			if err := wantRank("x", in[0], "4 (NCHW)", 4); err != nil {
				return nil, err
			}
			if err := wantShape("t", in[1], in[0][0], in[0][1]); err != nil {
				return nil, err
			}
			return sameAs(0)(op, in)
		},
		grad: func(_ Op, _ []*Tensor, dy *Tensor) []*Tensor {
			return []*Tensor{dy, apply(Op{Kind: KindPixelSum}, dy)}
		},
		run: func(c *call) error {
			hw := len(c.y) / len(c.in[1])
			for i, v := range c.in[0] {
				c.y[i] = v + c.in[1][i/hw]
			}
			return nil
		},
	})
	register(KindPixelSum, rule{
		class: Backward, min: 1, max: 1,
		shape: func(_ Op, in [][]int) ([]int, error) { return []int{in[0][0], in[0][1]}, nil },
		run: func(c *call) error {
			hw := len(c.in[0]) / len(c.y)
			for i := range c.y {
				c.y[i] = sum(c.in[0][i*hw : (i+1)*hw])
			}
			return nil
		},
	})
	register(KindModulate, rule{
		min: 2, max: 2,
		shape: func(op Op, in [][]int) ([]int, error) {
			if err := wantRank("x", in[0], "4 (NCHW)", 4); err != nil {
				return nil, err
			}
			if err := wantShape("s", in[1], in[0][0], 2*in[0][1]); err != nil {
				return nil, err
			}
			return sameAs(0)(op, in)
		},
		grad: func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
			return []*Tensor{apply(Op{Kind: KindModulateGradX}, in[1], dy), apply(Op{Kind: KindModulateGradS}, in[0], dy)}
		},
		run: func(c *call) error {
			m := modulationOf(c.out)
			for i, v := range c.in[0] {
				at := m.at(i)
				c.y[i] = v*(1+c.in[1][at]) + c.in[1][at+m.c]
			}
			return nil
		},
	})
	register(KindModulateGradX, rule{
		class: Backward, min: 2, max: 2, shape: sameAs(1),
		run: func(c *call) error {
			m := modulationOf(c.out)
			for i, d := range c.in[1] {
				c.y[i] = d * (1 + c.in[0][m.at(i)])
			}
			return nil
		},
	})
	register(KindModulateGradS, rule{
		class: Backward, min: 2, max: 2,
		shape: func(_ Op, in [][]int) ([]int, error) { return []int{in[0][0], 2 * in[0][1]}, nil },
		run: func(c *call) error {
			m := modulationOf(c.sh[0])
			for i, d := range c.in[1] {
				c.y[m.at(i)] += d * c.in[0][i]
				c.y[m.at(i)+m.c] += d
			}
			return nil
		},
	})
	register(KindAddRows, rule{
		min: 2, max: 2,
		shape: func(op Op, in [][]int) ([]int, error) {
			if err := wantRank("x", in[0], "3 (N,T,C)", 3); err != nil {
				return nil, err
			}
			if err := wantShape("p", in[1], in[0][1], in[0][2]); err != nil {
				return nil, err
			}
			return sameAs(0)(op, in)
		},
		grad: func(_ Op, _ []*Tensor, dy *Tensor) []*Tensor {
			return []*Tensor{dy, apply(Op{Kind: KindBatchSum}, dy)}
		},
		run: func(c *call) error {
			for i, v := range c.in[0] {
				c.y[i] = v + c.in[1][i%len(c.in[1])]
			}
			return nil
		},
	})
	register(KindBatchSum, rule{
		class: Backward, min: 1, max: 1,
		shape: func(_ Op, in [][]int) ([]int, error) { return []int{in[0][1], in[0][2]}, nil },
		run: func(c *call) error {
			for i, d := range c.in[0] {
				c.y[i%len(c.y)] += d
			}
			return nil
		},
	})
}

// modulation finds the scale of an element of x (N,C,H,W) in s (N,2C); the shift is c further on.
type modulation struct{ c, hw int }

func modulationOf(x []int) modulation { return modulation{c: x[1], hw: x[2] * x[3]} }
func (m modulation) at(i int) int     { nc := i / m.hw; return nc/m.c*2*m.c + nc%m.c }
func sigmoid(x float64) float64       { return 1 / (1 + math.Exp(-x)) }
func silu(x float64) float64          { return x * sigmoid(x) }
func siluSlope(x float64) float64     { s := sigmoid(x); return s * (1 + x*(1-s)) }
func normalCDF(x float64) float64     { return 0.5 * math.Erfc(-x/math.Sqrt2) }
func gelu(x float64) float64          { return x * normalCDF(x) }
func geluSlope(x float64) float64 {
	return normalCDF(x) + x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi)
}
