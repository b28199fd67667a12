package lpips_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn/lpips"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

func TestKeys(t *testing.T) {
	keys := lpips.Keys("p.")
	var names []string
	total := 0
	for _, k := range keys {
		names = append(names, k.Name)
		n := 1
		for _, d := range k.Shape {
			n *= d
		}
		total += n
	}
	want := "p.scaling_layer.shift p.scaling_layer.scale p.net.slice1.0.weight p.net.slice1.0.bias p.net.slice1.2.weight p.net.slice1.2.bias " +
		"p.net.slice2.5.weight p.net.slice2.5.bias"
	if got := strings.Join(names[:8], " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if last := names[len(names)-1]; last != "p.lin4.model.1.weight" || len(keys) != 2+26+5 {
		t.Errorf("%d keys, the last is %s", len(keys), last)
	}
	// 14,714,688 of the convolutions of VGG16.
	if total != 14714688+6+64+128+256+512+512 {
		t.Errorf("%d values", total)
	}
}

// renamed is a file of the tensors that f gives a name.
func renamed(t *testing.T, f func(name string) string, extra ...*weights.Tensor) *weights.File {
	t.Helper()
	var list []*weights.Tensor
	for _, x := range generated(t) {
		if name := f(x.Name); name != "" {
			list = append(list, x.Renamed(name))
		}
	}
	file, err := weights.NewMemory(append(list, extra...))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func vector(t *testing.T, name string, shape []int, v ...float32) *weights.Tensor {
	t.Helper()
	x, err := tensor.FromFloat32(name, shape, v)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// torchvision names a convolution of VGG16 as its library does.
func torchvision(name string) string {
	if rest, ok := strings.CutPrefix(name, "net.slice"); ok {
		return "features" + rest[1:]
	}
	return ""
}

func heads(name string) string {
	if strings.HasPrefix(name, "lin") {
		return name
	}
	return ""
}

func TestBind(t *testing.T) {
	whole, err := lpips.Bind(renamed(t, strings.Clone))
	if err != nil {
		t.Fatal(err)
	}
	values := func(m *lpips.Model, name string, n int) []float32 {
		v := make([]float32, n)
		if err := m.Load(name, v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	inCheckpoint := func(n string) string { return "loss.perceptual_loss." + n }
	for name, files := range map[string][]*weights.File{
		"two files":            {renamed(t, torchvision), renamed(t, heads)},
		"two files, turned":    {renamed(t, heads), renamed(t, torchvision)},
		"checkpoint":           {renamed(t, inCheckpoint, vector(t, "encoder.conv_in.bias", []int{1}, 1))},
		"with its scaling":     {renamed(t, strings.Clone, vector(t, "scaling_layer.shift", []int{1, 3, 1, 1}, -.030, -.088, -.188))},
		"checkpoint of an LDM": {renamed(t, func(n string) string { return "first_stage_model." + inCheckpoint(n) })},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := lpips.Bind(files...)
			if err != nil {
				t.Fatal(err)
			}
			m = m.Prefixed("loss.")
			for key, n := range map[string]int{"net.slice3.12.bias": 256, "lin2.model.1.weight": 256, "scaling_layer.scale": 3} {
				if got, want := values(m, "loss."+key, n), values(whole, key, n); !slices.Equal(got, want) {
					t.Errorf("%s is %v, want %v", key, got[:3], want[:3])
				}
			}
			if err := m.Load("net.slice3.12.bias", make([]float32, 256)); err == nil {
				t.Error("a name without the prefix was found")
			}
		})
	}
	for name, c := range map[string]struct {
		files []*weights.File
		want  string
	}{
		"heads only": {[]*weights.File{renamed(t, heads)}, "26 missing: net.slice1.0.weight or features.0.weight"},
		"no heads":   {[]*weights.File{renamed(t, torchvision)}, "5 missing: lin0.model.1.weight"},
		"another scaling": {[]*weights.File{renamed(t, strings.Clone, vector(t, "scaling_layer.scale", []int{1, 3, 1, 1}, 1, 1, 1))},
			"scaling_layer.scale is [1 1 1], want [0.458 0.448 0.45]"},
		"another shape": {[]*weights.File{renamed(t, torchvision), renamed(t, func(n string) string {
			if n == "lin4.model.1.weight" {
				return ""
			}
			return heads(n)
		}, vector(t, "lin4.model.1.weight", []int{1, 2, 1, 1}, 1, 2))}, "1 of another shape: lin4.model.1.weight: [1 2 1 1], want [1 512 1 1]"},
	} {
		if _, err := lpips.Bind(c.files...); err == nil || !strings.Contains(err.Error(), c.want) || exitcode.Of(err) != exitcode.Data {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, f *weights.File) string {
		var b bytes.Buffer
		if err := weights.Convert(f, &b, weights.ConvertOptions{}); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	lin := write("heads.safetensors", renamed(t, heads))
	_, err := lpips.Open(lin)
	if err == nil || !strings.Contains(err.Error(), lin) || exitcode.Of(err) != exitcode.Data {
		t.Errorf("heads alone: %v", err)
	}
	m, err := lpips.Open(write("vgg16.safetensors", renamed(t, torchvision)), lin)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Files) != 2 || m.Files[1].Path != lin || len(m.Files[1].SHA256) != 64 {
		t.Errorf("files %+v", m.Files)
	}
	if err := m.Load("lin4.model.1.weight", make([]float32, 512)); err != nil {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := lpips.Open(filepath.Join(dir, "none")); err == nil {
		t.Error("a missing file was opened")
	}
	if _, err := lpips.Open(); exitcode.Of(err) != exitcode.Usage {
		t.Errorf("no file: %v", err)
	}
}

func TestGraphErrors(t *testing.T) {
	for _, s := range [][3]int{{0, 64, 64}, {1, 15, 64}, {1, 64, 0}} {
		if _, err := lpips.Graph(s[0], s[1], s[2]); err == nil {
			t.Errorf("%v was accepted", s)
		}
	}
	g, err := lpips.Graph(2, 16, 17)
	if err != nil {
		t.Fatal(err)
	}
	if s := g.Shape("distance"); !slices.Equal(s, []int{2, 1}) {
		t.Errorf("distance has shape %v", s)
	}
}
