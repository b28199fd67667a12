package resize

// tf1 is the bilinear resize of TensorFlow 1 inside the FID graph (ResizeBilinear with align_corners=False and
// half_pixel_centers=False): output i lies at i*in/out, so the picture is anchored at its corner, and nothing is widened when
// shrinking. Everything is float32, columns are blended before rows.
type tf1 struct{ axes cache[[]tf1Tap] }

type tf1Tap struct {
	lower, upper int
	part         float32
}

func tf1Taps(a axis) []tf1Tap {
	scale := float32(a.in) / float32(a.out)
	taps := make([]tf1Tap, a.out)
	for i := range taps {
		x := float32(i) * scale
		lower := int(x)
		taps[i] = tf1Tap{lower, min(lower+1, a.in-1), x - float32(lower)}
	}
	return taps
}

func (t *tf1) float32(dst, src []float32, s Shape) {
	c := s.Channels
	rows, cols := t.axes.get(axis{in: s.SrcH, out: s.DstH}, tf1Taps), t.axes.get(axis{in: s.SrcW, out: s.DstW}, tf1Taps)
	for y, v := range rows {
		top, bottom := src[v.lower*s.SrcW*c:][:s.SrcW*c], src[v.upper*s.SrcW*c:][:s.SrcW*c]
		out := dst[y*s.DstW*c:][:s.DstW*c]
		for x, h := range cols {
			l, r := h.lower*c, h.upper*c
			for ch := range c {
				a := lerp(top[l+ch], top[r+ch], h.part)
				b := lerp(bottom[l+ch], bottom[r+ch], h.part)
				out[x*c+ch] = lerp(a, b, v.part)
			}
		}
	}
}

// lerp rounds the product before the sum, as TensorFlow's kernel does.
func lerp(a, b, part float32) float32 { return a + float32((b-a)*part) }
