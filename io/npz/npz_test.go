package npz

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
)

// doubles reads an array of a file.
func doubles(path, name string) (v []float64, a *Array, err error) {
	f, err := Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if a, err = f.Array(name); err != nil {
		return nil, nil, err
	}
	v, err = a.Float64s()
	return v, a, err
}

func TestOddGolden(t *testing.T) {
	dir := golden.Dir(t, "eval", "files", "odd")
	file, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]struct {
		Error     string `json:"numpy_error"`
		Mu, Sigma []any
	}
	if err := json.Unmarshal(file, &want); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatal("no file", err)
	}
	reference, _, err := doubles(filepath.Join(dir, "extra_keys.npz"), "sigma")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		w, ok := want[e.Name()]
		if !ok {
			t.Errorf("%s: nothing expected", e.Name())
			continue
		}
		path := filepath.Join(dir, e.Name())
		if w.Error != "" {
			_, _, err1 := doubles(path, "mu")
			_, _, err2 := doubles(path, "sigma")
			err := errors.Join(err1, err2)
			if err == nil {
				t.Errorf("%s: no error, numpy has %s", e.Name(), w.Error)
			} else if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), e.Name()) {
				t.Errorf("%s: %v has class %d", e.Name(), err, exitcode.Of(err))
			}
			continue
		}
		for name, w := range map[string][]any{"mu": w.Mu, "sigma": w.Sigma} {
			v, a, err := doubles(path, name)
			if err != nil {
				t.Errorf("%s: %v", e.Name(), err)
				continue
			}
			var shape []int
			for _, n := range w[1].([]any) {
				shape = append(shape, int(n.(float64)))
			}
			descr := strings.NewReplacer("int64", "<i8", "float64", "<f8", "float32", "<f4", "float16", "<f2").Replace(w[0].(string))
			if a.Type.String() != descr || !slices.Equal(a.Shape, shape) || len(v) != a.Len() {
				t.Errorf("%s: %s is %v %v, want %v", e.Name(), name, a.Type, a.Shape, w)
			}
			if same := map[string]bool{"big_endian.npz": true, "fortran_order.npz": true, "npy_v2_header.npz": true}; same[e.Name()] && name == "sigma" &&
				!slices.Equal(v, reference) {
				t.Errorf("%s: %v, want %v", e.Name(), v, reference)
			}
			if e.Name() == "float16.npz" && name == "sigma" {
				for i := range v {
					if math.Abs(v[i]-reference[i]) > 1e-3*math.Abs(reference[i]) {
						t.Errorf("float16 element %d: %v, want %v", i, v[i], reference[i])
					}
				}
			}
		}
	}
}

// TestFilesGolden reads what other programs wrote, whole and in pieces, and writes it again.
func TestFilesGolden(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(golden.Dir(t, "eval", "files"), "*.npz"))
	if err != nil || len(paths) == 0 {
		t.Fatal("no file", err)
	}
	for _, path := range paths {
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		w := NewWriter(&out, true)
		type copied struct {
			data  []byte
			shape []int
			dtype Type
		}
		all := map[string]copied{}
		for _, name := range f.Names() {
			a, err := f.Array(name)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(a)
			if err != nil {
				t.Fatal(err)
			}
			e, err := w.Create(name, a.Type, a.Shape...)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := e.Write(data); err != nil {
				t.Fatal(err)
			}
			all[name] = copied{data, a.Shape, a.Type}
		}
		f.Close()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		g, err := Read(bytes.NewReader(out.Bytes()), int64(out.Len()), "copy")
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range all {
			a, err := g.Array(name)
			if err != nil {
				t.Fatal(err)
			}
			if data, err := io.ReadAll(a); err != nil || !bytes.Equal(data, want.data) || !slices.Equal(a.Shape, want.shape) || a.Type != want.dtype {
				t.Errorf("%s: the copy of %s differs, %v", path, name, err)
			}
		}
	}
	mu, a, err := doubles(filepath.Join(golden.Dir(t, "eval", "files"), "mu_sigma_2048_rank1_f32.npz"), "sigma")
	if err != nil || a.Shape[0] != 2048 {
		t.Fatal(a, err)
	}
	for i := 0; i < 2048; i += 32 {
		if want := float64(i/32) / 64 * 3 / 64; mu[i*2048+96] != want {
			t.Fatalf("sigma[%d, 96] is %v, want %v", i, mu[i*2048+96], want)
		}
	}
}

