package ir

import (
	"fmt"
	"math"
)

const (
	KindGroupNorm           Kind = "group_norm"             // x, gamma, beta; Ints: groups
	KindGroupNormGradInput  Kind = "group_norm_grad_input"  // x, gamma, dy
	KindGroupNormGradParams Kind = "group_norm_grad_params" // x, dy: dgamma (C) then dbeta (C)
	KindLayerNorm           Kind = "layer_norm"             // x, gamma, beta
	KindLayerNormGradInput  Kind = "layer_norm_grad_input"  // x, gamma, dy
	KindLayerNormGradParams Kind = "layer_norm_grad_params" // x, dy: dgamma (C) then dbeta (C)
)

// Groups returns the number of groups of a group normalisation, or of moments.
func (o Op) Groups() int { return o.Ints[0] }

// GroupNorm normalises x (N,C,H,W) over each of groups equal ranges of channels and all pixels of a sample, with biased
// variance plus eps, then scales by gamma (C) and adds beta (C).
func GroupNorm(x, gamma, beta *Tensor, groups int, eps float64) *Tensor {
	return apply(Op{Kind: KindGroupNorm, Ints: ints(groups), Eps: eps}, x, gamma, beta)
}

// LayerNorm normalises x (M,C) or (N,T,C) over its last dimension, with biased variance plus eps, then scales by gamma (C)
// and adds beta (C).
func LayerNorm(x, gamma, beta *Tensor, eps float64) *Tensor {
	return apply(Op{Kind: KindLayerNorm, Eps: eps}, x, gamma, beta)
}

func init() {
	register(KindGroupNorm, rule{
		min: 3, max: 3,
		shape: func(op Op, in [][]int) ([]int, error) {
			if err := wantGroups(op, in[0]); err != nil {
				return nil, err
			}
			return affine(op, in, in[0][1])
		},
		grad: normGrad(KindGroupNormGradInput, KindGroupNormGradParams, func(x []int) int { return x[1] }),
		run:  norm,
	})
	register(KindLayerNorm, rule{
		min: 3, max: 3,
		shape: func(op Op, in [][]int) ([]int, error) {
			if err := wantRank("x", in[0], "2 or 3 with channels last", 2, 3); err != nil {
				return nil, err
			}
			return affine(op, in, last(in[0]))
		},
		grad: normGrad(KindLayerNormGradInput, KindLayerNormGradParams, last),
		run:  norm,
	})
	for _, k := range []Kind{KindGroupNormGradInput, KindLayerNormGradInput} {
		register(k, rule{class: Backward, min: 3, max: 3, shape: sameAs(0), run: normGradInput})
	}
	register(KindGroupNormGradParams, rule{
		class: Backward, min: 2, max: 2,
		shape: func(_ Op, in [][]int) ([]int, error) { return []int{2 * in[0][1]}, nil },
		run:   normGradParams,
	})
	register(KindLayerNormGradParams, rule{
		class: Backward, min: 2, max: 2,
		shape: func(_ Op, in [][]int) ([]int, error) { return []int{2 * last(in[0])}, nil },
		run:   normGradParams,
	})
}

// wantGroups checks that the channels of x divide into groups.
func wantGroups(op Op, x []int) error {
	if err := wantRank("x", x, "4 (NCHW)", 4); err != nil {
		return err
	}
	if op.Groups() < 1 || x[1]%op.Groups() != 0 {
		return fmt.Errorf("%d channels do not divide into %d groups", x[1], op.Groups())
	}
	return nil
}

// affine checks gamma, beta and eps.
func affine(op Op, in [][]int, c int) ([]int, error) {
	if err := wantShape("gamma", in[1], c); err != nil {
		return nil, err
	}
	if err := wantShape("beta", in[2], c); err != nil {
		return nil, err
	}
	if !(op.Eps > 0) {
		return nil, fmt.Errorf("eps %v is not positive", op.Eps)
	}
	return sameAs(0)(op, in)
}

