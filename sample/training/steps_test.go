package training

import (
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/train"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
)

// TestGoldenSteps makes the reference's three steps of AdamW with a moving average.
func TestGoldenSteps(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(golden.Dir(t, "training"), "ldm-steps*.safetensors"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no case of steps: %v", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".safetensors"), func(t *testing.T) { goldenSteps(t, path) })
	}
}

func goldenSteps(t *testing.T, path string) {
	f, err := weights.Open(path, weights.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	meta := f.Metadata()
	number := func(key string) float64 {
		v, err := strconv.ParseFloat(meta[key], 64)
		if err != nil {
			t.Fatalf("metadata %s: %v", key, err)
		}
		return v
	}
	values := func(name string) []float32 {
		x, ok := f.Lookup(name)
		if !ok {
			t.Fatalf("no tensor %s", name)
		}
		v := make([]float32, x.NumElements())
		if err := x.Float32(v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	cfg, err := nn.ParseConfig(path, []byte(meta["config"]))
	if err != nil {
		t.Fatal(err)
	}
	var keys []weights.Param
	for _, p := range nn.New(cfg).Params() {
		keys = append(keys, weights.Param(p))
	}
	file, err := formula.Source{Prefix: "ldm-steps/", Gain: number("gain")}.File(keys)
	if err != nil {
		t.Fatal(err)
	}
	m, err := nn.Bind(cfg, file, nn.Options{Weights: weights.Raw})
	if err != nil {
		t.Fatal(err)
	}
	o, err := NewObjective(m, Config{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := o.Params()
	if err != nil {
		t.Fatal(err)
	}
	b := backend(t)
	p, err := engine.NewParams(b, list)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Init(m); err != nil {
		t.Fatal(err)
	}
	p.StartAverage(Averaged(list)...)
	tr := engine.NewTraining(p, nil, b, 0)
	defer tr.Close()
	betas := strings.Split(meta["betas"], ",")
	b1, _ := strconv.ParseFloat(betas[0], 64)
	b2, _ := strconv.ParseFloat(betas[1], 64)
	steps := 0
	for k := 0; ; k++ {
		at := fmt.Sprint(k)
		x, ok := f.Lookup("z" + at)
		if !ok {
			if k == 0 {
				t.Fatal("no steps")
			}
			break
		}
		steps++
		batch := Batch{
			Size: Size{N: x.Shape[0], H: x.Shape[2], W: x.Shape[3]}, Z: values("z" + at), Noise: values("noise" + at),
			Times: ints(values("t" + at)), Input: values("y" + at),
		}
		feed, err := o.Feed(batch)
		if err != nil {
			t.Fatal(err)
		}
		step, err := tr.Compile("train", func() (*engine.Objective, error) { return o.Graph(batch.Size, true) })
		if err != nil {
			t.Fatal(err)
		}
		p.ZeroGrad()
		loss, err := step.Run(feed)
		if err != nil {
			t.Fatal(err)
		}
		norm, err := p.GradNorm()
		if err != nil {
			t.Fatal(err)
		}
		near(t, "loss "+at, loss[0], float64(values("step" + at + ".loss")[0]), 1e-5)
		near(t, "gradient norm "+at, norm, float64(values("step" + at + ".gradnorm")[0]), 3e-5)
		p.Update(plan.Adam{
			Rate: number("lr"), Beta1: b1, Beta2: b2, Eps: number("eps"), Decay: number("weight_decay"), Step: k + 1,
			Average: train.AverageDecay(number("ema_decay"), int64(k+1)),
		})
	}
	compared := 0
	worst := map[string]float64{}
	for _, x := range f.Tensors() {
		for prefix, of := range map[string]func(string) []float32{"final.": p.Data, "ema.": p.Average} {
			name, ok := strings.CutPrefix(x.Name, prefix)
			if !ok {
				continue
			}
			if strings.HasPrefix(name, "eps_") {
				from := plan.WeightSource(p)
				if prefix == "ema." {
					from = p.Averages()
				}
				compareEps(t, m, b, from, x.Name, values)
				continue
			}
			if name == "num_updates" {
				near(t, "updates", float64(steps), float64(values(x.Name)[0]), 0)
				continue
			}
			if !p.Has(name) {
				t.Errorf("%s is not trained", name)
				continue
			}
			e := golden.RelL2(of(name), values(x.Name))
			worst[prefix] = max(worst[prefix], e)
			if compared++; !(e <= 1e-4) {
				t.Errorf("%s: relative error %.2e", x.Name, e)
			}
		}
	}
	for prefix, e := range worst {
		golden.Line(t, t.Name()+" worst of "+prefix, e, 1e-4)
	}
	if compared == 0 {
		t.Error("no weights were compared")
	}
}

// compareEps compares what the U-Net predicts for the first batch at the time that the name of an entry ends with. Conditioners
// have no average.
func compareEps(t *testing.T, m *nn.Model, b plan.Backend, from plan.WeightSource, name string, values func(string) []float32) {
	t.Helper()
	var at int
	if _, err := fmt.Sscanf(name[strings.Index(name, ".")+1:], "eps_z0_t%d", &at); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	labels := values("y0")
	n, u := len(labels), m.UNet.Config
	side := m.Config.Diffusion.ImageSize
	s := engine.NewWeights(from, b)
	defer s.Close()
	embed, err := s.Network("conditioner", func() (*nn.Graph, error) { return m.ConditionerGraph(n, 1, 1) })
	if err != nil {
		t.Fatal(err)
	}
	context, err := embed.Run(map[string][]float32{"class_label": labels})
	if err != nil {
		t.Fatal(err)
	}
	unet, err := s.Network("unet", func() (*nn.Graph, error) { return m.UNetGraph(n, side, side, 1) })
	if err != nil {
		t.Fatal(err)
	}
	times := make([]float32, n)
	for i := range times {
		times[i] = float32(at)
	}
	if want := n * u.InChannels * side * side; len(values("z0")) != want {
		t.Fatalf("z0 has not %d numbers", want)
	}
	eps, err := unet.Run(map[string][]float32{"x": values("z0"), "t": times, "context": context[0]})
	if err != nil {
		t.Fatal(err)
	}
	golden.Near(t, t.Name()+" "+name, eps[0], values(name), 2e-4)
}

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	e := math.Abs(got-want) / math.Abs(want)
	golden.Line(t, t.Name()+" "+what, e, tol)
	if !(e <= tol) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}
