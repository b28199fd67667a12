package kernel

import (
	"fmt"
	"math"
)

// GroupNorm computes y = (x - mean) / sqrt(var + eps) * gamma + beta over x (N,HW,C), gamma and beta (C). With moments
// (N, 2*Groups), means before variances, those are used instead of x's own. With scaleShift, the result is further multiplied by
// 1 + scaleShift[n, :C] and increased by scaleShift[n, C:]. y may be x.
func (p *Pool) GroupNorm(s GroupNormShape, x, gamma, beta, moments, scaleShift, y []float32) {
	s.check()
	n := s.N * s.HW * s.C
	if n == 0 {
		return
	}
	if s.ScaleStride == 0 {
		s.ScaleStride = 2 * s.C
	}
	if scaleShift != nil {
		_ = scaleShift[:(s.N-1)*s.ScaleStride+2*s.C]
	}
	if moments != nil {
		moments = moments[:s.N*2*s.Groups]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.groupNorm(s, x[:n], gamma[:s.C], beta[:s.C], moments, scaleShift, y[:n])
}

// GroupMoments computes the moments y (N, 2*Groups), means before biased variances, of each group of x (N,HW,C), whose images are
// width pixels wide, over a window of each image: top, left, bottom and right (N,4) as fractions of height and width, rounded to
// whole pixels. An empty window, or one that leaves the image, is an error.
func (p *Pool) GroupMoments(s GroupNormShape, width int, x, windows, y []float32) error {
	s.check()
	n := s.N * s.HW * s.C
	if n == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.windows = p.windows[:0]
	for i := range s.N {
		w, err := newWindow(windows[4*i:4*i+4], s.HW/width, width)
		if err != nil {
			return fmt.Errorf("sample %d: %w", i, err)
		}
		p.windows = append(p.windows, w)
	}
	p.k.groupMoments(s, width, p.windows, x[:n], y[:s.N*2*s.Groups])
	return nil
}

// PoolMoments pools moments x (n, 2*groups), means before variances, over runs of every samples with weights (n), and gives each
// sample of a run the moments y of the run. Sums are float64.
func PoolMoments(n, groups, every int, x, weights, y []float32) {
	for run := 0; run < n; run += every {
		for g := range groups {
			var total, mean, square float64
			ref := float64(x[2*run*groups+g])
			for k := run; k < run+every; k++ {
				w, m := float64(weights[k]), float64(x[2*k*groups+g])-ref
				total += w
				mean += w * m
				square += w * (float64(x[(2*k+1)*groups+g]) + m*m)
			}
			mean /= total
			for k := run; k < run+every; k++ {
				y[2*k*groups+g], y[(2*k+1)*groups+g] = float32(ref+mean), float32(max(square/total-mean*mean, 0))
			}
		}
	}
}

// window is a range of rows and columns of an image.
type window struct{ top, left, bottom, right int }

func newWindow(f []float32, h, w int) (window, error) {
	at := func(f float32, n int) int { return int(math.Round(float64(f) * float64(n))) }
	v := window{at(f[0], h), at(f[1], w), at(f[2], h), at(f[3], w)}
	if v.top < 0 || v.left < 0 || v.bottom > h || v.right > w || v.top >= v.bottom || v.left >= v.right {
		return v, fmt.Errorf("window %v is no part of an image of %dx%d (height x width)", f, h, w)
	}
	return v, nil
}

// LayerNorm normalises each row of x (rows, c): y = (x - mean) / sqrt(var + eps) * gamma + beta. y may be x.
func (p *Pool) LayerNorm(rows, c int, eps float64, x, gamma, beta, y []float32) {
	n := rows * c
	if n == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.layerNorm(rows, c, eps, x[:n], gamma[:c], beta[:c], y[:n])
}

// SiLU computes y = x * sigmoid(x), elementwise over len(y).
func (p *Pool) SiLU(x, y []float32) { p.activate(SiLU, x, y) }

// GELU computes y = x * Phi(x) with the exact normal distribution function, elementwise over len(y).
func (p *Pool) GELU(x, y []float32) { p.activate(GELU, x, y) }

// ReLU computes y = max(x, 0), elementwise over len(y).
func (p *Pool) ReLU(x, y []float32) { p.activate(ReLU, x, y) }

func (p *Pool) activate(a Act, x, y []float32) {
	if len(y) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.activate(a, x[:len(y)], y)
}

// Scale computes y = f * x, elementwise over len(y).
func (p *Pool) Scale(f float32, x, y []float32) {
	if len(y) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.scale(f, x[:len(y)], y)
}

// Add computes dst = srcs[0] + srcs[1] + ..., from left to right, over len(dst). With one source it copies. dst may be any of
// the first two sources.
func (p *Pool) Add(dst []float32, srcs ...[]float32) {
	if len(dst) == 0 || len(srcs) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(srcs) == 1 {
		p.k.copyColumns(1, len(dst), srcs[0][:len(dst)], len(dst), dst, len(dst))
		return
	}
	p.k.add(dst, srcs[0][:len(dst)], srcs[1][:len(dst)])
	for _, s := range srcs[2:] {
		p.k.add(dst, dst, s[:len(dst)])
	}
}

// GEGLU computes y (rows, c) = x[:, :c] * GELU(x[:, c:]) for x (rows, 2c).
func (p *Pool) GEGLU(rows, c int, x, y []float32) {
	if rows*c == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.geglu(rows, c, x[:2*rows*c], y[:rows*c])
}

// AddRowsPerSample computes y[n,t,:] = x[n,t,:] + v[n,:]; x and y are (n,t,c), v is (n,c) with ldv floats from row to row.
func (p *Pool) AddRowsPerSample(n, t, c int, x, v []float32, ldv int, y []float32) {
	if n*t*c == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.addRowsPerSample(n, t, c, x[:n*t*c], v[:(n-1)*ldv+c], ldv, y[:n*t*c])
}

// AddRows computes y[n,t,:] = x[n,t,:] + pos[t,:]; x and y are (n,t,c), pos is (t,c).
func (p *Pool) AddRows(n, t, c int, x, pos, y []float32) {
	if n*t*c == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.addRows(n, t, c, x[:n*t*c], pos[:t*c], y[:n*t*c])
}

// Modulate computes y[n,t,:] = x[n,t,:] * (1 + s[n,:c]) + s[n,c:]; x and y are (n,t,c), s is (n,2c) with lds floats from row to
// row.
func (p *Pool) Modulate(n, t, c int, x, s []float32, lds int, y []float32) {
	if n*t*c == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.modulate(n, t, c, x[:n*t*c], s[:(n-1)*lds+2*c], lds, y[:n*t*c])
}

// Broadcast computes y[n,t,:] = v[n,:]; y is (n,t,c), v is (n,c) with ldv floats from row to row.
func (p *Pool) Broadcast(n, t, c int, v []float32, ldv int, y []float32) {
	if n*t*c == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.broadcast(n, t, c, v[:(n-1)*ldv+c], ldv, y[:n*t*c])
}

// Concat writes rows of srcs, widths[i] floats each, side by side into the rows of dst.
func (p *Pool) Concat(rows int, widths []int, srcs [][]float32, dst []float32) {
	total := 0
	for _, w := range widths {
		total += w
	}
	if rows*total == 0 {
		return
	}
	dst = dst[:rows*total]
	p.mu.Lock()
	defer p.mu.Unlock()
	at := 0
	for i, w := range widths {
		if w > 0 {
			p.k.copyColumns(rows, w, srcs[i][:rows*w], w, dst[at:], total)
		}
		at += w
	}
}

// CopyColumns copies columns from..from+n of rows of x, ldx floats apart, to the contiguous rows of y.
func (p *Pool) CopyColumns(rows, from, n, ldx int, x, y []float32) {
	if rows*n == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.copyColumns(rows, n, x[from:from+(rows-1)*ldx+n], ldx, y[:rows*n], n)
}

// Upsample2 doubles height and width by repetition: x (n,h,w,c) to y (n,2h,2w,c).
func (p *Pool) Upsample2(n, h, w, c int, x, y []float32) {
	if n*h*w*c == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.upsample2(n, h, w, c, x[:n*h*w*c], y[:4*n*h*w*c])
}

// AvgPool2 averages 2x2 blocks: x (n,h,w,c) to y (n,h/2,w/2,c). An odd last row or column is left out.
func (p *Pool) AvgPool2(n, h, w, c int, x, y []float32) {
	if n*(h/2)*(w/2)*c == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.avgPool2(n, h, w, c, x[:n*h*w*c], y[:n*(h/2)*(w/2)*c])
}

// ToNHWC transposes x (n,c,hw) to y (n,hw,c).
func (p *Pool) ToNHWC(n, c, hw int, x, y []float32) { p.transpose(n, c, hw, x, y) }

// ToNCHW transposes x (n,hw,c) to y (n,c,hw).
func (p *Pool) ToNCHW(n, c, hw int, x, y []float32) { p.transpose(n, hw, c, x, y) }

func (p *Pool) transpose(n, rows, cols int, x, y []float32) {
	size := n * rows * cols
	if size == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.transpose(n, rows, cols, x[:size], y[:size])
}

// Embed copies row ids[i] of table, (len(table)/dim, dim), to row i of y. Ids are whole numbers held in floats; one outside
// the table, or not whole, is an error.
func (p *Pool) Embed(ids []float32, dim int, table, y []float32) error {
	if err := checkIDs(ids, len(table)/dim); err != nil {
		return err
	}
	if len(ids) == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.embed(ids, dim, table, y[:len(ids)*dim])
	return nil
}

func checkIDs(ids []float32, rows int) error {
	for i, id := range ids {
		if !(id >= 0 && int(id) < rows) || id != float32(int(id)) {
			return fmt.Errorf("id %v at position %d is not a row of a table of %d", id, i, rows)
		}
	}
	return nil
}

// TimeEmbedding computes the sinusoidal embedding of t (n) into y (n, dim): cosines of t*f in the first half, sines in the
// second, and a zero in the last column when dim is odd; f_i = exp(-ln(10000) i / (dim/2)). Frequencies and products are
// rounded to float32 as the reference implementation does; the trigonometric functions are exact.
func (p *Pool) TimeEmbedding(t []float32, dim int, y []float32) {
	if len(t)*dim == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.timeEmbedding(t, dim, frequencies(dim/2), y[:len(t)*dim])
}

// frequencies computes exp(-ln(10000) * arange(half) / half) with every step rounded to float32.
func frequencies(half int) []float32 {
	f := make([]float32, half)
	minusLog := float32(-math.Log(10000))
	for i := range f {
		a := minusLog * float32(i)
		f[i] = float32(math.Exp(float64(a / float32(half))))
	}
	return f
}

// CodeIndex finds for each row of z (rows, c) the nearest row of codebook (v, c) by |z|^2 + |e|^2 - 2 z e in float32, and the
// first of equally near ones. idx (rows) holds whole numbers.
func (p *Pool) CodeIndex(rows, c, v int, z, codebook, idx []float32) {
	if rows == 0 {
		return
	}
	if c < 1 || v < 1 {
		panic(fmt.Sprintf("kernel: codebook of %d x %d", v, c))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.codeIndex(rows, c, v, z[:rows*c], codebook[:v*c], idx[:rows])
}

// Quantize computes y = z + (e - z) where e is the row of codebook nearest to each row of z; idx (rows) is overwritten with the
// indices.
func (p *Pool) Quantize(rows, c, v int, z, codebook, idx, y []float32) {
	p.CodeIndex(rows, c, v, z, codebook, idx)
	if rows == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.quantize(rows, c, z[:rows*c], codebook[:v*c], idx[:rows], y[:rows*c])
}

// GaussianSample computes y = mean + exp(0.5 * clamp(logvar, -30, 20)) * noise; moments is (rows, 2c), means before log
// variances, noise and y are (rows, c).
func (p *Pool) GaussianSample(rows, c int, moments, noise, y []float32) {
	if rows*c == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.gaussianSample(rows, c, moments[:2*rows*c], noise[:rows*c], y[:rows*c])
}
