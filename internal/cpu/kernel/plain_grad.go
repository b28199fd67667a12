package kernel

import "math"

// columnSums adds up in float64.
func (g *plain) columnSums(n, rows, c, ld int, x, y []float32) {
	const wide = 16
	across := (c + wide - 1) / wide
	g.parallel(n*across, func(task int) {
		var sum [wide]float64
		c0 := task % across * wide
		m := min(wide, c-c0)
		x := x[task/across*rows*ld+c0:]
		for r := range rows {
			for i, v := range x[r*ld:][:m] {
				sum[i] += float64(v)
			}
		}
		narrow(y[task/across*c+c0:][:m], sum[:])
	})
}

// normGrad has the gradient of a normalisation: rstd*(d - mean(d) - xhat*mean(d*xhat)) with d = dy*gamma.
type normGrad struct{ mean, rstd, d, dx float64 }

func (n normGrad) at(x, d float64) float32 {
	return float32(n.rstd * (d - n.d - (x-n.mean)*n.rstd*n.dx))
}

// groupNormGrad works on one group of a sample at a time, with sums of each channel in float64.
func (g *plain) groupNormGrad(s GroupNormShape, x, gamma, beta, dy, dx, dgamma, dbeta []float32) {
	per := s.C / s.Groups
	params := make([]float64, s.N*s.C*2) // sums of dy*xhat and of dy
	g.parallel(s.N*s.Groups, func(task int) {
		n, c0 := task/s.Groups, task%s.Groups*per
		each := func(f func(i, c int)) {
			for p := range s.HW {
				for c := range per {
					f((n*s.HW+p)*s.C+c0+c, c)
				}
			}
		}
		count := float64(per * s.HW)
		var v normGrad
		each(func(i, _ int) { v.mean += float64(x[i]) })
		v.mean /= count
		square := 0.0
		each(func(i, _ int) { d := float64(x[i]) - v.mean; square += d * d })
		v.rstd = 1 / math.Sqrt(square/count+s.Eps)
		sums := params[(n*s.C+c0)*2:][:per*2]
		// d is the gradient before an activation.
		d := func(i, c int) float64 { return float64(dy[i]) }
		if s.SiLU {
			d = func(i, c int) float64 {
				h := (float64(x[i])-v.mean)*v.rstd*float64(gamma[c0+c]) + float64(beta[c0+c])
				return float64(dy[i]) * slope(SiLU, float32(h))
			}
		}
		each(func(i, c int) {
			e := d(i, c)
			sums[2*c] += e * (float64(x[i]) - v.mean) * v.rstd
			sums[2*c+1] += e
		})
		if dx == nil {
			return
		}
		for c := range per {
			v.dx += float64(gamma[c0+c]) * sums[2*c] / count
			v.d += float64(gamma[c0+c]) * sums[2*c+1] / count
		}
		each(func(i, c int) { dx[i] = v.at(float64(x[i]), d(i, c)*float64(gamma[c0+c])) })
	})
	for c := range dgamma {
		var a, b float64
		for n := range s.N {
			a += params[(n*s.C+c)*2]
			b += params[(n*s.C+c)*2+1]
		}
		dgamma[c], dbeta[c] = float32(a), float32(b)
	}
}

// layerNormGrad sums the gradients of the parameters over fixed chunks of rows.
func (g *plain) layerNormGrad(rows, c int, eps float64, x, gamma, dy, dx, dgamma, dbeta []float32) {
	const chunk = 64
	chunks := (rows + chunk - 1) / chunk
	var params []float64
	if dgamma != nil {
		params = make([]float64, chunks*c*2)
	}
	g.parallel(chunks, func(k int) {
		for r := k * chunk; r < min(rows, (k+1)*chunk); r++ {
			in, d := x[r*c:][:c], dy[r*c:][:c]
			var v normGrad
			for _, f := range in {
				v.mean += float64(f)
			}
			v.mean /= float64(c)
			square := 0.0
			for _, f := range in {
				square += (float64(f) - v.mean) * (float64(f) - v.mean)
			}
			v.rstd = 1 / math.Sqrt(square/float64(c)+eps)
			if dgamma != nil {
				sums := params[k*c*2:][:c*2]
				for i, f := range in {
					sums[2*i] += float64(d[i]) * (float64(f) - v.mean) * v.rstd
					sums[2*i+1] += float64(d[i])
				}
			}
			if dx == nil {
				continue
			}
			for i, f := range in {
				e := float64(d[i]) * float64(gamma[i])
				v.d += e / float64(c)
				v.dx += e * (float64(f) - v.mean) * v.rstd / float64(c)
			}
			for i, f := range in {
				dx[r*c+i] = v.at(float64(f), float64(d[i])*float64(gamma[i]))
			}
		}
	})
	for i := range dgamma {
		var a, b float64
		for k := range chunks {
			a += params[(k*c+i)*2]
			b += params[(k*c+i)*2+1]
		}
		dgamma[i], dbeta[i] = float32(a), float32(b)
	}
}

