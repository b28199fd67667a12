package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// memory is a weight source over arrays.
type memory map[string][]float32

func (m memory) Load(name string, dst []float32) error {
	w, ok := m[name]
	if !ok || len(w) != len(dst) {
		return fmt.Errorf("have %d values, want %d", len(w), len(dst))
	}
	copy(dst, w)
	return nil
}
func (m memory) View(name string) ([]float32, bool) { return nil, false }
func (m memory) Release(name string)                {}

// network is a graph under test with the sizes of its inputs.
type network struct {
	name  string
	build func(g *ir.Graph, n int) []*ir.Tensor
}

// param and norm shorten graph building.
func conv(g *ir.Graph, x *ir.Tensor, name string, out, k int, c ir.Conv) *ir.Tensor {
	in := x.Shape()[1]
	return ir.Conv2D(x, g.Param(name+".weight", out, in, k, k), g.Param(name+".bias", out), c)
}

func linear(g *ir.Graph, x *ir.Tensor, name string, out int) *ir.Tensor {
	s := x.Shape()
	return ir.Linear(x, g.Param(name+".weight", out, s[len(s)-1]), g.Param(name+".bias", out))
}

func group(g *ir.Graph, x *ir.Tensor, name string, groups int) *ir.Tensor {
	c := x.Shape()[1]
	return ir.GroupNorm(x, g.Param(name+".weight", c), g.Param(name+".bias", c), groups, 1e-5)
}

func layer(g *ir.Graph, x *ir.Tensor, name string) *ir.Tensor {
	s := x.Shape()
	c := s[len(s)-1]
	return ir.LayerNorm(x, g.Param(name+".weight", c), g.Param(name+".bias", c), 1e-5)
}

func proj(g *ir.Graph, x *ir.Tensor, name string, out int) *ir.Tensor {
	s := x.Shape()
	return ir.Linear(x, g.Param(name, out, s[len(s)-1]), nil)
}

// block is a transformer block: self-attention, attention to a context, GEGLU.
func block(g *ir.Graph, x, ctx *ir.Tensor, name string, heads int) *ir.Tensor {
	c := x.Shape()[2]
	d := math.Pow(float64(c/heads), -0.5)
	attend := func(x, kv *ir.Tensor, name string) *ir.Tensor {
		a := ir.Attention(proj(g, x, name+".q", c), proj(g, kv, name+".k", c), proj(g, kv, name+".v", c), heads, d)
		return linear(g, a, name+".out", c)
	}
	h := layer(g, x, name+".norm1")
	x = ir.Add(attend(h, h, name+".attn1"), x)
	x = ir.Add(attend(layer(g, x, name+".norm2"), ctx, name+".attn2"), x)
	f := ir.GEGLU(linear(g, layer(g, x, name+".norm3"), name+".ff1", 8*c))
	return ir.Add(linear(g, f, name+".ff2", c), x)
}

// res is a residual block with a time embedding.
func res(g *ir.Graph, x, emb *ir.Tensor, name string, out int, shift bool) *ir.Tensor {
	h := conv(g, ir.SiLU(group(g, x, name+".n1", 8)), name+".c1", out, 3, ir.Same(3))
	e := ir.SiLU(emb)
	if shift {
		h = ir.SiLU(ir.Modulate(group(g, h, name+".n2", 8), linear(g, e, name+".emb", 2*out)))
	} else {
		h = ir.SiLU(group(g, ir.AddChannels(h, linear(g, e, name+".emb", out)), name+".n2", 8))
	}
	h = conv(g, h, name+".c2", out, 3, ir.Same(3))
	if x.Shape()[1] != out {
		x = conv(g, x, name+".skip", out, 1, ir.Conv{Stride: 1})
	}
	return ir.Add(x, h)
}

