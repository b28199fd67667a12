package ir

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// gradientCase builds an expression whose gradient is compared with central differences, for every leaf that has one.
type gradientCase struct {
	name   string
	build  func(g *Graph) *Tensor
	values map[string][]float64 // leaf values; others are normal
	skip   []string             // leaves without a gradient
	steps  bool                 // the function is a staircase: central differences do not apply
}

func gradientCases() []gradientCase {
	unary := func(name string, f func(*Tensor) *Tensor, shape ...int) gradientCase {
		return gradientCase{name: name, build: func(g *Graph) *Tensor { return f(g.Input("x", shape...)) }}
	}
	conv := func(name string, o Conv, bias bool, x, w []int) gradientCase {
		return gradientCase{name: name, build: func(g *Graph) *Tensor {
			var b *Tensor
			if bias {
				b = g.Param("b", w[0])
			}
			return Conv2D(g.Input("x", x...), g.Param("w", w...), b, o)
		}}
	}
	lin := func(name string, bias bool, x, w []int) gradientCase {
		return gradientCase{name: name, build: func(g *Graph) *Tensor {
			var b *Tensor
			if bias {
				b = g.Param("b", w[0])
			}
			return Linear(g.Input("x", x...), g.Param("w", w...), b)
		}}
	}
	att := func(name string, n, tq, tk, c, heads int) gradientCase {
		return gradientCase{name: name, build: func(g *Graph) *Tensor {
			return Attention(g.Input("q", n, tq, c), g.Input("k", n, tk, c), g.Input("v", n, tk, c), heads, 0.7)
		}}
	}
	binary := func(name string, f func(a, b *Tensor) *Tensor, a, b []int) gradientCase {
		return gradientCase{name: name, build: func(g *Graph) *Tensor { return f(g.Input("a", a...), g.Input("b", b...)) }}
	}
	return []gradientCase{
		conv("conv 3x3", Same(3), true, []int{2, 3, 5, 7}, []int{4, 3, 3, 3}),
		conv("conv 3x3 no bias, one pixel", Same(3), false, []int{1, 2, 1, 1}, []int{3, 2, 3, 3}),
		conv("conv 1x1", Same(1), true, []int{2, 5, 3, 2}, []int{3, 5, 1, 1}),
		conv("conv 3x3 stride 2, pad bottom right", Conv{Stride: 2, Bottom: 1, Right: 1}, true, []int{2, 3, 6, 9}, []int{2, 3, 3, 3}),
		conv("conv 3x3 stride 2, pad 1, odd", Conv{2, 1, 1, 1, 1}, true, []int{1, 1, 7, 5}, []int{3, 1, 3, 3}),
		conv("conv 4x4 stride 2", Conv{2, 1, 1, 1, 1}, false, []int{1, 3, 8, 6}, []int{2, 3, 4, 4}),
		conv("conv 4x4 stride 1", Conv{1, 1, 1, 1, 1}, true, []int{1, 3, 5, 6}, []int{2, 3, 4, 4}),
		conv("conv 2x3 stride 3, uneven pads", Conv{3, 2, 0, 1, 4}, true, []int{2, 2, 5, 4}, []int{3, 2, 2, 3}),
		conv("conv padding beyond the kernel", Conv{1, 4, 3, 4, 5}, true, []int{1, 2, 2, 3}, []int{1, 2, 3, 3}),
		lin("linear rank 2", true, []int{5, 3}, []int{4, 3}),
		lin("linear rank 3 no bias", false, []int{2, 3, 5}, []int{7, 5}),
		lin("linear by 1x1 kernel of rank 4", true, []int{2, 11, 5}, []int{3, 5, 1, 1}),
		lin("linear by 1x1 kernel of rank 3", true, []int{1, 1, 1}, []int{1, 1, 1}),
		{name: "group norm", build: func(g *Graph) *Tensor {
			return GroupNorm(g.Input("x", 2, 6, 3, 5), g.Param("g", 6), g.Param("b", 6), 3, 1e-5)
		}},
		{name: "group norm, one group", build: func(g *Graph) *Tensor {
			return GroupNorm(g.Input("x", 2, 3, 2, 1), g.Param("g", 3), g.Param("b", 3), 1, 1e-6)
		}},
		{name: "layer norm", build: func(g *Graph) *Tensor {
			return LayerNorm(g.Input("x", 2, 3, 7), g.Param("g", 7), g.Param("b", 7), 1e-5)
		}},
		{name: "layer norm rank 2", build: func(g *Graph) *Tensor {
			return LayerNorm(g.Input("x", 5, 4), g.Param("g", 4), g.Param("b", 4), 1e-5)
		}},
		att("self-attention", 2, 5, 5, 6, 2), att("cross-attention", 2, 4, 3, 9, 3),
		att("attention to one token", 1, 3, 1, 4, 1), att("attention of heads of 1", 1, 2, 7, 3, 3),
		unary("fused attention, legacy order", func(x *Tensor) *Tensor { return QKVAttention(x, 2, true, 0.6) }, 2, 5, 18),
		unary("fused attention, new order", func(x *Tensor) *Tensor { return QKVAttention(x, 3, false, 1.3) }, 2, 3, 18),
		unary("silu", SiLU, 3, 5), unary("gelu", GELU, 2, 3, 4), unary("geglu", GEGLU, 2, 3, 10), unary("geglu rank 2", GEGLU, 3, 2),
		unary("scale", func(x *Tensor) *Tensor { return Scale(x, -1.7) }, 7),
		binary("add", func(a, b *Tensor) *Tensor { return Add(a, b, a, a) }, []int{2, 3}, []int{2, 3}),
		binary("add channels", AddChannels, []int{2, 3, 2, 5}, []int{2, 3}),
		binary("modulate", Modulate, []int{2, 3, 2, 5}, []int{2, 6}),
		binary("add rows", AddRows, []int{3, 2, 5}, []int{2, 5}),
		binary("concat", func(a, b *Tensor) *Tensor { return Concat(a, b, a) }, []int{2, 3, 2, 3}, []int{2, 1, 2, 3}),
		unary("slice channels", func(x *Tensor) *Tensor { return SliceChannels(x, 1, 4) }, 2, 5, 3, 2),
		unary("slice last", func(x *Tensor) *Tensor { return SliceLast(x, 2, 3) }, 2, 3, 5),
		unary("slice of a vector", func(x *Tensor) *Tensor { return SliceLast(x, 0, 4) }, 5),
		unary("upsample", Upsample2, 2, 3, 3, 5), unary("average pool", AvgPool2, 2, 3, 4, 6),
		unary("relu", ReLU, 3, 7), unary("average pool of 3x3", AvgPool3, 2, 3, 4, 5), unary("pixel mean", PixelMean, 2, 3, 4, 5),
		unary("max pool", func(x *Tensor) *Tensor { return MaxPool(x, Pool{3, 2, 0}) }, 2, 2, 7, 6),
		unary("max pool with padding", func(x *Tensor) *Tensor { return MaxPool(x, Pool{3, 1, 1}) }, 1, 3, 4, 5),
		unary("tokens", Tokens, 2, 3, 4, 5), unary("untokens", func(x *Tensor) *Tensor { return Untokens(x, 3, 4) }, 2, 12, 5),
		{
			name: "embed", skip: []string{"ids"}, values: map[string][]float64{"ids": {4, 0, 4, 2, 1, 4}},
			build: func(g *Graph) *Tensor { return Embed(g.Input("ids", 2, 3), g.Param("table", 5, 3)) },
		},
		{
			name: "embed classes", skip: []string{"ids"}, values: map[string][]float64{"ids": {1, 1}},
			build: func(g *Graph) *Tensor { return Embed(g.Input("ids", 2), g.Param("table", 2, 3)) },
		},
		{
			name: "gaussian sample", skip: []string{"noise"},
			build: func(g *Graph) *Tensor { return GaussianSample(g.Input("m", 2, 4, 3, 2), g.Input("noise", 2, 2, 3, 2)) },
		},
		{
			name: "gaussian sample, clamped", skip: []string{"noise"}, values: map[string][]float64{"m": {1, 2, 3, -40, 21, 0.5}},
			build: func(g *Graph) *Tensor { return GaussianSample(g.Input("m", 1, 2, 1, 3), g.Input("noise", 1, 1, 1, 3)) },
		},
		unary("gaussian mode", GaussianMode, 2, 6, 2, 3),
		{
			name: "quantize", skip: []string{"book"}, steps: true,
			build: func(g *Graph) *Tensor { return Quantize(g.Input("z", 2, 3, 2, 2), g.Param("book", 7, 3)) },
		},
		unary("leaky relu", func(x *Tensor) *Tensor { return LeakyReLU(x, 0.2) }, 3, 7), unary("abs", Abs, 3, 7), unary("square", Square, 5),
		unary("exp", Exp, 2, 3), unary("softplus", Softplus, 3, 4), unary("reciprocal", Reciprocal, 2, 3),
		unary("offset", func(x *Tensor) *Tensor { return Offset(x, -3) }, 2, 3),
		unary("functions of a scalar", func(x *Tensor) *Tensor { return Square(Exp(Offset(Sum(x), 0.5))) }, 3),
		unary("sum", Sum, 2, 3, 4), unary("mean", Mean, 2, 3, 4, 1), unary("sum of each sample", SampleSum, 3, 2, 2, 2),
		unary("sum of each sample, one value", SampleSum, 4),
		binary("scale by a computed scalar", func(a, b *Tensor) *Tensor { return ScaleBy(a, Sum(b)) }, []int{2, 3}, []int{4}),
		binary("difference", Sub, []int{2, 3}, []int{2, 3}),
		binary("shift channels", ShiftChannels, []int{2, 3, 2, 2}, []int{3}),
		binary("shift channels, rank 4", ShiftChannels, []int{2, 3, 2, 2}, []int{1, 3, 1, 1}),
		binary("scale channels", ScaleChannels, []int{2, 3, 2, 2}, []int{3}),
		binary("scale channels, rank 4", ScaleChannels, []int{2, 3, 2, 2}, []int{1, 3, 1, 1}),
		{name: "batch norm", build: func(g *Graph) *Tensor {
			return BatchNorm(g.Input("x", 3, 4, 2, 3), g.Param("g", 4), g.Param("b", 4), 1e-5)
		}},
		unary("gaussian divergence", GaussianKL, 2, 4, 3, 2),
		{
			name: "gaussian divergence, clamped", values: map[string][]float64{"x": {1, 2, 3, -40, -35, 0.5}},
			build: func(g *Graph) *Tensor { return GaussianKL(g.Input("x", 1, 2, 1, 3)) },
		},
		{name: "unit distance", skip: []string{"w"}, build: func(g *Graph) *Tensor {
			return UnitDistance(g.Input("a", 2, 3, 2, 3), g.Input("b", 2, 3, 2, 3), g.Param("w", 1, 3, 1, 1), 1e-2)
		}},
		{
			name: "cross-entropy", skip: []string{"ids"}, values: map[string][]float64{"ids": {2, 0, 3}},
			build: func(g *Graph) *Tensor { return CrossEntropy(g.Input("x", 3, 4), g.Input("ids", 3)) },
		},
		{
			name: "embed a map", skip: []string{"ids"}, values: map[string][]float64{"ids": {4, 0, 4, 2, 1, 4, 3, 3, 0, 1, 1, 2}},
			build: func(g *Graph) *Tensor { return Embed(g.Input("ids", 2, 2, 3), g.Param("table", 5, 3)) },
		},
		binary("dot", func(a, b *Tensor) *Tensor { return Scale(Dot(a, b), 3) }, []int{2, 3}, []int{2, 3}),
		binary("mean square", MeanSquare, []int{2, 3, 1}, []int{2, 3, 1}),
		{name: "denoiser", build: smallDenoiser, values: map[string][]float64{"t": {17, 903}, "class": {2, 0}}, skip: []string{"t", "class"}},
	}
}

