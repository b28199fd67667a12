package ir

import "fmt"

const (
	KindLinear           Kind = "linear"             // x, w[, b]
	KindLinearGradInput  Kind = "linear_grad_input"  // w, dy
	KindLinearGradWeight Kind = "linear_grad_weight" // x, dy; Ints: rank of w
	KindRowSum           Kind = "row_sum"            // dy (...,C): (C)
)

// Linear is x w^T + b over the last dimension: x (M,C) or (N,T,C), w (O,C) or, as 1x1 convolutions store it, (O,C,1) or
// (O,C,1,1), b (O) or nil. The result has O as its last dimension.
func Linear(x, w, b *Tensor) *Tensor {
	if b == nil {
		return apply(Op{Kind: KindLinear}, x, w)
	}
	return apply(Op{Kind: KindLinear}, x, w, b)
}

func init() {
	register(KindLinear, rule{
		min: 2, max: 3,
		shape: func(_ Op, in [][]int) ([]int, error) {
			x, w := in[0], in[1]
			if err := wantRank("x", x, "2 or 3 with channels last", 2, 3); err != nil {
				return nil, err
			}
			if err := wantRank("w", w, "2, or 3 or 4 with trailing 1s", 2, 3, 4); err != nil {
				return nil, err
			}
			if volume(w[2:]) != 1 {
				return nil, fmt.Errorf("w has shape %v, want trailing dimensions of 1", w)
			}
			if x[len(x)-1] != w[1] {
				return nil, fmt.Errorf("w takes %d channels, x has %d", w[1], x[len(x)-1])
			}
			if len(in) == 3 {
				if err := wantShape("b", in[2], w[0]); err != nil {
					return nil, err
				}
			}
			return withLast(x, w[0]), nil
		},
		grad: func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
			g := []*Tensor{
				apply(Op{Kind: KindLinearGradInput}, in[1], dy),
				apply(Op{Kind: KindLinearGradWeight, Ints: ints(len(in[1].shape))}, in[0], dy),
			}
			if len(in) == 3 {
				g = append(g, apply(Op{Kind: KindRowSum}, dy))
			}
			return g
		},
		run: linear,
	})
	register(KindLinearGradInput, rule{
		class: Backward, min: 2, max: 2,
		shape: func(_ Op, in [][]int) ([]int, error) { return withLast(in[1], in[0][1]), nil },
		run: func(c *call) error {
			w, dy, o, ch := c.in[0], c.in[1], c.sh[0][0], c.sh[0][1]
			parallel(len(dy)/o, func(r int) {
				dx := c.y[r*ch : (r+1)*ch]
				for k, d := range dy[r*o : (r+1)*o] {
					axpy(dx, d, w[k*ch:(k+1)*ch])
				}
			})
			return nil
		},
	})
	register(KindLinearGradWeight, rule{
		class: Backward, min: 2, max: 2,
		shape: func(op Op, in [][]int) ([]int, error) {
			w := []int{last(in[1]), last(in[0]), 1, 1}
			return w[:op.Ints[0]], nil
		},
		run: func(c *call) error {
			x, dy, o, ch := c.in[0], c.in[1], last(c.sh[1]), last(c.sh[0])
			parallel(o, func(k int) {
				dw := c.y[k*ch : (k+1)*ch]
				for r := range len(dy) / o {
					axpy(dw, dy[r*o+k], x[r*ch:(r+1)*ch])
				}
			})
			return nil
		},
	})
	register(KindRowSum, rule{
		class: Backward, min: 1, max: 1,
		shape: func(_ Op, in [][]int) ([]int, error) { return []int{last(in[0])}, nil },
		run: func(c *call) error {
			for i := 0; i < len(c.in[0]); i += len(c.y) {
				axpy(c.y, 1, c.in[0][i:i+len(c.y)])
			}
			return nil
		},
	})
}

func linear(c *call) error {
	x, w, o, ch := c.in[0], c.in[1], c.sh[1][0], c.sh[1][1]
	const block = 8 // rows that share one pass over w
	rows := len(x) / ch
	parallel((rows+block-1)/block, func(b int) {
		for k := range o {
			row := w[k*ch : (k+1)*ch]
			for r := b * block; r < min(rows, (b+1)*block); r++ {
				s := dot(row, x[r*ch:(r+1)*ch])
				if len(c.in) == 3 {
					s += c.in[2][k]
				}
				c.y[r*o+k] = s
			}
		}
	})
	return nil
}
