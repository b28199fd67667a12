package dataset

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// looseStore reads picture files, by [member.at] an index into files.
type looseStore struct{ files []found }

// loose lists picture files. Those of a folder are in the byte order of their names.
func (l *listing) loose(files []found) error {
	s := &looseStore{files: files}
	l.store, l.texts = s, map[string]member{}
	for i, f := range files {
		m := member{name: f.name, size: f.size, at: int64(i)}
		if f.err != nil {
			m.bad = looseError(f.name, f.err)
		}
		if f.carrier == carrierText {
			l.texts[m.name] = m
		} else {
			l.members = append(l.members, m) // files of any name, since the file system has them
		}
		fmt.Fprintf(l.digest(), "%s\x00%d\x00%d\n", f.name, f.size, f.modTime.UnixNano())
	}
	return nil
}

func (s *looseStore) open(*file, int) (memberReader, error) {
	return &looseReader{store: s, roots: map[string]*os.Root{}}, nil
}

// looseReader keeps the folders open below which links may lead.
type looseReader struct {
	store *looseStore
	roots map[string]*os.Root
}

func (r *looseReader) Close() error {
	var errs []error
	for _, root := range r.roots {
		errs = append(errs, root.Close())
	}
	return errors.Join(errs...)
}

func (r *looseReader) read(_ int, m *member) ([]byte, error) {
	f := &r.store.files[m.at]
	h, err := r.file(f)
	if err != nil {
		return nil, looseError(f.name, err)
	}
	defer h.Close()
	st, err := h.Stat()
	switch {
	case err != nil:
		return nil, looseError(f.name, err)
	case !st.Mode().IsRegular():
		return nil, errorf(RowUnreadable, "%s is no regular file", shorten(f.name))
	case st.Size() != f.size || !st.ModTime().Equal(f.modTime):
		return nil, errorf(RowUnreadable, "%s has changed since it was listed", shorten(f.name))
	}
	b := make([]byte, f.size)
	if _, err := io.ReadFull(h, b); err != nil {
		return nil, looseError(f.name, err)
	}
	return b, nil
}

// file opens a file. Without O_NONBLOCK, opening a named pipe would wait for its writer.
func (r *looseReader) file(f *found) (*os.File, error) {
	const flags = os.O_RDONLY | syscall.O_NONBLOCK
	if f.root == "" { // named by the user
		return os.OpenFile(f.path, flags, 0)
	}
	root := r.roots[f.root]
	if root == nil {
		var err error
		if root, err = os.OpenRoot(f.root); err != nil {
			return nil, err
		}
		r.roots[f.root] = root
	}
	rel, err := filepath.Rel(f.root, f.path)
	if err != nil {
		return nil, err
	}
	return root.OpenFile(rel, flags, 0)
}

// looseError classes what reading a picture file gave: whatever it is, it concerns one row.
func looseError(name string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errorf(RowPathMissing, "file %s: %w", shorten(name), err)
	case errors.Is(err, errOutside):
		return errorf(RowPathRefused, "file %s: %w", shorten(name), err)
	}
	return errorf(RowUnreadable, "file %s: %w", shorten(name), err)
}
