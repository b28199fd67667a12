package linalg

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func random(seed uint64, r, c int) Matrix {
	rng := rand.New(rand.NewPCG(seed, 1))
	m := New(r, c)
	for i := range m.Data {
		m.Data[i] = rng.NormFloat64()
	}
	return m
}

// TestProduct compares with the plain product, which must agree bit for bit, and that with the definition.
func TestProduct(t *testing.T) {
	for _, s := range [][3]int{{1, 1, 1}, {5, 7, 3}, {6, 8, 256}, {97, 33, 257}, {13, 70, 600}, {100, 9, 64}} {
		for _, ta := range []Op{Plain, Transposed} {
			for _, tb := range []Op{Plain, Transposed} {
				t.Run(fmt.Sprint(s, ta, tb), func(t *testing.T) {
					a, b := random(1, s[0], s[2]+3).View(0, 2, s[0], s[2]), random(2, s[2]+1, s[1]).View(1, 0, s[2], s[1])
					x, y := a, b
					if ta {
						x = a.T()
					}
					if tb {
						y = b.T()
					}
					c := random(3, s[0], s[1]+2).View(0, 1, s[0], s[1])
					want, def := c.Clone(), c.Clone()
					AddProduct(c, -0.7, x, ta, y, tb)
					plainProduct(want, -0.7, a.operand(Plain), b.operand(Plain))
					for i := range s[0] {
						for j := range s[1] {
							sum := 0.0
							for k := range s[2] {
								sum += a.At(i, k) * b.At(k, j)
							}
							def.Data[i*s[1]+j] -= 0.7 * sum
							if c.At(i, j) != want.At(i, j) {
								t.Fatalf("%d, %d: %v, plain %v", i, j, c.At(i, j), want.At(i, j))
							}
							if e := c.At(i, j) - def.At(i, j); e > 1e-12 || e < -1e-12 {
								t.Fatalf("%d, %d: %v, want %v", i, j, c.At(i, j), def.At(i, j))
							}
						}
					}
				})
			}
		}
	}
}

func TestSquaredLength(t *testing.T) {
	for _, n := range []int{0, 1, 255, 256, 257, 1000} {
		v := random(uint64(n), 1, n)
		if got, want := SquaredLength(v.Data), Product(v, Plain, v, Transposed).Data[0]; got != want {
			t.Errorf("%d values: %v, product %v", n, got, want)
		}
	}
}

func BenchmarkProduct(b *testing.B) {
	for _, s := range [][3]int{{1024, 1024, 1024}, {1024, 1024, 32}, {256, 256, 128}} {
		b.Run(fmt.Sprint(s), func(b *testing.B) {
			x, y, c := random(1, s[0], s[2]), random(2, s[2], s[1]), New(s[0], s[1])
			for b.Loop() {
				AddProduct(c, 1, x, Plain, y, Plain)
			}
			b.ReportMetric(2*float64(s[0]*s[1]*s[2])*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOPS")
		})
	}
}
