package weights_test

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/pickle"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// expectation is an entry of expected.json.
type expectation struct {
	Read    *bool // nil: either
	Reason  string
	Values  string
	Tensors map[string]struct {
		Shape  []int
		DType  string
		Stride []int64
		Offset int64
	}
	Scalars map[string]json.Number
	Note    string
}

// readAll opens a file and reads every tensor: only then was all of it accepted.
func readAll(path string, lim weights.Limits) (*weights.File, map[string][]byte, error) {
	f, err := weights.Open(path, lim)
	if err != nil {
		return nil, nil, err
	}
	values := map[string][]byte{}
	for _, t := range f.Tensors() {
		if values[t.Name], err = t.Bytes(); err != nil {
			f.Close()
			return nil, nil, err
		}
		if err := t.Float32(make([]float32, t.NumElements())); err != nil {
			f.Close()
			return nil, nil, err
		}
	}
	return f, values, nil
}

var torchTypes = map[string]weights.DType{"float64": weights.F64, "float32": weights.F32, "float16": weights.F16,
	"bfloat16": weights.BF16, "int64": weights.I64, "int32": weights.I32, "bool": weights.Bool, "uint8": weights.U8}

// TestGoldenPickle compares every file of the folder with what expected.json says of it, bit for bit.
func TestGoldenPickle(t *testing.T) {
	dir := golden.Dir(t, "pickle")
	raw, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var expected map[string]expectation
	if err := json.Unmarshal(raw, &expected); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.ckpt"))
	if err != nil || len(paths) == 0 || len(paths) != len(expected) {
		t.Fatalf("%d files, %d expectations, %v", len(paths), len(expected), err)
	}
	for _, path := range paths {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			want, ok := expected[name]
			if !ok {
				t.Fatal("no expectation")
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f, values, err := readAll(path, weights.Limits{})
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
				t.Errorf("%d bytes allocated", n)
			}
			switch {
			case err != nil && (want.Read == nil || !*want.Read):
				if exitcode.Of(err) != exitcode.Data {
					t.Errorf("class %d: %v", exitcode.Of(err), err)
				}
				t.Logf("%v (%s)", err, want.Reason)
				golden.Line(t, "pickle/"+name+" refused", 0, 0)
				return
			case err != nil:
				t.Fatal(err)
			case want.Read != nil && !*want.Read:
				t.Fatalf("accepted, must be refused: %s", want.Reason)
			}
			defer f.Close()
			compareValues(t, f, values, want, filepath.Join(dir, want.Values))
			if !t.Failed() {
				golden.Line(t, "pickle/"+name+" bits", 0, 0)
			}
		})
	}
}

