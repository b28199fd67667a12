package engine_test

import (
	"math"
	"slices"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
)

// gradientsOf makes the objective of a loss with the gradients by all of its parameters.
func gradientsOf(name string, loss func(g *ir.Graph) *ir.Tensor) (*engine.Objective, []ir.Param, error) {
	g := ir.New(name)
	var cost *ir.Tensor
	if err := ir.Build(func() { cost = loss(g) }); err != nil {
		return nil, nil, err
	}
	o := &engine.Objective{Losses: []string{"loss"}}
	var wrt []*ir.Tensor
	var params []ir.Param
	for _, p := range g.Params() {
		if p.Name == "first_stage_model.quantize.embedding.weight" || p.Name == "quantize.embedding.weight" {
			continue // no gradient flows to a codebook
		}
		wrt, o.Grads, params = append(wrt, g.Param(p.Name, p.Shape...)), append(o.Grads, p.Name), append(params, p)
	}
	grads, err := ir.Grad(cost, wrt...)
	if err != nil {
		return nil, nil, err
	}
	o.Program, err = g.Program(append([]*ir.Tensor{cost}, grads...)...)
	return o, params, err
}

// compareGradients runs an objective with plans and with the plain evaluation, and then with little memory and another number of
// threads, which must not change a bit.
func compareGradients(t *testing.T, m *nn.Model, in map[string][]float32, loss func(g *ir.Graph) *ir.Tensor) {
	t.Helper()
	o, params, err := gradientsOf("test", loss)
	if err != nil {
		t.Fatal(err)
	}
	feed := map[string][]float64{}
	wide := func(name string, v []float32) {
		for _, x := range v {
			feed[name] = append(feed[name], float64(x))
		}
	}
	for name, v := range in {
		wide(name, v)
	}
	for _, n := range o.Program.Nodes {
		if n.Leaf == ir.ParamLeaf {
			size := 1
			for _, d := range n.Shape {
				size *= d
			}
			w := make([]float32, size)
			if err := m.Load(n.Name, w); err != nil {
				t.Fatal(err)
			}
			wide(n.Name, w)
		}
	}
	want, err := ir.Evaluate(o.Program, feed)
	if err != nil {
		t.Fatal(err)
	}
	run := func(threads int, budget int64) (float64, *engine.Params, int64) {
		b, err := cpu.Open(cpu.Options{Threads: threads, ISA: kernel.Detect()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		p := newParams(t, b, params...)
		if err := p.Init(m); err != nil {
			t.Fatal(err)
		}
		tr := engine.NewTraining(p, m, b, budget)
		t.Cleanup(tr.Close)
		s, err := tr.Compile("test", func() (*engine.Objective, error) { return o, nil })
		if err != nil {
			t.Fatal(err)
		}
		losses, err := s.Run(in)
		if err != nil {
			t.Fatal(err)
		}
		return losses[0], p, s.Memory().Arena
	}
	got, p, arena := run(2, 0)
	if e := math.Abs(got/want[0][0] - 1); !(e <= 1e-6) {
		t.Errorf("loss %g, want %g", got, want[0][0])
	}
	largest := 0.0
	for _, g := range want[1:] {
		largest = max(largest, norm(g))
	}
	worst, where := 0.0, ""
	for i, name := range o.Grads {
		d := make([]float64, len(want[i+1]))
		for j, v := range p.Grad(name) {
			d[j] = float64(v) - want[i+1][j]
		}
		// Gradients that are zero in exact arithmetic are rounding noise.
		if e := norm(d) / (norm(want[i+1]) + largest/30); e > worst {
			worst, where = e, name
		}
	}
	t.Logf("worst gradient: %s, %.1e", where, worst)
	if !(worst <= 3e-5) {
		t.Errorf("gradient of %s: error %.1e", where, worst)
	}
	less, q, small := run(1, arena*6/10)
	if small > arena*7/10 {
		t.Errorf("an arena of %d bytes with a budget, %d without", small, arena)
	}
	for _, name := range o.Grads {
		if less != got || !slices.Equal(p.Grad(name), q.Grad(name)) {
			t.Fatalf("gradient of %s: a budget or the number of threads changes bits", name)
		}
	}
}

func norm(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	return math.Sqrt(sum)
}

// TestGoldenDenoiserGradients differentiates the error of every reference U-Net by all of its parameters.
func TestGoldenDenoiserGradients(t *testing.T) {
	goldencase.Each(t, "denoiser", func(t *testing.T, c *goldencase.Case) {
		m := c.Model(nn.Options{})
		x, shape := c.Tensor("x")
		config := m.UNet.Config
		side := max(8, config.SizeMultiple()) // a part of the first latent
		in := map[string][]float32{"x": x[:shape[1]*side*side], "t": c.Values("t")[:1], "target": c.Values("eps")[:config.OutChannels*side*side]}
		var context []int
		if c.Has("context") {
			v, s := c.Tensor("context")
			context = []int{1, s[1], s[2]}
			in["context"] = v[:s[1]*s[2]]
		}
		if c.Has("y") {
			in["y"] = c.Values("y")[:1]
		}
		compareGradients(t, m, in, func(g *ir.Graph) *ir.Tensor {
			var ctx, y *ir.Tensor
			if context != nil {
				ctx = g.Input("context", context...)
			}
			if c.Has("y") {
				y = g.Input("y", 1)
			}
			u := m.UNet.Apply(g.Input("x", 1, shape[1], side, side), g.Input("t", 1), ctx, y)
			return ir.MeanSquare(u, g.Input("target", u.Shape()...))
		})
	})
}

// TestGoldenFirstStageGradients differentiates the error of reconstructions of every reference autoencoder.
func TestGoldenFirstStageGradients(t *testing.T) {
	goldencase.Each(t, "first_stage", func(t *testing.T, c *goldencase.Case) {
		m := c.Model(nn.Options{})
		f := m.FirstStage
		image, shape := c.Tensor("image")
		side := 4 * f.Config.Factor()               // fewer latents would make normalisation ill-conditioned
		x := make([]float32, 0, shape[1]*side*side) // the first image, cut or repeated
		for i := range cap(x) {
			ch, row, col := i/(side*side), i/side%side, i%side
			x = append(x, image[(ch*shape[2]+row%shape[2])*shape[3]+col%shape[3]])
		}
		compareGradients(t, m, map[string][]float32{"image": x, "noise": make([]float32, f.Config.EmbedDim*4*4)}, func(g *ir.Graph) *ir.Tensor {
			in := g.Input("image", 1, shape[1], side, side)
			z := f.Encode(in)
			if f.Config.Kind == nn.KL {
				s := z.Shape()
				z = ir.GaussianSample(z, g.Input("noise", 1, s[1]/2, s[2], s[3]))
			} else {
				z = f.Quantize(z)
			}
			return ir.Add(ir.MeanSquare(f.Decode(z), in), ir.Scale(ir.Mean(ir.Square(z)), 0.01))
		})
	})
}
