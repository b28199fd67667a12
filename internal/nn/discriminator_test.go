package nn_test

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
)

func TestDiscriminatorKeys(t *testing.T) {
	d := nn.NewDiscriminator(nn.DiscriminatorConfig{InChannels: 3, Channels: 8, Layers: 2}, "d.")
	want := "d.main.0.weight[8 3 4 4] d.main.0.bias[8] d.main.2.weight[16 8 4 4] d.main.3.weight[16] d.main.3.bias[16] " +
		"d.main.3.running_mean[16] d.main.3.running_var[16] d.main.3.num_batches_tracked[] d.main.5.weight[32 16 4 4] " +
		"d.main.6.weight[32] d.main.6.bias[32] d.main.6.running_mean[32] d.main.6.running_var[32] d.main.6.num_batches_tracked[] " +
		"d.main.8.weight[1 32 4 4] d.main.8.bias[1]"
	if got := describe(d.Keys()); got != want {
		t.Errorf("keys\n%s, want\n%s", got, want)
	}
	trained := regexp.MustCompile(` \S*(running|num_batches)\S*`).ReplaceAllString(want, "")
	if got := describe(d.Params()); got != trained {
		t.Errorf("params\n%s, want\n%s", got, trained)
	}
	if n := d.Norms()[1]; n != (nn.Norm{Mean: "d.main.6.running_mean", Variance: "d.main.6.running_var", Counter: "d.main.6.num_batches_tracked", Channels: 32}) {
		t.Errorf("norm %+v", n)
	}
	d = nn.NewDiscriminator(nn.DiscriminatorConfig{InChannels: 1, Channels: 4, Layers: 1, ActNorm: true}, "")
	want = "main.0.weight[4 1 4 4] main.0.bias[4] main.2.weight[8 4 4 4] main.2.bias[8] main.3.loc[1 8 1 1] main.3.scale[1 8 1 1] " +
		"main.3.initialized[] main.5.weight[1 8 4 4] main.5.bias[1]"
	if got := describe(d.Keys()); got != want {
		t.Errorf("keys\n%s, want\n%s", got, want)
	}
	if n := d.Norms()[0]; n != (nn.Norm{Shift: "main.3.loc", Scale: "main.3.scale", Counter: "main.3.initialized", Channels: 8}) {
		t.Errorf("norm %+v", n)
	}
	deep := nn.NewDiscriminator(nn.DiscriminatorConfig{InChannels: 3, Channels: 2, Layers: 5}, "").Keys()
	if last := deep[len(deep)-2]; !slices.Equal(last.Shape, []int{1, 16, 4, 4}) {
		t.Errorf("channels grow beyond eight times: %v", last)
	}
}

func describe(list []ir.Param) string {
	var parts []string
	for _, p := range list {
		parts = append(parts, p.Name+fmt.Sprint(p.Shape))
	}
	return strings.Join(parts, " ")
}

func TestDiscriminatorConfig(t *testing.T) {
	ok := nn.DiscriminatorConfig{InChannels: 3, Channels: 64, Layers: 3}
	if err := ok.Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []nn.DiscriminatorConfig{
		{Channels: 64, Layers: 3}, {InChannels: 3, Layers: 3}, {InChannels: 3, Channels: 64}, {InChannels: 3, Channels: 64, Layers: 17},
		{InChannels: 3, Channels: 1 << 30, Layers: 3},
	} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), "disc_") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestGoldenDiscriminator compares the discriminator in and outside training, with its gradients and what a batch does to the
