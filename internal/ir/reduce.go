package ir

import (
	"fmt"
	"math"
)

const (
	KindSum       Kind = "sum"        // x; Ints: leading dimensions that are kept, 0 or 1
	KindFill      Kind = "fill"       // dy scalar or (N); Ints: rank, dimensions
	KindNormRatio Kind = "norm_ratio" // a, b: scalar; Eps, Scale: limit
)

// Keep returns the number of leading dimensions that a sum keeps.
func (o Op) Keep() int { return o.Ints[0] }

// Sum is the scalar sum of all elements of x.
func Sum(x *Tensor) *Tensor { return apply(Op{Kind: KindSum}, x) }

// Mean is the scalar mean of all elements of x.
func Mean(x *Tensor) *Tensor { return Scale(Sum(x), 1/float64(volume(x.shape))) }

// SampleSum is the sum (N) over each sample of x (N,...).
func SampleSum(x *Tensor) *Tensor { return apply(Op{Kind: KindSum, Ints: ints(1)}, x) }

// NormRatio is the scalar min(|a|/(|b|+eps), limit) of the Euclidean norms of two tensors. No gradient flows through it.
func NormRatio(a, b *Tensor, eps, limit float64) *Tensor {
	return apply(Op{Kind: KindNormRatio, Eps: eps, Scale: limit}, a, b)
}

func init() {
	register(KindSum, rule{
		min: 1, max: 1,
		shape: func(op Op, in [][]int) ([]int, error) {
			if op.Keep() > len(in[0]) {
				return nil, fmt.Errorf("x is a scalar, want (N,...)")
			}
			return append([]int{}, in[0][:op.Keep()]...), nil
		},
		grad: func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
			return []*Tensor{apply(Op{Kind: KindFill, Ints: ints(append([]int{len(in[0].shape)}, in[0].shape...)...)}, dy)}
		},
		run: func(c *call) error {
			each := len(c.in[0]) / len(c.y)
			for i := range c.y {
				c.y[i] = sum(c.in[0][i*each : (i+1)*each])
			}
			return nil
		},
	})
	register(KindFill, rule{
		class: Backward, min: 1, max: 1,
		shape: func(op Op, _ [][]int) ([]int, error) { return append([]int{}, op.Ints[1:1+op.Ints[0]]...), nil },
		run: func(c *call) error {
			each := len(c.y) / len(c.in[0])
			for i := range c.y {
				c.y[i] = c.in[0][i/each]
			}
			return nil
		},
	})
	register(KindNormRatio, rule{
		class: InferenceOnly, min: 2, max: 2,
		shape: func(op Op, _ [][]int) ([]int, error) {
			if !(op.Eps > 0) || !(op.Scale > 0) {
				return nil, fmt.Errorf("eps %v and limit %v must be positive", op.Eps, op.Scale)
			}
			return []int{}, nil
		},
		run: func(c *call) error {
			a, b := c.in[0], c.in[1]
			c.y[0] = min(math.Sqrt(dot(a, a))/(math.Sqrt(dot(b, b))+c.op.Eps), c.op.Scale)
			return nil
		},
	})
}
