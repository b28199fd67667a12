package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// file builds a file of a header, as it is, and n data bytes.
func file(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

// length builds a file with a false header length.
func length(n uint64, rest string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, n), rest...)
}

func TestReadAccepts(t *testing.T) {
	cases := []struct {
		name    string
		file    []byte
		tensors int
	}{
		{"empty", file(`{}`, 0), 0},
		{"padded", file(`{}      `, 0), 0},
		{"one", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), 1},
		{"scalar", file(`{"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}`, 8), 1},
		{"no elements", file(`{"a":{"dtype":"F64","shape":[0,4],"data_offsets":[0,0]}}`, 0), 1},
		{"any order", file(`{"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}`, 3), 2},
		{"metadata", file(`{"__metadata__":{"format":"pt"},"a":{"data_offsets":[0,1],"shape":[1],"dtype":"I8"}}`, 1), 1},
		{"inner spaces", file(`{ "a" : { "dtype":"I8", "shape":[ 1 ], "data_offsets":[0,1] } }`, 1), 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, _, err := Read(tensor.Memory(c.file), Limits{})
			if err != nil || len(got) != c.tensors {
				t.Errorf("%d tensors, %v", len(got), err)
			}
		})
	}
}

// TestReadRefuses holds every attack on the header that is known for the format.
func TestReadRefuses(t *testing.T) {
	one := func(fields string) []byte { return file(`{"a":{`+fields+`}}`, 8) }
	cases := []struct {
		name string
		file []byte
		want string // part of the error
	}{
		{"nothing", nil, "shorter"},
		{"seven bytes", make([]byte, 7), "shorter"},
		{"length only", length(2, ""), "cut short"},
		{"no header", length(0, ""), "header of 0"},
		{"header too large", length(MaxHeader+1, "{}"), "limit"},
		{"header wraps", length(1<<64-8, "{}"), "limit"},
		{"header sign bit", length(1<<63, "{}"), "limit"},
		{"header beyond the file", length(1000, "{}"), "cut short"},
		{"leading space", file(` {}`, 0), "begin"},
		{"array", file(`[]`, 0), "begin"},
		{"trailing garbage", file(`{}x`, 0), "behind"},
		{"trailing newline", file("{}\n", 0), "behind"},
		{"second object", file(`{}{}`, 0), "behind"},
		{"not closed", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`, 8), ""},
		{"not UTF-8", file("{\"\xff\":1}", 0), "UTF-8"},
		{"not JSON", file(`{a}`, 0), ""},
		{"deep", file(`{"a":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+`}`, 0), ""},
		{"deep objects", file(`{"a":`+strings.Repeat(`{"dtype":`, 100_000), 0), ""},
		{"duplicate tensor", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), "twice"},
		{"duplicate by escape", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"\u0061":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}}`, 8), "twice"},
		{"duplicate field", one(`"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]`), "twice"},
		{"duplicate metadata", file(`{"__metadata__":{"a":"1","a":"2"}}`, 0), "twice"},
		{"two metadata", file(`{"__metadata__":{},"__metadata__":{}}`, 0), "twice"},
		{"metadata number", file(`{"__metadata__":{"a":1}}`, 0), "string"},
		{"metadata object", file(`{"__metadata__":{"a":{}}}`, 0), "string"},
		{"metadata list", file(`{"__metadata__":[]}`, 0), ""},
		{"missing field", one(`"dtype":"F32","shape":[2]`), "needs"},
		{"unknown field", one(`"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1`), "unknown"},
		{"unknown type", one(`"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]`), "not supported"},
		{"null type", one(`"dtype":null,"shape":[8],"data_offsets":[0,8]`), "string"},
		{"negative size", one(`"dtype":"F32","shape":[-2],"data_offsets":[0,8]`), "not a size"},
		{"fraction", one(`"dtype":"F32","shape":[2.0],"data_offsets":[0,8]`), "not a size"},
		{"exponent", one(`"dtype":"F32","shape":[2e0],"data_offsets":[0,8]`), "not a size"},
		{"size of 2^63", one(`"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]`), "not a size"},
		{"size string", one(`"dtype":"F32","shape":["2"],"data_offsets":[0,8]`), "not a size"},
		{"overflow", one(`"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]`), "overflow"},
		{"byte overflow", one(`"dtype":"F64","shape":[2305843009213693953],"data_offsets":[0,8]`), "does not take"},
		{"rank", one(`"dtype":"F32","shape":[` + strings.Repeat("1,", 40) + `2],"data_offsets":[0,8]`), "more than"},
		{"too short", one(`"dtype":"F32","shape":[3],"data_offsets":[0,8]`), "does not take"},
		{"too long", one(`"dtype":"F32","shape":[1],"data_offsets":[0,8]`), "does not take"},
		{"backwards", one(`"dtype":"F32","shape":[2],"data_offsets":[8,0]`), "bytes"},
		{"beyond the file", one(`"dtype":"F32","shape":[3],"data_offsets":[0,12]`), "bytes"},
		{"one offset", one(`"dtype":"F32","shape":[2],"data_offsets":[8]`), "offsets"},
		{"three offsets", one(`"dtype":"F32","shape":[2],"data_offsets":[0,8,8]`), "more than"},
		{"negative offset", one(`"dtype":"F32","shape":[2],"data_offsets":[-8,0]`), "not a size"},
		{"hole in front", one(`"dtype":"F32","shape":[1],"data_offsets":[4,8]`), "starts at"},
		{"hole", file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}}`, 5), "starts at"},
		{"overlap", file(`{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}`, 4), "starts at"},
		{"same bytes", file(`{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}`, 3), "starts at"},
		{"trailing bytes", file(`{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}`, 4), "end at"},
		{"data without tensors", file(`{}`, 4), "end at"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := Read(tensor.Memory(c.file), Limits{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	two := file(`{"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}`, 3)
	for name, lim := range map[string]Limits{
		"header": {Header: 10}, "count": {Tensor: tensor.Limits{Count: 1}}, "bytes": {Tensor: tensor.Limits{Bytes: 1}},
		"total": {Tensor: tensor.Limits{TotalBytes: 2}},
	} {
		if _, _, err := Read(tensor.Memory(two), lim); err == nil {
			t.Errorf("limit %s has no effect", name)
		}
	}
}