// softmax replaces scores by their exponentials over the sum of those.
func softmax(p []float32) {
	top := p[0]
	for _, v := range p {
		top = max(top, v)
	}
	sum := 0.0
	for i, v := range p {
		e := math.Exp(float64(v) - float64(top))
		p[i] = float32(e)
		sum += e
	}
	for i := range p {
		p[i] = float32(float64(p[i]) / sum)
	}
}

// slope is the derivative of an activation.
func slope(a Act, x float32) float64 {
	v := float64(x)
	switch a {
	case SiLU:
		s := 1 / (1 + math.Exp(-v))
		return s * (1 + v*(1-s))
	case GELU:
		return 0.5*math.Erfc(-v/math.Sqrt2) + v*math.Exp(-v*v/2)/math.Sqrt(2*math.Pi)
	}
	if v > 0 {
		return 1
	}
	return 0
}

// flat runs f over ranges of a flat array.
func (g *plain) flat(n int, f func(i int)) {
	g.blocks(n, 4096, func(from, to int) {
		for i := from; i < to; i++ {
			f(i)
		}
	})
}

func (g *plain) activateGrad(a Act, x, dy, dx []float32) {
	g.flat(len(dx), func(i int) { dx[i] = float32(slope(a, x[i]) * float64(dy[i])) })
}

func (g *plain) leakyReLU(slope float32, x, y []float32) {
	g.flat(len(y), func(i int) { y[i] = leak(slope, x[i] >= 0 || x[i] != x[i], x[i]) })
}

func (g *plain) leakyReLUGrad(slope float32, x, dy, dx []float32) {
	g.flat(len(dx), func(i int) { dx[i] = leak(slope, x[i] > 0, dy[i]) })
}

func leak(slope float32, whole bool, v float32) float32 {
	if whole {
		return v
	}
	return slope * v
}

func (g *plain) gegluGrad(rows, c int, x, dy, dx []float32) {
	g.rows(rows, c, func(r int) {
		in, d, out := x[2*r*c:][:2*c], dy[r*c:][:c], dx[2*r*c:][:2*c]
		for i, e := range d {
			value, gate := in[i], in[c+i]
			out[i] = e * act(GELU, gate)
			out[c+i] = float32(float64(e) * float64(value) * slope(GELU, gate))
		}
	})
}

func (g *plain) modulateGradX(n, t, c int, s []float32, lds int, dy, dx []float32) {
	g.rows(n*t, c, func(r int) {
		scale := s[r/t*lds:][:c]
		for i, k := range scale {
			dx[r*c+i] = dy[r*c+i] * (1 + k)
		}
	})
}

func (g *plain) modulateGradS(n, t, c int, x, dy, ds []float32) {
	g.parallel(n, func(n int) {
		for i := range c {
			var a, b float64
			for r := range t {
				at := (n*t+r)*c + i
				a += float64(x[at]) * float64(dy[at])
				b += float64(dy[at])
			}
			ds[2*n*c+i], ds[(2*n+1)*c+i] = float32(a), float32(b)
		}
	})
}

func (g *plain) upsample2Grad(n, h, w, c int, dy, dx []float32) {
	g.parallel(n*h, func(r int) {
		a := dy[2*r*2*w*c:]
		b := a[2*w*c:]
		for i := range w * c {
			k := i/c*2*c + i%c
			dx[r*w*c+i] = (a[k] + a[k+c]) + (b[k] + b[k+c])
		}
	})
}

func (g *plain) avgPool2Grad(n, h, w, c int, dy, dx []float32) {
	oh, ow := h/2, w/2
	g.parallel(n*h, func(r int) {
		out := dx[r*w*c:][:w*c]
		y := r % h / 2
		if y >= oh {
			clear(out)
			return
		}
		clear(out[2*ow*c:])
		for i := range 2 * ow * c {
			out[i] = 0.25 * dy[(r/h*oh+y)*ow*c+i/(2*c)*c+i%c]
		}
	})
}

// maxPoolGrad and avgPoolGrad work on a sample at a time: windows overlap.
func (g *plain) maxPoolGrad(s WindowShape, x, dy, dx []float32) {
	g.windows(s, dx, func(out []float32, n, oy, ox int, from, to [2]int) {
		image := x[n*s.H*s.W*s.C:]
		for c := range s.C {
			best, at := float32(0), -1
			for r := from[0]; r < to[0]; r++ {
				for q := from[1]; q < to[1]; q++ {
					i := (r*s.W+q)*s.C + c
					if v := image[i]; at < 0 || v > best || v != v && best == best {
						best, at = v, i
					}
				}
			}
			out[at] += dy[((n*s.OutH+oy)*s.OutW+ox)*s.C+c]
		}
	})
}

