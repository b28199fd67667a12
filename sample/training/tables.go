package training

import (
	"math"

	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/sample"
)

// tables are functions of time, 0..T-1.
type tables struct {
	alpha, sigma []float32 // x_t = alpha x_0 + sigma noise
	lvlb         []float32 // weights of the variational bound
	snr          []float64 // weights of min-SNR, else 1
	elbo         float64   // original_elbo_weight
	logvar       float64   // of the Gaussian likelihood, where it is not learned
	learned      bool
	lsimple      float64 // l_simple_weight
	x0           bool    // the network predicts x_0
}

func (t *tables) len() int { return len(t.alpha) }

func newTables(m *nn.Model, c Config) (tables, error) {
	d := m.Config.Diffusion
	s, err := sample.NewSchedule(sample.ScheduleConfig{Kind: d.BetaSchedule, Timesteps: d.Timesteps, LinearStart: d.LinearStart, LinearEnd: d.LinearEnd, CosineS: d.CosineS})
	if err != nil {
		return tables{}, err
	}
	n := s.Len()
	table := func(name string, f func(i int) float64) []float32 {
		if b, ok := m.Schedule[name]; ok { // of the checkpoint, which wins
			return b
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(f(i))
		}
		return v
	}
	bar := s.AlphasCumprod
	t := tables{
		alpha:   table("sqrt_alphas_cumprod", func(i int) float64 { return math.Sqrt(bar[i]) }),
		sigma:   table("sqrt_one_minus_alphas_cumprod", func(i int) float64 { return math.Sqrt(1 - bar[i]) }),
		snr:     make([]float64, n),
		logvar:  d.LogvarInit,
		elbo:    d.OriginalELBOWeight,
		lsimple: d.LSimpleWeight,
		learned: d.LearnLogvar,
		x0:      d.Parameterization == "x0",
	}
	// The weights of the bound are computed in float32, as the reference does: 1 - alphas_cumprod cancels.
	ac := table("alphas_cumprod", func(i int) float64 { return bar[i] })
	betas := table("betas", func(i int) float64 { return s.Betas[i] })
	variance := table("posterior_variance", func(i int) float64 {
		prev := 1.0
		if i > 0 {
			prev = bar[i-1]
		}
		return (1-d.VPosterior)*s.Betas[i]*(1-prev)/(1-bar[i]) + d.VPosterior*s.Betas[i]
	})
	t.lvlb = make([]float32, n)
	for i := range n {
		if t.x0 { // 2*1 - alphas_cumprod, as the reference has it
			t.lvlb[i] = float32(0.5*float32(math.Sqrt(float64(ac[i])))) / (2 - ac[i])
		} else {
			num, den := betas[i]*betas[i], float32(float32(2*variance[i])*float32(1-s.Betas[i]))
			t.lvlb[i] = num / float32(den*(1-ac[i]))
		}
		t.snr[i] = 1
		if snr := bar[i] / (1 - bar[i]); c.MinSNR > 0 {
			if t.snr[i] = min(snr, c.MinSNR); !t.x0 {
				t.snr[i] /= snr
			}
		}
	}
	if n > 1 {
		t.lvlb[0] = t.lvlb[1] // the variance is 0 there
	}
	return t, nil
}

// weight is that of the error of a sample at time t in a batch of n. Learned log-variances enter in the graph, and only the term
// of the bound is left.
func (t *tables) weight(at, n int) float32 {
	w := t.elbo * float64(t.lvlb[at])
	if !t.learned {
		w += t.lsimple * t.snr[at] * math.Exp(-t.logvar)
	}
	return float32(w / float64(n))
}
