package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/ir"
)

// lower builds and lowers a graph.
func lower(t *testing.T, build func(g *ir.Graph) *ir.Tensor) *Plan {
	t.Helper()
	g := ir.New("test")
	var out *ir.Tensor
	if err := ir.Build(func() { out = build(g) }); err != nil {
		t.Fatal(err)
	}
	prog, err := g.Program(out)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Lower(prog)
	if err != nil {
		t.Fatal(err)
	}
	check(t, p)
	return p
}

// check proves that the arena is sound: every operand is written before it is read and not overwritten in between.
func check(t *testing.T, p *Plan) {
	t.Helper()
	owner := make([]*Value, p.ArenaElems)
	for i, s := range p.Steps {
		for _, v := range s.operands() {
			if r := v.Root(); r.Place == Arena {
				for _, o := range owner[r.Offset : r.Offset+r.Elems()] {
					if o != r {
						t.Fatalf("step %d (%s) reads %s, whose memory holds something else", i, s.Name, v.Name)
					}
				}
			}
		}
		for _, v := range s.outputs() {
			if r := v.Root(); r.Place == Arena {
				for j := range r.Elems() {
					owner[r.Offset+j] = r
				}
			}
		}
	}
}

func steps(p *Plan) string {
	var kinds []string
	for _, s := range p.Steps {
		k := string(s.Kind)
		if f := s.fused(); f != "-" {
			k += "(" + f + ")"
		}
		kinds = append(kinds, k)
	}
	return strings.Join(kinds, " ")
}

