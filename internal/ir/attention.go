package ir

import (
	"fmt"
	"math"
	"slices"
)

const (
	KindAttention        Kind = "attention"          // q, k, v; Ints: heads
	KindAttentionGrad    Kind = "attention_grad"     // q, k, v, dy: dq, dk, dv one after the other
	KindQKVAttention     Kind = "qkv_attention"      // qkv; Ints: heads, 1 for the legacy order
	KindQKVAttentionGrad Kind = "qkv_attention_grad" // qkv, dy
)

// Heads returns the number of attention heads.
func (o Op) Heads() int { return o.Ints[0] }

// Legacy says whether the channels of a fused qkv are [q|k|v] per head; otherwise they are [all q|all k|all v].
func (o Op) Legacy() bool { return o.Ints[1] != 0 }

// Attention is softmax(scale q k^T) v per head, without a mask: q (N,Tq,H*d), k and v (N,Tk,H*d), channels ordered with the
// head outermost. The result is (N,Tq,H*d).
func Attention(q, k, v *Tensor, heads int, scale float64) *Tensor {
	return apply(Op{Kind: KindAttention, Ints: ints(heads), Scale: scale}, q, k, v)
}

// QKVAttention is self-attention of fused projections qkv (N,T,3C), see [Op.Legacy] for the channel orders. scale multiplies
// the product q k^T. The result is (N,T,C) with the head outermost.
func QKVAttention(qkv *Tensor, heads int, legacy bool, scale float64) *Tensor {
	order := 0
	if legacy {
		order = 1
	}
	return apply(Op{Kind: KindQKVAttention, Ints: ints(heads, order), Scale: scale}, qkv)
}

func init() {
	register(KindAttention, rule{
		min: 3, max: 3,
		shape: func(op Op, in [][]int) ([]int, error) {
			for i, name := range []string{"q", "k", "v"} {
				if err := wantRank(name, in[i], "3 (N,T,C)", 3); err != nil {
					return nil, err
				}
			}
			q := in[0]
			if err := wantShape("k", in[1], q[0], in[1][1], q[2]); err != nil {
				return nil, err
			}
			if err := wantShape("v", in[2], in[1]...); err != nil {
				return nil, err
			}
			return slices.Clone(q), checkHeads(op, q[2])
		},
		grad: func(op Op, in []*Tensor, dy *Tensor) []*Tensor {
			op.Kind = KindAttentionGrad
			packed := apply(op, in[0], in[1], in[2], dy)
			nq, nk := volume(in[0].shape), volume(in[1].shape)
			return []*Tensor{
				pick(packed, 0, in[0].shape...), pick(packed, nq, in[1].shape...), pick(packed, nq+nk, in[2].shape...),
			}
		},
		run: func(c *call) error {
			attend(c.op, apart(c.op, c.in, c.sh), view{data: c.y, row: last(c.out), head: last(c.out) / c.op.Heads()})
			return nil
		},
	})
	register(KindAttentionGrad, rule{
		class: Backward, min: 4, max: 4,
		shape: func(_ Op, in [][]int) ([]int, error) { return []int{volume(in[0]) + 2*volume(in[1])}, nil },
		run: func(c *call) error {
			nq, nk := len(c.in[0]), len(c.in[1])
			g := apart(c.op, [][]float64{c.y[:nq], c.y[nq : nq+nk], c.y[nq+nk:]}, c.sh)
			attendGrad(c.op, apart(c.op, c.in, c.sh), g, c.in[3])
			return nil
		},
	})
	register(KindQKVAttention, rule{
		min: 1, max: 1,
		shape: func(op Op, in [][]int) ([]int, error) {
			if err := wantRank("qkv", in[0], "3 (N,T,3C)", 3); err != nil {
				return nil, err
			}
			if in[0][2]%3 != 0 {
				return nil, fmt.Errorf("%d channels do not divide into q, k and v", in[0][2])
			}
			return withLast(in[0], in[0][2]/3), checkHeads(op, in[0][2]/3)
		},
		grad: func(op Op, in []*Tensor, dy *Tensor) []*Tensor {
			op.Kind = KindQKVAttentionGrad
			return []*Tensor{apply(op, in[0], dy)}
		},
		run: func(c *call) error {
			attend(c.op, fused(c.op, c.in[0], c.sh[0]), view{data: c.y, row: last(c.out), head: last(c.out) / c.op.Heads()})
			return nil
		},
	})
	register(KindQKVAttentionGrad, rule{
		class: Backward, min: 2, max: 2, shape: sameAs(0),
		run: func(c *call) error {
			attendGrad(c.op, fused(c.op, c.in[0], c.sh[0]), fused(c.op, c.y, c.sh[0]), c.in[1])
			return nil
		},
	})
}

