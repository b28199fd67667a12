package tensor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// Limits bound what a file may make its reader allocate. A zero field takes its default.
type Limits struct {
	Count      int   // tensors in a file; default 200,000
	Rank       int   // dimensions of one tensor; default 32
	Bytes      int64 // one tensor, made contiguous, and the part of the storage it spans; default 8 GiB
	TotalBytes int64 // all tensors of a file, made contiguous; default 256 GiB
}

// OrDefault replaces zero fields.
func (l Limits) OrDefault() Limits {
	set := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	if l.Count == 0 {
		l.Count = 200_000
	}
	if l.Rank == 0 {
		l.Rank = 32
	}
	set(&l.Bytes, 8<<30)
	set(&l.TotalBytes, 256<<30)
	return l
}

// Storage is a run of bytes that tensors are read from; several tensors may share one. ReadAt must be safe for
// concurrent use. A storage that also has the method Slice(off, n int64) ([]byte, bool) allows views.
type Storage interface {
	io.ReaderAt
	Size() int64
}

type slicer interface {
	Slice(off, n int64) ([]byte, bool)
}

// Tensor is a checked descriptor of stored values. Name, DType and Shape are read-only. Methods are safe for concurrent use.
type Tensor struct {
	Name  string
	DType DType
	Shape []int // outermost dimension first; empty for a scalar

	numel   int
	stride  []int64 // in elements; nil: contiguous
	offset  int64   // of the first element, in elements
	storage Storage
	fill    func(dst []float32) error // generated values, in place of a storage
}

// New makes a tensor of a storage. stride and offset count elements; a nil stride means row-major and contiguous. Every
// element must lie inside the storage, strides are not negative, and lim is kept.
func New(name string, d DType, shape []int, stride []int64, offset int64, st Storage, lim Limits) (*Tensor, error) {
	t := &Tensor{Name: name, DType: d, Shape: slices.Clone(shape), offset: offset, storage: st}
	if err := t.check(stride, st.Size(), lim.OrDefault()); err != nil {
		return nil, fmt.Errorf("tensor %.200q: %w", name, err)
	}
	return t, nil
}

func (t *Tensor) check(stride []int64, size int64, lim Limits) error {
	es := int64(t.DType.Size())
	if es == 0 {
		return fmt.Errorf("unknown element type")
	}
	if len(t.Shape) > lim.Rank {
		return fmt.Errorf("%d dimensions, limit %d", len(t.Shape), lim.Rank)
	}
	n, err := NumElements(t.Shape)
	if err != nil {
		return err
	}
	if int64(n) > lim.Bytes/es {
		return fmt.Errorf("shape %v of %v takes more than the limit of %d bytes", t.Shape, t.DType, lim.Bytes)
	}
	t.numel = n
	if t.offset < 0 {
		return fmt.Errorf("negative storage offset %d", t.offset)
	}
	last := int64(max(n, 1) - 1) // index of the last element, relative to the first
	if stride != nil {
		if len(stride) != len(t.Shape) {
			return fmt.Errorf("%d strides for %d dimensions", len(stride), len(t.Shape))
		}
		last = 0
		dense, contiguous := int64(1), true
		for i := len(stride) - 1; i >= 0; i-- {
			if stride[i] < 0 {
				return fmt.Errorf("negative stride %d", stride[i])
			}
			steps := int64(t.Shape[i]) - 1
			if steps > 0 {
				contiguous = contiguous && stride[i] == dense
				if stride[i] > (math.MaxInt64-last)/steps {
					return fmt.Errorf("strides %v overflow", stride)
				}
				last += steps * stride[i]
				dense *= int64(t.Shape[i])
			}
		}
		if !contiguous && n > 0 {
			t.stride = slices.Clone(stride)
		}
	}
	if n == 0 {
		t.offset = 0
		return nil
	}
	if have := size / es; t.offset >= have || last >= have-t.offset {
		return fmt.Errorf("shape %v, strides %v, offset %d reach past the %d elements of the storage", t.Shape, stride, t.offset, have)
	}
	if last >= lim.Bytes/es {
		return fmt.Errorf("shape %v, strides %v span more than the limit of %d bytes", t.Shape, stride, lim.Bytes)
	}
	return nil
}

