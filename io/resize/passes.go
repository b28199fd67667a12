package resize

import "encoding/binary"

// This file holds the separable passes. Each output sample is the sum, in the order of the taps, of input samples times
// weights; the integer passes add one half, shift and clip to 0..255, the floating-point passes store the sum as it is.

// A 64-bit word holds two signed 32-bit sums, so that one multiplication serves two samples. The sums themselves
// stay far below 2^31 (255 times weights that sum to 2^22, times the overshoot of the filter), so that the low half borrows
// at most one from the high half, which high gives back.
func low(s int64) int32  { return int32(s) }
func high(s int64) int32 { return int32((s + 1<<31) >> 32) }

func clip(v int32) uint8 {
	if uint32(v) > 255 {
		return uint8(^(v >> 31))
	}
	return uint8(v)
}

// intH shrinks or stretches rows: src is rows x inW x c, dst is rows x len(t.first) x c. It works on two rows at a time;
// scratch holds one word per sample of a row.
func intH(dst, src []uint8, rows, inW, c int, t *table[int32], scratch []int64) {
	outW := len(t.first)
	in, out := inW*c, outW*c
	half := int64(1) << (t.shift - 1)
	half |= half << 32
	words := scratch[:in]
	for y := 0; y < rows; y += 2 {
		a := src[y*in:][:in]
		da := dst[y*out:][:out]
		b, db := a, da
		if y+1 < rows {
			b, db = src[(y+1)*in:][:in], dst[(y+1)*out:][:out]
		}
		for i := range words {
			words[i] = int64(a[i]) | int64(b[i])<<32
		}
		if c == 3 {
			intH3(da, db, words, t, half)
			continue
		}
		for x := range outW {
			first, weights := t.at(x)
			for ch := range c {
				s, i := half, first*c+ch
				for _, k := range weights {
					s += words[i] * int64(k)
					i += c
				}
				da[x*c+ch] = clip(low(s) >> t.shift)
				db[x*c+ch] = clip(high(s) >> t.shift)
			}
		}
	}
}

// intH3 is the body of intH for three channels.
func intH3(da, db []uint8, words []int64, t *table[int32], half int64) {
	shift := t.shift & 31
	for x, first := range t.first {
		_, weights := t.at(x)
		s0, s1, s2 := half, half, half
		p := words[first*3:][:len(weights)*3]
		for j := 0; j < len(weights) && len(p) >= 3; j++ {
			w := int64(weights[j])
			s0 += p[0] * w
			s1 += p[1] * w
			s2 += p[2] * w
			p = p[3:]
		}
		oa, ob := da[x*3:][:3], db[x*3:][:3]
		oa[0], ob[0] = clip(low(s0)>>shift), clip(high(s0)>>shift)
		oa[1], ob[1] = clip(low(s1)>>shift), clip(high(s1)>>shift)
		oa[2], ob[2] = clip(low(s2)>>shift), clip(high(s2)>>shift)
	}
}

// intV shrinks or stretches columns: src is inH x n, dst is len(t.first) x n.
func intV(dst, src []uint8, n int, t *table[int32]) {
	const even = 0x000000ff_000000ff // samples i and i+4 of eight, as one pair
	shift := t.shift & 31
	half := int64(1) << (shift - 1)
	half |= half << 32
	for y := range t.first {
		first, weights := t.at(y)
		rows := src[first*n:]
		out := dst[y*n:][:n]
		x := 0
		for ; x+8 <= n; x += 8 {
			s0, s1, s2, s3 := half, half, half, half
			i := x
			for _, k := range weights {
				v, w := int64(binary.LittleEndian.Uint64(rows[i:])), int64(k)
				s0 += v & even * w
				s1 += v >> 8 & even * w
				s2 += v >> 16 & even * w
				s3 += v >> 24 & even * w
				i += n
			}
			o := out[x:][:8]
			o[0], o[4] = clip(low(s0)>>shift), clip(high(s0)>>shift)
			o[1], o[5] = clip(low(s1)>>shift), clip(high(s1)>>shift)
			o[2], o[6] = clip(low(s2)>>shift), clip(high(s2)>>shift)
			o[3], o[7] = clip(low(s3)>>shift), clip(high(s3)>>shift)
		}
		for ; x < n; x++ {
			s, i := low(half), x
			for _, k := range weights {
				s += int32(rows[i]) * k
				i += n
			}
			out[x] = clip(s >> shift)
		}
	}
}