func TestFusion(t *testing.T) {
	norm := func(g *ir.Graph, x *ir.Tensor) *ir.Tensor {
		c := x.Shape()[1]
		return ir.GroupNorm(x, g.Param("n.weight", c), g.Param("n.bias", c), 4, 1e-5)
	}
	conv := func(g *ir.Graph, x *ir.Tensor, name string, k int) *ir.Tensor {
		c := x.Shape()[1]
		return ir.Conv2D(x, g.Param(name+".weight", c, c, k, k), g.Param(name+".bias", c), ir.Same(k))
	}
	lin := func(g *ir.Graph, x *ir.Tensor, name string, out int) *ir.Tensor {
		s := x.Shape()
		return ir.Linear(x, g.Param(name, out, s[len(s)-1]), nil)
	}
	attention := func(tokens int) func(g *ir.Graph) *ir.Tensor {
		return func(g *ir.Graph) *ir.Tensor {
			x, ctx := g.Input("x", 2, 6, 8), g.Input("ctx", 2, tokens, 5)
			a := ir.Attention(lin(g, x, "q", 8), lin(g, ctx, "k", 8), lin(g, ctx, "v", 8), 2, 0.5)
			return ir.Add(lin(g, a, "out", 8), x)
		}
	}
	cases := []struct {
		name  string
		build func(g *ir.Graph) *ir.Tensor
		want  string
	}{
		{"norm and silu", func(g *ir.Graph) *ir.Tensor { return ir.SiLU(norm(g, g.Input("x", 1, 8, 4, 4))) }, "load group_norm(silu) store"},
		{"norm, modulation, silu", func(g *ir.Graph) *ir.Tensor {
			return ir.SiLU(ir.Modulate(norm(g, g.Input("x", 1, 8, 4, 4)), g.Input("s", 1, 16)))
		}, "load load group_norm(modulate+silu) store"},
		{"norm with moments from elsewhere", func(g *ir.Graph) *ir.Tensor {
			n := ir.GroupNormGiven(g.Input("x", 1, 8, 4, 4), g.Param("n.weight", 8), g.Param("n.bias", 8), g.Input("m", 1, 8), 4, 1e-5)
			return ir.SiLU(ir.Modulate(n, g.Input("s", 1, 16)))
		}, "load load load group_norm(given+modulate+silu) store"},
		{"moments stand beside a norm", func(g *ir.Graph) *ir.Tensor {
			x := g.Input("x", 1, 8, 4, 4)
			return ir.Modulate(ir.SiLU(norm(g, x)), ir.GroupMoments(x, g.Input("window", 1, 4), 8))
		}, "load load group_norm(silu) group_moments modulate store"},
		{"modulation made later stays apart", func(g *ir.Graph) *ir.Tensor {
			n := norm(g, g.Input("x", 1, 8, 4, 4))
			return ir.Modulate(n, lin(g, g.Input("s", 1, 3), "l", 16))
		}, "load load group_norm linear modulate store"},
		{"upsample into convolution", func(g *ir.Graph) *ir.Tensor { return conv(g, ir.Upsample2(g.Input("x", 1, 8, 4, 4)), "c", 3) }, "load conv(upsample) store"},
		{"sample row and residual", func(g *ir.Graph) *ir.Tensor {
			x, v := g.Input("x", 1, 8, 4, 4), g.Input("v", 1, 8)
			return ir.Add(x, ir.AddChannels(conv(g, x, "c", 3), v))
		}, "load load conv(sample+residual) store"},
		{"residual goes to the later producer", func(g *ir.Graph) *ir.Tensor {
			x := g.Input("x", 1, 8, 4, 4)
			a := conv(g, x, "a", 3)
			return ir.Add(a, conv(g, x, "b", 1))
		}, "load conv linear(residual) store"},
		{"two readers keep the addition apart", func(g *ir.Graph) *ir.Tensor {
			x := g.Input("x", 1, 8, 4, 4)
			a := conv(g, x, "a", 3)
			return ir.Concat(ir.Add(a, x), a)
		}, "load conv add concat store"},
		{"gate", func(g *ir.Graph) *ir.Tensor { return ir.GEGLU(lin(g, g.Input("x", 1, 3, 8), "l", 16)) }, "load linear(geglu) store"},
		{"activation", func(g *ir.Graph) *ir.Tensor { return ir.GELU(lin(g, g.Input("x", 1, 3, 8), "l", 16)) }, "load linear(gelu) store"},
		{"rectified", func(g *ir.Graph) *ir.Tensor {
			x := g.Input("x", 1, 8, 4, 4)
			return ir.PixelMean(ir.MaxPool(ir.ReLU(conv(g, ir.AvgPool3(ir.ReLU(conv(g, x, "c", 3))), "d", 1)), ir.Pool{Kernel: 3, Stride: 1}))
		}, "load conv(relu) avg_pool3 linear(relu) max_pool pixel_mean store"},
		{"averages of fewer channels", func(g *ir.Graph) *ir.Tensor {
			x := ir.AvgPool3(g.Input("x", 1, 8, 4, 4))
			return ir.ReLU(ir.Conv2D(x, g.Param("w", 5, 8, 1, 1), g.Param("b", 5), ir.Same(1)))
		}, "load linear avg_pool3(relu) store"},
		{"parts of a whole", func(g *ir.Graph) *ir.Tensor {
			x := conv(g, g.Input("x", 1, 8, 4, 4), "c", 1)
			return ir.Concat(conv(g, x, "a", 3), conv(g, x, "b", 1), ir.MaxPool(x, ir.Pool{Kernel: 3, Stride: 1, Pad: 1}))
		}, "load linear conv linear max_pool store"},
		{"a part with another reader is copied", func(g *ir.Graph) *ir.Tensor {
			x := conv(g, g.Input("x", 1, 8, 4, 4), "c", 1)
			return ir.Concat(conv(g, x, "a", 3), x)
		}, "load linear conv concat store"},
		{"a residual before the activation keeps it apart", func(g *ir.Graph) *ir.Tensor {
			x := g.Input("x", 1, 8, 4, 4)
			return ir.ReLU(ir.Add(conv(g, x, "c", 3), x))
		}, "load conv(residual) relu store"},
		{"keys and values of a context", attention(3), "load load linear linear(2 parts) attention linear(residual) store"},
		{"a single key", attention(1), "load load linear linear add_sample store"},
		{"one head", func(g *ir.Graph) *ir.Tensor {
			x := g.Input("x", 2, 6, 8)
			a := ir.Attention(lin(g, x, "q", 8), lin(g, x, "k", 8), lin(g, x, "v", 8), 1, 0.5)
			return ir.Add(ir.Linear(a, g.Param("out", 8, 8), g.Param("bias", 8)), x)
		}, "load linear(2 parts) attention add store"},
		{"one head with another width stays as it is", func(g *ir.Graph) *ir.Tensor {
			x := g.Input("x", 2, 6, 8)
			return lin(g, ir.Attention(lin(g, x, "q", 4), lin(g, x, "k", 4), lin(g, x, "v", 4), 1, 0.5), "out", 8)
		}, "load linear(3 parts) attention linear store"},
		{"views are free", func(g *ir.Graph) *ir.Tensor {
			x := g.Input("x", 1, 8, 4, 6)
			return ir.Add(x, ir.Untokens(lin(g, ir.Tokens(x), "l", 8), 4, 6))
		}, "load linear(residual) store"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := steps(lower(t, c.build)); got != c.want {
				t.Errorf("steps\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestArenaReuse(t *testing.T) {
	p := lower(t, func(g *ir.Graph) *ir.Tensor {
		x := g.Input("x", 1, 8, 16, 16)
		for i := range 20 {
			name := string(rune('a' + i))
			x = ir.Conv2D(x, g.Param(name, 8, 8, 3, 3), nil, ir.Same(3))
		}
		return x
	})
	if one := 8 * 16 * 16; p.ArenaElems != 2*one {
		t.Errorf("a chain needs two buffers of %d, the arena has %d", one, p.ArenaElems)
	}
	if p.FLOP != 20*2*8*8*9*256 {
		t.Errorf("FLOP %d", p.FLOP)
	}
}

// TestSplit lowers a chain for batches that fit in the caches, or in parts, or not even for a single image.
func TestSplit(t *testing.T) {
	chain := func(n, side int) *Plan {
		return lower(t, func(g *ir.Graph) *ir.Tensor {
			x := g.Input("x", n, 4, side, side)
			pool := func() *ir.Tensor { return ir.MaxPool(x, ir.Pool{Kernel: 3, Stride: 1, Pad: 1}) }
			for i := range 3 {
				name := string(rune('a' + i))
				x = ir.Concat(ir.Conv2D(x, g.Param(name, 2, 4, 1, 1), nil, ir.Same(1)), ir.Conv2D(pool(), g.Param(name+"2", 2, 4, 3, 3), nil, ir.Same(3)))
			}
			return ir.MaxPool(x, ir.Pool{Kernel: side, Stride: side})
		})
	}
	for _, c := range []struct{ n, side, parts int }{{5, 100, 1}, {5, 400, 2}, {3, 1100, 1}} {
		p, samples := chain(c.n, c.side), 0
		want := "load " + strings.Repeat(strings.Repeat("linear max_pool conv ", 3), c.parts) + "max_pool store"
		if got := steps(p); got != want {
			t.Errorf("%d images of %d: steps\n got %s\nwant %s", c.n, c.side, got, want)
		}
		for _, s := range p.Steps {
			if s.Kind == Linear {
				samples += s.Out.Shape[0]
			}
		}
		if samples != 3*c.n {
			t.Errorf("%d images of %d: three products of %d images", c.n, c.side, samples)
		}
		if flop := int64(3*c.n*c.side*c.side) * 2 * (2*4 + 2*4*9); p.FLOP != flop {
			t.Errorf("%d images of %d: %d operations, want %d", c.n, c.side, p.FLOP, flop)
		}
	}
	if image := 4 * 400 * 400; chain(5, 400).ArenaElems > (5+5+3+3)*image {
		t.Errorf("an arena of %d: more than the batch, the result, and two values of a part", chain(5, 400).ArenaElems)
	}
}

func TestUnlowered(t *testing.T) {
	p := &ir.Program{Nodes: []ir.Node{{Name: "a", Shape: []int{2}, Leaf: ir.InputLeaf}, {ID: 1, Op: ir.Op{Kind: "transmogrify"}, In: []int{0}, Shape: []int{2}}}, Outputs: []int{1}}
	if _, err := Lower(p); err == nil || !strings.Contains(err.Error(), "transmogrify") {
		t.Errorf("error %v must name the operation", err)
	}
}

func TestPrint(t *testing.T) {
	p := lower(t, func(g *ir.Graph) *ir.Tensor {
		return ir.Linear(g.Input("x", 2, 3), g.Param("w", 5, 3), g.Param("b", 5))
	})
	var b strings.Builder
	if err := p.Write(&b, nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"linear", "[2 3]", "[2 5]", "0.000"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, b.String())
		}
	}
	if !slices.Contains(Passes(), "arena") {
		t.Error("passes are not listed")
	}
}
