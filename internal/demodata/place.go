package demodata

import (
	"math"
	"math/rand/v2"
)

// stands says that a paint differs from both colours of a background enough to be seen at once.
func (c colour) stands(b *backdrop) bool {
	const least = 0.42
	return c.contrast(b.wall.c) > least && c.contrast(b.other) > least
}

// compose chooses a background and things: one of the label's class, and at most objects-1 smaller ones beside it. Paints are
// equally frequent for every class; it is the background that gives way.
func compose(r *rand.Rand, label, objects int) (*backdrop, []*pose) {
	n := 1
	if objects > 1 {
		n += r.IntN(objects)
	}
	size := 0.27 + 0.14*r.Float64()
	if n > 1 {
		size = 0.19 + 0.07*r.Float64()
	}
	main := newPose(r, label, size)
	b := newBackdrop(r)
	for !main.paint.c.stands(b) {
		b = newBackdrop(r)
	}
	poses := []*pose{main}
	for tries := 0; len(poses) < n && tries < 40; tries++ {
		if t := newPose(r, r.IntN(len(things)), size*(0.6+0.3*r.Float64())); t.paint.c.stands(b) && t.clear(poses) {
			poses = append(poses, t)
		}
	}
	return b, poses
}

// newPose stands a thing somewhere, whole.
func newPose(r *rand.Rand, class int, size float64) *pose {
	k := &things[class]
	if k.tint != nil { // cells need pixels
		size = max(size, min(1.2*size, 0.31))
	}
	t := &pose{class: class, size: size, squash: 1, paint: paints[r.IntN(len(paints))]}
	edge := size*k.reach + 0.03
	t.x, t.y = mix(edge, 1-edge, r.Float64()), mix(edge, 1-edge, r.Float64())
	t.turn = k.turn * (2*r.Float64() - 1)
	t.gloss = r.Float64()
	t.cells = float64(4 + r.IntN(2))
	t.pen = 0.19 + 0.07*r.Float64()
	t.paint.c = jitter(r, t.paint.c, 0.04)
	yaw := (0.35 + 0.85*r.Float64()) * float64(2*r.IntN(2)-1)
	pitch := 0.4 + 0.3*r.Float64()
	switch k.name {
	case "ring":
		t.squash = 0.6 + 0.4*r.Float64()
	case "cube":
		t.cube = newBox3(yaw, pitch)
	}
	t.second = colour{0.96, 0.95, 0.92}
	if t.paint.c.contrast(t.second) < 0.55 || r.IntN(3) == 0 && t.paint.c.contrast(ink) > 0.55 {
		t.second = ink
	}
	return t
}

// ink is the dark colour of textures.
var ink = colour{0.13, 0.13, 0.17}

// clear says whether a thing keeps its distance from others.
func (t *pose) clear(others []*pose) bool {
	for _, o := range others {
		if math.Hypot(t.x-o.x, t.y-o.y) < t.size*things[t.class].reach+o.size*things[o.class].reach+0.02 {
			return false
		}
	}
	return true
}
