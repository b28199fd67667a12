package sample

import (
	"fmt"
	"math"
	"slices"
)

// Level is one noise level of a walk: x = Alpha x_0 + Sigma noise.
type Level struct {
	T            float32 // the time that the network is told; not always a whole number, see [SpacingsOf]
	Alpha, Sigma float64
}

// Diffuse writes x = Alpha x_0 + Sigma noise (reference: q_sample). dst may be x0 or noise.
func (l Level) Diffuse(dst, x0, noise []float32) {
	combine(dst, term{l.Alpha, x0}, term{l.Sigma, noise})
}

// ratio is the noise per signal, sigma of the variance-exploding view of the process (Karras et al. 2022).
func (l Level) ratio() float64 { return l.Sigma / l.Alpha }

// lambda is half the logarithm of the signal-to-noise ratio, infinite for clean samples.
func (l Level) lambda() float64 { return math.Log(l.Alpha) - math.Log(l.Sigma) }

// clean is where the solvers end.
var clean = Level{Alpha: 1}

// level is that of a time, from the float32 tables.
func (s *Schedule) level(t int) Level {
	return Level{float32(t), float64(s.sqrtAlphasCumprod[t]), float64(s.sqrtOneMinusAlphasCumprod[t])}
}

// ratios are the noise per signal of every time, ascending.
func (s *Schedule) ratios() ([]float64, error) {
	r := make([]float64, s.Len())
	for t, a := range s.alphasCumprod {
		r[t] = math.Sqrt((1 - float64(a)) / float64(a))
		if !(r[t] > 0) || math.IsInf(r[t], 0) || t > 0 && r[t] <= r[t-1] {
			return nil, fmt.Errorf("schedule: the noise does not grow from time %d to %d (alphas_cumprod %g)", t-1, t, a)
		}
	}
	return r, nil
}

// levelOf has the given noise per signal.
func levelOf(t, ratio float64) Level {
	a := 1 / math.Sqrt(ratio*ratio+1)
	return Level{float32(t), a, ratio * a}
}

// multistep are the solvers whose times other programs round.
var multistep = []string{"dpmpp-2m", "unipc"}

// rho is the exponent of Karras et al. 2022, equation 5.
const rho = 7

// solverLevels are the ascending levels of the solvers that end at level 0, as diffusers spaces them. Whole says that the
// network is told whole times; the noise level is then still that of the spacing.
func solverLevels(s *Schedule, spacing string, steps int, whole bool) ([]Level, error) {
	if steps < 1 || steps > s.Len() {
		return nil, fmt.Errorf("steps: %d is not in 1..%d", steps, s.Len())
	}
	table, err := s.ratios()
	if err != nil {
		return nil, err
	}
	last := float64(s.Len() - 1)
	var levels []Level
	switch spacing {
	case "karras":
		logs := make([]float64, len(table))
		for i, r := range table {
			logs[i] = math.Log(r)
		}
		from, to := math.Pow(table[len(table)-1], 1./rho), math.Pow(table[0], 1./rho)
		for i := range steps {
			ramp := float64(i) / float64(max(steps-1, 1))
			r := math.Pow(from+ramp*(to-from), rho)
			t := timeOf(logs, math.Log(r))
			if whole {
				t = math.RoundToEven(t)
			}
			levels = append(levels, levelOf(t, r))
		}
		slices.Reverse(levels)
	case "linspace":
		for i := range steps {
			t := last * float64(i) / float64(max(steps-1, 1))
			switch {
			case whole:
				t = math.RoundToEven(last * float64(i+1) / float64(steps))
			case steps == 1:
				t = last
			}
			low := int(min(t, last-1))
			w := t - float64(low)
			levels = append(levels, levelOf(t, table[low]*(1-w)+table[low+1]*w))
		}
	default:
		ts, err := Timesteps(spacing, steps, s.Len())
		if err != nil {
			return nil, err
		}
		for _, t := range ts {
			levels = append(levels, levelOf(float64(t), table[t]))
		}
	}
	for i := range levels[1:] {
		if levels[i].Sigma >= levels[i+1].Sigma {
			return nil, fmt.Errorf("steps: %d are too many for %s spacing of %d times", steps, spacing, s.Len())
		}
	}
	return levels, nil
}

// timeOf is the time at which the logarithm of the noise per signal, linear between the times of the process, has a value.
func timeOf(logs []float64, v float64) float64 {
	i, _ := slices.BinarySearch(logs, v)
	i = min(max(i-1, 0), len(logs)-2)
	return float64(i) + min(max((v-logs[i])/(logs[i+1]-logs[i]), 0), 1)
}

// term is a vector and its factor.
type term struct {
	c float64
	v []float32
}

// combine writes the sum of terms. Factors, products and sums are rounded to float32, so that no machine fuses them. dst may be
// one of the vectors.
func combine(dst []float32, terms ...term) {
	for j := range dst {
		sum := float32(float32(terms[0].c) * terms[0].v[j])
		for _, t := range terms[1:] {
			sum += float32(float32(t.c) * t.v[j])
		}
		dst[j] = sum
	}
}
