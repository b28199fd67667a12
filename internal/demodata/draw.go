package demodata

import (
	"math"
	"math/rand/v2"
)

// light comes from above, left or right, in front of the picture.
type light struct {
	x, y, z float64 // towards it, of length 1
	ambient float64
	warm    float64
}

func newLight(r *rand.Rand) light {
	side, up := 1.1*(2*r.Float64()-1), 0.5+0.5*r.Float64()
	n := math.Sqrt(side*side + up*up + 1)
	return light{x: side / n, y: -up / n, z: 1 / n, ambient: 0.42 + 0.15*r.Float64(), warm: 0.06 * (2*r.Float64() - 1)}
}

// field is the signed distance from a thing at the pixels of the picture and of a margin of one around it, in pixels.
type field struct {
	n int // of the picture
	d []float64
}

func newField(t *pose, n int) field {
	f := field{n, make([]float64, (n+2)*(n+2))}
	k := &things[t.class]
	for i := range f.d {
		p := t.local((float64(i%(n+2))-0.5)/float64(n), (float64(i/(n+2))-0.5)/float64(n))
		f.d[i] = k.field(t, p) * t.size * float64(n)
	}
	if t.squash != 1 { // distances are off where the plane is squeezed: in first order, by the slope
		g := field{n, make([]float64, len(f.d))}
		for y := range n {
			for x := range n {
				dx, dy := f.slope(x, y)
				g.d[g.index(x, y)] = f.at(x, y) / max(math.Hypot(dx, dy), 0.5)
			}
		}
		f = g
	}
	return f
}

func (f field) index(x, y int) int  { return (y+1)*(f.n+2) + x + 1 }
func (f field) at(x, y int) float64 { return f.d[f.index(x, y)] }

// slope is the gradient.
func (f field) slope(x, y int) (dx, dy float64) {
	i, w := f.index(x, y), f.n+2
	return (f.d[i+1] - f.d[i-1]) / 2, (f.d[i+w] - f.d[i-w]) / 2
}

// near is the distance at any place, by the nearest pixels.
func (f field) near(x, y float64) float64 {
	x, y = clamp(x, 0, float64(f.n-1)), clamp(y, 0, float64(f.n-1))
	i, j := int(min(y, float64(f.n-2))), int(min(x, float64(f.n-2)))
	u, v := x-float64(j), y-float64(i)
	return mix(mix(f.at(j, i), f.at(j+1, i), u), mix(f.at(j, i+1), f.at(j+1, i+1), u), v)
}

// draw fills pixels, label map and objects.
func draw(p *Picture, b *backdrop, l light, poses []*pose) {
	n := p.Size
	p.RGB, p.Labels = make([]uint8, 3*n*n), make([]uint8, n*n)
	px := 1 / float64(n)
	canvas := make([]colour, n*n)
	for i := range canvas {
		x, y := (float64(i%n)+0.5)*px, (float64(i/n)+0.5)*px
		falloff := 1.04 + 0.16*((x-0.5)*l.x+(y-0.5)*l.y) - 0.12*((x-0.5)*(x-0.5)+(y-0.5)*(y-0.5))*2
		canvas[i] = b.at(x, y, px).times(falloff)
	}
	for _, t := range poses {
		f := newField(t, n)
		reach := 0.16 * t.size * float64(n) // of the shadow
		x0, y0, x1, y1 := n, n, -1, -1
		for i := range canvas {
			x, y := i%n, i/n
			s := f.near(float64(x)+l.x/l.z*reach, float64(y)+l.y/l.z*reach)
			canvas[i] = canvas[i].times(1 - 0.38*(1-smooth(-reach, 1.2*reach, s)))
		}
		for i := range canvas {
			x, y := i%n, i/n
			cover := clamp(0.5-f.at(x, y), 0, 1)
			if cover == 0 {
				continue
			}
			canvas[i] = canvas[i].mix(t.shade(f, l, x, y, px), cover)
			if cover >= 0.5 {
				p.Labels[i] = uint8(1 + t.class)
				x0, y0, x1, y1 = min(x0, x), min(y0, y), max(x1, x), max(y1, y)
			}
		}
		p.Objects = append(p.Objects, Object{t.class, [4]float64{float64(x0) * px, float64(y0) * px, float64(x1-x0+1) * px, float64(y1-y0+1) * px}})
	}
	for i, c := range canvas {
		for k, tone := range [3]float64{1 + l.warm, 1, 1 - l.warm} {
			p.RGB[3*i+k] = uint8(math.Round(255 * clamp(c[k]*tone, 0, 1)))
		}
	}
}

// shade is the colour of a thing at a pixel: diffuse light on its relief, and a highlight.
func (t *pose) shade(f field, l light, x, y int, px float64) colour {
	k := &things[t.class]
	p := t.local((float64(x)+0.5)*px, (float64(y)+0.5)*px)
	c := t.paint.c
	if k.tint != nil {
		c = c.mix(t.second, k.tint(t, p, px/t.size))
	}
	nx, ny, nz := 0.0, 0.0, 1.0
	if k.name == "cube" {
		return c.times(t.cubeLight(l, p, px/t.size))
	}
	if w := k.bevel * t.size * float64(f.n); w > 0 {
		dx, dy := f.slope(x, y)
		lean := clamp(1+f.at(x, y)/w, 0, 0.98)
		length := max(math.Hypot(dx, dy), 1e-6)
		nx, ny, nz = lean*dx/length, lean*dy/length, math.Sqrt(1-lean*lean)
		if length < 0.5 { // on a ridge the slope has no direction
			nx, ny = nx*length*2, ny*length*2
			nz = math.Sqrt(1 - nx*nx - ny*ny)
		}
	}
	lit := nx*l.x + ny*l.y + nz*l.z
	c = c.times(l.ambient + (1.12-l.ambient)*max(lit, 0)/0.9)
	// The viewer looks along z; half way between it and the light is the brightest spot.
	hx, hy, hz := l.x, l.y, l.z+1
	h := math.Sqrt(hx*hx + hy*hy + hz*hz)
	spot := math.Pow(max(nx*hx+ny*hy+nz*hz, 0)/h, 24)
	if k.bevel < 0.1 || nz > 0.995 && k.bevel < 0.3 { // flat faces would shine all over, narrow edges glitter
		spot = 0
	}
	return c.mix(colour{1, 1, 1}, 0.6*t.gloss*spot)
}

// cubeLight is the brightness of the faces that a pixel of width px sees.
func (t *pose) cubeLight(l light, p point, px float64) float64 {
	sum, weight := 0.0, 1e-9
	for _, f := range t.cube.faces {
		w := clamp(0.5-polygon(p, f.line)/px, 1e-6, 1)
		lit := max(f.normal[0]*l.x+f.normal[1]*l.y+f.normal[2]*l.z, 0)
		sum += w * (0.4 + 0.85*lit)
		weight += w
	}
	return sum / weight
}
