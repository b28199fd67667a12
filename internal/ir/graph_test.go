package ir

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	G "gorgonia.org/gorgonia"
)

// TestShapeErrors checks that a refused operation names itself, its tensors, their shapes and the reason.
func TestShapeErrors(t *testing.T) {
	in := func(g *Graph, name string, shape ...int) *Tensor { return g.Input(name, shape...) }
	for _, c := range []struct {
		build func(g *Graph)
		want  string
	}{
		{func(g *Graph) { Conv2D(in(g, "img", 2, 3, 4, 4), g.Param("net.w", 8, 4, 3, 3), nil, Same(3)) },
			"conv2d(img [2 3 4 4], net.w [8 4 3 3]): w takes 4 channels, x has 3"},
		{func(g *Graph) { Conv2D(in(g, "x", 2, 3, 4), g.Param("w", 8, 3, 3, 3), nil, Same(3)) },
			"conv2d(x [2 3 4], w [8 3 3 3]): x has rank 3, want 4 (NCHW)"},
		{func(g *Graph) { Conv2D(in(g, "x", 2, 3, 4, 4), g.Param("w", 8, 3, 3), nil, Same(3)) },
			"conv2d(x [2 3 4 4], w [8 3 3]): w has rank 3, want 4 (OIHW)"},
		{func(g *Graph) { Conv2D(in(g, "x", 2, 3, 4, 4), g.Param("w", 8, 3, 3, 3), g.Param("b", 7), Same(3)) },
			"conv2d(x [2 3 4 4], w [8 3 3 3], b [7]): b has shape [7], want [8]"},
		{func(g *Graph) { Conv2D(in(g, "x", 2, 3, 4, 4), g.Param("w", 8, 3, 3, 3), nil, Conv{}) },
			"conv2d(x [2 3 4 4], w [8 3 3 3]): bad attributes {Stride:0 Top:0 Left:0 Bottom:0 Right:0}"},
		{func(g *Graph) { Conv2D(in(g, "x", 2, 3, 4, 2), g.Param("w", 8, 3, 3, 3), nil, Conv{Stride: 1}) },
			"conv2d(x [2 3 4 2], w [8 3 3 3]): padded x is smaller than the 3x3 kernel"},
		{func(g *Graph) { Conv2D(nil, g.Param("w", 8, 3, 3, 3), nil, Same(3)) }, "conv2d(nil, w [8 3 3 3]): input 0 is nil"},
		{func(g *Graph) { Linear(in(g, "x", 2, 3), g.Param("w", 8, 4), nil) }, "linear(x [2 3], w [8 4]): w takes 4 channels, x has 3"},
		{func(g *Graph) { Linear(in(g, "x", 2, 3, 1, 1), g.Param("w", 8, 3), nil) },
			"linear(x [2 3 1 1], w [8 3]): x has rank 4, want 2 or 3 with channels last"},
		{func(g *Graph) { Linear(in(g, "x", 2, 3), g.Param("w", 8), nil) }, "w has rank 1"},
		{func(g *Graph) { Linear(in(g, "x", 2, 3), g.Param("w", 8, 3, 3, 3), nil) }, "want trailing dimensions of 1"},
		{func(g *Graph) { Linear(in(g, "x", 2, 3), g.Param("w", 8, 3), g.Param("b", 3)) }, "b has shape [3], want [8]"},
		{func(g *Graph) { GroupNorm(in(g, "x", 2, 6, 1, 1), g.Param("g", 6), g.Param("b", 6), 4, 1e-5) },
			"group_norm(x [2 6 1 1], g [6], b [6]): 6 channels do not divide into 4 groups"},
		{func(g *Graph) { GroupNorm(in(g, "x", 2, 6, 1, 1), g.Param("g", 5), g.Param("b", 6), 3, 1e-5) }, "gamma has shape [5], want [6]"},
		{func(g *Graph) { GroupNorm(in(g, "x", 2, 6, 1, 1), g.Param("g", 6), g.Param("b", 6), 3, 0) }, "eps 0 is not positive"},
		{func(g *Graph) { GroupNorm(in(g, "x", 2, 6), g.Param("g", 6), g.Param("b", 6), 3, 1) }, "x has rank 2, want 4 (NCHW)"},
		{func(g *Graph) { CrossEntropy(in(g, "x", 2, 6, 1), in(g, "ids", 2)) }, "cross_entropy(x [2 6 1], ids [2]): logits has rank 3, want 2 (N,C)"},
		{func(g *Graph) { CrossEntropy(in(g, "x", 2, 6), in(g, "ids", 6)) }, "cross_entropy(x [2 6], ids [6]): ids has shape [6], want [2]"},
		{func(g *Graph) { GroupMoments(in(g, "x", 2, 6, 1, 1), in(g, "w", 1, 4), 3) }, "group_moments(x [2 6 1 1], w [1 4]): window has shape [1 4], want [2 4]"},
		{func(g *Graph) { GroupMoments(in(g, "x", 2, 6, 1, 1), in(g, "w", 2, 4), 4) }, "6 channels do not divide into 4 groups"},
		{func(g *Graph) { GroupMoments(in(g, "x", 2, 6), in(g, "w", 2, 4), 3) }, "x has rank 2, want 4 (NCHW)"},
		{func(g *Graph) {
			GroupNormGiven(in(g, "x", 2, 6, 1, 1), g.Param("g", 6), g.Param("b", 6), in(g, "m", 2, 3), 3, 1)
		},
			"group_norm_given(x [2 6 1 1], g [6], b [6], m [2 3]): moments has shape [2 3], want [2 6]"},
		{func(g *Graph) {
			GroupNormGiven(in(g, "x", 2, 6, 1, 1), g.Param("g", 6), g.Param("b", 5), in(g, "m", 2, 6), 3, 1)
		}, "beta has shape [5], want [6]"},
		{func(g *Graph) { PoolMoments(in(g, "m", 4, 6), in(g, "w", 2), 2) }, "pool_moments(m [4 6], w [2]): weights has shape [2], want [4]"},
		{func(g *Graph) { PoolMoments(in(g, "m", 4, 6), in(g, "w", 4), 3) }, "4 samples do not divide into runs of 3"},
		{func(g *Graph) { PoolMoments(in(g, "m", 4, 5), in(g, "w", 4), 2) }, "5 numbers do not divide into means and variances"},
		{func(g *Graph) { PoolMoments(in(g, "m", 4), in(g, "w", 4), 2) }, "moments has rank 1"},
		{func(g *Graph) { LayerNorm(in(g, "x", 2, 6), g.Param("g", 6), g.Param("b", 7), 1e-5) }, "beta has shape [7], want [6]"},
		{func(g *Graph) { LayerNorm(in(g, "x", 6), g.Param("g", 6), g.Param("b", 6), 1e-5) }, "x has rank 1"},
		{func(g *Graph) { Attention(in(g, "q", 2, 5, 6), in(g, "k", 2, 3, 4), in(g, "v", 2, 3, 4), 2, 1) },
			"attention(q [2 5 6], k [2 3 4], v [2 3 4]): k has shape [2 3 4], want [2 3 6]"},
		{func(g *Graph) { Attention(in(g, "q", 2, 5, 6), in(g, "k", 2, 3, 6), in(g, "v", 2, 4, 6), 2, 1) }, "v has shape [2 4 6], want [2 3 6]"},
		{func(g *Graph) { Attention(in(g, "q", 2, 5, 6), in(g, "k", 2, 3, 6), in(g, "v", 2, 3, 6), 4, 1) }, "6 channels do not divide into 4 heads"},
		{func(g *Graph) { Attention(in(g, "q", 2, 5, 6), in(g, "k", 2, 3, 6), in(g, "v", 2, 3, 6), 2, 0) }, "scale 0 is not positive"},
		{func(g *Graph) { Attention(in(g, "q", 2, 6), in(g, "k", 2, 3, 6), in(g, "v", 2, 3, 6), 2, 1) }, "q has rank 2, want 3 (N,T,C)"},
		{func(g *Graph) { QKVAttention(in(g, "x", 2, 5, 8), 2, true, 1) }, "qkv_attention(x [2 5 8]): 8 channels do not divide into q, k and v"},
		{func(g *Graph) { QKVAttention(in(g, "x", 2, 5, 9), 2, true, 1) }, "3 channels do not divide into 2 heads"},
		{func(g *Graph) { QKVAttention(in(g, "x", 2, 9), 1, true, 1) }, "qkv has rank 2"},
		{func(g *Graph) { GEGLU(in(g, "x", 2, 5)) }, "geglu(x [2 5]): 5 channels do not divide into value and gate"},
		{func(g *Graph) { GEGLU(in(g, "x", 2, 5, 2, 2)) }, "x has rank 4"},
		{func(g *Graph) { Add(in(g, "a", 2, 5), in(g, "b", 2, 5), in(g, "c", 5, 2)) }, "add(a [2 5], b [2 5], c [5 2]): input 2 has shape [5 2], want [2 5]"},
		{func(g *Graph) { AddChannels(in(g, "x", 2, 5, 1, 1), in(g, "t", 2, 4)) }, "add_channels(x [2 5 1 1], t [2 4]): t has shape [2 4], want [2 5]"},
		{func(g *Graph) { AddChannels(in(g, "x", 2, 5), in(g, "t", 2, 5)) }, "x has rank 2"},
		{func(g *Graph) { Modulate(in(g, "x", 2, 5, 1, 1), in(g, "s", 2, 5)) }, "modulate(x [2 5 1 1], s [2 5]): s has shape [2 5], want [2 10]"},
		{func(g *Graph) { Modulate(in(g, "x", 2, 5), in(g, "s", 2, 10)) }, "x has rank 2"},
		{func(g *Graph) { AddRows(in(g, "x", 2, 5, 3), in(g, "p", 7, 3)) }, "add_rows(x [2 5 3], p [7 3]): p has shape [7 3], want [5 3]"},
		{func(g *Graph) { AddRows(in(g, "x", 5, 3), in(g, "p", 5, 3)) }, "x has rank 2"},
		{func(g *Graph) { Concat(in(g, "a", 2, 5, 4, 4), in(g, "b", 2, 5, 4, 3)) }, "concat(a [2 5 4 4], b [2 5 4 3]): input 1 has shape [2 5 4 3], want [2 5 4 4]"},
		{func(g *Graph) { Concat(in(g, "a", 2, 5, 4, 4), in(g, "b", 2, 5)) }, "input 1 has rank 2"},
		{func(g *Graph) { Concat(in(g, "a", 2, 5, 4, 4)) }, "concat(a [2 5 4 4]): needs at least 2 inputs, has 1"},
		{func(g *Graph) { Concat() }, "concat(): needs at least 2 inputs, has 0"},
		{func(g *Graph) { SliceChannels(in(g, "x", 2, 5, 1, 1), 3, 6) }, "slice_channels(x [2 5 1 1]): range [3, 6) is not within the 5 channels of x"},
		{func(g *Graph) { SliceChannels(in(g, "x", 2, 5), 1, 2) }, "x has rank 2"},
		{func(g *Graph) { SliceLast(in(g, "x", 2, 5), 2, 2) }, "slice_last(x [2 5]): range [2, 2) is not within the 5 channels of x"},
		{func(g *Graph) { SliceLast(in(g, "x", 2, 5), -1, 2) }, "range [-1, 2)"},
		{func(g *Graph) { SliceLast(in(g, "x", 2, 5, 1, 1), 0, 1) }, "x has rank 4"},
		{func(g *Graph) { Upsample2(in(g, "x", 2, 5)) }, "upsample2(x [2 5]): x has rank 2"},
		{func(g *Graph) { AvgPool2(in(g, "x", 2, 5, 3, 2)) }, "avg_pool2(x [2 5 3 2]): height 3 and width 2 must be even"},
		{func(g *Graph) { AvgPool2(in(g, "x", 2, 5)) }, "x has rank 2"},
		{func(g *Graph) { Tokens(in(g, "x", 2, 5)) }, "tokens(x [2 5]): x has rank 2"},
		{func(g *Graph) { Untokens(in(g, "x", 2, 12, 5), 5, 2) }, "untokens(x [2 12 5]): 12 tokens do not make a 5x2 image"},
		{func(g *Graph) { Untokens(in(g, "x", 2, 12, 5), -3, -4) }, "12 tokens do not make a -3x-4 image"},
		{func(g *Graph) { Untokens(in(g, "x", 12, 5), 3, 4) }, "x has rank 2"},
		{func(g *Graph) { Embed(in(g, "ids", 2, 3, 1, 1), g.Param("e", 4, 2)) }, "embed(ids [2 3 1 1], e [4 2]): ids has rank 4"},
		{func(g *Graph) { Embed(in(g, "ids", 2, 3), g.Param("e", 4)) }, "table has rank 1"},
		{func(g *Graph) { TimeEmbedding(in(g, "t", 2, 1), 4) }, "time_embedding(t [2 1]): t has rank 2"},
		{func(g *Graph) { TimeEmbedding(in(g, "t", 2), 1) }, "width 1 is below 2"},
		{func(g *Graph) { CodeIndex(in(g, "z", 2, 3, 1, 1), g.Param("e", 4, 2)) }, "code_index(z [2 3 1 1], e [4 2]): codebook has shape [4 2], want [4 3]"},
		{func(g *Graph) { CodeIndex(in(g, "z", 2), g.Param("e", 4, 2)) }, "z has rank 1"},
		{func(g *Graph) { Quantize(in(g, "z", 2, 3, 1, 1), g.Param("e", 3)) }, "quantize(z [2 3 1 1], e [3]): codebook has rank 1"},
		{func(g *Graph) { GaussianSample(in(g, "m", 2, 3, 1, 1), in(g, "n", 2, 1, 1, 1)) }, "3 channels do not divide into mean and log-variance"},
		{func(g *Graph) { GaussianSample(in(g, "m", 2, 4, 1, 1), in(g, "n", 2, 4, 1, 1)) }, "gaussian_sample(m [2 4 1 1], n [2 4 1 1]): noise has shape [2 4 1 1], want [2 2 1 1]"},
		{func(g *Graph) { GaussianSample(in(g, "m", 2, 4), in(g, "n", 2, 2)) }, "moments has rank 2"},
		{func(g *Graph) { GaussianMode(in(g, "m", 2, 3, 1, 1)) }, "gaussian_mode(m [2 3 1 1]): moments must be (N,2C,H,W)"},
		{func(g *Graph) { GaussianKL(in(g, "m", 2, 3, 1, 1)) }, "gaussian_kl(m [2 3 1 1]): 3 channels do not divide into mean and log-variance"},
		{func(g *Graph) { Embed(in(g, "ids", 2, 3, 1, 1), g.Param("e", 4, 2)) }, "ids has rank 4, want 1 (N), 2 (N,T) or 3 (N,H,W)"},
		{func(g *Graph) { ScaleBy(in(g, "a", 2), in(g, "s", 1)) }, "scale_by(a [2], s [1]): s has shape [1], want []"},
		{func(g *Graph) { SampleSum(Sum(in(g, "a", 2))) }, "sum(sum#1 []): x is a scalar"},
		{func(g *Graph) { NormRatio(in(g, "a", 2), in(g, "b", 3), 0, 1) }, "norm_ratio(a [2], b [3]): eps 0 and limit 1 must be positive"},
		{func(g *Graph) { ShiftChannels(in(g, "x", 2, 3, 1, 1), g.Param("b", 2)) }, "shift_channels(x [2 3 1 1], b [2]): b has shape [2], want [3]"},
		{func(g *Graph) { ShiftChannels(in(g, "x", 2, 3), g.Param("b", 3)) }, "x has rank 2"},
		{func(g *Graph) { ScaleChannels(in(g, "x", 2, 3, 1, 1), g.Param("s", 3, 1, 1, 1)) }, "s has shape [3 1 1 1], want [1 3 1 1]"},
		{func(g *Graph) { ScaleChannels(in(g, "x", 2, 3, 1, 1), g.Param("s", 3, 1)) }, "s has rank 2, want 1 (C) or 4 (1,C,1,1)"},
		{func(g *Graph) { BatchNorm(in(g, "x", 2, 3), g.Param("g", 3), g.Param("b", 3), 1) }, "batch_norm(x [2 3], g [3], b [3]): x has rank 2"},
		{func(g *Graph) { BatchNorm(in(g, "x", 2, 3, 1, 1), g.Param("g", 3), g.Param("b", 4), 1) }, "beta has shape [4], want [3]"},
		{func(g *Graph) { BatchMoments(in(g, "x", 2, 3)) }, "batch_moments(x [2 3]): x has rank 2"},
		{func(g *Graph) {
			BatchNormGiven(in(g, "x", 2, 3, 1, 1), g.Param("g", 3), g.Param("b", 3), g.Param("m", 3), g.Param("v", 2), 1)
		}, "variance has shape [2], want [3]"},
		{func(g *Graph) {
			BatchNormGiven(in(g, "x", 2, 3), g.Param("g", 3), g.Param("b", 3), g.Param("m", 3), g.Param("v", 3), 1)
		}, "x has rank 2"},
		{func(g *Graph) {
			UnitDistance(in(g, "a", 2, 3, 1, 1), in(g, "b", 2, 3, 1, 2), g.Param("w", 1, 3, 1, 1), 1)
		}, "b has shape [2 3 1 2], want [2 3 1 1]"},
		{func(g *Graph) { UnitDistance(in(g, "a", 2, 3, 1, 1), in(g, "b", 2, 3, 1, 1), g.Param("w", 3), 1) }, "w has shape [3], want [1 3 1 1]"},
		{func(g *Graph) {
			UnitDistance(in(g, "a", 2, 3, 1, 1), in(g, "b", 2, 3, 1, 1), g.Param("w", 1, 3, 1, 1), 0)
		}, "eps 0 is not positive"},
		{func(g *Graph) { UnitDistance(in(g, "a", 2, 3), in(g, "b", 2, 3), g.Param("w", 1, 3, 1, 1), 1) }, "a has rank 2"},
		{func(g *Graph) { Dot(in(g, "a", 2), in(g, "b", 3)) }, "dot(a [2], b [3]): b has shape [3], want [2]"},
		{func(g *Graph) { MeanSquare(in(g, "a", 2), in(g, "b", 2, 1)) }, "mean_square(a [2], b [2 1]): b has shape [2 1], want [2]"},
		{func(g *Graph) { Add(SiLU(in(g, "a", 2)), in(g, "b", 3)) }, "add(silu#1 [2], b [3]): input 1 has shape [3], want [2]"},
		{func(g *Graph) { Add(in(g, "a", 2), in(New("other"), "b", 2)) }, `add(a [2], b [2]): a is of graph "net", b of graph "other"`},
		{func(g *Graph) { in(g, "a", 2); in(g, "a", 2) }, `input(a [2]): the name "a" is taken`},
		{func(g *Graph) { g.Param("a", 2); in(g, "a", 2) }, `input(a [2]): the name "a" is taken`},
		{func(g *Graph) { in(g, "a", 2); g.Param("a", 2) }, `param(a [2]): the name "a" belongs to an input`},
		{func(g *Graph) { g.Param("a", 2); g.Param("a", 3) }, `param(a [2]): "a" is asked for again with shape [3]`},
		{func(g *Graph) { in(g, "", 2) }, "input(): a name is needed"},
		{func(g *Graph) { in(g, "a") }, `input(): "a" needs at least one dimension`},
		{func(g *Graph) { g.Param("a", 2, 0) }, `param(): "a" has shape [2 0]: every dimension must be at least 1`},
	} {
		err := Build(func() { c.build(New("net")) })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestBuildPassesOtherPanicsThrough(t *testing.T) {
	defer func() {
		if r := recover(); r != "other" {
			t.Errorf("got %v", r)
		}
	}()
	_ = Build(func() { panic("other") })
}

func TestParams(t *testing.T) {
	g := New("net")
	g.Input("x", 1)
	w := g.Param("b.weight", 2, 3)
	g.Param("a.bias", 4)
	if g.Param("b.weight", 2, 3) != w {
		t.Error("a second request gave another tensor")
	}
	want := []Param{{"b.weight", []int{2, 3}}, {"a.bias", []int{4}}}
	g.Params()[0].Shape[0], w.Shape()[0] = 9, 9 // copies
	if got := g.Params(); !reflect.DeepEqual(got, want) || !slices.Equal(w.Shape(), []int{2, 3}) {
		t.Errorf("got %v, want %v", got, want)
	}
	if w.Name() != "b.weight" || w.Graph() != g || g.Name() != "net" {
		t.Error("names")
	}
}

// Leaves of one shape and operations that look alike stay apart; gorgonia would merge them.
func TestNothingIsMerged(t *testing.T) {
	g := New("net")
	x, y := g.Input("x", 3), g.Input("y", 3)
	a, b := SiLU(x), SiLU(x)
	if x.n == y.n || a.n == b.n {
		t.Fatal("merged")
	}
	uid := g.uid
	g.uid-- // the next operation gets the identity, and so the hash, of b
	c := SiLU(x)
	if c.n == b.n || c.n == a.n || g.uid != uid+1 {
		t.Error("an operation with the hash of another one was merged with it")
	}
	seen := map[*G.Node]bool{}
	const n = 5000
	for range n {
		seen[Scale(x, 2).n] = true
	}
	if len(seen) != n {
		t.Errorf("%d operations became %d nodes", n, len(seen))
	}
	p, err := g.Program(Add(a, b, c))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Nodes) != 5 || !slices.Equal(p.Nodes[4].In, []int{1, 2, 3}) {
		t.Errorf("got %+v", p.Nodes)
	}
}

// A cached type would poison gorgonia's global pool of types.
func TestTypeIsFresh(t *testing.T) {
	g := New("net")
	s := SiLU(g.Input("x", 3)).n.Op().(*symbol)
	if a, b := s.Type(), s.Type(); reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() {
		t.Error("two calls gave one type")
	}
}

func denoiserWithGradients(t *testing.T) (*Graph, *Program) {
	t.Helper()
	for _, c := range gradientCases() {
		if c.name != "denoiser" {
			continue
		}
		g, out, cost, leaves := c.graph(t)
		grads, err := Grad(cost, leaves...)
		if err != nil {
			t.Fatal(err)
		}
		p, err := g.Program(append(grads, out)...)
		if err != nil {
			t.Fatal(err)
		}
		return g, p
	}
	t.Fatal("no denoiser")
	return nil, nil
}

// The same construction gives the identical program, also beside others.
func TestProgramIsDeterministic(t *testing.T) {
	_, want := denoiserWithGradients(t)
	names := map[string]bool{}
	for i, n := range want.Nodes {
		if n.ID != i || n.Name == "" || names[n.Name] {
			t.Fatalf("node %d has id %d and name %q", i, n.ID, n.Name)
		}
		names[n.Name] = true
		for _, k := range n.In {
			if k >= i {
				t.Fatalf("%s comes before its input", n.Name)
			}
		}
		if n.Leaf == NotLeaf && rules[n.Op.Kind].run == nil {
			t.Fatalf("%s has kind %q", n.Name, n.Op.Kind)
		}
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, got := denoiserWithGradients(t); !reflect.DeepEqual(got, want) {
				t.Error("two constructions gave two programs")
			}
		})
	}
	wg.Wait()
}

