package tensor

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestDTypes(t *testing.T) {
	for d := F64; d <= Bool; d++ {
		if got, ok := ParseDType(d.String()); !ok || got != d || d.Size() == 0 {
			t.Errorf("%v does not survive its name", d)
		}
	}
	for _, name := range []string{"", "unknown", "F8_E4M3", "f32"} {
		if d, ok := ParseDType(name); ok {
			t.Errorf("ParseDType(%q) = %v", name, d)
		}
	}
	if DType(0).Size() != 0 || DType(99).Size() != 0 || DType(99).String() != "unknown" {
		t.Error("an unknown type has a size or a name")
	}
}

func TestBF16(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		bits := r.Uint32()
		f := math.Float32frombits(bits)
		h, ok := Float32ToBF16(f)
		got := math.Float32frombits(uint32(h) << 16)
		if f != f {
			if got == got {
				t.Fatalf("%#x: NaN lost", bits)
			}
			continue
		}
		if math.IsInf(float64(got), 0) {
			if ok != math.IsInf(float64(f), 0) {
				t.Fatalf("%v became infinite unreported", f)
			}
			continue
		}
		low := math.Float32frombits(uint32(bits) &^ 0xffff)
		high := math.Float32frombits(uint32(bits)&^0xffff + 0x10000)
		a, b := math.Abs(float64(f)-float64(low)), math.Abs(float64(high)-float64(f))
		if want := low; a > b || a == b && bits>>16&1 == 1 {
			want = high
			if got != want {
				t.Fatalf("%v -> %v, want %v", f, got, want)
			}
		} else if got != want {
			t.Fatalf("%v -> %v, want %v", f, got, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	st := Memory(make([]byte, 24))
	cases := []struct {
		name   string
		d      DType
		shape  []int
		stride []int64
		offset int64
		lim    Limits
	}{
		{"no type", 0, []int{1}, nil, 0, Limits{}},
		{"too long", F32, []int{7}, nil, 0, Limits{}},
		{"offset", F32, []int{6}, nil, 1, Limits{}},
		{"offset beyond", F32, []int{1}, nil, 6, Limits{}},
		{"negative offset", F32, []int{1}, nil, -1, Limits{}},
		{"huge offset", F32, []int{1}, nil, math.MaxInt64, Limits{}},
		{"negative size", F32, []int{-1}, nil, 0, Limits{}},
		{"negative size beside zero", F32, []int{0, -1}, nil, 0, Limits{}},
		{"negative stride", F32, []int{2}, []int64{-1}, 5, Limits{}},
		{"stride too far", F32, []int{2, 3}, []int64{4, 1}, 0, Limits{}},
		{"stride overflow", F32, []int{3, 3}, []int64{math.MaxInt64 / 2, math.MaxInt64 / 2}, 0, Limits{}},
		{"stride count", F32, []int{2, 3}, []int64{1}, 0, Limits{}},
		{"count overflow", F32, []int{1 << 32, 1 << 32}, []int64{0, 0}, 0, Limits{}},
		{"expansion", F32, []int{1 << 40}, []int64{0}, 0, Limits{}},
		{"expansion by limit", F32, []int{100}, []int64{0}, 0, Limits{Bytes: 399}},
		{"rank", F32, make([]int, 33), nil, 0, Limits{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if x, err := New("x", c.d, c.shape, c.stride, c.offset, st, c.lim); err == nil {
				t.Errorf("accepted: %+v", x)
			}
		})
	}
}

// TestStrides compares gathering with indexing by definition over random layouts and all element sizes.
func TestStrides(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	raw := make([]byte, 8<<10)
	for i := range raw {
		raw[i] = byte(r.Uint32())
	}
	for range 500 {
		d := DType(1 + r.IntN(int(Bool)))
		shape, stride := make([]int, r.IntN(5)), []int64{}
		for i := range shape {
			shape[i] = r.IntN(5)
			stride = append(stride, int64(r.IntN(20)))
		}
		x, err := New("x", d, shape, stride, int64(r.IntN(50)), Memory(raw), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := x.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		var want []byte
		es := int64(d.Size())
		var walk func(dim int, at int64)
		walk = func(dim int, at int64) {
			if dim == len(shape) {
				want = append(want, raw[at*es:(at+1)*es]...)
				return
			}
			for i := range shape[dim] {
				walk(dim+1, at+int64(i)*stride[dim])
			}
		}
		walk(0, x.offset)
		if !slices.Equal(got, want) {
			t.Fatalf("%v %v %v: differs", d, shape, stride)
		}
		streamed, err := io.ReadAll(x.Reader())
		if err != nil || !slices.Equal(streamed, want) {
			t.Fatalf("%v %v %v: reader differs (%v)", d, shape, stride, err)
		}
		f := make([]float32, x.NumElements())
		if err := x.Float32(f); err != nil {
			t.Fatal(err)
		}
		g := make([]float32, len(f))
		toFloat32(g, want, d)
		if !slices.EqualFunc(f, g, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }) {
			t.Fatalf("%v %v %v: float32 differs", d, shape, stride)
		}
	}
}

func TestFloat32(t *testing.T) {
	le := binary.LittleEndian
	cases := []struct {
		d    DType
		raw  []byte
		want []float32
	}{
		{F64, le.AppendUint64(nil, math.Float64bits(0.1)), []float32{0.1}},
		{F32, le.AppendUint32(nil, math.Float32bits(-2.5)), []float32{-2.5}},
		{F16, []byte{0, 0x3c, 1, 0, 0xff, 0x7b}, []float32{1, 0x1p-24, 65504}},
		{BF16, []byte{0x80, 0x3f, 0x20, 0xc1}, []float32{1, -10}},
		{I64, le.AppendUint64(nil, uint64(math.MaxUint64)), []float32{-1}},
		{I32, le.AppendUint32(nil, 16777217), []float32{16777216}},
		{I16, []byte{0xff, 0xff}, []float32{-1}},
		{I8, []byte{0x80, 1}, []float32{-128, 1}},
		{U8, []byte{0x80, 255}, []float32{128, 255}},
		{Bool, []byte{0, 1, 7}, []float32{0, 1, 1}},
	}
	for _, c := range cases {
		x, err := New("x", c.d, []int{len(c.want)}, nil, 0, Memory(c.raw), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, len(c.want))
		if err := x.Float32(got); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, %v; want %v", c.d, got, err, c.want)
		}
		if err := x.Float32(make([]float32, len(c.want)+1)); err == nil {
			t.Errorf("%v: wrong destination accepted", c.d)
		}
	}
}

// TestChunks reads tensors of several chunks.
func TestChunks(t *testing.T) {
	for _, d := range []DType{F64, F16, BF16, U8} {
		n := chunk + 3
		raw := make([]byte, n*d.Size())
		for i := range raw {
			raw[i] = byte(i * 7 >> 3)
		}
		x, err := New("x", d, []int{n}, nil, 0, Memory(raw), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		got, want := make([]float32, n), make([]float32, n)
		if err := x.Float32(got); err != nil {
			t.Fatal(err)
		}
		toFloat32(want, raw, d)
		if !slices.EqualFunc(got, want, func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }) {
			t.Errorf("%v differs", d)
		}
	}
}

type short struct{ size int64 }

func (s short) Size() int64                           { return s.size }
func (s short) ReadAt(p []byte, _ int64) (int, error) { return len(p) / 2, io.EOF }

func TestShortRead(t *testing.T) {
	for _, d := range []DType{F32, F16} {
		for _, stride := range [][]int64{nil, {2}} {
			x, err := New("x", d, []int{4}, stride, 0, short{64}, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if err := x.Float32(make([]float32, 4)); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v %v: %v", d, stride, err)
			}
			if _, err := io.ReadAll(x.Reader()); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v %v: reader: %v", d, stride, err)
			}
		}
	}
}

func TestMemoryTensors(t *testing.T) {
	values := []float32{1, 2, 3, 4, 5, 6}
	x, err := FromFloat32("x", []int{2, 3}, values)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := x.View(); ok && &v[0] != &values[0] {
		t.Error("the view is a copy")
	}
	if _, err := FromFloat32("x", []int{2, 2}, values); err == nil {
		t.Error("wrong count accepted")
	}
	g, err := Generated("g", []int{2, 3}, func(dst []float32) error { copy(dst, values); return nil })
	if err != nil {
		t.Fatal(err)
	}
	a, err := x.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b, err := g.Bytes()
	if err != nil || !slices.Equal(a, b) {
		t.Error("generated bytes differ")
	}
	if v, err := g.Values(); err != nil || !slices.Equal(v, values) {
		t.Error("generated values differ")
	}
	if r := x.Renamed("y"); r.Name != "y" || x.Name != "x" {
		t.Error("renaming")
	}
}

func BenchmarkHalf(b *testing.B) {
	raw, dst := make([]byte, 2<<20), make([]float32, 1<<20)
	for i := range raw {
		raw[i] = byte(i * 31)
	}
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		toFloat32(dst, raw, F16)
	}
}