// resampler8 runs the integer passes, rows first (Pillow to version 12, torch), and leaves out a pass whose length stays.
type resampler8 struct {
	tables cache[*table[int32]]
	middle []uint8
	words  []int64
}

func (r *resampler8) run(dst, src []uint8, s Shape, build func(axis) *table[int32]) {
	if s.SrcW != s.DstW {
		out := dst
		if s.SrcH != s.DstH {
			out = grow(&r.middle, s.SrcH*s.DstW*s.Channels)
		}
		intH(out, src, s.SrcH, s.SrcW, s.Channels, r.tables.get(axis{in: s.SrcW, out: s.DstW}, build), grow(&r.words, s.SrcW*s.Channels))
		src = out
	}
	switch {
	case s.SrcH != s.DstH:
		intV(dst, src, s.DstW*s.Channels, r.tables.get(axis{in: s.SrcH, out: s.DstH}, build))
	case s.SrcW == s.DstW:
		copy(dst, src)
	}
}

// floatH is intH for samples S summed in precision W.
func floatH[S, W float](dst, src []S, rows, inW, c int, t *table[W]) {
	outW := len(t.first)
	for y := range rows {
		in, out := src[y*inW*c:][:inW*c], dst[y*outW*c:][:outW*c]
		for x := range outW {
			first, weights := t.at(x)
			for ch := range c {
				var s W
				i := first*c + ch
				for _, k := range weights {
					s += W(W(in[i]) * k) // the conversion forbids a fused multiply-add
					i += c
				}
				out[x*c+ch] = S(s)
			}
		}
	}
}

// floatV is intV for samples S summed in precision W.
func floatV[S, W float](dst, src []S, n int, t *table[W]) {
	for y := range t.first {
		first, weights := t.at(y)
		rows := src[first*n:]
		out := dst[y*n:][:n]
		x := 0
		for ; x+4 <= n; x += 4 {
			var s0, s1, s2, s3 W
			i := x
			for _, k := range weights {
				v := rows[i:][:4]
				s0 += W(W(v[0]) * k)
				s1 += W(W(v[1]) * k)
				s2 += W(W(v[2]) * k)
				s3 += W(W(v[3]) * k)
				i += n
			}
			o := out[x:][:4]
			o[0], o[1], o[2], o[3] = S(s0), S(s1), S(s2), S(s3)
		}
		for ; x < n; x++ {
			var s W
			i := x
			for _, k := range weights {
				s += W(W(rows[i]) * k)
				i += n
			}
			out[x] = S(s)
		}
	}
}

// resampler is resampler8 for floating-point samples.
type resampler[S, W float] struct {
	tables cache[*table[W]]
	middle []S
}

func (r *resampler[S, W]) run(dst, src []S, s Shape, build func(axis) *table[W]) {
	if s.SrcW != s.DstW {
		out := dst
		if s.SrcH != s.DstH {
			out = grow(&r.middle, s.SrcH*s.DstW*s.Channels)
		}
		floatH(out, src, s.SrcH, s.SrcW, s.Channels, r.tables.get(axis{in: s.SrcW, out: s.DstW}, build))
		src = out
	}
	switch {
	case s.SrcH != s.DstH:
		floatV(dst, src, s.DstW*s.Channels, r.tables.get(axis{in: s.SrcH, out: s.DstH}, build))
	case s.SrcW == s.DstW:
		copy(dst, src)
	}
}

// pick copies the source sample at (rows[y], cols[x]) to (y, x): nearest neighbour in any library.
func pick[T any](dst, src []T, s Shape, rows, cols []int) {
	c := s.Channels
	for y, sy := range rows {
		in, out := src[sy*s.SrcW*c:][:s.SrcW*c], dst[y*s.DstW*c:][:s.DstW*c]
		switch c {
		case 1:
			for x, sx := range cols {
				out[x] = in[sx]
			}
		case 3:
			for x, sx := range cols {
				o, i := out[x*3:][:3], in[sx*3:][:3]
				o[0], o[1], o[2] = i[0], i[1], i[2]
			}
		default:
			for x, sx := range cols {
				copy(out[x*c:][:c], in[sx*c:])
			}
		}
	}
}
