package lpips_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn/lpips"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

func TestFeatureKeys(t *testing.T) {
	total := 0
	for _, k := range lpips.FeatureKeys() {
		n := 1
		for _, d := range k.Shape {
			n *= d
		}
		total += n
	}
	// 138,357,544 of VGG16 without its last layer, and the scaling layer.
	if total != 138357544-4097000+6 {
		t.Errorf("%d values", total)
	}
}

// TestScaling: images in [-1,1] through the scaling layer are images in [0,1] less the means of ImageNet over its deviations.
func TestScaling(t *testing.T) {
	m := model(t)
	shift, scale := make([]float32, 3), make([]float32, 3)
	for name, v := range map[string][]float32{"scaling_layer.shift": shift, "scaling_layer.scale": scale} {
		if err := m.Load(name, v); err != nil {
			t.Fatal(err)
		}
	}
	mean, deviation := []float64{.485, .456, .406}, []float64{.229, .224, .225}
	for c := range 3 {
		for _, v := range []float64{0, 0.3, 1} {
			got, want := (2*v-1-float64(shift[c]))/float64(scale[c]), (v-mean[c])/deviation[c]
			if math.Abs(got-want) > 1e-6 {
				t.Errorf("channel %d: %v is scaled to %v, want %v", c, v, got, want)
			}
		}
	}
}

// TestBindFeatures: a file without the classifier is refused, and so is one of another classifier.
func TestBindFeatures(t *testing.T) {
	small := func(name string) *weights.Tensor { return vector(t, name, []int{1}, 1) }
	var full []*weights.Tensor
	for _, k := range lpips.FeatureKeys() {
		if !strings.HasPrefix(k.Name, "classifier.") {
			continue
		}
		x, err := tensor.Generated(k.Name, k.Shape, func(dst []float32) error { dst[0] = 7; return nil })
		if err != nil {
			t.Fatal(err)
		}
		full = append(full, x)
	}
	for name, c := range map[string]struct {
		file *weights.File
		want string
	}{
		"convolutions only": {renamed(t, torchvision), "features of VGG16: weights do not fit the model: 4 missing: classifier.0.weight, classifier.0.bias, classifier.3.weight, classifier.3.bias"},
		"another classifier": {renamed(t, torchvision, small("classifier.0.weight"), small("classifier.0.bias"), full[2], full[3]),
			"classifier.0.weight: [1], want [4096 25088]"},
	} {
		if _, err := lpips.BindFeatures(c.file); err == nil || !strings.Contains(err.Error(), c.want) || exitcode.Of(err) != exitcode.Data {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	m, err := lpips.BindFeatures(renamed(t, torchvision, append(full, small("classifier.6.bias"))...))
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, lpips.Hidden)
	if err := m.Load("classifier.3.bias", v); err != nil || v[0] != 7 {
		t.Errorf("bias %v: %v", v[0], err)
	}
	if err := m.Load("classifier.6.bias", make([]float32, 1)); err == nil {
		t.Error("the last layer is a weight of the features")
	}
	if _, err := lpips.OpenFeatures("none"); err == nil {
		t.Error("a missing file was opened")
	}
}

func TestFeatureGraph(t *testing.T) {
	g, err := lpips.FeatureGraph(2)
	if err != nil {
		t.Fatal(err)
	}
	if s := g.Shape("fc2_relu"); !slices.Equal(s, []int{2, lpips.Hidden}) {
		t.Errorf("features have shape %v", s)
	}
	if _, err := lpips.FeatureGraph(0); err == nil {
		t.Error("no image: no error")
	}
}
