package nn

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
	"github.com/ldm-batch/ldm-batch/internal/weights/weightstest"
)

// configs lists the configurations of released models in testdata.
func configs(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/configs/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d configurations, %v", len(paths), err)
	}
	return paths
}

func loadConfig(t *testing.T, path string) *Config {
	t.Helper()
	c, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Errorf("parsed but not valid: %v", err)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings %q", c.Warnings)
	}
	return c
}

func readKeys(t *testing.T, path string) []ir.Param {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	keys, err := formula.ParseKeys(f)
	if err != nil {
		t.Fatal(err)
	}
	list := make([]ir.Param, len(keys))
	for i, k := range keys {
		list[i] = ir.Param(k)
	}
	return list
}

func lines(keys []ir.Param) []string {
	list := make([]string, len(keys))
	for i, k := range keys {
		list[i] = fmt.Sprint(k.Name, " ", k.Shape)
	}
	return list
}

// compareKeys reports how two lists of keys differ, their order left out.
func compareKeys(t *testing.T, got, want []ir.Param) {
	t.Helper()
	have, need := lines(got), lines(want)
	slices.Sort(have)
	slices.Sort(need)
	if slices.Equal(have, need) {
		return
	}
	report := func(what string, a, b []string) {
		n := 0
		for _, s := range a {
			if _, ok := slices.BinarySearch(b, s); !ok && n < 5 {
				t.Errorf("%s: %s", what, s)
				n++
			}
		}
	}
	report("not wanted", have, need)
	report("missing", need, have)
	t.Errorf("%d keys, want %d", len(have), len(need))
}

// TestReleasedKeys compares the state dicts of the released models, key by key, with lists made by an independent
// enumeration. Those lists do not keep the order inside a first stage.
func TestReleasedKeys(t *testing.T) {
	dir := filepath.Join(golden.Dir(t), "..", "spec", "keys")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED, NOTHING COMPARED: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d lists, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			c := loadConfig(t, filepath.Join("testdata/configs", name+".yaml"))
			want, got := readKeys(t, file), Keys(c)
			compareKeys(t, got, want)
			if c.Diffusion == nil {
				return
			}
			// Outside first stages the order is that of the original.
			ordered := func(keys []ir.Param) []string {
				var list []ir.Param
				for _, k := range keys {
					if !strings.HasPrefix(k.Name, FirstStagePrefix) && !strings.HasPrefix(k.Name, ConditionerPrefix+"encoder") &&
						!strings.HasPrefix(k.Name, ConditionerPrefix+"decoder") && !strings.Contains(k.Name, "quant") {
						list = append(list, k)
					}
				}
				return lines(list)
			}
			if a, b := ordered(got), ordered(want); !slices.Equal(a, b) {
				for i := range min(len(a), len(b)) {
					if a[i] != b[i] {
						t.Fatalf("entry %d is %s, want %s", i, a[i], b[i])
					}
				}
			}
		})
	}
}

// TestGoldenOrder compares with the lists of the reference networks, which PyTorch wrote in state-dict order.
func TestGoldenOrder(t *testing.T) {
	compared := 0
	for _, kind := range []string{"first_stage", "denoiser", "ldm"} {
		for _, dir := range golden.Cases(t, kind) {
			path := filepath.Join(dir, "keys.txt")
			if _, err := os.Stat(path); err != nil {
				continue
			}
			t.Run(kind+"/"+filepath.Base(dir), func(t *testing.T) {
				c := loadConfig(t, filepath.Join(dir, "config.yaml"))
				want, got := readKeys(t, path), New(c).Params()
				compareKeys(t, got, want)
				for i, s := range lines(got) {
					if w := lines(want); s != w[i] {
						t.Fatalf("entry %d is %s, want %s", i, s, w[i])
					}
				}
			})
			compared++
		}
	}
	if compared == 0 {
		t.Error("no list found")
	}
}

