package bench

import (
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// TestReusePlan says how much of the full-size network's work a shallow step is, branch by branch, and what reuse in every
// N-th step can save at most.
func TestReusePlan(t *testing.T) {
	c, err := nn.LoadConfig(full)
	if err != nil {
		t.Fatal(err)
	}
	m := nn.New(c)
	lower := func(g *nn.Graph, err error) *plan.Plan {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		p, err := plan.Lower(g.Program)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	size := c.Diffusion.ImageSize
	whole := lower(m.UNetGraph(1, size, size, 1))
	for branch := range 3 {
		both, shallow := lower(m.UNetBranchGraph(1, size, size, 1, branch)), lower(m.UNetShallowGraph(1, size, size, 1, branch))
		if both.FLOP != whole.FLOP {
			t.Errorf("branch %d: the network that hands out a feature has %d FLOP, the network %d", branch, both.FLOP, whole.FLOP)
		}
		share := float64(shallow.FLOP) / float64(whole.FLOP)
		if !(share > 0 && share < 0.5) {
			t.Errorf("branch %d: a shallow step is %.3f of a whole one", branch, share)
		}
		bound := func(every int) float64 { return float64(every) / (1 + float64(every-1)*share) }
		t.Logf("branch %d: %.1f of %.1f GFLOP (%.1f %%); speed-up at most %.2f, %.2f, %.2f with every 2, 3, 5", branch,
			float64(shallow.FLOP)/1e9, float64(whole.FLOP)/1e9, 100*share, bound(2), bound(3), bound(5))
	}
}
