package demodata

import "math"

// colour is red, green and blue in 0..1, as stored.
type colour [3]float64

func (c colour) mix(o colour, t float64) colour {
	return colour{mix(c[0], o[0], t), mix(c[1], o[1], t), mix(c[2], o[2], t)}
}

func (c colour) times(f float64) colour { return colour{c[0] * f, c[1] * f, c[2] * f} }

// contrast is a distance of colours as the eye tells them apart, roughly: lightness counts most.
func (c colour) contrast(o colour) float64 {
	dr, dg, db := c[0]-o[0], c[1]-o[1], c[2]-o[2]
	light := 0.299*dr + 0.587*dg + 0.114*db
	return math.Sqrt(2*light*light + 0.6*(dr*dr+dg*dg+db*db))
}

// named is a colour that a caption can name.
type named struct {
	name string
	c    colour
}

// paints are what things are made of.
var paints = []named{
	{"red", rgb(0xd8, 0x2c, 0x2c)}, {"orange", rgb(0xf0, 0x84, 0x1c)}, {"yellow", rgb(0xf6, 0xd0, 0x2c)}, {"green", rgb(0x3a, 0xa6, 0x4a)},
	{"blue", rgb(0x2a, 0x62, 0xd4)}, {"purple", rgb(0x84, 0x42, 0xc0)}, {"pink", rgb(0xf0, 0x78, 0xb0)}, {"white", rgb(0xf2, 0xf0, 0xea)},
}

// walls are what backgrounds are made of: duller than paints.
var walls = []named{
	{"gray", rgb(0x8c, 0x90, 0x96)}, {"dark", rgb(0x30, 0x34, 0x40)}, {"light", rgb(0xd8, 0xd6, 0xce)}, {"blue", rgb(0x5c, 0x80, 0xac)},
	{"green", rgb(0x6c, 0x94, 0x70)}, {"brown", rgb(0x8e, 0x6c, 0x50)}, {"sand", rgb(0xd2, 0xba, 0x8e)}, {"violet", rgb(0x74, 0x68, 0x98)},
}

func rgb(r, g, b uint8) colour { return colour{float64(r) / 255, float64(g) / 255, float64(b) / 255} }