func unet(ctxTokens, width, heads int, shift bool, h, w int) func(g *ir.Graph, n int) []*ir.Tensor {
	return func(g *ir.Graph, n int) []*ir.Tensor {
		x, t := g.Input("x", n, 3, h, w), g.Input("t", n)
		ctx := g.Input("context", n, ctxTokens, 20)
		emb := linear(g, ir.SiLU(linear(g, ir.TimeEmbedding(t, width), "t1", 4*width)), "t2", 4*width)
		a := conv(g, x, "in", width, 3, ir.Same(3))
		b := res(g, a, emb, "b", width, shift)
		tok := block(g, proj(g, ir.Tokens(group(g, b, "st.norm", 8)), "st.in", width), ctx, "st", heads)
		b = ir.Add(ir.Untokens(linear(g, tok, "st.out", width), h, w), b)
		d := conv(g, b, "down", width, 3, ir.Conv{Stride: 2, Top: 1, Left: 1, Bottom: 1, Right: 1})
		d = res(g, d, emb, "d", 2*width, shift)
		q := ir.Tokens(group(g, d, "qkv.norm", 8))
		at := ir.QKVAttention(linear(g, q, "qkv", 6*width), heads, !shift, math.Pow(float64(2*width/heads), -0.5))
		d = ir.Add(d, ir.Untokens(linear(g, at, "qkv.out", 2*width), (h+1)/2, (w+1)/2))
		if h%2 == 0 && w%2 == 0 {
			d = conv(g, ir.Upsample2(d), "up", width, 3, ir.Same(3))
			b = res(g, ir.Concat(d, b), emb, "u", width, shift)
		}
		return []*ir.Tensor{conv(g, ir.SiLU(group(g, b, "out.norm", 8)), "out", 3, 3, ir.Same(3)), d}
	}
}

// branches is a block of an Inception: products, a large kernel, averages and maxima side by side.
func branches(c, h, w int) func(g *ir.Graph, n int) []*ir.Tensor {
	return func(g *ir.Graph, n int) []*ir.Tensor {
		relu := func(x *ir.Tensor, name string, out, k int) *ir.Tensor {
			return ir.ReLU(conv(g, x, name, out, k, ir.Same(k)))
		}
		x := relu(g.Input("x", n, 3, h, w), "stem", c, 1)
		x = ir.Concat(relu(x, "a", c, 1), relu(relu(x, "b1", c/2, 1), "b2", c/2, 3), relu(ir.AvgPool3(x), "c", c/4, 1),
			ir.MaxPool(x, ir.Pool{Kernel: 3, Stride: 1, Pad: 1}))
		return []*ir.Tensor{ir.PixelMean(relu(x, "last", c, 1)), ir.MaxPool(x, ir.Pool{Kernel: 2, Stride: 2})}
	}
}

var networks = []network{
	{"branches", branches(40, 18, 17)},
	{"one token", unet(1, 32, 2, false, 16, 16)},
	{"seven tokens, scale-shift", unet(7, 32, 4, true, 12, 20)},
	{"odd sizes", unet(3, 24, 1, false, 9, 7)},
	{"codes", func(g *ir.Graph, n int) []*ir.Tensor {
		z := g.Input("z", n, 3, 5, 6)
		cb := g.Param("codebook", 37, 3)
		q := ir.Quantize(z, cb)
		return []*ir.Tensor{ir.CodeIndex(z, cb), conv(g, q, "post", 5, 1, ir.Conv{Stride: 1})}
	}},
	{"gaussian", func(g *ir.Graph, n int) []*ir.Tensor {
		x := g.Input("x", n, 5, 8, 6)
		m := conv(g, ir.AvgPool2(x), "m", 6, 4, ir.Conv{Stride: 1, Top: 1, Left: 2, Bottom: 2, Right: 1})
		s := ir.GaussianSample(m, g.Input("noise", n, 3, 4, 3))
		return []*ir.Tensor{s, ir.GaussianMode(m), ir.Scale(ir.SliceChannels(x, 1, 4), 0.25)}
	}},
	{"moments", func(g *ir.Graph, n int) []*ir.Tensor {
		x := conv(g, g.Input("x", n, 3, 12, 80), "in", 24, 3, ir.Same(3))
		m := ir.GroupMoments(x, g.Input("window", n, 4), 8)
		y := ir.GroupNormGiven(x, g.Param("n.weight", 24), g.Param("n.bias", 24), m, 8, 1e-5)
		pooled := ir.PoolMoments(m, g.Input("weight", n), 1)
		return []*ir.Tensor{conv(g, ir.SiLU(y), "out", 3, 3, ir.Same(3)), ir.Scale(pooled, 2)}
	}},
	{"rectified", func(g *ir.Graph, n int) []*ir.Tensor {
		x := ir.ReLU(conv(g, g.Input("x", n, 3, 13, 18), "in", 24, 3, ir.Conv{Stride: 2}))
		y := ir.MaxPool(ir.ReLU(conv(g, x, "row", 20, 1, ir.Same(1))), ir.Pool{Kernel: 3, Stride: 2, Pad: 1})
		r := ir.ReLU(ir.Add(conv(g, ir.AvgPool3(x), "same", 24, 3, ir.Same(3)), x))
		return []*ir.Tensor{ir.PixelMean(y), r, ir.MaxPool(ir.Concat(r, x), ir.Pool{Kernel: 2, Stride: 1})}
	}},
	{"words", func(g *ir.Graph, n int) []*ir.Tensor {
		ids := g.Input("ids", n, 9)
		x := ir.AddRows(ir.Embed(ids, g.Param("table", 11, 16)), g.Param("pos", 9, 16))
		x = ir.Add(ir.GELU(linear(g, layer(g, x, "n"), "l", 16)), x)
		return []*ir.Tensor{x, ir.SliceLast(x, 3, 10)}
	}},
}

