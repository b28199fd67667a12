package ir

import "fmt"

const (
	KindConv2D           Kind = "conv2d"             // x, w[, b]
	KindConv2DGradInput  Kind = "conv2d_grad_input"  // w, dy
	KindConv2DGradWeight Kind = "conv2d_grad_weight" // x, dy
	KindChannelSum       Kind = "channel_sum"        // dy (N,C,H,W): (C)
)

// Conv are the attributes of a convolution: the stride of both axes and the zero padding of each side, in pixels.
type Conv struct {
	Stride                   int
	Top, Left, Bottom, Right int
}

// Same returns the attributes of a stride 1 convolution with an odd kernel that keeps the image size.
func Same(kernel int) Conv {
	p := kernel / 2
	return Conv{Stride: 1, Top: p, Left: p, Bottom: p, Right: p}
}

// Conv returns the attributes of a conv2d or of one of its gradients.
func (o Op) Conv() Conv {
	return Conv{Stride: o.Ints[0], Top: o.Ints[1], Left: o.Ints[2], Bottom: o.Ints[3], Right: o.Ints[4]}
}

func convOp(k Kind, o Conv, sizes ...int) Op {
	return Op{Kind: k, Ints: ints(append([]int{o.Stride, o.Top, o.Left, o.Bottom, o.Right}, sizes...)...)}
}

// Conv2D is the cross-correlation of images x (N,C,H,W) with the kernel w (O,C,KH,KW), plus the bias b (O) unless it is nil.
// The result is (N,O,(H+Top+Bottom-KH)/Stride+1,(W+Left+Right-KW)/Stride+1), rounded down.
func Conv2D(x, w, b *Tensor, o Conv) *Tensor {
	if b == nil {
		return apply(convOp(KindConv2D, o), x, w)
	}
	return apply(convOp(KindConv2D, o), x, w, b)
}

func init() {
	register(KindConv2D, rule{
		min: 2, max: 3,
		shape: func(op Op, in [][]int) ([]int, error) {
			x, w, o := in[0], in[1], op.Conv()
			if err := wantRank("x", x, "4 (NCHW)", 4); err != nil {
				return nil, err
			}
			if err := wantRank("w", w, "4 (OIHW)", 4); err != nil {
				return nil, err
			}
			if x[1] != w[1] {
				return nil, fmt.Errorf("w takes %d channels, x has %d", w[1], x[1])
			}
			if o.Stride < 1 || min(o.Top, o.Left, o.Bottom, o.Right) < 0 {
				return nil, fmt.Errorf("bad attributes %+v", o)
			}
			if len(in) == 3 {
				if err := wantShape("b", in[2], w[0]); err != nil {
					return nil, err
				}
			}
			h, wd := x[2]+o.Top+o.Bottom-w[2], x[3]+o.Left+o.Right-w[3]
			if h < 0 || wd < 0 {
				return nil, fmt.Errorf("padded x is smaller than the %dx%d kernel", w[2], w[3])
			}
			return []int{x[0], w[0], h/o.Stride + 1, wd/o.Stride + 1}, nil
		},
		grad: func(op Op, in []*Tensor, dy *Tensor) []*Tensor {
			x, w := in[0], in[1]
			g := []*Tensor{
				apply(convOp(KindConv2DGradInput, op.Conv(), x.shape[2], x.shape[3]), w, dy),
				apply(convOp(KindConv2DGradWeight, op.Conv(), w.shape[2], w.shape[3]), x, dy),
			}
			if len(in) == 3 {
				g = append(g, apply(Op{Kind: KindChannelSum}, dy))
			}
			return g
		},
		run: conv2D,
	})
	register(KindConv2DGradInput, rule{
		class: Backward, min: 2, max: 2,
		shape: func(op Op, in [][]int) ([]int, error) {
			return []int{in[1][0], in[0][1], op.Ints[5], op.Ints[6]}, nil
		},
		run: conv2DGradInput,
	})
	register(KindConv2DGradWeight, rule{
		class: Backward, min: 2, max: 2,
		shape: func(op Op, in [][]int) ([]int, error) {
			return []int{in[1][1], in[0][1], op.Ints[5], op.Ints[6]}, nil
		},
		run: conv2DGradWeight,
	})
	register(KindChannelSum, rule{
		class: Backward, min: 1, max: 1,
		shape: func(_ Op, in [][]int) ([]int, error) { return []int{in[0][1]}, nil },
		run: func(c *call) error {
			n, ch := c.sh[0][0], c.sh[0][1]
			hw := len(c.in[0]) / (n * ch)
			for i := range n * ch {
				c.y[i%ch] += sum(c.in[0][i*hw : (i+1)*hw])
			}
			return nil
		},
	})
}

// taps says how one axis of an output maps to an input for kernel tap k: outputs lo <= i < hi read input i*stride+shift.
type taps struct{ lo, hi, shift int }