// smallDenoiser has every structure of the real ones: skips that meet again, time and class embeddings, attention of both
// kinds, both resamplings.
func smallDenoiser(g *Graph) *Tensor {
	conv := func(x *Tensor, name string, out, k int, o Conv) *Tensor {
		return Conv2D(x, g.Param(name+".w", out, x.Dim(1), k, k), g.Param(name+".b", out), o)
	}
	linear := func(x *Tensor, name string, out int) *Tensor {
		return Linear(x, g.Param(name+".w", out, x.Dim(len(x.Shape())-1)), g.Param(name+".b", out))
	}
	norm := func(x *Tensor, name string) *Tensor {
		return GroupNorm(x, g.Param(name+".g", x.Dim(1)), g.Param(name+".b", x.Dim(1)), 2, 1e-5)
	}
	x, t := g.Input("x", 2, 3, 6, 4), g.Input("t", 2)
	emb := SiLU(Add(linear(TimeEmbedding(t, 8), "time", 6), Embed(g.Input("class", 2), g.Param("classes", 3, 6))))
	res := func(x *Tensor, name string, out int, shift bool) *Tensor {
		h := conv(SiLU(norm(x, name+".n1")), name+".c1", out, 3, Same(3))
		if shift {
			h = Modulate(norm(h, name+".n2"), linear(emb, name+".emb", 2*out))
		} else {
			h = norm(AddChannels(h, linear(emb, name+".emb", out)), name+".n2")
		}
		h = conv(SiLU(h), name+".c2", out, 3, Same(3))
		if x.Dim(1) != out {
			x = conv(x, name+".skip", out, 1, Same(1))
		}
		return Add(x, h)
	}
	h0 := conv(x, "in", 4, 3, Same(3))
	h1 := res(h0, "down", 4, false)
	h2 := conv(h1, "op", 4, 3, Conv{2, 1, 1, 1, 1})
	h := res(h2, "mid", 6, true)
	n := GroupNorm(h, g.Param("tr.g", 6), g.Param("tr.b", 6), 3, 1e-6)
	tok := linear(Tokens(n), "tr.in", 4)
	ln := LayerNorm(tok, g.Param("tr.ln.g", 4), g.Param("tr.ln.b", 4), 1e-5)
	ctx := g.Input("ctx", 2, 3, 5)
	tok = Add(tok, linear(Attention(linear(ln, "q", 4), linear(ctx, "k", 4), linear(ctx, "v", 4), 2, math.Sqrt(0.5)), "o", 4))
	tok = Add(tok, linear(GEGLU(linear(tok, "ff.in", 8)), "ff.out", 4))
	h = Add(h, Untokens(linear(tok, "tr.out", 6), h.Dim(2), h.Dim(3)))
	h = Add(h, Untokens(QKVAttention(linear(Tokens(h), "qkv", 18), 3, true, math.Sqrt(0.5)), h.Dim(2), h.Dim(3)))
	h = res(Concat(h, h2), "up1", 4, false)
	h = conv(Upsample2(h), "upsample", 4, 3, Same(3))
	h = res(Concat(h, h1), "up2", 4, true)
	h = Concat(h, h0)
	return conv(SiLU(norm(h, "out.n")), "out", 3, 3, Same(3))
}

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 17)) }

