package ir

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"
)

// run evaluates one output of a fresh graph.
func run[T float32 | float64](t testing.TB, build func(g *Graph) *Tensor, feed map[string][]T) []T {
	t.Helper()
	g := New("test")
	var out *Tensor
	if err := Build(func() { out = build(g) }); err != nil {
		t.Fatal(err)
	}
	p, err := g.Program(out)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Evaluate(p, feed)
	if err != nil {
		t.Fatal(err)
	}
	if len(got[0]) != volume(out.Shape()) {
		t.Fatalf("%d values for shape %v", len(got[0]), out.Shape())
	}
	return got[0]
}

func near(t *testing.T, got, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d values %v, want %v", len(got), got, want)
	}
	for i := range want {
		if !(math.Abs(got[i]-want[i]) <= tol) {
			t.Fatalf("value %d is %v, want %v (all: %v, want %v)", i, got[i], want[i], got, want)
		}
	}
}

// TestSmallValues compares with results worked out by hand.
func TestSmallValues(t *testing.T) {
	type feed = map[string][]float64
	e := math.E
	for _, c := range []struct {
		name  string
		build func(g *Graph) *Tensor
		feed  feed
		want  []float64
	}{
		{
			"conv reads across without flipping the kernel", func(g *Graph) *Tensor {
				return Conv2D(g.Input("x", 1, 1, 2, 2), g.Param("w", 1, 1, 2, 2), g.Param("b", 1), Conv{1, 0, 0, 1, 1})
			},
			feed{"x": {1, 2, 3, 4}, "w": {1, 10, 100, 1000}, "b": {0.5}}, []float64{4321.5, 402.5, 43.5, 4.5},
		},
		{
			"conv stride 2, padding bottom right only", func(g *Graph) *Tensor {
				return Conv2D(g.Input("x", 1, 1, 4, 4), g.Param("w", 1, 1, 3, 3), nil, Conv{Stride: 2, Bottom: 1, Right: 1})
			},
			feed{"x": {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, "w": {1, 1, 1, 1, 1, 1, 1, 1, 1}},
			[]float64{54, 45, 72, 54},
		},
		{
			"linear", func(g *Graph) *Tensor { return Linear(g.Input("x", 1, 2), g.Param("w", 3, 2), g.Param("b", 3)) },
			feed{"x": {2, 3}, "w": {1, 0, 0, 1, 1, 1}, "b": {10, 20, 30}}, []float64{12, 23, 35},
		},
		{
			"group norm", func(g *Graph) *Tensor {
				return GroupNorm(g.Input("x", 1, 4, 1, 1), g.Param("g", 4), g.Param("b", 4), 2, 1)
			},
			feed{"x": {-1, 1, 4, 8}, "g": {1, 2, 3, 4}, "b": {0, 0, 0, 1}},
			[]float64{-1 / math.Sqrt2, 2 / math.Sqrt2, -6 / math.Sqrt(5), 1 + 8/math.Sqrt(5)},
		},
		{
			"group moments of a window, which is rounded", func(g *Graph) *Tensor {
				return GroupMoments(g.Input("x", 2, 2, 2, 3), g.Input("window", 2, 4), 1)
			},
			feed{"x": {9, 9, 9, 9, 1, 3, 9, 9, 9, 9, 5, 7, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6}, "window": {0.5, 1. / 3, 1, 1, 0, 0, 0.8, 0.4}},
			[]float64{4, 5, 2.5, 2.25},
		},
		{
			"pooled moments of two runs of two", func(g *Graph) *Tensor {
				return PoolMoments(g.Input("m", 4, 2), g.Input("w", 4), 2)
			},
			feed{"m": {0, 1, 4, 5, 2, 3, 2, 3}, "w": {3, 1, 1, 1}}, []float64{1, 5, 1, 5, 2, 3, 2, 3},
		},
		{
			"group norm with moments from elsewhere", func(g *Graph) *Tensor {
				return GroupNormGiven(g.Input("x", 1, 4, 1, 1), g.Param("g", 4), g.Param("b", 4), g.Input("m", 1, 4), 2, 1)
			},
			feed{"x": {1, 3, 4, 8}, "g": {1, 2, 3, 4}, "b": {0, 0, 0, 1}, "m": {1, 2, 8, 3}}, []float64{0, 4. / 3, 3, 13},
		},
		{
			"layer norm", func(g *Graph) *Tensor { return LayerNorm(g.Input("x", 2, 2), g.Param("g", 2), g.Param("b", 2), 3) },
			feed{"x": {-1, 1, 10, 12}, "g": {1, 2}, "b": {0, 5}}, []float64{-0.5, 6, -0.5, 6},
		},
		{
			"attention", func(g *Graph) *Tensor {
				return Attention(g.Input("q", 1, 1, 2), g.Input("k", 1, 2, 2), g.Input("v", 1, 2, 2), 2, 0.5)
			}, // head 0: scores 0 and 1; head 1: scores equal
			feed{"q": {2, 3}, "k": {0, 7, 1, 7}, "v": {10, 1, 20, 3}}, []float64{(10 + 20*e) / (1 + e), 2},
		},
		{"silu", func(g *Graph) *Tensor { return SiLU(g.Input("x", 3)) }, feed{"x": {0, 1, -800}}, []float64{0, e / (1 + e), 0}},
		{
			"gelu is exact", func(g *Graph) *Tensor { return GELU(g.Input("x", 4)) },
			feed{"x": {0, 1, -1, 3}}, []float64{0, 0.8413447460685429, -0.15865525393145707, 2.99595030629},
		},
		{
			"geglu gates by the second half", func(g *Graph) *Tensor { return GEGLU(g.Input("x", 1, 1, 4)) },
			feed{"x": {2, 3, 0, 1}}, []float64{0, 3 * 0.8413447460685429},
		},
		{"scale", func(g *Graph) *Tensor { return Scale(g.Input("x", 2), -2) }, feed{"x": {1, 3}}, []float64{-2, -6}},
		{
			"add", func(g *Graph) *Tensor { x := g.Input("x", 2); return Add(x, x, g.Input("y", 2)) },
			feed{"x": {1, 3}, "y": {10, 20}}, []float64{12, 26},
		},
		{
			"add channels", func(g *Graph) *Tensor { return AddChannels(g.Input("x", 2, 2, 1, 2), g.Input("t", 2, 2)) },
			feed{"x": {0, 1, 2, 3, 4, 5, 6, 7}, "t": {10, 20, 30, 40}}, []float64{10, 11, 22, 23, 34, 35, 46, 47},
		},
		{
			"modulate", func(g *Graph) *Tensor { return Modulate(g.Input("x", 2, 2, 1, 1), g.Input("s", 2, 4)) },
			feed{"x": {1, 2, 3, 4}, "s": {1, 2, 10, 20, 0, -1, 5, 6}}, []float64{12, 26, 8, 6},
		},
		{
			"add rows", func(g *Graph) *Tensor { return AddRows(g.Input("x", 2, 2, 1), g.Param("p", 2, 1)) },
			feed{"x": {1, 2, 3, 4}, "p": {10, 20}}, []float64{11, 22, 13, 24},
		},
		{
			"concat", func(g *Graph) *Tensor { return Concat(g.Input("a", 2, 1, 1, 2), g.Input("b", 2, 2, 1, 2)) },
			feed{"a": {1, 2, 3, 4}, "b": {5, 6, 7, 8, 9, 10, 11, 12}}, []float64{1, 2, 5, 6, 7, 8, 3, 4, 9, 10, 11, 12},
		},
		{
			"slice channels", func(g *Graph) *Tensor { return SliceChannels(g.Input("x", 2, 3, 1, 2), 1, 2) },
			feed{"x": {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}, []float64{2, 3, 8, 9},
		},
		{
			"slice last", func(g *Graph) *Tensor { return SliceLast(g.Input("x", 2, 3), 1, 3) },
			feed{"x": {0, 1, 2, 3, 4, 5}}, []float64{1, 2, 4, 5},
		},
		{
			"upsample", func(g *Graph) *Tensor { return Upsample2(g.Input("x", 1, 1, 2, 1)) },
			feed{"x": {1, 2}}, []float64{1, 1, 1, 1, 2, 2, 2, 2},
		},
		{
			"average pool", func(g *Graph) *Tensor { return AvgPool2(g.Input("x", 1, 1, 2, 4)) },
			feed{"x": {1, 2, 3, 4, 5, 6, 7, 9}}, []float64{3.5, 5.75},
		},
		{
			"tokens", func(g *Graph) *Tensor { return Tokens(g.Input("x", 1, 2, 1, 3)) },
			feed{"x": {1, 2, 3, 4, 5, 6}}, []float64{1, 4, 2, 5, 3, 6},
		},
		{
			"untokens", func(g *Graph) *Tensor { return Untokens(g.Input("x", 1, 3, 2), 3, 1) },
			feed{"x": {1, 4, 2, 5, 3, 6}}, []float64{1, 2, 3, 4, 5, 6},
		},
		{
			"embed", func(g *Graph) *Tensor { return Embed(g.Input("ids", 1, 2), g.Param("table", 3, 2)) },
			feed{"ids": {2, 0}, "table": {1, 2, 3, 4, 5, 6}}, []float64{5, 6, 1, 2},
		},
		{
			"time embedding, cosines first, odd width", func(g *Graph) *Tensor { return TimeEmbedding(g.Input("t", 2), 5) },
			feed{"t": {0, 3}}, []float64{1, 1, 0, 0, 0, math.Cos(3), math.Cos(0.03), math.Sin(3), math.Sin(0.03), 0},
		},
		{
			"code index, first of equals", func(g *Graph) *Tensor { return CodeIndex(g.Input("z", 1, 2, 1, 3), g.Param("book", 4, 2)) },
			feed{"z": {0, 1, 9, 0, 1, 1}, "book": {5, 5, 1, 1, -1, -1, 1, 1}}, []float64{1, 1, 0},
		},
		{
			"quantize", func(g *Graph) *Tensor { return Quantize(g.Input("z", 1, 2, 1, 3), g.Param("book", 2, 2)) },
			feed{"z": {0, 1, 9, 0, 1, 7}, "book": {5, 6, 1, 2}}, []float64{1, 1, 5, 2, 2, 6},
		},
		{
			"gaussian sample", func(g *Graph) *Tensor { return GaussianSample(g.Input("m", 1, 2, 1, 3), g.Input("n", 1, 1, 1, 3)) },
			feed{"m": {1, 2, 3, 0, 2, -50}, "n": {1, -1, 1}}, []float64{2, 2 - e, 3 + math.Exp(-15)},
		},
		{
			"gaussian sample, large variance", func(g *Graph) *Tensor {
				return Scale(GaussianSample(g.Input("m", 1, 2, 1, 1), g.Input("n", 1, 1, 1, 1)), math.Exp(-10))
			},
			feed{"m": {0, 60}, "n": {1}}, []float64{1},
		},
		{
			"gaussian mode", func(g *Graph) *Tensor { return GaussianMode(g.Input("m", 2, 2, 1, 1)) },
			feed{"m": {1, 2, 3, 4}}, []float64{1, 3},
		},
		{
			"dot", func(g *Graph) *Tensor { return Dot(g.Input("a", 5), g.Input("b", 5)) },
			feed{"a": {1, 2, 3, 4, 5}, "b": {1, 1, 1, 1, 10}}, []float64{60},
		},
		{
			"mean square", func(g *Graph) *Tensor { return MeanSquare(g.Input("a", 2), g.Input("b", 2)) },
			feed{"a": {1, 2}, "b": {4, 6}}, []float64{12.5},
		},
	} {
		t.Run(c.name, func(t *testing.T) { near(t, run(t, c.build, c.feed), c.want, 1e-7) })
	}
}

// TestConvByDefinition compares with the sum over all taps, one output at a time.
func TestConvByDefinition(t *testing.T) {
	for _, c := range []struct {
		x, w []int
		o    Conv
	}{
		{[]int{2, 3, 5, 7}, []int{4, 3, 3, 3}, Same(3)},
		{[]int{1, 5, 6, 3}, []int{2, 5, 1, 1}, Same(1)},
		{[]int{1, 2, 1, 1}, []int{3, 2, 3, 3}, Same(3)},
		{[]int{2, 3, 9, 6}, []int{1, 3, 3, 3}, Conv{Stride: 2, Bottom: 1, Right: 1}},
		{[]int{2, 1, 7, 8}, []int{3, 1, 3, 3}, Conv{2, 1, 1, 1, 1}},
		{[]int{1, 2, 8, 9}, []int{2, 2, 4, 4}, Conv{2, 1, 1, 1, 1}},
		{[]int{1, 2, 5, 5}, []int{2, 2, 4, 4}, Conv{1, 1, 1, 1, 1}},
		{[]int{1, 2, 5, 4}, []int{3, 2, 2, 3}, Conv{3, 2, 0, 1, 4}},
		{[]int{1, 1, 2, 3}, []int{1, 1, 3, 3}, Conv{1, 4, 3, 4, 5}},
		{[]int{1, 1, 3, 1}, []int{1, 1, 3, 5}, Conv{4, 0, 3, 0, 4}},
	} {
		t.Run(fmt.Sprint(c.x, c.w, c.o), func(t *testing.T) {
			r := random(3)
			fill := func(n int) []float64 {
				v := make([]float64, n)
				for i := range v {
					v[i] = r.NormFloat64()
				}
				return v
			}
			x, w, b := fill(volume(c.x)), fill(volume(c.w)), fill(c.w[0])
			var want []float64
			for n := range c.x[0] {
				for o := range c.w[0] {
					for i := -c.o.Top; i+c.w[2] <= c.x[2]+c.o.Bottom; i += c.o.Stride {
						for j := -c.o.Left; j+c.w[3] <= c.x[3]+c.o.Right; j += c.o.Stride {
							s := b[o]
							for ch := range c.x[1] {
								for u := range c.w[2] {
									for v := range c.w[3] {
										if y, z := i+u, j+v; y >= 0 && y < c.x[2] && z >= 0 && z < c.x[3] {
											s += x[((n*c.x[1]+ch)*c.x[2]+y)*c.x[3]+z] * w[((o*c.x[1]+ch)*c.w[2]+u)*c.w[3]+v]
										}
									}
								}
							}
							want = append(want, s)
						}
					}
				}
			}
			got := run(t, func(g *Graph) *Tensor {
				return Conv2D(g.Input("x", c.x...), g.Param("w", c.w...), g.Param("b", c.w[0]), c.o)
			}, map[string][]float64{"x": x, "w": w, "b": b})
			near(t, got, want, 1e-12)
		})
	}
}

// TestAttentionByDefinition compares the three ways to attend with exp(scores) and plain sums.
func TestAttentionByDefinition(t *testing.T) {
	const n, tq, h, d = 2, 5, 3, 2
	const c = h * d
	r := random(4)
	qkv := make([]float64, n*tq*3*c) // new order
	for i := range qkv {
		qkv[i] = r.NormFloat64()
	}
	legacy := make([]float64, len(qkv))
	parts := map[string][]float64{"q": nil, "k": nil, "v": nil}
	for i := range qkv {
		row, part, head, e := i/(3*c), i/c%3, i/d%h, i%d
		legacy[row*3*c+head*3*d+part*d+e] = qkv[i]
		name := "qkv"[part : part+1]
		parts[name] = append(parts[name], qkv[i])
	}
	want := make([]float64, n*tq*c)
	for s := range n {
		for head := range h {
			for i := range tq {
				var total float64
				acc := make([]float64, d)
				for j := range tq {
					var score float64
					for e := range d {
						score += parts["q"][(s*tq+i)*c+head*d+e] * parts["k"][(s*tq+j)*c+head*d+e]
					}
					p := math.Exp(0.8 * score)
					total += p
					for e := range d {
						acc[e] += p * parts["v"][(s*tq+j)*c+head*d+e]
					}
				}
				for e := range d {
					want[(s*tq+i)*c+head*d+e] = acc[e] / total
				}
			}
		}
	}
	near(t, run(t, func(g *Graph) *Tensor {
		return Attention(g.Input("q", n, tq, c), g.Input("k", n, tq, c), g.Input("v", n, tq, c), h, 0.8)
	}, parts), want, 1e-12)
	for order, x := range map[bool][]float64{false: qkv, true: legacy} {
		near(t, run(t, func(g *Graph) *Tensor {
			return QKVAttention(g.Input("x", n, tq, 3*c), h, order, 0.8)
		}, map[string][]float64{"x": x}), want, 1e-12)
	}
}

// Large scores must not overflow, and a lone key has weight 1.
func TestAttentionExtremes(t *testing.T) {
	build := func(tk int) func(g *Graph) *Tensor {
		return func(g *Graph) *Tensor {
			return Attention(g.Input("q", 1, 1, 1), g.Input("k", 1, tk, 1), g.Input("v", 1, tk, 1), 1, 1)
		}
	}
	near(t, run(t, build(2), map[string][]float64{"q": {1e4}, "k": {1, 2}, "v": {5, 7}}), []float64{7}, 0)
	near(t, run(t, build(1), map[string][]float64{"q": {-1e6}, "k": {3}, "v": {5}}), []float64{5}, 0)
}

func TestTimeEmbeddingRoundsAsFloat32(t *testing.T) {
	const dim = 320
	got := run(t, func(g *Graph) *Tensor { return TimeEmbedding(g.Input("t", 1), dim) }, map[string][]float64{"t": {999}})
	differ := false
	for i, f := range frequencies(dim / 2) {
		if math.Abs(float64(f)-math.Pow(10000, -float64(i)/(dim/2))) > 1.5e-6*float64(f) {
			t.Fatalf("frequency %d is %v", i, f)
		}
		arg := float64(float32(999) * f)
		near(t, []float64{got[i], got[dim/2+i]}, []float64{math.Cos(arg), math.Sin(arg)}, 1e-15)
		differ = differ || arg != 999*math.Pow(10000, -float64(i)/(dim/2))
	}
	if !differ {
		t.Error("the float32 product is exact: the test checks nothing")
	}
}

// In float32, z + (e-z) is not e when z is much larger.
func TestQuantizeKeepsTheRoundingOfTheStraightThroughSum(t *testing.T) {
	build := func(g *Graph) *Tensor { return Quantize(g.Input("z", 1, 1, 1, 1), g.Param("book", 1, 1)) }
	z, e := float32(1e4), float32(0.1)
	got := run(t, build, map[string][]float32{"z": {z}, "book": {e}})
	if want := z + float32(e-z); got[0] != want || got[0] == e {
		t.Errorf("got %v, want %v, which is not %v", got[0], want, e)
	}
}

// Near ties are decided by the float32 rounding of |z|^2+|e|^2-2ze: codes that it cannot tell apart give the first.
func TestCodeIndexComparesInFloat32(t *testing.T) {
	build := func(g *Graph) *Tensor { return CodeIndex(g.Input("z", 1, 1, 1, 1), g.Param("book", 2, 1)) }
	got := run(t, build, map[string][]float64{"z": {4096}, "book": {4096.001, 4096}})
	near(t, got, []float64{0}, 0)
}

func TestEvaluateErrors(t *testing.T) {
	g := New("net")
	out := Embed(g.Input("ids", 2), g.Param("table", 3, 1))
	p, err := g.Program(out)
	if err != nil {
		t.Fatal(err)
	}
	table := []float32{1, 2, 3}
	for _, c := range []struct {
		feed map[string][]float32
		want string
	}{
		{map[string][]float32{"ids": {0, 1}}, "evaluate net: no value for table [3 1]"},
		{map[string][]float32{"ids": {0}, "table": table}, "evaluate net: ids has 1 values, want 2 [2]"},
		{map[string][]float32{"ids": {0, 3}, "table": table}, "evaluate net: embed#1: id 1: 3 is not a row of a table of 3"},
		{map[string][]float32{"ids": {-1, 0}, "table": table}, "evaluate net: embed#1: id 0: -1 is not a row of a table of 3"},
		{map[string][]float32{"ids": {0.5, 0}, "table": table}, "evaluate net: embed#1: id 0: 0.5 is not a row of a table of 3"},
		{map[string][]float32{"ids": {float32(math.NaN()), 0}, "table": table}, "evaluate net: embed#1: id 0: NaN is not a row of a table of 3"},
	} {
		if _, err := Evaluate(p, c.feed); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	if _, err := Evaluate(&Program{Name: "p", Nodes: []Node{{Name: "n", Op: Op{Kind: "nonsense"}}}}, map[string][]float64{}); err == nil {
		t.Error("an unknown kind was evaluated")
	}
}

// The network as a whole: float32 follows float64, results do not depend on the number of processors or on the batch, and
// what was fed is not changed.
func TestEvaluateNetwork(t *testing.T) {
	build := func(n int) *Program {
		g := New("denoiser")
		var out *Tensor
		if err := Build(func() { out = smallDenoiser(g) }); err != nil {
			t.Fatal(err)
		}
		p, err := g.Program(out)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := build(2)
	feed := feedOf(p, 5, map[string][]float64{"t": {3, 998}, "class": {1, 2}})
	feed32, saved := map[string][]float32{}, map[string][]float64{}
	for name, v := range feed {
		for i := range v {
			v[i] = float64(float32(v[i]))
			feed32[name] = append(feed32[name], float32(v[i]))
		}
		saved[name] = slices.Clone(v)
	}
	out, err := Evaluate(p, feed)
	if err != nil {
		t.Fatal(err)
	}
	out32, err := Evaluate(p, feed32)
	if err != nil {
		t.Fatal(err)
	}
	var d, q float64
	for i, v := range out[0] {
		d += (v - float64(out32[0][i])) * (v - float64(out32[0][i]))
		q += v * v
	}
	if rel := math.Sqrt(d / q); rel > 2e-6 || rel == 0 {
		t.Errorf("float32 and float64 differ by %.1e of the norm", rel)
	}
	for name, v := range saved {
		if !slices.Equal(v, feed[name]) {
			t.Errorf("%s was changed", name)
		}
	}
	old := runtime.GOMAXPROCS(1)
	alone, err := Evaluate(p, feed32)
	runtime.GOMAXPROCS(5)
	many, err2 := Evaluate(p, feed32)
	runtime.GOMAXPROCS(old)
	if err != nil || err2 != nil || !slices.Equal(alone[0], many[0]) {
		t.Error("the result depends on the number of processors")
	}
}

func BenchmarkEvaluateConv(b *testing.B) {
	g := New("conv")
	p, err := g.Program(Conv2D(g.Input("x", 1, 64, 64, 64), g.Param("w", 64, 64, 3, 3), g.Param("b", 64), Same(3)))
	if err != nil {
		b.Fatal(err)
	}
	feed := feedOf(p, 1, nil)
	for b.Loop() {
		if _, err := Evaluate(p, feed); err != nil {
			b.Fatal(err)
		}
	}
}