func TestProgramHoldsOnlyWhatOutputsNeed(t *testing.T) {
	g := New("net")
	x, w := g.Input("x", 2, 3), g.Param("w", 4, 3)
	unused := SiLU(x)
	y := Linear(x, w, nil)
	grads, err := Grad(Dot(y, g.Input("dy", 2, 4)), w)
	if err != nil {
		t.Fatal(err)
	}
	p, err := g.Program(grads...)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []Kind
	for _, n := range p.Nodes {
		if n.Leaf == NotLeaf {
			kinds = append(kinds, n.Op.Kind)
		}
	}
	if want := []Kind{KindOne, KindScaleBy, KindLinearGradWeight}; !slices.Equal(kinds, want) {
		t.Errorf("got %v, want %v", kinds, want)
	}
	p, err = g.Program(x, unused, x) // leaves and repeated outputs
	if err != nil || !slices.Equal(p.Outputs, []int{0, 1, 0}) {
		t.Errorf("got %+v, %v", p, err)
	}
	for _, bad := range [][]*Tensor{nil, {nil}, {New("other").Input("x", 1)}} {
		if _, err := g.Program(bad...); err == nil {
			t.Errorf("outputs %v were accepted", bad)
		}
	}
}

func TestProgramRefusesForeignOperations(t *testing.T) {
	g := New("net")
	x := g.Input("x", 2)
	for i, n := range []*G.Node{G.Must(G.Sub(x.n, x.n)), G.Must(G.HadamardProd(x.n, x.n)), G.Must(G.Tanh(x.n))} {
		if _, err := g.Program(g.of(n)); err == nil {
			t.Errorf("foreign operation %d was exported", i)
		}
	}
	if _, err := g.Program(g.of(G.Must(G.Add(x.n, x.n)))); err != nil {
		t.Error(err)
	}
}

