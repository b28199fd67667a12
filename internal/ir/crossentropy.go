package ir

import (
	"fmt"
	"math"
	"slices"
)

const (
	KindCrossEntropy     Kind = "cross_entropy"      // logits (N,C), ids (N): (N)
	KindCrossEntropyGrad Kind = "cross_entropy_grad" // logits, ids, dy (N)
)

// CrossEntropy is log(sum(exp(logits))) - logits[id] for each row of logits (N,C) and its class among ids (N): (N). Ids are floats
// that hold whole numbers in [0, C); an executor refuses others. No gradient flows to ids.
func CrossEntropy(logits, ids *Tensor) *Tensor {
	return apply(Op{Kind: KindCrossEntropy}, logits, ids)
}

func init() {
	register(KindCrossEntropy, rule{
		min: 2, max: 2, fixed: []int{1},
		shape: func(_ Op, in [][]int) ([]int, error) {
			if err := wantRank("logits", in[0], "2 (N,C)", 2); err != nil {
				return nil, err
			}
			return slices.Clone(in[1]), wantShape("ids", in[1], in[0][0])
		},
		grad: func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
			return []*Tensor{apply(Op{Kind: KindCrossEntropyGrad}, in[0], in[1], dy), nil}
		},
		run: func(c *call) error {
			return eachClass(c, func(n, id int, x []float64, peak, sum float64) { c.y[n] = math.Log(sum) + peak - x[id] })
		},
	})
	register(KindCrossEntropyGrad, rule{
		class: Backward, min: 3, max: 3, shape: sameAs(0),
		run: func(c *call) error {
			return eachClass(c, func(n, id int, x []float64, peak, sum float64) {
				y := c.y[n*len(x) : (n+1)*len(x)]
				for i, v := range x {
					y[i] = c.in[2][n] * math.Exp(v-peak) / sum
				}
				y[id] -= c.in[2][n]
			})
		},
	})
}

// eachClass calls f with every row of logits, its class, its largest value and the sum of exp(x - largest).
func eachClass(c *call, f func(n, id int, x []float64, peak, sum float64)) error {
	classes := c.sh[0][1]
	for n, v := range c.in[1] {
		id, err := row(v, classes)
		if err != nil {
			return fmt.Errorf("id %d: %w", n, err)
		}
		x := c.in[0][n*classes : (n+1)*classes]
		peak, sum := slices.Max(x), 0.0
		for _, v := range x {
			sum += math.Exp(v - peak)
		}
		f(n, id, x, peak, sum)
	}
	return nil
}
