package extract

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/eval"
	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/demodata"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/models/shapes64"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/classifier"
)

// open opens the network that comes with the program.
func open(t testing.TB, threads int) *Classifier {
	t.Helper()
	o := cpu.DefaultOptions()
	o.Threads = threads
	b, err := cpu.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	x, err := OpenDefault(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	return x
}

// drawn prepares n pictures of a set that no network was trained on.
func drawn(t testing.TB, x Network, n int) (inputs []float32, labels []int) {
	t.Helper()
	set, err := demodata.New(demodata.Options{Size: 64, Seed: 77, Split: "another", Objects: 1})
	if err != nil {
		t.Fatal(err)
	}
	p, err := x.NewPreparer()
	if err != nil {
		t.Fatal(err)
	}
	inputs = make([]float32, n*x.Inputs())
	for i := range n {
		row := set.Row(int64(i))
		if err := p.Prepare(inputs[i*x.Inputs():(i+1)*x.Inputs()], eval.Picture{H: 64, W: 64, C: 3, Pix8: row.RGB}); err != nil {
			t.Fatal(err)
		}
		labels = append(labels, row.Label)
	}
	return inputs, labels
}

// TestDefaultDouble compares features with those in double precision.
func TestDefaultDouble(t *testing.T) {
	x := open(t, 0)
	const n = 2
	inputs, _ := drawn(t, x, n)
	single, err := x.Features(inputs, n)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.UseDouble(); err != nil {
		t.Fatal(err)
	}
	double, err := x.Features(inputs, n)
	if err != nil {
		t.Fatal(err)
	}
	for i, tap := range x.Taps() {
		if len(double[i]) != n*tap.D {
			t.Fatalf("%s: %d values", tap.Name, len(double[i]))
		}
		if e := relative(single[i], nn.Widened(double[i])); !(e > 0 && e < 1e-5) {
			t.Errorf("%s: relative error %.1e in single precision", tap.Name, e)
		}
	}
}

// TestDefault names the classes of fresh pictures.
func TestDefault(t *testing.T) {
	x := open(t, 0)
	if id := x.Identity(); id.Label("FID") != "FD(shapes64)" || len(id.SHA256) != 64 || id.Protocol != "" {
		t.Errorf("%+v, %s", id, id.Label("FID"))
	}
	if names := demodata.Classes; !slices.Equal(x.Classes(), names) {
		t.Errorf("classes %q, the data set has %q", x.Classes(), names)
	}
	const n, batch = 200, 20
	inputs, labels := drawn(t, x, n)
	right, classes := 0, len(x.Classes())
	for i := 0; i < n; i += batch {
		f, err := x.Features(inputs[i*x.Inputs():(i+batch)*x.Inputs()], batch)
		if err != nil {
			t.Fatal(err)
		}
		if len(f[0]) != batch*x.Taps()[0].D || len(f[1]) != batch*classes {
			t.Fatalf("%d features, %d logits", len(f[0]), len(f[1]))
		}
		for j, label := range labels[i : i+batch] {
			if classifier.Largest(f[1][j*classes:(j+1)*classes]) == label {
				right++
			}
		}
	}
	if right < n*95/100 {
		t.Errorf("%d of %d are right", right, n)
	}
	t.Logf("%d of %d are right", right, n)
}

// TestDefaultBatches proves that a row of features depends on its picture alone: the same bits in any batch, with any number of
// threads.
func TestDefaultBatches(t *testing.T) {
	x := open(t, 1)
	const n = 7
	inputs, _ := drawn(t, x, n)
	whole, err := x.Features(inputs, n)
	if err != nil {
		t.Fatal(err)
	}
	two, err := open(t, 2).Features(inputs, n)
	if err != nil {
		t.Fatal(err)
	}
	order := rand.New(rand.NewPCG(1, 1)).Perm(n)
	for tap, d := range []int{x.Taps()[0].D, x.Taps()[1].D} {
		if !slices.Equal(whole[tap], two[tap]) {
			t.Errorf("%s: two threads give other bits than one", x.Taps()[tap].Name)
		}
		for _, i := range order {
			alone, err := x.Features(inputs[i*x.Inputs():(i+1)*x.Inputs()], 1)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(alone[tap], whole[tap][i*d:(i+1)*d]) {
				t.Errorf("%s of picture %d differ from those in a batch", x.Taps()[tap].Name, i)
			}
		}
	}
	if _, err := x.Features(inputs[1:], n); err == nil {
		t.Error("a value too few: no error")
	}
}

// TestOpenClassifier opens a model file with its configuration beside.
func TestOpenClassifier(t *testing.T) {
	b, err := cpu.Open(cpu.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	path := filepath.Join(t.TempDir(), "mine.safetensors")
	write := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write(path, shapes64.Weights)
	if _, err := OpenClassifier(path, b); err == nil || !strings.Contains(err.Error(), "config.yaml") {
		t.Errorf("without a configuration: %v", err)
	}
	config := filepath.Join(filepath.Dir(path), "config.yaml")
	write(config, bytes.Replace(shapes64.Config, []byte("three, "), nil, 1))
	if _, err := OpenClassifier(path, b); exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "head.weight") {
		t.Errorf("a class less: %v", err)
	}
	write(config, shapes64.Config)
	x, err := OpenClassifier(path, b)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	own := open(t, 1)
	if id := x.Identity(); id.Label("FID") != "FD(mine)" || id.SHA256 != own.Identity().SHA256 || id.Path != path {
		t.Errorf("%+v", id)
	}
	inputs, _ := drawn(t, x, 1)
	got, err := x.Features(inputs, 1)
	if err != nil {
		t.Fatal(err)
	}
	want, err := own.Features(inputs, 1)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got[0], want[0]) {
		t.Error("other features than the same weights in the program")
	}
}
