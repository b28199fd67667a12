package training

import "math"

// drawHoles makes the holes of an inpainting example, H x W with 1 in a hole: half of the time a few rectangles, else a few thick
// strokes, as masks of inpainting data sets are. At least one pixel is a hole and one is not.
func drawHoles(h, w int, next func() uint64) []float32 {
	unit := func() float64 { return float64(next()>>11) / (1 << 53) }
	between := func(a, b float64) float64 { return a + (b-a)*unit() }
	out := make([]float32, h*w)
	fill := func(y0, y1, x0, x1 int) {
		for y := max(y0, 0); y < min(y1, h); y++ {
			for x := max(x0, 0); x < min(x1, w); x++ {
				out[y*w+x] = 1
			}
		}
	}
	if unit() < 0.5 {
		for range 1 + int(4*unit()) {
			bh, bw := int(between(0.1, 0.5)*float64(h)), int(between(0.1, 0.5)*float64(w))
			y, x := int(unit()*float64(h-bh)), int(unit()*float64(w-bw))
			fill(y, y+max(bh, 1), x, x+max(bw, 1))
		}
	} else {
		for range 1 + int(4*unit()) {
			y, x, angle := unit()*float64(h), unit()*float64(w), between(0, 2*math.Pi)
			r := between(0.03, 0.12) * float64(min(h, w))
			for range 1 + int(5*unit()) {
				angle += between(-1.2, 1.2)
				length := between(0.1, 0.4) * float64(min(h, w))
				for s := 0.0; s <= length; s += max(r/2, 0.5) {
					fill(int(y-r), int(y+r)+1, int(x-r), int(x+r)+1)
					y, x = y+max(r/2, 0.5)*math.Sin(angle), x+max(r/2, 0.5)*math.Cos(angle)
				}
			}
		}
	}
	out[0], out[len(out)-1] = 0, max(out[len(out)-1], anyHole(out))
	return out
}

// anyHole is 1 where there is no hole yet, so that a corner becomes one.
func anyHole(holes []float32) float32 {
	for _, v := range holes {
		if v > 0 {
			return 0
		}
	}
	return 1
}
