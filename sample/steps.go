package sample

import (
	"fmt"
	"math"
)

// Spacings lists the accepted spacings of a walk.
var Spacings = []string{"uniform", "quad", "trailing", "linspace", "karras"}

// SpacingsOf lists the spacings that a sampler can have. Uniform, quad and trailing are subsets of the process, see [Timesteps].
// Linspace divides it evenly from the first time to the last. Karras divides the noise per signal (Karras et al. 2022, equation 5,
// rho 7) from that of the last time to that of the first; the network is told the time where the logarithm of the process's
// noise per signal, linear between times, has that value. As in diffusers, linspace and karras tell it whole times with the
// multistep solvers dpmpp-2m and unipc, the nearest ones, and fractions with the others. ddpm visits every time, which is called
// uniform.
func SpacingsOf(name string) []string {
	switch name {
	case "ddpm":
		return Spacings[:1]
	case "ddim", "plms":
		return Spacings[:3]
	}
	return []string{"uniform", "trailing", "linspace", "karras"}
}

// Timesteps returns the ascending subset of the process that S steps visit. Uniform and quad have the reference's peculiarities:
// uniform takes every (T/S)-th time and adds one, so that an S that does not divide T makes more steps than asked; quad squares
// an even spacing and repeats early times when S is large. An S whose subset leaves the table is an error, as it is there.
// Trailing takes S times evenly from the last one downwards (Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps
// are Flawed", table 2).
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
	case "trailing":
		for i := s - 1; i >= 0; i-- {
			ts = append(ts, int(math.RoundToEven(float64(total)-float64(i)*(float64(total)/float64(s))))-1)
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
