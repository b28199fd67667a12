package inception

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

// TestGraphNames has names of the published graph, of every form.
func TestGraphNames(t *testing.T) {
	for key, want := range map[string]string{
		"Conv2d_1a_3x3.conv.weight":                "conv/conv2d_params",
		"Conv2d_4a_3x3.bn.running_var":             "conv_4/batchnorm/moving_variance",
		"Mixed_5b.branch1x1.bn.bias":               "mixed/conv/batchnorm/beta",
		"Mixed_5b.branch5x5_2.conv.weight":         "mixed/tower/conv_1/conv2d_params",
		"Mixed_5d.branch3x3dbl_3.bn.weight":        "mixed_2/tower_1/conv_2/batchnorm/gamma",
		"Mixed_5c.branch_pool.bn.running_mean":     "mixed_1/tower_2/conv/batchnorm/moving_mean",
		"Mixed_6a.branch3x3.conv.weight":           "mixed_3/conv/conv2d_params",
		"Mixed_6a.branch3x3dbl_2.conv.weight":      "mixed_3/tower/conv_1/conv2d_params",
		"Mixed_6e.branch7x7_1.conv.weight":         "mixed_7/tower/conv/conv2d_params",
		"Mixed_6b.branch7x7dbl_5.conv.weight":      "mixed_4/tower_1/conv_4/conv2d_params",
		"Mixed_7a.branch3x3_2.conv.weight":         "mixed_8/tower/conv_1/conv2d_params",
		"Mixed_7a.branch7x7x3_4.conv.weight":       "mixed_8/tower_1/conv_3/conv2d_params",
		"Mixed_7b.branch3x3_1.conv.weight":         "mixed_9/tower/conv/conv2d_params",
		"Mixed_7c.branch3x3_2b.conv.weight":        "mixed_10/tower/mixed/conv_1/conv2d_params",
		"Mixed_7c.branch3x3dbl_3a.bn.running_mean": "mixed_10/tower_1/mixed/conv/batchnorm/moving_mean",
		"Mixed_7c.branch3x3dbl_2.bn.running_mean":  "mixed_10/tower_1/conv_1/batchnorm/moving_mean",
		"fc.weight": "softmax/weights",
		"fc.bias":   "softmax/biases",
	} {
		if got := graphName(key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	seen := map[string]string{}
	for _, k := range Keys() {
		if strings.HasSuffix(k.Name, counterKey) {
			continue
		}
		name := graphName(k.Name)
		if seen[name] != "" {
			t.Errorf("%s is both %s and %s", name, seen[name], k.Name)
		}
		seen[name] = k.Name
	}
}

func field(tag int, b []byte) []byte {
	return append(binary.AppendUvarint(binary.AppendUvarint(nil, uint64(tag<<3|2)), uint64(len(b))), b...)
}

func number(tag int, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, uint64(tag<<3)), v)
}

// node is a constant; its values are raw, or a list where all are alike and it is short.
func node(name string, shape []int, v []float32) []byte {
	var dims, content []byte
	for _, d := range shape {
		dims = append(dims, field(2, number(1, uint64(d)))...)
	}
	tag := 4
	if !slices.ContainsFunc(v, func(x float32) bool { return x != v[0] }) {
		v, tag = v[:1], 5
	}
	for _, x := range v {
		content = binary.LittleEndian.AppendUint32(content, math.Float32bits(x))
	}
	tensor := slices.Concat(number(1, 1), field(2, dims), field(tag, content))
	dtype := field(5, slices.Concat(field(1, []byte("dtype")), field(2, number(6, 1))))
	value := field(5, slices.Concat(field(1, []byte("value")), field(2, field(8, tensor))))
	return field(1, slices.Concat(field(1, []byte(name)), field(2, []byte("Const")), dtype, value))
}

