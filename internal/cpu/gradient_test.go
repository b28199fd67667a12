package cpu

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// differentiable are inputs whose gradients tests ask for.
var differentiable = map[*ir.Graph]map[string]*ir.Tensor{}

func input(g *ir.Graph, name string, shape ...int) *ir.Tensor {
	if differentiable[g] == nil {
		differentiable[g] = map[string]*ir.Tensor{}
	}
	differentiable[g][name] = g.Input(name, shape...)
	return differentiable[g][name]
}

// gradientCase is a graph that is differentiated by its parameters and by what [input] made. Outputs that are no
// scalars are turned into one by a product with a random input.
type gradientCase struct {
	network
	skip []string // parameters without a gradient
}

func gradientCases() []gradientCase {
	one := func(name string, build func(g *ir.Graph, n int) *ir.Tensor, skip ...string) gradientCase {
		return gradientCase{network{name, func(g *ir.Graph, n int) []*ir.Tensor { return []*ir.Tensor{build(g, n)} }}, skip}
	}
	unary := func(name string, f func(x *ir.Tensor) *ir.Tensor, shape ...int) gradientCase {
		return one(name, func(g *ir.Graph, n int) *ir.Tensor { return f(input(g, "x", append([]int{n}, shape...)...)) })
	}
	convolution := func(name string, c, o, h, w, k int, attr ir.Conv) gradientCase {
		return one(name, func(g *ir.Graph, n int) *ir.Tensor {
			return ir.Conv2D(input(g, "x", n, c, h, w), g.Param("w", o, c, k, k), g.Param("b", o), attr)
		})
	}
	attention := func(name string, tq, tk, c, heads int) gradientCase {
		return one(name, func(g *ir.Graph, n int) *ir.Tensor {
			return ir.Attention(input(g, "xq", n, tq, c), input(g, "xk", n, tk, c), input(g, "xv", n, tk, c), heads, 0.3)
		})
	}
	cases := []gradientCase{
		convolution("convolution 3x3", 33, 20, 9, 11, 3, ir.Same(3)),
		convolution("convolution 3x3, wide", 64, 48, 16, 16, 3, ir.Same(3)),
		convolution("convolution of three channels", 3, 16, 8, 8, 3, ir.Same(3)),
		convolution("convolution to three channels", 16, 3, 8, 8, 3, ir.Same(3)),
		convolution("convolution 1x1", 40, 24, 5, 7, 1, ir.Same(1)),
		convolution("convolution 1x1 with stride", 16, 24, 7, 6, 1, ir.Conv{Stride: 2}),
		convolution("convolution with stride 2", 16, 24, 8, 10, 3, ir.Conv{Stride: 2, Bottom: 1, Right: 1}),
		convolution("convolution 4x4 with stride 2", 3, 8, 16, 12, 4, ir.Conv{Stride: 2, Top: 1, Left: 1, Bottom: 1, Right: 1}),
		convolution("convolution 4x4", 16, 1, 7, 9, 4, ir.Conv{Stride: 1, Top: 1, Left: 1, Bottom: 1, Right: 1}),
		one("convolution of a doubled image", func(g *ir.Graph, n int) *ir.Tensor {
			return conv(g, ir.Upsample2(input(g, "x", n, 24, 6, 5)), "c", 20, 3, ir.Same(3))
		}),
		one("two uses of a weight", func(g *ir.Graph, n int) *ir.Tensor {
			x := input(g, "x", n, 16, 6, 6)
			w := g.Param("w", 16, 16, 3, 3)
			return ir.Conv2D(ir.SiLU(ir.Conv2D(x, w, nil, ir.Same(3))), w, g.Param("b", 16), ir.Same(3))
		}),
		one("linear", func(g *ir.Graph, n int) *ir.Tensor { return linear(g, input(g, "x", n, 5, 24), "l", 40) }),
		one("linear of rank 2", func(g *ir.Graph, n int) *ir.Tensor { return linear(g, input(g, "x", n, 24), "l", 7) }),
		one("linear stored as a convolution", func(g *ir.Graph, n int) *ir.Tensor {
			return ir.Linear(input(g, "x", n, 5, 24), g.Param("w", 16, 24, 1, 1), nil)
		}),
		one("group norm", func(g *ir.Graph, n int) *ir.Tensor { return group(g, input(g, "x", n, 32, 6, 5), "n", 8) }),
		one("group norm and silu", func(g *ir.Graph, n int) *ir.Tensor {
			return ir.SiLU(group(g, ir.Scale(input(g, "x", n, 32, 6, 5), 2), "n", 8))
		}),
		one("group norm, modulation and silu", func(g *ir.Graph, n int) *ir.Tensor {
			return ir.SiLU(ir.Modulate(group(g, input(g, "x", n, 32, 6, 5), "n", 8), input(g, "xs", n, 64)))
		}),
		one("layer norm", func(g *ir.Graph, n int) *ir.Tensor { return layer(g, input(g, "x", n, 5, 24), "n") }),
		one("batch norm", func(g *ir.Graph, n int) *ir.Tensor {
			return ir.LeakyReLU(ir.BatchNorm(input(g, "x", n, 12, 6, 5), g.Param("g", 12), g.Param("b", 12), 1e-5), 0.2)
		}),
		one("batch norm and silu", func(g *ir.Graph, n int) *ir.Tensor {
			return ir.SiLU(ir.BatchNorm(input(g, "x", n, 12, 6, 5), g.Param("g", 12), g.Param("b", 12), 1e-5))
		}),
		attention("attention", 9, 9, 32, 2), attention("attention to a context", 12, 5, 24, 3), attention("attention to one token", 6, 1, 16, 1),
		unary("fused attention, old order", func(x *ir.Tensor) *ir.Tensor { return ir.QKVAttention(x, 2, true, 0.4) }, 10, 48),
		unary("fused attention, new order", func(x *ir.Tensor) *ir.Tensor { return ir.QKVAttention(x, 2, false, 0.4) }, 10, 48),
		unary("silu", ir.SiLU, 7, 5), unary("gelu", ir.GELU, 7, 5), unary("geglu", ir.GEGLU, 7, 32), unary("relu", ir.ReLU, 7, 5),
		unary("leaky relu", func(x *ir.Tensor) *ir.Tensor { return ir.LeakyReLU(x, 0.2) }, 7, 5),
		unary("abs", ir.Abs, 7, 5), unary("square", ir.Square, 7, 5), unary("exp", ir.Exp, 7, 5), unary("softplus", ir.Softplus, 7, 5),
		unary("reciprocal", func(x *ir.Tensor) *ir.Tensor { return ir.Reciprocal(ir.Offset(ir.Square(x), 0.5)) }, 7, 5),
		unary("sums", func(x *ir.Tensor) *ir.Tensor { return ir.ScaleBy(ir.SampleSum(ir.Square(x)), ir.Mean(x)) }, 4, 3, 2),
		unary("mean square", func(x *ir.Tensor) *ir.Tensor { return ir.MeanSquare(x, ir.Scale(ir.Detach(x), 0.5)) }, 4, 3),
		unary("doubling and averages", func(x *ir.Tensor) *ir.Tensor { return ir.AvgPool3(ir.SiLU(ir.AvgPool2(ir.Upsample2(ir.Upsample2(x))))) }, 6, 3, 5),
		unary("largest", func(x *ir.Tensor) *ir.Tensor { return ir.MaxPool(x, ir.Pool{Kernel: 3, Stride: 2, Pad: 1}) }, 6, 9, 7),
		unary("pixel mean", ir.PixelMean, 6, 3, 5),
		unary("slices", func(x *ir.Tensor) *ir.Tensor {
			return ir.Add(ir.SliceLast(ir.Tokens(ir.SliceChannels(x, 1, 9)), 2, 5), ir.SliceLast(ir.Tokens(x), 6, 9))
		}, 10, 3, 4),
		one("concatenation", func(g *ir.Graph, n int) *ir.Tensor {
			x, y := input(g, "x", n, 4, 3, 3), input(g, "xy", n, 6, 3, 3)
			return ir.Concat(x, ir.SiLU(y), x)
		}),
		one("rows and channels", func(g *ir.Graph, n int) *ir.Tensor {
			x := ir.AddChannels(input(g, "x", n, 8, 3, 4), input(g, "xt", n, 8))
			x = ir.ScaleChannels(ir.ShiftChannels(x, g.Param("shift", 1, 8, 1, 1)), g.Param("scale", 8))
			return ir.AddRows(ir.AddRows(ir.Tokens(x), g.Param("p", 12, 8)), ir.SliceLast(input(g, "xp", 12, 9), 1, 9))
		}),
		one("words", func(g *ir.Graph, n int) *ir.Tensor { return ir.Embed(g.Input("ids", n, 9), g.Param("table", 11, 8)) }),
		one("map of words", func(g *ir.Graph, n int) *ir.Tensor { return ir.Embed(g.Input("ids", n, 3, 4), g.Param("table", 11, 8)) }),
		one("sample of a gaussian", func(g *ir.Graph, n int) *ir.Tensor {
			m := input(g, "x", n, 6, 3, 4)
			return ir.Add(ir.GaussianSample(m, g.Input("noise", n, 3, 3, 4)), ir.GaussianMode(m))
		}),
		unary("divergence of a gaussian", ir.GaussianKL, 6, 3, 4),
		one("quantised", func(g *ir.Graph, n int) *ir.Tensor {
			return ir.SiLU(ir.Quantize(ir.SiLU(input(g, "x", n, 3, 4, 4)), g.Param("book", 9, 3)))
		}, "book"),
		one("unit distance", func(g *ir.Graph, n int) *ir.Tensor {
			return ir.UnitDistance(input(g, "x", n, 6, 3, 4), input(g, "xb", n, 6, 3, 4), g.Param("w", 1, 6, 1, 1), 1e-3)
		}, "w"),
		one("cross-entropy", func(g *ir.Graph, n int) *ir.Tensor {
			return ir.Mean(ir.CrossEntropy(ir.Scale(input(g, "x", n, 11), 3), g.Input("ids", n)))
		}),
		one("parameters as data", func(g *ir.Graph, n int) *ir.Tensor {
			w := g.Param("w", 4, 6, 3, 3)
			y := ir.Conv2D(input(g, "x", n, 6, 5, 5), w, nil, ir.Same(3))
			logvar := ir.Sum(g.Param("logvar", 1))
			return ir.Add(ir.ScaleBy(ir.Mean(ir.Abs(y)), ir.Exp(ir.Scale(logvar, -1))), logvar, ir.Scale(ir.Dot(w, ir.SiLU(w)), 0.1))
		}),
		{network{"ratio of norms", func(g *ir.Graph, n int) []*ir.Tensor {
			x := input(g, "x", n, 6, 4, 4)
			y := conv(g, x, "c", 4, 3, ir.Same(3))
			ratio := ir.NormRatio(y, ir.BatchMoments(x), 1e-4, 1e4)
			given := ir.BatchNormGiven(x, g.Param("g", 6), g.Param("b", 6), g.Param("mean", 6), g.Param("weight", 6), 1e-5)
			return []*ir.Tensor{ir.ScaleBy(ir.Mean(ir.Square(y)), ratio), ir.Detach(ir.Mean(given))}
		}}, []string{"g", "b", "mean", "weight"}},
	}
	for _, nw := range networks {
		switch nw.name {
		case "codes", "moments":
		default:
			cases = append(cases, gradientCase{nw, nil})
		}
	}
	return cases
}

