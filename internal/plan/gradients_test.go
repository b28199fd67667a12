package plan

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/ir"
)

// lowerGradients lowers the gradients of a random projection of what build makes, by all parameters.
func lowerGradients(t *testing.T, budget int64, build func(g *ir.Graph) *ir.Tensor) *Plan {
	t.Helper()
	g := ir.New("test")
	var cost *ir.Tensor
	if err := ir.Build(func() {
		y := build(g)
		cost = ir.Dot(y, g.Input("seed", y.Shape()...))
	}); err != nil {
		t.Fatal(err)
	}
	var wrt []*ir.Tensor
	var names []string
	for _, p := range g.Params() {
		wrt, names = append(wrt, g.Param(p.Name, p.Shape...)), append(names, p.Name)
	}
	grads, err := ir.Grad(cost, wrt...)
	if err != nil {
		t.Fatal(err)
	}
	prog, err := g.Program(append([]*ir.Tensor{cost}, grads...)...)
	if err != nil {
		t.Fatal(err)
	}
	p, err := LowerFor(prog, Options{Gradients: names, Budget: budget})
	if err != nil {
		t.Fatal(err)
	}
	check(t, p)
	return p
}

func gnorm(g *ir.Graph, x *ir.Tensor, name string) *ir.Tensor {
	c := x.Shape()[1]
	return ir.GroupNorm(x, g.Param(name+".weight", c), g.Param(name+".bias", c), 4, 1e-5)
}

func conv3(g *ir.Graph, x *ir.Tensor, name string) *ir.Tensor {
	c := x.Shape()[1]
	return ir.Conv2D(x, g.Param(name, c, c, 3, 3), nil, ir.Same(3))
}

func TestGradientFusion(t *testing.T) {
	row := func(g *ir.Graph, x *ir.Tensor, name string) *ir.Tensor {
		s := x.Shape()
		return ir.Linear(x, g.Param(name, 8, s[len(s)-1]), nil)
	}
	for _, c := range []struct {
		name  string
		build func(g *ir.Graph) *ir.Tensor
		want  string
	}{
		{"a norm with its silu is computed again, and gives the gradients of its parameters", func(g *ir.Graph) *ir.Tensor {
			return conv3(g, ir.SiLU(gnorm(g, conv3(g, g.Input("x", 1, 8, 4, 4), "a"), "n")), "b")
		}, "load load conv group_norm(silu) conv dot store one scale_by conv_grad_input conv_grad_weight group_norm_grad(silu+affine) accumulate accumulate conv_grad_weight"},
		{"a norm that two read keeps its silu apart", func(g *ir.Graph) *ir.Tensor {
			n := gnorm(g, conv3(g, g.Input("x", 1, 8, 4, 4), "a"), "n")
			return ir.Add(ir.SiLU(n), n)
		}, "load load conv group_norm silu add dot store one scale_by silu_grad add group_norm_grad(affine) accumulate accumulate conv_grad_weight"},
		{"no image is doubled", func(g *ir.Graph) *ir.Tensor {
			return conv3(g, ir.Upsample2(conv3(g, g.Input("x", 1, 8, 4, 4), "a")), "b")
		}, "load load conv conv(upsample) dot store one scale_by conv_grad_input(upsample) conv_grad_weight(upsample) conv_grad_weight"},
		{"branches meet in the epilogue of a product", func(g *ir.Graph) *ir.Tensor {
			x := row(g, g.Input("x", 2, 5, 8), "in")
			return ir.Add(row(g, ir.GELU(row(g, x, "a")), "b"), x)
		}, "load load linear linear gelu linear(residual) dot store one scale_by linear(transposed) linear_grad_weight gelu_grad linear(transposed+residual) linear_grad_weight linear_grad_weight"},
		{"attention to one token has no gradient of queries", func(g *ir.Graph) *ir.Tensor {
			x, ctx := row(g, g.Input("x", 2, 5, 8), "in"), g.Input("ctx", 2, 1, 6)
			return ir.Add(ir.Attention(row(g, x, "q"), row(g, ctx, "k"), row(g, ctx, "v"), 2, 0.5), x)
		}, "load load load linear linear add_sample dot store one scale_by pixel_sum linear_grad_weight linear_grad_weight"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := steps(lowerGradients(t, 0, c.build))
			if got != c.want {
				t.Errorf("steps\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestRecompute gives a chain of blocks less and less memory.
func TestRecompute(t *testing.T) {
	build := func(g *ir.Graph) *ir.Tensor {
		x := g.Input("x", 1, 8, 16, 16)
		for i := range 12 {
			x = ir.Add(x, conv3(g, ir.SiLU(gnorm(g, x, fmt.Sprint("n", i))), fmt.Sprint("c", i)))
		}
		return x
	}
	whole := lowerGradients(t, 0, build)
	const one = 8 * 16 * 16
	if n := whole.ArenaElems / one; n < 25 {
		t.Fatalf("the arena holds %d images without a budget, 12 blocks keep 2 each", n)
	}
	size := whole.ArenaElems
	for _, images := range []int{20, 16, 10} {
		p := lowerGradients(t, int64(4*images*one), build)
		if p.ArenaElems > images*one {
			t.Errorf("an arena of %.1f images, a budget of %d", float64(p.ArenaElems)/one, images)
		}
		if p.ArenaElems >= size {
			t.Errorf("the arena does not shrink below %d", size)
		}
		size = p.ArenaElems
		products := func(p *Plan) int { return strings.Count(steps(p)+" ", "conv(residual) ") }
		if n := products(p) - products(whole); images >= 16 && n != 0 {
			t.Errorf("%d convolutions are computed again where norms suffice", n)
		}
		if len(p.Steps) <= len(whole.Steps) {
			t.Error("nothing is computed again")
		}
	}
	if p := lowerGradients(t, 1, build); p.ArenaElems > 10*one {
		t.Errorf("the least arena has %.1f images", float64(p.ArenaElems)/one)
	}
}
