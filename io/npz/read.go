package npz

import (
	"archive/zip"
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/half"
)

// File is an open .npz, or an .npy, whose one array is named "".
type File struct {
	name   string
	src    io.ReaderAt
	size   int64
	closer io.Closer
	zip    *zip.Reader // nil for .npy
}

// Open opens a file.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	file, err := Read(f, info.Size(), path)
	if err != nil {
		f.Close()
		return nil, err
	}
	file.closer = f
	return file, nil
}

// Read opens size bytes of src; name is for messages.
func Read(src io.ReaderAt, size int64, name string) (*File, error) {
	f := &File{name: name, src: src, size: size}
	head := make([]byte, min(size, int64(len(magic))))
	if _, err := src.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if string(head) == magic {
		return f, nil
	}
	var err error
	if f.zip, err = zip.NewReader(src, size); err != nil {
		return nil, exitcode.Errorf(exitcode.Data, "%s: not an array file: %w", name, err)
	}
	seen := map[string]bool{}
	for _, n := range f.Names() {
		if seen[n] {
			return nil, exitcode.Errorf(exitcode.Data, "%s: two arrays are named %q", name, n)
		}
		seen[n] = true
	}
	return f, nil
}

// Close closes the file that [Open] opened.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// Names lists the arrays in the file's order.
func (f *File) Names() []string {
	if f.zip == nil {
		return []string{""}
	}
	var names []string
	for _, e := range f.zip.File {
		if n, ok := strings.CutSuffix(e.Name, ".npy"); ok {
			names = append(names, n)
		}
	}
	return names
}

// Has reports whether there is an array of that name.
func (f *File) Has(name string) bool { return slices.Contains(f.Names(), name) }

// Array is one array: its shape and a stream of its elements, in the order of the file.
type Array struct {
	Type    Type
	Shape   []int
	Fortran bool // columns first; Read gives them so, the other methods turn them
	count   int
	where   string
	r       io.Reader
	closer  io.Closer
	left    int64
	done    error // after the last byte
}

// maxRatio is the most that the compression of a zip can shrink data to.
const maxRatio = 1032

// Array opens an array. A missing one is an error that lists those that are there.
func (f *File) Array(name string) (*Array, error) {
	a := &Array{where: fmt.Sprintf("%s: array %q", f.name, name)}
	var size int64
	if f.zip == nil {
		if name != "" {
			return nil, exitcode.Errorf(exitcode.Data, "%s: holds one array without name, not %q", f.name, name)
		}
		a.r, size = bufio.NewReaderSize(io.NewSectionReader(f.src, 0, f.size), 1<<16), f.size
	} else {
		i := slices.IndexFunc(f.zip.File, func(e *zip.File) bool { return e.Name == name+".npy" })
		if i < 0 {
			return nil, exitcode.Errorf(exitcode.Data, "%s: no array %q, only %q", f.name, name, f.Names())
		}
		e := f.zip.File[i]
		if e.UncompressedSize64/maxRatio > e.CompressedSize64 || e.UncompressedSize64 > math.MaxInt64 {
			return nil, exitcode.Errorf(exitcode.Data, "%s: %d bytes cannot hold %d", a.where, e.CompressedSize64, e.UncompressedSize64)
		}
		r, err := e.Open()
		if err != nil {
			return nil, exitcode.Errorf(exitcode.Data, "%s: %w", a.where, err)
		}
		a.r, a.closer, size = r, r, int64(e.UncompressedSize64)
	}
	h, err := readHeader(a.r, size)
	if err != nil {
		a.Close()
		return nil, exitcode.Errorf(exitcode.Data, "%s: %w", a.where, err)
	}
	a.Type, a.Shape, a.Fortran, a.count = h.dtype, h.shape, h.fortran, h.count
	a.left = int64(h.count) * int64(h.dtype.Size)
	return a, nil
}

// Len is the number of elements.
func (a *Array) Len() int { return a.count }

// Close ends reading early.
func (a *Array) Close() error {
	if a.closer == nil {
		return nil
	}
	return a.closer.Close()
}

