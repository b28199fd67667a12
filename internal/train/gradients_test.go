package train

import (
	"errors"
	"math"
	"testing"
)

// vector is a gradient whose norm may be an error.
type vector struct {
	v   []float64
	err error
}

func (g *vector) ScaleGrad(f float64, _ ...string) {
	for i := range g.v {
		g.v[i] *= f
	}
}

func (g *vector) GradNorm(...string) (float64, error) { return math.Hypot(g.v[0], g.v[1]), g.err }

func TestMean(t *testing.T) {
	for _, c := range []struct {
		batches           int
		limit, norm, left float64
	}{
		{1, 0, 10, 10}, {1, 20, 10, 10}, {2, 0, 5, 5}, {2, 5.5, 5, 5}, {4, 1, 2.5, 1 / (1 + 1e-6/2.5)}, {1, 1, 10, 10 / (10 + 1e-6)},
	} {
		g := &vector{v: []float64{6, 8}}
		norm, err := Mean(g, c.batches, c.limit)
		left, _ := g.GradNorm()
		if err != nil || math.Abs(norm-c.norm) > 1e-12 || math.Abs(left-c.left) > 1e-12 {
			t.Errorf("%d batches, limit %v: norm %v of %v, %v", c.batches, c.limit, left, norm, err)
		}
	}
	if _, err := Mean(&vector{v: []float64{6, 8}}, 0, 1); err == nil {
		t.Error("a step without a batch")
	}
	bad := &vector{v: []float64{6, 8}, err: errors.New("not finite")}
	if _, err := Mean(bad, 1, 1); err == nil || bad.v[0] != 6 {
		t.Errorf("a gradient that is not finite: %v, scaled to %v", err, bad.v)
	}
}
