package atomicfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// Stage names a point between two steps of [Writer.Replace].
type Stage string

// The stages, in order. A crash right after any of them must be survivable.
const (
	Created Stage = "created" // the temporary file exists and is empty
	Written Stage = "written" // all bytes are written, none is known to be durable
	Synced  Stage = "synced"  // the temporary file is durable and closed
	Checked Stage = "checked" // the caller's check passed
	Renamed Stage = "renamed" // the final name points to the new content
	Durable Stage = "durable" // the final name survives a power loss
)

// Writer replaces files atomically.
type Writer struct {
	// FS is the file system; nil means [OS].
	FS FS
	// TempDir holds the temporary files. It must be on the file system of the files that are replaced.
	TempDir string
	// Prefix starts the names of temporary files, so that a sweep can tell one writer's from another's.
	Prefix string
	// At, when set, is called after each stage.
	At func(Stage)
}

// Replace writes path through a temporary file: create, write, sync, close, check, rename, sync the folder. check (may be
// nil) sees the finished temporary file before it gets its name. On error path is as it was, and the temporary file is
// removed, except that after an error of the last folder sync path already has its new, complete content.
func (w Writer) Replace(path string, write func(io.Writer) error, check func(tmp string) error) error {
	fsys := w.FS
	if fsys == nil {
		fsys = OS
	}
	at := w.At
	if at == nil {
		at = func(Stage) {}
	}
	f, tmp, err := w.create(fsys, filepath.Base(path))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	at(Created)
	if err := fill(f, path, write, at); err != nil {
		return errors.Join(err, remove(fsys, tmp))
	}
	at(Synced)
	if check != nil {
		if err := check(tmp); err != nil {
			return errors.Join(fmt.Errorf("%s: check before publishing: %w", path, err), remove(fsys, tmp))
		}
	}
	at(Checked)
	if err := fsys.Rename(tmp, path); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", path, err), remove(fsys, tmp))
	}
	at(Renamed)
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%s: sync folder: %w", path, err)
	}
	at(Durable)
	return nil
}

// create opens a temporary file with a name of its own. Two processes may write the same final name at the same time.
func (w Writer) create(fsys FS, base string) (File, string, error) {
	for range 100 {
		var b [6]byte
		rand.Read(b[:])
		tmp := filepath.Join(w.TempDir, w.Prefix+base+"."+hex.EncodeToString(b[:])+".tmp")
		f, err := fsys.Create(tmp)
		if !errors.Is(err, fs.ErrExist) {
			return f, tmp, err
		}
	}
	return nil, "", fmt.Errorf("%s: no free temporary name: %w", w.TempDir, fs.ErrExist)
}

// fill writes, syncs and closes f.
func fill(f File, path string, write func(io.Writer) error, at func(Stage)) error {
	lw := &latch{w: f, path: path}
	err := write(lw)
	if lw.err != nil {
		err = lw.err // what write made of it may have lost the cause
	}
	if err == nil {
		at(Written)
		if err = f.Sync(); err != nil {
			err = fmt.Errorf("%s: sync: %w", path, err)
		}
	}
	if e := f.Close(); err == nil && e != nil {
		err = fmt.Errorf("%s: close: %w", path, e)
	}
	return err
}

// remove removes a temporary file; one that is already gone is fine.
func remove(fsys FS, tmp string) error {
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove temporary file: %w", err)
	}
	return nil
}

// latch keeps the first write error and refuses everything after it.
type latch struct {
	w    io.Writer
	path string
	n    int64
	err  error
}

func (l *latch) Write(p []byte) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	n, err := l.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		l.err = fmt.Errorf("%s: after %d bytes, with at least %d more to write: %w", l.path, l.n+int64(n), len(p)-n, err)
	}
	l.n += int64(n)
	return n, l.err
}

// Bytes returns a write function for [Writer.Replace] that writes b.
func Bytes(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}
