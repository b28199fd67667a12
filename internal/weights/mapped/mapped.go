package mapped

import (
	"fmt"
	"os"
)

// File is an open file of fixed size. Its methods may be called from several goroutines, Close excepted.
type File struct {
	f    *os.File
	size int64
	data []byte // nil without a mapping
}

// Open opens a regular file. Where mapping is impossible the file still works, without views.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	m := &File{f: f, size: st.Size()}
	m.data = mmap(f, m.size)
	return m, nil
}

// Size is the length of the file in bytes when it was opened.
func (m *File) Size() int64 { return m.size }

// ReadAt implements [io.ReaderAt] without touching the mapping.
func (m *File) ReadAt(p []byte, off int64) (int, error) { return m.f.ReadAt(p, off) }

// Slice returns bytes [off, off+n) of the mapping, or false where there is none or the range leaves the file.
func (m *File) Slice(off, n int64) ([]byte, bool) {
	if off < 0 || n < 0 || off > int64(len(m.data)) || n > int64(len(m.data))-off || m.data == nil {
		return nil, false
	}
	return m.data[off : off+n : off+n], true
}

// Release says that bytes [off, off+n) of the mapping will not be needed soon: their memory goes back to the system, and
// comes back from the file when they are read again.
func (m *File) Release(off, n int64) {
	page := int64(os.Getpagesize())
	from, to := (off+page-1)/page*page, (off+n)/page*page
	if b, ok := m.Slice(from, to-from); ok && len(b) > 0 {
		release(b)
	}
}

// Close unmaps and closes the file; every slice handed out is invalid afterwards.
func (m *File) Close() error {
	err := munmap(m.data)
	m.data = nil
	if e := m.f.Close(); err == nil {
		err = e
	}
	return err
}
