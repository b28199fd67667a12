package kernel

// turnKernel writes y (c, o, rows, cols) from oihw (o, c, kh, kw).
func (g *plain) turnKernel(o, c, kh, kw int, t turn, oihw, y []float32) {
	rows, cols := t.rows, t.cols
	if t.doubled {
		rows, cols = rows+1, cols+1
	}
	g.parallel(c, func(ch int) {
		dst := y[ch*o*rows*cols:]
		for k := range o {
			src := oihw[(k*c+ch)*kh*kw:][:kh*kw]
			tap := func(u, v int) float32 {
				if u < 0 || v < 0 || u >= t.rows || v >= t.cols {
					return 0
				}
				return src[(t.row+(t.rows-1-u)*t.step)*kw+t.col+(t.cols-1-v)*t.step]
			}
			for u := range rows {
				for v := range cols {
					w := tap(u, v)
					if t.doubled {
						w = (w + tap(u, v-1)) + (tap(u-1, v) + tap(u-1, v-1))
					}
					dst[(k*rows+u)*cols+v] = w
				}
			}
		}
	})
}

func (g *plain) convSpread(s ConvShape, w packed, sp spread, x, y []float32) {
	g.convolve(s, w, sp, x, y, Epilogue{})
}

func (g *plain) zeroSpread(n, h, w, c int, sp spread, y []float32) {
	g.parallel(n*h, func(r int) {
		for x := range w {
			clear(y[sp.pixel(r/h, r%h, x)*c:][:c])
		}
	})
}

// gradTile is the number of outputs of a task of a weight gradient, gradStretch that of the rows whose products are added in float32
// before they go to the float64 total.
const (
	gradTile    = 4
	gradStretch = 64
)

// weightGradient sums the products of dy with windows of x over rows. Row r of dy has o floats; its window has taps stretches of c
// floats, nil ones being zeros.
func (g *plain) weightGradient(rows, taps, c, o int, window func(r, tap int) []float32, gradient func(r int) []float32, dw []float32) {
	g.parallel((o+gradTile-1)/gradTile, func(task int) {
		o0 := task * gradTile
		n := min(gradTile, o-o0)
		total := make([]float64, n*taps*c)
		part := make([]float32, n*taps*c)
		for r0 := 0; r0 < rows; r0 += gradStretch {
			clear(part)
			for r := r0; r < min(rows, r0+gradStretch); r++ {
				dy := gradient(r)[o0:][:n]
				for t := range taps {
					x := window(r, t)
					if x == nil {
						continue
					}
					for i, d := range dy {
						axpy(part[(i*taps+t)*c:][:c], d, x)
					}
				}
			}
			for i, v := range part {
				total[i] += float64(v)
			}
		}
		for i := range n {
			for t := range taps {
				for k := range c {
					dw[((o0+i)*c+k)*taps+t] = float32(total[(i*taps+t)*c+k])
				}
			}
		}
	})
}

// axpy adds a*x to y.
func axpy(y []float32, a float32, x []float32) {
	x = x[:len(y)]
	for i, v := range x {
		y[i] += a * v
	}
}

func (g *plain) convGradWeight(s ConvShape, x, dy, dw []float32) {
	inH, inW := s.H, s.W
	if s.Upsample {
		inH, inW = s.H/2, s.W/2
	}
	window := func(r, t int) []float32 {
		n, oy, ox := r/s.OutW/s.OutH, r/s.OutW%s.OutH, r%s.OutW
		iy, ix := oy*s.Stride+t/s.KW-s.PadTop, ox*s.Stride+t%s.KW-s.PadLeft
		if uint(iy) >= uint(s.H) || uint(ix) >= uint(s.W) {
			return nil
		}
		if s.Upsample {
			iy, ix = iy/2, ix/2
		}
		return x[((n*inH+iy)*inW+ix)*s.C:][:s.C]
	}
	g.weightGradient(s.N*s.OutH*s.OutW, s.KH*s.KW, s.C, s.O, window, func(r int) []float32 { return dy[r*s.O:][:s.O] }, dw)
}

func (g *plain) linearGradWeight(rows, in, out, ldx, ldy int, x, dy, dw []float32) {
	g.weightGradient(rows, 1, in, out, func(r, _ int) []float32 { return x[r*ldx:][:in] }, func(r int) []float32 { return dy[r*ldy:][:out] }, dw)
}

// attentionGrad works on one head at a time. Sums over queries are float64.
func (g *plain) attentionGrad(s AttentionShape, q, k, v, dy, dq, dk, dv []float32) {
	g.parallel(s.N*s.Heads, func(task int) {
		n, h := task/s.Heads, task%s.Heads
		at := func(x []float32, t, sample, row, head int) []float32 { return x[n*sample+t*row+h*head:][:s.D] }
		p, dp := make([]float32, s.Tk), make([]float32, s.Tk)
		sumK, sumV := make([]float64, s.Tk*s.D), make([]float64, s.Tk*s.D)
		out := make([]float64, s.D)
		for i := range s.Tq {
			query, d := at(q, i, s.QSample, s.QRow, s.QHead), at(dy, i, s.OSample, s.ORow, s.OHead)
			for j := range p {
				p[j] = s.Scale * dot(query, at(k, j, s.KSample, s.KRow, s.KHead))
				dp[j] = dot(d, at(v, j, s.VSample, s.VRow, s.VHead))
			}
			softmax(p)
			mean := 0.0
			for j, w := range p {
				mean += float64(w) * float64(dp[j])
			}
			clear(out)
			for j, w := range p {
				ds := float64(w) * (float64(dp[j]) - mean) * float64(s.Scale)
				key, gk, gv := at(k, j, s.KSample, s.KRow, s.KHead), sumK[j*s.D:][:s.D], sumV[j*s.D:][:s.D]
				for e := range out {
					out[e] += ds * float64(key[e])
					gk[e] += ds * float64(query[e])
					gv[e] += float64(w) * float64(d[e])
				}
			}
			narrow(at(dq, i, s.QSample, s.QRow, s.QHead), out)
		}
		for j := range s.Tk {
			narrow(at(dk, j, s.KSample, s.KRow, s.KHead), sumK[j*s.D:])
			narrow(at(dv, j, s.VSample, s.VRow, s.VHead), sumV[j*s.D:])
		}
	})
}

func narrow(y []float32, x []float64) {
	for i := range y {
		y[i] = float32(x[i])
	}
}