// trained is a source of parameters that change.
type trained struct {
	memory
	grads   map[string][]float32
	version map[string]uint64
	empty   map[string]bool
}

func newTrained(w memory) *trained {
	t := &trained{w, map[string][]float32{}, map[string]uint64{}, map[string]bool{}}
	for name, v := range w {
		t.grads[name], t.version[name], t.empty[name] = make([]float32, len(v)), 1, true
	}
	return t
}

func (t *trained) View(name string) ([]float32, bool) { v, ok := t.memory[name]; return v, ok }
func (t *trained) Version(name string) uint64         { return t.version[name] }
func (t *trained) Gradient(name string) []float32     { return t.grads[name] }
func (t *trained) StartGradient(name string) (first bool) {
	first = t.empty[name]
	t.empty[name] = false
	return first
}

// differentiate builds the graph of a case: its outputs, then gradients by inputs, then gradients by the named parameters.
func (c gradientCase) differentiate(t testing.TB, n int) (prog *ir.Program, params []string) {
	t.Helper()
	g := ir.New(c.name)
	var outs []*ir.Tensor
	var err error
	if e := ir.Build(func() {
		outs = c.build(g, n)
		var cost *ir.Tensor
		for i, o := range outs {
			if len(o.Shape()) > 0 {
				o = ir.Dot(o, g.Input(fmt.Sprint("seed", i), o.Shape()...))
			}
			if cost == nil {
				cost = o
			} else {
				cost = ir.Add(cost, o)
			}
		}
		forward, e := g.Program(cost)
		if e != nil {
			err = e
			return
		}
		var inputs, leaves []*ir.Tensor
		for _, n := range forward.Nodes {
			switch {
			case n.Leaf == ir.InputLeaf && differentiable[g][n.Name] != nil:
				inputs = append(inputs, differentiable[g][n.Name])
			case n.Leaf == ir.ParamLeaf && !slices.Contains(c.skip, n.Name):
				leaves = append(leaves, g.Param(n.Name, n.Shape...))
				params = append(params, n.Name)
			}
		}
		grads, e := ir.Grad(cost, append(inputs, leaves...)...)
		if e != nil {
			err = e
			return
		}
		prog, err = g.Program(append(outs, grads...)...)
	}); e != nil {
		t.Fatal(e)
	}
	if err != nil {
		t.Fatal(err)
	}
	return prog, params
}

