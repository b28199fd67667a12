package kernel

import "fmt"

// The gradients of the cheap kernels. dy is the gradient of a result, dx that of an input; both have the layouts of the forward pass.
// Sums over rows, pixels and samples are cut at places that the shape alone gives.

// run locks the pool for a kernel unless there is nothing to do.
func (p *Pool) run(n int, f func()) {
	if n == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// ColumnSum computes the sums y (c) of the columns of x (rows, c), with ld floats from row to row; 0 means contiguous.
func (p *Pool) ColumnSum(rows, c, ld int, x, y []float32) { p.columnSums(1, rows, c, ld, x, y) }

// PixelSum computes the sums y (n,c) over the pixels of x (n,hw,c).
func (p *Pool) PixelSum(n, hw, c int, x, y []float32) { p.columnSums(n, hw, c, c, x, y) }

// BatchSum computes the sums y (t,c) over the samples of x (n,t,c).
func (p *Pool) BatchSum(n, t, c int, x, y []float32) { p.columnSums(1, n, t*c, t*c, x, y) }

func (p *Pool) columnSums(n, rows, c, ld int, x, y []float32) {
	if ld == 0 {
		ld = c
	}
	y = y[:n*c]
	if n*rows*c == 0 {
		clear(y)
		return
	}
	p.run(1, func() { p.k.columnSums(n, rows, c, ld, x[:(n*rows-1)*ld+c], y) })
}

// GroupNormGrad computes the gradients of a [Pool.GroupNorm] with its own statistics and without scaleShift: dx like x, and dgamma
// and dbeta (C), summed over samples. Either dx, or dgamma and dbeta, may be nil. dx may be dy. beta is needed with SiLU only.
func (p *Pool) GroupNormGrad(s GroupNormShape, x, gamma, beta, dy, dx, dgamma, dbeta []float32) {
	s.check()
	n := s.N * s.HW * s.C
	if dgamma != nil {
		dgamma, dbeta = dgamma[:s.C], dbeta[:s.C]
	}
	if n == 0 {
		clear(dgamma)
		clear(dbeta)
		return
	}
	if dx != nil {
		dx, gamma = dx[:n], gamma[:s.C]
	}
	if s.SiLU {
		gamma, beta = gamma[:s.C], beta[:s.C]
	}
	p.run(n, func() { p.k.groupNormGrad(s, x[:n], gamma, beta, dy[:n], dx, dgamma, dbeta) })
}

// LayerNormGrad computes the gradients of a [Pool.LayerNorm]: dx like x, and dgamma and dbeta (c), summed over rows. Either dx, or
// dgamma and dbeta, may be nil. dx may be dy.
func (p *Pool) LayerNormGrad(rows, c int, eps float64, x, gamma, dy, dx, dgamma, dbeta []float32) {
	n := rows * c
	if dgamma != nil {
		dgamma, dbeta = dgamma[:c], dbeta[:c]
	}
	if n == 0 {
		clear(dgamma)
		clear(dbeta)
		return
	}
	if dx != nil {
		dx, gamma = dx[:n], gamma[:c]
	}
	p.run(n, func() { p.k.layerNormGrad(rows, c, eps, x[:n], gamma, dy[:n], dx, dgamma, dbeta) })
}

// AttentionGrad computes the gradients of [Pool.Attention]: dq, dk and dv with the strides of q, k and v, from dy with those of o.
// The weights are computed again. The gradients may lie interleaved in one array, as q, k and v of a fused projection do.
func (p *Pool) AttentionGrad(s AttentionShape, q, k, v, dy, dq, dk, dv []float32) {
	if s.N == 0 || s.Tq == 0 || s.Heads == 0 {
		return
	}
	if s.Tk < 1 || s.D < 1 {
		panic(fmt.Sprintf("kernel: attention %+v has no keys", s))
	}
	nq, nk := s.span(s.Tq, s.QRow, s.QHead, s.QSample), s.span(s.Tk, s.KRow, s.KHead, s.KSample)
	nv, no := s.span(s.Tk, s.VRow, s.VHead, s.VSample), s.span(s.Tq, s.ORow, s.OHead, s.OSample)
	p.run(1, func() { p.k.attentionGrad(s, q[:nq], k[:nk], v[:nv], dy[:no], dq[:nq], dk[:nk], dv[:nv]) })
}

// SiLUGrad computes the gradient of [Pool.SiLU], elementwise over len(dx). dx may be dy.
func (p *Pool) SiLUGrad(x, dy, dx []float32) { p.activateGrad(SiLU, x, dy, dx) }

// GELUGrad computes the gradient of [Pool.GELU], elementwise over len(dx). dx may be dy.
func (p *Pool) GELUGrad(x, dy, dx []float32) { p.activateGrad(GELU, x, dy, dx) }

// ReLUGrad computes the gradient of [Pool.ReLU], elementwise over len(dx): dy where x > 0, else 0. dx may be dy.
func (p *Pool) ReLUGrad(x, dy, dx []float32) { p.activateGrad(ReLU, x, dy, dx) }

func (p *Pool) activateGrad(a Act, x, dy, dx []float32) {
	n := len(dx)
	p.run(n, func() { p.k.activateGrad(a, x[:n], dy[:n], dx) })
}

// LeakyReLU computes y = x where x >= 0, else slope * x, elementwise over len(y).
func (p *Pool) LeakyReLU(slope float32, x, y []float32) {
	n := len(y)
	p.run(n, func() { p.k.leakyReLU(slope, x[:n], y) })
}

// LeakyReLUGrad computes dx = dy where x > 0, else slope * dy, elementwise over len(dx). dx may be dy.
func (p *Pool) LeakyReLUGrad(slope float32, x, dy, dx []float32) {
	n := len(dx)
	p.run(n, func() { p.k.leakyReLUGrad(slope, x[:n], dy[:n], dx) })
}

// GEGLUGrad computes the gradient dx (rows, 2c) of [Pool.GEGLU] from x (rows, 2c) and dy (rows, c).
func (p *Pool) GEGLUGrad(rows, c int, x, dy, dx []float32) {
	n := rows * c
	p.run(n, func() { p.k.gegluGrad(rows, c, x[:2*n], dy[:n], dx[:2*n]) })
}

// ModulateGradX computes the gradient dx = dy * (1 + s[n,:c]) of [Pool.Modulate]. dx may be dy.
func (p *Pool) ModulateGradX(n, t, c int, s []float32, lds int, dy, dx []float32) {
	all := n * t * c
	p.run(all, func() { p.k.modulateGradX(n, t, c, s[:(n-1)*lds+2*c], lds, dy[:all], dx[:all]) })
}

// ModulateGradS computes the gradient ds (n,2c) of the scale and shift of [Pool.Modulate]: the sums of dy * x, then those of dy.
func (p *Pool) ModulateGradS(n, t, c int, x, dy, ds []float32) {
	all := n * t * c
	ds = ds[:2*n*c]
	if all == 0 {
		clear(ds)
		return
	}
	p.run(all, func() { p.k.modulateGradS(n, t, c, x[:all], dy[:all], ds) })
}

// Upsample2Grad sums 2x2 blocks: dy (n,2h,2w,c) to dx (n,h,w,c).
func (p *Pool) Upsample2Grad(n, h, w, c int, dy, dx []float32) {
	all := n * h * w * c
	p.run(all, func() { p.k.upsample2Grad(n, h, w, c, dy[:4*all], dx[:all]) })
}

// AvgPool2Grad computes the gradient dx (n,h,w,c) of [Pool.AvgPool2] from dy (n,h/2,w/2,c): a quarter for each pixel of a block, zero
// for an odd last row or column.
func (p *Pool) AvgPool2Grad(n, h, w, c int, dy, dx []float32) {
	all := n * h * w * c
	p.run(all, func() { p.k.avgPool2Grad(n, h, w, c, dy[:n*(h/2)*(w/2)*c], dx[:all]) })
}

// MaxPoolGrad gives each dy to the first largest pixel of its window, row by row, as [Pool.MaxPool] orders them.
func (p *Pool) MaxPoolGrad(s WindowShape, x, dy, dx []float32) {
	all := s.N * s.H * s.W * s.C
	if all == 0 {
		return
	}
	s.check()
	p.run(all, func() { p.k.maxPoolGrad(s, x[:all], dy[:s.N*s.OutH*s.OutW*s.C], dx[:all]) })
}

// AvgPoolGrad gives each pixel of a window its share of dy, see [Pool.AvgPool].
func (p *Pool) AvgPoolGrad(s WindowShape, dy, dx []float32) {
	all := s.N * s.H * s.W * s.C
	if all == 0 {
		return
	}
	s.check()
	p.run(all, func() { p.k.avgPoolGrad(s, dy[:s.N*s.OutH*s.OutW*s.C], dx[:all]) })
}

// PixelMeanGrad computes the gradient dx (n,hw,c) = dy[n,:] / hw of [Pool.PixelMean].
func (p *Pool) PixelMeanGrad(n, hw, c int, dy, dx []float32) {
	all := n * hw * c
	p.run(all, func() { p.k.pixelMeanGrad(n, hw, c, dy[:n*c], dx[:all]) })
}

// PadColumns writes the contiguous rows of x (rows, n) to columns from..from+n of y (rows, width), and zeros to the others.
func (p *Pool) PadColumns(rows, from, n, width int, x, y []float32) {
	if from < 0 || from+n > width {
		panic(fmt.Sprintf("kernel: columns %d to %d of %d", from, from+n, width))
	}
	p.run(rows*width, func() { p.k.padColumns(rows, from, n, width, x[:rows*n], y[:rows*width]) })
}

// EmbedGrad adds row i of dy to row ids[i] of a dtable that begins as zeros, in the order of the rows. Ids are checked as by
// [Pool.Embed].
func (p *Pool) EmbedGrad(ids []float32, dim int, dy, dtable []float32) error {
	if err := checkIDs(ids, len(dtable)/dim); err != nil {
		return err
	}
	p.run(len(dtable), func() { p.k.embedGrad(ids, dim, dy[:len(ids)*dim], dtable) })
	return nil
}

// GaussianSampleGrad computes the gradient dm (rows, 2c) of the moments of [Pool.GaussianSample]. A log-variance beyond the bounds
// has none.
func (p *Pool) GaussianSampleGrad(rows, c int, moments, noise, dy, dm []float32) {
	n := rows * c
	p.run(n, func() { p.k.gaussianSampleGrad(rows, c, moments[:2*n], noise[:n], dy[:n], dm[:2*n]) })
}

// ScaleBy computes y = f[0] * x, elementwise over len(y).
func (p *Pool) ScaleBy(x, f, y []float32) { p.Scale(f[0], x, y) }

// Dot writes the sum of a*b over len(a) to y[0]. Sums of more than a chunk are float64.
func (p *Pool) Dot(a, b, y []float32) {
	y[0] = 0
	p.run(len(a), func() { y[0] = float32(p.k.dot(a, b[:len(a)])) })
}

// SumSquares is the sum of squares of x, in float64.
func (p *Pool) SumSquares(x []float32) (sum float64) {
	p.run(len(x), func() { sum = p.k.dot(x, x) })
	return sum
}

// MeanSquare writes the mean of (a-b)^2 over len(a) to y[0].
func (p *Pool) MeanSquare(a, b, y []float32) {
	y[0] = 0
	p.run(len(a), func() { y[0] = float32(p.k.squareDistance(a, b[:len(a)]) / float64(len(a))) })
}

// MeanSquareGrad computes the gradient da = 2 dy[0] (a-b) / len(da) of [Pool.MeanSquare].
func (p *Pool) MeanSquareGrad(a, b, dy, da []float32) {
	n := len(da)
	p.run(n, func() { p.k.scaleDifference(float32(2*float64(dy[0])/float64(n)), a[:n], b[:n], da) })
}

// SampleError computes for each of n samples of size elements the mean y (n) of |x-target|^power, power 1 or 2.
func (p *Pool) SampleError(n, size, power int, x, target, y []float32) {
	checkPower(power)
	p.run(n*size, func() { p.k.sampleError(n, size, power, x[:n*size], target[:n*size], y[:n]) })
}

// SampleErrorGrad computes the gradient dx of [Pool.SampleError] from dy (n): 2 (x-target) dy[n] / size, or sign(x-target) dy[n] /
// size with sign(0) = 0.
func (p *Pool) SampleErrorGrad(n, size, power int, x, target, dy, dx []float32) {
	checkPower(power)
	p.run(n*size, func() { p.k.sampleErrorGrad(n, size, power, x[:n*size], target[:n*size], dy[:n], dx[:n*size]) })
}

func checkPower(power int) {
	if power != 1 && power != 2 {
		panic(fmt.Sprintf("kernel: sample error of power %d", power))
	}
}
