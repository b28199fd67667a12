package weights

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights/mapped"
	"github.com/ldm-batch/ldm-batch/internal/weights/pickle"
	"github.com/ldm-batch/ldm-batch/internal/weights/safetensors"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
	"github.com/ldm-batch/ldm-batch/internal/weights/torch"
)

// Tensor is one named tensor of a file; see [tensor.Tensor].
type Tensor = tensor.Tensor

// DType is the element type of a tensor; see [tensor.DType].
type DType = tensor.DType

// The element types.
const (
	F64  = tensor.F64
	F32  = tensor.F32
	F16  = tensor.F16
	BF16 = tensor.BF16
	I64  = tensor.I64
	I32  = tensor.I32
	I16  = tensor.I16
	I8   = tensor.I8
	U8   = tensor.U8
	Bool = tensor.Bool
)

// Limits bound what opening a file may cost. Zero fields take the defaults of their packages, which fit every released
// model with room to spare.
type Limits struct {
	Header int64 // bytes of a safetensors header
	Zip    torch.ZipLimits
	Pickle pickle.Limits
	Tensor tensor.Limits
}

// Formats of a file.
const (
	Safetensors = "safetensors"
	TorchZip    = "torch-zip"
	TorchLegacy = "torch-legacy"
	Pickle      = "pickle"
	Memory      = "memory"
)

// File is an open model file. Its methods are safe for concurrent use, Close excepted.
type File struct {
	path, format string
	tensors      []*Tensor
	byName       map[string]*Tensor
	meta         map[string]string
	skipped      []string
	close        func() error
}

// Open opens a model file of any known format, found by its content. Only headers are read.
func Open(path string, lim Limits) (*File, error) { return open("model file", path, lim, read) }

// OpenArrays opens a pickled dictionary of NumPy arrays, as numbers other than those of models are kept. Names are joined by dots.
func OpenArrays(path string, lim Limits) (*File, error) {
	return open("file of arrays", path, lim, func(src tensor.Storage, lim Limits) (*File, error) {
		c, err := torch.ReadPickle(src, torch.Limits{Pickle: lim.Pickle, Tensor: lim.Tensor})
		return fromTorch(c, Pickle, err)
	})
}

func open(what, path string, lim Limits, read func(tensor.Storage, Limits) (*File, error)) (*File, error) {
	m, err := mapped.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", what, classed(err))
	}
	f, err := read(m, lim)
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("%s %s: %w", what, path, classed(err))
	}
	f.path, f.close = path, m.Close
	return f, nil
}

// classed makes an error about content a data error; one of the operating system keeps its own class.
func classed(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return err
	}
	return exitcode.With(exitcode.Data, err)
}

// read tells the formats apart and reads the headers.
func read(src tensor.Storage, lim Limits) (*File, error) {
	head := make([]byte, min(64, src.Size()))
	if n, err := src.ReadAt(head, 0); n < len(head) {
		return nil, err
	}
	tl := torch.Limits{Pickle: lim.Pickle, Zip: lim.Zip, Tensor: lim.Tensor}
	switch {
	case len(head) > 8 && head[8] == '{': // the compression method in a zip, which has no such value
		tensors, meta, err := safetensors.Read(src, safetensors.Limits{Header: lim.Header, Tensor: lim.Tensor})
		if err != nil {
			return nil, err
		}
		return newFile(tensors, meta, Safetensors)
	case torch.IsZip(head):
		c, err := torch.ReadZip(src, tl)
		return fromTorch(c, TorchZip, err)
	case torch.IsLegacy(head):
		c, err := torch.ReadLegacy(src, tl)
		return fromTorch(c, TorchLegacy, err)
	case len(head) == 0:
		return nil, errors.New("the file is empty")
	case bytes.HasPrefix(head, []byte("version https://git-lfs")):
		return nil, errors.New("a Git LFS pointer, not the model itself")
	case bytes.HasPrefix(bytes.TrimSpace(head), []byte("<")):
		return nil, errors.New("a web page, not a model")
	case head[0] == 0x80:
		return nil, errors.New("a pickle, but not a PyTorch checkpoint")
	}
	return nil, errors.New("neither safetensors nor a PyTorch checkpoint")
}

func fromTorch(c *torch.Checkpoint, format string, err error) (*File, error) {
	if err != nil {
		return nil, err
	}
	f, err := newFile(c.Tensors, c.Metadata, format)
	if err == nil {
		f.skipped = c.Skipped
	}
	return f, err
}

func newFile(tensors []*Tensor, meta map[string]string, format string) (*File, error) {
	f := &File{format: format, tensors: tensors, meta: meta, byName: make(map[string]*Tensor, len(tensors))}
	for _, t := range tensors {
		if f.byName[t.Name] != nil {
			return nil, fmt.Errorf("tensor %.200q appears twice", t.Name)
		}
		f.byName[t.Name] = t
	}
	return f, nil
}

// NewMemory makes a file of tensors in memory or generated ones. Names must differ.
func NewMemory(tensors []*Tensor) (*File, error) { return newFile(tensors, nil, Memory) }

// Path is the path the file was opened by; empty for a file in memory.
func (f *File) Path() string { return f.path }

// Format is one of [Safetensors], [TorchZip], [TorchLegacy] and [Memory].
func (f *File) Format() string { return f.format }

// Tensors lists the tensors in file order. The slice is not to be changed.
func (f *File) Tensors() []*Tensor { return f.tensors }

// Lookup finds a tensor by its full name.
func (f *File) Lookup(name string) (*Tensor, bool) {
	t, ok := f.byName[name]
	return t, ok
}

// Entry finds a tensor of a number of elements by its full name. Errors name the file and are of class exitcode.Data.
func (f *File) Entry(name string, elems int) (*Tensor, error) {
	t, ok := f.byName[name]
	if !ok {
		return nil, f.named(exitcode.Errorf(exitcode.Data, "no entry %s", name))
	}
	if t.NumElements() != elems {
		return nil, f.named(exitcode.Errorf(exitcode.Data, "%s has shape %v, want %d values", name, t.Shape, elems))
	}
	return t, nil
}

// Read converts a tensor to float32, row-major, into dst, which must have its number of elements; see [File.Entry].
func (f *File) Read(name string, dst []float32) error {
	t, err := f.Entry(name, len(dst))
	if err != nil {
		return err
	}
	if err := t.Float32(dst); err != nil {
		return f.named(err)
	}
	return nil
}

// named says which file an error is about.
func (f *File) named(err error) error {
	if f.path == "" {
		return err
	}
	return fmt.Errorf("model file %s: %w", f.path, err)
}

// Metadata is what the file says about itself: the metadata of safetensors, or the numbers and short strings beside a
// checkpoint's state dict ("epoch", "global_step", "pytorch-lightning_version"). The map is not to be changed.
func (f *File) Metadata() map[string]string { return f.meta }

// Skipped lists up to 10 state dict entries that are opaque objects and no tensors.
func (f *File) Skipped() []string { return f.skipped }

// Close releases the file; tensors and views are invalid afterwards.
func (f *File) Close() error {
	if f.close == nil {
		return nil
	}
	err := f.close()
	f.close = nil
	return err
}

// SHA256 streams a file and returns its digest in hexadecimal and its size in bytes.
func SHA256(path string) (digest string, size int64, err error) {
	r, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer r.Close()
	h := sha256.New()
	size, err = io.CopyBuffer(h, struct{ io.Reader }{r}, make([]byte, 1<<20))
	if err != nil {
		return "", 0, fmt.Errorf("digest of %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}
