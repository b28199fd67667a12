package kernel

import "math"

// attention works on three queries at a time and passes over the keys in blocks, keeping the running maximum and sum of the
// exponentials (Milakov and Gimelshein 2018).
func (g *plain) attention(s AttentionShape, q, k, v, o []float32, _ Precision) {
	const block = 128
	tiles := (s.Tq + tileP - 1) / tileP
	g.parallel(s.N*s.Heads*tiles, func(task int) {
		n, h, t0 := task/tiles/s.Heads, task/tiles%s.Heads, task%tiles*tileP
		rows := min(tileP, s.Tq-t0)
		acc := make([]float32, tileP*s.D)
		for i := range rows {
			query := q[n*s.QSample+(t0+i)*s.QRow+h*s.QHead:][:s.D]
			out := acc[i*s.D:][:s.D]
			var score [block]float32
			top, sum := float32(math.Inf(-1)), float32(0)
			for k0 := 0; k0 < s.Tk; k0 += block {
				m := min(block, s.Tk-k0)
				high := top
				for j := range m {
					score[j] = s.Scale * dot(query, k[n*s.KSample+(k0+j)*s.KRow+h*s.KHead:][:s.D])
					high = max(high, score[j])
				}
				if high > top {
					f := float32(math.Exp(float64(top - high)))
					sum *= f
					for d := range out {
						out[d] *= f
					}
					top = high
				}
				for j := range m {
					e := float32(math.Exp(float64(score[j] - top)))
					sum += e
					value := v[n*s.VSample+(k0+j)*s.VRow+h*s.VHead:][:s.D]
					for d := range out {
						out[d] += e * value[d]
					}
				}
			}
			result := o[n*s.OSample+(t0+i)*s.ORow+h*s.OHead:][:s.D]
			for d := range result {
				result[d] = out[d] / sum
			}
		}
	})
}

// dot sums in four interleaved parts.
func dot(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + (s2 + s3)
}
