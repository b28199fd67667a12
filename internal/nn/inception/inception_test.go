package inception

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
)

// file makes generated weights.
func file(t testing.TB) *weights.File {
	t.Helper()
	var keys []weights.Param
	for _, k := range Keys() {
		keys = append(keys, weights.Param(k))
	}
	f, err := formula.Source{}.File(keys)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func bind(t testing.TB) *Model {
	t.Helper()
	m, err := Bind(file(t))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// vectors are the entries of a file of the reference vectors.
func vectors(t testing.TB, name string) map[string]golden.Tensor {
	t.Helper()
	all := map[string]golden.Tensor{}
	for _, e := range golden.Tensors(t, filepath.Join(golden.Dir(t, "eval", "features"), name)) {
		all[e.Name] = e
	}
	return all
}

// TestGoldenKeys compares the state dict with the list of the reference: names, shapes and order.
func TestGoldenKeys(t *testing.T) {
	f, err := os.Open(filepath.Join(golden.Dir(t, "eval", "features"), "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := json.NewDecoder(f)
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	keys := Keys()
	for i := 0; d.More(); i++ {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		var shape []int
		if err := d.Decode(&shape); err != nil {
			t.Fatal(err)
		}
		if i >= len(keys) || keys[i].Name != name || !slices.Equal(keys[i].Shape, shape) {
			t.Fatalf("entry %d is %s %v, want the %d entries of the reference", i, name, shape, len(keys))
		}
		keys[i].Name = ""
	}
	if n := len(keys); keys[n-1].Name != "" {
		t.Errorf("entry %s is not in the reference", keys[n-1].Name)
	}
}

// TestGoldenLayers computes the network in float64 with the slow reference kernels and compares every layer, so that the first
// wrong one shows, and every tap.
func TestGoldenLayers(t *testing.T) {
	const protocol, image = "torch_fidelity", "200x333"
	layers, taps := vectors(t, "layers.safetensors"), vectors(t, "taps_f64.safetensors")
	m := bind(t)
	g := ir.New("inception")
	var names []string
	var out []*ir.Tensor
	if err := ir.Build(func() {
		all := apply(g.Input("image", 1, 3, Size, Size), func(name string, y *ir.Tensor) {
			names, out = append(names, name), append(out, y)
		})
		for _, tap := range Taps {
			names, out = append(names, string(tap)), append(out, all[tap])
		}
	}); err != nil {
		t.Fatal(err)
	}
	p, err := g.Program(out...)
	if err != nil {
		t.Fatal(err)
	}
	feed := map[string][]float64{"image": vectors(t, "inputs_299.safetensors")[protocol+"/"+image].Values(t)}
	for _, p := range g.Params() {
		if feed[p.Name], err = m.Values(p.Name); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ir.Evaluate(p, feed)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, got []float64, want golden.Tensor) {
		t.Helper()
		e := relMax(got, want.Values(t))
		if !(e <= 1e-12) {
			t.Fatalf("%s differs by %.1e of its largest value", name, e)
		}
	}
	compared := 0
	for i, y := range got {
		if slices.Contains(Taps, Tap(names[i])) {
			check("tap "+names[i], y, taps[protocol+"/"+image+"/"+names[i]])
			continue
		}
		c := out[i].Dim(1)
		means, maxima, hw := make([]float64, c), make([]float64, c), len(y)/c
		for ch := range c {
			plane := y[ch*hw : (ch+1)*hw]
			maxima[ch] = slices.Max(plane)
			for _, v := range plane {
				means[ch] += v / float64(hw)
			}
		}
		check(names[i]+".mean", means, layers[names[i]+".mean"])
		check(names[i]+".max", maxima, layers[names[i]+".max"])
		compared += 2
	}
	if compared != len(layers) {
		t.Errorf("%d of %d entries compared", compared, len(layers))
	}
}

// relMax is the largest difference relative to the largest wanted value.
func relMax(got, want []float64) float64 {
	if len(got) != len(want) {
		return math.NaN()
	}
	var d, most float64
	for i, w := range want {
		d, most = max(d, math.Abs(got[i]-w)), max(most, math.Abs(w))
	}
	return d / most
}

func TestGraphErrors(t *testing.T) {
	for _, c := range []struct {
		n    int
		taps []Tap
		want string
	}{
		{0, Taps, "0 images"},
		{1, []Tap{"100"}, `tap "100" is not one of`},
		{1, []Tap{Pool1, Pool2, Pool1}, "tap 64 is listed twice"},
		{1, nil, "no outputs"},
	} {
		if _, err := Graph(c.n, c.taps...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

// TestGraph checks that taps are in the order asked for, and that a graph holds what they need and no more.
func TestGraph(t *testing.T) {
	g, err := Graph(2, Pool2, Pool1)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(g.Shape("192"), []int{2, 192}) || !slices.Equal(g.Shape("64"), []int{2, 64}) || !slices.Equal(g.Outputs, []string{"192", "64"}) {
		t.Errorf("outputs %v", g.Outputs)
	}
	for _, n := range g.Nodes {
		if strings.HasPrefix(n.Name, "Mixed") {
			t.Errorf("%s is not needed", n.Name)
		}
	}
}

// TestBind checks that a file that does not fit is refused, and that counters may be absent.
func TestBind(t *testing.T) {
	change := func(edit func(x *weights.Tensor) *weights.Tensor) (*Model, error) {
		var tensors []*weights.Tensor
		for _, x := range file(t).Tensors() {
			if x = edit(x); x != nil {
				tensors = append(tensors, x)
			}
		}
		f, err := weights.NewMemory(tensors)
		if err != nil {
			t.Fatal(err)
		}
		return Bind(f)
	}
	if _, err := change(func(x *weights.Tensor) *weights.Tensor {
		if strings.HasSuffix(x.Name, counterKey) {
			return nil
		}
		return x
	}); err != nil {
		t.Errorf("without counters: %v", err)
	}
	for _, name := range []string{"fc.bias", "Mixed_7c.branch_pool.bn.running_var", "Conv2d_1a_3x3.conv.weight"} {
		_, err := change(func(x *weights.Tensor) *weights.Tensor {
			if x.Name == name {
				return x.Renamed("AuxLogits.fc.bias")
			}
			return x
		})
		if err == nil || exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "missing: "+name) || !strings.Contains(err.Error(), "unexpected: AuxLogits.fc.bias") {
			t.Errorf("%s renamed: %v", name, err)
		}
	}
}

// TestLoad compares folded weights with the definition, written out for one layer.
func TestLoad(t *testing.T) {
	m := bind(t)
	const base = "Mixed_5b.branch1x1"
	get := func(key string) []float32 {
		v, err := m.tensors[base+key].Values()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	w, gamma, beta, mean, variance := get(".conv.weight"), get(".bn.weight"), get(".bn.bias"), get(".bn.running_mean"), get(".bn.running_var")
	gotW, gotB := make([]float32, len(w)), make([]float32, len(beta))
	if err := m.Load(base+".conv.weight", gotW); err != nil {
		t.Fatal(err)
	}
	if err := m.Load(base+".bn.bias", gotB); err != nil {
		t.Fatal(err)
	}
	for o := range beta {
		s := float64(gamma[o]) / math.Sqrt(float64(variance[o])+1e-3)
		if want := float32(float64(beta[o]) - float64(mean[o])*s); gotB[o] != want {
			t.Fatalf("bias %d is %v, want %v", o, gotB[o], want)
		}
		for i := o * len(w) / len(beta); i < (o+1)*len(w)/len(beta); i++ {
			if want := float32(float64(w[i]) * s); gotW[i] != want {
				t.Fatalf("weight %d is %v, want %v", i, gotW[i], want)
			}
		}
	}
	for _, err := range []error{m.Load("fc.bias", make([]float32, 3)), m.Load("fc.gamma", nil)} {
		if err == nil {
			t.Error("no error")
		}
	}
}

// TestOpen opens a file whose name holds the beginning of its digest, and one whose name holds another.
func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inception.safetensors")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := weights.Convert(file(t), out, weights.ConvertOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	m, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if m.Path != path || len(m.SHA256) != 64 {
		t.Errorf("path %s, digest %s", m.Path, m.SHA256)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	for digits, ok := range map[string]bool{m.SHA256[:8]: true, "01234567": false} {
		named := filepath.Join(filepath.Dir(path), fmt.Sprintf("pt_inception-2015-12-05-%s.pth", digits))
		if err := os.Rename(path, named); err != nil {
			t.Fatal(err)
		}
		path = named
		m, err := Open(named)
		if (err == nil) != ok {
			t.Errorf("%s: %v", named, err)
		}
		if err == nil {
			m.Close()
		} else if exitcode.Of(err) != exitcode.Data {
			t.Errorf("%v is of class %v", err, exitcode.Of(err))
		}
	}
}