// newGradientProblem makes a case with weights and inputs, whose plan adds gradients up.
func newGradientProblem(t testing.TB, c gradientCase, n int, budget int64) *problem {
	t.Helper()
	prog, params := c.differentiate(t, n)
	p, err := plan.LowerFor(prog, plan.Options{Gradients: params, Budget: budget})
	if err != nil {
		t.Fatal(err)
	}
	return newProblemOf(prog, p)
}

// runGradient executes a plan and returns its outputs and then the gradients, in the order of the program.
func (pr *problem) runGradient(t testing.TB, b *Backend) [][]float32 {
	t.Helper()
	source := newTrained(pr.weights)
	m := b.NewModel(source)
	defer m.Close()
	x, err := m.Compile(pr.plan)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	var in, out [][]float32
	for _, v := range pr.plan.Inputs {
		in = append(in, pr.feed[v.Name])
	}
	for _, v := range pr.plan.Outputs {
		out = append(out, make([]float32, v.Elems()))
	}
	run := func() [][]float32 {
		if err := x.Run(in, out); err != nil {
			t.Fatal(err)
		}
		var all [][]float32
		for _, o := range out {
			all = append(all, slices.Clone(o))
		}
		for _, g := range pr.plan.Gradients {
			all = append(all, slices.Clone(source.grads[g.Name]))
		}
		return all
	}
	first := run()
	for name := range source.empty { // as after a step of the optimiser, with whatever the gradients held
		source.empty[name] = true
		source.version[name]++
	}
	if !same(run(), first) {
		t.Errorf("a second run gives other results")
	}
	again := run() // adds
	for i := len(out); i < len(again); i++ {
		for j, v := range again[i] {
			if v != 2*first[i][j] {
				t.Fatalf("gradient of %s: value %d is %g after two runs, %g after one", pr.plan.Gradients[i-len(out)].Name, j, v, first[i][j])
			}
		}
	}
	return first
}