func compareValues(t *testing.T, f *weights.File, values map[string][]byte, want expectation, path string) {
	ref, refValues, err := readAll(path, weights.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer ref.Close()
	for name := range values {
		if _, ok := want.Tensors[name]; !ok && strings.Contains(want.Note, "the rest may be read") {
			delete(values, name)
		}
	}
	if len(values) != len(want.Tensors) || len(refValues) != len(values) || len(values) == 0 {
		t.Fatalf("%d tensors, expected %d, values of %d", len(values), len(want.Tensors), len(refValues))
	}
	for name, w := range want.Tensors {
		x, ok := f.Lookup(name)
		r, ok2 := ref.Lookup(name)
		if !ok || !ok2 {
			t.Errorf("%s is missing", name)
			continue
		}
		scalar := len(x.Shape) == 0 && slices.Equal(r.Shape, []int{1}) // the values file has no 0-d entries
		if !slices.Equal(x.Shape, w.Shape) || !slices.Equal(x.Shape, r.Shape) && !scalar || r.DType != torchTypes[w.DType] {
			t.Errorf("%s: shape %v, type %v; want %v, %s", name, x.Shape, x.DType, w.Shape, w.DType)
		}
		if w.Stride != nil {
			if stride, off := x.Layout(); !slices.Equal(stride, w.Stride) || off != w.Offset {
				t.Errorf("%s: strides %v, offset %d; want %v, %d", name, stride, off, w.Stride, w.Offset)
			}
		}
		if x.DType == r.DType {
			if !bytes.Equal(values[name], refValues[name]) {
				t.Errorf("%s: % x, want % x", name, values[name], refValues[name])
			}
		} else if x.DType != weights.I8 && x.DType != weights.I16 { // these two are widened in the values file
			t.Errorf("%s: type %v, values of %v", name, x.DType, r.DType)
		}
		a, b := make([]float32, x.NumElements()), make([]float32, x.NumElements())
		if x.Float32(a) != nil || r.Float32(b) != nil || !slices.EqualFunc(a, b, sameBits) {
			t.Errorf("%s: %v, want %v", name, a, b)
		}
		if v, ok := x.View(); ok && !slices.EqualFunc(v, b, sameBits) {
			t.Errorf("%s: view %v, want %v", name, v, b)
		}
	}
	for name, v := range want.Scalars {
		if got := f.Metadata()[name]; got != v.String() {
			t.Errorf("scalar %s = %q, want %v", name, got, v)
		}
	}
}

func sameBits(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }

// TestGoldenModels reads every real checkpoint of the reference vectors, with the views compared to the copies.
func TestGoldenModels(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(golden.Dir(t), "*", "*", "model.ckpt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	for _, path := range paths {
		f, values, err := readAll(path, weights.Limits{})
		if err != nil {
			t.Error(err)
			continue
		}
		views := 0
		for _, x := range f.Tensors() {
			v, ok := x.View()
			if !ok {
				continue
			}
			views++
			m, err := tensor.New(x.Name, weights.F32, x.Shape, nil, 0, tensor.Memory(values[x.Name]), tensor.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if w, err := m.Values(); err != nil || !slices.EqualFunc(v, w, sameBits) {
				t.Errorf("%s, %s: the view differs", path, x.Name)
			}
		}
		t.Logf("%s: %s, %d tensors, %d views, %v", path, f.Format(), len(values), views, f.Metadata())
		if f.Metadata()["global_step"] == "" {
			t.Errorf("%s: no global_step", path)
		}
		f.Close()
	}
}

// TestGoldenStatistics reads the statistics that an evaluation library caches with PyTorch: arrays mu [n] and sigma [n, n].
func TestGoldenStatistics(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(golden.Dir(t, "eval"), "*", "*.pt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	for _, path := range paths {
		f, _, err := readAll(path, weights.Limits{})
		if err != nil {
			t.Error(err)
			continue
		}
		mu, ok1 := f.Lookup("mu")
		sigma, ok2 := f.Lookup("sigma")
		if !ok1 || !ok2 || len(mu.Shape) != 1 || !slices.Equal(sigma.Shape, []int{mu.Shape[0], mu.Shape[0]}) {
			t.Fatalf("%s: %v", path, f.Tensors())
		}
		v, err := sigma.Values()
		if err != nil {
			t.Fatal(err)
		}
		n := mu.Shape[0]
		for i := range n { // a covariance is symmetric with a diagonal that is not negative
			if v[i*n+i] < 0 || v[i] != v[i*n] {
				t.Errorf("%s: row %d is not that of a covariance", path, i)
			}
		}
		f.Close()
	}
}

// TestMutations damages the reference files at random. Whatever comes out, nothing panics and nothing allocates beyond
// the limits.
func TestMutations(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(golden.Dir(t, "pickle"), "*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	lim := weights.Limits{Tensor: tensor.Limits{Bytes: 1 << 20, TotalBytes: 4 << 20}, Pickle: pickle.Limits{Memory: 4 << 20}}
	r := rand.New(rand.NewPCG(7, 7))
	out := filepath.Join(t.TempDir(), "f")
	tried, read := 0, 0
	for _, path := range paths {
		orig, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(orig) < 9 || len(orig) > 8<<10 || strings.HasSuffix(path, ".json") {
			continue
		}
		for range 25 {
			b := slices.Clone(orig)
			for range 1 + r.IntN(3) {
				switch i := r.IntN(len(b)); r.IntN(4) {
				case 0:
					b[i] ^= 1 << r.IntN(8)
				case 1:
					b[i] = byte(r.Uint32())
				case 2:
					b[i] = []byte{0, 0x7f, 0x80, 0xff}[r.IntN(4)]
				default:
					b = b[:max(i, 1)]
				}
			}
			if err := os.WriteFile(out, b, 0o600); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f, _, err := readAll(out, lim)
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
				t.Errorf("%s: %d bytes allocated", path, n)
			}
			tried++
			if err == nil {
				read++
				f.Close()
			} else if c := exitcode.Of(err); c != exitcode.Data && f == nil && !strings.Contains(err.Error(), "tensor") {
				t.Errorf("%s: class %d: %v", path, c, err)
			}
		}
	}
	t.Logf("%d damaged files, %d still readable", tried, read)
}