// NumElements is the product of a shape; negative sizes and overflow are errors.
func NumElements(shape []int) (int, error) {
	n, empty := 1, false
	for _, s := range shape {
		switch {
		case s < 0:
			return 0, fmt.Errorf("negative size in shape %v", shape)
		case s == 0:
			empty = true
		case n > math.MaxInt/s:
			return 0, fmt.Errorf("shape %v overflows", shape)
		default:
			n *= s
		}
	}
	if empty {
		return 0, nil
	}
	return n, nil
}

// FromFloat32 makes a tensor of values in memory, which it keeps.
func FromFloat32(name string, shape []int, values []float32) (*Tensor, error) {
	t, err := Generated(name, shape, func(dst []float32) error { copy(dst, values); return nil })
	if err == nil && t.numel != len(values) {
		err = fmt.Errorf("tensor %q: %d values for shape %v", name, len(values), shape)
	}
	if err != nil {
		return nil, err
	}
	if littleEndian {
		t.storage, t.fill = memory(floatBytes(values)), nil
	}
	return t, nil
}

// Generated makes an F32 tensor whose values fill computes on each read; dst has one entry per element. fill must be
// deterministic and safe for concurrent use.
func Generated(name string, shape []int, fill func(dst []float32) error) (*Tensor, error) {
	n, err := NumElements(shape)
	if err != nil {
		return nil, fmt.Errorf("tensor %q: %w", name, err)
	}
	return &Tensor{Name: name, DType: F32, Shape: slices.Clone(shape), numel: n, fill: fill}, nil
}

// Memory makes a storage of bytes in memory.
func Memory(b []byte) Storage { return memory(b) }

type memory []byte

func (m memory) Size() int64 { return int64(len(m)) }

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(m)) {
		return 0, io.EOF
	}
	n := copy(p, m[off:])
	if n < len(p) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

func (m memory) Slice(off, n int64) ([]byte, bool) {
	if off < 0 || n < 0 || off > int64(len(m)) || n > int64(len(m))-off {
		return nil, false
	}
	return m[off : off+n : off+n], true
}

// Renamed returns the same tensor under another name.
func (t *Tensor) Renamed(name string) *Tensor {
	c := *t
	c.Name = name
	return &c
}

// NumElements is the number of elements.
func (t *Tensor) NumElements() int { return t.numel }

// NumBytes is the size of the tensor made contiguous.
func (t *Tensor) NumBytes() int64 { return int64(t.numel) * int64(t.DType.Size()) }

// Contiguous reports whether the stored elements are row-major without gaps.
func (t *Tensor) Contiguous() bool { return t.stride == nil }

// Layout is how the tensor lies in its storage: strides and offset in elements. A contiguous tensor has the strides its
// shape implies.
func (t *Tensor) Layout() (stride []int64, offset int64) {
	if t.stride != nil {
		return slices.Clone(t.stride), t.offset
	}
	stride = make([]int64, len(t.Shape))
	n := int64(1)
	for i := len(stride) - 1; i >= 0; i-- {
		stride[i] = n
		n *= int64(max(t.Shape[i], 1))
	}
	return stride, t.offset
}

// View returns the values without copying when they are contiguous, aligned float32 in a mapped file or in memory and
// the machine is little-endian. The view is read-only and ends when the file is closed.
func (t *Tensor) View() ([]float32, bool) {
	s, ok := t.storage.(slicer)
	if !ok || t.DType != F32 || t.stride != nil {
		return nil, false
	}
	b, ok := s.Slice(4*t.offset, t.NumBytes())
	if !ok {
		return nil, false
	}
	return asFloats(b)
}

// Release says that the values of a view will not be needed soon, which frees the memory of a mapped file. The view stays
// valid and is read again from the file when it is used.
func (t *Tensor) Release() {
	if s, ok := t.storage.(interface{ Release(off, n int64) }); ok && t.stride == nil {
		size := t.NumBytes()
		s.Release(t.offset*int64(t.DType.Size()), size)
	}
}

// Values returns the view where there is one, a converted copy otherwise.
func (t *Tensor) Values() ([]float32, error) {
	if v, ok := t.View(); ok {
		return v, nil
	}
	dst := make([]float32, t.numel)
	return dst, t.Float32(dst)
}

// chunk is the number of bytes converted at a time; a multiple of every element size.
const chunk = 256 << 10