func entries() []Entry {
	raw := func(s string) func() io.Reader { return func() io.Reader { return strings.NewReader(s) } }
	return []Entry{
		{"w", tensor.F32, []int{2, 1}, raw("abcdefgh")},
		{"ü\"<\n", tensor.F16, []int{}, raw("xy")},
		{"none", tensor.I64, []int{0, 3}, raw("")},
	}
}

func TestWriteRead(t *testing.T) {
	meta := map[string]string{"format": "pt", "a": "<ü>"}
	var one, two bytes.Buffer
	if err := Write(&one, entries(), meta); err != nil {
		t.Fatal(err)
	}
	if err := Write(&two, entries(), meta); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("two writes differ")
	}
	if n := binary.LittleEndian.Uint64(one.Bytes()); n%8 != 0 {
		t.Errorf("header of %d bytes is not aligned", n)
	}
	got, m, err := Read(tensor.Memory(one.Bytes()), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(m) != fmt.Sprint(meta) {
		t.Errorf("metadata %v", m)
	}
	for _, e := range entries() {
		i := slices.IndexFunc(got, func(x *tensor.Tensor) bool { return x.Name == e.Name })
		if i < 0 {
			t.Fatalf("%q is missing", e.Name)
		}
		want, _ := io.ReadAll(e.Data())
		b, err := got[i].Bytes()
		if err != nil || !bytes.Equal(b, want) || got[i].DType != e.DType || !slices.Equal(got[i].Shape, e.Shape) {
			t.Errorf("%q: %q %v %v, %v", e.Name, b, got[i].DType, got[i].Shape, err)
		}
	}
}

// failAfter fails once n bytes were written.
type failAfter struct{ n int }

var errDisk = errors.New("disk full")

func (f *failAfter) Write(p []byte) (int, error) {
	if len(p) > f.n {
		return f.n, errDisk
	}
	f.n -= len(p)
	return len(p), nil
}

func TestWriteFails(t *testing.T) {
	var whole bytes.Buffer
	if err := Write(&whole, entries(), nil); err != nil {
		t.Fatal(err)
	}
	for n := range whole.Len() {
		if err := Write(&failAfter{n}, entries(), nil); !errors.Is(err, errDisk) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
	short := func() io.Reader { return strings.NewReader("abc") }
	broken := func() io.Reader { return io.MultiReader(strings.NewReader("ab"), iotestErr{}) }
	for name, e := range map[string][]Entry{
		"short":    {{"a", tensor.F32, []int{1}, short}},
		"long":     {{"a", tensor.U8, []int{1}, short}},
		"broken":   {{"a", tensor.F32, []int{1}, broken}},
		"twice":    {{"a", tensor.U8, []int{3}, short}, {"a", tensor.U8, []int{3}, short}},
		"reserved": {{"__metadata__", tensor.U8, []int{3}, short}},
		"type":     {{"a", 0, []int{3}, short}},
		"shape":    {{"a", tensor.U8, []int{-3}, short}},
	} {
		if err := Write(io.Discard, e, nil); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, errDisk }

// TestGolden reads every safetensors file of the reference vectors.
func TestGolden(t *testing.T) {
	n := 0
	err := filepath.WalkDir(golden.Dir(t), func(path string, d os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".safetensors" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n++
		if _, _, err := Read(tensor.Memory(b), Limits{}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		return nil
	})
	if err != nil || n == 0 {
		t.Fatalf("%d files, %v", n, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8))
	f.Add(file(`{"__metadata__":{"format":"pt"},"b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}} `, 0))
	f.Add(length(1<<64-8, "{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tensors, meta, err := Read(tensor.Memory(b), Limits{Tensor: tensor.Limits{Bytes: 1 << 20}})
		if err != nil {
			return
		}
		out := make([]Entry, len(tensors))
		for i, x := range tensors {
			out[i] = Entry{x.Name, x.DType, x.Shape, x.Reader}
		}
		var again bytes.Buffer
		if err := Write(&again, out, meta); err != nil {
			t.Fatalf("accepted, but cannot be written: %v", err)
		}
		if _, _, err := Read(tensor.Memory(again.Bytes()), Limits{}); err != nil {
			t.Fatalf("written, but refused: %v", err)
		}
	})
}
