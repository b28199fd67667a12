package jpegx

// zigzag maps the coded order of coefficients to row-major order.
var zigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
}

// Constants of the 12-multiplication DCT with 13 fraction bits, round(c * 2^13).
const (
	c0298 = 2446  // 0.298631336
	c0390 = 3196  // 0.390180644
	c0541 = 4433  // 0.541196100
	c0765 = 6270  // 0.765366865
	c0899 = 7373  // 0.899976223
	c1175 = 9633  // 1.175875602
	c1501 = 12299 // 1.501321110
	c1847 = 15137 // 1.847759065
	c1961 = 16069 // 1.961570560
	c2053 = 16819 // 2.053119869
	c2562 = 20995 // 2.562915447
	c3072 = 25172 // 3.072711026

	constBits = 13
	pass1Bits = 2
)

// clamp8 limits v to 0..255.
func clamp8(v int32) uint8 {
	if uint32(v) > 255 {
		return uint8(^(v >> 31))
	}
	return uint8(v)
}

// idct writes the 8x8 samples of one dequantized block (row-major order) to dst, rows stride apart. last is the largest
// coded (zigzag) index that may be non-zero. Columns first, then rows; two extra fraction bits between the passes.
func idct(b *[64]int32, last int, dst []byte, stride int) {
	if last == 0 {
		v := clamp8((b[0]+4)>>3 + 128)
		for y := range 8 {
			row := dst[y*stride : y*stride+8 : y*stride+8]
			row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7] = v, v, v, v, v, v, v, v
		}
		return
	}
	var ws [64]int32
	cols := 8
	if last < 10 { // only the upper left triangle of 4 diagonals
		cols = 4
	}
	for c := range cols {
		i0, i1, i2, i3 := b[c], b[8+c], b[16+c], b[24+c]
		i4, i5, i6, i7 := b[32+c], b[40+c], b[48+c], b[56+c]
		if i1|i2|i3|i4|i5|i6|i7 == 0 {
			if i0 != 0 {
				v := i0 << pass1Bits
				ws[c], ws[8+c], ws[16+c], ws[24+c] = v, v, v, v
				ws[32+c], ws[40+c], ws[48+c], ws[56+c] = v, v, v, v
			}
			continue
		}
		const round = 1 << (constBits - pass1Bits - 1)
		const shift = constBits - pass1Bits

		z1 := (i2 + i6) * c0541
		e2 := z1 - i6*c1847
		e3 := z1 + i2*c0765
		e0 := (i0+i4)<<constBits + round
		e1 := (i0-i4)<<constBits + round
		s0, s3, s1, s2 := e0+e3, e0-e3, e1+e2, e1-e2

		z1, z2, z3, z4 := i7+i1, i5+i3, i7+i3, i5+i1
		z5 := (z3 + z4) * c1175
		z1, z2 = z1*c0899, z2*c2562
		z3, z4 = z5-z3*c1961, z5-z4*c0390
		o0 := i7*c0298 - z1 + z3
		o1 := i5*c2053 - z2 + z4
		o2 := i3*c3072 - z2 + z3
		o3 := i1*c1501 - z1 + z4

		ws[c], ws[56+c] = (s0+o3)>>shift, (s0-o3)>>shift
		ws[8+c], ws[48+c] = (s1+o2)>>shift, (s1-o2)>>shift
		ws[16+c], ws[40+c] = (s2+o1)>>shift, (s2-o1)>>shift
		ws[24+c], ws[32+c] = (s3+o0)>>shift, (s3-o0)>>shift
	}
	for y := range 8 {
		r := (*[8]int32)(ws[8*y:])
		out := (*[8]uint8)(dst[y*stride:])
		const shift = constBits + pass1Bits + 3
		const round = 1<<(shift-1) + 128<<shift // the level shift of 128 rides along

		i0, i1, i2, i3, i4, i5, i6, i7 := r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]
		if i4|i5|i6|i7 == 0 && cols == 4 {
			z1 := i2 * c0541
			e3 := z1 + i2*c0765
			e0 := i0<<constBits + round
			s0, s3, s1, s2 := e0+e3, e0-e3, e0+z1, e0-z1
			z5 := (i3 + i1) * c1175
			z3, z4 := z5-i3*c1961, z5-i1*c0390
			o0 := z3 - i1*c0899
			o1 := z4 - i3*c2562
			o2 := i3*(c3072-c2562) + z3
			o3 := i1*(c1501-c0899) + z4
			out[0], out[7] = clamp8((s0+o3)>>shift), clamp8((s0-o3)>>shift)
			out[1], out[6] = clamp8((s1+o2)>>shift), clamp8((s1-o2)>>shift)
			out[2], out[5] = clamp8((s2+o1)>>shift), clamp8((s2-o1)>>shift)
			out[3], out[4] = clamp8((s3+o0)>>shift), clamp8((s3-o0)>>shift)
			continue
		}
		z1 := (i2 + i6) * c0541
		e2 := z1 - i6*c1847
		e3 := z1 + i2*c0765
		e0 := (i0+i4)<<constBits + round
		e1 := (i0-i4)<<constBits + round
		s0, s3, s1, s2 := e0+e3, e0-e3, e1+e2, e1-e2

		z1, z2, z3, z4 := i7+i1, i5+i3, i7+i3, i5+i1
		z5 := (z3 + z4) * c1175
		z1, z2 = z1*c0899, z2*c2562
		z3, z4 = z5-z3*c1961, z5-z4*c0390
		o0 := i7*c0298 - z1 + z3
		o1 := i5*c2053 - z2 + z4
		o2 := i3*c3072 - z2 + z3
		o3 := i1*c1501 - z1 + z4

		out[0], out[7] = clamp8((s0+o3)>>shift), clamp8((s0-o3)>>shift)
		out[1], out[6] = clamp8((s1+o2)>>shift), clamp8((s1-o2)>>shift)
		out[2], out[5] = clamp8((s2+o1)>>shift), clamp8((s2-o1)>>shift)
		out[3], out[4] = clamp8((s3+o0)>>shift), clamp8((s3-o0)>>shift)
	}
}
