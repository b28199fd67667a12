package resize

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"
)

// tensor is one entry of a vector file.
type tensor struct {
	name, dtype string
	shape       []int
	data        []byte
}

// readTensors returns the entries of a safetensors file in name order.
func readTensors(t testing.TB, path string) []tensor {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(file)
	var header map[string]json.RawMessage
	if err := json.Unmarshal(file[8:8+n], &header); err != nil {
		t.Fatal(err)
	}
	delete(header, "__metadata__")
	var all []tensor
	for name, raw := range header {
		var e struct {
			Dtype   string
			Shape   []int
			Offsets [2]int `json:"data_offsets"`
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, tensor{name, e.Dtype, e.Shape, file[8+n:][e.Offsets[0]:e.Offsets[1]]})
	}
	slices.SortFunc(all, func(a, b tensor) int { return cmp.Compare(a.name, b.name) })
	if len(all) == 0 {
		t.Fatalf("%s holds no entry", path)
	}
	return all
}

// values returns the entry as float64, whatever its type.
func (e tensor) values(t testing.TB) []float64 {
	t.Helper()
	var v []float64
	switch e.dtype {
	case "U8":
		for _, b := range e.data {
			v = append(v, float64(b))
		}
	case "F32":
		for i := 0; i < len(e.data); i += 4 {
			v = append(v, float64(math.Float32frombits(binary.LittleEndian.Uint32(e.data[i:]))))
		}
	case "F64":
		for i := 0; i < len(e.data); i += 8 {
			v = append(v, math.Float64frombits(binary.LittleEndian.Uint64(e.data[i:])))
		}
	default:
		t.Fatalf("%s: type %s", e.name, e.dtype)
	}
	return v
}

func (e tensor) uint8s(t testing.TB) []uint8 {
	t.Helper()
	if e.dtype != "U8" {
		t.Fatalf("%s: type %s", e.name, e.dtype)
	}
	return e.data
}

func (e tensor) float32s(t testing.TB) []float32 { return convert[float64, float32](e.values(t)) }

func convert[A, B uint8 | float32 | float64](v []A) []B {
	out := make([]B, len(v))
	for i, x := range v {
		out[i] = B(x)
	}
	return out
}

// hwc turns 1 x C x H x W into H x W x C.
func hwc[T any](v []T, c, h, w int) []T {
	out := make([]T, len(v))
	for ch := range c {
		for i := range h * w {
			out[i*c+ch] = v[ch*h*w+i]
		}
	}
	return out
}

// difference is the comparison of one file or one group of its entries.
type difference struct {
	entries, samples, unequal int
	max                       float64
}

func (d *difference) compare(got, want []float64) float64 {
	worst := 0.0
	for i, g := range got {
		if g != want[i] {
			d.unequal++
		}
		if x := math.Abs(g - want[i]); !(x <= worst) {
			worst = x
		}
	}
	d.entries++
	d.samples += len(got)
	d.max = max(d.max, worst)
	return worst
}

func (d difference) String() string {
	return fmt.Sprintf("%d entries, %d samples, %d unequal, max abs diff %.3g", d.entries, d.samples, d.unequal, d.max)
}
