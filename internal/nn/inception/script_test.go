package inception

import (
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

// scriptFile has the test weights under the names of the TorchScript archive; edit may change a name or leave one out ("").
func scriptFile(t *testing.T, edit func(key, name string) string) *weights.File {
	t.Helper()
	ends := map[string]string{".conv.weight": "weight", ".bn.weight": "gamma", ".bn.bias": "beta", ".bn.running_mean": "mean", ".bn.running_var": "var"}
	var list []*weights.Tensor
	for _, x := range file(t).Tensors() {
		name := ""
		if end, ok := strings.CutPrefix(x.Name, "fc."); ok {
			name = "output." + end
		}
		for end, short := range ends {
			if base, ok := strings.CutSuffix(x.Name, end); ok {
				name = scriptPath(base) + short
			}
		}
		if name = edit(x.Name, name); name != "" { // counters have none
			list = append(list, x.Renamed(name))
		}
	}
	f, err := weights.NewMemory(list)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestScript takes the weights of the TorchScript archive.
func TestScript(t *testing.T) {
	for base, want := range map[string]string{
		"Conv2d_2b_3x3": "layers.conv_2.", "Mixed_5b.branch1x1": "layers.mixed.conv.", "Mixed_6d.branch1x1": "layers.mixed_6.conv.",
		"Mixed_6b.branch7x7_2": "layers.mixed_4.tower.conv_1.", "Mixed_7c.branch_pool": "layers.mixed_10.tower_2.conv.", "Mixed_7b.branch3x3_2a": "layers.mixed_9.tower.mixed.conv.",
	} {
		if got := scriptPath(base); got != want {
			t.Errorf("%s is %s, want %s", base, got, want)
		}
	}
	plain := bind(t)
	m, err := Bind(scriptFile(t, func(_, name string) string { return name }))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range params() {
		got, err1 := m.Values(k.Name)
		want, err2 := plain.Values(k.Name)
		if err1 != nil || err2 != nil || !slices.Equal(got, want) {
			t.Fatalf("%s differs: %v, %v", k.Name, err1, err2)
		}
	}
	// Without factors they are 1.
	if m, err = Bind(scriptFile(t, func(key, name string) string {
		if strings.HasSuffix(key, ".bn.weight") {
			return ""
		}
		return name
	})); err != nil {
		t.Fatal(err)
	}
	if v, err := m.stored("Mixed_6a.branch3x3.bn.weight"); err != nil || v[0] != 1 || v[len(v)-1] != 1 {
		t.Errorf("factors %v: %v", v[:1], err)
	}
	for want, edit := range map[string]func(key, name string) string{
		"missing: Mixed_7a.branch3x3_1.bn.running_var": func(key, name string) string {
			if key == "Mixed_7a.branch3x3_1.bn.running_var" {
				return ""
			}
			return name
		},
		"none of the parts of a layer": func(key, name string) string {
			return strings.Replace(name, "mixed_1.conv.beta", "mixed_1.conv.alpha", 1)
		},
		"tensors, of which": func(key, name string) string {
			return strings.Replace(name, "mixed_10.tower_2.conv.gamma", "mixed_11.conv.gamma", 1)
		},
		"[192], want [1008]": func(key, name string) string { // a bias of another length in place of the classifier's
			switch key {
			case "fc.bias":
				return ""
			case "Mixed_6e.branch_pool.bn.weight":
				return "output.bias"
			}
			return name
		},
	} {
		if _, err := Bind(scriptFile(t, edit)); exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
