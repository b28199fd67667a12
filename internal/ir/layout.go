package ir

import "fmt"

const (
	KindConcat        Kind = "concat"         // two or more images
	KindSliceChannels Kind = "slice_channels" // x (N,C,H,W); Ints: from, to
	KindPadChannels   Kind = "pad_channels"   // dy; Ints: from, channels of the result
	KindSliceLast     Kind = "slice_last"     // x (...,C); Ints: from, to
	KindPadLast       Kind = "pad_last"       // dy; Ints: from, channels of the result
	KindPick          Kind = "pick"           // x (L); Ints: offset, rank, dimensions
	KindUpsample2     Kind = "upsample2"      // x (N,C,H,W)
	KindAvgPool2      Kind = "avg_pool2"      // x (N,C,H,W)
	KindTokens        Kind = "tokens"         // x (N,C,H,W)
	KindUntokens      Kind = "untokens"       // x (N,T,C); Ints: h, w
)

// Range returns the channels [from, to) that a slice takes.
func (o Op) Range() (from, to int) { return o.Ints[0], o.Ints[1] }

// Offset returns where a padding or a pick puts or finds its first element.
func (o Op) Offset() int { return o.Ints[0] }

// Size returns the height and width of the images that an untokens makes.
func (o Op) Size() (h, w int) { return o.Ints[0], o.Ints[1] }

// Concat joins two or more images (N,Ci,H,W) along the channels, in order.
func Concat(xs ...*Tensor) *Tensor { return apply(Op{Kind: KindConcat}, xs...) }

// SliceChannels is x[:, from:to] of images x (N,C,H,W).
func SliceChannels(x *Tensor, from, to int) *Tensor {
	return apply(Op{Kind: KindSliceChannels, Ints: ints(from, to)}, x)
}

// SliceLast is x[..., from:to] of x (C), (M,C) or (N,T,C).
func SliceLast(x *Tensor, from, to int) *Tensor {
	return apply(Op{Kind: KindSliceLast, Ints: ints(from, to)}, x)
}

// Upsample2 doubles height and width of x (N,C,H,W) by repeating each pixel (nearest neighbour).
func Upsample2(x *Tensor) *Tensor { return apply(Op{Kind: KindUpsample2}, x) }

// AvgPool2 averages blocks of 2x2 pixels of x (N,C,H,W), whose height and width must be even.
func AvgPool2(x *Tensor) *Tensor { return apply(Op{Kind: KindAvgPool2}, x) }

// Tokens turns images (N,C,H,W) into rows (N,H*W,C), pixels in row-major order.
func Tokens(x *Tensor) *Tensor { return apply(Op{Kind: KindTokens}, x) }

// Untokens turns rows (N,h*w,C) back into images (N,C,h,w).
func Untokens(x *Tensor, h, w int) *Tensor {
	return apply(Op{Kind: KindUntokens, Ints: ints(h, w)}, x)
}

// pick is the part of a vector that begins at offset, in a new shape. Gradients that one kernel computes together are packed
// in a vector and picked; executors can make it a view.
func pick(x *Tensor, offset int, shape ...int) *Tensor {
	return apply(Op{Kind: KindPick, Ints: ints(append([]int{offset, len(shape)}, shape...)...)}, x)
}

