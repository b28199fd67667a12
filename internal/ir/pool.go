package ir

import (
	"fmt"
	"math"
)

const (
	KindReLU          Kind = "relu"            // x
	KindReLUGrad      Kind = "relu_grad"       // x, dy
	KindMaxPool       Kind = "max_pool"        // x (N,C,H,W); Ints: kernel, stride, padding
	KindMaxPoolGrad   Kind = "max_pool_grad"   // x, dy; Ints as max_pool
	KindAvgPool3      Kind = "avg_pool3"       // x (N,C,H,W)
	KindAvgPool3Grad  Kind = "avg_pool3_grad"  // dy
	KindPixelMean     Kind = "pixel_mean"      // x (N,C,H,W): (N,C)
	KindPixelMeanGrad Kind = "pixel_mean_grad" // dy (N,C); Ints: h, w
)

// Pool are the attributes of a pooling with a square window; the padding, on each side, is no part of the image.
type Pool struct{ Kernel, Stride, Pad int }

// Pool returns the attributes of a max_pool or of its gradient.
func (o Op) Pool() Pool { return Pool{o.Ints[0], o.Ints[1], o.Ints[2]} }

// ReLU is max(x, 0), on any shape.
func ReLU(x *Tensor) *Tensor { return apply(Op{Kind: KindReLU}, x) }

// MaxPool is the maximum of each window of x (N,C,H,W). The result is (N,C,(H+2Pad-Kernel)/Stride+1,(W+2Pad-Kernel)/Stride+1),
// rounded down.
func MaxPool(x *Tensor, p Pool) *Tensor {
	return apply(Op{Kind: KindMaxPool, Ints: ints(p.Kernel, p.Stride, p.Pad)}, x)
}

// AvgPool3 averages the 3x3 pixels around each pixel of x (N,C,H,W), of which those outside the image are left out: at a
// corner it is the mean of four.
func AvgPool3(x *Tensor) *Tensor { return apply(Op{Kind: KindAvgPool3}, x) }

// PixelMean is the mean (N,C) of all pixels of x (N,C,H,W).
func PixelMean(x *Tensor) *Tensor { return apply(Op{Kind: KindPixelMean}, x) }

