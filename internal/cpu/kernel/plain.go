package kernel

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// plain is the Go implementation. It has no state but the number of goroutines it uses.
type plain struct{ threads int }

func newPlain(threads int) kernels { return &plain{threads} }

func (g *plain) close() {}

// parallel runs f(0) ... f(n-1) on up to g.threads goroutines.
func (g *plain) parallel(n int, f func(i int)) {
	var next atomic.Int64
	work := func() {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			f(i)
		}
	}
	var wg sync.WaitGroup
	for range min(g.threads, n) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}

// blocks runs f over ranges of at most size items that cover 0..n.
func (g *plain) blocks(n, size int, f func(from, to int)) {
	g.parallel((n+size-1)/size, func(i int) { f(i*size, min(n, (i+1)*size)) })
}

func (g *plain) peak() float64 {
	const k, reps = 512, 4000
	rates := make([]float64, g.threads)
	g.parallel(g.threads, func(i int) {
		a, b := make([]float32, k), make([]float32, tileO*k)
		var acc [tileP * tileO]float32
		start := time.Now()
		for range reps {
			tile(a, a, a, b, &acc)
		}
		rates[i] = 2 * tileP * tileO * k * reps / time.Since(start).Seconds() / 1e9
	})
	sum := 0.0
	for _, r := range rates {
		sum += r
	}
	return sum
}

func (g *plain) activate(a Act, x, y []float32) {
	g.blocks(len(y), 4096, func(from, to int) {
		for i := from; i < to; i++ {
			y[i] = act(a, x[i])
		}
	})
}

func act(a Act, x float32) float32 {
	switch a {
	case SiLU:
		return x / (1 + float32(math.Exp(-float64(x))))
	case GELU:
		return float32(0.5 * float64(x) * math.Erfc(-float64(x)*math.Sqrt2/2))
	case ReLU:
		if x < 0 { // NaN stays NaN
			return 0
		}
	}
	return x
}

func (g *plain) scale(f float32, x, y []float32) {
	g.blocks(len(y), 8192, func(from, to int) {
		for i := from; i < to; i++ {
			y[i] = f * x[i]
		}
	})
}

func (g *plain) add(dst, a, b []float32) {
	g.blocks(len(dst), 8192, func(from, to int) {
		for i := from; i < to; i++ {
			dst[i] = a[i] + b[i]
		}
	})
}

// rows runs f over blocks of rows, sized so that a block is worth a hand-over.
func (g *plain) rows(n, width int, f func(r int)) {
	g.blocks(n, max(1, 4096/width), func(from, to int) {
		for r := from; r < to; r++ {
			f(r)
		}
	})
}

func (g *plain) geglu(rows, c int, x, y []float32) {
	g.rows(rows, c, func(r int) {
		v, gate, out := x[2*r*c:][:c], x[2*r*c+c:][:c], y[r*c:][:c]
		for i := range out {
			out[i] = v[i] * act(GELU, gate[i])
		}
	})
}

func (g *plain) addRowsPerSample(n, t, c int, x, v []float32, ldv int, y []float32) {
	g.rows(n*t, c, func(r int) { addRow(x[r*c:][:c], v[r/t*ldv:][:c], y[r*c:][:c]) })
}

func (g *plain) addRows(n, t, c int, x, pos, y []float32) {
	g.rows(n*t, c, func(r int) { addRow(x[r*c:][:c], pos[r%t*c:][:c], y[r*c:][:c]) })
}

func addRow(a, b, y []float32) {
	for i := range y {
		y[i] = a[i] + b[i]
	}
}

func (g *plain) modulate(n, t, c int, x, s []float32, lds int, y []float32) {
	g.rows(n*t, c, func(r int) {
		in, scale, shift, out := x[r*c:][:c], s[r/t*lds:][:c], s[r/t*lds+c:][:c], y[r*c:][:c]
		for i := range out {
			out[i] = float32(in[i]*(1+scale[i])) + shift[i]
		}
	})
}

func (g *plain) copyColumns(rows, n int, x []float32, ldx int, y []float32, ldy int) {
	g.rows(rows, n, func(r int) { copy(y[r*ldy:][:n], x[r*ldx:]) })
}

func (g *plain) broadcast(n, t, c int, v []float32, ldv int, y []float32) {
	g.rows(n*t, c, func(r int) { copy(y[r*c:][:c], v[r/t*ldv:]) })
}

func (g *plain) upsample2(n, h, w, c int, x, y []float32) {
	g.parallel(n*2*h, func(r int) {
		in, out := x[r/2*w*c:][:w*c], y[r*2*w*c:][:2*w*c]
		for i := range w {
			copy(out[2*i*c:][:c], in[i*c:])
			copy(out[(2*i+1)*c:][:c], in[i*c:])
		}
	})
}

func (g *plain) avgPool2(n, h, w, c int, x, y []float32) {
	oh, ow := h/2, w/2
	g.parallel(n*oh, func(r int) {
		a := x[(r/oh*h+r%oh*2)*w*c:]
		b := a[w*c:]
		out := y[r*ow*c:][:ow*c]
		for i := range ow {
			for j := range c {
				k := 2*i*c + j
				out[i*c+j] = 0.25 * ((a[k] + a[k+c]) + (b[k] + b[k+c]))
			}
		}
	})
}

func (g *plain) transpose(n, rows, cols int, x, y []float32) {
	const edge = 16
	across := (cols + edge - 1) / edge
	g.parallel(n*across, func(t int) {
		x, y := x[t/across*rows*cols:], y[t/across*rows*cols:]
		c0 := t % across * edge
		for r0 := 0; r0 < rows; r0 += edge {
			for c := c0; c < min(cols, c0+edge); c++ {
				for r := r0; r < min(rows, r0+edge); r++ {
					y[c*rows+r] = x[r*cols+c]
				}
			}
		}
	})
}

func (g *plain) embed(ids []float32, dim int, table, y []float32) { embed(ids, dim, table, y) }

// embed and timeEmbedding are shared by all implementations: they are exact and never worth a vector loop.
func embed(ids []float32, dim int, table, y []float32) {
	for i, id := range ids {
		copy(y[i*dim:][:dim], table[int(id)*dim:])
	}
}

func (g *plain) quantize(rows, c int, z, codebook, idx, y []float32) {
	g.rows(rows, c, func(r int) {
		in, e, out := z[r*c:][:c], codebook[int(idx[r])*c:][:c], y[r*c:][:c]
		for i := range out {
			out[i] = in[i] + (e[i] - in[i])
		}
	})
}

func (g *plain) gaussianSample(rows, c int, moments, noise, y []float32) {
	g.rows(rows, c, func(r int) {
		mean, logvar, eps, out := moments[2*r*c:][:c], moments[2*r*c+c:][:c], noise[r*c:][:c], y[r*c:][:c]
		for i := range out {
			std := float32(math.Exp(0.5 * float64(min(max(logvar[i], -30), 20))))
			out[i] = mean[i] + float32(std*eps[i])
		}
	})
}

func (g *plain) timeEmbedding(t []float32, dim int, freq, y []float32) {
	timeEmbedding(t, dim, freq, y)
}

func timeEmbedding(t []float32, dim int, freq, y []float32) {
	half := len(freq)
	for i, ti := range t {
		row := y[i*dim:][:dim]
		for j, f := range freq {
			s, c := math.Sincos(float64(ti * f))
			row[j], row[half+j] = float32(c), float32(s)
		}
		if dim%2 == 1 {
			row[dim-1] = 0
		}
	}
}
