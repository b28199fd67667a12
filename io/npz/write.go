package npz

import (
	"archive/zip"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Writer writes an .npz. It keeps its first error.
type Writer struct {
	z      *zip.Writer
	method uint16
	name   string // of the array that is being written
	w      io.Writer
	left   int64
	err    error
}

// NewWriter starts a file; compressed says whether arrays are deflated, as numpy.savez_compressed does.
func NewWriter(w io.Writer, compressed bool) *Writer {
	z := &Writer{z: zip.NewWriter(w), method: zip.Store}
	if compressed {
		z.method = zip.Deflate
	}
	return z
}

// Header is what stands before the elements of an .npy file.
func Header(t Type, shape []int) []byte {
	var dims []string
	for _, n := range shape {
		dims = append(dims, strconv.Itoa(n))
	}
	s := strings.Join(dims, ", ")
	if len(dims) == 1 {
		s += ","
	}
	text := fmt.Sprintf("{'descr': '%v', 'fortran_order': False, 'shape': (%s), }", t, s)
	pad := (64 - (10+len(text)+1)%64) % 64
	text += strings.Repeat(" ", pad) + "\n"
	b := append([]byte(magic), 1, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))
	return append(b, text...)
}

// Create begins an array, whose elements the caller writes, row major, before the next call.
func (w *Writer) Create(name string, t Type, shape ...int) (io.Writer, error) {
	if w.finish(); w.err != nil {
		return nil, w.err
	}
	n := int64(t.Size)
	for _, d := range shape {
		if d < 0 || d > 0 && n > math.MaxInt64/int64(d) {
			return nil, fmt.Errorf("array %q: shape %v", name, shape)
		}
		n *= int64(d)
	}
	var e io.Writer
	if e, w.err = w.z.CreateHeader(&zip.FileHeader{Name: name + ".npy", Method: w.method}); w.err == nil {
		_, w.err = e.Write(Header(t, shape))
	}
	if w.err != nil {
		w.err = fmt.Errorf("array %q: %w", name, w.err)
		return nil, w.err
	}
	w.name, w.w, w.left = name, e, n
	return elements{w}, nil
}

type elements struct{ w *Writer }

func (e elements) Write(p []byte) (int, error) {
	w := e.w
	if w.err != nil {
		return 0, w.err
	}
	if int64(len(p)) > w.left {
		w.err = fmt.Errorf("array %q: %d bytes more than its shape has", w.name, int64(len(p))-w.left)
		return 0, w.err
	}
	n, err := w.w.Write(p)
	w.left -= int64(n)
	if err != nil {
		w.err = fmt.Errorf("array %q: %w", w.name, err)
	}
	return n, w.err
}

func (w *Writer) finish() {
	if w.err == nil && w.left > 0 {
		w.err = fmt.Errorf("array %q: %d bytes are missing", w.name, w.left)
	}
}

// Float64s writes an array of float64, row major.
func (w *Writer) Float64s(name string, v []float64, shape ...int) error {
	return write(w, name, Float64, v, shape, func(b []byte, x float64) []byte {
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
	})
}

// Float32s writes an array of float32, row major.
func (w *Writer) Float32s(name string, v []float32, shape ...int) error {
	return write(w, name, Float32, v, shape, func(b []byte, x float32) []byte {
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	})
}

// Int64s writes an array of int64, row major.
func (w *Writer) Int64s(name string, v []int64, shape ...int) error {
	return write(w, name, Int64, v, shape, func(b []byte, x int64) []byte {
		return binary.LittleEndian.AppendUint64(b, uint64(x))
	})
}

func write[T any](w *Writer, name string, t Type, v []T, shape []int, put func([]byte, T) []byte) error {
	e, err := w.Create(name, t, shape...)
	if err != nil {
		return err
	}
	const step = 1 << 13
	buf := make([]byte, 0, step*t.Size)
	for len(v) > 0 {
		n := min(step, len(v))
		b := buf
		for _, x := range v[:n] {
			b = put(b, x)
		}
		if _, err := e.Write(b); err != nil {
			return err
		}
		v = v[n:]
	}
	w.finish()
	return w.err
}

// Close ends the file. Arrays that are not complete are an error.
func (w *Writer) Close() error {
	if w.finish(); w.err != nil {
		return w.err
	}
	w.err = w.z.Close()
	return w.err
}