func init() {
	register(KindConcat, rule{
		min: 2, max: -1,
		shape: func(_ Op, in [][]int) ([]int, error) {
			c := 0
			for i, x := range in {
				name := fmt.Sprintf("input %d", i)
				if err := wantRank(name, x, "4 (NCHW)", 4); err != nil {
					return nil, err
				}
				if err := wantShape(name, x, in[0][0], x[1], in[0][2], in[0][3]); err != nil {
					return nil, err
				}
				c += x[1]
			}
			return []int{in[0][0], c, in[0][2], in[0][3]}, nil
		},
		grad: func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
			g := make([]*Tensor, len(in))
			from := 0
			for i, x := range in {
				g[i] = SliceChannels(dy, from, from+x.shape[1])
				from += x.shape[1]
			}
			return g
		},
		run: func(c *call) error {
			from := 0
			for i, x := range c.in {
				w := len(x) / c.out[0]
				copyColumns(c.y[from:], len(c.y)/c.out[0], x, w, w)
				from += volume(c.sh[i][1:])
			}
			return nil
		},
	})
	slice := func(k, pad Kind, axis func(x []int) int, layout string, ranks ...int) {
		register(k, rule{
			min: 1, max: 1,
			shape: func(op Op, in [][]int) ([]int, error) {
				if err := wantRank("x", in[0], layout, ranks...); err != nil {
					return nil, err
				}
				a := axis(in[0])
				from, to := op.Range()
				if from < 0 || from >= to || to > in[0][a] {
					return nil, fmt.Errorf("range [%d, %d) is not within the %d channels of x", from, to, in[0][a])
				}
				s, _ := sameAs(0)(op, in)
				s[a] = to - from
				return s, nil
			},
			grad: func(op Op, in []*Tensor, dy *Tensor) []*Tensor {
				return []*Tensor{apply(Op{Kind: pad, Ints: ints(op.Offset(), in[0].shape[axis(in[0].shape)])}, dy)}
			},
			run: func(c *call) error {
				a := axis(c.out)
				inner := volume(c.out[a+1:])
				copyColumns(c.y, c.out[a]*inner, c.in[0][c.op.Offset()*inner:], c.sh[0][a]*inner, c.out[a]*inner)
				return nil
			},
		})
		register(pad, rule{
			class: Backward, min: 1, max: 1,
			shape: func(op Op, in [][]int) ([]int, error) {
				s, _ := sameAs(0)(op, in)
				s[axis(s)] = op.Ints[1]
				return s, nil
			},
			run: func(c *call) error {
				a := axis(c.out)
				inner := volume(c.out[a+1:])
				w := c.sh[0][a] * inner
				copyColumns(c.y[c.op.Offset()*inner:], c.out[a]*inner, c.in[0], w, w)
				return nil
			},
		})
	}
	slice(KindSliceChannels, KindPadChannels, func([]int) int { return 1 }, "4 (NCHW)", 4)
	slice(KindSliceLast, KindPadLast, func(x []int) int { return len(x) - 1 }, "1 to 3 with channels last", 1, 2, 3)
	register(KindPick, rule{
		class: Backward, min: 1, max: 1,
		shape: func(op Op, in [][]int) ([]int, error) {
			return append([]int{}, op.Ints[2:2+op.Ints[1]]...), nil
		},
		run: func(c *call) error {
			copy(c.y, c.in[0][c.op.Offset():])
			return nil
		},
	})
	register(KindUpsample2, rule{
		min: 1, max: 1,
		shape: func(_ Op, in [][]int) ([]int, error) {
			if err := wantRank("x", in[0], "4 (NCHW)", 4); err != nil {
				return nil, err
			}
			return []int{in[0][0], in[0][1], 2 * in[0][2], 2 * in[0][3]}, nil
		},
		grad: func(_ Op, _ []*Tensor, dy *Tensor) []*Tensor { return []*Tensor{Scale(AvgPool2(dy), 4)} },
		run: func(c *call) error {
			w := c.out[3]
			for i := range c.y {
				c.y[i] = c.in[0][i/w/2*(w/2)+i%w/2]
			}
			return nil
		},
	})
	register(KindAvgPool2, rule{
		min: 1, max: 1,
		shape: func(_ Op, in [][]int) ([]int, error) {
			if err := wantRank("x", in[0], "4 (NCHW)", 4); err != nil {
				return nil, err
			}
			x := in[0]
			if x[2]%2 != 0 || x[3]%2 != 0 {
				return nil, fmt.Errorf("height %d and width %d must be even", x[2], x[3])
			}
			return []int{x[0], x[1], x[2] / 2, x[3] / 2}, nil
		},
		grad: func(_ Op, _ []*Tensor, dy *Tensor) []*Tensor { return []*Tensor{Scale(Upsample2(dy), 0.25)} },
		run: func(c *call) error {
			x, w := c.in[0], c.out[3]
			for i := range c.y {
				at := i/w*4*w + i%w*2
				c.y[i] = (x[at] + x[at+1] + x[at+2*w] + x[at+2*w+1]) / 4
			}
			return nil
		},
	})
	register(KindTokens, rule{
		min: 1, max: 1,
		shape: func(_ Op, in [][]int) ([]int, error) {
			if err := wantRank("x", in[0], "4 (NCHW)", 4); err != nil {
				return nil, err
			}
			return []int{in[0][0], in[0][2] * in[0][3], in[0][1]}, nil
		},
		grad: func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
			return []*Tensor{Untokens(dy, in[0].shape[2], in[0].shape[3])}
		},
		run: func(c *call) error {
			transpose(c.y, c.in[0], c.out[0], c.out[2], c.out[1])
			return nil
		},
	})
	register(KindUntokens, rule{
		min: 1, max: 1,
		shape: func(op Op, in [][]int) ([]int, error) {
			if err := wantRank("x", in[0], "3 (N,T,C)", 3); err != nil {
				return nil, err
			}
			h, w := op.Size()
			if h < 1 || w < 1 || h*w != in[0][1] {
				return nil, fmt.Errorf("%d tokens do not make a %dx%d image", in[0][1], h, w)
			}
			return []int{in[0][0], in[0][2], h, w}, nil
		},
		grad: func(_ Op, _ []*Tensor, dy *Tensor) []*Tensor { return []*Tensor{Tokens(dy)} },
		run: func(c *call) error {
			transpose(c.y, c.in[0], c.out[0], c.sh[0][1], c.sh[0][2])
			return nil
		},
	})
}

// copyColumns copies the first width floats of every row of x, rows being ldx apart, to rows of y that are ldy apart.
func copyColumns(y []float64, ldy int, x []float64, ldx, width int) {
	for from, to := 0, 0; from < len(x) && to < len(y); from, to = from+ldx, to+ldy {
		copy(y[to:], x[from:from+width])
	}
}

// transpose turns n matrices of rows x cols into cols x rows.
func transpose(y, x []float64, n, rows, cols int) {
	size := rows * cols
	for i, v := range x {
		k, r, c := i/size, i%size/cols, i%cols
		y[k*size+c*rows+r] = v
	}
}