// TestParameterCounts compares with published numbers of parameters, in millions and to the published digits: the first
// stage, or the U-Net and the conditioner.
func TestParameterCounts(t *testing.T) {
	cases := map[string][]string{
		"first_stage_vq-f4": {"55.323"}, "first_stage_vq-f4-noattn": {"53.219"}, "first_stage_vq-f8": {"67.717"},
		"first_stage_vq-f8-n256": {"67.653"}, "first_stage_vq-f16": {"69.593"}, "first_stage_kl-f4": {"55.312"},
		"first_stage_kl-f8": {"83.654"}, "first_stage_kl-f16": {"69.611"}, "first_stage_kl-f32": {"103.880"},
		"ldm_celeba256": {"274.056"}, "ldm_ffhq256": {"274.056"}, "ldm_lsun_beds256": {"274.056"},
		"ldm_lsun_churches256": {"294.967"}, "ldm_cin256": {"394.98", "0.512"}, "ldm_cin256-v2": {"400.921", "0.513"},
		"ldm_text2img256": {"403.62", "186.2"}, "ldm_txt2img-1p4B": {"872.300", "581.994"},
		"ldm_layout2img-openimages256": {"246.277", "58.858"}, "ldm_semantic_synthesis256": {"215.229", "0.0005"},
		"ldm_semantic_synthesis512": {"215.229", "0.0005"}, "ldm_bsr_sr": {"113.62"}, "ldm_inpainting_big": {"387.246"},
		"ldm_rdm768": {"1335.48"},
	}
	for _, path := range configs(t) {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		m := New(loadConfig(t, path))
		parts := [][]ir.Param{}
		if m.UNet == nil {
			parts = append(parts, m.FirstStage.Params())
		} else if parts = append(parts, m.UNet.Params()); len(m.Conditioner.Params()) > 0 {
			parts = append(parts, m.Conditioner.Params())
		}
		want := cases[name]
		if len(want) != len(parts) {
			t.Errorf("%s: %d parts, want %d", name, len(parts), len(want))
			continue
		}
		for i, w := range want {
			_, digits, _ := strings.Cut(w, ".")
			if got := fmt.Sprintf("%.*f", len(digits), float64(count(parts[i]))/1e6); got != w {
				t.Errorf("%s: part %d has %s million parameters, want %s", name, i, got, w)
			}
		}
	}
}

func count(params []ir.Param) int {
	total := 0
	for _, p := range params {
		n := 1
		for _, d := range p.Shape {
			n *= d
		}
		total += n
	}
	return total
}

// TestReleasedFiles binds files of full size without values and builds the graphs at native size: what graphs ask for must
// be what the file has, no more and, but for entries that are never used, no less.
func TestReleasedFiles(t *testing.T) {
	for _, path := range configs(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			c := loadConfig(t, path)
			var keys []weights.Param
			for _, k := range Keys(c) {
				if k.Name != scaleFactorKey { // it would be zero
					keys = append(keys, weights.Param(k))
				}
			}
			if c.Diffusion == nil {
				keys = append(keys, weights.Param{Name: "loss.logvar", Shape: []int{}})
			} else {
				c.Diffusion.ScaleByStd = false
			}
			file := filepath.Join(t.TempDir(), "model.safetensors")
			if err := weightstest.WriteSparse(file, keys); err != nil {
				t.Fatal(err)
			}
			f, err := weights.Open(file, weights.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if c.Conditioner != nil && c.Conditioner.Kind == FirstStageCond {
				f = withoutTwins(t, f) // comparing full-size copies takes long
			}
			m, err := Bind(c, f, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if want := c.Diffusion != nil && c.Diffusion.UseEMA; m.EMA != want || len(m.Warnings) > 0 {
				t.Errorf("EMA is %t, want %t; warnings %q", m.EMA, want, m.Warnings)
			}
			asked := map[string]bool{}
			for _, g := range nativeGraphs(t, m) {
				for _, n := range g.Nodes {
					if n.Leaf != ir.ParamLeaf {
						continue
					}
					asked[n.Name] = true
					if x, ok := m.Tensor(n.Name); !ok || !slices.Equal(x.Shape, n.Shape) {
						t.Fatalf("%s %v is not bound", n.Name, n.Shape)
					}
				}
			}
			for _, p := range m.Params() {
				if !asked[p.Name] && !strings.Contains(p.Name, "to_logits") {
					t.Errorf("%s is never used", p.Name)
				}
			}
		})
	}
}

func withoutTwins(t *testing.T, f *weights.File) *weights.File {
	var keep []*weights.Tensor
	for _, x := range f.Tensors() {
		if !strings.HasPrefix(x.Name, ConditionerPrefix) {
			keep = append(keep, x)
		}
	}
	g, err := weights.NewMemory(keep)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// nativeGraphs builds every graph of a model at the sizes it was trained with.
func nativeGraphs(t *testing.T, m *Model) []*Graph {
	t.Helper()
	var list []*Graph
	add := func(g *Graph, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, g)
	}
	if m.UNet != nil {
		tokens := 0
		if m.UNet.Config.UseSpatialTransformer {
			tokens = 7
		}
		side := m.Config.Diffusion.ImageSize
		add(m.UNetGraph(2, side, side, tokens))
	}
	if m.FirstStage != nil {
		side := 256 / m.FirstStage.Config.Factor()
		add(m.EncoderGraph(1, 256, 256))
		add(m.DecoderGraph(1, side, side, Quantized))
		if out := list[len(list)-1].Shape("image"); !slices.Equal(out, []int{1, 3, 256, 256}) {
			t.Errorf("decoded image has shape %v", out)
		}
	}
	if m.Conditioner != nil && m.Conditioner.Config.Kind != Unconditional && m.Conditioner.Config.Kind != IdentityCond {
		add(m.ConditionerGraph(2, 256, 256))
	}
	return list
}