// running statistics.
func TestGoldenDiscriminator(t *testing.T) {
	entries := map[string]golden.Tensor{}
	var cases []string
	for _, e := range golden.Tensors(t, golden.Dir(t, "training", "patchgan.safetensors")) {
		entries[e.Name] = e
		if name, ok := strings.CutSuffix(e.Name, ".eval"); ok {
			cases = append(cases, name)
		}
	}
	if len(cases) == 0 {
		t.Fatal("no case")
	}
	for _, name := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			value := func(key string) []float32 {
				e, ok := entries[key]
				if !ok {
					t.Fatalf("no entry %s", key)
				}
				return e.Float32s(t)
			}
			var c nn.DiscriminatorConfig
			if _, err := fmt.Sscanf(name, "n%d-ndf%d", &c.Layers, &c.Channels); err != nil {
				t.Fatal(err)
			}
			shape := entries[name+".x"].Shape
			c.InChannels = shape[1]
			d := nn.NewDiscriminator(c, "")
			g := ir.New("discriminator")
			var outputs, wrt []*ir.Tensor
			var cost *ir.Tensor
			if err := ir.Build(func() {
				x := g.Input("x", shape...)
				logits, moments := d.Train(x)
				cost = ir.Dot(logits, g.Input("r", logits.Shape()...))
				outputs = append([]*ir.Tensor{logits, d.Judge(x)}, moments...)
				wrt = append(wrt, x)
				for _, p := range d.Params() {
					wrt = append(wrt, g.Param(p.Name, p.Shape...))
				}
			}); err != nil {
				t.Fatal(err)
			}
			grads, err := ir.Grad(cost, wrt...)
			if err != nil {
				t.Fatal(err)
			}
			p, err := g.Program(append(outputs, grads...)...)
			if err != nil {
				t.Fatal(err)
			}
			prefix := "patchgan/" + name + "/"
			feed := map[string][]float32{"x": value(name + ".x"), "r": make([]float32, len(value(name+".train")))}
			formula.Fill(feed["r"], prefix+"r", formula.Image, entries[name+".train"].Shape, 1)
			for k, v := range formulaWeights(t, prefix, 1, d.Keys()) {
				feed[k] = v
			}
			got, err := ir.Evaluate(p, feed)
			if err != nil {
				t.Fatal(err)
			}
			golden.Near(t, prefix+"train", got[0], value(name+".train"), 1e-5)
			golden.Near(t, prefix+"eval", got[1], value(name+".eval"), 1e-5)
			for i, n := range d.Norms() {
				nn.TrackMoments(feed[n.Mean], feed[n.Variance], got[2+i], d.Counts(shape[0], shape[2], shape[3])[i])
				golden.Near(t, prefix+n.Mean, feed[n.Mean], value(name+".after."+n.Mean), 1e-5)
				golden.Near(t, prefix+n.Variance, feed[n.Variance], value(name+".after."+n.Variance), 1e-5)
				if v := value(name + ".after." + n.Counter); v[0] != 1 {
					t.Errorf("%s is %v after one batch", n.Counter, v)
				}
			}
			grads32 := got[2+len(d.Norms()):]
			golden.Near(t, prefix+"gradient of x", grads32[0], value(name+".grad_x"), 3e-5)
			checkGradients(t, prefix, name, d.Params(), grads32[1:], entries, 3e-5)
		})
	}
}

// formulaWeights makes weights of the reference vectors.
func formulaWeights(t testing.TB, prefix string, gain float64, keys []ir.Param) map[string][]float32 {
	t.Helper()
	var params []weights.Param
	for _, k := range keys {
		params = append(params, weights.Param(k))
	}
	list, err := formula.Source{Prefix: prefix, Gain: gain}.Tensors(params)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]float32{}
	for _, x := range list {
		if values[x.Name], err = x.Values(); err != nil {
			t.Fatal(err)
		}
	}
	return values
}

// checkGradients compares gradients with entries "grad.<scope>.<name>", whole, "gradnorm.", norms, and "gradproj.", projections.
// Gradients that are zero in exact arithmetic are rounding noise: a millionth of the largest norm of the case is allowed for that.
func checkGradients(t *testing.T, prefix, scope string, params []ir.Param, got [][]float32, entries map[string]golden.Tensor, tolerance float64) {
	t.Helper()
	largest := 0.0
	for name, e := range entries {
		if strings.HasPrefix(name, "gradnorm."+scope+".") {
			largest = max(largest, e.Values(t)[0])
		}
	}
	compared, worst := 0, 0.0
	for i, p := range params {
		name := scope + "." + p.Name
		norm, ok := entries["gradnorm."+name]
		if !ok {
			t.Errorf("no norm of the gradient of %s", name)
			continue
		}
		size := norm.Values(t)[0]
		within := func(what string, diff, size float64) {
			if allowed := tolerance*size + 1e-6*largest; !(diff <= allowed) {
				t.Errorf("%s%s: %s differs by %.3g of %.3g", prefix, p.Name, what, diff, size)
			} else if size > 1e-3*largest {
				worst = max(worst, diff/size)
			}
			compared++
		}
		within("norm of the gradient", math.Abs(length(got[i])-size), size)
		if want, ok := entries["grad."+name]; ok {
			v := want.Float32s(t)
			diff := slices.Clone(got[i])
			for k := range v {
				diff[k] -= v[k]
			}
			within("gradient", length(diff), length(v))
		}
		if want, ok := entries["gradproj."+name]; ok {
			direction := make([]float32, len(got[i]))
			for j, w := range want.Values(t) {
				formula.Fill(direction, fmt.Sprintf("proj%d/%s", j, name), formula.Image, p.Shape, 1)
				dot := 0.0
				for k, v := range direction {
					dot += float64(v) * float64(got[i][k])
				}
				// What an error that has no direction of its own shows in a projection, four times over.
				within(fmt.Sprint("projection ", j), math.Abs(dot-w), 4*size*length(direction)/math.Sqrt(float64(len(direction))))
			}
		}
	}
	if compared < 2*len(params) {
		t.Errorf("%d comparisons of %d gradients", compared, len(params))
	}
	golden.Line(t, prefix+"gradients, worst", worst, tolerance)
}

func length(v []float32) float64 {
	s := 0.0
	for _, x := range v {
		s += float64(x) * float64(x)
	}
	return math.Sqrt(s)
}
