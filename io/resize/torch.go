package resize

import "math"

// torch.nn.functional.interpolate on the CPU. Without antialias the filter keeps its width (bicubic with a = -0.75); with
// antialias it is widened when shrinking (bicubic with a = -0.5), like Pillow's. Indices and weights are computed in the
// precision of the samples, as torch does: float32 results move in the fourth decimal otherwise. Rows come first.

type torchMode int

const (
	torchArea torchMode = iota
	torchBilinear
	torchBilinearCorners
	torchBilinearAntialias
	torchBicubic
	torchBicubicAntialias
)

type torch struct {
	single resampler[float32, float64]
	double resampler[float64, float64]
	bytes  resampler8

	weightsSingle, weightsDouble func(axis) *table[float64]
	weightsBytes                 func(axis) *table[int32]
}

func newTorch(m torchMode) *torch {
	single, double := torchWeights[float32](m), torchWeights[float64](m)
	return &torch{
		weightsSingle: func(a axis) *table[float64] { return widen(single(a)) },
		weightsDouble: double,
		weightsBytes:  func(a axis) *table[int32] { return torchFixed(double(a)) },
	}
}

// widen lets float32 samples be summed in double precision. Torch sums in single, in an order that depends on the processor;
// the exact sum is the value that all of them round.
func widen(t *table[float32]) *table[float64] {
	d := &table[float64]{first: t.first, count: t.count, weights: make([]float64, len(t.weights)), stride: t.stride}
	for i, w := range t.weights {
		d.weights[i] = float64(w)
	}
	return d
}

func (t *torch) float32(dst, src []float32, s Shape) { t.single.run(dst, src, s, t.weightsSingle) }
func (t *torch) float64(dst, src []float64, s Shape) { t.double.run(dst, src, s, t.weightsDouble) }

// uint8 is the integer kernel of the antialiased modes: double-precision weights, rounded to as many fraction bits per axis
// as let the largest weight fit int16, and a rounding to 8 bits after each pass.
func (t *torch) uint8(dst, src []uint8, s Shape) { t.bytes.run(dst, src, s, t.weightsBytes) }

func torchFixed(t *table[float64]) *table[int32] {
	largest := 0.0
	for _, w := range t.weights {
		largest = max(largest, w)
	}
	bits := uint(0)
	for ; bits < 22; bits++ {
		if int(0.5+largest*float64(int(1)<<(bits+1))) >= 1<<15 {
			break
		}
	}
	return fixed(t, bits)
}

// torchWeights returns the weight function of a mode in the precision of the samples.
func torchWeights[F float](m torchMode) func(axis) *table[F] {
	switch m {
	case torchArea:
		return torchMean[F]
	case torchBilinear:
		return torchLinear[F]
	case torchBilinearCorners:
		return torchLinearCorners[F]
	case torchBilinearAntialias:
		return torchLinearAntialias[F]
	case torchBicubic:
		return torchCubic[F]
	default:
		return torchCubicAntialias[F]
	}
}

// torchMean is adaptive average pooling: each output is the mean of the inputs that it touches.
func torchMean[F float](a axis) *table[F] {
	t := newTable[F](a.out, a.in/a.out+2)
	for i := range a.out {
		first := i * a.in / a.out
		end := ((i+1)*a.in + a.out - 1) / a.out
		t.first[i], t.count[i] = first, end-first
		for j := range end - first {
			t.row(i)[j] = 1 / F(end-first)
		}
	}
	return t
}

func torchLinear[F float](a axis) *table[F] {
	scale := F(a.in) / F(a.out)
	return torchLerp(a, func(i int) F { return max(fma(scale, F(i)+0.5, -0.5), 0) })
}

// torchLinearCorners is align_corners=True: the centres of the corner pixels coincide.
func torchLinearCorners[F float](a axis) *table[F] {
	var scale F
	if a.out > 1 {
		scale = F(a.in-1) / F(a.out-1)
	}
	return torchLerp(a, func(i int) F { return scale * F(i) })
}

