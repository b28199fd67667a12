package resize

import (
	"fmt"
	"math"
)

func convert[A, B uint8 | float32 | float64](v []A) []B {
	out := make([]B, len(v))
	for i, x := range v {
		out[i] = B(x)
	}
	return out
}

// hwc turns 1 x C x H x W into H x W x C.
func hwc[T any](v []T, c, h, w int) []T {
	out := make([]T, len(v))
	for ch := range c {
		for i := range h * w {
			out[i*c+ch] = v[ch*h*w+i]
		}
	}
	return out
}

// difference is the comparison of one file or one group of its entries.
type difference struct {
	entries, samples, unequal int
	max                       float64
}

func (d *difference) compare(got, want []float64) float64 {
	worst := 0.0
	for i, g := range got {
		if g != want[i] {
			d.unequal++
		}
		if x := math.Abs(g - want[i]); !(x <= worst) {
			worst = x
		}
	}
	d.entries++
	d.samples += len(got)
	d.max = max(d.max, worst)
	return worst
}

func (d difference) String() string {
	return fmt.Sprintf("%d entries, %d samples, %d unequal, max abs diff %.3g", d.entries, d.samples, d.unequal, d.max)
}
