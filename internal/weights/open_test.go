package weights_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
	"github.com/ldm-batch/ldm-batch/internal/weights/weightstest"
)

// TestReleasedKeys opens a file of full size for the key list of every released model, binds it and looks at memory.
func TestReleasedKeys(t *testing.T) {
	lists, err := filepath.Glob(filepath.Join(golden.Dir(t), "..", "spec", "keys", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if len(lists) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("no key list beside the reference vectors")
		}
		t.Skip("SKIPPED, NOTHING COMPARED: no key list beside the reference vectors")
	}
	for _, list := range lists {
		t.Run(strings.TrimSuffix(filepath.Base(list), ".txt"), func(t *testing.T) {
			r, err := os.Open(list)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			keys, err := formula.ParseKeys(r)
			if err != nil || len(keys) == 0 {
				t.Fatalf("%d keys, %v", len(keys), err)
			}
			path := filepath.Join(t.TempDir(), "m.safetensors")
			if err := weightstest.WriteSparse(path, keys); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f, err := weights.Open(path, weights.Limits{})
			runtime.ReadMemStats(&after)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
				t.Errorf("%d bytes allocated", n)
			}
			if len(f.Tensors()) != len(keys) {
				t.Errorf("%d tensors of %d", len(f.Tensors()), len(keys))
			}
			for i, k := range keys {
				x, ok := f.Lookup(k.Name)
				if !ok || !slices.Equal(x.Shape, k.Shape) || f.Tensors()[i] != x {
					t.Fatalf("%s: found %v, out of order or of another shape", k.Name, ok)
				}
				if v, ok := x.View(); ok && len(v) != x.NumElements() {
					t.Errorf("%s: view of %d", k.Name, len(v))
				}
			}
			bindReleased(t, f, keys)
		})
	}
}

// bindReleased binds the denoiser (or, for a first stage, everything but its loss) of a released model.
func bindReleased(t *testing.T, f *weights.File, keys []weights.Param) {
	opt := weights.BindOptions{Prefix: "model.diffusion_model."}
	var want []weights.Param
	shadows := 0
	for _, k := range keys {
		if name, ok := strings.CutPrefix(k.Name, opt.Prefix); ok {
			want = append(want, weights.Param{Name: name, Shape: k.Shape})
		}
		if strings.HasPrefix(k.Name, weights.EMAPrefix) {
			shadows++
		}
	}
	if len(want) == 0 {
		opt = weights.BindOptions{Ignore: []string{"loss."}}
		want = slices.DeleteFunc(slices.Clone(keys), func(p weights.Param) bool { return strings.HasPrefix(p.Name, "loss.") })
	}
	b, err := weights.Bind(f, want, opt)
	if err != nil {
		t.Fatal(err)
	}
	if b.EMA != (shadows > 0) {
		t.Errorf("%d shadows, average taken: %v, %v", shadows, b.EMA, b.Warnings)
	}
	if b.EMA && shadows != len(want)+2 {
		t.Errorf("%d shadows for %d parameters", shadows, len(want))
	}
	extra := append(slices.Clone(want), weights.Param{Name: "not.there", Shape: []int{1}})
	if _, err := weights.Bind(f, extra, opt); err == nil {
		t.Error("a missing parameter was not noticed")
	}
}

func TestOpenRefuses(t *testing.T) {
	cases := []struct {
		name, content, want string
		code                exitcode.Code
	}{
		{"empty", "", "empty", exitcode.Data},
		{"text", "hello, world", "neither", exitcode.Data},
		{"pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS", exitcode.Data},
		{"page", "\n<!DOCTYPE html><html>", "web page", exitcode.Data},
		{"pickle", "\x80\x02N.", "pickle", exitcode.Data},
		{"short zip", "PK\x03\x04", "cut short", exitcode.Data},
		{"short header", "\xff\x00\x00\x00\x00\x00\x00\x00{", "cut short", exitcode.Data},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := weights.Open(path, weights.Limits{})
			if err == nil || exitcode.Of(err) != c.code || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("class %d: %v, want %q", exitcode.Of(err), err, c.want)
			}
		})
	}
	if _, err := weights.Open(filepath.Join(t.TempDir(), "none"), weights.Limits{}); exitcode.Of(err) != exitcode.NoInput {
		t.Errorf("missing file: class %d, %v", exitcode.Of(err), err)
	}
	if _, err := weights.Open(t.TempDir(), weights.Limits{}); exitcode.Of(err) != exitcode.Data {
		t.Errorf("folder: class %d, %v", exitcode.Of(err), err)
	}
}

// TestTruncatedWhileOpen: a copy of values that are gone is an error.
func TestTruncatedWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.safetensors")
	if err := weightstest.WriteSparse(path, []weights.Param{{Name: "a", Shape: []int{1 << 20}}}); err != nil {
		t.Fatal(err)
	}
	f, err := weights.Open(path, weights.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Tensors()[0].Float32(make([]float32, 1<<20)); err == nil {
		t.Error("values of a truncated file were read")
	}
}

func TestSHA256(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	digest, n, err := weights.SHA256(path)
	if err != nil || n != 3 || digest != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Error(digest, n, err)
	}
	if _, _, err := weights.SHA256(path + "x"); exitcode.Of(err) != exitcode.NoInput {
		t.Error(err)
	}
}

func ExampleFile() {
	keys := []weights.Param{{Name: "norm.weight", Shape: []int{2}}, {Name: "norm.bias", Shape: []int{2}}}
	f, err := formula.Source{Prefix: "example/"}.File(keys)
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := weights.Bind(f, keys, weights.BindOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, k := range keys {
		t := b.Tensors[k.Name]
		fmt.Println(t.Name, t.DType, t.Shape)
	}
	// Output:
	// norm.weight F32 [2]
	// norm.bias F32 [2]
}