func TestGradErrors(t *testing.T) {
	g := New("net")
	x, w, far, ids := g.Input("x", 2), g.Param("w", 2), g.Param("far", 2), g.Input("ids", 2)
	table := g.Param("table", 3, 1)
	SiLU(far)
	mid := Add(x, w)
	cost := Add(Dot(mid, x), MeanSquare(Embed(ids, table), g.Input("y", 2, 1)))
	for _, c := range []struct {
		cost *Tensor
		wrt  []*Tensor
		want string
	}{
		{nil, []*Tensor{x}, "gradient: a cost and at least one leaf are needed"},
		{cost, nil, "gradient: a cost and at least one leaf are needed"},
		{mid, []*Tensor{x}, "gradient of add#1: shape [2], want a scalar"},
		{cost, []*Tensor{w, far}, "gradient of add#2: no differentiable path from far"},
		{cost, []*Tensor{ids}, "gradient of add#2: no differentiable path from ids"},
		{cost, []*Tensor{mid}, "gradient of add#2: add#1 is not a leaf"},
		{cost, []*Tensor{x, w, x}, "gradient of add#2: x is given twice"},
		{cost, []*Tensor{nil}, "gradient of add#2: leaf 0 is nil or of another graph"},
	} {
		if _, err := Grad(c.cost, c.wrt...); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	grads, err := Grad(cost, w, x, table) // none of the refusals spoilt the graph
	if err != nil {
		t.Fatal(err)
	}
	p, err := g.Program(grads...)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Evaluate(p, map[string][]float64{"x": {1, 2}, "w": {3, 5}, "ids": {2, 2}, "table": {0, 0, 7}, "y": {1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	near(t, slices.Concat(got...), []float64{1, 2, 5, 9, 0, 0, 11}, 1e-15)
	if _, err := Grad(cost, w); err == nil || err.Error() != "gradient of add#2: graph net is differentiated already" {
		t.Errorf("got %v", err)
	}
}

// A wrong sum of gradients, which a hash collision inside gorgonia could cause, is found.
func TestSumsOfGradientsAreChecked(t *testing.T) {
	g := New("net")
	x := g.Input("x", 2)
	a, b, c := SiLU(x), GELU(x), Scale(x, 3)
	if _, err := Grad(Dot(Add(a, b, c), g.Input("y", 2)), x); err != nil {
		t.Fatal(err)
	}
	var terms []*G.Node
	for _, n := range g.expr.AllNodes() {
		if s, ok := n.Op().(*symbol); ok && (s.Kind == KindSiLUGrad || s.Kind == KindGELUGrad || s.Kind == KindScale && n != c.n) {
			terms = append(terms, n)
		}
	}
	if len(terms) != 3 {
		t.Fatalf("%d terms", len(terms))
	}
	right := 0
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		g.terms = map[*G.Node][]*G.Node{x.n: {terms[order[0]], terms[order[1]], terms[order[2]]}}
		if g.checkSums() == nil {
			right++
		}
	}
	if right != 1 {
		t.Errorf("%d of 6 orders of terms pass, want the one that was summed", right)
	}
}

func TestAccessors(t *testing.T) {
	g := New("net")
	x, seq := g.Input("x", 1, 6, 4, 4), g.Input("seq", 1, 6, 12)
	op := func(t *Tensor) Op { return t.n.Op().(*symbol).Op }
	if o := (Conv{2, 1, 2, 3, 4}); op(Conv2D(x, g.Param("w", 2, 6, 3, 3), nil, o)).Conv() != o {
		t.Error("conv")
	}
	if op(GroupNorm(x, g.Param("g", 6), g.Param("b", 6), 3, 1e-5)) != (Op{Kind: KindGroupNorm, Ints: [8]int{3}, Eps: 1e-5}) {
		t.Error("group norm")
	}
	if o := op(QKVAttention(seq, 2, true, 0.5)); o.Heads() != 2 || !o.Legacy() || o.Scale != 0.5 {
		t.Error("attention")
	}
	if op(QKVAttention(seq, 2, false, 0.5)).Legacy() {
		t.Error("new order")
	}
	if from, to := op(SliceChannels(x, 1, 3)).Range(); from != 1 || to != 3 {
		t.Error("slice")
	}
	if h, w := op(Untokens(seq, 2, 3)).Size(); h != 2 || w != 3 {
		t.Error("untokens")
	}
	if op(TimeEmbedding(g.Input("t", 1), 9)).Width() != 9 {
		t.Error("time embedding")
	}
	if !slices.IsSorted(Kinds()) || len(Kinds()) != len(slices.Collect(maps.Keys(rules))) {
		t.Error("kinds")
	}
}

// TestWithNorms checks the relations between the forms of a network: two samples that are one image's parts and pool their moments;
// the same with those moments given; and that the program itself stays as it was.
func TestWithNorms(t *testing.T) {
	g := New("net")
	var out *Tensor
	if err := Build(func() {
		x := g.Input("x", 2, 4, 3, 3)
		for _, name := range []string{"a", "b"} {
			n := GroupNorm(x, g.Param(name+".g", 4), g.Param(name+".b", 4), 2, 1e-5)
			x = Conv2D(SiLU(n), g.Param(name+".w", 4, 4, 1, 1), nil, Conv{Stride: 1})
		}
		out = x
	}); err != nil {
		t.Fatal(err)
	}
	p, err := g.Program(out)
	if err != nil {
		t.Fatal(err)
	}
	before := fmt.Sprint(*p)
	r := random(3)
	feed := map[string][]float64{"window": {0, 0, 1, 1, 0, 0, 1, 1}, "weight": {1, 1}}
	for _, n := range p.Nodes {
		if n.Leaf != NotLeaf {
			v := make([]float64, volume(n.Shape))
			for i := range v {
				v[i] = r.NormFloat64()
			}
			feed[n.Name] = v
		}
	}
	evaluate := func(n Norms) [][]float64 {
		t.Helper()
		q, count := p.WithNorms(n)
		if want := map[bool]int{false: 0, true: 2}[n != Norms{}]; count != want {
			t.Fatalf("%+v: %d norms", n, count)
		}
		y, err := Evaluate(q, feed)
		if err != nil {
			t.Fatal(err)
		}
		return y
	}
	own := evaluate(Norms{})[0]
	alone := evaluate(Norms{Pool: 1})
	near(t, alone[0], own, 1e-12)
	pooled := evaluate(Norms{Pool: 2, Collect: true})
	if len(alone) != 1 || len(pooled) != 3 || slices.Equal(pooled[0], own) || !slices.Equal(pooled[1][:4], pooled[1][4:]) {
		t.Fatalf("%d and %d outputs, moments %v", len(alone), len(pooled), pooled[1])
	}
	feed["norm.0"], feed["norm.1"] = pooled[1], pooled[2]
	given := evaluate(Norms{Given: true, Collect: true})
	near(t, given[0], pooled[0], 1e-12)
	for k := range 2 { // the moments of the parts are those that were pooled
		for i := range 2 {
			near(t, []float64{(given[1+k][i] + given[1+k][4+i]) / 2}, pooled[1+k][i:i+1], 1e-12)
		}
	}
	feed["norm.1"][0]++
	if slices.Equal(evaluate(Norms{Given: true})[0], pooled[0]) {
		t.Error("given moments are not used")
	}
	feed["window"][6] = 1.5
	q, _ := p.WithNorms(Norms{Pool: 2})
	if _, err := Evaluate(q, feed); err == nil || !strings.Contains(err.Error(), "is no part of an image of 3x3") {
		t.Errorf("got %v", err)
	}
	if fmt.Sprint(*p) != before {
		t.Error("the program was changed")
	}
}

// A graph of the size of a real denoiser with its gradients stays cheap to build.
func BenchmarkBuildAndDifferentiate(b *testing.B) {
	for b.Loop() {
		g := New("deep")
		h := g.Input("x", 1, 4, 8, 8)
		var params []*Tensor
		for i := range 300 {
			w, c := g.Param(fmt.Sprint("w", i), 4, 4, 3, 3), g.Param(fmt.Sprint("b", i), 4)
			params = append(params, w, c)
			h = Add(h, Conv2D(SiLU(h), w, c, Same(3)))
		}
		if _, err := Grad(Dot(h, h), params...); err != nil {
			b.Fatal(err)
		}
	}
}