func checkHeads(op Op, c int) error {
	if op.Heads() < 1 || c%op.Heads() != 0 {
		return fmt.Errorf("%d channels do not divide into %d heads", c, op.Heads())
	}
	if !(op.Scale > 0) {
		return fmt.Errorf("scale %v is not positive", op.Scale)
	}
	return nil
}

// view finds the vectors of heads in an array of rows.
type view struct {
	data           []float64
	row, head, off int // floats per row, from head to head, before the first head
}

func (v view) at(row, head, d int) []float64 { return v.data[row*v.row+head*v.head+v.off:][:d] }

// heads are the three operands of an attention over n samples.
type heads struct {
	n, tq, tk, d int
	q, k, v      view
}

func apart(op Op, in [][]float64, sh [][]int) heads {
	c := sh[0][2]
	d := c / op.Heads()
	return heads{
		n: sh[0][0], tq: sh[0][1], tk: sh[1][1], d: d,
		q: view{in[0], c, d, 0}, k: view{in[1], c, d, 0}, v: view{in[2], c, d, 0},
	}
}

func fused(op Op, qkv []float64, sh []int) heads {
	row := sh[2]
	d := row / 3 / op.Heads()
	head, step := d, row/3
	if op.Legacy() {
		head, step = 3*d, d
	}
	return heads{
		n: sh[0], tq: sh[1], tk: sh[1], d: d,
		q: view{qkv, row, head, 0}, k: view{qkv, row, head, step}, v: view{qkv, row, head, 2 * step},
	}
}

// weights fills p with the attention of query i of sample n to every key.
func (a heads) weights(p []float64, n, head, i int, scale float64) {
	q, top := a.q.at(n*a.tq+i, head, a.d), math.Inf(-1)
	for j := range p {
		p[j] = scale * dot(q, a.k.at(n*a.tk+j, head, a.d))
		top = math.Max(top, p[j])
	}
	var total float64
	for j, s := range p {
		p[j] = math.Exp(s - top)
		total += p[j]
	}
	for j := range p {
		p[j] /= total
	}
}

func attend(op Op, a heads, y view) {
	parallel(a.n*a.tq, func(r int) {
		n, i := r/a.tq, r%a.tq
		p := make([]float64, a.tk)
		for h := range op.Heads() {
			a.weights(p, n, h, i, op.Scale)
			out := y.at(r, h, a.d)
			for j, w := range p {
				axpy(out, w, a.v.at(n*a.tk+j, h, a.d))
			}
		}
	})
}

// attendGrad adds to g, which is zero, the gradients of the operands. dy is laid out as the result of attend.
func attendGrad(op Op, a, g heads, dy []float64) {
	d := view{data: dy, row: a.d * op.Heads(), head: a.d}
	parallel(a.n*op.Heads(), func(nh int) {
		n, h := nh/op.Heads(), nh%op.Heads()
		p, dp := make([]float64, a.tk), make([]float64, a.tk)
		for i := range a.tq {
			a.weights(p, n, h, i, op.Scale)
			di := d.at(n*a.tq+i, h, a.d)
			for j, w := range p {
				axpy(g.v.at(n*a.tk+j, h, a.d), w, di)
				dp[j] = dot(di, a.v.at(n*a.tk+j, h, a.d))
			}
			mean := dot(p, dp)
			q, dq := a.q.at(n*a.tq+i, h, a.d), g.q.at(n*a.tq+i, h, a.d)
			for j, w := range p {
				ds := w * (dp[j] - mean) * op.Scale
				axpy(dq, ds, a.k.at(n*a.tk+j, h, a.d))
				axpy(g.k.at(n*a.tk+j, h, a.d), ds, q)
			}
		}
	})
}