func (g *plain) avgPoolGrad(s WindowShape, dy, dx []float32) {
	g.windows(s, dx, func(out []float32, n, oy, ox int, from, to [2]int) {
		f := float32((to[0] - from[0]) * (to[1] - from[1]))
		for r := from[0]; r < to[0]; r++ {
			for q := from[1]; q < to[1]; q++ {
				for c := range s.C {
					out[(r*s.W+q)*s.C+c] += dy[((n*s.OutH+oy)*s.OutW+ox)*s.C+c] / f
				}
			}
		}
	})
}

// windows calls f with the gradient of each sample, which is zero at first, and the rows and columns of each of its windows in order.
func (g *plain) windows(s WindowShape, dx []float32, f func(out []float32, n, oy, ox int, from, to [2]int)) {
	size := s.H * s.W * s.C
	g.parallel(s.N, func(n int) {
		out := dx[n*size:][:size]
		clear(out)
		for oy := range s.OutH {
			for ox := range s.OutW {
				var from, to [2]int
				from[0], to[0] = clip(oy, s, s.H)
				from[1], to[1] = clip(ox, s, s.W)
				f(out, n, oy, ox, from, to)
			}
		}
	})
}

func (g *plain) pixelMeanGrad(n, hw, c int, dy, dx []float32) {
	g.rows(n*hw, c, func(r int) {
		for i, d := range dy[r/hw*c:][:c] {
			dx[r*c+i] = d / float32(hw)
		}
	})
}

func (g *plain) padColumns(rows, from, n, width int, x, y []float32) {
	g.rows(rows, width, func(r int) {
		out := y[r*width:][:width]
		clear(out[:from])
		copy(out[from:], x[r*n:][:n])
		clear(out[from+n:])
	})
}

func (g *plain) embedGrad(ids []float32, dim int, dy, dtable []float32) {
	embedGrad(ids, dim, dy, dtable)
}

// embedGrad is shared by all implementations: it is never worth a vector loop.
func embedGrad(ids []float32, dim int, dy, dtable []float32) {
	clear(dtable)
	for i, id := range ids {
		axpy(dtable[int(id)*dim:][:dim], 1, dy[i*dim:])
	}
}

func (g *plain) gaussianSampleGrad(rows, c int, moments, noise, dy, dm []float32) {
	g.rows(rows, c, func(r int) {
		out := dm[2*r*c:][:2*c]
		for i, d := range dy[r*c:][:c] {
			out[i], out[c+i] = d, 0
			if logvar := float64(moments[2*r*c+c+i]); logvar >= -30 && logvar <= 20 {
				out[c+i] = float32(float64(d) * float64(noise[r*c+i]) * 0.5 * math.Exp(0.5*logvar))
			}
		}
	})
}

// sumChunk is how many terms of a long sum are added at a time.
const sumChunk = 4096

// total adds up f(i), in chunks.
func (g *plain) total(n int, f func(i int) float64) float64 {
	part := make([]float64, (n+sumChunk-1)/sumChunk)
	g.blocks(n, sumChunk, func(from, to int) {
		for i := from; i < to; i++ {
			part[from/sumChunk] += f(i)
		}
	})
	sum := 0.0
	for _, v := range part {
		sum += v
	}
	return sum
}

func (g *plain) dot(a, b []float32) float64 {
	return g.total(len(a), func(i int) float64 { return float64(a[i]) * float64(b[i]) })
}

func (g *plain) squareDistance(a, b []float32) float64 {
	return g.total(len(a), func(i int) float64 { d := float64(a[i]) - float64(b[i]); return d * d })
}

func (g *plain) scaleDifference(f float32, a, b, y []float32) {
	g.flat(len(y), func(i int) { y[i] = f * (a[i] - b[i]) })
}

func (g *plain) sampleError(n, size, power int, x, target, y []float32) {
	g.parallel(n, func(n int) {
		sum := 0.0
		for i, v := range x[n*size:][:size] {
			d := float64(v) - float64(target[n*size+i])
			if power == 2 {
				d *= d
			}
			sum += math.Abs(d)
		}
		y[n] = float32(sum / float64(size))
	})
}

func (g *plain) sampleErrorGrad(n, size, power int, x, target, dy, dx []float32) {
	g.flat(n*size, func(i int) {
		d, f := float64(x[i])-float64(target[i]), float64(dy[i/size])/float64(size)
		switch {
		case power == 2:
			dx[i] = float32(2 * d * f)
		case d > 0:
			dx[i] = float32(f)
		case d < 0:
			dx[i] = float32(-f)
		default:
			dx[i] = float32(d) // zero, or NaN
		}
	})
}

func (g *plain) adamW(c adamStep, w, g1, m, v, ema []float32) {
	g.flat(len(w), func(i int) {
		m[i] += (g1[i] - m[i]) * c.rest1
		v[i] = v[i]*c.beta2 + c.rest2*g1[i]*g1[i]
		root := float32(math.Sqrt(float64(v[i])))
		w[i] = w[i]*c.keep - c.size*(m[i]/(root/c.root+c.eps))
		if ema != nil {
			ema[i] -= c.restEMA * (ema[i] - w[i])
		}
	})
}
