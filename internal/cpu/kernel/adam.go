package kernel

import "math"

// AdamConfig describes one step of Adam with decoupled weight decay (Loshchilov and Hutter 2019) and an exponential moving average of
// the weights.
type AdamConfig struct {
	Rate         float64
	Beta1, Beta2 float64
	Eps          float64
	Decay        float64 // of the weights, times Rate; 0 is plain Adam
	Step         int     // counts from 1
	EMA          float64 // the average becomes EMA*average + (1-EMA)*weights; with no average it does not matter
}

// adamStep has the factors of a step, rounded once.
type adamStep struct {
	keep            float32 // 1 - Rate*Decay
	rest1           float32 // 1-Beta1
	beta2, rest2    float32 // Beta2 and 1-Beta2
	size, root, eps float32 // Rate/(1-Beta1^Step), sqrt(1-Beta2^Step)
	restEMA         float32
}

func (c AdamConfig) step() adamStep {
	t := float64(c.Step)
	return adamStep{
		keep:  float32(1 - c.Rate*c.Decay),
		rest1: float32(1 - c.Beta1),
		beta2: float32(c.Beta2), rest2: float32(1 - c.Beta2),
		size: float32(c.Rate / (1 - math.Pow(c.Beta1, t))), root: float32(math.Sqrt(1 - math.Pow(c.Beta2, t))), eps: float32(c.Eps),
		restEMA: float32(1 - c.EMA),
	}
}

// AdamW updates the weights w with their gradient g, its first and second moments m and v, and, unless it is nil, the moving average
// ema, over len(w). The arithmetic is that of torch.optim.AdamW:
//
//	w = w * (1 - rate*decay)
//	m = m + (g - m) * (1 - beta1)
//	v = v * beta2 + (1 - beta2) * g * g
//	w = w - rate/(1 - beta1^step) * m / (sqrt(v)/sqrt(1 - beta2^step) + eps)
//	ema = ema - (1 - EMA) * (ema - w)
func (p *Pool) AdamW(c AdamConfig, w, g, m, v, ema []float32) {
	n := len(w)
	if ema != nil {
		ema = ema[:n]
	}
	p.run(n, func() { p.k.adamW(c.step(), w, g[:n], m[:n], v[:n], ema) })
}
