package ir

import (
	"math"
	"strings"
	"testing"
)

// TestPoolValues compares with results worked out by hand.
func TestPoolValues(t *testing.T) {
	type feed = map[string][]float64
	nine := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9}
	for _, c := range []struct {
		name  string
		build func(g *Graph) *Tensor
		x     []float64
		want  []float64
	}{
		{"relu", func(g *Graph) *Tensor { return ReLU(g.Input("x", 4)) }, []float64{-1, 0, 2, math.Inf(-1)}, []float64{0, 0, 2, 0}},
		{"max, stride 2", func(g *Graph) *Tensor { return MaxPool(g.Input("x", 1, 1, 4, 5), Pool{3, 2, 0}) },
			[]float64{1, 2, 3, 4, 0, 1, 2, 9, 4, 0, 1, 2, 3, 4, 5, 99, 0, 0, 0, 0}, []float64{9, 9}},
		{"max, padding is never the largest", func(g *Graph) *Tensor { return MaxPool(g.Input("x", 1, 1, 2, 2), Pool{3, 1, 1}) },
			[]float64{-4, -3, -2, -8}, []float64{-2, -2, -2, -2}},
		{"max of planes", func(g *Graph) *Tensor { return MaxPool(g.Input("x", 2, 2, 1, 2), Pool{1, 1, 0}) },
			[]float64{1, 2, 3, 4, 5, 6, 7, 8}, []float64{1, 2, 3, 4, 5, 6, 7, 8}},
		{"average leaves the padding out", func(g *Graph) *Tensor { return AvgPool3(g.Input("x", 1, 1, 3, 3)) },
			nine, []float64{3, 3.5, 4, 4.5, 5, 5.5, 6, 6.5, 7}},
		{"average of one pixel", func(g *Graph) *Tensor { return AvgPool3(g.Input("x", 1, 2, 1, 1)) }, []float64{3, 4}, []float64{3, 4}},
		{"mean of all pixels", func(g *Graph) *Tensor { return PixelMean(g.Input("x", 2, 2, 1, 2)) },
			[]float64{1, 2, 3, 5, 7, 9, -1, 1}, []float64{1.5, 4, 8, 0}},
	} {
		t.Run(c.name, func(t *testing.T) { near(t, run(t, c.build, feed{"x": c.x}), c.want, 1e-15) })
	}
}

func TestPoolErrors(t *testing.T) {
	for _, c := range []struct {
		build func(g *Graph)
		want  string
	}{
		{func(g *Graph) { MaxPool(g.Input("x", 1, 1, 2, 2), Pool{3, 1, 0}) }, "smaller than the window of 3"},
		{func(g *Graph) { MaxPool(g.Input("x", 1, 1, 2, 2), Pool{2, 0, 0}) }, "bad attributes"},
		{func(g *Graph) { MaxPool(g.Input("x", 1, 1, 9, 9), Pool{3, 1, 2}) }, "bad attributes"},
		{func(g *Graph) { MaxPool(g.Input("x", 9, 9), Pool{3, 1, 1}) }, "x has rank 2"},
		{func(g *Graph) { AvgPool3(g.Input("x", 9, 9)) }, "x has rank 2"},
		{func(g *Graph) { PixelMean(g.Input("x", 9)) }, "x has rank 1"},
	} {
		err := Build(func() { c.build(New("test")) })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}
