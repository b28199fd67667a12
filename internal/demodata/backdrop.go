package demodata

import (
	"math"
	"math/rand/v2"
)

// pattern is a kind of background.
type pattern struct {
	name  string
	shade func(b *backdrop, x, y, px float64) float64 // share of the second wall colour
}

// patterns are faint but for the horizon: what is strong is the thing.
var patterns = []pattern{
	{"plain", func(*backdrop, float64, float64, float64) float64 { return 0 }},
	{"gradient", func(b *backdrop, x, y, _ float64) float64 { return clamp(0.5+b.along(x, y)*1.1, 0, 1) }},
	{"spotlit", func(b *backdrop, x, y, _ float64) float64 { return smooth(0.1, 0.85, math.Hypot(x-b.cx, y-b.cy)) }},
	{"two-tone", func(b *backdrop, x, y, px float64) float64 { // a wall and a floor
		return clamp(0.5+(y-b.horizon-b.tilt*(x-0.5))/px, 0, 1)
	}},
	{"striped", func(b *backdrop, x, y, px float64) float64 { return 0.4 * wave(2*b.pitch*b.along(x, y), 2*b.pitch*px) }},
	{"dotted", func(b *backdrop, x, y, px float64) float64 {
		u, v := b.along(x, y)*b.pitch, b.across(x, y)*b.pitch
		u, v = u-math.Floor(u)-0.5, v-math.Floor(v)-0.5
		return 0.5 * clamp(0.5-(math.Hypot(u, v)-0.26)/(b.pitch*px), 0, 1)
	}},
	{"cloudy", func(b *backdrop, x, y, _ float64) float64 { return smooth(0.2, 0.8, b.clouds(x, y)) }},
	{"tiled", func(b *backdrop, x, y, px float64) float64 {
		u, v := b.along(x, y)*b.pitch, b.across(x, y)*b.pitch
		d := min(math.Abs(u-math.Round(u)), math.Abs(v-math.Round(v)))
		return 0.5 * clamp(0.5-(d-0.06)/(b.pitch*px), 0, 1)
	}},
}

// backdrop is the background of one picture.
type backdrop struct {
	pattern       pattern
	wall          named
	other         colour
	angle, cx, cy float64
	horizon, tilt float64
	pitch         float64 // repetitions across the picture
	grid          [5][5]float64
}

func newBackdrop(r *rand.Rand) *backdrop {
	b := &backdrop{pattern: patterns[r.IntN(len(patterns))], wall: walls[r.IntN(len(walls))]}
	b.wall.c = jitter(r, b.wall.c, 0.05)
	b.angle = 2 * math.Pi * r.Float64()
	b.cx, b.cy = 0.2+0.6*r.Float64(), 0.2+0.6*r.Float64()
	b.horizon, b.tilt = 0.45+0.3*r.Float64(), 0.3*(r.Float64()-0.5)
	b.pitch = 4 + 3*r.Float64()
	for i := range b.grid {
		for j := range b.grid[i] {
			b.grid[i][j] = r.Float64()
		}
	}
	// The second colour is the first one in another light, or another wall.
	if r.IntN(3) == 0 {
		b.other = b.wall.c.mix(walls[r.IntN(len(walls))].c, 0.5)
	} else if luma := b.wall.c.contrast(colour{}); luma < 0.7 || luma < 1.3 && r.IntN(2) == 0 {
		b.other = b.wall.c.mix(colour{1, 1, 1}, 0.25+0.15*r.Float64())
	} else {
		b.other = b.wall.c.times(0.55 + 0.2*r.Float64())
	}
	return b
}

// along and across are coordinates turned by the angle of the pattern, from the middle.
func (b *backdrop) along(x, y float64) float64  { return point{x - 0.5, y - 0.5}.turn(b.angle).x }
func (b *backdrop) across(x, y float64) float64 { return point{x - 0.5, y - 0.5}.turn(b.angle).y }

// clouds is noise of low frequency in 0..1.
func (b *backdrop) clouds(x, y float64) float64 {
	n := float64(len(b.grid) - 1)
	x, y = clamp(x, 0, 1)*n, clamp(y, 0, 1)*n
	i, j := int(min(y, n-1)), int(min(x, n-1))
	u, v := smooth(0, 1, x-float64(j)), smooth(0, 1, y-float64(i))
	return mix(mix(b.grid[i][j], b.grid[i][j+1], u), mix(b.grid[i+1][j], b.grid[i+1][j+1], u), v)
}

func (b *backdrop) at(x, y, px float64) colour {
	return b.wall.c.mix(b.other, b.pattern.shade(b, x, y, px))
}

// jitter moves a colour a little.
func jitter(r *rand.Rand, c colour, by float64) colour {
	for k := range c {
		c[k] = clamp(c[k]+by*(2*r.Float64()-1), 0, 1)
	}
	return c
}
