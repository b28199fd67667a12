package kernel

// The inner loop of all products: tileP rows of x times a panel of tileO outputs. Weights are packed panel by panel,
// [panel][tap][channel][tileO], the last panel filled up with zeros.
const (
	tileP = 3
	tileO = 4
)

// tile adds the products of three rows and one stretch of a panel to acc. Each stretch is summed by itself first, which keeps
// the rounding error of long sums small.
func tile(x0, x1, x2, w []float32, acc *[tileP * tileO]float32) {
	var a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3 float32
	n := len(x0)
	x1, x2, w = x1[:n], x2[:n], w[:n*tileO]
	for i, u := range x0 {
		q := w[i*tileO : i*tileO+tileO : i*tileO+tileO]
		v, t := x1[i], x2[i]
		w0, w1, w2, w3 := q[0], q[1], q[2], q[3]
		a0 += u * w0
		a1 += u * w1
		a2 += u * w2
		a3 += u * w3
		b0 += v * w0
		b1 += v * w1
		b2 += v * w2
		b3 += v * w3
		c0 += t * w0
		c1 += t * w1
		c2 += t * w2
		c3 += t * w3
	}
	for i, v := range [...]float32{a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3} {
		acc[i] += v
	}
}

// stretch bounds the length of a sum before it is added to the total.
const stretch = 512

func (g *plain) packConv(s ConvShape, oihw []float32, _ Precision, _ bool) packed {
	w := packed{algo: "direct", data: Alloc((s.O + tileO - 1) / tileO * s.KH * s.KW * s.C * tileO)}
	g.repackConv(s, oihw, w)
	return w
}

func (g *plain) repackConv(s ConvShape, oihw []float32, w packed) {
	taps := s.KH * s.KW
	panels := (s.O + tileO - 1) / tileO
	g.parallel(panels, func(p int) {
		dst := w.data[p*taps*s.C*tileO:]
		for j := range min(tileO, s.O-p*tileO) {
			src := oihw[(p*tileO+j)*s.C*taps:][:s.C*taps]
			for c := range s.C {
				for t := range taps {
					dst[(t*s.C+c)*tileO+j] = src[c*taps+t]
				}
			}
		}
	})
}

func (g *plain) packLinear(in int, parts [][]float32, geglu bool, _ Precision) packed {
	out := 0
	for _, p := range parts {
		out += len(p) / in
	}
	panels := (out + tileO - 1) / tileO
	if geglu {
		out /= 2
		panels = 2 * ((out + tileO - 1) / tileO)
	}
	w := packed{algo: "direct", data: Alloc(panels * in * tileO)}
	g.repackLinear(in, out, parts, geglu, w)
	return w
}

// repackLinear interleaves panels of values and gates for geglu.
func (g *plain) repackLinear(in, _ int, parts [][]float32, geglu bool, w packed) {
	var rows [][]float32
	for _, p := range parts {
		for i := 0; i < len(p); i += in {
			rows = append(rows, p[i:i+in])
		}
	}
	half := len(rows) / 2
	g.parallel(len(w.data)/(in*tileO), func(p int) {
		first, last := p*tileO, len(rows)
		if geglu {
			first, last = p/2*tileO+p%2*half, half+p%2*half
		}
		dst := w.data[p*in*tileO:]
		for j := range min(tileO, last-first) {
			for i, v := range rows[first+j] {
				dst[i*tileO+j] = v
			}
		}
	})
}

func (g *plain) reserveConv(ConvShape, packed)              {}
func (g *plain) reserveLinear(LinearShape, *LinearWeights)  {}
func (g *plain) reserveAttention(AttentionShape, Precision) {}

func (g *plain) conv(s ConvShape, w packed, x, y []float32, e Epilogue) {
	g.convolve(s, w, spread{s.OutH, s.OutW, 1, 0, 0}, x, y, e)
}