// inferred are the networks without gradients: the others, and one whose batches go in parts.
var inferred = append(slices.Clone(networks), network{"branches of large images", branches(4, 400, 410)})

// problem is a network with weights and inputs.
type problem struct {
	prog    *ir.Program
	plan    *plan.Plan
	weights memory
	feed    map[string][]float32
}

func newProblem(t testing.TB, nw network, n int) *problem {
	t.Helper()
	g := ir.New(nw.name)
	var outs []*ir.Tensor
	if err := ir.Build(func() { outs = nw.build(g, n) }); err != nil {
		t.Fatal(err)
	}
	prog, err := g.Program(outs...)
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Lower(prog)
	if err != nil {
		t.Fatal(err)
	}
	return newProblemOf(prog, p)
}

// newProblemOf makes up weights and inputs.
func newProblemOf(prog *ir.Program, p *plan.Plan) *problem {
	pr := &problem{prog: prog, plan: p, weights: memory{}, feed: map[string][]float32{}}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, node := range prog.Nodes {
		if node.Leaf == ir.NotLeaf {
			continue
		}
		size, fan := 1, 1
		for i, d := range node.Shape {
			size *= d
			if i > 0 {
				fan *= d
			}
		}
		v := make([]float32, size)
		for i := range v {
			v[i] = float32(rnd.NormFloat64() / math.Sqrt(float64(fan)))
			switch {
			case node.Leaf == ir.InputLeaf && node.Name == "t":
				v[i] = float32(rnd.IntN(1000))
			case node.Name == "window":
				v[i] = []float32{0.25, 0.0625, 1, 0.99, 0, 0.5, 0.5, 0.75}[i%8]
			case node.Name == "weight":
				v[i] = 0.5 + float32(rnd.Float64())
			case node.Name == "ids":
				v[i] = float32(rnd.IntN(11))
			case node.Leaf == ir.InputLeaf || len(node.Shape) == 1:
				v[i] = float32(rnd.NormFloat64())
			}
		}
		pr.feed[node.Name] = v
		if node.Leaf == ir.ParamLeaf {
			pr.weights[node.Name] = v
		}
	}
	return pr
}

