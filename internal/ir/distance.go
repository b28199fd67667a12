package ir

import (
	"fmt"
	"math"
)

const (
	KindUnitDistance     Kind = "unit_distance"      // a, b, w: (N,1); Eps
	KindUnitDistanceGrad Kind = "unit_distance_grad" // a, b, w, dy (N,1): gradient by a; Eps
)

// UnitDistance compares features a and b (N,C,H,W) whose channels are scaled to unit length at every pixel: the mean over the
// pixels of the sum over the channels of w*(a/(|a|+eps) - b/(|b|+eps))^2, (N,1), with weights w (1,C,1,1). It is one layer of the
// distance of Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018). No gradient flows to w.
func UnitDistance(a, b, w *Tensor, eps float64) *Tensor {
	return apply(Op{Kind: KindUnitDistance, Eps: eps}, a, b, w)
}

func init() {
	register(KindUnitDistance, rule{
		min: 3, max: 3, fixed: []int{2},
		shape: func(op Op, in [][]int) ([]int, error) {
			if err := wantRank("a", in[0], "4 (NCHW)", 4); err != nil {
				return nil, err
			}
			if err := wantShape("b", in[1], in[0]...); err != nil {
				return nil, err
			}
			if err := wantShape("w", in[2], 1, in[0][1], 1, 1); err != nil {
				return nil, err
			}
			if !(op.Eps > 0) {
				return nil, fmt.Errorf("eps %v is not positive", op.Eps)
			}
			return []int{in[0][0], 1}, nil
		},
		grad: func(op Op, in []*Tensor, dy *Tensor) []*Tensor {
			op.Kind = KindUnitDistanceGrad
			return []*Tensor{apply(op, in[0], in[1], in[2], dy), apply(op, in[1], in[0], in[2], dy), nil}
		},
		run: func(c *call) error {
			ch, hw := c.sh[0][1], c.sh[0][2]*c.sh[0][3]
			parallel(len(c.y), func(n int) {
				for p := range hw {
					at := n*ch*hw + p
					a, b := pixelNorm(c.in[0], at, ch, hw)+c.op.Eps, pixelNorm(c.in[1], at, ch, hw)+c.op.Eps
					for i, w := range c.in[2] {
						d := c.in[0][at+i*hw]/a - c.in[1][at+i*hw]/b
						c.y[n] += w * d * d / float64(hw)
					}
				}
			})
			return nil
		},
	})
	register(KindUnitDistanceGrad, rule{
		class: Backward, min: 4, max: 4, shape: sameAs(0),
		run: func(c *call) error {
			ch, hw := c.sh[0][1], c.sh[0][2]*c.sh[0][3]
			parallel(c.out[0], func(n int) {
				g := make([]float64, ch)
				for p := range hw {
					at := n*ch*hw + p
					norm, b := pixelNorm(c.in[0], at, ch, hw), pixelNorm(c.in[1], at, ch, hw)+c.op.Eps
					if norm == 0 {
						continue
					}
					a, along := norm+c.op.Eps, 0.0
					for i, w := range c.in[2] {
						x := c.in[0][at+i*hw]
						g[i] = 2 * w * (x/a - c.in[1][at+i*hw]/b) * c.in[3][n] / float64(hw)
						along += g[i] * x
					}
					for i := range g {
						c.y[at+i*hw] = g[i]/a - c.in[0][at+i*hw]*along/(norm*a*a)
					}
				}
			})
			return nil
		},
	})
}

// pixelNorm is the length of the vector of ch values from at on, hw apart.
func pixelNorm(x []float64, at, ch, hw int) float64 {
	var s float64
	for i := range ch {
		s += x[at+i*hw] * x[at+i*hw]
	}
	return math.Sqrt(s)
}
