package picture

import "image"

// vp8ToRGB converts the planes of a VP8 frame (4:2:0, limited range, BT.601) as libwebp does by default: chroma from the
// four nearest samples with weights 9:3:3:1, rounded in two steps, then 14-bit fixed-point colours.
func vp8ToRGB(pix []uint8, stride int, m *image.YCbCr, w, h int) {
	y := func(r int) []uint8 { return m.Y[r*m.YStride:][:w] }
	cw, ch := (w+1)/2, (h+1)/2
	c := func(r int) ([]uint8, []uint8) {
		r = min(r, ch-1)
		return m.Cb[r*m.CStride:][:cw], m.Cr[r*m.CStride:][:cw]
	}
	// Row 0 lies outside of the first chroma row, rows 2k-1 and 2k between chroma rows k-1 and k, and with an even height
	// the last row outside of the last chroma row.
	for r := range h {
		near := r / 2
		far := max(near-1, 0)
		if r%2 == 1 {
			far = min(near+1, ch-1)
		}
		nu, nv := c(near)
		fu, fv := c(far)
		vp8Row(pix[r*stride:][:3*w], y(r), nu, nv, fu, fv)
	}
}

// vp8Row converts one row; near and far are the chroma rows at a quarter and three quarters of a chroma row's distance.
func vp8Row(out, y, nu, nv, fu, fv []uint8) {
	w := len(y)
	edge := func(near, far []uint8, i int) int { return (3*int(near[i]) + int(far[i]) + 2) >> 2 }
	vp8Pixel(out, y[0], edge(nu, fu, 0), edge(nv, fv, 0))
	for i := 1; i <= (w-1)/2; i++ {
		u0, u1 := vp8Pair(nu, fu, i)
		v0, v1 := vp8Pair(nv, fv, i)
		vp8Pixel(out[3*(2*i-1):], y[2*i-1], u0, v0)
		vp8Pixel(out[6*i:], y[2*i], u1, v1)
	}
	if w%2 == 0 {
		i := w/2 - 1
		vp8Pixel(out[3*(w-1):], y[w-1], edge(nu, fu, i), edge(nv, fv, i))
	}
}

// vp8Pair interpolates the two positions between chroma columns i-1 and i.
func vp8Pair(near, far []uint8, i int) (left, right int) {
	nl, n, fl, f := int(near[i-1]), int(near[i]), int(far[i-1]), int(far[i])
	sum := nl + n + fl + f + 8
	return ((sum+2*(n+fl))>>3 + nl) >> 1, ((sum+2*(nl+f))>>3 + n) >> 1
}

func vp8Pixel(out []uint8, y uint8, u, v int) {
	l := int(y) * 19077 >> 8
	out[0] = vp8Clip(l + v*26149>>8 - 14234)
	out[1] = vp8Clip(l - u*6419>>8 - v*13320>>8 + 8708)
	out[2] = vp8Clip(l + u*33050>>8 - 17685)
}

func vp8Clip(v int) uint8 {
	switch {
	case v < 0:
		return 0
	case v >= 1<<14:
		return 255
	}
	return uint8(v >> 6)
}