// graph writes a state dict as a TensorFlow graph, with a node that is no weight.
func graph(t testing.TB, f *weights.File) []byte {
	t.Helper()
	data := field(1, slices.Concat(field(1, []byte("DecodeJpeg/contents")), field(2, []byte("Placeholder"))))
	for _, x := range f.Tensors() {
		if strings.HasSuffix(x.Name, counterKey) {
			continue
		}
		v, err := x.Values()
		if err != nil {
			t.Fatal(err)
		}
		shape, y := graphShape(x.Shape), v
		if len(shape) > 1 { // O is first in the state dict and last in the graph; C is before it
			y = make([]float32, len(v))
			o, c := x.Shape[0], x.Shape[1]
			taps := len(v) / o / c
			for i, e := range v {
				y[(i%taps*c+i/taps%c)*o+i/taps/c] = e
			}
		}
		if strings.HasSuffix(x.Name, ".bn.weight") { // as published
			y = slices.Repeat([]float32{1}, len(v))
		}
		data = append(data, node(graphName(x.Name), shape, y)...)
	}
	return append(data, field(4, number(1, 8))...) // the version
}

// TestGraphFile reads a graph and compares every weight with the state dict that it was made of.
func TestGraphFile(t *testing.T) {
	write := func(data []byte) string {
		path := filepath.Join(t.TempDir(), "classify_image_graph_def.pb")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	f := file(t)
	data := graph(t, f)
	m, err := Open(write(data))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.SHA256 == "" {
		t.Error("no digest")
	}
	var tensors []*weights.Tensor
	for _, x := range f.Tensors() {
		if strings.HasSuffix(x.Name, ".bn.weight") {
			continue
		}
		tensors = append(tensors, x)
	}
	ref := bind(t)
	compared := 0
	for _, x := range tensors {
		if strings.HasSuffix(x.Name, counterKey) {
			continue
		}
		got, err := m.stored(x.Name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := ref.stored(x.Name)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s differs", x.Name)
		}
		compared++
	}
	if compared != 4*94+2 {
		t.Errorf("%d entries compared", compared)
	}
	if got, err := m.stored("Mixed_5b.branch1x1.bn.weight"); err != nil || len(got) != 64 || got[63] != 1 {
		t.Errorf("a repeated value is %v, %v", got, err)
	}
	m.Release("fc.weight") // does nothing

	for name, c := range map[string]struct {
		change func(g graphDef)
		want   string
	}{
		"missing":     {func(g graphDef) { delete(g, "softmax/biases") }, "1 entries do not fit: softmax/biases is missing"},
		"other shape": {func(g graphDef) { g["softmax/biases"] = constant{shape: []int{1000}} }, "softmax/biases has shape [1000], want [1008]"},
		"too short":   {func(g graphDef) { g["softmax/biases"] = constant{shape: []int{1008}, raw: make([]byte, 8)} }, "holds 8 bytes and 0 values"},
		"no values":   {func(g graphDef) { g["softmax/biases"] = constant{shape: []int{1008}} }, "holds 0 bytes and 0 values"},
	} {
		g, err := parseGraphDef(data)
		if err != nil {
			t.Fatal(err)
		}
		c.change(g)
		if err := g.check(); err == nil || exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"cut":              {data[:len(data)/50], "cut off"},
		"something else":   {append([]byte{0x0a, 2, 0x0b, 0}, make([]byte, 20)...), "node \"\": damaged"},
		"some other graph": {node("a", []int{2}, []float32{1, 2}), "472 entries do not fit"},
	} {
		_, err := Open(write(c.data))
		if err == nil || exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func FuzzGraphDef(f *testing.F) {
	f.Add(node("a", []int{2, 1}, []float32{1, 2}))
	f.Add(node("softmax/biases", []int{3}, []float32{1, 1, 1}))
	f.Add(field(1, slices.Concat(field(1, []byte("x")), field(2, []byte("Const")), field(5, nil))))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := parseGraphDef(data)
		if err != nil {
			return
		}
		if err := g.check(); err == nil {
			t.Error("a small file holds the whole network")
		}
	})
}
