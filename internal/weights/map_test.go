package weights_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

func TestMap(t *testing.T) {
	x, err := tensor.FromFloat32("a", []int{2}, []float32{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	plain := weights.Map{"a": x}
	for name, m := range map[string]weights.Map{"a": plain, "p.a": plain.Prefixed("p.")} {
		v := make([]float32, 2)
		if err := m.Load(name, v); err != nil || !slices.Equal(v, []float32{1, 2}) {
			t.Errorf("%s: %v (%v)", name, v, err)
		}
		if v, ok := m.View(name); !ok || !slices.Equal(v, []float32{1, 2}) || m[name].Name != name {
			t.Errorf("%s: %v of %s", name, v, m[name].Name)
		}
		m.Release(name)
		m.Release("b")
		if _, ok := m.View("b"); ok {
			t.Error("a view of nothing")
		}
		if err := m.Load("b", v); err == nil || !strings.Contains(err.Error(), "no weight b") {
			t.Error(err)
		}
		if err := m.Load(name, v[:1]); err == nil {
			t.Error("half of a weight was loaded")
		}
	}
}

func TestFileRead(t *testing.T) {
	f := fileOf(t, []weights.Param{{Name: "a", Shape: []int{2, 3}}})
	v := make([]float32, 6)
	if err := f.Read("a", v); err != nil {
		t.Error(err)
	}
	for want, err := range map[string]error{
		"no entry b":                       f.Read("b", v),
		"a has shape [2 3], want 5 values": f.Read("a", v[:5]),
	} {
		if err == nil || !strings.Contains(err.Error(), want) || exitcode.Of(err) != exitcode.Data {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