// run executes the plan with the first n samples of the inputs.
func (pr *problem) run(t testing.TB, b *Backend) [][]float32 {
	t.Helper()
	m := b.NewModel(pr.weights)
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
	for range 2 { // the second run must not depend on what the first left in the arena
		for _, o := range out {
			clear(o)
		}
		if err := x.Run(in, out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func open(t testing.TB, o Options) *Backend {
	t.Helper()
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// reference evaluates the program in float64.
func (pr *problem) reference(t testing.TB) [][]float32 {
	t.Helper()
	feed64 := map[string][]float64{}
	for k, v := range pr.feed {
		for _, x := range v {
			feed64[k] = append(feed64[k], float64(x))
		}
	}
	ref, err := ir.Evaluate(pr.prog, feed64)
	if err != nil {
		t.Fatal(err)
	}
	want := make([][]float32, len(ref))
	for i, r := range ref {
		for _, x := range r {
			want[i] = append(want[i], float32(x))
		}
	}
	return want
}

// TestAgainstReference compares every network on every instruction set with the graph's plain evaluation.
func TestAgainstReference(t *testing.T) {
	for _, nw := range inferred {
		pr := newProblem(t, nw, 2)
		want := pr.reference(t)
		for _, isa := range kernel.Available() {
			for _, prec := range []kernel.Precision{kernel.FP32, kernel.Mixed} {
				if prec == kernel.Mixed && !isa.BF16() {
					continue
				}
				t.Run(fmt.Sprintf("%s/%v/%v", nw.name, isa, prec), func(t *testing.T) {
					got := pr.run(t, open(t, Options{Threads: 2, ISA: isa, Precision: prec}))
					tol := 1e-5
					if prec == kernel.Mixed {
						tol = 2e-2
					}
					for i := range want {
						if e := golden.RelL2(got[i], want[i]); !(e <= tol) {
							t.Errorf("output %d: relative L2 error %.2e, tolerance %.0e", i, e, tol)
						}
					}
				})
			}
		}
	}
}

// TestDeterminism proves that neither the number of threads nor the batch nor the position in it changes a bit.
func TestDeterminism(t *testing.T) {
	for _, isa := range kernel.Available() {
		for _, nw := range inferred {
			t.Run(fmt.Sprintf("%v/%s", isa, nw.name), func(t *testing.T) {
				whole := newProblem(t, nw, 3)
				want := whole.run(t, open(t, Options{Threads: 1, ISA: isa}))
				for _, threads := range []int{2, 3} {
					for i, o := range whole.run(t, open(t, Options{Threads: threads, ISA: isa})) {
						if !slices.Equal(o, want[i]) {
							t.Errorf("output %d differs with %d threads", i, threads)
						}
					}
				}
				one := newProblem(t, nw, 1)
				b := open(t, Options{Threads: 2, ISA: isa})
				for s := range 3 {
					one.weights = whole.weights
					for _, v := range one.plan.Inputs {
						n := v.Elems()
						one.feed[v.Name] = whole.feed[v.Name][s*n : (s+1)*n]
					}
					for i, o := range one.run(t, b) {
						if !slices.Equal(o, want[i][s*len(o):(s+1)*len(o)]) {
							t.Errorf("output %d of sample %d differs when it is alone", i, s)
						}
					}
				}
			})
		}
	}
}

// TestArenas runs plans in turns: a small one, a large one, and another small one, which takes the memory of the large one. The pages
// of the large arena go when a plan runs elsewhere, and results stay.
func TestArenas(t *testing.T) {
	small := func(g *ir.Graph, n int) []*ir.Tensor { return []*ir.Tensor{ir.SiLU(g.Input("x", n, 4))} }
	wide := func(g *ir.Graph, n int) []*ir.Tensor {
		x := ir.Upsample2(ir.Upsample2(ir.Upsample2(g.Input("x", n, 1, 512, 512))))
		return []*ir.Tensor{ir.AvgPool2(ir.AvgPool2(ir.AvgPool2(ir.SiLU(x))))}
	}
	larger := func(g *ir.Graph, n int) []*ir.Tensor { return []*ir.Tensor{ir.SiLU(g.Input("x", n, 400))} }
	b := open(t, Options{Threads: 2, ISA: kernel.Detect()})
	var xs []*Executable
	var in, want [][]float32
	m := b.NewModel(memory{})
	defer m.Close()
	for i, build := range []func(g *ir.Graph, n int) []*ir.Tensor{small, wide, larger} {
		pr := newProblem(t, network{fmt.Sprint(i), build}, 1)
		x, err := m.Compile(pr.plan)
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		xs, in, want = append(xs, x.(*Executable)), append(in, pr.feed["x"]), append(want, make([]float32, pr.plan.Outputs[0].Elems()))
		if err := x.Run(in[i:], want[i:]); err != nil {
			t.Fatal(err)
		}
	}
	if s, l := len(xs[0].arena.data), len(xs[1].arena.data); s >= largeArena || l < largeArena {
		t.Fatalf("arenas of %d and %d", s, l)
	}
	if xs[2].arena != xs[1].arena || len(b.arenas) != 2 {
		t.Errorf("%d arenas for three plans of which the last fits where the second runs", len(b.arenas))
	}
	for i := range 7 {
		k := i % 3
		got := make([]float32, len(want[k]))
		if err := xs[k].Run(in[k:k+1], [][]float32{got}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want[k]) {
			t.Errorf("run %d gives another result", i)
		}
	}
	if runtime.GOOS == "linux" {
		for i, v := range xs[1].arena.data {
			if v != 0 {
				t.Fatalf("the arena that no plan runs in holds %g at %d", v, i)
			}
		}
	}
	xs[1].Close()
	if len(b.arenas) != 2 {
		t.Errorf("%d arenas while a plan uses the large one", len(b.arenas))
	}
	xs[2].Close()
	if len(b.arenas) != 1 {
		t.Errorf("%d arenas for one plan", len(b.arenas))
	}
}

func TestErrors(t *testing.T) {
	if _, err := Open(Options{Threads: 1, ISA: kernel.Generic, Precision: kernel.Mixed}); err == nil {
		t.Error("mixed precision without bf16 must be an error")
	}
	pr := newProblem(t, networks[0], 1)
	b := open(t, Options{Threads: 1, ISA: kernel.Generic})
	m := b.NewModel(memory{})
	defer m.Close()
	if _, err := m.Compile(pr.plan); err == nil {
		t.Error("a missing weight must be an error")
	}
	full := b.NewModel(pr.weights)
	defer full.Close()
	x, err := full.Compile(pr.plan)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if err := x.Run(nil, nil); err == nil {
		t.Error("missing inputs must be an error")
	}
}