// Float32 converts the values to float32, row-major, into dst, which holds one entry per element. Half types widen
// exactly, float64 and integers round to nearest, booleans become 0 and 1.
func (t *Tensor) Float32(dst []float32) error {
	if len(dst) != t.numel {
		return fmt.Errorf("tensor %q: destination of %d for %d elements", t.Name, len(dst), t.numel)
	}
	if t.fill != nil {
		return t.wrap(t.fill(dst))
	}
	if t.stride == nil && t.DType == F32 && littleEndian {
		return t.readRaw(floatBytes(dst), 0)
	}
	if t.stride != nil {
		raw, err := t.gather()
		if err != nil {
			return err
		}
		toFloat32(dst, raw, t.DType)
		return nil
	}
	es := t.DType.Size()
	buf := make([]byte, min(chunk, len(dst)*es))
	for done := 0; done < len(dst); {
		n := min(len(buf)/es, len(dst)-done)
		if err := t.readRaw(buf[:n*es], int64(done)*int64(es)); err != nil {
			return err
		}
		toFloat32(dst[done:done+n], buf, t.DType)
		done += n
	}
	return nil
}

// Bytes returns the raw values, little-endian, row-major, as a fresh slice.
func (t *Tensor) Bytes() ([]byte, error) {
	if t.stride != nil {
		return t.gather()
	}
	b := make([]byte, t.NumBytes())
	if t.fill == nil {
		return b, t.readRaw(b, 0)
	}
	_, err := io.ReadFull(t.Reader(), b)
	return b, err
}

// Reader streams the raw values, little-endian, row-major. Only strided and generated tensors are held in memory whole.
func (t *Tensor) Reader() io.Reader {
	switch {
	case t.fill != nil:
		f := make([]float32, t.numel)
		if err := t.Float32(f); err != nil {
			return failed{err}
		}
		if littleEndian {
			return bytes.NewReader(floatBytes(f))
		}
		b := make([]byte, 0, 4*len(f))
		for _, v := range f {
			u := math.Float32bits(v)
			b = append(b, byte(u), byte(u>>8), byte(u>>16), byte(u>>24))
		}
		return bytes.NewReader(b)
	case t.stride != nil:
		b, err := t.gather()
		if err != nil {
			return failed{err}
		}
		return bytes.NewReader(b)
	}
	return &reader{t: t}
}

type failed struct{ err error }

func (f failed) Read([]byte) (int, error) { return 0, f.err }

type reader struct {
	t    *Tensor
	done int64
}

func (r *reader) Read(p []byte) (int, error) {
	left := r.t.NumBytes() - r.done
	if left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), left)]
	if err := r.t.readRaw(p, r.done); err != nil {
		return 0, err
	}
	r.done += int64(len(p))
	return len(p), nil
}

// readRaw reads len(p) bytes from the given byte of a contiguous tensor.
func (t *Tensor) readRaw(p []byte, from int64) error {
	if len(p) == 0 {
		return nil
	}
	n, err := t.storage.ReadAt(p, t.offset*int64(t.DType.Size())+from)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return t.wrap(err)
}

func (t *Tensor) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("tensor %q: %w", t.Name, err)
}

// gather copies a strided tensor into row-major order. It reads the spanned part of the storage once.
func (t *Tensor) gather() ([]byte, error) {
	es := int64(t.DType.Size())
	span := int64(1)
	for i, s := range t.Shape {
		span += int64(s-1) * t.stride[i]
	}
	src := make([]byte, span*es)
	if err := t.readRaw(src, 0); err != nil {
		return nil, err
	}
	dst := make([]byte, t.NumBytes())
	inner := len(t.Shape) - 1
	n, step := int64(t.Shape[inner]), t.stride[inner]*es
	index := make([]int, inner)
	for out, at := int64(0), int64(0); ; {
		if step == es {
			copy(dst[out:out+n*es], src[at:])
		} else {
			for i := range n {
				copy(dst[out+i*es:out+(i+1)*es], src[at+i*step:])
			}
		}
		out += n * es
		d := inner - 1
		for ; d >= 0; d-- {
			index[d]++
			at += t.stride[d] * es
			if index[d] < t.Shape[d] {
				break
			}
			at -= int64(index[d]) * t.stride[d] * es
			index[d] = 0
		}
		if d < 0 {
			return dst, nil
		}
	}
}