// Read reads bytes of elements as they are in the file. io.EOF comes after the last one and says that the checksum is right.
func (a *Array) Read(p []byte) (int, error) {
	if a.left == 0 {
		if a.done == nil {
			a.done = a.finish()
		}
		return 0, a.done
	}
	n, err := a.r.Read(p[:min(int64(len(p)), a.left)])
	a.left -= int64(n)
	if err == io.EOF && a.left == 0 {
		err = nil // said again by finish
	}
	if err != nil {
		err = exitcode.Errorf(exitcode.Data, "%s: %w", a.where, cut(err))
	}
	return n, err
}

// finish makes the archive compare its checksum.
func (a *Array) finish() error {
	var one [1]byte
	n, err := a.r.Read(one[:])
	if n > 0 {
		return exitcode.Errorf(exitcode.Data, "%s: more bytes than its header says", a.where)
	}
	if err == nil {
		err = errors.New("the reader neither reads nor ends")
	}
	if err != io.EOF {
		return exitcode.Errorf(exitcode.Data, "%s: %w", a.where, err)
	}
	return io.EOF
}

// bytes reads everything that is left; memory grows with what is read.
func (a *Array) bytes() ([]byte, error) {
	var b []byte
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, int(min(max(1<<16, int64(len(b))), a.left+1)))
		}
		n, err := a.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, a.Close()
		}
		if err != nil {
			return nil, err
		}
	}
}

// Float64s reads the array as row-major float64. Whole numbers beyond 2^53 are rounded.
func (a *Array) Float64s() ([]float64, error) { return values(a, a.Type.float64) }

// Float32s reads the array as row-major float32. It is an error unless every element type's value is one: float64 and whole
// numbers of more than 16 bits are not.
func (a *Array) Float32s() ([]float32, error) {
	if t := a.Type; t.Kind == 'f' && t.Size > 4 || t.Kind != 'f' && t.Size > 2 {
		return nil, exitcode.Errorf(exitcode.Data, "%s: elements of type %v do not fit float32", a.where, t)
	}
	get := a.Type.float64
	return values(a, func(b []byte) float32 { return float32(get(b)) })
}

// Uint8s reads an array of uint8, row major.
func (a *Array) Uint8s() ([]uint8, error) {
	if a.Type.Kind != 'u' || a.Type.Size != 1 {
		return nil, exitcode.Errorf(exitcode.Data, "%s: elements are %v, not uint8", a.where, a.Type)
	}
	return values(a, func(b []byte) uint8 { return b[0] })
}

// Int64s reads an array of whole numbers, row major.
func (a *Array) Int64s() ([]int64, error) {
	if a.Type.Kind == 'f' || a.Type.Kind == 'u' && a.Type.Size == 8 {
		return nil, exitcode.Errorf(exitcode.Data, "%s: elements are %v, not whole numbers of 64 bits", a.where, a.Type)
	}
	return values(a, a.Type.int64)
}

func values[T any](a *Array, get func([]byte) T) ([]T, error) {
	b, err := a.bytes()
	if err != nil {
		return nil, err
	}
	size := a.Type.Size
	out := make([]T, len(b)/size)
	if !a.Fortran || len(a.Shape) < 2 {
		for i := range out {
			out[i] = get(b[i*size:])
		}
		return out, nil
	}
	// Element at, counted with the first index fastest.
	index := make([]int, len(a.Shape))
	for at := range out {
		i := 0
		for k, n := range a.Shape {
			i = i*n + index[k]
		}
		out[i] = get(b[at*size:])
		for k := range index {
			if index[k]++; index[k] < a.Shape[k] {
				break
			}
			index[k] = 0
		}
	}
	return out, nil
}

func (t Type) uint(b []byte) uint64 {
	switch t.Size {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(t.Order.Uint16(b))
	case 4:
		return uint64(t.Order.Uint32(b))
	default:
		return t.Order.Uint64(b)
	}
}

func (t Type) int64(b []byte) int64 {
	v := t.uint(b)
	if t.Kind == 'i' {
		shift := 64 - 8*t.Size
		return int64(v<<shift) >> shift
	}
	return int64(v)
}

func (t Type) float64(b []byte) float64 {
	switch t.Kind {
	case 'f':
		switch t.Size {
		case 2:
			return float64(half.Float32(uint16(t.uint(b))))
		case 4:
			return float64(math.Float32frombits(uint32(t.uint(b))))
		}
		return math.Float64frombits(t.uint(b))
	case 'i':
		return float64(t.int64(b))
	default:
		return float64(t.uint(b))
	}
}