func torchLerp[F float](a axis, at func(int) F) *table[F] {
	t := newTable[F](a.out, 2)
	for i := range a.out {
		x := at(i)
		first := min(int(x), a.in-1)
		part := min(max(x-F(first), 0), 1)
		t.gather(i, first, a.in, []F{1 - part, part}, clamp(a.in), add)
	}
	return t
}

// fma is a*b+c rounded once. Torch's kernels are compiled for fused multiply-add; which products they fuse was found by
// comparing results.
func fma[F float](a, b, c F) F { return F(math.FMA(float64(a), float64(b), float64(c))) }

func add[F float](a, b F) F { return a + b }

func torchCubic[F float](a axis) *table[F] {
	const b = -0.75
	near := func(x F) F { return F(F(fma(b+2, x, -(b+3))*x)*x) + 1 }
	far := func(x F) F { return F(fma(fma(b, x, -5*b), x, 8*b)*x) - 4*b }
	scale := F(a.in) / F(a.out)
	t := newTable[F](a.out, 4)
	for i := range a.out {
		x := fma(scale, F(i)+0.5, -0.5)
		first := int(math.Floor(float64(x)))
		part := min(max(x-F(first), 0), 1)
		t.gather(i, first-1, a.in, []F{far(part + 1), near(part), near(1 - part), far((1 - part) + 1)}, clamp(a.in), add)
	}
	return t
}

func torchLinearAntialias[F float](a axis) *table[F] { return torchAntialias(a, 2, triangle[F]) }
func torchCubicAntialias[F float](a axis) *table[F]  { return torchAntialias(a, 4, keysHalf[F]) }

func triangle[F float](x F) F { return max(0, 1-F(math.Abs(float64(x)))) }

// keysHalf is the cubic kernel with a = -0.5.
func keysHalf[F float](x F) F {
	const b = -0.5
	x = F(math.Abs(float64(x)))
	switch {
	case x < 1:
		return fma(fma(b+2, x, -(b+3))*x, x, 1)
	case x < 2:
		return fma(fma(fma(b, x, -5*b), x, 8*b), x, -4*b)
	}
	return 0
}

// torchAntialias widens a filter of the given width (in pixels) when shrinking.
func torchAntialias[F float](a axis, width F, filter func(F) F) *table[F] {
	scale := F(a.in) / F(a.out)
	wide := max(scale, 1)
	support := width * 0.5 * wide
	inverse := 1 / wide
	t := newTable[F](a.out, int(math.Ceil(float64(support)))*2+1)
	for i := range a.out {
		centre := scale * (F(i) + 0.5)
		first := max(int(centre-support+0.5), 0)
		n := min(max(min(int(centre+support+0.5), a.in)-first, 0), t.stride)
		t.first[i], t.count[i] = first, n
		row := t.row(i)
		var sum F
		for j := range n {
			row[j] = filter((F(j+first) - centre + 0.5) * inverse)
			sum += row[j]
		}
		if sum != 0 {
			for j := range n {
				row[j] /= sum
			}
		}
	}
	return t
}

// torchNearest takes floor(i * in / out) with a float32 scale.
type torchNearest struct{ indices cache[[]int] }

func torchNearestIndices(a axis) []int {
	scale := float32(a.in) / float32(a.out)
	idx := make([]int, a.out)
	for i := range idx {
		idx[i] = min(int(float32(i)*scale), a.in-1)
	}
	return idx
}

func (t *torchNearest) axes(s Shape) (rows, cols []int) {
	return t.indices.get(axis{in: s.SrcH, out: s.DstH}, torchNearestIndices), t.indices.get(axis{in: s.SrcW, out: s.DstW}, torchNearestIndices)
}

func (t *torchNearest) uint8(dst, src []uint8, s Shape) {
	rows, cols := t.axes(s)
	pick(dst, src, s, rows, cols)
}

func (t *torchNearest) float32(dst, src []float32, s Shape) {
	rows, cols := t.axes(s)
	pick(dst, src, s, rows, cols)
}

func (t *torchNearest) float64(dst, src []float64, s Shape) {
	rows, cols := t.axes(s)
	pick(dst, src, s, rows, cols)
}