func (g *plain) convolve(s ConvShape, w packed, sp spread, x, y []float32, e Epilogue) {
	zeros := make([]float32, s.C)
	inH, inW := s.H, s.W
	if s.Upsample {
		inH, inW = s.H/2, s.W/2
	}
	taps := s.KH * s.KW
	panels := (s.O + tileO - 1) / tileO
	g.parallel(s.N*s.OutH, func(row int) {
		n, oy := row/s.OutH, row%s.OutH
		pixel := func(ox, t int) []float32 {
			iy, ix := oy*s.Stride+t/s.KW-s.PadTop, ox*s.Stride+t%s.KW-s.PadLeft
			if uint(iy) >= uint(s.H) || uint(ix) >= uint(s.W) {
				return zeros
			}
			if s.Upsample {
				iy, ix = iy/2, ix/2
			}
			return x[((n*inH+iy)*inW+ix)*s.C:][:s.C]
		}
		ptr := make([][]float32, tileP*taps)
		for ox := 0; ox < s.OutW; ox += tileP {
			for i := range tileP {
				for t := range taps {
					ptr[t*tileP+i] = pixel(min(ox+i, s.OutW-1), t)
				}
			}
			for p := range panels {
				var acc [tileP * tileO]float32
				for t := range taps {
					q := ptr[t*tileP : t*tileP+tileP]
					panel := w.data[(p*taps+t)*s.C*tileO:]
					for c := 0; c < s.C; c += stretch {
						m := min(s.C, c+stretch)
						tile(q[0][c:m], q[1][c:m], q[2][c:m], panel[c*tileO:], &acc)
					}
				}
				for i := range min(tileP, s.OutW-ox) {
					at := sp.pixel(n, oy, ox+i)*s.ldY() + p*tileO
					e.store(acc[i*tileO:][:min(tileO, s.O-p*tileO)], y, at, n, p*tileO)
				}
			}
		}
	})
}

// store finishes the sums of outputs o, o+1, ... of sample n and writes them to y[at:].
func (e *Epilogue) store(acc, y []float32, at, n, o int) {
	for j, v := range acc {
		if e.Bias != nil {
			v += e.Bias[o+j]
		}
		if e.SampleBias != nil {
			v += e.SampleBias[n*e.SampleStride+o+j]
		}
		v = act(e.Act, v)
		if e.Residual != nil {
			v += e.Residual[at+j]
		}
		y[at+j] = v
	}
}

func (g *plain) linear(s LinearShape, w *LinearWeights, x, y []float32, e Epilogue) {
	groups := (s.Out + tileO - 1) / tileO
	const block = 4 * tileP
	product := func(q *[tileP][]float32, panel []float32) (acc [tileP * tileO]float32) {
		for c := 0; c < s.In; c += stretch {
			m := min(s.In, c+stretch)
			tile(q[0][c:m], q[1][c:m], q[2][c:m], panel[c*tileO:], &acc)
		}
		return acc
	}
	g.blocks(s.Rows, block, func(from, to int) {
		for p := range groups {
			for r := from; r < to; r += tileP {
				var q [tileP][]float32
				for i := range q {
					q[i] = x[min(r+i, to-1)*s.LdX:][:s.In]
				}
				width := min(tileO, s.Out-p*tileO)
				if !w.geglu {
					acc := product(&q, w.data[p*s.In*tileO:])
					for i := range min(tileP, to-r) {
						e.store(acc[i*tileO:][:width], y, (r+i)*s.LdY+p*tileO, (r+i)/s.RowsPerSample, p*tileO)
					}
					continue
				}
				value := product(&q, w.data[2*p*s.In*tileO:])
				gate := product(&q, w.data[(2*p+1)*s.In*tileO:])
				for i := range min(tileP, to-r) {
					for j := range width {
						v, t := value[i*tileO+j], gate[i*tileO+j]
						if e.Bias != nil {
							v += e.Bias[p*tileO+j]
							t += e.Bias[s.Out+p*tileO+j]
						}
						v *= act(GELU, t)
						at := (r+i)*s.LdY + p*tileO + j
						if e.Residual != nil {
							v += e.Residual[at]
						}
						y[at] = v
					}
				}
			}
		}
	})
}

// codeIndex compares |e|^2 - 2 z e + |z|^2 in float32, as the reference does.
func (g *plain) codeIndex(rows, c, v int, z, codebook, idx []float32) {
	packed := g.packLinear(c, [][]float32{codebook}, false, FP32)
	defer Free(packed.data)
	norms := make([]float32, v)
	for i := range norms {
		norms[i] = sumSquares(codebook[i*c:][:c])
	}
	g.blocks(rows, tileP, func(from, to int) {
		var q [tileP][]float32
		var zz, best [tileP]float32
		for i := range q {
			q[i] = z[min(from+i, to-1)*c:][:c]
			zz[i] = sumSquares(q[i])
		}
		var at [tileP]int
		for p := 0; p < v; p += tileO {
			var acc [tileP * tileO]float32
			tile(q[0], q[1], q[2], packed.data[p*c:], &acc)
			for i := range to - from {
				for j := range min(tileO, v-p) {
					if d := zz[i] + norms[p+j] - 2*acc[i*tileO+j]; p+j == 0 || d < best[i] {
						best[i], at[i] = d, p+j
					}
				}
			}
		}
		for i := range to - from {
			idx[from+i] = float32(at[i])
		}
	})
}

func sumSquares(x []float32) float32 {
	var s float32
	for _, v := range x {
		s += v * v
	}
	return s
}