// feedOf fills the leaves of a program with given or normal values.
func feedOf(p *Program, seed uint64, given map[string][]float64) map[string][]float64 {
	r := random(seed)
	feed := map[string][]float64{}
	for _, n := range p.Nodes {
		if n.Leaf == NotLeaf {
			continue
		}
		v := make([]float64, volume(n.Shape))
		for i := range v {
			v[i] = r.NormFloat64()
			if n.Leaf == ParamLeaf {
				v[i] *= 0.6
			}
		}
		if given[n.Name] != nil {
			v = slices.Clone(given[n.Name])
		}
		feed[n.Name] = v
	}
	return feed
}

func (c gradientCase) graph(t *testing.T) (g *Graph, out, cost *Tensor, leaves []*Tensor) {
	t.Helper()
	g = New(c.name)
	err := Build(func() {
		out = c.build(g)
		cost = out
		if len(out.Shape()) > 0 {
			cost = Dot(out, g.Input("dy", out.Shape()...))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(g.leaves)) {
		if !slices.Contains(c.skip, name) {
			leaves = append(leaves, g.leaves[name])
		}
	}
	return g, out, cost, leaves
}

// TestGradients compares every gradient with central differences in float64, and checks that no kind is left out: what is
// differentiable is compared here, what exists for gradients is used here, and the rest is the list below.
func TestGradients(t *testing.T) {
	inferenceOnly := []Kind{
		KindCodeIndex, KindGroupMoments, KindGroupNormGiven, KindPoolMoments, KindTimeEmbedding,
		KindBatchMoments, KindBatchNormGiven, KindDetach, KindNormRatio,
	}
	seen := map[Kind]bool{}
	for _, c := range gradientCases() {
		t.Run(c.name, func(t *testing.T) {
			g, _, cost, leaves := c.graph(t)
			grads, err := Grad(cost, leaves...)
			if err != nil {
				t.Fatal(err)
			}
			forward, err := g.Program(cost)
			if err != nil {
				t.Fatal(err)
			}
			backward, err := g.Program(grads...)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range append(slices.Clone(forward.Nodes), backward.Nodes...) {
				seen[n.Op.Kind] = true
			}
			feed := feedOf(forward, 1, c.values)
			got, err := Evaluate(backward, feed)
			if err != nil {
				t.Fatal(err)
			}
			if c.steps {
				if !slices.Equal(got[slices.Index(leaves, g.leaves["z"])], feed["dy"]) {
					t.Error("the gradient does not pass straight through")
				}
				return
			}
			r := random(2)
			for i, leaf := range leaves {
				v := feed[leaf.Name()]
				if len(got[i]) != len(v) {
					t.Fatalf("%s: %d gradients for %d values", leaf.Name(), len(got[i]), len(v))
				}
				entries := r.Perm(len(v))
				if c.name == "denoiser" {
					entries = entries[:min(len(entries), 4)]
				}
				for _, k := range entries[:min(len(entries), 24)] {
					want := derivative(t, forward, feed, v, k)
					if e := math.Abs(got[i][k]-want) / max(math.Abs(want), math.Abs(got[i][k]), 1e-2); e > 1e-6 {
						t.Errorf("d/d%s[%d] = %v, want %v (relative error %.1e)", leaf.Name(), k, got[i][k], want, e)
					}
				}
			}
		})
	}
	for _, k := range Kinds() {
		switch {
		case k.Class() == InferenceOnly:
			if !slices.Contains(inferenceOnly, k) {
				t.Errorf("%s is not on the list of inference-only kinds", k)
			}
			if rules[k].grad != nil {
				t.Errorf("%s is inference-only and has a gradient", k)
			}
		case !seen[k]:
			t.Errorf("no gradient check covers %s", k)
		case (k.Class() == Differentiable) != (rules[k].grad != nil):
			t.Errorf("%s: class and gradient disagree", k)
		}
	}
	for _, k := range inferenceOnly {
		if k.Class() != InferenceOnly {
			t.Errorf("%s is listed as inference-only", k)
		}
	}
}

// derivative is the fourth-order central difference of the program's one output by v[k].
func derivative(t *testing.T, p *Program, feed map[string][]float64, v []float64, k int) float64 {
	t.Helper()
	const h = 1e-4
	at := v[k]
	f := func(d float64) float64 {
		v[k] = at + d
		out, err := Evaluate(p, feed)
		if err != nil {
			t.Fatal(err)
		}
		return out[0][0]
	}
	near, far := f(h)-f(-h), f(2*h)-f(-2*h)
	v[k] = at
	return (8*near - far) / (12 * h)
}
