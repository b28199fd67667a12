package resize

import "math"

// OpenCV's resize on 8-bit samples. Linear, cubic and lanczos4 never widen their filter when shrinking. Linear and lanczos4
// round their weights to 11 fraction bits, sum rows exactly and round once after the columns. Cubic is what the x86 builds do,
// which hand it to Intel's library: weights are not rounded. One sample in ten thousand, nearly halfway between two levels,
// still comes out 1 apart; builds without that library differ by 1 in a few percent. Area is
// a mean when shrinking and a special linear blend otherwise.

type cvMode int

const (
	cvLinear cvMode = iota
	cvArea
	cvLanczos4
)

const cvBits = 11 // fraction bits of the weights of one axis

type opencv struct {
	mode   cvMode
	cols   cache[*cvTable]
	rows   cache[*cvTable]
	areas  cache[*table[float32]]
	lines  []int32   // ring of rows already resized along x, one per tap
	held   []int     // source row that each line of the ring holds
	sums   []float32 // one output row of the area mode
	column []float32 // one source row of it, resized along x

	buildCol, buildRow func(axis) *cvTable
}

func newOpenCV(m cvMode) *opencv {
	return &opencv{
		mode:     m,
		buildCol: func(a axis) *cvTable { return m.table(a, true) },
		buildRow: func(a axis) *cvTable { return m.table(a, false) },
	}
}

func (o *opencv) uint8(dst, src []uint8, s Shape) {
	fh, fw := float64(s.SrcH)/float64(s.DstH), float64(s.SrcW)/float64(s.DstW)
	ih, iw := s.SrcH/s.DstH, s.SrcW/s.DstW
	whole := ih*s.DstH == s.SrcH && iw*s.DstW == s.SrcW
	switch {
	case s.SrcH == s.DstH && s.SrcW == s.DstW:
		copy(dst, src)
	case o.mode == cvArea && fh >= 1 && fw >= 1 && whole, o.mode == cvLinear && whole && ih == 2 && iw == 2:
		cvWholeArea(dst, src, s, ih, iw)
	case o.mode == cvArea && fh >= 1 && fw >= 1:
		o.partArea(dst, src, s)
	default:
		o.separable(dst, src, s)
	}
}

// cvCubic has a = -0.75 and sums in floating point; halves round to even.
type cvCubic struct {
	resampler resampler[float32, float64]
	in, out   []float32
}

func (c *cvCubic) uint8(dst, src []uint8, s Shape) {
	in, out := grow(&c.in, len(src)), grow(&c.out, len(dst))
	for i, v := range src {
		in[i] = float32(v)
	}
	c.resampler.run(out, in, s, torchCubic[float64])
	for i, v := range out {
		dst[i] = clip(int32(math.RoundToEven(float64(v))))
	}
}

// cvTable holds one axis: taps input indices and weights per output.
type cvTable struct {
	taps    int
	index   []int
	weights []int32
}

// table computes an axis. Along x, linear blends stop at the border; along y only the index is clamped, which rounds
// differently.
func (m cvMode) table(a axis, alongX bool) *cvTable {
	taps := 2
	if m == cvLanczos4 {
		taps = 8
	}
	inverse := float64(a.out) / float64(a.in)
	scale := 1 / inverse
	t := &cvTable{taps: taps, index: make([]int, a.out*taps), weights: make([]int32, a.out*taps)}
	var w [8]float32
	for i := range a.out {
		var at int
		var part float32
		if m == cvArea {
			at = int(math.Floor(float64(i) * scale))
			part = float32(float64(i+1) - float64(float64(at+1)*inverse))
			if part <= 0 {
				part = 0
			} else {
				part -= float32(math.Floor(float64(part)))
			}
		} else {
			part = float32(float64((float64(i)+0.5)*scale) - 0.5)
			at = int(math.Floor(float64(part)))
			part -= float32(at)
		}
		if alongX && taps == 2 {
			if at < 0 {
				at, part = 0, 0
			} else if at >= a.in-1 {
				at, part = a.in-1, 0
			}
		}
		if m == cvLanczos4 {
			cvLanczosWeights(part, &w)
		} else {
			w[0], w[1] = 1-part, part
		}
		for j := range taps {
			t.index[i*taps+j] = min(max(at-taps/2+1+j, 0), a.in-1)
			t.weights[i*taps+j] = int32(math.RoundToEven(float64(w[j] * (1 << cvBits))))
		}
	}
	return t
}

func cvLanczosWeights(x float32, w *[8]float32) {
	const s45 = math.Sqrt2 / 2
	turns := [8][2]float64{{1, 0}, {-s45, -s45}, {0, 1}, {s45, -s45}, {-1, 0}, {s45, s45}, {0, -1}, {-s45, s45}}
	*w = [8]float32{}
	if x < 1.1920929e-7 {
		w[3] = 1
		return
	}
	sin, cos := math.Sincos(float64(-(x + 3)) * math.Pi * 0.25)
	var sum float32
	for i, r := range turns {
		y := x + 3 - float32(i)
		if y > -1e-6 && y < 1e-6 {
			w[i] = 1e30 // the pole: after normalisation it is the only weight
		} else {
			z := float64(-y) * math.Pi * 0.25
			w[i] = float32((float64(r[0]*sin) + float64(r[1]*cos)) / float64(z*z))
		}
		sum += w[i]
	}
	sum = 1 / sum
	for i := range w {
		w[i] *= sum
	}
}

