package jpegx

// fullRow returns row y of component c at the picture's width. scratch holds the result unless the plane has it already.
func (d *Decoder) fullRow(c *component, y int, scratch []uint8) []uint8 {
	hx, vx := d.hmax/c.h, d.vmax/c.v
	row := y / vx
	in := c.plane[row*c.stride : row*c.stride+c.stride]
	if hx == 1 && vx == 1 {
		return in
	}
	// The neighbour row for vertical interpolation: above for the upper of two output rows, below for the lower; the first
	// and the last row stand for their missing neighbours.
	beside := func() []uint8 {
		r := row - 1
		if y&1 == 1 {
			r = row + 1
		}
		r = min(max(r, 0), c.height-1)
		return c.plane[r*c.stride : r*c.stride+c.stride]
	}
	switch {
	case hx == 2 && vx == 1 && c.w > 2:
		triangleH(scratch, in[:c.w])
	case hx == 2 && vx == 2 && c.w > 2:
		triangleHV(scratch, in[:c.w], beside(), d.sums)
	case hx == 1 && vx == 2:
		bias := uint(1 + y&1)
		near := beside()[:c.w]
		for i, v := range in[:c.w] {
			scratch[i] = uint8((3*uint(v) + uint(near[i]) + bias) >> 2)
		}
	default:
		o := 0
		for _, v := range in[:c.w] {
			for range hx {
				scratch[o] = v
				o++
			}
		}
	}
	return scratch
}

// triangleH doubles a row: each output lies a quarter between samples, 3/4 near and 1/4 far, with alternating rounding.
func triangleH(out, in []uint8) {
	n := len(in)
	out = out[:2*n]
	prev := uint(in[0])
	out[0] = in[0]
	for i := 0; i < n-1; i++ {
		v, next := uint(in[i]), uint(in[i+1])
		if i > 0 {
			out[2*i] = uint8((3*v + prev + 1) >> 2)
		}
		out[2*i+1] = uint8((3*v + next + 2) >> 2)
		prev = v
	}
	out[2*n-2] = uint8((3*uint(in[n-1]) + prev + 1) >> 2)
	out[2*n-1] = in[n-1]
}

// triangleHV doubles a row in both directions: vertical sums first, kept at full precision, then as triangleH.
func triangleHV(out, in, near []uint8, sums []uint16) {
	n := len(in)
	near, sums, out = near[:n], sums[:n], out[:2*n]
	for i, v := range in {
		sums[i] = 3*uint16(v) + uint16(near[i])
	}
	v, next := uint(sums[0]), uint(sums[1])
	out[0] = uint8((4*v + 8) >> 4)
	out[1] = uint8((3*v + next + 7) >> 4)
	prev := v
	v = next
	o := out[2:]
	for _, s := range sums[2:] {
		if len(o) < 2 {
			break
		}
		next = uint(s)
		o[0] = uint8((3*v + prev + 8) >> 4)
		o[1] = uint8((3*v + next + 7) >> 4)
		prev, v = v, next
		o = o[2:]
	}
	out[2*n-2] = uint8((3*v + prev + 8) >> 4)
	out[2*n-1] = uint8((4*v + 7) >> 4)
}
