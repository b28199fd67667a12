package ir

import (
	"math"
	"testing"
)

// TestLossValues compares with results worked out by hand.
func TestLossValues(t *testing.T) {
	type feed = map[string][]float64
	e := math.E
	for _, c := range []struct {
		name  string
		build func(g *Graph) *Tensor
		feed  feed
		want  []float64
	}{
		{"leaky relu", func(g *Graph) *Tensor { return LeakyReLU(g.Input("x", 3), 0.2) }, feed{"x": {-5, 0, 3}}, []float64{-1, 0, 3}},
		{"abs", func(g *Graph) *Tensor { return Abs(g.Input("x", 3)) }, feed{"x": {-5, 0, 3}}, []float64{5, 0, 3}},
		{"square", func(g *Graph) *Tensor { return Square(g.Input("x", 2)) }, feed{"x": {-5, 3}}, []float64{25, 9}},
		{"exp", func(g *Graph) *Tensor { return Exp(g.Input("x", 2)) }, feed{"x": {0, 1}}, []float64{1, e}},
		{"softplus does not overflow", func(g *Graph) *Tensor { return Softplus(g.Input("x", 4)) },
			feed{"x": {0, -1000, 1000, 1}}, []float64{math.Ln2, 0, 1000, math.Log(1 + e)}},
		{"reciprocal", func(g *Graph) *Tensor { return Reciprocal(g.Input("x", 2)) }, feed{"x": {-4, 0.5}}, []float64{-0.25, 2}},
		{"offset", func(g *Graph) *Tensor { return Offset(g.Input("x", 2), 1.5) }, feed{"x": {-4, 0.5}}, []float64{-2.5, 2}},
		{"detach", func(g *Graph) *Tensor { return Detach(g.Input("x", 2)) }, feed{"x": {-4, 0.5}}, []float64{-4, 0.5}},
		{"difference", func(g *Graph) *Tensor { return Sub(g.Input("x", 2), g.Input("y", 2)) }, feed{"x": {1, 2}, "y": {5, 3}}, []float64{-4, -1}},
		{"sum", func(g *Graph) *Tensor { return Sum(g.Input("x", 2, 2)) }, feed{"x": {1, 2, 3, 4}}, []float64{10}},
		{"mean", func(g *Graph) *Tensor { return Mean(g.Input("x", 2, 2)) }, feed{"x": {1, 2, 3, 4}}, []float64{2.5}},
		{"sum of samples", func(g *Graph) *Tensor { return SampleSum(g.Input("x", 2, 2, 1)) }, feed{"x": {1, 2, 3, 4}}, []float64{3, 7}},
		{"scale by", func(g *Graph) *Tensor { return ScaleBy(g.Input("x", 2), Sum(g.Input("s", 1))) }, feed{"x": {1, 2}, "s": {3}}, []float64{3, 6}},
		{"ratio of norms", func(g *Graph) *Tensor { return NormRatio(g.Input("a", 2), g.Input("b", 3), 0.5, 10) },
			feed{"a": {3, 4}, "b": {0, 2, 0}}, []float64{2}},
		{"ratio of norms, limited", func(g *Graph) *Tensor { return NormRatio(g.Input("a", 2), g.Input("b", 1), 1e-4, 10) },
			feed{"a": {3, 4}, "b": {0}}, []float64{10}},
		{"shift channels", func(g *Graph) *Tensor { return ShiftChannels(g.Input("x", 2, 2, 1, 2), g.Input("b", 2)) },
			feed{"x": {1, 2, 3, 4, 5, 6, 7, 8}, "b": {10, 20}}, []float64{11, 12, 23, 24, 15, 16, 27, 28}},
		{"scale channels", func(g *Graph) *Tensor { return ScaleChannels(g.Input("x", 2, 2, 1, 2), g.Input("s", 1, 2, 1, 1)) },
			feed{"x": {1, 2, 3, 4, 5, 6, 7, 8}, "s": {10, 20}}, []float64{10, 20, 60, 80, 50, 60, 140, 160}},
		{"batch norm", func(g *Graph) *Tensor {
			return BatchNorm(g.Input("x", 2, 2, 1, 1), g.Param("g", 2), g.Param("b", 2), 3)
		}, feed{"x": {-1, 10, 1, 12}, "g": {1, 2}, "b": {0, 5}}, []float64{-0.5, 4, 0.5, 6}},
		{"batch moments", func(g *Graph) *Tensor { return BatchMoments(g.Input("x", 2, 2, 1, 2)) },
			feed{"x": {0, 0, 1, 2, 4, 4, 3, 2}}, []float64{2, 2, 4, 0.5}},
		{"batch norm with moments from elsewhere", func(g *Graph) *Tensor {
			return BatchNormGiven(g.Input("x", 1, 2, 1, 2), g.Param("g", 2), g.Param("b", 2), g.Param("m", 2), g.Param("v", 2), 1)
		}, feed{"x": {1, 2, 3, 4}, "g": {1, 10}, "b": {0, 1}, "m": {1, 3}, "v": {0, 3}}, []float64{0, 1, 1, 6}},
		{"divergence of a Gaussian", func(g *Graph) *Tensor { return GaussianKL(g.Input("m", 1, 2, 1, 2)) },
			feed{"m": {0, 3, 0, 1}}, []float64{4.5 + (e-2)/2}},
		{"divergence, clamped", func(g *Graph) *Tensor { return GaussianKL(g.Input("m", 1, 2, 1, 1)) },
			feed{"m": {0, -50}}, []float64{(math.Exp(-30) - 1 + 30) / 2}},
		{"unit distance", func(g *Graph) *Tensor {
			return UnitDistance(g.Input("a", 2, 2, 1, 2), g.Input("b", 2, 2, 1, 2), g.Param("w", 1, 2, 1, 1), 1)
		}, // |a| = 4 and 0, b zero: then a and b zero
			feed{"a": {0, 0, 4, 0, 0, 0, 0, 0}, "b": make([]float64, 8), "w": {7, 10}}, []float64{10 * 0.64 / 2, 0}},
		{"cross-entropy does not overflow", func(g *Graph) *Tensor { return CrossEntropy(g.Input("x", 3, 2), g.Input("ids", 3)) },
			feed{"x": {0, 0, 1000, -1000, -1000, -999}, "ids": {1, 1, 0}}, []float64{math.Ln2, 2000, math.Log(1 + e)}},
		{"embedding of a map", func(g *Graph) *Tensor { return Embed(g.Input("ids", 1, 1, 2), g.Param("table", 3, 2)) },
			feed{"ids": {2, 0}, "table": {1, 2, 3, 4, 5, 6}}, []float64{5, 1, 6, 2}},
	} {
		t.Run(c.name, func(t *testing.T) { near(t, run(t, c.build, c.feed), c.want, 1e-12) })
	}
}

// TestDetach checks that what is detached counts as a constant, beside a path that is not.
func TestDetach(t *testing.T) {
	g := New("test")
	var cost, x *Tensor
	if err := Build(func() {
		x = g.Input("x", 2)
		cost = Dot(Add(x, Detach(Scale(x, 5))), x)
	}); err != nil {
		t.Fatal(err)
	}
	grads, err := Grad(cost, x)
	if err != nil {
		t.Fatal(err)
	}
	p, err := g.Program(grads...)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Evaluate(p, map[string][]float64{"x": {1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	near(t, got[0], []float64{7, 14}, 0) // d(x*x + 5cx)/dx = 2x + 5c
}
