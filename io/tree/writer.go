package tree

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"sync"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
)

// Writer writes the files of a tree. It may be used by many goroutines.
type Writer struct {
	// Dir is the output folder, which exists; the tree is its folder [Name].
	Dir string
	// Files puts one file on disk.
	Files atomicfile.Writer

	mu   sync.Mutex
	made map[string]bool // folders that exist and are durable
}

// Write writes a file under a name that [Names] gave, durably, and makes the folders above it. A file that is there already
// is replaced. The temporary file is read back and compared with data before it gets its name.
func (w *Writer) Write(name string, data []byte) (File, error) {
	sum := sha256.Sum256(data)
	f := File{Path: path.Join(Name, name), Bytes: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
	if !fs.ValidPath(name) || name == "." {
		return File{}, exitcode.Errorf(exitcode.Internal, "%q is not the name of a file in a tree", name)
	}
	full, err := f.local(w.Dir)
	if err != nil {
		return File{}, exitcode.With(exitcode.Internal, err)
	}
	if err := w.folder(filepath.Dir(full)); err != nil {
		return File{}, err
	}
	return f, w.Files.Replace(full, atomicfile.Bytes(data), func(tmp string) error { return check(tmp, f) })
}

// folder makes a folder below Dir and those above it, each durable before anything is put into it.
func (w *Writer) folder(dir string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mkdirs(filepath.Clean(w.Dir), dir)
}

func (w *Writer) mkdirs(root, dir string) error {
	if dir == root || w.made[dir] {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := w.mkdirs(root, parent); err != nil {
		return err
	}
	fsys := w.Files.FS
	if fsys == nil {
		fsys = atomicfile.OS
	}
	if err := fsys.Mkdir(dir); errors.Is(err, fs.ErrExist) { // by an earlier run, or by another shard
		info, err := fsys.Stat(dir)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return exitcode.Errorf(exitcode.Conflict, "%s: is not a folder", dir)
		}
	} else if err != nil {
		return err
	}
	if err := fsys.SyncDir(parent); err != nil {
		return fmt.Errorf("%s: sync folder: %w", dir, err)
	}
	if w.made == nil {
		w.made = map[string]bool{}
	}
	w.made[dir] = true
	return nil
}
