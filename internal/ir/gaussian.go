package ir

import (
	"fmt"
	"math"
	"slices"
)

const (
	KindGaussianSample     Kind = "gaussian_sample"      // moments, noise
	KindGaussianSampleGrad Kind = "gaussian_sample_grad" // moments, noise, dy
	KindGaussianKL         Kind = "gaussian_kl"          // moments: scalar
	KindGaussianKLGrad     Kind = "gaussian_kl_grad"     // moments, dy scalar
)

// Bounds of the log-variance of a diagonal Gaussian; beyond them its gradient is zero.
const (
	MinLogVar = -30
	MaxLogVar = 20
)

// GaussianSample is mean + exp(logvar/2)*noise for moments (N,2C,H,W), mean in the first half of the channels and logvar,
// clamped to [MinLogVar, MaxLogVar], in the second, and noise (N,C,H,W). No gradient flows to the noise.
func GaussianSample(moments, noise *Tensor) *Tensor {
	return apply(Op{Kind: KindGaussianSample}, moments, noise)
}

// GaussianMode is the mean (N,C,H,W) of moments (N,2C,H,W).
func GaussianMode(moments *Tensor) *Tensor {
	if moments == nil || len(moments.shape) != 4 || moments.shape[1]%2 != 0 {
		fail("gaussian_mode", []*Tensor{moments}, "moments must be (N,2C,H,W)")
	}
	return SliceChannels(moments, 0, moments.shape[1]/2)
}

// GaussianKL is the Kullback-Leibler divergence of the diagonal Gaussians of moments (N,2C,H,W), see [GaussianSample], from the
// standard normal distribution: the scalar sum of (mean^2 + exp(logvar) - 1 - logvar)/2 over the whole batch.
func GaussianKL(moments *Tensor) *Tensor { return apply(Op{Kind: KindGaussianKL}, moments) }

func init() {
	register(KindGaussianSample, rule{
		min: 2, max: 2, fixed: []int{1},
		shape: func(_ Op, in [][]int) ([]int, error) {
			m := in[0]
			if err := wantMoments(m); err != nil {
				return nil, err
			}
			return slices.Clone(in[1]), wantShape("noise", in[1], m[0], m[1]/2, m[2], m[3])
		},
		grad: func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
			return []*Tensor{apply(Op{Kind: KindGaussianSampleGrad}, in[0], in[1], dy), nil}
		},
		run: func(c *call) error {
			chw := len(c.y) / c.out[0]
			for i, noise := range c.in[1] {
				at := i/chw*2*chw + i%chw
				logvar := min(max(c.in[0][at+chw], MinLogVar), MaxLogVar)
				c.y[i] = c.in[0][at] + math.Exp(0.5*logvar)*noise
			}
			return nil
		},
	})
	register(KindGaussianSampleGrad, rule{
		class: Backward, min: 3, max: 3, shape: sameAs(0),
		run: func(c *call) error {
			chw := len(c.in[1]) / c.out[0]
			for i, noise := range c.in[1] {
				at, d := i/chw*2*chw+i%chw, c.in[2][i]
				c.y[at] = d
				if logvar := c.in[0][at+chw]; logvar >= MinLogVar && logvar <= MaxLogVar {
					c.y[at+chw] = d * noise * 0.5 * math.Exp(0.5*logvar)
				}
			}
			return nil
		},
	})
	register(KindGaussianKL, rule{
		min: 1, max: 1,
		shape: func(_ Op, in [][]int) ([]int, error) { return []int{}, wantMoments(in[0]) },
		grad: func(_ Op, in []*Tensor, dy *Tensor) []*Tensor {
			return []*Tensor{apply(Op{Kind: KindGaussianKLGrad}, in[0], dy)}
		},
		run: func(c *call) error {
			chw := len(c.in[0]) / c.sh[0][0] / 2
			for i := range len(c.in[0]) / 2 {
				at := i/chw*2*chw + i%chw
				mean, logvar := c.in[0][at], min(max(c.in[0][at+chw], MinLogVar), MaxLogVar)
				c.y[0] += 0.5 * (mean*mean + math.Exp(logvar) - 1 - logvar)
			}
			return nil
		},
	})
	register(KindGaussianKLGrad, rule{
		class: Backward, min: 2, max: 2, shape: sameAs(0),
		run: func(c *call) error {
			chw, d := len(c.y)/c.out[0]/2, c.in[1][0]
			for i := range len(c.y) / 2 {
				at := i/chw*2*chw + i%chw
				c.y[at] = d * c.in[0][at]
				if logvar := c.in[0][at+chw]; logvar >= MinLogVar && logvar <= MaxLogVar {
					c.y[at+chw] = d * 0.5 * (math.Exp(logvar) - 1)
				}
			}
			return nil
		},
	})
}

func wantMoments(m []int) error {
	if err := wantRank("moments", m, "4 (N,2C,H,W)", 4); err != nil {
		return err
	}
	if m[1]%2 != 0 {
		return fmt.Errorf("%d channels do not divide into mean and log-variance", m[1])
	}
	return nil
}
