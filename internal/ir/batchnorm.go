package ir

import "math"

const (
	KindBatchNorm           Kind = "batch_norm"             // x, gamma, beta
	KindBatchNormGradInput  Kind = "batch_norm_grad_input"  // x, gamma, dy
	KindBatchNormGradParams Kind = "batch_norm_grad_params" // x, dy: dgamma (C) then dbeta (C)
	KindBatchMoments        Kind = "batch_moments"          // x (N,C,H,W): (2C)
	KindBatchNormGiven      Kind = "batch_norm_given"       // x, gamma, beta, mean, variance
)

// BatchNorm normalises x (N,C,H,W) over each channel of the whole batch, with biased variance plus eps, then scales by gamma
// (C) and adds beta (C): batch normalisation in training.
func BatchNorm(x, gamma, beta *Tensor, eps float64) *Tensor {
	return apply(Op{Kind: KindBatchNorm, Eps: eps}, x, gamma, beta)
}

// BatchMoments are the means (C) of the channels of x (N,C,H,W) over the whole batch, followed by their biased variances (C).
// No gradient flows through it.
func BatchMoments(x *Tensor) *Tensor { return apply(Op{Kind: KindBatchMoments}, x) }

// BatchNormGiven is [BatchNorm] with a mean (C) and a variance (C) in place of those of x: batch normalisation outside
// training. No gradient flows through it.
func BatchNormGiven(x, gamma, beta, mean, variance *Tensor, eps float64) *Tensor {
	return apply(Op{Kind: KindBatchNormGiven, Eps: eps}, x, gamma, beta, mean, variance)
}

func init() {
	channels := func(x []int) int { return x[1] }
	register(KindBatchNorm, rule{
		min: 3, max: 3,
		shape: func(op Op, in [][]int) ([]int, error) {
			if err := wantRank("x", in[0], "4 (NCHW)", 4); err != nil {
				return nil, err
			}
			return affine(op, in, in[0][1])
		},
		grad: normGrad(KindBatchNormGradInput, KindBatchNormGradParams, channels),
		run: func(c *call) error {
			eachChannel(c.sh[0], func(ch int, planes []int) {
				mean, rstd := channelMoments(c.in[0], planes, c.sh[0], c.op.Eps)
				overPlanes(planes, c.sh[0], func(i int) { c.y[i] = (c.in[0][i]-mean)*rstd*c.in[1][ch] + c.in[2][ch] })
			})
			return nil
		},
	})
	register(KindBatchNormGradInput, rule{
		class: Backward, min: 3, max: 3, shape: sameAs(0),
		run: func(c *call) error {
			x, dy := c.in[0], c.in[2]
			eachChannel(c.sh[0], func(ch int, planes []int) {
				mean, rstd := channelMoments(x, planes, c.sh[0], c.op.Eps)
				n := float64(len(planes) * c.sh[0][2] * c.sh[0][3])
				var s1, s2 float64
				overPlanes(planes, c.sh[0], func(i int) {
					s1 += dy[i] / n
					s2 += dy[i] * (x[i] - mean) * rstd / n
				})
				overPlanes(planes, c.sh[0], func(i int) {
					c.y[i] = rstd * c.in[1][ch] * (dy[i] - s1 - (x[i]-mean)*rstd*s2)
				})
			})
			return nil
		},
	})
	register(KindBatchNormGradParams, rule{
		class: Backward, min: 2, max: 2,
		shape: func(_ Op, in [][]int) ([]int, error) { return []int{2 * in[0][1]}, nil },
		run: func(c *call) error {
			x, dy := c.in[0], c.in[1]
			eachChannel(c.sh[0], func(ch int, planes []int) {
				mean, rstd := channelMoments(x, planes, c.sh[0], c.op.Eps)
				overPlanes(planes, c.sh[0], func(i int) {
					c.y[ch] += dy[i] * (x[i] - mean) * rstd
					c.y[len(c.y)/2+ch] += dy[i]
				})
			})
			return nil
		},
	})
	register(KindBatchMoments, rule{
		class: InferenceOnly, min: 1, max: 1,
		shape: func(_ Op, in [][]int) ([]int, error) {
			if err := wantRank("x", in[0], "4 (NCHW)", 4); err != nil {
				return nil, err
			}
			return []int{2 * in[0][1]}, nil
		},
		run: func(c *call) error {
			eachChannel(c.sh[0], func(ch int, planes []int) {
				c.y[ch], c.y[len(c.y)/2+ch] = meanVariance(gather(c.in[0], planes, c.sh[0]))
			})
			return nil
		},
	})
	register(KindBatchNormGiven, rule{
		class: InferenceOnly, min: 5, max: 5,
		shape: func(op Op, in [][]int) ([]int, error) {
			for i, operand := range []string{"mean", "variance"} {
				if err := wantChannels(operand, in[3+i], in[0]); err != nil {
					return nil, err
				}
			}
			return affine(op, in, in[0][1])
		},
		run: func(c *call) error {
			eachChannel(c.sh[0], func(ch int, planes []int) {
				rstd := 1 / math.Sqrt(c.in[4][ch]+c.op.Eps)
				overPlanes(planes, c.sh[0], func(i int) { c.y[i] = (c.in[0][i]-c.in[3][ch])*rstd*c.in[1][ch] + c.in[2][ch] })
			})
			return nil
		},
	})
}

// eachChannel calls f with every channel of images x (N,C,H,W) and its planes, one of each sample.
func eachChannel(x []int, f func(ch int, planes []int)) {
	parallel(x[1], func(ch int) {
		planes := make([]int, x[0])
		for n := range planes {
			planes[n] = n*x[1] + ch
		}
		f(ch, planes)
	})
}

// overPlanes calls f with the index of every element of planes of images x (N,C,H,W).
func overPlanes(planes, x []int, f func(i int)) {
	hw := x[2] * x[3]
	for _, p := range planes {
		for i := p * hw; i < (p+1)*hw; i++ {
			f(i)
		}
	}
}

func gather(v []float64, planes, x []int) []float64 {
	list := make([]float64, 0, len(planes)*x[2]*x[3])
	overPlanes(planes, x, func(i int) { list = append(list, v[i]) })
	return list
}

func channelMoments(v []float64, planes, x []int, eps float64) (mean, rstd float64) {
	return moments(gather(v, planes, x), eps)
}