func normGrad(input, params Kind, channels func([]int) int) func(Op, []*Tensor, *Tensor) []*Tensor {
	return func(op Op, in []*Tensor, dy *Tensor) []*Tensor {
		c := channels(in[0].shape)
		op.Kind = input
		dx := apply(op, in[0], in[1], dy)
		op.Kind = params
		packed := apply(op, in[0], dy)
		return []*Tensor{dx, pick(packed, 0, c), pick(packed, c, c)}
	}
}

// blocks describes what both normalisations have in common: the input is a row of blocks that are normalised on their own,
// each of channels x inner elements, and block b begins with channel (b%groups)*channels.
type blocks struct{ n, channels, inner, groups int }

func (b blocks) size() int           { return b.channels * b.inner }
func (b blocks) first(block int) int { return block % b.groups * b.channels }

func blocksOf(op Op, x []int) blocks {
	if len(x) == 4 {
		g := op.Groups()
		return blocks{n: x[0] * g, channels: x[1] / g, inner: x[2] * x[3], groups: g}
	}
	return blocks{n: volume(x) / last(x), channels: last(x), inner: 1, groups: 1}
}

// meanVariance returns the mean and the biased variance of x.
func meanVariance(x []float64) (mean, variance float64) {
	mean = sum(x) / float64(len(x))
	for _, v := range x {
		variance += (v - mean) * (v - mean)
	}
	return mean, variance / float64(len(x))
}

// moments returns the mean and the reciprocal standard deviation of x.
func moments(x []float64, eps float64) (mean, rstd float64) {
	mean, variance := meanVariance(x)
	return mean, 1 / math.Sqrt(variance+eps)
}

func norm(c *call) error {
	b := blocksOf(c.op, c.sh[0])
	gamma, beta := c.in[1], c.in[2]
	parallel(b.n, func(k int) {
		x, y := c.in[0][k*b.size():(k+1)*b.size()], c.y[k*b.size():]
		mean, rstd := moments(x, c.op.Eps)
		if c.op.Kind == KindGroupNormGiven {
			n, g := k/b.groups, k%b.groups
			mean, rstd = c.in[3][2*n*b.groups+g], 1/math.Sqrt(c.in[3][(2*n+1)*b.groups+g]+c.op.Eps)
		}
		for i, v := range x {
			ch := b.first(k) + i/b.inner
			y[i] = (v-mean)*rstd*gamma[ch] + beta[ch]
		}
	})
	return nil
}

// normGradInput is rstd*(d - mean(d) - xhat*mean(d*xhat)) with d = dy*gamma.
func normGradInput(c *call) error {
	b := blocksOf(c.op, c.sh[0])
	gamma := c.in[1]
	parallel(b.n, func(k int) {
		x, dy, dx := c.in[0][k*b.size():(k+1)*b.size()], c.in[2][k*b.size():], c.y[k*b.size():]
		mean, rstd := moments(x, c.op.Eps)
		var s1, s2 float64
		for i, v := range x {
			d := dy[i] * gamma[b.first(k)+i/b.inner]
			s1 += d
			s2 += d * (v - mean) * rstd
		}
		s1, s2 = s1/float64(len(x)), s2/float64(len(x))
		for i, v := range x {
			d := dy[i] * gamma[b.first(k)+i/b.inner]
			dx[i] = rstd * (d - s1 - (v-mean)*rstd*s2)
		}
	})
	return nil
}

func normGradParams(c *call) error {
	b := blocksOf(c.op, c.sh[0])
	all := len(c.y) / 2
	for k := range b.n {
		x, dy := c.in[0][k*b.size():(k+1)*b.size()], c.in[1][k*b.size():]
		mean, rstd := moments(x, c.op.Eps)
		for i, v := range x {
			ch := b.first(k) + i/b.inner
			c.y[ch] += dy[i] * (v - mean) * rstd
			c.y[all+ch] += dy[i]
		}
	}
	return nil
}
