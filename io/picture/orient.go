package picture

// orient turns the picture by its orientation 2..8 so that row 0 is the top and column 0 the left (TIFF 6.0, tag 274).
func (d *Decoder) orient(m *Image) {
	if m.Orientation < 2 || m.Orientation > 8 {
		return
	}
	// Source position of the output's (0,0), and the steps in the source for one output column and one output row.
	w, h := m.W, m.H
	var x0, y0, colx, coly, rowx, rowy int
	switch m.Orientation {
	case 2:
		x0, colx, rowy = w-1, -1, 1
	case 3:
		x0, y0, colx, rowy = w-1, h-1, -1, -1
	case 4:
		y0, colx, rowy = h-1, 1, -1
	case 5:
		coly, rowx = 1, 1
	case 6:
		y0, coly, rowx = h-1, -1, 1
	case 7:
		x0, y0, coly, rowx = w-1, h-1, -1, -1
	case 8:
		x0, coly, rowx = w-1, 1, -1
	}
	ow, oh := w, h
	if m.Orientation >= 5 {
		ow, oh = h, w
	}
	start, col, row := y0*w+x0, coly*w+colx, rowy*w+rowx

	out := grow(d.turn, len(m.Pix))
	i := 0
	for y := range oh {
		p := start + y*row
		for range ow {
			out[i], out[i+1], out[i+2] = m.Pix[3*p], m.Pix[3*p+1], m.Pix[3*p+2]
			i += 3
			p += col
		}
	}
	m.Pix, d.turn = out, m.Pix
	m.Alpha = turned(m.Alpha, ow, oh, 1, start, col, row)
	m.Pix16 = turned(m.Pix16, ow, oh, m.Channels, start, col, row)
	m.Alpha16 = turned(m.Alpha16, ow, oh, 1, start, col, row)
	m.W, m.H = ow, oh
}

// turned gathers the pixels of a plane of c channels into a new one of w x h; nil stays nil.
func turned[T uint8 | uint16](src []T, w, h, c, start, col, row int) []T {
	if src == nil {
		return nil
	}
	out := make([]T, 0, len(src))
	for y := range h {
		for x := range w {
			p := c * (start + y*row + x*col)
			out = append(out, src[p:p+c]...)
		}
	}
	return out
}