func same(a, b [][]float32) bool {
	return slices.EqualFunc(a, b, func(x, y []float32) bool { return slices.Equal(x, y) })
}

// TestGradients compares every kind of gradient on every instruction set with the graph's plain evaluation, and proves that the number of
// threads does not change a bit.
func TestGradients(t *testing.T) {
	covered := map[ir.Kind]bool{}
	for _, c := range gradientCases() {
		pr := newGradientProblem(t, c, 2, 0)
		for _, n := range pr.prog.Nodes {
			covered[n.Op.Kind] = true
		}
		want := pr.reference(t)
		for _, isa := range kernel.Available() {
			if len(pr.prog.Nodes) > 200 && isa != kernel.Detect() {
				continue // slow, and made of what the small cases have
			}
			t.Run(fmt.Sprintf("%s/%v", c.name, isa), func(t *testing.T) {
				got := pr.runGradient(t, open(t, Options{Threads: 2, ISA: isa}))
				if len(got) != len(want) {
					t.Fatalf("%d outputs, want %d", len(got), len(want))
				}
				outputs := len(pr.plan.Outputs)
				for i := range want {
					what := fmt.Sprint("output ", i)
					if i >= outputs {
						what = "gradient of " + pr.plan.Gradients[i-outputs].Name
					}
					if slices.Equal(got[i], want[i]) {
						continue // both zero, for instance
					}
					if e := golden.RelL2(got[i], want[i]); !(e <= 2e-5) {
						t.Errorf("%s: relative L2 error %.2e", what, e)
					}
				}
				for _, threads := range []int{1, 3} {
					if !same(pr.runGradient(t, open(t, Options{Threads: threads, ISA: isa})), got) {
						t.Errorf("%d threads give other bits than 2", threads)
					}
				}
			})
		}
	}
	for _, nw := range networks {
		for _, n := range newProblem(t, nw, 1).prog.Nodes {
			covered[n.Op.Kind] = true
		}
	}
	for _, k := range ir.Kinds() {
		if !covered[k] {
			t.Errorf("no test has operation %s", k)
		}
	}
}

