package cpu

import (
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
func (b *Backend) SumSquares(x []float32) float64 { return b.pool.SumSquares(x) }

// Adam implements [plan.Arithmetic].
func (b *Backend) Adam(c plan.Adam, w, g, m, v, average []float32) {
	config := kernel.AdamConfig{Rate: c.Rate, Beta1: c.Beta1, Beta2: c.Beta2, Eps: c.Eps, Decay: c.Decay, Step: c.Step, EMA: c.Average}
	if c.Average == 0 {
		average = nil
	}
	b.pool.AdamW(config, w, g, m, v, average)
}
