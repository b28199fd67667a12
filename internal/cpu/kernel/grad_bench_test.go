//go:build unix

package kernel

import (
	"fmt"
	"testing"
)

// BenchmarkConvGrad counts the multiply-adds of the direct algorithm, as BenchmarkConv does.
func BenchmarkConvGrad(b *testing.B) {
	for _, l := range []struct{ n, hw, c, o, stride int }{
		{8, 32, 64, 64, 1}, {8, 16, 128, 128, 1}, {8, 8, 192, 192, 1}, {4, 64, 128, 128, 1}, {8, 32, 64, 64, 2}, {8, 32, 4, 64, 1},
	} {
		s := ConvShape{N: l.n, H: l.hw, W: l.hw, C: l.c, O: l.o, KH: 3, KW: 3, Stride: l.stride, PadTop: 1, PadLeft: 1,
			OutH: (l.hw-1)/l.stride + 1, OutW: (l.hw-1)/l.stride + 1}
		of := fmt.Sprintf("%dx%d-%dx%d-s%d", l.n, l.c, l.o, l.hw, l.stride)
		bench(b, "weight/"+of, s.FLOP(), func(b *testing.B, p *Pool) func() {
			x, dy, dw := random(b, 1, s.inLen(), 1), random(b, 2, s.outLen(), 1), random(b, 3, s.O*s.C*9, 1)
			return func() { p.ConvGradWeight(s, x, dy, dw) }
		})
		bench(b, "input/"+of, s.FLOP(), func(b *testing.B, p *Pool) func() {
			dx, dy := random(b, 1, s.inLen(), 1), random(b, 2, s.outLen(), 1)
			w, err := PackConvGradInput(p, s, random(b, 3, s.O*s.C*9, 0.02))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(w.Close)
			return func() { p.ConvGradInput(s, w, dy, dx) }
		})
	}
}

func BenchmarkLinearGradWeight(b *testing.B) {
	for _, l := range [][3]int{{8192, 128, 512}, {8192, 512, 128}, {2048, 256, 2048}} {
		rows, in, out := l[0], l[1], l[2]
		bench(b, fmt.Sprintf("%dx%d-%d", rows, in, out), 2*int64(rows*in*out), func(b *testing.B, p *Pool) func() {
			x, dy, dw := random(b, 1, rows*in, 1), random(b, 2, rows*out, 1), random(b, 3, in*out, 1)
			return func() { p.LinearGradWeight(rows, in, out, 0, 0, x, dy, dw) }
		})
	}
}

func BenchmarkAttentionGrad(b *testing.B) {
	for _, l := range [][4]int{{8, 256, 4, 32}, {4, 1024, 4, 32}, {8, 64, 6, 32}} {
		n, t, heads, d := l[0], l[1], l[2], l[3]
		bench(b, fmt.Sprintf("%dx%d-%dx%d", n, t, heads, d), 10*int64(n*t*t*heads*d), func(b *testing.B, p *Pool) func() {
			size := n * t * heads * d
			var x [7][]float32
			for i := range x {
				x[i] = random(b, uint64(i), size, 1)
			}
			s := PackedAttention(n, t, t, heads, d, 0.1)
			return func() { p.AttentionGrad(s, x[0], x[1], x[2], x[3], x[4], x[5], x[6]) }
		})
	}
}
