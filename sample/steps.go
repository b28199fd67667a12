package sample

import (
	"fmt"
	"math"
)

// Spacings lists the accepted subsets of timesteps.
var Spacings = []string{"uniform", "quad"}

// Timesteps returns the ascending subset of the process that S steps visit, with the reference's peculiarities: uniform
// takes every (T/S)-th time and adds one, so that an S that does not divide T makes more steps than asked; quad squares an
// even spacing and repeats early times when S is large. An S whose subset leaves the table is an error, as it is there.
func Timesteps(spacing string, s, total int) ([]int, error) {
	ts, err := timesteps(spacing, s, total)
	if err != nil {
		return nil, err
	}
	if last := ts[len(ts)-1]; last >= total {
		return nil, fmt.Errorf("steps: %d with %s spacing visits time %d, past the last of %d; the nearest that fits is %d",
			s, spacing, last, total-1, nearestSteps(spacing, s, total))
	}
	return ts, nil
}

func timesteps(spacing string, s, total int) ([]int, error) {
	if s < 1 || s > total {
		return nil, fmt.Errorf("steps: %d is not in 1..%d", s, total)
	}
	var ts []int
	switch spacing {
	case "uniform":
		for t := 0; t < total; t += total / s {
			ts = append(ts, t+1)
		}
	case "quad":
		end := math.Sqrt(float64(total) * .8)
		for i := range s {
			v := 0.0
			if s > 1 {
				v = float64(i) * (end / float64(s-1))
			}
			if i == s-1 && s > 1 {
				v = end
			}
			ts = append(ts, int(v*v)+1)
		}
	default:
		return nil, fmt.Errorf("spacing: %q is not one of %v", spacing, Spacings)
	}
	return ts, nil
}

// nearestSteps finds the closest number of steps that stays inside the table.
func nearestSteps(spacing string, s, total int) int {
	for d := 1; d < total; d++ {
		for _, c := range []int{s - d, s + d} {
			if c >= 1 && c <= total {
				if ts, err := timesteps(spacing, c, total); err == nil && ts[len(ts)-1] < total {
					return c
				}
			}
		}
	}
	return 1
}
