package jpegx

// YCbCr to RGB by 16-bit fixed point: R = Y + 1.402 Cr, G = Y - 0.344136 Cb - 0.714136 Cr, B = Y + 1.772 Cb (T.871), each
// table rounded on its own except the two of G, which are added first.
type chroma struct{ r, g, b int32 }

var crTable, cbTable = func() (cr, cb [256]chroma) {
	for i := range int32(256) {
		x := i - 128
		cr[i] = chroma{r: (91881*x + 32768) >> 16, g: -46802 * x}
		cb[i] = chroma{b: (116130*x + 32768) >> 16, g: -22554*x + 32768}
	}
	return
}()

// output writes the RGB picture from the planes.
func (d *Decoder) output(pix []uint8) {
	width := d.mcux * d.hmax * 8
	for i := range d.comps {
		if cap(d.rows[i]) < width {
			d.rows[i] = make([]uint8, width)
		}
		d.rows[i] = d.rows[i][:width]
	}
	if cap(d.sums) < width {
		d.sums = make([]uint16, width)
	}
	d.sums = d.sums[:width]
	ycc := d.ycc()
	for y := range d.h {
		var in [4][]uint8
		for i := range d.comps {
			in[i] = d.fullRow(&d.comps[i], y, d.rows[i])[:d.w]
		}
		out := pix[3*y*d.w : 3*(y+1)*d.w]
		switch {
		case len(d.comps) == 1:
			for x, v := range in[0] {
				o := out[3*x : 3*x+3 : 3*x+3]
				o[0], o[1], o[2] = v, v, v
			}
		case len(d.comps) == 3 && ycc:
			yccRow(out, in[0], in[1], in[2])
		case len(d.comps) == 3:
			for x := range in[0] {
				o := out[3*x : 3*x+3 : 3*x+3]
				o[0], o[1], o[2] = in[0][x], in[1][x], in[2][x]
			}
		case ycc:
			yccRow(out, in[0], in[1], in[2])
			for x, k := range in[3] {
				o := out[3*x : 3*x+3 : 3*x+3]
				// The three channels of YCCK are the inverse of CMY, which the file holds inverted: two inversions cancel.
				o[0], o[1], o[2] = ink(255-o[0], k), ink(255-o[1], k), ink(255-o[2], k)
			}
		default:
			for x, k := range in[3] {
				o := out[3*x : 3*x+3 : 3*x+3]
				o[0], o[1], o[2] = ink(in[0][x], k), ink(in[1][x], k), ink(in[2][x], k)
			}
		}
	}
}

// ink turns one inverted ink and inverted black into a colour channel: (1-K) - C(1-K), in 8 bit.
func ink(c, k uint8) uint8 {
	t := uint32(255-c)*uint32(k) + 128
	return clamp8(int32(k) - int32((t>>8+t)>>8))
}

// ycc reports whether the first three channels are YCbCr: by the Adobe marker, else the JFIF marker, else the component ids.
func (d *Decoder) ycc() bool {
	switch {
	case len(d.comps) == 4:
		return d.adobe && d.transform != 0
	case d.jfif:
		return true
	case d.adobe:
		return d.transform != 0
	}
	return d.comps[0].id != 'R' || d.comps[1].id != 'G' || d.comps[2].id != 'B'
}

func yccRow(out, y, cb, cr []uint8) {
	cb, cr = cb[:len(y)], cr[:len(y)]
	for x, l := range y {
		u, v := &cbTable[cb[x]], &crTable[cr[x]]
		l := int32(l)
		r, g, b := l+v.r, l+(u.g+v.g)>>16, l+u.b
		if uint32(r|g|b) > 255 {
			r, g, b = int32(clamp8(r)), int32(clamp8(g)), int32(clamp8(b))
		}
		if len(out) < 3 {
			break
		}
		out[0], out[1], out[2] = uint8(r), uint8(g), uint8(b)
		out = out[3:]
	}
}
