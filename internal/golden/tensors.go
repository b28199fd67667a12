package golden

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"
)

// Tensor is an entry of a vector file, for tests of packages that know no model and therefore no model files.
type Tensor struct {
	Name, DType string
	Shape       []int
	Data        []byte
}

// Tensors returns the entries of a safetensors file in the order of their names. A file without entries fails the test.
func Tensors(t testing.TB, path string) []Tensor {
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
	var all []Tensor
	for name, raw := range header {
		var e struct {
			Dtype   string
			Shape   []int
			Offsets [2]int `json:"data_offsets"`
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, Tensor{name, e.Dtype, e.Shape, file[8+n:][e.Offsets[0]:e.Offsets[1]]})
	}
	slices.SortFunc(all, func(a, b Tensor) int { return cmp.Compare(a.Name, b.Name) })
	if len(all) == 0 {
		t.Fatalf("%s holds no entry", path)
	}
	return all
}

// Values returns the entry as float64; its type must be U8, I64, F32 or F64.
func (e Tensor) Values(t testing.TB) []float64 {
	t.Helper()
	var v []float64
	switch e.DType {
	case "U8":
		for _, b := range e.Data {
			v = append(v, float64(b))
		}
	case "F32":
		for i := 0; i < len(e.Data); i += 4 {
			v = append(v, float64(math.Float32frombits(binary.LittleEndian.Uint32(e.Data[i:]))))
		}
	case "F64":
		for i := 0; i < len(e.Data); i += 8 {
			v = append(v, math.Float64frombits(binary.LittleEndian.Uint64(e.Data[i:])))
		}
	case "I64":
		for i := 0; i < len(e.Data); i += 8 {
			v = append(v, float64(int64(binary.LittleEndian.Uint64(e.Data[i:]))))
		}
	default:
		t.Fatalf("%s: type %s", e.Name, e.DType)
	}
	return v
}

// Float32s returns [Tensor.Values] as float32, exact for what is stored as U8 or F32.
func (e Tensor) Float32s(t testing.TB) []float32 {
	t.Helper()
	v := e.Values(t)
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}

// Uint8s returns the bytes of an entry of type U8.
func (e Tensor) Uint8s(t testing.TB) []uint8 {
	t.Helper()
	if e.DType != "U8" {
		t.Fatalf("%s: type %s", e.Name, e.DType)
	}
	return e.Data
}
