package cpu

import (
	"math"

	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// Alloc implements [plan.Arithmetic].
func (b *Backend) Alloc(n int) []float32 { return kernel.Alloc(n) }

// Free implements [plan.Arithmetic].
func (b *Backend) Free(x []float32) { kernel.Free(x) }

// Scale implements [plan.Arithmetic].
func (b *Backend) Scale(f float32, x []float32) { b.pool.Scale(f, x, x) }

// SumSquares implements [plan.Arithmetic].
func (b *Backend) SumSquares(x []float32) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return sum
}

// Adam implements [plan.Arithmetic].
func (b *Backend) Adam(c plan.Adam, w, g, m, v, average []float32) {
	step := float32(c.Rate / (1 - math.Pow(c.Beta1, float64(c.Step))))
	root := float32(math.Sqrt(1 - math.Pow(c.Beta2, float64(c.Step))))
	for i, d := range g {
		w[i] *= float32(1 - c.Rate*c.Decay)
		m[i] += (d - m[i]) * float32(1-c.Beta1)
		v[i] = v[i]*float32(c.Beta2) + d*d*float32(1-c.Beta2)
		w[i] -= step * m[i] / (float32(math.Sqrt(float64(v[i])))/root + float32(c.Eps))
		if c.Average != 0 {
			average[i] -= float32(1-c.Average) * (average[i] - w[i])
		}
	}
}
