package part

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// sink counts and hashes what goes through, and latches the first error: after a failed write the Arrow writer would go
// on and put a valid footer behind a hole. The Arrow writer seeks only to learn its position.
type sink struct {
	w   io.Writer
	h   hash.Hash
	n   int64
	err error
}

func newSink(w io.Writer) *sink { return &sink{w: w, h: sha256.New()} }

func (s *sink) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.w.Write(p)
	if n < 0 || n > len(p) {
		n, err = 0, errors.New("writer reports an impossible count")
	}
	s.h.Write(p[:n])
	s.n += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		s.err = err
	}
	return n, err
}

func (s *sink) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekCurrent {
		return 0, fmt.Errorf("seek to %d from %d: parts are written front to back", offset, whence)
	}
	return s.n, s.err
}
