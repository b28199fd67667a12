package torch

import (
	"io"

	"github.com/ldm-batch/ldm-batch/internal/weights/pickle"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// Source is the file. One that also has the method Slice(off, n int64) ([]byte, bool) allows views.
type Source = tensor.Storage

// Limits bound what a file may make its reader do. Zero fields take their defaults.
type Limits struct {
	Pickle pickle.Limits
	Zip    ZipLimits
	Tensor tensor.Limits
}

// readFull fills p from offset off; a short file is io.ErrUnexpectedEOF.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	if off < 0 {
		return io.ErrUnexpectedEOF
	}
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// slice views bytes of the file where the source can.
func slice(src Source, off, n int64) ([]byte, bool) {
	s, ok := src.(interface {
		Slice(off, n int64) ([]byte, bool)
	})
	if !ok {
		return nil, false
	}
	return s.Slice(off, n)
}

// section is a run of bytes of the file: a storage of the legacy container. Its place may become known after its size.
type section struct {
	src       Source
	off, size int64
	placed    bool
}

func (s *section) Size() int64 { return s.size }

func (s *section) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(s.src, s.off, s.size).ReadAt(p, off)
}

func (s *section) Slice(off, n int64) ([]byte, bool) {
	if off < 0 || n < 0 || off > s.size || n > s.size-off {
		return nil, false
	}
	return slice(s.src, s.off+off, n)
}

// Release passes on that bytes of the section will not be read soon.
func (s *section) Release(off, n int64) {
	if src, ok := s.src.(interface{ Release(off, n int64) }); ok && off >= 0 && n >= 0 && off <= s.size && n <= s.size-off {
		src.Release(s.off+off, n)
	}
}
