package nn_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

const tolerance = 1e-5

// graph fails the test on the error of a graph's constructor.
func graph(t *testing.T) func(*nn.Graph, error) *nn.Graph {
	return func(g *nn.Graph, err error) *nn.Graph {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
}

// one evaluates a graph with one output.
func one(t *testing.T, m *nn.Model, g *nn.Graph, inputs map[string][]float32) []float32 {
	t.Helper()
	return goldencase.Evaluate(t, m, g, inputs)[0]
}

// first is the first sample of a tensor of a case, and its shape: the reference kernels are slow.
func first(c *goldencase.Case, name string) (values []float32, shape []int) {
	v, s := c.Tensor(name)
	s = slices.Clone(s)
	v, s[0] = v[:len(v)/s[0]], 1
	return v, s
}

func TestGoldenFirstStages(t *testing.T) {
	goldencase.Each(t, "first_stage", func(t *testing.T, c *goldencase.Case) {
		t.Parallel()
		m := c.Model(nn.Options{})
		near := func(name string, g *nn.Graph, input string, v []float32) {
			t.Helper()
			want, _ := first(c, name)
			goldencase.Near(t, name, one(t, m, g, map[string][]float32{input: v}), want, tolerance)
		}
		image, s := first(c, "image")
		encode := graph(t)(m.EncoderGraph(1, s[2], s[3]))
		if m.FirstStage.Config.Kind == nn.KL {
			near("moments", encode, "image", image)
			z, zs := first(c, "sample")
			near("decoded", graph(t)(m.DecoderGraph(1, zs[2], zs[3], nn.Quantized)), "z", z)
			return
		}
		near("latent", encode, "image", image)
		z, zs := first(c, "latent")
		h, w := zs[2], zs[3]
		indices := one(t, m, graph(t)(m.CodesGraph(1, h, w)), map[string][]float32{"z": z})
		if want := c.Values("indices")[:h*w]; !slices.Equal(indices, want) {
			t.Error("indices differ")
		}
		quantized := one(t, m, graph(t)(m.QuantizeGraph(1, h, w)), map[string][]float32{"z": z})
		if want, _ := first(c, "quantized"); !slices.Equal(quantized, want) {
			t.Error("quantized latents are not the same bits")
		}
		near("decoded", graph(t)(m.DecoderGraph(1, h, w, nn.Quantized)), "z", z)
		near("decoded_not_quantized", graph(t)(m.DecoderGraph(1, h, w, nn.NotQuantized)), "z", z)
	})
}

func TestGoldenDenoisers(t *testing.T) {
	goldencase.Each(t, "denoiser", func(t *testing.T, c *goldencase.Case) {
		t.Parallel()
		m := c.Model(nn.Options{})
		in, tokens := map[string][]float32{}, 0
		for _, name := range []string{"x", "t", "context", "y"} {
			if !c.Has(name) {
				continue
			}
			v, s := first(c, name)
			in[name] = v
			if name == "context" {
				tokens = s[1]
			}
		}
		_, s := first(c, "x")
		want, _ := first(c, "eps")
		goldencase.Near(t, "eps", one(t, m, graph(t)(m.UNetGraph(1, s[2], s[3], tokens)), in), want, tolerance)
	})
}

// TestGoldenModels computes the condition and one prediction of whole models.
func TestGoldenModels(t *testing.T) {
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		t.Parallel()
		m := c.Model(nn.Options{})
		x, s := c.Tensor("x_T")
		n, h, w := s[0], s[2], s[3]
		in := map[string][]float32{"t": slices.Repeat([]float32{500}, n)}
		tokens := 0
		if c.Has("cond") {
			cond, cs := c.Tensor("cond")
			checkCondition(t, c, m, cond)
			switch m.Config.Diffusion.ConditioningKey {
			case nn.CrossAttn:
				in["context"], tokens = cond, cs[1]
			case nn.Concat:
				x = concat(x, cond, n)
			}
		}
		in["x"] = x
		g := graph(t)(m.UNetGraph(n, h, w, tokens))
		goldencase.Near(t, "eps", one(t, m, g, in), c.Values("eps_t500"), tolerance)
	})
}

// concat joins the channels of two batches of n images.
func concat(a, b []float32, n int) []float32 {
	var out []float32
	for i := range n {
		out = append(out, a[i*len(a)/n:(i+1)*len(a)/n]...)
		out = append(out, b[i*len(b)/n:(i+1)*len(b)/n]...)
	}
	return out
}

