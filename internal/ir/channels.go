package ir

import "fmt"

const (
	KindShiftChannels Kind = "shift_channels" // x, b
	KindScaleChannels Kind = "scale_channels" // x, s
	KindChannelDot    Kind = "channel_dot"    // x, dy (N,C,H,W): (C)
)

// ShiftChannels adds b, (C) or (1,C,1,1), to the channels of x (N,C,H,W).
func ShiftChannels(x, b *Tensor) *Tensor { return apply(Op{Kind: KindShiftChannels}, x, b) }

// ScaleChannels multiplies the channels of x (N,C,H,W) by s, (C) or (1,C,1,1).
func ScaleChannels(x, s *Tensor) *Tensor { return apply(Op{Kind: KindScaleChannels}, x, s) }

func init() {
	perChannel := func(operand string, f func(x, v float64) float64) rule {
		return rule{
			min: 2, max: 2,
			shape: func(op Op, in [][]int) ([]int, error) {
				if err := wantRank("x", in[0], "4 (NCHW)", 4); err != nil {
					return nil, err
				}
				if err := wantRank(operand, in[1], "1 (C) or 4 (1,C,1,1)", 1, 4); err != nil {
					return nil, err
				}
				want := []int{in[0][1]}
				if len(in[1]) == 4 {
					want = []int{1, in[0][1], 1, 1}
				}
				if err := wantShape(operand, in[1], want...); err != nil {
					return nil, err
				}
				return sameAs(0)(op, in)
			},
			run: func(c *call) error {
				hw := c.out[2] * c.out[3]
				for i, v := range c.in[0] {
					c.y[i] = f(v, c.in[1][i/hw%c.out[1]])
				}
				return nil
			},
		}
	}
	shift := perChannel("b", func(x, v float64) float64 { return x + v })
	shift.grad = func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
		return []*Tensor{dy, pick(apply(Op{Kind: KindChannelSum}, dy), 0, in[1].shape...)}
	}
	register(KindShiftChannels, shift)
	scale := perChannel("s", func(x, v float64) float64 { return x * v })
	scale.grad = func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
		return []*Tensor{ScaleChannels(dy, in[1]), pick(apply(Op{Kind: KindChannelDot}, in[0], dy), 0, in[1].shape...)}
	}
	register(KindScaleChannels, scale)
	register(KindChannelDot, rule{
		class: Backward, min: 2, max: 2,
		shape: func(_ Op, in [][]int) ([]int, error) { return []int{in[0][1]}, wantShape("dy", in[1], in[0]...) },
		run: func(c *call) error {
			x, dy := c.in[0], c.in[1]
			hw := c.sh[0][2] * c.sh[0][3]
			for i := range len(x) / hw {
				c.y[i%len(c.y)] += dot(x[i*hw:(i+1)*hw], dy[i*hw:])
			}
			return nil
		},
	})
}

// wantChannels checks a vector with one value for each channel of x (N,C,H,W).
func wantChannels(operand string, v, x []int) error {
	if len(x) != 4 {
		return fmt.Errorf("x has rank %d, want 4 (NCHW)", len(x))
	}
	return wantShape(operand, v, x[1])
}
