package demodata

import "math"

// point is a place in the plane of a thing, which reaches to about 1 around the origin; y points down.
type point struct{ x, y float64 }

func (p point) sub(q point) point     { return point{p.x - q.x, p.y - q.y} }
func (p point) dot(q point) float64   { return p.x*q.x + p.y*q.y }
func (p point) scale(f float64) point { return point{p.x * f, p.y * f} }
func (p point) turn(a float64) point {
	s, c := math.Sincos(a)
	return point{c*p.x - s*p.y, s*p.x + c*p.y}
}
func polar(r, angle float64) point     { s, c := math.Sincos(angle); return point{r * c, r * s} }
func clamp(v, lo, hi float64) float64  { return min(max(v, lo), hi) }
func mix(a, b, t float64) float64      { return a + (b-a)*t }
func smooth(lo, hi, v float64) float64 { t := clamp((v-lo)/(hi-lo), 0, 1); return t * t * (3 - 2*t) }
func toSegment(p, a, b point) float64 { // squared distance
	ab, ap := b.sub(a), p.sub(a)
	d := ap.sub(ab.scale(clamp(ap.dot(ab)/ab.dot(ab), 0, 1)))
	return d.dot(d)
}

// polygon is the signed distance from a closed line, negative inside.
func polygon(p point, line []point) float64 {
	d, inside := math.Inf(1), false
	for i, b := range line {
		a := line[(i+len(line)-1)%len(line)]
		d = min(d, toSegment(p, a, b))
		if (a.y > p.y) != (b.y > p.y) && p.x < a.x+(p.y-a.y)/(b.y-a.y)*(b.x-a.x) {
			inside = !inside
		}
	}
	if inside {
		return -math.Sqrt(d)
	}
	return math.Sqrt(d)
}

// stroke is the signed distance from a pen of radius r drawn along a line.
func stroke(p point, line []point, r float64) float64 {
	d := math.Inf(1)
	for i := 1; i < len(line); i++ {
		d = min(d, toSegment(p, line[i-1], line[i]))
	}
	return math.Sqrt(d) - r
}

// rounded is the signed distance from a square of half side h with corners of radius r.
func rounded(p point, h, r float64) float64 {
	q := point{math.Abs(p.x) - h + r, math.Abs(p.y) - h + r}
	return math.Hypot(max(q.x, 0), max(q.y, 0)) + min(max(q.x, q.y), 0) - r
}

// regular are n points at the radii in turn, the first on top.
func regular(n int, radii ...float64) []point {
	var line []point
	for i := range n {
		line = append(line, polar(radii[i%len(radii)], 2*math.Pi*float64(i)/float64(n)-math.Pi/2))
	}
	return line
}

// arc are points on an ellipse from angle a to b, in degrees, clockwise from the right.
func arc(cx, cy, rx, ry, a, b float64) []point {
	n := int(math.Ceil(math.Abs(b-a)/18)) + 1
	var line []point
	for i := range n {
		s, c := math.Sincos(mix(a, b, float64(i)/float64(n-1)) * math.Pi / 180)
		line = append(line, point{cx + rx*c, cy + ry*s})
	}
	return line
}

var (
	triangleLine = regular(3, 1)
	starLine     = regular(10, 1, 0.46)
	heartLine    = heart()
	threeLine    = append(arc(-0.02, -0.42, 0.42, 0.38, -155, 85), arc(-0.02, 0.4, 0.5, 0.43, -85, 155)...)
	sevenLine    = []point{{-0.48, -0.8}, {0.5, -0.8}, {-0.12, 0.82}}
)

// heart is a heart within the unit circle.
func heart() []point {
	const n = 40
	var line []point
	for i := range n {
		t := 2 * math.Pi * float64(i) / n
		s := math.Sin(t)
		y := 13*math.Cos(t) - 5*math.Cos(2*t) - 2*math.Cos(3*t) - math.Cos(4*t)
		line = append(line, point{16 * s * s * s / 17, -(y + 2.5) / 17})
	}
	return line
}