func file(t testing.TB, compressed bool) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out, compressed)
	if err := errors.Join(w.Float64s("mu", []float64{1, 2, 3}, 3), w.Float32s("f", []float32{1, 2, 3, 4, 5, 6}, 2, 3), w.Int64s("n", []int64{-7})); err != nil {
		t.Fatal(err)
	}
	e, err := w.Create("arr_0", Uint8, 2, 1, 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Write([]byte{1, 2, 3, 4, 5, 6}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestWrite(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		b := file(t, compressed)
		if !bytes.Equal(b, file(t, compressed)) {
			t.Error("the same arrays gave other bytes")
		}
		f, err := Read(bytes.NewReader(b), int64(len(b)), "f")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(f.Names(), []string{"mu", "f", "n", "arr_0"}) || f.Has("arr_1") {
			t.Errorf("names %v", f.Names())
		}
		get := func(name string) *Array {
			a, err := f.Array(name)
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		if v, err := get("mu").Float64s(); err != nil || !slices.Equal(v, []float64{1, 2, 3}) {
			t.Error(v, err)
		}
		if v, err := get("f").Float32s(); err != nil || !slices.Equal(v, []float32{1, 2, 3, 4, 5, 6}) {
			t.Error(v, err)
		}
		if v, err := get("arr_0").Uint8s(); err != nil || !slices.Equal(v, []uint8{1, 2, 3, 4, 5, 6}) {
			t.Error(v, err)
		}
		if a := get("n"); len(a.Shape) != 0 {
			t.Errorf("scalar has shape %v", a.Shape)
		}
		if v, err := get("n").Int64s(); err != nil || !slices.Equal(v, []int64{-7}) {
			t.Error(v, err)
		}
		for name, err := range map[string]error{
			"float64 as float32": second(get("mu").Float32s()), "float as uint8": second(get("f").Uint8s()),
			"float as int": second(get("mu").Int64s()), "missing": second(f.Array("sigma")),
		} {
			if exitcode.Of(err) != exitcode.Data {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

// failing fails at the nth write.
type failing struct{ left int }

var errFull = errors.New("full")

func (f *failing) Write(p []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriteFaults(t *testing.T) {
	run := func(n int) error {
		w := NewWriter(&failing{n}, false)
		err := w.Float64s("mu", make([]float64, 30000), 30000)
		if err == nil {
			err = w.Float64s("sigma", make([]float64, 4), 2, 2)
		}
		if e := w.Close(); err == nil {
			err = e
		} else if e == nil {
			t.Errorf("write %d failed and Close has no error", n)
		}
		return err
	}
	n := 0
	for ; ; n++ {
		err := run(n)
		if err == nil {
			break
		}
		if !errors.Is(err, errFull) {
			t.Errorf("write %d: %v", n, err)
		}
	}
	if n < 3 {
		t.Errorf("only %d writes", n)
	}
	w := NewWriter(io.Discard, false)
	if err := w.Float64s("short", []float64{1}, 2); err == nil || w.Close() == nil {
		t.Errorf("a short array: %v", err)
	}
	w = NewWriter(io.Discard, false)
	if err := w.Float64s("long", []float64{1, 2}, 1); err == nil || w.Close() == nil {
		t.Errorf("a long array: %v", err)
	}
	if _, err := NewWriter(io.Discard, false).Create("huge", Float64, 1<<40, 1<<40); err == nil {
		t.Error("a huge array was begun")
	}
}

func npy(text string, data []byte) []byte {
	b := append([]byte(magic), 1, 0, byte(len(text)), byte(len(text)>>8))
	return append(append(b, text...), data...)
}

func TestHeaders(t *testing.T) {
	ok := "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n"
	for text, good := range map[string]bool{
		ok: true,
		`{"shape":(2,),"fortran_order":True,"descr":"=f4"}`:                            true,
		"{'descr': '<f4', 'fortran_order': False, 'shape': (2L,)}":                     true,
		"{'descr': '<i2', 'fortran_order': False, 'shape': (2, 2)}":                    true,
		"{'descr': '<f4', 'fortran_order': False, 'shape': (2)}":                       true,
		"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}":                      false,
		"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}":                     false,
		"{'descr': '<f4', 'fortran_order': False}":                                     false,
		"{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}":                          false,
		"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x":                    false,
		"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}":      false,
		"{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}":                      false,
		"{'descr': '<U2', 'fortran_order': False, 'shape': (1,)}":                      false,
		"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}":                       false,
		"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}":             false,
		"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}":  false,
		"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999, 1)}": false,
		"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), 'more': 'x'}":       false,
		"": false,
	} {
		b := npy(text, make([]byte, 8))
		f, err := Read(bytes.NewReader(b), int64(len(b)), "x.npy")
		if err != nil {
			t.Fatal(err)
		}
		a, err := f.Array("")
		if err == nil {
			_, err = a.Float64s()
		}
		if (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(file(f, false))
	f.Add(file(f, true))
	f.Add(npy("{'descr': '>f2', 'fortran_order': True, 'shape': (2, 2), }", make([]byte, 8)))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Read(bytes.NewReader(b), int64(len(b)), "f")
		if err != nil {
			return
		}
		for _, name := range file.Names() {
			a, err := file.Array(name)
			if err != nil {
				continue
			}
			if v, err := a.Float64s(); err == nil && len(v) != a.Len() {
				t.Errorf("%d elements of %d", len(v), a.Len())
			}
		}
	})
}
