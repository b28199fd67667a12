package weights_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/half"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
	"github.com/ldm-batch/ldm-batch/internal/weights/weightstest"
)

// reopen writes a file and opens it.
func reopen(t testing.TB, b []byte) *weights.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.safetensors")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := weights.Open(path, weights.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func converted(t testing.TB, in *weights.File, opt weights.ConvertOptions) *weights.File {
	t.Helper()
	var out, again bytes.Buffer
	if err := weights.Convert(in, &out, opt); err != nil {
		t.Fatal(err)
	}
	if err := weights.Convert(in, &again, opt); err != nil || !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Fatalf("the second conversion differs (%v)", err)
	}
	f := reopen(t, out.Bytes())
	if f.Metadata()["format"] != "pt" || f.Format() != weights.Safetensors {
		t.Errorf("metadata %v, format %s", f.Metadata(), f.Format())
	}
	return f
}

// TestConvertGolden converts every checkpoint of the reference vectors and compares all values.
func TestConvertGolden(t *testing.T) {
	var paths []string
	for _, pattern := range []string{"pickle/views*.ckpt", "pickle/half*.ckpt", "pickle/zip.ckpt", "ldm/*/model.ckpt"} {
		p, err := filepath.Glob(filepath.Join(golden.Dir(t), pattern))
		if err != nil || len(p) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(p), err)
		}
		paths = append(paths, p...)
	}
	for _, path := range paths {
		in, values, err := readAll(path, weights.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		out := converted(t, in, weights.ConvertOptions{})
		if len(out.Tensors()) != len(values) {
			t.Errorf("%s: %d tensors of %d", path, len(out.Tensors()), len(values))
		}
		for _, x := range out.Tensors() {
			if b, err := x.Bytes(); err != nil || !bytes.Equal(b, values[x.Name]) {
				t.Errorf("%s, %s: differs (%v)", path, x.Name, err)
			}
			if _, ok := x.View(); x.DType == weights.F32 && !ok && runtime.GOOS == "linux" {
				t.Errorf("%s, %s: no view", path, x.Name)
			}
		}
		in.Close()
	}
}

