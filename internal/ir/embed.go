package ir

import (
	"fmt"
	"math"
	"slices"
)

const (
	KindEmbed         Kind = "embed"          // ids, table
	KindEmbedGrad     Kind = "embed_grad"     // ids, dy; Ints: rows of the table
	KindTimeEmbedding Kind = "time_embedding" // t (N); Ints: dim
)

// Width returns the width of a time embedding.
func (o Op) Width() int { return o.Ints[0] }

// Embed looks up the rows of table (V,D) by ids (N), (N,T) or (N,H,W): (N,D), (N,T,D) or, what such a map of ids becomes, images
// (N,D,H,W). Ids are floats that hold whole numbers in [0, V); an executor refuses others. No gradient flows to ids.
func Embed(ids, table *Tensor) *Tensor { return apply(Op{Kind: KindEmbed}, ids, table) }

// TimeEmbedding is the sinusoidal embedding (N,dim) of timesteps t (N): [cos(t f), sin(t f)] with f_i = 10000^(-i/half),
// half = dim/2, and a zero column at the end when dim is odd. frequencies and the product t f are float32, as the reference
// computes them, for data of any type: at t near 1000 their rounding shows in the result. It is for inference only: no
// gradient flows to t.
func TimeEmbedding(t *Tensor, dim int) *Tensor {
	return apply(Op{Kind: KindTimeEmbedding, Ints: ints(dim)}, t)
}

func init() {
	register(KindEmbed, rule{
		min: 2, max: 2, fixed: []int{0},
		shape: func(_ Op, in [][]int) ([]int, error) {
			if err := wantRank("ids", in[0], "1 (N), 2 (N,T) or 3 (N,H,W)", 1, 2, 3); err != nil {
				return nil, err
			}
			if err := wantRank("table", in[1], "2 (V,D)", 2); err != nil {
				return nil, err
			}
			if ids := in[0]; len(ids) == 3 {
				return []int{ids[0], in[1][1], ids[1], ids[2]}, nil
			}
			return append(slices.Clone(in[0]), in[1][1]), nil
		},
		grad: func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
			return []*Tensor{nil, apply(Op{Kind: KindEmbedGrad, Ints: ints(in[1].shape[0])}, in[0], dy)}
		},
		run: func(c *call) error {
			v, d := c.sh[1][0], c.sh[1][1]
			for i, x := range c.in[0] {
				id, err := row(x, v)
				if err != nil {
					return fmt.Errorf("id %d: %w", i, err)
				}
				at, step := entry(i, d, c.sh[0])
				for k, v := range c.in[1][id*d : (id+1)*d] {
					c.y[at+k*step] = v
				}
			}
			return nil
		},
	})
	register(KindEmbedGrad, rule{
		class: Backward, min: 2, max: 2,
		shape: func(op Op, in [][]int) ([]int, error) {
			if len(in[0]) == 3 {
				return []int{op.Ints[0], in[1][1]}, nil
			}
			return []int{op.Ints[0], last(in[1])}, nil
		},
		run: func(c *call) error {
			v, d := c.out[0], c.out[1]
			for i, x := range c.in[0] {
				id, err := row(x, v)
				if err != nil {
					return fmt.Errorf("id %d: %w", i, err)
				}
				at, step := entry(i, d, c.sh[0])
				for k := range d {
					c.y[id*d+k] += c.in[1][at+k*step]
				}
			}
			return nil
		},
	})
	register(KindTimeEmbedding, rule{
		class: InferenceOnly, min: 1, max: 1,
		shape: func(op Op, in [][]int) ([]int, error) {
			if err := wantRank("t", in[0], "1 (N)", 1); err != nil {
				return nil, err
			}
			if op.Width() < 2 {
				return nil, fmt.Errorf("width %d is below 2", op.Width())
			}
			return []int{in[0][0], op.Width()}, nil
		},
		run: func(c *call) error {
			half := c.op.Width() / 2
			for i, f := range frequencies(half) {
				for n, t := range c.in[0] {
					sin, cos := math.Sincos(float64(float32(t) * f))
					c.y[n*c.op.Width()+i], c.y[n*c.op.Width()+half+i] = cos, sin
				}
			}
			return nil
		},
	})
}

// frequencies returns the float32 frequencies exp(-ln(10000) i/half) of a time embedding, each step rounded to float32.
func frequencies(half int) []float32 {
	f := make([]float32, half)
	for i := range f {
		x := float32(-math.Log(10000)) * float32(i)
		f[i] = float32(math.Exp(float64(x / float32(half))))
	}
	return f
}

// row turns an id into an index below v.
func row(id float64, v int) (int, error) {
	if !(id >= 0 && id < float64(v)) || id != math.Trunc(id) {
		return 0, fmt.Errorf("%v is not a row of a table of %d", id, v)
	}
	return int(id), nil
}

// entry finds the d values that belong to id i in the result of an embedding: where they begin, and how far apart they are.
func entry(i, d int, ids []int) (at, step int) {
	if len(ids) < 3 {
		return i * d, 1
	}
	hw := ids[1] * ids[2]
	return i/hw*d*hw + i%hw, hw
}
