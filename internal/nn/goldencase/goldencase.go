// Package goldencase opens the cases of the reference vectors that hold a network: a configuration, weights (a checkpoint,
// or a list of names whose weights are computed) and tensors that went in and came out.
//
// Concept: a test asks for the cases of a folder and gets each as a bound model beside its tensors by name. Data flow:
// config.yaml, model.ckpt or keys.txt, io.safetensors -> [Case]. Ownership: files are closed when the test ends. Errors end
// the test. The package is imported by tests only.
package goldencase

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
)

// Case is one case.
type Case struct {
	Name    string
	Dir     string
	Config  *nn.Config
	Weights *weights.File // of the whole model
	IO      *weights.File // inputs and outputs

	t testing.TB
}

// Each runs f as a subtest for every case of a folder: "first_stage", "denoiser" or "ldm". A folder without cases fails.
func Each(t *testing.T, folder string, f func(t *testing.T, c *Case)) {
	t.Helper()
	for _, dir := range golden.Cases(t, folder) {
		t.Run(filepath.Base(dir), func(t *testing.T) { f(t, Open(t, dir)) })
	}
}

// Open opens the case in a folder.
func Open(t testing.TB, dir string) *Case {
	t.Helper()
	c := &Case{Name: filepath.Base(dir), Dir: dir, t: t}
	var err error
	if c.Config, err = nn.LoadConfig(filepath.Join(dir, "config.yaml")); err != nil {
		t.Fatal(err)
	}
	c.IO = c.open("io.safetensors")
	if _, err := os.Stat(filepath.Join(dir, "model.ckpt")); err == nil {
		c.Weights = c.open("model.ckpt")
	} else if errors.Is(err, fs.ErrNotExist) {
		c.Weights = c.formula()
	} else {
		t.Fatal(err)
	}
	return c
}

func (c *Case) open(name string) *weights.File {
	c.t.Helper()
	f, err := weights.Open(filepath.Join(c.Dir, name), weights.Limits{})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { f.Close() })
	return f
}

// formula makes the weights of the names in keys.txt; prefix and gain stand in the metadata of the tensors.
func (c *Case) formula() *weights.File {
	c.t.Helper()
	meta := c.IO.Metadata()
	gain, err := strconv.ParseFloat(meta["gain"], 64)
	if err != nil || meta["weights"] != "formula" {
		c.t.Fatalf("%s: weights %q, gain %q", c.Dir, meta["weights"], meta["gain"])
	}
	f, err := os.Open(filepath.Join(c.Dir, "keys.txt"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	keys, err := formula.ParseKeys(f)
	if err != nil {
		c.t.Fatal(err)
	}
	file, err := formula.Source{Prefix: meta["name_prefix"], Gain: gain}.File(keys)
	if err != nil {
		c.t.Fatal(err)
	}
	return file
}

// Model binds the weights.
func (c *Case) Model(o nn.Options) *nn.Model {
	c.t.Helper()
	m, err := nn.Bind(c.Config, c.Weights, o)
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

// Has says whether the case holds a tensor.
func (c *Case) Has(name string) bool {
	_, ok := c.IO.Lookup(name)
	return ok
}

// Tensor returns the values, as float32 whatever their type, and the shape of a tensor. The values are the caller's.
func (c *Case) Tensor(name string) (values []float32, shape []int) {
	c.t.Helper()
	x, ok := c.IO.Lookup(name)
	if !ok {
		c.t.Fatalf("%s holds no tensor %s", c.Dir, name)
	}
	values = make([]float32, x.NumElements())
	if err := x.Float32(values); err != nil {
		c.t.Fatal(err)
	}
	return values, x.Shape
}

// Values is [Case.Tensor] without the shape.
func (c *Case) Values(name string) []float32 {
	c.t.Helper()
	v, _ := c.Tensor(name)
	return v
}

// Evaluate computes a graph with the slow reference kernels and the weights of a model. It returns one array per output.
func Evaluate(t testing.TB, m *nn.Model, g *nn.Graph, inputs map[string][]float32) [][]float32 {
	t.Helper()
	feed := map[string][]float32{}
	for name, v := range inputs {
		feed[name] = v
	}
	for _, n := range g.Nodes {
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
		feed[n.Name] = w
	}
	out, err := ir.Evaluate(g.Program, feed)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Near is [golden.Near] under the test's own name.
func Near(t testing.TB, what string, got, want []float32, tol float64) {
	t.Helper()
	golden.Near(t, t.Name()+" "+what, got, want, tol)
}