func TestConvertEMA(t *testing.T) {
	raw := params("model.diffusion_model.a.weight", "first_stage_model.x", "betas")
	in := fileOf(t, weightstest.WithEMA(raw))
	out := converted(t, in, weights.ConvertOptions{EMA: true})
	if len(out.Tensors()) != len(raw) {
		t.Errorf("%d tensors", len(out.Tensors()))
	}
	for name, from := range map[string]string{"model.diffusion_model.a.weight": "model_ema.diffusion_modelaweight",
		"first_stage_model.x": "first_stage_model.x", "betas": "betas"} {
		got, ok := out.Lookup(name)
		want, _ := in.Lookup(from)
		if !ok {
			t.Errorf("%s is missing", name)
			continue
		}
		a, _ := got.Values()
		b, _ := want.Values()
		if !slices.Equal(a, b) {
			t.Errorf("%s is not %s", name, from)
		}
	}
	for name, f := range map[string]*weights.File{
		"none":       fileOf(t, raw),
		"incomplete": fileOf(t, append(weightstest.WithEMA(raw), params("model.diffusion_model.b")...)),
		"shape":      fileOf(t, append(slices.Clone(raw), weights.Param{Name: "model_ema.diffusion_modelaweight", Shape: []int{1}})),
		"no raw":     fileOf(t, params("model_ema.x", "betas")),
	} {
		if err := weights.Convert(f, io.Discard, weights.ConvertOptions{EMA: true}); exitcode.Of(err) != exitcode.Data {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConvertFirstStage(t *testing.T) {
	in := fileOf(t, params("first_stage_model.encoder.w", "first_stage_model.b", "model.diffusion_model.w"))
	out := converted(t, in, weights.ConvertOptions{FirstStageOnly: true})
	if _, ok := out.Lookup("encoder.w"); !ok || len(out.Tensors()) != 2 {
		t.Errorf("%d tensors", len(out.Tensors()))
	}
	out = converted(t, in, weights.ConvertOptions{NoFirstStage: true})
	if _, ok := out.Lookup("model.diffusion_model.w"); !ok || len(out.Tensors()) != 1 {
		t.Errorf("without its first stage: %d tensors", len(out.Tensors()))
	}
	if err := weights.Convert(fileOf(t, params("encoder.w")), io.Discard, weights.ConvertOptions{FirstStageOnly: true}); err == nil {
		t.Error("a file without first stage was converted")
	}
}

// TestConvertInference leaves out what training alone reads, and keeps the numbers of the diffusion exact in half types.
func TestConvertInference(t *testing.T) {
	in := fileOf(t, weightstest.WithEMA(params("model.diffusion_model.a.weight", "first_stage_model.x", "first_stage_model.loss.discriminator.w",
		"cond_stage_model.embedding.weight", "betas", "scale_factor", "logvar", "loss.logvar", "colorize")))
	for _, c := range []struct {
		o    weights.ConvertOptions
		want map[string]weights.DType
	}{
		{weights.ConvertOptions{InferenceOnly: true, EMA: true, DType: weights.F16}, map[string]weights.DType{
			"model.diffusion_model.a.weight": weights.F16, "first_stage_model.x": weights.F16, "cond_stage_model.embedding.weight": weights.F16,
			"betas": weights.F32, "scale_factor": weights.F32}},
		{weights.ConvertOptions{InferenceOnly: true}, map[string]weights.DType{
			"model.diffusion_model.a.weight": weights.F32, "first_stage_model.x": weights.F32, "cond_stage_model.embedding.weight": weights.F32,
			"betas": weights.F32, "scale_factor": weights.F32}},
		{weights.ConvertOptions{InferenceOnly: true, FirstStageOnly: true}, map[string]weights.DType{"x": weights.F32}},
	} {
		out := converted(t, in, c.o)
		if len(out.Tensors()) != len(c.want) {
			t.Errorf("%+v: %d tensors, want %d", c.o, len(out.Tensors()), len(c.want))
		}
		for name, d := range c.want {
			if x, ok := out.Lookup(name); !ok || x.DType != d {
				t.Errorf("%+v: %s: found %t, %+v", c.o, name, ok, x)
			}
		}
	}
	a, _ := converted(t, in, weights.ConvertOptions{InferenceOnly: true, EMA: true}).Lookup("model.diffusion_model.a.weight")
	b, _ := in.Lookup("model_ema.diffusion_modelaweight")
	x, _ := a.Values()
	if y, _ := b.Values(); !slices.Equal(x, y) {
		t.Error("the weights are not their average")
	}
	// A first stage that stands in the file twice is written once; one of other values is a conditioner.
	twin := func(v byte) *weights.File {
		var list []*weights.Tensor
		for i, name := range []string{"first_stage_model.x", "cond_stage_model.x"} {
			x, err := tensor.New(name, weights.I8, []int{1}, nil, 0, tensor.Memory([]byte{byte(i) * v}), tensor.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, x)
		}
		f, err := weights.NewMemory(list)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for v, n := range []int{1, 2} {
		if out := converted(t, twin(byte(v)), weights.ConvertOptions{InferenceOnly: true}); len(out.Tensors()) != n {
			t.Errorf("first stage and conditioner that differ by %d: %d tensors, want %d", v, len(out.Tensors()), n)
		}
	}
}

func TestConvertTypes(t *testing.T) {
	le := binary.LittleEndian
	values := []float64{0, 1, -2.5, 0.1, 65504, 1e-8, math.Inf(-1), 3.0000001}
	var f64, i64 []byte
	for i, v := range values {
		f64 = le.AppendUint64(f64, math.Float64bits(v))
		i64 = le.AppendUint64(i64, uint64(i))
	}
	mk := func(name string, d weights.DType, raw []byte) *weights.Tensor {
		x, err := tensor.New(name, d, []int{len(raw) / d.Size()}, nil, 0, tensor.Memory(raw), tensor.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	in, err := weights.NewMemory([]*weights.Tensor{mk("n", weights.I64, i64), mk("f", weights.F64, f64)})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []weights.DType{weights.F64, weights.F32, weights.F16, weights.BF16} {
		out := converted(t, in, weights.ConvertOptions{DType: d})
		n, _ := out.Lookup("n")
		if b, err := n.Bytes(); err != nil || n.DType != weights.I64 || !bytes.Equal(b, i64) {
			t.Errorf("%v: integers changed", d)
		}
		x, _ := out.Lookup("f")
		got, err := x.Values()
		if err != nil || x.DType != d {
			t.Fatalf("%v: %v, %v", d, x.DType, err)
		}
		for i, v := range values {
			want := float32(v)
			switch d {
			case weights.F16:
				h, _ := half.Round(want)
				want = half.Float32(h)
			case weights.BF16:
				h, _ := tensor.Float32ToBF16(want)
				want = math.Float32frombits(uint32(h) << 16)
			}
			if got[i] != want {
				t.Errorf("%v, %v: %v, want %v", d, v, got[i], want)
			}
		}
	}
	// A round through a wider type is the identity.
	half, err := weights.NewMemory([]*weights.Tensor{mk("h", weights.F16, []byte{1, 0, 0xff, 0x7b, 0, 0xfc})})
	if err != nil {
		t.Fatal(err)
	}
	back := converted(t, converted(t, half, weights.ConvertOptions{DType: weights.F32}), weights.ConvertOptions{DType: weights.F16})
	if b, err := back.Tensors()[0].Bytes(); err != nil || !bytes.Equal(b, []byte{1, 0, 0xff, 0x7b, 0, 0xfc}) {
		t.Errorf("% x, %v", b, err)
	}
	for _, c := range []struct {
		v  float64
		to weights.DType
	}{{70000, weights.F16}, {1e39, weights.F32}, {1e39, weights.BF16}, {3.4e38, weights.F16}, {3.4028235e38, weights.BF16}} {
		f, err := weights.NewMemory([]*weights.Tensor{mk("big", weights.F64, le.AppendUint64(nil, math.Float64bits(c.v)))})
		if err != nil {
			t.Fatal(err)
		}
		err = weights.Convert(f, io.Discard, weights.ConvertOptions{DType: c.to})
		if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), `"big"`) {
			t.Errorf("%g to %v: %v", c.v, c.to, err)
		}
	}
}

func TestConvertOptions(t *testing.T) {
	for _, o := range []weights.ConvertOptions{{DType: weights.I8}, {EMA: true, FirstStageOnly: true}, {NoFirstStage: true, FirstStageOnly: true}} {
		if err := weights.Convert(fileOf(t, params("a")), io.Discard, o); exitcode.Of(err) != exitcode.Usage {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// limited fails after n bytes.
type limited struct{ n int }

var errFull = errors.New("disk full")

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.n {
		n := l.n
		l.n = 0
		return n, errFull
	}
	l.n -= len(p)
	return len(p), nil
}

func TestConvertWriteErrors(t *testing.T) {
	in := fileOf(t, params("a", "b", "c"))
	var whole bytes.Buffer
	if err := weights.Convert(in, &whole, weights.ConvertOptions{DType: weights.F16}); err != nil {
		t.Fatal(err)
	}
	for n := range whole.Len() {
		if err := weights.Convert(in, &limited{n}, weights.ConvertOptions{DType: weights.F16}); !errors.Is(err, errFull) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
}

// TestConvertStreams converts a large sparse file in little memory.
func TestConvertStreams(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big.safetensors")
	if err := weightstest.WriteSparse(path, []weights.Param{{Name: "a", Shape: []int{64 << 20}}, {Name: "b", Shape: []int{3}}}); err != nil {
		t.Fatal(err)
	}
	in, err := weights.Open(path, weights.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err = weights.Convert(in, io.Discard, weights.ConvertOptions{})
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; err != nil || n > 8<<20 {
		t.Errorf("%d bytes allocated, %v", n, err)
	}
}
