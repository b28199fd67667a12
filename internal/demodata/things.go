package demodata

import (
	"cmp"
	"math"
	"slices"
)

// A thing is what a class looks like: a field of signed distances in its own plane, and how it is turned and lit.
type thing struct {
	name  string                                     // with its article in captions
	field func(t *pose, p point) float64             // signed distance
	reach float64                                    // how far it extends from its centre
	turn  float64                                    // largest turn to either side, radians
	bevel float64                                    // width of the slope at the edge; 0: flat
	tint  func(t *pose, p point, px float64) float64 // share of the second colour; nil: one colour
}

// Classes are the names of the classes, by label.
var Classes = func() []string {
	var names []string
	for _, t := range things {
		names = append(names, t.name)
	}
	return names
}()

// ringTube is the radius of the ring's tube.
const ringTube = 0.27

var things = []thing{
	{name: "ball", field: func(_ *pose, p point) float64 { return math.Hypot(p.x, p.y) - 1 }, reach: 1, bevel: 1},
	{name: "cube", field: func(t *pose, p point) float64 { return polygon(p, t.cube.outline) }, reach: 1},
	{name: "triangle", field: func(_ *pose, p point) float64 { return polygon(p, triangleLine) - 0.06 }, reach: 1.06, turn: 0.6, bevel: 0.3},
	{name: "star", field: func(_ *pose, p point) float64 { return polygon(p, starLine) - 0.05 }, reach: 1.05, turn: math.Pi / 5, bevel: 0.5},
	{name: "heart", field: func(_ *pose, p point) float64 { return polygon(p, heartLine) }, reach: 1, turn: 0.45, bevel: 0.55},
	{name: "ring", field: func(t *pose, p point) float64 {
		return math.Abs(math.Hypot(p.x, p.y)-1+ringTube) - ringTube
	}, reach: 1, turn: math.Pi, bevel: ringTube},
	{name: "stripes", field: func(_ *pose, p point) float64 { return rounded(p, 0.86, 0.16) }, reach: 1.1, turn: math.Pi, bevel: 0.06,
		tint: func(t *pose, p point, px float64) float64 { return wave(p.x*t.cells/0.86/2+0.25, px*t.cells/0.86/2) }},
	{name: "checks", field: func(_ *pose, p point) float64 { return rounded(p, 0.86, 0.1) }, reach: 1.1, turn: math.Pi / 4, bevel: 0.06,
		tint: func(t *pose, p point, px float64) float64 {
			f := t.cells / 0.86 / 2
			u, v := wave(p.x*f, px*f), wave(p.y*f, px*f)
			return u + v - 2*u*v
		}},
	{name: "three", field: func(t *pose, p point) float64 { return stroke(p, threeLine, t.pen) }, reach: 1.06, turn: 0.3, bevel: 0.2},
	{name: "seven", field: func(t *pose, p point) float64 { return stroke(p, sevenLine, t.pen) }, reach: 1.06, turn: 0.3, bevel: 0.2},
}

// wave is a square wave between 0 and 1 of period 2, averaged over a pixel of width px.
func wave(u, px float64) float64 {
	u = math.Mod(math.Mod(u, 2)+2, 2)
	edge := math.Abs(u-1) - 0.5 // negative in the middle half of the period
	return clamp(0.5-edge/max(px, 1e-9), 0, 1)
}

// pose is how one thing stands in one picture.
type pose struct {
	class      int
	x, y, size float64 // centre and the length of 1, in units of the picture
	turn       float64
	paint      named
	second     colour
	gloss      float64
	cells      float64 // of textures, across
	pen        float64 // of digits
	squash     float64 // of the ring, across its own x axis
	cube       box3
}

// local takes a point of the picture to the plane of the thing.
func (t *pose) local(x, y float64) point {
	p := point{(x - t.x) / t.size, (y - t.y) / t.size}.turn(-t.turn)
	p.x /= t.squash
	return p
}

// box3 is a cube seen from above at an angle, in parallel projection.
type box3 struct {
	outline []point
	faces   [3]struct {
		line   []point
		normal [3]float64 // x right, y down, z to the viewer
	}
}

// newBox3 turns a cube by yaw around the vertical and tips it by pitch.
func newBox3(yaw, pitch float64) box3 {
	const h = 0.6
	sy, cy := math.Sincos(yaw)
	sp, cp := math.Sincos(pitch)
	project := func(x, y, z float64) [3]float64 {
		x, z = cy*x+sy*z, cy*z-sy*x
		return [3]float64{x, cp*y + sp*z, cp*z - sp*y}
	}
	var b box3
	side := 1.0
	if yaw > 0 {
		side = -1
	}
	for i, a := range [3][3]float64{{0, -1, 0}, {0, 0, 1}, {side, 0, 0}} {
		f := &b.faces[i]
		f.normal = project(a[0], a[1], a[2])
		u := [3]float64{a[1], a[2], a[0]}
		v := [3]float64{a[2], a[0], a[1]}
		for _, s := range [4][2]float64{{-1, -1}, {1, -1}, {1, 1}, {-1, 1}} {
			var c [3]float64
			for k := range c {
				c[k] = h * (a[k] + s[0]*u[k] + s[1]*v[k])
			}
			q := project(c[0], c[1], c[2])
			f.line = append(f.line, point{q[0], q[1]})
		}
	}
	b.outline = hull(slices.Concat(b.faces[0].line, b.faces[1].line, b.faces[2].line))
	return b
}

// hull is the convex hull of points.
func hull(points []point) []point {
	slices.SortFunc(points, func(a, b point) int { return cmp.Or(cmp.Compare(a.x, b.x), cmp.Compare(a.y, b.y)) })
	var half [2][]point
	for k := range half {
		for _, p := range points {
			h := half[k]
			for len(h) >= 2 {
				a, b := h[len(h)-1].sub(h[len(h)-2]), p.sub(h[len(h)-1])
				if a.x*b.y-a.y*b.x > 1e-9 {
					break
				}
				h = h[:len(h)-1]
			}
			half[k] = append(h, p)
		}
		slices.Reverse(points)
	}
	return append(half[0][:len(half[0])-1], half[1][:len(half[1])-1]...)
}
