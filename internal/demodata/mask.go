package demodata

import (
	"math"
	"math/rand/v2"
)

// mask says where inpainting is to fill: one or two blocks, or strokes of a broad pen, as people erase things.
func mask(r *rand.Rand, n int) []uint8 {
	m := make([]uint8, n*n)
	set := func(inside func(p point) bool) {
		for i := range m {
			if inside(point{(float64(i%n) + 0.5) / float64(n), (float64(i/n) + 0.5) / float64(n)}) {
				m[i] = 255
			}
		}
	}
	if r.IntN(2) == 0 {
		for range 1 + r.IntN(2) {
			w, h := 0.2+0.3*r.Float64(), 0.2+0.3*r.Float64()
			x, y := (1-w)*r.Float64(), (1-h)*r.Float64()
			set(func(p point) bool { return p.x >= x && p.x < x+w && p.y >= y && p.y < y+h })
		}
		return m
	}
	for range 1 + r.IntN(3) {
		line := []point{{0.1 + 0.8*r.Float64(), 0.1 + 0.8*r.Float64()}}
		angle := 2 * math.Pi * r.Float64()
		for range 2 + r.IntN(4) {
			q := polar(0.1+0.25*r.Float64(), angle)
			last := line[len(line)-1]
			line = append(line, point{clamp(last.x+q.x, 0, 1), clamp(last.y+q.y, 0, 1)})
			angle += 2.5 * (r.Float64() - 0.5)
			if line[len(line)-1] == last { // against the border: a segment needs a length
				line[len(line)-1].x += 1e-3
			}
		}
		pen := 0.05 + 0.06*r.Float64()
		set(func(p point) bool { return stroke(p, line, pen) < 0 })
	}
	return m
}