// separable resizes each source row that is needed once along x, keeps as many as there are taps, and blends them along y.
func (o *opencv) separable(dst, src []uint8, s Shape) {
	c := s.Channels
	cols := o.cols.get(axis{in: s.SrcW, out: s.DstW}, o.buildCol)
	rows := o.rows.get(axis{in: s.SrcH, out: s.DstH}, o.buildRow)
	n, taps := s.DstW*c, rows.taps
	ring := grow(&o.lines, taps*n)
	held := grow(&o.held, taps)
	for i := range held {
		held[i] = -1
	}
	var lines [8][]int32
	for y := range s.DstH {
		for j := range taps {
			sy := rows.index[y*taps+j]
			slot := sy % taps // the taps of one output are neighbours, so they never share a slot
			lines[j] = ring[slot*n:][:n]
			if held[slot] != sy {
				cvRow(lines[j], src[sy*s.SrcW*c:][:s.SrcW*c], c, cols)
				held[slot] = sy
			}
		}
		out, w := dst[y*n:][:n], rows.weights[y*taps:][:taps]
		if taps == 2 {
			a, b, wa, wb := lines[0], lines[1], w[0], w[1]
			for x := range out {
				out[x] = clip((wa*(a[x]>>4)>>16 + wb*(b[x]>>4)>>16 + 2) >> 2)
			}
			continue
		}
		for x := range out {
			v := int32(1) << (2*cvBits - 1)
			for j, k := range w {
				v += lines[j][x] * k
			}
			out[x] = clip(v >> (2 * cvBits))
		}
	}
}

// cvRow resizes one row along x into sums with 11 fraction bits.
func cvRow(dst []int32, src []uint8, c int, t *cvTable) {
	if t.taps == 2 {
		for x := range len(dst) / c {
			a, b := src[t.index[2*x]*c:][:c], src[t.index[2*x+1]*c:][:c]
			wa, wb := t.weights[2*x], t.weights[2*x+1]
			out := dst[x*c:][:c]
			for ch := range out {
				out[ch] = int32(a[ch])*wa + int32(b[ch])*wb
			}
		}
		return
	}
	for x := range len(dst) / c {
		index, weights := t.index[x*t.taps:][:t.taps], t.weights[x*t.taps:][:t.taps]
		for ch := range c {
			v := int32(0)
			for j, k := range weights {
				v += int32(src[index[j]*c+ch]) * k
			}
			dst[x*c+ch] = v
		}
	}
}

// cvWholeArea is the mean over blocks of ih x iw samples.
func cvWholeArea(dst, src []uint8, s Shape, ih, iw int) {
	c := s.Channels
	unit := 1 / float32(ih*iw)
	quad := ih == 2 && iw == 2 && (c == 1 || c == 3 || c == 4) // OpenCV's vector code: halves round up
	for y := range s.DstH {
		for x := range s.DstW {
			for ch := range c {
				sum := 0
				for j := range ih {
					i := ((y*ih+j)*s.SrcW+x*iw)*c + ch
					for range iw {
						sum += int(src[i])
						i += c
					}
				}
				v := int32((sum + 2) >> 2)
				if !quad {
					v = int32(math.RoundToEven(float64(float32(sum) * unit)))
				}
				dst[(y*s.DstW+x)*c+ch] = clip(v)
			}
		}
	}
}

// cvAreaWeights gives each output the inputs that it covers, in proportion to the cover.
func cvAreaWeights(a axis) *table[float32] {
	scale := 1 / (float64(a.out) / float64(a.in))
	t := newTable[float32](a.out, int(math.Ceil(scale))+2)
	for i := range a.out {
		from := float64(i) * scale
		to := from + scale
		cell := min(scale, float64(a.in)-from)
		lo, hi := int(math.Ceil(from)), min(int(math.Floor(to)), a.in-1)
		lo = min(lo, hi)
		row := t.row(i)[:0]
		t.first[i] = lo
		if float64(lo)-from > 1e-3 {
			t.first[i] = lo - 1
			row = append(row, float32((float64(lo)-from)/cell))
		}
		for range hi - lo {
			row = append(row, float32(1/cell))
		}
		if to-float64(hi) > 1e-3 {
			row = append(row, float32(min(to-float64(hi), 1, cell)/cell))
		}
		t.count[i] = len(row)
	}
	return t
}

// partArea sums rows along x and then along y in float32.
func (o *opencv) partArea(dst, src []uint8, s Shape) {
	c := s.Channels
	cols, rows := o.areas.get(axis{in: s.SrcW, out: s.DstW}, cvAreaWeights), o.areas.get(axis{in: s.SrcH, out: s.DstH}, cvAreaWeights)
	n := s.DstW * c
	sums, line := grow(&o.sums, n), grow(&o.column, n)
	for y := range s.DstH {
		first, beta := rows.at(y)
		clear(sums)
		for j, b := range beta {
			in := src[(first+j)*s.SrcW*c:][:s.SrcW*c]
			for x := range s.DstW {
				at, alpha := cols.at(x)
				for ch := range c {
					var v float32
					i := at*c + ch
					for _, k := range alpha {
						v += float32(float32(in[i]) * k)
						i += c
					}
					line[x*c+ch] = v
				}
			}
			for x, v := range line {
				sums[x] += float32(b * v)
			}
		}
		for x, v := range sums {
			dst[y*n+x] = clip(int32(math.RoundToEven(float64(v))))
		}
	}
}

// cvNearest takes floor(i / (out/in)).
type cvNearest struct{ indices cache[[]int] }

func cvNearestIndices(a axis) []int {
	step := 1 / (float64(a.out) / float64(a.in))
	idx := make([]int, a.out)
	for i := range idx {
		idx[i] = min(int(math.Floor(float64(i)*step)), a.in-1)
	}
	return idx
}

func (n *cvNearest) uint8(dst, src []uint8, s Shape) {
	pick(dst, src, s, n.indices.get(axis{in: s.SrcH, out: s.DstH}, cvNearestIndices), n.indices.get(axis{in: s.SrcW, out: s.DstW}, cvNearestIndices))
}
