package kernel

import "math"

// groupNorm sums in float64 over fixed chunks of pixels, so that neither threads nor batch size change the statistics.
func (g *plain) groupNorm(s GroupNormShape, x, gamma, beta, scaleShift, y []float32) {
	const chunk = 64
	chunks := (s.HW + chunk - 1) / chunk
	per := s.C / s.Groups
	part := make([]float64, s.N*chunks*s.Groups*2)
	g.parallel(s.N*chunks, func(i int) {
		sums := part[i*s.Groups*2:][:s.Groups*2]
		n, from := i/chunks, i%chunks*chunk
		for px := from; px < min(s.HW, from+chunk); px++ {
			row := x[(n*s.HW+px)*s.C:][:s.C]
			for gr := range s.Groups {
				var sum, sq float64
				for _, v := range row[gr*per:][:per] {
					f := float64(v)
					sum += f
					sq += f * f
				}
				sums[2*gr] += sum
				sums[2*gr+1] += sq
			}
		}
	})
	mul, add := make([]float32, s.N*s.C), make([]float32, s.N*s.C)
	for n := range s.N {
		for gr := range s.Groups {
			var sum, sq float64
			for c := range chunks {
				at := ((n*chunks+c)*s.Groups + gr) * 2
				sum += part[at]
				sq += part[at+1]
			}
			count := float64(per * s.HW)
			mean := sum / count
			rstd := 1 / math.Sqrt(max(sq/count-mean*mean, 0)+s.Eps)
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
