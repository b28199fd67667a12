package eval

import (
	"fmt"
	"math"
	"slices"
)

// Window names a convention of SSIM (Wang et al. 2004, C1 = (0.01 peak)^2, C2 = (0.03 peak)^2): the window's weights, how
// variances are estimated, and what is averaged. They differ by several hundredths on the same pair.
type Window string

// The conventions. Reports use [Gauss], the original's, unless they say otherwise.
const (
	Gauss         Window = "gauss11"         // Gaussian of 11 x 11, sigma 1.5, over positions where it fits; the original's
	GaussSample   Window = "gauss11-sample"  // the same with (co)variances times 121/120
	Uniform       Window = "uniform7-sample" // mean of 7 x 7 with (co)variances times 49/48: the default of scikit-image
	GaussReflect  Window = "gauss11-reflect" // Gaussian at every position, the picture reflected at its border, variances at least 0: torchmetrics
	UniformBiased Window = "uniform7"        // mean of 7 x 7 without correction
)

type window struct {
	taps    []float64
	correct float64 // factor of variances and covariances
	reflect bool
}

func gaussian(n int, sigma float64) []float64 {
	taps := make([]float64, n)
	sum := 0.0
	for i := range taps {
		x := (float64(i) - float64(n-1)/2) / sigma
		taps[i] = math.Exp(-x * x / 2)
		sum += taps[i]
	}
	for i := range taps {
		taps[i] /= sum
	}
	return taps
}

var windows = map[Window]window{
	Gauss:         {gaussian(11, 1.5), 1, false},
	GaussSample:   {gaussian(11, 1.5), 121. / 120, false},
	GaussReflect:  {gaussian(11, 1.5), 1, true},
	Uniform:       {nil, 49. / 48, false},
	UniformBiased: {nil, 1, false},
}

// Windows lists the conventions.
func Windows() []Window {
	var names []Window
	for w := range windows {
		names = append(names, w)
	}
	slices.Sort(names)
	return names
}

// SSIM is the mean structural similarity, in [-1, 1] and 1 for equal pictures, by the convention o.Window; with several
// channels the mean of theirs. A picture that is smaller than the window is an error.
func SSIM(a, b Picture, o Options) (float64, error) {
	o, err := o.check()
	if err != nil {
		return 0, err
	}
	ra, rb, peak, err := pair(a, b, o)
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for c := range ra.planes {
		s, _, err := windows[o.Window].ssim(ra.planes[c], rb.planes[c], ra.h, ra.w, peak)
		if err != nil {
			return 0, err
		}
		sum += s
	}
	return sum / float64(len(ra.planes)), nil
}

// scales are the exponents of multi-scale SSIM, finest first (Wang, Simoncelli and Bovik 2003), in single precision, as the
// torch libraries hold them: that shows in the tenth digit.
var scales = [...]float32{0.0448, 0.2856, 0.3001, 0.2363, 0.1333}

// MSSSIM is the multi-scale structural similarity over five scales, each half of the one before by 2 x 2 means; a side must
// have 161 pixels at least, so that the window fits the last. A mean contrast term below zero counts as zero.
func MSSSIM(a, b Picture, o Options) (float64, error) {
	o, err := o.check()
	if err != nil {
		return 0, err
	}
	ra, rb, peak, err := pair(a, b, o)
	if err != nil {
		return 0, err
	}
	product := 1.0
	for i, exponent := range scales {
		var s, cs float64
		for c := range ra.planes {
			x, y, err := windows[o.Window].ssim(ra.planes[c], rb.planes[c], ra.h, ra.w, peak)
			if err != nil {
				return 0, fmt.Errorf("scale %d: %w", i+1, err)
			}
			s, cs = s+x, cs+y
		}
		if i < len(scales)-1 {
			s = cs
		}
		product *= math.Pow(max(0, s/float64(len(ra.planes))), float64(exponent))
		ra, rb = ra.half(), rb.half()
	}
	return product, nil
}

// half is the picture of the means of 2 x 2 pixels; an odd last row or column is dropped.
func (r raster) half() raster {
	out := raster{h: r.h / 2, w: r.w / 2}
	for _, p := range r.planes {
		q := make([]float64, out.h*out.w)
		for y := range out.h {
			for x := range out.w {
				i := 2*y*r.w + 2*x
				q[y*out.w+x] = (p[i] + p[i+1] + p[i+r.w] + p[i+r.w+1]) / 4
			}
		}
		out.planes = append(out.planes, q)
	}
	return out
}

