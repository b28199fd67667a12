package resize

import "math"

// Pillow, versions 2.7 to 12: the filter is widened by the scale when shrinking, weights are normalised per output, rows are
// resized before columns. uint8 rounds to 8 bits after each pass with 22 fraction bits in the weights; mode F sums float32
// samples in double precision. Pillow 13 runs the columns first for some shapes; the older order is the one that the published
// statistics and latents were made with.

type pilFilter struct {
	support float64
	at      func(float64) float64
}

var (
	pilBox = pilFilter{0.5, func(x float64) float64 {
		if x > -0.5 && x <= 0.5 {
			return 1
		}
		return 0
	}}
	pilBilinear = pilFilter{1, func(x float64) float64 { return max(0, 1-math.Abs(x)) }}
	pilHamming  = pilFilter{1, func(x float64) float64 {
		x = math.Abs(x)
		if x == 0 {
			return 1
		}
		if x >= 1 {
			return 0
		}
		x *= math.Pi
		return math.Sin(x) / x * (float64(float32(0.54)) + float64(float64(float32(0.46))*math.Cos(x)))
	}}
	pilBicubic = pilFilter{2, func(x float64) float64 {
		const a = -0.5
		x = math.Abs(x)
		if x < 1 {
			return float64(float64(float64(float64((a+2.)*x)-(a+3.))*x)*x) + 1
		}
		if x < 2 {
			return (float64((float64((x-5)*x)+8)*x) - 4) * a
		}
		return 0
	}}
	pilLanczos = pilFilter{3, func(x float64) float64 {
		if x >= -3 && x < 3 {
			return sinc(x) * sinc(x/3)
		}
		return 0
	}}
)

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	x *= math.Pi
	return math.Sin(x) / x
}

// weights computes the normalised weights of one axis.
func (f pilFilter) weights(a axis) *table[float64] {
	scale := float64(a.in) / float64(a.out)
	wide := max(scale, 1)
	support := f.support * wide
	t := newTable[float64](a.out, int(math.Ceil(support))*2+1)
	inverse := 1 / wide
	for i := range a.out {
		centre := (float64(i) + 0.5) * scale
		first := max(int(centre-support+0.5), 0)
		n := min(int(centre+support+0.5), a.in) - first
		t.first[i], t.count[i] = first, n
		row, sum := t.row(i), 0.0
		for j := range n {
			w := f.at((float64(j+first) - centre + 0.5) * inverse)
			row[j] = w
			sum += w
		}
		if sum != 0 {
			for j := range n {
				row[j] /= sum
			}
		}
	}
	return t
}

// fixed rounds weights to integers with the given number of fraction bits, halves away from zero.
func fixed(t *table[float64], bits uint) *table[int32] {
	q := &table[int32]{first: t.first, count: t.count, weights: make([]int32, len(t.weights)), stride: t.stride, shift: bits}
	for i, w := range t.weights {
		q.weights[i] = int32(math.Trunc(float64(w*float64(int(1)<<bits)) + math.Copysign(0.5, w)))
	}
	return q
}

type pillow struct {
	filter   pilFilter
	integer  resampler8
	floating resampler[float32, float64]
	alpha    []uint8 // source with alpha multiplied in

	buildInteger func(axis) *table[int32]
}

func newPillow(f pilFilter) *pillow {
	return &pillow{filter: f, buildInteger: func(a axis) *table[int32] { return fixed(f.weights(a), 22) }}
}

func (p *pillow) float32(dst, src []float32, s Shape) { p.floating.run(dst, src, s, p.filter.weights) }

func (p *pillow) uint8(dst, src []uint8, s Shape) {
	if s.Channels != 4 || s.SrcH == s.DstH && s.SrcW == s.DstW {
		p.integer.run(dst, src, s, p.buildInteger)
		return
	}
	pre := grow(&p.alpha, len(src))
	for i := 0; i < len(src); i += 4 {
		a := src[i+3]
		pre[i], pre[i+1], pre[i+2], pre[i+3] = mulDiv255(src[i], a), mulDiv255(src[i+1], a), mulDiv255(src[i+2], a), a
	}
	p.integer.run(dst, pre, s, p.buildInteger)
	for i := 0; i < len(dst); i += 4 {
		if a := int(dst[i+3]); a != 0 && a != 255 {
			for ch := range 3 {
				dst[i+ch] = uint8(min(255*int(dst[i+ch])/a, 255))
			}
		}
	}
}

// mulDiv255 is a*b/255, rounded.
func mulDiv255(a, b uint8) uint8 {
	t := int(a)*int(b) + 128
	return uint8((t>>8 + t) >> 8)
}

// pillowNearest takes the pixel below the centre of each output pixel. Pillow steps by adding the scale, which is kept because
// the sum rounds differently from the product.
type pillowNearest struct{ indices cache[[]int] }

func pilNearestIndices(a axis) []int {
	step := float64(a.in) / float64(a.out)
	at := step * 0.5
	idx := make([]int, a.out)
	for i := range idx {
		idx[i] = min(int(at), a.in-1)
		at += step
	}
	return idx
}

func (p *pillowNearest) axes(s Shape) (rows, cols []int) {
	return p.indices.get(axis{in: s.SrcH, out: s.DstH}, pilNearestIndices), p.indices.get(axis{in: s.SrcW, out: s.DstW}, pilNearestIndices)
}

func (p *pillowNearest) uint8(dst, src []uint8, s Shape) {
	rows, cols := p.axes(s)
	pick(dst, src, s, rows, cols)
}

func (p *pillowNearest) float32(dst, src []float32, s Shape) {
	rows, cols := p.axes(s)
	pick(dst, src, s, rows, cols)
}
