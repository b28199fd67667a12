package stats

import (
	"fmt"
	"math"
)

// Splits says how rows are split for the inception score.
type Splits struct {
	Count   int    // parts; part i ends before row (i+1) N / Count, rounded down
	Size    int    // instead of Count: parts of Size rows, the last one shorter
	Chunks  bool   // Count parts of N / Count rows, rounded up, as torch.chunk has them: the last one shorter, or fewer parts
	Shuffle bool   // by the permutation that [RandomState] draws
	Seed    uint32 // of the permutation
	DDOF    int    // the standard deviation has the divisor parts - DDOF
}

// InceptionScore is exp(E KL(p(y|x) || p(y))) over the classes' probabilities (Salimans et al. 2016), of each part of the
// rows: mean and standard deviation. Features are logits. A class without probability counts nothing.
func InceptionScore(logits Features, s Splits) (mean, sd float64, err error) {
	if err := logits.check(1); err != nil {
		return 0, 0, err
	}
	n := logits.N
	if s.Chunks && s.Count > 0 {
		s.Size = (n + s.Count - 1) / s.Count
	}
	if s.Size > 0 {
		s.Count = (n + s.Size - 1) / s.Size
	}
	if s.Count < 1 || s.Count > n {
		return 0, 0, fmt.Errorf("%d parts of %d rows", s.Count, n)
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	if s.Shuffle {
		order = NewRandomState(s.Seed).Permutation(n)
	}
	scores := make([]float64, s.Count)
	parallel(s.Count, func(i int) {
		from, to := i*n/s.Count, (i+1)*n/s.Count
		if s.Size > 0 {
			from, to = i*s.Size, min(n, (i+1)*s.Size)
		}
		scores[i] = inceptionScore(logits, order[from:to])
	})
	mean, sd = meanAndSpread(scores, s.DDOF)
	if s.Count <= s.DDOF {
		sd = math.NaN()
	}
	return mean, sd, nil
}

func inceptionScore(logits Features, rows []int) float64 {
	d := logits.D
	all := make([]float64, d)
	negative := 0.0 // sum of p log p
	logs, p := make([]float64, d), make([]float64, d)
	for _, r := range rows {
		logSoftmax(logs, logits.Row(r))
		h := 0.0
		for j, l := range logs {
			p[j] = math.Exp(l)
			all[j] += p[j]
			h += p[j] * l
		}
		negative += h
	}
	n := float64(len(rows))
	kl := negative / n
	for _, q := range all {
		if q > 0 {
			kl -= q / n * math.Log(q/n)
		}
	}
	return math.Exp(kl)
}

func logSoftmax(dst []float64, x []float32) {
	top := x[0]
	for _, v := range x {
		top = max(top, v)
	}
	sum := 0.0
	for j, v := range x {
		dst[j] = float64(v) - float64(top)
		sum += math.Exp(dst[j])
	}
	l := math.Log(sum)
	for j := range dst {
		dst[j] -= l
	}
}
