package tile

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// TestSpans checks every small axis: own parts follow each other and fill it, tiles begin at multiples and overlap enough, and the
// shares of all tiles add up to 1.
func TestSpans(t *testing.T) {
	for _, c := range []struct{ size, overlap, multiple int }{{8, 0, 1}, {8, 2, 1}, {9, 3, 1}, {12, 4, 4}, {24, 8, 4}, {32, 8, 8}, {32, 5, 4}, {8, 2, 4}} {
		for length := c.multiple; length < 150; length += c.multiple {
			name := fmt.Sprintf("%+v of %d", c, length)
			s := spans(length, c.size, c.overlap, c.multiple)
			size, edge := min(c.size, length), 0
			for i, v := range s {
				if v.from != edge || v.to <= v.from || v.at%c.multiple != 0 || v.from%c.multiple != 0 || v.at > v.from || v.at+size < v.to {
					t.Fatalf("%s: tile %d is %+v", name, i, v)
				}
				if i > 0 && s[i-1].at+size-v.at < c.overlap {
					t.Fatalf("%s: tiles %+v overlap too little", name, s[i-1:i+1])
				}
				edge = v.to
			}
			if last := s[len(s)-1]; edge != length || last.at+size != length {
				t.Fatalf("%s: the last tile is %+v", name, last)
			}
			for _, scale := range []int{1, 4} {
				sum := make([]float64, length*scale)
				for _, v := range s {
					for i, w := range v.weights(size, scale) {
						if w < 0 || w > 1 {
							t.Fatalf("%s: share %g", name, w)
						}
						sum[v.at*scale+i] += float64(w)
					}
				}
				for i, v := range sum {
					if math.Abs(v-1) > 1e-6 {
						t.Fatalf("%s, scale %d: shares at %d add up to %g", name, scale, i, v)
					}
				}
			}
		}
	}
}

// TestRamp checks the shares of two neighbours: linear over the overlap, whole elsewhere.
func TestRamp(t *testing.T) {
	s := spans(12, 8, 4, 1)
	if want := []float32{1, 1, 1, 1, 0.875, 0.625, 0.375, 0.125}; !slices.Equal(s[0].weights(8, 1), want) {
		t.Errorf("shares %v, want %v", s[0].weights(8, 1), want)
	}
	if w := spans(12, 8, 0, 1)[0].weights(8, 1); !slices.Equal(w, []float32{1, 1, 1, 1, 1, 1, 0, 0}) {
		t.Errorf("shares without overlap %v", w)
	}
}

// TestCutAndAdd takes an image apart and puts it together again.
func TestCutAndAdd(t *testing.T) {
	for _, scale := range []int{1, 3} {
		g, err := New(Config{Size: 12, Overlap: 4}, 20, 44, 2)
		if err != nil {
			t.Fatal(err)
		}
		if g.Len() != 10 || len(slices.Compact(slices.Sorted(slices.Values(g.scattered())))) != 10 {
			t.Fatalf("%d tiles in the order %v", g.Len(), g.scattered())
		}
		const planes = 3
		x, y := make([]float32, planes*20*44*scale*scale), make([]float32, planes*20*44*scale*scale)
		r := rand.New(rand.NewPCG(1, 2))
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		part := make([]float32, planes*12*12*scale*scale)
		for i := range g.Len() {
			g.Cut(part, x, i, scale)
			g.Add(y, part, i, scale)
		}
		whole := 0
		for i := range x {
			if math.Abs(float64(x[i]-y[i])) > 1e-5 {
				t.Fatalf("scale %d: number %d is %g, want %g", scale, i, y[i], x[i])
			}
			if x[i] == y[i] {
				whole++
			}
		}
		if whole < len(x)/4 {
			t.Errorf("only %d of %d numbers are unchanged", whole, len(x))
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []Config{{}, {Size: 8, Overlap: 3}, {Size: 8, Overlap: -1}, {Size: 8, Norm: "batch"}, {Size: 16, Together: -1}, {Size: 12}, {Size: 8, Overlap: 2}} {
		if _, err := New(c, 64, 64, 8); c.Overlap == 0 && c.Size == 8 && c.Norm == "" {
			if err != nil {
				t.Error(err)
			}
		} else if exitcode.Of(err) != exitcode.Usage {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestMoments pools parts of two images and compares with the moments of all values.
func TestMoments(t *testing.T) {
	const n, groups, samples = 2, 3, 2
	r := rand.New(rand.NewPCG(3, 4))
	var all [n][groups][]float64
	var m moments
	for range 4 {
		size := 1 + r.IntN(50)
		part := make([]float32, n*samples*2*groups)
		for i := range n {
			for g := range groups {
				v := make([]float64, size)
				var mean, variance float64
				for j := range v {
					v[j] = 5 + r.NormFloat64()
					mean += v[j] / float64(size)
				}
				for _, x := range v {
					variance += (x - mean) * (x - mean) / float64(size)
				}
				all[i][g] = append(all[i][g], v...)
				part[i*samples*2*groups+g], part[i*samples*2*groups+groups+g] = float32(mean), float32(variance)
			}
		}
		m.add(n, samples, float64(size), [][]float32{part})
	}
	got := m.whole(n)[0]
	for i := range n {
		for g := range groups {
			var mean, variance float64
			for _, x := range all[i][g] {
				mean += x / float64(len(all[i][g]))
			}
			for _, x := range all[i][g] {
				variance += (x - mean) * (x - mean) / float64(len(all[i][g]))
			}
			if a, b := float64(got[i*2*groups+g]), float64(got[i*2*groups+groups+g]); math.Abs(a-mean) > 1e-5 || math.Abs(b-variance) > 1e-5 {
				t.Errorf("image %d group %d: %g and %g, want %g and %g", i, g, a, b, mean, variance)
			}
		}
	}
}