// size is the side of the window.
func (w window) size() int {
	if w.taps == nil {
		return 7
	}
	return len(w.taps)
}

// ssim returns the mean of the index of one plane of h x w, and the mean of its contrast and structure term alone over the
// positions where the window fits (so torchmetrics has it too). Moments are taken of values from which the first pixel is subtracted, so that flat pictures lose nothing to cancellation.
func (w window) ssim(a, b []float64, h, wd int, peak float64) (s, cs float64, err error) {
	n := w.size()
	if h < n || wd < n {
		return 0, 0, fmt.Errorf("a window of %d x %d does not fit %d x %d", n, n, h, wd)
	}
	r := n / 2
	y0, x0, oh, ow := 0, 0, h-n+1, wd-n+1
	if w.reflect {
		y0, x0, oh, ow = -r, -r, h, wd
	}
	c1, c2 := 0.01*peak*0.01*peak, 0.03*peak*0.03*peak
	oa, ob := a[0], b[0]

	// Rows of the five moments, filtered along x; a ring as high as the window.
	const moments = 5
	ring := make([][moments][]float64, n)
	for i := range ring {
		for m := range ring[i] {
			ring[i][m] = make([]float64, ow)
		}
	}
	line := make([]float64, wd+2*r)
	fill := func(y int) {
		at := reflect(y, h) * wd
		ra, rb := a[at:at+wd], b[at:at+wd]
		for m := range moments {
			for i := range ow + n - 1 {
				x := x0 + i
				if x < 0 || x >= wd {
					x = reflect(x, wd)
				}
				u, v := ra[x]-oa, rb[x]-ob
				switch m {
				case 0:
					line[i] = u
				case 1:
					line[i] = v
				case 2:
					line[i] = u * u
				case 3:
					line[i] = v * v
				case 4:
					line[i] = u * v
				}
			}
			w.filter(ring[(y-y0)%n][m], line)
		}
	}
	for y := range n - 1 {
		fill(y0 + y)
	}
	var row [moments][]float64
	for m := range row {
		row[m] = make([]float64, ow)
	}
	for y := range oh {
		fill(y0 + y + n - 1)
		for m := range moments {
			w.column(row[m], ring, m, y)
		}
		var sum, sumCS float64
		for x := range ow {
			u, v := row[0][x], row[1][x]
			va, vb, cov := w.correct*(row[2][x]-u*u), w.correct*(row[3][x]-v*v), w.correct*(row[4][x]-u*v)
			if w.reflect {
				va, vb = max(0, va), max(0, vb)
			}
			u, v = u+oa, v+ob
			t := (2*cov + c2) / (va + vb + c2)
			if !w.reflect || x >= r && x < ow-r && y >= r && y < oh-r {
				sumCS += t
			}
			sum += (2*u*v + c1) / (u*u + v*v + c1) * t
		}
		s, cs = s+sum, cs+sumCS
	}
	return s / float64(oh*ow), cs / float64((h-n+1)*(wd-n+1)), nil
}

// filter writes the weighted means of n neighbours, n the window's side.
func (w window) filter(dst, src []float64) {
	if w.taps == nil {
		sum := 0.0
		n := w.size()
		for _, v := range src[:n-1] {
			sum += v
		}
		for x := range dst { // exact: sums of integers, or of values where 1e-10 does not show
			sum += src[x+n-1]
			dst[x] = sum
			sum -= src[x]
		}
		return
	}
	t := (*[11]float64)(w.taps)
	for x := range dst {
		s := src[x : x+11 : x+11]
		dst[x] = t[0]*(s[0]+s[10]) + t[1]*(s[1]+s[9]) + t[2]*(s[2]+s[8]) + t[3]*(s[3]+s[7]) + t[4]*(s[4]+s[6]) + t[5]*s[5]
	}
}

// column is [window.filter] across the rows of the ring, whose first one is y.
func (w window) column(dst []float64, ring [][5][]float64, m, y int) {
	n := len(ring)
	clear(dst)
	for k := range n {
		t := 1.0 / 49
		if w.taps != nil {
			t = w.taps[k]
		}
		for x, v := range ring[(y+k)%n][m][:len(dst)] {
			dst[x] += t * v
		}
	}
}

// reflect mirrors an index outside 0..n-1 without repeating the border.
func reflect(i, n int) int {
	if i < 0 {
		i = -i
	}
	if i >= n {
		i = 2*n - 2 - i
	}
	return i
}