// TestRecompute lowers the arena by computing values again, which must not change a bit.
func TestRecompute(t *testing.T) {
	for _, c := range gradientCases() {
		if c.name != "seven tokens, scale-shift" && c.name != "one token" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			b := open(t, Options{Threads: 2, ISA: kernel.Detect()})
			whole := newGradientProblem(t, c, 2, 0)
			want := whole.runGradient(t, b)
			arena, steps := int64(4*whole.plan.ArenaElems), len(whole.plan.Steps)
			for _, percent := range []int64{60, 1} {
				budget := arena * percent / 100
				pr := newGradientProblem(t, c, 2, budget)
				size := int64(4 * pr.plan.ArenaElems)
				t.Logf("budget %d%%: arena %d%% of %d bytes, %d steps for %d", percent, 100*size/arena, arena, len(pr.plan.Steps), steps)
				switch {
				case percent >= 60 && size > budget:
					t.Errorf("a budget of %d%% gives an arena of %d bytes, %d without", percent, size, arena)
				case size >= arena*3/5+arena/100:
					if percent < 60 {
						t.Errorf("the smallest arena is %d bytes, %d without a budget", size, arena)
					}
				}
				if !same(pr.runGradient(t, b), want) {
					t.Errorf("a budget of %d%% changes bits", percent)
				}
			}
		})
	}
}