func tapsOf(k, pad, stride, in, out int) taps {
	shift := k - pad
	lo := 0
	if shift < 0 {
		lo = (-shift + stride - 1) / stride
	}
	hi := 0
	if in > shift {
		hi = min(out, (in-1-shift)/stride+1)
	}
	return taps{lo, max(lo, hi), shift}
}

// axis lists the taps of a whole kernel axis.
func axis(kernel, pad, stride, in, out int) []taps {
	list := make([]taps, kernel)
	for k := range list {
		list[k] = tapsOf(k, pad, stride, in, out)
	}
	return list
}

// geometry is a convolution with x (N,C,H,W), w (O,C,KH,KW) and y (N,O,OH,OW).
type geometry struct {
	n, c, h, w, o, kh, kw, oh, ow int
	stride                        int
	rows, cols                    []taps
}

func geometryOf(op Op, x, w, y []int) geometry {
	o := op.Conv()
	return geometry{
		n: x[0], c: x[1], h: x[2], w: x[3], o: w[0], kh: w[2], kw: w[3], oh: y[2], ow: y[3], stride: o.Stride,
		rows: axis(w[2], o.Top, o.Stride, x[2], y[2]), cols: axis(w[3], o.Left, o.Stride, x[3], y[3]),
	}
}

// each calls f with the rows of one x plane and one y plane that tap (u, v) connects: element i*stride of the x slice goes
// with element i of the y slice.
func (g geometry) each(u, v int, x, y []float64, f func(x, y []float64)) {
	r, c := g.rows[u], g.cols[v]
	if c.lo >= c.hi {
		return
	}
	first, last := c.lo*g.stride+c.shift, (c.hi-1)*g.stride+c.shift
	for i := r.lo; i < r.hi; i++ {
		at := (i*g.stride + r.shift) * g.w
		f(x[at+first:at+last+1], y[i*g.ow+c.lo:i*g.ow+c.hi])
	}
}

func conv2D(c *call) error {
	g := geometryOf(c.op, c.sh[0], c.sh[1], c.out)
	x, w, area := c.in[0], c.in[1], g.oh*g.ow
	parallel(g.n*g.o, func(no int) {
		n, o := no/g.o, no%g.o
		y := c.y[no*area : (no+1)*area]
		if len(c.in) == 3 {
			for i := range y {
				y[i] = c.in[2][o]
			}
		}
		for ch := range g.c {
			plane := x[(n*g.c+ch)*g.h*g.w:][:g.h*g.w]
			kernel := w[(o*g.c+ch)*g.kh*g.kw:]
			for u := range g.kh {
				for v := range g.kw {
					a := kernel[u*g.kw+v]
					g.each(u, v, plane, y, func(x, y []float64) {
						if g.stride == 1 {
							axpy(y, a, x)
							return
						}
						for i := range y {
							y[i] += a * x[i*g.stride]
						}
					})
				}
			}
		}
	})
	return nil
}

func conv2DGradInput(c *call) error {
	g := geometryOf(c.op, c.out, c.sh[0], c.sh[1])
	w, dy, area := c.in[0], c.in[1], g.oh*g.ow
	parallel(g.n*g.c, func(nc int) {
		n, ch := nc/g.c, nc%g.c
		dx := c.y[nc*g.h*g.w : (nc+1)*g.h*g.w]
		for o := range g.o {
			plane := dy[(n*g.o+o)*area:][:area]
			kernel := w[(o*g.c+ch)*g.kh*g.kw:]
			for u := range g.kh {
				for v := range g.kw {
					a := kernel[u*g.kw+v]
					g.each(u, v, dx, plane, func(dx, dy []float64) {
						if g.stride == 1 {
							axpy(dx, a, dy)
							return
						}
						for i, d := range dy {
							dx[i*g.stride] += a * d
						}
					})
				}
			}
		}
	})
	return nil
}

func conv2DGradWeight(c *call) error {
	g := geometryOf(c.op, c.sh[0], c.out, c.sh[1])
	x, dy, area := c.in[0], c.in[1], g.oh*g.ow
	parallel(g.o, func(o int) {
		for ch := range g.c {
			dw := c.y[(o*g.c+ch)*g.kh*g.kw:]
			for n := range g.n {
				plane := x[(n*g.c+ch)*g.h*g.w:][:g.h*g.w]
				for u := range g.kh {
					for v := range g.kw {
						g.each(u, v, plane, dy[(n*g.o+o)*area:][:area], func(x, dy []float64) {
							if g.stride == 1 {
								dw[u*g.kw+v] += dot(x, dy)
								return
							}
							for i, d := range dy {
								dw[u*g.kw+v] += d * x[i*g.stride]
							}
						})
					}
				}
			}
		}
	})
	return nil
}
