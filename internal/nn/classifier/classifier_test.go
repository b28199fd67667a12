package classifier

import (
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

const text = `model:
  target: ldm_batch.Classifier
  params:
    classes: [cat, dog]
    size: 8
    channels: [8, 16]
`

func TestParseConfig(t *testing.T) {
	c, err := ParseConfig("config.yaml", []byte(text))
	if err != nil || c.Features() != 16 || c.Size != 8 || c.Classes[1] != "dog" {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, k := range []struct{ from, to, want string }{
		{"ldm_batch.Classifier", "ldm.models.autoencoder.AutoencoderKL", `config.yaml: model.target: "ldm.models.autoencoder.AutoencoderKL" is not ldm_batch.Classifier`},
		{"cat, dog", "cat", "model.params.classes: 1 names"},
		{"cat, dog", "cat, cat", `model.params.classes: name 1, "cat", is empty or appears twice`},
		{"size: 8", "size: 9", "model.params.size: 9"},
		{"size: 8", "size: 0", "model.params.size: 0"},
		{"8, 16", "8, 12", "model.params.channels: 12 is not a multiple of 8"},
		{"[8, 16]", "[]", "model.params.channels: 0 levels"},
		{"[8, 16]", "[8" + strings.Repeat(", 8", 70) + "]", "model.params.channels: 71 levels"},
		{"size: 8", "size: 8\n    depth: 3", "depth"},
		{"model:", "- model:", "config.yaml: yaml"},
	} {
		_, err := ParseConfig("config.yaml", []byte(strings.Replace(text, k.from, k.to, 1)))
		if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), k.want) {
			t.Errorf("%s for %s: %v, want %q", k.to, k.from, err, k.want)
		}
	}
}

func TestGraphs(t *testing.T) {
	c, err := ParseConfig("config.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.Graph(3, Features, Logits)
	if err != nil {
		t.Fatal(err)
	}
	if f, l := g.Shape("features"), g.Shape("logits"); len(f) != 2 || f[0] != 3 || f[1] != 16 || l[1] != 2 {
		t.Errorf("features %v, logits %v", f, l)
	}
	for _, taps := range [][]Tap{{"middle"}, {Logits, Logits}} {
		if _, err := c.Graph(1, taps...); err == nil {
			t.Errorf("taps %q: no error", taps)
		}
	}
	if _, err := c.Graph(0, Logits); err == nil {
		t.Error("no images: no error")
	}
	p, err := c.Loss(2, true)
	if err != nil {
		t.Fatal(err)
	}
	params := c.Params()
	if len(p.Outputs) != 2+len(params) {
		t.Errorf("%d outputs for %d parameters", len(p.Outputs), len(params))
	}
	if params[0].Name != "stem.weight" || params[len(params)-1].Name != "head.bias" {
		t.Errorf("parameters %v", params)
	}
}

// TestBind takes a file with exactly the network's weights, and no other.
func TestBind(t *testing.T) {
	c, err := ParseConfig("config.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	file := func(more ...*weights.Tensor) *weights.File {
		list := more
		for _, p := range c.Params() {
			n := 1
			for _, d := range p.Shape {
				n *= d
			}
			x, err := tensor.FromFloat32(p.Name, p.Shape, make([]float32, n))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, x)
		}
		f, err := weights.NewMemory(list)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	m, err := Bind(c, file())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Load("head.bias", make([]float32, 2)); err != nil {
		t.Error(err)
	}
	if err := m.Load("head.bias", make([]float32, 3)); err == nil {
		t.Error("three values for two: no error")
	}
	if err := m.Load("none", nil); err == nil {
		t.Error("an unknown weight: no error")
	}
	x, err := tensor.FromFloat32("extra", []int{1}, []float32{1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Bind(c, file(x)); exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "extra") {
		t.Errorf("a weight too many: %v", err)
	}
	c.Classes = append(c.Classes, "bird")
	if _, err := Bind(c, file()); err != nil {
		t.Error(err)
	}
	f := file()
	c.Classes = c.Classes[:2]
	if _, err := Bind(c, f); exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "head.") {
		t.Errorf("weights of another number of classes: %v", err)
	}
}

func TestLargest(t *testing.T) {
	if i := Largest([]float32{1, 3, 3, 2}); i != 1 {
		t.Errorf("class %d", i)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(text))
	f.Add([]byte(strings.Replace(text, "[8, 16]", "[8"+strings.Repeat(", 8", 70)+"]", 1)))
	f.Add([]byte("model: {target: ldm_batch.Classifier, params: {classes: [a, b], size: 0, channels: [8]}}"))
	f.Add([]byte("model: &m {target: *m}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig("config.yaml", data)
		switch {
		case err != nil && exitcode.Of(err) != exitcode.Data:
			t.Errorf("class %d: %v", exitcode.Of(err), err)
		case err == nil && len(c.Params()) != 6+8*(len(c.Channels)-1):
			t.Errorf("%d parameters of %d levels", len(c.Params()), len(c.Channels))
		}
	})
}
