package engine_test

import (
	"slices"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
)

// TestBranches cuts every reference U-Net at every skip connection: with the deep feature of the same time the shallow part
// gives the bits of the whole, and so does the whole that hands the feature out.
func TestBranches(t *testing.T) {
	goldencase.Each(t, "denoiser", func(t *testing.T, c *goldencase.Case) {
		b, err := cpu.Open(cpu.DefaultOptions())
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		s := engine.New(c.Model(nn.Options{}), b)
		defer s.Close()
		x, shape := c.Tensor("x")
		n, h, w := shape[0], shape[2], shape[3]
		in := map[string][]float32{"x": x, "t": c.Values("t")}
		tokens := 0
		if c.Has("context") {
			ctx, shape := c.Tensor("context")
			in["context"], tokens = ctx, shape[1]
		}
		if c.Has("y") {
			in["y"] = c.Values("y")
		}
		run := func(net *engine.Network, err error) [][]float32 {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			out, err := net.Run(in)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		want := slices.Clone(run(s.UNet(n, h, w, tokens))[0])
		flop := int64(0)
		for branch := range s.Model.UNet.Branches() {
			full := run(s.UNetFull(n, h, w, tokens, branch))
			if !slices.Equal(full[0], want) {
				t.Errorf("branch %d: the prediction with a second output has other bits", branch)
			}
			in["deep"] = full[1]
			net, err := s.UNetShallow(n, h, w, tokens, branch)
			if !slices.Equal(run(net, err)[0], want) {
				t.Errorf("branch %d: the shallow part gives other bits", branch)
			}
			if net.Plan.FLOP <= flop {
				t.Errorf("branch %d: %d FLOP, not more than the branch above it", branch, net.Plan.FLOP)
			}
			flop = net.Plan.FLOP
		}
		if _, err := s.UNetFull(n, h, w, tokens, s.Model.UNet.Branches()); err == nil {
			t.Error("a branch beyond the last is accepted")
		}
		if _, err := s.UNetShallow(n, h, w, tokens, -1); err == nil {
			t.Error("a negative branch is accepted")
		}
	})
}
