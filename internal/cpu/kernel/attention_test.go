package kernel

import (
	"fmt"
	"math"
	"testing"
)

func refAttention(s AttentionShape, q, k, v []float32) []float64 {
	var out []float64 // (N, Heads, Tq, D)
	for n := range s.N {
		for h := range s.Heads {
			for i := range s.Tq {
				score := make([]float64, s.Tk)
				top := math.Inf(-1)
				for j := range score {
					for d := range s.D {
						score[j] += float64(q[n*s.QSample+i*s.QRow+h*s.QHead+d]) * float64(k[n*s.KSample+j*s.KRow+h*s.KHead+d])
					}
					score[j] *= float64(s.Scale)
					top = max(top, score[j])
				}
				sum := 0.0
				for j := range score {
					score[j] = math.Exp(score[j] - top)
					sum += score[j]
				}
				for d := range s.D {
					var o float64
					for j, p := range score {
						o += p * float64(v[n*s.VSample+j*s.VRow+h*s.VHead+d])
					}
					out = append(out, o/sum)
				}
			}
		}
	}
	return out
}

func TestAttention(t *testing.T) {
	interleaved := func(n, t, heads, d int, legacy bool) AttentionShape {
		c := heads * d
		s := AttentionShape{N: n, Tq: t, Tk: t, Heads: heads, D: d, Scale: float32(1 / math.Sqrt(float64(d))),
			QRow: 3 * c, KRow: 3 * c, VRow: 3 * c, ORow: c, QHead: d, KHead: d, VHead: d, OHead: d,
			QSample: 3 * t * c, KSample: 3 * t * c, VSample: 3 * t * c, OSample: t * c}
		if legacy {
			s.QHead, s.KHead, s.VHead = 3*d, 3*d, 3*d
		}
		return s
	}
	packed := func(n, tq, tk, heads, d int) AttentionShape {
		return PackedAttention(n, tq, tk, heads, d, float32(1/math.Sqrt(float64(d))))
	}
	cases := []AttentionShape{
		packed(1, 1, 1, 1, 1), packed(2, 64, 64, 2, 32), packed(1, 5, 1, 2, 8), packed(2, 37, 77, 3, 40), packed(1, 1, 300, 1, 64),
		packed(1, 130, 513, 1, 33), packed(1, 50, 260, 1, 7), packed(2, 16, 16, 1, 384), packed(1, 29, 31, 1, 515),
		interleaved(2, 33, 2, 16, false), interleaved(2, 33, 2, 16, true), interleaved(1, 256, 4, 32, true),
	}
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, s := range cases {
			t.Run(fmt.Sprintf("%dx%dx%dx%dx%d-%d", s.N, s.Tq, s.Tk, s.Heads, s.D, s.QRow), func(t *testing.T) {
				q := random(t, 1, s.span(s.Tq, s.QRow, s.QHead, s.QSample), 1.5)
				k := random(t, 2, s.span(s.Tk, s.KRow, s.KHead, s.KSample), 1.5)
				v := random(t, 3, s.span(s.Tk, s.VRow, s.VHead, s.VSample), 1)
				want := refAttention(s, q, k, v)
				for _, prec := range []Precision{FP32, Mixed} {
					if prec == Mixed && !ps[0].ISA().BF16() {
						continue
					}
					n := s.span(s.Tq, s.ORow, s.OHead, s.OSample)
					y := same(t, ps, n, func(p *Pool, y []float32) { p.Attention(s, q, k, v, y, prec) }, q, k, v)
					var got []float32
					for n := range s.N {
						for h := range s.Heads {
							for i := range s.Tq {
								got = append(got, y[n*s.OSample+i*s.ORow+h*s.OHead:][:s.D]...)
							}
						}
					}
					near(t, got, want, []float64{1e-6, 1e-2}[prec])
					one := s
					one.N = 1
					for n := range s.N {
						single, check := guarded(t, s.Tq*s.ORow)
						ps[n].Attention(one, q[n*s.QSample:], k[n*s.KSample:], v[n*s.VSample:], single, prec)
						check()
						identical(t, fmt.Sprintf("sample %d alone", n), single, y[n*s.OSample:][:s.Tq*s.ORow])
					}
				}
			})
		}
	})
}

// Large scores must neither overflow nor lose the small ones.
func TestAttentionExtremes(t *testing.T) {
	eachISA(t, func(t *testing.T, ps []*Pool) {
		s := PackedAttention(1, 4, 600, 1, 8, 1)
		q, k, v := random(t, 1, 4*8, 30), random(t, 2, 600*8, 30), random(t, 3, 600*8, 1)
		y := same(t, ps, 4*8, func(p *Pool, y []float32) { p.Attention(s, q, k, v, y, FP32) })
		near(t, y, refAttention(s, q, k, v), 1e-3)
		for i := range q {
			q[i] = 0
		}
		y = same(t, ps, 4*8, func(p *Pool, y []float32) { p.Attention(s, q, k, v, y, FP32) })
		near(t, y, refAttention(s, q, k, v), 1e-6)
	})
}
