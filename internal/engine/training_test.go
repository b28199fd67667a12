package engine_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

func openCPU(t testing.TB, threads int) *cpu.Backend {
	t.Helper()
	b, err := cpu.Open(cpu.Options{Threads: threads, ISA: kernel.Detect()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func newParams(t testing.TB, b plan.Backend, list ...ir.Param) *engine.Params {
	t.Helper()
	p, err := engine.NewParams(b, list)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// regression is the mean square of x w^T + b - y.
func regression() (*engine.Objective, error) {
	g := ir.New("regression")
	o := &engine.Objective{Losses: []string{"loss"}, Values: []string{"prediction"}, Grads: []string{"w", "b"}}
	var err error
	if e := ir.Build(func() {
		w, b := g.Param("w", 1, 3), g.Param("b", 1)
		y := ir.Linear(g.Input("x", 4, 3), w, b)
		loss := ir.MeanSquare(y, g.Input("y", 4, 1))
		var grads []*ir.Tensor
		if grads, err = ir.Grad(loss, w, b); err == nil {
			o.Program, err = g.Program(append([]*ir.Tensor{loss, y}, grads...)...)
		}
	}); e != nil {
		return nil, e
	}
	return o, err
}

// TestTraining fits a line with Adam and compares the first step with arithmetic by hand.
func TestTraining(t *testing.T) {
	b := openCPU(t, 2)
	p := newParams(t, b, ir.Param{Name: "w", Shape: []int{1, 3}}, ir.Param{Name: "b", Shape: []int{1}}, ir.Param{Name: "rest", Shape: []int{5}})
	tr := engine.NewTraining(p, nil, b, 0)
	defer tr.Close()
	s, err := tr.Compile("regression", regression)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := tr.Compile("regression", nil); again != s {
		t.Error("the key is compiled twice")
	}
	in := map[string][]float32{"x": {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1}, "y": {3, 2, 1, 5}}
	p.StartAverage("w", "b")
	first := 0.0
	for step := 1; step <= 400; step++ {
		p.ZeroGrad()
		loss, err := s.Run(in)
		if err != nil {
			t.Fatal(err)
		}
		if step == 1 {
			first = loss[0]
			if want := 39.0 / 4; math.Abs(first-want) > 1e-6 {
				t.Fatalf("loss %g, want %g", first, want)
			}
			want := []float32{-4, -3.5, -3} // -2/4 (y_i + y_3)
			if got := p.Grad("w"); !slices.Equal(got, want) || p.Grad("b")[0] != -5.5 {
				t.Fatalf("gradients %v %v, want %v and -5.5", got, p.Grad("b"), want)
			}
			if n, err := p.GradNorm(); err != nil || math.Abs(n-math.Sqrt(16+12.25+9+30.25)) > 1e-6 {
				t.Errorf("norm %g, %v", n, err)
			}
			// A second run adds.
			if _, err := s.Run(in); err != nil {
				t.Fatal(err)
			}
			if got := p.Grad("w"); got[0] != -8 {
				t.Errorf("gradient after two runs %v", got)
			}
			p.ScaleGrad(0.5)
			if got := p.Grad("w"); !slices.Equal(got, want) {
				t.Errorf("gradient after scaling %v", got)
			}
			if got := s.Value("prediction"); !slices.Equal(got, make([]float32, 4)) || !slices.Equal(s.Shape("prediction"), []int{4, 1}) {
				t.Errorf("prediction %v of shape %v", got, s.Shape("prediction"))
			}
		}
		p.Update(plan.Adam{Rate: 0.05, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, Step: step, Average: 0.9}, "w", "b")
		if step == 1 {
			if w := p.Data("w"); math.Abs(float64(w[0])-0.05) > 1e-6 { // Adam's first step has the length of the rate
				t.Errorf("w after the first step %v", w)
			}
			if a := p.Average("w"); math.Abs(float64(a[0])-0.005) > 1e-6 {
				t.Errorf("average after the first step %v", a)
			}
		}
	}
	loss, err := s.Run(in)
	if err != nil {
		t.Fatal(err)
	}
	if loss[0] > 1e-3 {
		t.Errorf("loss %g after 400 steps, %g before", loss[0], first)
	}
	got := make([]float32, 3)
	if err := p.Averages().Load("w", got); err != nil || slices.Equal(got, p.Data("w")) {
		t.Errorf("averages %v, %v", got, err)
	}
	if rest, ok := p.Averages().View("rest"); !ok || !slices.Equal(rest, make([]float32, 5)) {
		t.Errorf("a parameter that nothing updates: %v", rest)
	}
	p.Grad("b")[0] = float32(math.NaN())
	if _, err := p.GradNorm(); err == nil || !strings.Contains(err.Error(), "parameter b ") {
		t.Errorf("NaN in the gradient of b: %v", err)
	}
}

// TestPackedWeightsFollow trains a small network whose weights are packed in every way, and compares every step with a training that
// starts from the same values. One parameter is frozen, one objective has no gradients, and folded weights are among those packed.
func TestPackedWeightsFollow(t *testing.T) {
	b := openCPU(t, 2)
	list := []ir.Param{
		{Name: "conv", Shape: []int{16, 16, 3, 3}}, {Name: "q", Shape: []int{16, 16}}, {Name: "k", Shape: []int{16, 16}},
		{Name: "v", Shape: []int{16, 16}}, {Name: "out", Shape: []int{16, 16}}, {Name: "bias", Shape: []int{16}},
	}
	build := func(gradients bool) func() (*engine.Objective, error) {
		return func() (*engine.Objective, error) {
			g := ir.New("small")
			o := &engine.Objective{Losses: []string{"loss"}, Values: []string{"y"}}
			var loss, y *ir.Tensor
			if err := ir.Build(func() {
				p := func(i int) *ir.Tensor { return g.Param(list[i].Name, list[i].Shape...) }
				x := ir.Conv2D(g.Input("x", 2, 16, 8, 8), g.Param("frozen", 16, 16, 3, 3), nil, ir.Same(3))
				x = ir.Upsample2(ir.SiLU(ir.Conv2D(ir.Conv2D(x, p(0), nil, ir.Same(3)), p(0), nil, ir.Conv{Stride: 2, Top: 1, Left: 1, Bottom: 1, Right: 1})))
				r := ir.Tokens(ir.Conv2D(x, p(0), nil, ir.Same(3)))
				a := ir.Attention(ir.Linear(r, p(1), nil), ir.Linear(r, p(2), nil), ir.Linear(r, p(3), p(5)), 1, 0.25)
				y = ir.Add(ir.Linear(a, p(4), p(5)), r)
				loss = ir.MeanSquare(y, g.Input("target", 2, 64, 16))
			}); err != nil {
				return nil, err
			}
			outs := []*ir.Tensor{loss, y}
			if gradients {
				var wrt []*ir.Tensor
				for _, p := range list {
					wrt, o.Grads = append(wrt, g.Param(p.Name, p.Shape...)), append(o.Grads, p.Name)
				}
				grads, err := ir.Grad(loss, wrt...)
				if err != nil {
					return nil, err
				}
				outs = append(outs, grads...)
			}
			var err error
			o.Program, err = g.Program(outs...)
			return o, err
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	values := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rnd.NormFloat64()) / 8
		}
		return v
	}
	frozen := newParams(t, b, ir.Param{Name: "frozen", Shape: []int{16, 16, 3, 3}})
	copy(frozen.Data("frozen"), values(16*16*9))
	p := newParams(t, b, list...)
	for _, param := range list {
		copy(p.Data(param.Name), values(len(p.Data(param.Name))))
	}
	p.Changed()
	in := map[string][]float32{"x": values(2 * 16 * 64), "target": values(2 * 64 * 16)}
	compile := func(tr *engine.Training, gradients bool) *engine.Step {
		s, err := tr.Compile(fmt.Sprint(gradients), build(gradients))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	run := func(s *engine.Step) float64 {
		loss, err := s.Run(in)
		if err != nil {
			t.Fatal(err)
		}
		return loss[0]
	}
	tr := engine.NewTraining(p, frozen, b, 0)
	defer tr.Close()
	step, valid := compile(tr, true), compile(tr, false)
	last := run(valid)
	for i := range 4 {
		p.ZeroGrad()
		run(step)
		p.Update(plan.Adam{Rate: 0.01, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Step: i + 1})
		loss, y := run(valid), slices.Clone(valid.Value("y"))
		fresh := engine.NewTraining(p, frozen, b, 0)
		again := compile(fresh, false)
		if want := run(again); loss != want || !slices.Equal(y, again.Value("y")) {
			t.Errorf("step %d: loss %g, %g with weights packed afresh", i, loss, want)
		}
		fresh.Close()
		if loss >= last {
			t.Errorf("step %d: the loss grows from %g to %g", i, last, loss)
		}
		last = loss
	}
	none := engine.NewTraining(p, nil, b, 0)
	defer none.Close()
	if _, err := none.Compile("x", build(false)); err == nil || !strings.Contains(err.Error(), "frozen") {
		t.Errorf("a parameter that nobody has: %v", err)
	}
}
