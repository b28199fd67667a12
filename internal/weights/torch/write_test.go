package torch

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// samples are entries of every type and of odd shapes.
func samples() []Entry {
	var list []Entry
	add := func(name string, d tensor.DType, shape []int, data []byte) {
		list = append(list, Entry{name, d, shape, func() io.Reader { return bytes.NewReader(data) }})
	}
	f32 := func(n int) []byte {
		var b []byte
		for i := range n {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(i)*0.5-1))
		}
		return b
	}
	add("model.weight", tensor.F32, []int{2, 3, 1, 2}, f32(12))
	add("model.bias", tensor.F32, []int{3}, f32(3))
	add("scale_factor", tensor.F32, []int{}, f32(1))
	add("empty", tensor.F32, []int{0, 4}, nil)
	for i, d := range []tensor.DType{tensor.F64, tensor.F16, tensor.BF16, tensor.I64, tensor.I32, tensor.I16, tensor.I8, tensor.U8, tensor.Bool} {
		data := make([]byte, 5*d.Size())
		if d != tensor.Bool {
			for j := range data {
				data[j] = byte(17*i + j)
			}
		}
		add(fmt.Sprintf("dtype.%v", d), d, []int{5}, data)
	}
	return list
}

func write(t *testing.T, entries []Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteZip(&b, entries, map[string]int64{"global_step": 1 << 40, "epoch": -3}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestWriteZip reads back what is written, finds it aligned, and writes the same bytes twice.
func TestWriteZip(t *testing.T) {
	file := write(t, samples())
	if !bytes.Equal(file, write(t, samples())) {
		t.Error("two files of the same entries differ")
	}
	src := tensor.Memory(file)
	c, err := ReadZip(src, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Metadata["global_step"] != fmt.Sprint(1<<40) || c.Metadata["epoch"] != "-3" {
		t.Errorf("metadata %v", c.Metadata)
	}
	want := samples()
	if len(c.Tensors) != len(want) {
		t.Fatalf("%d tensors, want %d", len(c.Tensors), len(want))
	}
	for i, x := range c.Tensors {
		e := want[i]
		if x.Name != e.Name || x.DType != e.DType || !slices.Equal(x.Shape, e.Shape) {
			t.Errorf("tensor %d is %s %v %v, want %s %v %v", i, x.Name, x.DType, x.Shape, e.Name, e.DType, e.Shape)
		}
		got, err := x.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if data, _ := io.ReadAll(e.Data()); !bytes.Equal(got, data) {
			t.Errorf("%s: other bytes", x.Name)
		}
	}
	records, err := readDirectory(src, ZipLimits{})
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range records {
		if r.off%align != 0 {
			t.Errorf("%s begins at %d", name, r.off)
		}
	}
}

// TestWriteZipRefuses hands in what cannot be written.
func TestWriteZipRefuses(t *testing.T) {
	data := func(n int) func() io.Reader {
		return func() io.Reader { return bytes.NewReader(make([]byte, n)) }
	}
	for want, list := range map[string][]Entry{
		"taken":         {{"a", tensor.F32, []int{1}, data(4)}, {"a", tensor.F32, []int{1}, data(4)}},
		"not UTF-8":     {{"\xff", tensor.F32, []int{1}, data(4)}},
		"3 bytes in":    {{"a", tensor.F32, []int{1}, data(3)}},
		"5 bytes in":    {{"a", tensor.F32, []int{1}, data(5)}},
		"negative size": {{"a", tensor.F32, []int{-1}, data(4)}},
		"no storage":    {{"a", tensor.DType(99), []int{1}, data(4)}},
		"4 GiB":         {{"a", tensor.F32, []int{1 << 30}, data(4)}},
	} {
		if err := WriteZip(io.Discard, list, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if err := WriteZip(&full{300}, samples(), nil); err == nil {
		t.Error("a full disk is no error")
	}
}

// full takes a number of bytes.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.left {
		return 0, io.ErrShortWrite
	}
	f.left -= len(p)
	return len(p), nil
}

// TestWriteZipPyTorch lets PyTorch load a file with weights_only, where a Python that has it is named by LDM_PYTHON.
func TestWriteZipPyTorch(t *testing.T) {
	python := os.Getenv("LDM_PYTHON")
	if python == "" {
		t.Skip("LDM_PYTHON names no Python with PyTorch")
	}
	path := filepath.Join(t.TempDir(), "model.ckpt")
	if err := os.WriteFile(path, write(t, samples()), 0o600); err != nil {
		t.Fatal(err)
	}
	script := `
import json, sys, torch, zlib
c = torch.load(sys.argv[1], weights_only=True, map_location="cpu")
def raw(t):
    return bytes(t.contiguous().reshape(-1).view(torch.uint8).tolist()) if t.numel() else b""
print(json.dumps({"step": c["global_step"], "epoch": c["epoch"], "tensors": [[k, str(t.dtype), list(t.shape), zlib.crc32(raw(t))] for k, t in c["state_dict"].items()]}))
`
	out, err := exec.Command(python, "-c", script, path).Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, err.(*exec.ExitError).Stderr)
	}
	var got struct {
		Step, Epoch int64
		Tensors     [][]any
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if got.Step != 1<<40 || got.Epoch != -3 {
		t.Errorf("step %d, epoch %d", got.Step, got.Epoch)
	}
	for i, e := range samples() {
		data, _ := io.ReadAll(e.Data())
		x := got.Tensors[i]
		if x[0] != e.Name || fmt.Sprint(x[2]) != fmt.Sprint(e.Shape) || x[3] != float64(crc32.ChecksumIEEE(data)) {
			t.Errorf("PyTorch reads %v, want %s %v", x, e.Name, e.Shape)
		}
	}
}
