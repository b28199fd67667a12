package patch

import (
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

func TestErrors(t *testing.T) {
	ok := Config{Size: [2]int{16, 16}, Stride: [2]int{8, 8}}
	tie := ok
	tie.TieBreak = true
	for _, c := range []struct {
		config Config
		h, w   int
		want   string
	}{
		{ok, 20, 24, "do not cover a height of 20; 16 and 24 fit"},
		{ok, 24, 39, "do not cover a width of 39; 32 and 40 fit"},
		{ok, 8, 24, "height 8 is smaller than a patch of 16"},
		{Config{Size: [2]int{8, 8}, Stride: [2]int{9, 8}}, 24, 24, "leaves gaps"},
		{Config{Size: [2]int{1, 8}, Stride: [2]int{1, 8}}, 24, 24, "at least 2"},
		{tie, 16, 24, "needs at least 2 rows"},
	} {
		if _, err := New(c.config, c.h, c.w); err == nil || !strings.Contains(err.Error(), c.want) || exitcode.Of(err) != exitcode.Usage {
			t.Errorf("%v on %dx%d: %v, want %q", c.config, c.h, c.w, err, c.want)
		}
	}
}

// TestWhole cuts and adds again what a network would leave as it is.
func TestWhole(t *testing.T) {
	for _, c := range []Config{
		{Size: [2]int{4, 6}, Stride: [2]int{2, 3}},
		{Size: [2]int{4, 6}, Stride: [2]int{2, 3}, TieBreak: true},
		{Size: [2]int{4, 3}, Stride: [2]int{1, 3}},
	} {
		g, err := New(c, 8, 9)
		if err != nil {
			t.Fatal(err)
		}
		src := make([]float32, 2*8*9)
		for i := range src {
			src[i] = float32(i*i%17) - 8
		}
		dst, part := make([]float32, len(src)), make([]float32, 2*c.Size[0]*c.Size[1])
		for i := range g.Len() {
			g.Cut(part, src, g.Order(i))
			g.Add(dst, part, g.Order(i))
		}
		g.Divide(dst)
		for i := range dst {
			if d := dst[i] - src[i]; d > 1e-5 || d < -1e-5 {
				t.Fatalf("%v: value %d is %g, was %g", c, i, dst[i], src[i])
			}
		}
	}
}

func TestShrink(t *testing.T) {
	c := Config{Size: [2]int{16, 16}, Stride: [2]int{8, 8}}.Shrink(4, 32)
	if c.Size != [2]int{4, 16} || c.Stride != [2]int{4, 8} {
		t.Errorf("shrunk to %v", c)
	}
	g, err := New(c, 4, 32)
	if err != nil || g.Len() != 3 {
		t.Fatalf("%v %v", g, err)
	}
	if w := g.Weights()[:3]; !slices.Equal(w, []float32{.01, .01, .01}) {
		t.Errorf("weights of a border %v", w)
	}
}
