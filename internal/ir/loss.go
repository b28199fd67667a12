package ir

const (
	KindDot            Kind = "dot"              // a, b: scalar
	KindScaleBy        Kind = "scale_by"         // x, s scalar
	KindMeanSquare     Kind = "mean_square"      // a, b: scalar
	KindMeanSquareGrad Kind = "mean_square_grad" // a, b, scalar
)

// Dot is the scalar sum of a*b for tensors of one shape.
func Dot(a, b *Tensor) *Tensor { return apply(Op{Kind: KindDot}, a, b) }

// ScaleBy is s*x for a scalar s, on any shape of x.
func ScaleBy(x, s *Tensor) *Tensor { return apply(Op{Kind: KindScaleBy}, x, s) }

// MeanSquare is the scalar mean of (a-b)^2 for tensors of one shape.
func MeanSquare(a, b *Tensor) *Tensor { return apply(Op{Kind: KindMeanSquare}, a, b) }

func init() {
	scalar := func(_ Op, in [][]int) ([]int, error) {
		return []int{}, wantShape("b", in[1], in[0]...)
	}
	register(KindDot, rule{
		min: 2, max: 2, shape: scalar,
		grad: func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
			return []*Tensor{ScaleBy(in[1], dy), ScaleBy(in[0], dy)}
		},
		run: func(c *call) error {
			c.y[0] = dot(c.in[0], c.in[1])
			return nil
		},
	})
	register(KindScaleBy, rule{
		min: 2, max: 2,
		shape: func(op Op, in [][]int) ([]int, error) {
			if err := wantShape("s", in[1]); err != nil {
				return nil, err
			}
			return sameAs(0)(op, in)
		},
		grad: func(_ Op, in []*Tensor, dy *Tensor) []*Tensor { return []*Tensor{ScaleBy(dy, in[1]), Dot(dy, in[0])} },
		run: func(c *call) error {
			axpy(c.y, c.in[1][0], c.in[0])
			return nil
		},
	})
	register(KindMeanSquare, rule{
		min: 2, max: 2, shape: scalar,
		grad: func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
			da := apply(Op{Kind: KindMeanSquareGrad}, in[0], in[1], dy)
			return []*Tensor{da, Scale(da, -1)}
		},
		run: func(c *call) error {
			for i, a := range c.in[0] {
				d := a - c.in[1][i]
				c.y[0] += d * d
			}
			c.y[0] /= float64(len(c.in[0]))
			return nil
		},
	})
	register(KindMeanSquareGrad, rule{
		class: Backward, min: 3, max: 3, shape: sameAs(0),
		run: func(c *call) error {
			f := 2 * c.in[2][0] / float64(len(c.y))
			for i, a := range c.in[0] {
				c.y[i] = f * (a - c.in[1][i])
			}
			return nil
		},
	})
}
