package kernel

import "math"

// normChunk is how many pixels are summed at a time. Chunks depend on the image alone, so that neither threads nor batch size
// change the statistics.
const normChunk = 64

// groupSums adds the values and the squares of each group of the pixels of x in float64: sums (Groups, 2).
func groupSums(s GroupNormShape, x []float32, sums []float64) {
	per := s.C / s.Groups
	for ; len(x) >= s.C; x = x[s.C:] {
		for gr := range s.Groups {
			var sum, sq float64
			for _, v := range x[gr*per:][:per] {
				f := float64(v)
				sum += f
				sq += f * f
			}
			sums[2*gr] += sum
			sums[2*gr+1] += sq
		}
	}
}

// groupMean combines the sums of chunks to the mean and the variance of a group over the given number of pixels.
func groupMean(s GroupNormShape, gr int, part []float64, chunks, pixels int) (mean, variance float64) {
	var sum, sq float64
	for c := range chunks {
		at := (c*s.Groups + gr) * 2
		sum += part[at]
		sq += part[at+1]
	}
	count := float64(s.C / s.Groups * pixels)
	mean = sum / count
	return mean, max(sq/count-mean*mean, 0)
}

func (g *plain) groupNorm(s GroupNormShape, x, gamma, beta, moments, scaleShift, y []float32) {
	chunks := (s.HW + normChunk - 1) / normChunk
	per := s.C / s.Groups
	var part []float64
	if moments == nil {
		part = make([]float64, s.N*chunks*s.Groups*2)
		g.parallel(s.N*chunks, func(i int) {
			from := i % chunks * normChunk
			to := min(s.HW, from+normChunk)
			groupSums(s, x[(i/chunks*s.HW+from)*s.C:][:(to-from)*s.C], part[i*s.Groups*2:])
		})
	}
	mul, add := make([]float32, s.N*s.C), make([]float32, s.N*s.C)
	for n := range s.N {
		for gr := range s.Groups {
			var mean, variance float64
			if moments != nil {
				mean, variance = float64(moments[2*n*s.Groups+gr]), float64(moments[(2*n+1)*s.Groups+gr])
			} else {
				mean, variance = groupMean(s, gr, part[n*chunks*s.Groups*2:], chunks, s.HW)
			}
			rstd := 1 / math.Sqrt(variance+s.Eps)
			for c := gr * per; c < (gr+1)*per; c++ {
				m := float64(gamma[c]) * rstd
				a := float64(beta[c]) - mean*m
				if scaleShift != nil {
					k := 1 + float64(scaleShift[n*s.ScaleStride+c])
					m *= k
					a = a*k + float64(scaleShift[n*s.ScaleStride+s.C+c])
				}
				mul[n*s.C+c], add[n*s.C+c] = float32(m), float32(a)
			}
		}
	}
	g.rows(s.N*s.HW, s.C, func(r int) {
		in, out := x[r*s.C:][:s.C], y[r*s.C:][:s.C]
		m, a := mul[r/s.HW*s.C:][:s.C], add[r/s.HW*s.C:][:s.C]
		for i := range out {
			v := float32(in[i]*m[i]) + a[i]
			if s.SiLU {
				v = act(SiLU, v)
			}
			out[i] = v
		}
	})
}

// groupMoments sums each row of a window as one chunk.
func (g *plain) groupMoments(s GroupNormShape, width int, windows []window, x, y []float32) {
	h := s.HW / width
	part := make([]float64, s.N*h*s.Groups*2)
	g.parallel(s.N*h, func(i int) {
		n, row := i/h, i%h
		w := windows[n]
		if row < w.bottom-w.top {
			groupSums(s, x[(n*s.HW+(w.top+row)*width+w.left)*s.C:][:(w.right-w.left)*s.C], part[i*s.Groups*2:])
		}
	})
	for n, w := range windows {
		for gr := range s.Groups {
			mean, variance := groupMean(s, gr, part[n*h*s.Groups*2:], w.bottom-w.top, (w.bottom-w.top)*(w.right-w.left))
			y[2*n*s.Groups+gr], y[(2*n+1)*s.Groups+gr] = float32(mean), float32(variance)
		}
	}
}

func (g *plain) layerNorm(rows, c int, eps float64, x, gamma, beta, y []float32) {
	g.rows(rows, c, func(r int) {
		in, out := x[r*c:][:c], y[r*c:][:c]
		var sum, sq float64
		for _, v := range in {
			sum += float64(v)
		}
		mean := sum / float64(c)
		for _, v := range in {
			d := float64(v) - mean
			sq += d * d
		}
		rstd := 1 / math.Sqrt(sq/float64(c)+eps)
		for i, v := range in {
			out[i] = float32((float64(v)-mean)*rstd*float64(gamma[i]) + float64(beta[i]))
		}
	})
}