// checkCondition computes the condition from what the case gives.
func checkCondition(t *testing.T, c *goldencase.Case, m *nn.Model, want []float32) {
	t.Helper()
	cfg := m.Conditioner.Config
	switch cfg.Kind {
	case nn.ClassEmbedder, nn.BERTEmbedder:
		name, _, err := m.Conditioner.Input(1, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		ids, s := c.Tensor(name)
		g := graph(t)(m.ConditionerGraph(s[0], 1, 1))
		goldencase.Near(t, "cond", one(t, m, g, map[string][]float32{name: ids}), want, tolerance)
	case nn.SpatialRescaler:
		labels, s := c.Tensor("segmentation")
		area := s[1] * s[2]
		hot := make([]float32, s[0]*cfg.InChannels*area)
		for i, l := range labels {
			hot[(i/area*cfg.InChannels+int(l))*area+i%area] = 1
		}
		g := graph(t)(m.ConditionerGraph(s[0], s[1], s[2]))
		goldencase.Near(t, "cond", one(t, m, g, map[string][]float32{"segmentation": hot}), want, tolerance)
	case nn.FirstStageCond: // masked images; the mask joins as it is
		image, s := c.Tensor("image") // in [0,1], as is the mask
		mask := c.Values("mask")
		area := s[2] * s[3]
		masked := make([]float32, len(image))
		for i, v := range image {
			masked[i] = 2*(v*(1-mask[i/(s[1]*area)*area+i%area])) - 1
		}
		g := graph(t)(m.ConditionerGraph(s[0], s[2], s[3]))
		got := one(t, m, g, map[string][]float32{"image": masked})
		shape := g.Shape("cond")
		var ref []float32
		per := len(want) / s[0]
		for i := range s[0] {
			ref = append(ref, want[i*per:i*per+shape[1]*shape[2]*shape[3]]...)
		}
		goldencase.Near(t, "cond", got, ref, tolerance)
	case nn.IdentityCond:
		if got := c.Values("lr_image"); !slices.Equal(got, want) {
			t.Error("the condition is not the image")
		}
	}
}

// TestGoldenGradients differentiates the loss of a class-conditional model through the U-Net and the class embedding.
func TestGoldenGradients(t *testing.T) {
	compared := 0
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		d := c.Config.Diffusion
		if c.Config.Conditioner.Kind != nn.ClassEmbedder || d.LossType != "l2" {
			t.Skip("another loss or condition")
		}
		compared++
		m := c.Model(nn.Options{Weights: weights.Raw})
		z, s := c.Tensor("train.z")
		noise, steps := c.Values("train.noise"), c.Values("train.t")
		noisy := make([]float32, len(z))
		for i := range z {
			ac := alphaBar(d, int(steps[i/(len(z)/s[0])]))
			noisy[i] = float32(math.Sqrt(ac))*z[i] + float32(math.Sqrt(1-ac))*noise[i]
		}
		g := ir.New("loss")
		var cost *ir.Tensor
		var wrt []*ir.Tensor
		if err := ir.Build(func() {
			label := g.Input("class_label", s[0], 1)
			eps := m.UNet.Apply(g.Input("x", s...), g.Input("t", s[0]), m.Conditioner.Apply(label), nil)
			cost = ir.MeanSquare(eps, g.Input("noise", s...))
			for _, p := range g.Params() {
				wrt = append(wrt, g.Param(p.Name, p.Shape...))
			}
		}); err != nil {
			t.Fatal(err)
		}
		grads, err := ir.Grad(cost, wrt...)
		if err != nil {
			t.Fatal(err)
		}
		outputs := []*ir.Tensor{cost}
		var names []string
		for i, w := range wrt {
			if c.Has("grad." + w.Name()) {
				outputs, names = append(outputs, grads[i]), append(names, w.Name())
			}
		}
		p, err := g.Program(outputs...)
		if err != nil {
			t.Fatal(err)
		}
		got := goldencase.Evaluate(t, m, &nn.Graph{Program: p}, map[string][]float32{
			"x": noisy, "t": steps, "noise": noise, "class_label": c.Values("class_label"),
		})
		if want := c.Values("train.loss")[0]; math.Abs(float64(got[0][0]-want)) > 1e-6*float64(want) {
			t.Errorf("loss %v, want %v", got[0][0], want)
		}
		largest := 0.0
		for _, x := range c.IO.Tensors() {
			if strings.HasPrefix(x.Name, "gradnorm.") {
				largest = max(largest, float64(c.Values(x.Name)[0]))
			}
		}
		for i, name := range names {
			// Gradients that are zero in exact arithmetic are rounding noise.
			want := c.Values("grad." + name)
			var diff, norm float64
			for j, w := range want {
				diff += math.Pow(float64(got[i+1][j]-w), 2)
				norm += math.Pow(float64(w), 2)
			}
			if math.Sqrt(diff) > 3e-5*math.Sqrt(norm)+1e-6*largest {
				t.Errorf("gradient of %s differs by %.3g of %.3g", name, math.Sqrt(diff), math.Sqrt(norm))
			}
		}
		if len(names) < 50 || largest == 0 {
			t.Errorf("%d gradients compared, largest norm %v", len(names), largest)
		}
	})
	if compared == 0 {
		t.Error("no case fits")
	}
}

// alphaBar is the cumulative product of 1-beta up to and with step t of a schedule that is linear in the root.
func alphaBar(d *nn.DiffusionConfig, t int) float64 {
	from, to, product := math.Sqrt(d.LinearStart), math.Sqrt(d.LinearEnd), 1.0
	for i := range t + 1 {
		root := from + (to-from)*float64(i)/float64(d.Timesteps-1)
		product *= 1 - root*root
	}
	return product
}
