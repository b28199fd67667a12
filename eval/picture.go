package eval

import (
	"fmt"
	"math"
)

// Picture is a raster of H x W pixels with C interleaved channels (HWC, row major): 1 gray, 2 gray and alpha, 3 RGB or 4 RGBA.
// One of the two slices is set. Alpha is not scored.
type Picture struct {
	H, W, C int
	Pix8    []uint8  // values 0..255
	Pix16   []uint16 // values 0..65535
}

// Plane says which values of two pictures are compared.
type Plane string

// The planes. Luma is that of ITU-R BT.601 in studio range, 16 + (65.481 R + 128.553 G + 24.966 B)/255, always on the scale
// 0..255; the super-resolution literature scores it. A gray picture is its own luma, without conversion.
const (
	RGB         Plane = "rgb"          // every color channel; the default
	Luma        Plane = "luma"         // not rounded
	LumaRounded Plane = "luma-rounded" // rounded half up to 8 bits first, as programs do that store YCbCr
)

// Options say what is compared. The zero value compares all color channels of whole pictures.
type Options struct {
	Plane  Plane  // default [RGB]
	Border int    // pixels cut off on every side first; the convention of super-resolution is the scale factor
	Window Window // of SSIM; default [Gauss]
}

func (o Options) check() (Options, error) {
	if o.Plane == "" {
		o.Plane = RGB
	}
	if o.Window == "" {
		o.Window = Gauss
	}
	switch o.Plane {
	case RGB, Luma, LumaRounded:
	default:
		return o, fmt.Errorf("unknown plane %q, want %s, %s or %s", o.Plane, RGB, Luma, LumaRounded)
	}
	if _, ok := windows[o.Window]; !ok {
		return o, fmt.Errorf("unknown window %q of ssim, want one of %v", o.Window, Windows())
	}
	if o.Border < 0 {
		return o, fmt.Errorf("border %d is negative", o.Border)
	}
	return o, nil
}

func (p Picture) check() error {
	n := len(p.Pix8)
	if p.Pix16 != nil {
		if p.Pix8 != nil {
			return fmt.Errorf("picture has both 8 and 16 bit samples")
		}
		n = len(p.Pix16)
	}
	if p.H < 1 || p.W < 1 || p.C < 1 || p.C > 4 || n/p.H/p.W != p.C || n != p.H*p.W*p.C {
		return fmt.Errorf("picture of %d x %d x %d has %d samples", p.H, p.W, p.C, n)
	}
	return nil
}

func (p Picture) bits() int {
	if p.Pix16 != nil {
		return 16
	}
	return 8
}

// raster is what is compared: planes of float64, one after the other, on the scale 0..peak.
type raster struct {
	h, w   int
	planes [][]float64
}

// raster cuts the border and converts.
func (p Picture) raster(o Options) (r raster, peak float64) {
	if p.Pix16 != nil {
		return convert(p, p.Pix16, 65535, o)
	}
	return convert(p, p.Pix8, 255, o)
}

func convert[T uint8 | uint16](p Picture, pix []T, peak float64, o Options) (raster, float64) {
	r := raster{h: p.H - 2*o.Border, w: p.W - 2*o.Border}
	colors := p.C
	if p.C == 2 || p.C == 4 {
		colors--
	}
	single := o.Plane != RGB && colors == 3
	scale := 1.0
	if o.Plane == Luma || o.Plane == LumaRounded {
		scale, peak = 255/peak, 255 // luma is on the scale of 8 bits, whatever the picture's
	}
	n := colors
	if single {
		n = 1
	}
	all := make([]float64, n*r.h*r.w)
	for c := range n {
		r.planes = append(r.planes, all[c*r.h*r.w:][:r.h*r.w])
	}
	for y := range r.h {
		i := ((y+o.Border)*p.W + o.Border) * p.C
		for x := range r.w {
			k := y*r.w + x
			if single {
				r.planes[0][k] = 16 + scale*(65.481*float64(pix[i])+128.553*float64(pix[i+1])+24.966*float64(pix[i+2]))/255
			} else {
				for c := range n {
					r.planes[c][k] = scale * float64(pix[i+c])
				}
			}
			i += p.C
		}
	}
	if o.Plane == LumaRounded {
		for k, v := range all {
			all[k] = math.Floor(v + 0.5)
		}
	}
	return r, peak
}

// pair checks and converts two pictures.
func pair(a, b Picture, o Options) (ra, rb raster, peak float64, err error) {
	for i, p := range []Picture{a, b} {
		if err := p.check(); err != nil {
			return ra, rb, 0, fmt.Errorf("picture %d: %w", i+1, err)
		}
	}
	if a.H != b.H || a.W != b.W || a.C != b.C || a.bits() != b.bits() {
		return ra, rb, 0, fmt.Errorf("pictures differ in shape: %d x %d x %d with %d bits and %d x %d x %d with %d bits",
			a.H, a.W, a.C, a.bits(), b.H, b.W, b.C, b.bits())
	}
	if a.H <= 2*o.Border || a.W <= 2*o.Border {
		return ra, rb, 0, fmt.Errorf("a border of %d leaves nothing of %d x %d", o.Border, a.H, a.W)
	}
	ra, peak = a.raster(o)
	rb, _ = b.raster(o)
	return ra, rb, peak, nil
}
