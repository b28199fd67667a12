package training

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
	"github.com/ldm-batch/ldm-batch/sample"
)

func backend(t testing.TB) *cpu.Backend {
	t.Helper()
	b, err := cpu.Open(cpu.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func ints(v []float32) []int {
	out := make([]int, len(v))
	for i, x := range v {
		out[i] = int(x)
	}
	return out
}

// conditionOf is the condition of a case's training batch: the input of a trained conditioner, the output of a frozen one.
func conditionOf(t *testing.T, c *goldencase.Case, m *nn.Model, b *Batch, h, w int) {
	t.Helper()
	switch {
	case c.Has("class_label"):
		b.Input = c.Values("class_label")
	case c.Has("tokens"):
		b.Input = c.Values("tokens")
	case c.Has("segmentation"):
		all := c.Values("segmentation")
		var maps [][]uint8
		for i := range b.N {
			one := make([]uint8, h*w)
			for j, v := range all[i*h*w : (i+1)*h*w] {
				one[j] = uint8(v)
			}
			maps = append(maps, one)
		}
		k := m.Conditioner.Config
		var err error
		if b.Input, err = Shares(maps, k.InChannels, h, w, k.NStages); err != nil {
			t.Fatal(err)
		}
	case c.Has("cond"):
		b.Cond = sample.Condition{Concat: c.Values("cond")}
	}
}

// TestGoldenObjectives compares the loss of every reference model on one batch, its terms, and the gradient by every parameter.
func TestGoldenObjectives(t *testing.T) {
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		if !c.Has("train.loss") {
			t.Skip("the case holds no objective")
		}
		m := c.Model(nn.Options{Weights: weights.Raw})
		o, err := NewObjective(m, Config{})
		if err != nil {
			t.Fatal(err)
		}
		z, shape := c.Tensor("train.z")
		b := Batch{Size: Size{N: shape[0], H: shape[2], W: shape[3]}, Z: z, Noise: c.Values("train.noise"), Times: ints(c.Values("train.t"))}
		image, pixels := c.Tensor("train.image")
		conditionOf(t, c, m, &b, pixels[2], pixels[3])
		bk := backend(t)
		checkLatents(t, c, engine.New(m, bk), image, pixels, z)

		list, err := o.Params()
		if err != nil {
			t.Fatal(err)
		}
		p, err := engine.NewParams(bk, list)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if err := p.Init(m); err != nil {
			t.Fatal(err)
		}
		tr := engine.NewTraining(p, nil, bk, 0)
		defer tr.Close()
		step, err := tr.Compile("train", func() (*engine.Objective, error) { return o.Graph(b.Size, true) })
		if err != nil {
			t.Fatal(err)
		}
		feed, err := o.Feed(b)
		if err != nil {
			t.Fatal(err)
		}
		loss, err := step.Run(feed)
		if err != nil {
			t.Fatal(err)
		}
		got, err := o.Losses(loss[0], step.Value("errors"))
		if err != nil {
			t.Fatal(err)
		}
		for name, v := range map[string]float64{"loss": got.Loss, "loss_simple": got.Simple, "loss_vlb": got.VLB} {
			want := float64(c.Values("train." + name)[0])
			e := math.Abs(v-want) / math.Abs(want)
			golden.Line(t, t.Name()+" "+name, e, 1e-6)
			if !(e <= 1e-6) {
				t.Errorf("%s is %v, want %v", name, v, want)
			}
		}
		compareGradients(t, c, p)
	})
}

// checkLatents compares the latents that the first stage gives for training.
func checkLatents(t *testing.T, c *goldencase.Case, s *engine.Session, image []float32, pixels []int, z []float32) {
	t.Helper()
	defer s.Close()
	f, err := encode.New(s)
	if err != nil {
		t.Fatal(err)
	}
	o := encode.Options{Scale: true}
	if f.Stochastic() {
		o.Noise = c.Values("train.posterior_noise")
	}
	got, err := f.Encode(image, pixels[0], pixels[2], pixels[3], o)
	if err != nil {
		t.Fatal(err)
	}
	goldencase.Near(t, "latents", got, z, 1e-5)
}

// compareGradients compares every gradient that a case holds, whole or by norm and projections. A gradient that is zero in exact
// arithmetic comes out as rounding noise, hence the share of the largest norm.
func compareGradients(t *testing.T, c *goldencase.Case, p *engine.Params) {
	t.Helper()
	norms, largest := map[string]float64{}, 0.0
	for _, x := range c.IO.Tensors() {
		if name, ok := strings.CutPrefix(x.Name, "gradnorm."); ok {
			norms[name] = float64(c.Values(x.Name)[0])
			largest = max(largest, norms[name])
		}
	}
	if len(norms) != len(p.List()) {
		t.Errorf("%d parameters have gradients, the reference has %d", len(p.List()), len(norms))
	}
	const tol = 3e-5
	worst, at := 0.0, ""
	check := func(name string, distance, unit float64) {
		allowed := (tol*norms[name] + 1e-6*largest) * unit
		if e := distance / allowed; !(e <= worst) {
			worst, at = e, name
		}
		if !(distance <= allowed) {
			t.Errorf("%s: distance %.3g, allowed %.3g", name, distance, allowed)
		}
	}
	compared := 0
	for name, norm := range norms {
		if !p.Has(name) {
			t.Errorf("%s has no gradient", name)
			continue
		}
		g := p.Grad(name)
		sum := 0.0
		for _, v := range g {
			sum += float64(v) * float64(v)
		}
		check(name, math.Abs(math.Sqrt(sum)-norm), 1)
		if c.Has("grad." + name) {
			d := 0.0
			for i, want := range c.Values("grad." + name) {
				e := float64(g[i]) - float64(want)
				d += e * e
			}
			check(name, math.Sqrt(d), 1)
			compared++
		}
		if !c.Has("gradproj." + name) {
			continue
		}
		compared++
		for j, want := range c.Values("gradproj." + name) {
			v := make([]float32, len(g))
			formula.Fill(v, fmt.Sprintf("proj%d/%s", j, name), formula.Image, nil, 1)
			dot, unit := 0.0, 0.0
			for i, x := range v {
				dot += float64(x) * float64(g[i])
				unit += float64(x) * float64(x)
			}
			check(name, math.Abs(dot-float64(want)), math.Sqrt(unit))
		}
	}
	golden.Line(t, fmt.Sprintf("%s %d gradients, worst %s", t.Name(), len(norms), at), worst*tol, tol)
	if compared < len(norms) {
		t.Errorf("only %d of %d gradients were compared beyond their norm", compared, len(norms))
	}
}
