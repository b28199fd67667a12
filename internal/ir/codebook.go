package ir

const (
	KindCodeIndex Kind = "code_index" // z, codebook
	KindQuantize  Kind = "quantize"   // z, codebook
)

// CodeIndex is the index (N,H,W) of the codebook vector (V,C) nearest to each pixel of z (N,C,H,W), the first one on ties.
// Distances are |z|^2 + |e|^2 - 2 z.e in float32 for data of any type, sums taken in the order of the channels, as the
// reference computes them: near ties are decided by that rounding. Inference only.
func CodeIndex(z, codebook *Tensor) *Tensor { return apply(Op{Kind: KindCodeIndex}, z, codebook) }

// Quantize replaces each pixel of z (N,C,H,W) by z + (e - z) with e the vector that [CodeIndex] finds, which in float32 is
// not always e. The gradient passes straight through to z, and none flows to the codebook.
func Quantize(z, codebook *Tensor) *Tensor { return apply(Op{Kind: KindQuantize}, z, codebook) }

func init() {
	check := func(in [][]int) error {
		if err := wantRank("z", in[0], "4 (NCHW)", 4); err != nil {
			return err
		}
		if err := wantRank("codebook", in[1], "2 (V,C)", 2); err != nil {
			return err
		}
		return wantShape("codebook", in[1], in[1][0], in[0][1])
	}
	register(KindCodeIndex, rule{
		class: InferenceOnly, min: 2, max: 2,
		shape: func(_ Op, in [][]int) ([]int, error) {
			if err := check(in); err != nil {
				return nil, err
			}
			return []int{in[0][0], in[0][2], in[0][3]}, nil
		},
		run: func(c *call) error {
			nearest(c, func(pixel, code int, _ []int) { c.y[pixel] = float64(code) })
			return nil
		},
	})
	register(KindQuantize, rule{
		min: 2, max: 2, fixed: []int{1},
		shape: func(op Op, in [][]int) ([]int, error) {
			if err := check(in); err != nil {
				return nil, err
			}
			return sameAs(0)(op, in)
		},
		grad: func(_ Op, _ []*Tensor, dy *Tensor) []*Tensor { return []*Tensor{dy, nil} },
		run: func(c *call) error {
			nearest(c, func(_, code int, at []int) {
				for i, k := range at {
					z, e := c.in[0][k], c.in[1][code*len(at)+i]
					if c.single {
						c.y[k] = float64(float32(z) + float32(float32(e)-float32(z)))
					} else {
						c.y[k] = z + (e - z)
					}
				}
			})
			return nil
		},
	})
}

// nearest finds the code of every pixel of c.in[0] in the codebook c.in[1] and calls f with the number of the pixel in
// (N,H,W) order, the code, and the places of the pixel's channels in z.
func nearest(c *call, f func(pixel, code int, at []int)) {
	ch, hw := c.sh[0][1], c.sh[0][2]*c.sh[0][3]
	book := make([]float32, len(c.in[1]))
	norms := make([]float32, c.sh[1][0])
	for i, v := range c.in[1] {
		e := float32(v)
		book[i] = e
		norms[i/ch] += float32(e * e)
	}
	parallel(c.sh[0][0], func(n int) {
		z, at := make([]float32, ch), make([]int, ch)
		for p := range hw {
			var zz float32
			for i := range z {
				at[i] = (n*ch+i)*hw + p
				z[i] = float32(c.in[0][at[i]])
				zz += float32(z[i] * z[i]) // the conversion keeps the compiler from fusing product and sum
			}
			best, code := float32(0), -1
			for k, ee := range norms {
				var ze float32
				for i, e := range book[k*ch : (k+1)*ch] {
					ze += float32(z[i] * e)
				}
				if d := float32(zz+ee) - 2*ze; code < 0 || d < best {
					best, code = d, k
				}
			}
			f(n*hw+p, code, at)
		}
	})
}