func init() {
	register(KindReLU, rule{
		min: 1, max: 1, shape: sameAs(0),
		grad: func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
			return []*Tensor{apply(Op{Kind: KindReLUGrad}, in[0], dy)}
		},
		run: func(c *call) error {
			for i, v := range c.in[0] {
				if !(v < 0) { // NaN stays NaN
					c.y[i] = v
				}
			}
			return nil
		},
	})
	register(KindReLUGrad, rule{
		class: Backward, min: 2, max: 2, shape: sameAs(0),
		run: func(c *call) error {
			for i, v := range c.in[0] {
				if v > 0 {
					c.y[i] = c.in[1][i]
				}
			}
			return nil
		},
	})
	register(KindMaxPool, rule{
		min: 1, max: 1,
		shape: func(op Op, in [][]int) ([]int, error) {
			x, p := in[0], op.Pool()
			if err := wantRank("x", x, "4 (NCHW)", 4); err != nil {
				return nil, err
			}
			if p.Kernel < 1 || p.Stride < 1 || p.Pad < 0 || 2*p.Pad > p.Kernel { // else a window may lie outside
				return nil, fmt.Errorf("bad attributes %+v", p)
			}
			h, w := x[2]+2*p.Pad-p.Kernel, x[3]+2*p.Pad-p.Kernel
			if h < 0 || w < 0 {
				return nil, fmt.Errorf("padded x is smaller than the window of %d", p.Kernel)
			}
			return []int{x[0], x[1], h/p.Stride + 1, w/p.Stride + 1}, nil
		},
		grad: func(op Op, in []*Tensor, dy *Tensor) []*Tensor {
			op.Kind = KindMaxPoolGrad
			return []*Tensor{apply(op, in[0], dy)}
		},
		run: func(c *call) error {
			maxima(c.op.Pool(), c.sh[0], c.out, c.in[0], func(i, at int) { c.y[i] = c.in[0][at] })
			return nil
		},
	})
	register(KindMaxPoolGrad, rule{
		class: Backward, min: 2, max: 2, shape: sameAs(0),
		run: func(c *call) error {
			maxima(c.op.Pool(), c.sh[0], c.sh[1], c.in[0], func(i, at int) { c.y[at] += c.in[1][i] })
			return nil
		},
	})
	register(KindAvgPool3, rule{
		min: 1, max: 1,
		shape: func(op Op, in [][]int) ([]int, error) {
			if err := wantRank("x", in[0], "4 (NCHW)", 4); err != nil {
				return nil, err
			}
			return sameAs(0)(op, in)
		},
		grad: func(_ Op, _ []*Tensor, dy *Tensor) []*Tensor {
			return []*Tensor{apply(Op{Kind: KindAvgPool3Grad}, dy)}
		},
		run: func(c *call) error {
			windows(Pool{3, 1, 1}, c.out, c.out, func(i int, in []int) {
				for _, at := range in {
					c.y[i] += c.in[0][at]
				}
				c.y[i] /= float64(len(in))
			})
			return nil
		},
	})
	register(KindAvgPool3Grad, rule{
		class: Backward, min: 1, max: 1, shape: sameAs(0),
		run: func(c *call) error {
			windows(Pool{3, 1, 1}, c.out, c.out, func(i int, in []int) {
				for _, at := range in {
					c.y[at] += c.in[0][i] / float64(len(in))
				}
			})
			return nil
		},
	})
	register(KindPixelMean, rule{
		min: 1, max: 1,
		shape: func(_ Op, in [][]int) ([]int, error) {
			if err := wantRank("x", in[0], "4 (NCHW)", 4); err != nil {
				return nil, err
			}
			return []int{in[0][0], in[0][1]}, nil
		},
		grad: func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
			return []*Tensor{apply(Op{Kind: KindPixelMeanGrad, Ints: ints(in[0].shape[2], in[0].shape[3])}, dy)}
		},
		run: func(c *call) error {
			hw := len(c.in[0]) / len(c.y)
			for i := range c.y {
				c.y[i] = sum(c.in[0][i*hw:(i+1)*hw]) / float64(hw)
			}
			return nil
		},
	})
	register(KindPixelMeanGrad, rule{
		class: Backward, min: 1, max: 1,
		shape: func(op Op, in [][]int) ([]int, error) {
			h, w := op.Size()
			return []int{in[0][0], in[0][1], h, w}, nil
		},
		run: func(c *call) error {
			hw := len(c.y) / len(c.in[0])
			for i := range c.y {
				c.y[i] = c.in[0][i/hw] / float64(hw)
			}
			return nil
		},
	})
}

// windows calls f with the index of every element of y and the indices of the elements of x in its window, row by row. The
// list is only valid during the call.
func windows(p Pool, x, y []int, f func(i int, in []int)) {
	rows, cols := make([][2]int, y[2]), make([][2]int, y[3])
	clip := func(list [][2]int, size int) {
		for i := range list {
			from := i*p.Stride - p.Pad
			list[i] = [2]int{max(from, 0), min(from+p.Kernel, size)}
		}
	}
	clip(rows, x[2])
	clip(cols, x[3])
	list := make([]int, 0, p.Kernel*p.Kernel)
	for plane := range y[0] * y[1] {
		for oy, r := range rows {
			for ox, c := range cols {
				list = list[:0]
				for v := r[0]; v < r[1]; v++ {
					for u := c[0]; u < c[1]; u++ {
						list = append(list, (plane*x[2]+v)*x[3]+u)
					}
				}
				f((plane*y[2]+oy)*y[3]+ox, list)
			}
		}
	}
}

// maxima calls f with the index of every element of y and that of the first largest value of its window; NaN is larger than
// any number.
func maxima(p Pool, xs, ys []int, x []float64, f func(i, at int)) {
	windows(p, xs, ys, func(i int, in []int) {
		best := in[0]
		for _, at := range in[1:] {
			if x[at] > x[best] || math.IsNaN(x[at]) && !math.IsNaN(x[best]) {
				best = at
			}
		}
		f(i, best)
	})
}
