package resize

import (
	"fmt"
	"math"
)

// MATLAB's imresize with the bicubic kernel, as super-resolution benchmarks make their low-resolution pictures: the kernel is
// widened by the scale when shrinking (unless aliased), the axis with the smaller scale comes first and columns before rows
// when the scales are equal, the border is repeated (older versions: mirrored), and uint8 is rounded after each axis.

type matlab struct {
	tables cache[*table[float64]]
	build  func(axis) *table[float64]

	middle, in, out []float64
}

func newMatlab(antialias, mirror bool) *matlab {
	return &matlab{build: func(a axis) *table[float64] { return matlabWeights(a, antialias, mirror) }}
}

func matlabWeights(a axis, antialias, mirror bool) *table[float64] {
	width, narrow := 4.0, 1.0
	if antialias && a.scale < 1 {
		width, narrow = width/a.scale, a.scale
	}
	border := clamp(a.in)
	if mirror {
		border = func(i int) int {
			i %= 2 * a.in
			if i < 0 {
				i += 2 * a.in
			}
			return min(i, 2*a.in-1-i)
		}
	}
	n := int(math.Ceil(width)) + 2
	t := newTable[float64](a.out, n)
	taps := make([]float64, n)
	for i := range a.out {
		// MATLAB counts pixels from 1.
		centre := float64(i+1)/a.scale + 0.5*(1-1/a.scale)
		left := math.Floor(centre - width/2)
		sum := 0.0
		for j := range taps {
			taps[j] = narrow * keysMatlab(narrow*(centre-left-float64(j)))
			sum += taps[j]
		}
		lo, hi := n, 0
		for j := range taps {
			taps[j] /= sum
			if taps[j] != 0 {
				lo, hi = min(lo, j), j+1
			}
		}
		t.gather(i, int(left)-1+lo, a.in, taps[lo:hi], border, add)
	}
	return t
}

func keysMatlab(x float64) float64 {
	x = math.Abs(x)
	x2 := x * x
	x3 := x2 * x
	switch {
	case x <= 1:
		return float64(1.5*x3) - float64(2.5*x2) + 1
	case x <= 2:
		return float64(-0.5*x3) + float64(2.5*x2) - float64(4*x) + 2
	}
	return 0
}

// MatlabSide returns the length of an axis after imresize by a scale: ceil(n*scale).
func MatlabSide(n int, scale float64) int { return int(math.Ceil(float64(n) * scale)) }

func (m *matlab) uint8(dst, src []uint8, s Shape) {
	m.scaled8(dst, src, s, float64(s.DstH)/float64(s.SrcH), float64(s.DstW)/float64(s.SrcW))
}

func (m *matlab) float64(dst, src []float64, s Shape) {
	m.scaled(dst, src, s, float64(s.DstH)/float64(s.SrcH), float64(s.DstW)/float64(s.SrcW), nil)
}

func (m *matlab) scaled8(dst, src []uint8, s Shape, scaleH, scaleW float64) {
	in, out := grow(&m.in, len(src)), grow(&m.out, len(dst))
	for i, v := range src {
		in[i] = float64(v)
	}
	m.scaled(out, in, s, scaleH, scaleW, roundTo8)
	for i, v := range out {
		dst[i] = uint8(v)
	}
}

// roundTo8 rounds to whole numbers in 0..255, halves away from zero.
func roundTo8(v []float64) {
	for i, x := range v {
		v[i] = min(max(math.Floor(x+0.5), 0), 255)
	}
}

func (m *matlab) scaled(dst, src []float64, s Shape, scaleH, scaleW float64, round func([]float64)) {
	h := m.tables.get(axis{s.SrcH, s.DstH, scaleH}, m.build)
	w := m.tables.get(axis{s.SrcW, s.DstW, scaleW}, m.build)
	var middle []float64
	if scaleH <= scaleW {
		middle = grow(&m.middle, s.DstH*s.SrcW*s.Channels)
		floatV(middle, src, s.SrcW*s.Channels, h)
	} else {
		middle = grow(&m.middle, s.SrcH*s.DstW*s.Channels)
		floatH(middle, src, s.SrcH, s.SrcW, s.Channels, w)
	}
	if round != nil {
		round(middle)
	}
	if scaleH <= scaleW {
		floatH(dst, middle, s.DstH, s.SrcW, s.Channels, w)
	} else {
		floatV(dst, middle, s.DstW*s.Channels, h)
	}
	if round != nil {
		round(dst)
	}
}

// Uint8Scale resizes by a scale instead of to a size, which only matlab-* tells apart: where a side is not a multiple of the
// scale, imresize(x, 1/3) keeps the exact scale and crops the last pixel. DstH and DstW must be [MatlabSide] of the source.
func (r *Resizer) Uint8Scale(dst, src []uint8, s Shape, scale float64) error {
	m, err := r.matlab(len(dst), len(src), s, scale)
	if err != nil {
		return err
	}
	m.scaled8(dst, src, s, scale, scale)
	return nil
}

// Float64Scale is [Resizer.Uint8Scale] in double precision, without rounding.
func (r *Resizer) Float64Scale(dst, src []float64, s Shape, scale float64) error {
	m, err := r.matlab(len(dst), len(src), s, scale)
	if err != nil {
		return err
	}
	m.scaled(dst, src, s, scale, scale, nil)
	return nil
}

func (r *Resizer) matlab(dst, src int, s Shape, scale float64) (*matlab, error) {
	m, ok := r.kernel.(*matlab)
	if !ok {
		return nil, fmt.Errorf("resize %s: only matlab methods resize by a scale", r.method)
	}
	if err := check(dst, src, s); err != nil {
		return nil, fmt.Errorf("resize %s: %w", r.method, err)
	}
	if !(scale > 0) || s.DstH != MatlabSide(s.SrcH, scale) || s.DstW != MatlabSide(s.SrcW, scale) {
		return nil, fmt.Errorf("resize %s: %v is not a resize by %g", r.method, s, scale)
	}
	return m, nil
}
