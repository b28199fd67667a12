package lpips_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/nn/lpips"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// generated makes the weights of the reference vectors.
func generated(t testing.TB) []*weights.Tensor {
	t.Helper()
	var convs []weights.Param
	var list []*weights.Tensor
	for _, k := range lpips.Keys("") {
		switch {
		case strings.HasPrefix(k.Name, "net."):
			convs = append(convs, weights.Param(k))
		case strings.HasPrefix(k.Name, "lin"):
			head, err := tensor.Generated(k.Name, k.Shape, func(dst []float32) error {
				formula.Fill(dst, "lpips."+k.Name, formula.NonNegative, k.Shape, 1)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, head)
		}
	}
	net, err := formula.Source{Prefix: "lpips."}.Tensors(convs)
	if err != nil {
		t.Fatal(err)
	}
	return append(net, list...)
}

func model(t testing.TB) *lpips.Model {
	t.Helper()
	f, err := weights.NewMemory(generated(t))
	if err != nil {
		t.Fatal(err)
	}
	m, err := lpips.Bind(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// vectors are the entries of the reference file by name, and the names of the pairs.
func vectors(t testing.TB) (entries map[string]golden.Tensor, pairs []string) {
	t.Helper()
	entries = map[string]golden.Tensor{}
	for _, e := range golden.Tensors(t, golden.Dir(t, "training", "lpips.safetensors")) {
		entries[e.Name] = e
		if pair, ok := strings.CutSuffix(e.Name, ".distance"); ok {
			pairs = append(pairs, pair)
		}
	}
	if len(pairs) == 0 {
		t.Fatal("no pair of images")
	}
	return entries, pairs
}

// program computes all that the reference file holds: the sum of the distances is differentiated.
func program(t testing.TB, shape []int) *ir.Program {
	t.Helper()
	g := ir.New("lpips")
	var outputs []*ir.Tensor
	var cost, b *ir.Tensor
	if err := ir.Build(func() {
		a := g.Input("a", shape...)
		b = g.Input("b", shape...)
		scaled, features := lpips.Features(a, "")
		d, layers := lpips.Distance(a, b, "")
		outputs = append(append(outputs, d, scaled, features[lpips.Layers-1]), layers...)
		cost = ir.Sum(d)
	}); err != nil {
		t.Fatal(err)
	}
	grads, err := ir.Grad(cost, b)
	if err != nil {
		t.Fatal(err)
	}
	p, err := g.Program(append(outputs, grads...)...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestGolden computes one sample of the smallest pair with the reference kernels, which are slow.
func TestGolden(t *testing.T) {
	entries, pairs := vectors(t)
	pair := slices.MinFunc(pairs, func(a, b string) int { return len(entries[a+".a"].Data) - len(entries[b+".a"].Data) })
	samples := entries[pair+".a"].Shape[0]
	value := func(name string) []float32 {
		v := entries[pair+"."+name].Float32s(t)
		return v[:len(v)/samples]
	}
	shape := append([]int{1}, entries[pair+".a"].Shape[1:]...)
	m, p := model(t), program(t, shape)
	got, err := ir.Evaluate(p, feed(t, m, p, map[string][]float32{"a": value("a"), "b": value("b")}))
	if err != nil {
		t.Fatal(err)
	}
	check(t, pair, shape, got, value)
}

// check compares the outputs of a program.
func check(t *testing.T, pair string, shape []int, got [][]float32, value func(string) []float32) {
	t.Helper()
	n, h, w := shape[0], shape[2], shape[3]
	golden.Near(t, "lpips/"+pair+" distance", got[0], value("distance"), 1e-5)
	golden.Near(t, "lpips/"+pair+" relu5_3", got[2], value("relu5_3_a"), 1e-5)
	var corner []float32
	for i := range 3 * n {
		for y := range 2 {
			corner = append(corner, got[1][i*h*w+y*w:][:2]...)
		}
	}
	golden.Near(t, "lpips/"+pair+" scaled", corner, value("scaled_a_corner"), 1e-6)
	layers := make([]float32, n*lpips.Layers)
	for i := range lpips.Layers {
		for k := range n {
			layers[k*lpips.Layers+i] = got[3+i][k]
		}
	}
	golden.Near(t, "lpips/"+pair+" layers", layers, value("per_layer"), 1e-5)
	// A few choices of rectifiers and maxima fall on the other side and move a few elements: the whole within 2 %, but the median
	// element far closer.
	grad, want := got[3+lpips.Layers], value("grad_b")
	golden.Near(t, "lpips/"+pair+" gradient", grad, want, 2e-2)
	diff, size := make([]float64, len(want)), make([]float64, len(want))
	for i := range want {
		diff[i], size[i] = math.Abs(float64(grad[i]-want[i])), math.Abs(float64(want[i]))
	}
	slices.Sort(diff)
	slices.Sort(size)
	e := diff[len(diff)/2] / size[len(size)/2]
	golden.Line(t, "lpips/"+pair+" median gradient", e, 1e-4)
	if !(e <= 1e-4) {
		t.Errorf("median difference of the gradient is %.1e of the median gradient", e)
	}
}

// feed adds the weights of a program to its inputs.
func feed(t testing.TB, m *lpips.Model, p *ir.Program, in map[string][]float32) map[string][]float32 {
	t.Helper()
	for _, n := range p.Nodes {
		if n.Leaf != ir.ParamLeaf {
			continue
		}
		size := 1
		for _, d := range n.Shape {
			size *= d
		}
		w := make([]float32, size)
		if err := m.Load(n.Name, w); err != nil {
			t.Fatal(err)
		}
		in[n.Name] = w
	}
	return in
}
