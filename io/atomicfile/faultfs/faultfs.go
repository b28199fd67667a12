// Package faultfs is a file system for tests that fails, crashes or loses power at a chosen call.
//
// Concept: an [FS] wraps the real file system and numbers every mutating call (Create, Write, Sync, Close, Rename, Remove,
// SyncDir, Mkdir) and every reading one (Stat, ReadFile, ReadDir). At call k it injects a [Fault]; a test runs the same
// work for k = 1, 2, 3, … until [FS.Fired] says that k was never reached. It also remembers what was not made durable, so
// that [FS.PowerLoss] can take it back: unsynced bytes, and creations, renames and removals in folders not synced since.
//
// It is safe for concurrent use.
package faultfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/ldm-batch/ldm-batch/io/atomicfile"
)

// Fault is what happens at the chosen call.
type Fault int

// The faults.
const (
	None       Fault = iota
	NoSpace          // the call fails with ENOSPC and does nothing
	IOError          // the call fails with EIO and does nothing
	ShortWrite       // a Write stores half of its bytes, then fails with ENOSPC; other calls fail with EIO
	ShortQuiet       // a Write stores half of its bytes and returns that count without an error; other calls fail with EIO
	Crash            // the call and all later ones fail, nothing is cleaned up: the process is gone
	CrashAfter       // the call is carried out, all later ones fail
)

// ErrCrashed is what every call returns after a crash.
var ErrCrashed = errors.New("faultfs: crashed")

// FS injects one fault; see [New].
type FS struct {
	stashDir string
	k        int
	fault    Fault

	mu      sync.Mutex
	calls   []string
	crashed bool
	files   map[string]*file // unsynced files by current path
	pending []undo           // name changes not yet made durable, in order
}

// stashed numbers the saved files of this process.
var stashed atomic.Int64

// New returns a file system that injects fault at the k-th call, counted from 1; k 0 means never. stashDir, on the file
// system of the work, keeps what [FS.PowerLoss] may have to bring back.
func New(stashDir string, k int, fault Fault) *FS {
	return &FS{stashDir: stashDir, k: k, fault: fault, files: map[string]*file{}}
}

type undo struct {
	dir string // the folder whose sync makes the change durable
	do  func() error
}

// Calls returns the calls seen so far, as "Op name".
func (f *FS) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

// Fired reports whether the chosen call was reached.
func (f *FS) Fired() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.k > 0 && len(f.calls) >= f.k
}

// call numbers one call; an error replaces it, and a short-write fault changes
// it. The caller holds mu.
func (f *FS) call(op, path string) (fault Fault, err error) {
	if f.crashed {
		return Crash, ErrCrashed
	}
	f.calls = append(f.calls, op+" "+filepath.Base(path))
	if len(f.calls) != f.k {
		return None, nil
	}
	switch f.fault {
	case NoSpace:
		return f.fault, &fs.PathError{Op: op, Path: path, Err: syscall.ENOSPC}
	case IOError:
		return f.fault, &fs.PathError{Op: op, Path: path, Err: syscall.EIO}
	case ShortWrite, ShortQuiet:
		if op != "Write" {
			return IOError, &fs.PathError{Op: op, Path: path, Err: syscall.EIO}
		}
		return f.fault, nil
	case Crash:
		f.crashed = true
		return f.fault, ErrCrashed
	case CrashAfter:
		f.crashed = true
	}
	return None, nil
}

func (f *FS) later(dir string, do func() error) {
	f.pending = append(f.pending, undo{filepath.Clean(dir), do})
}

// Create implements [atomicfile.FS].
func (f *FS) Create(path string) (atomicfile.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.call("Create", path); err != nil {
		return nil, err
	}
	r, err := atomicfile.OS.Create(path)
	if err != nil {
		return nil, err
	}
	n := &file{fs: f, f: r, path: path}
	f.files[path] = n
	f.later(filepath.Dir(path), func() error { return gone(os.Remove(path)) })
	return n, nil
}

// Rename implements [atomicfile.FS].
func (f *FS) Rename(oldPath, newPath string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.call("Rename", newPath); err != nil {
		return err
	}
	saved, err := f.save(newPath)
	if err != nil {
		return err
	}
	if err := os.Rename(oldPath, newPath); err != nil {
		return err
	}
	n := f.files[oldPath]
	if n != nil {
		delete(f.files, oldPath)
		n.path = newPath
		f.files[newPath] = n
	}
	f.later(filepath.Dir(newPath), func() error {
		if err := gone(os.Rename(newPath, oldPath)); err != nil {
			return err
		}
		if saved != "" {
			return os.Rename(saved, newPath)
		}
		return nil
	})
	return nil
}

// Remove implements [atomicfile.FS].
func (f *FS) Remove(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.call("Remove", path); err != nil {
		return err
	}
	saved, err := f.save(path)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	delete(f.files, path)
	if saved != "" {
		f.later(filepath.Dir(path), func() error { return os.Rename(saved, path) })
	}
	return nil
}

// save keeps a second link to a regular file about to be replaced or removed; "" when there is none.
func (f *FS) save(path string) (string, error) {
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return "", nil
	}
	saved := filepath.Join(f.stashDir, fmt.Sprintf("%d-%d", os.Getpid(), stashed.Add(1)))
	if err := os.Link(path, saved); err != nil {
		return "", err
	}
	return saved, nil
}

// SyncDir implements [atomicfile.FS].
func (f *FS) SyncDir(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.call("SyncDir", path); err != nil {
		return err
	}
	kept := f.pending[:0]
	for _, u := range f.pending {
		if u.dir != filepath.Clean(path) {
			kept = append(kept, u)
		}
	}
	f.pending = kept
	return nil
}

// Mkdir implements [atomicfile.FS].
func (f *FS) Mkdir(path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.call("Mkdir", path); err != nil {
		return err
	}
	if err := atomicfile.OS.Mkdir(path); err != nil {
		return err
	}
	f.later(filepath.Dir(path), func() error { return os.RemoveAll(path) })
	return nil
}

// Stat implements [atomicfile.FS].
func (f *FS) Stat(path string) (fs.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.call("Stat", path); err != nil {
		return nil, err
	}
	return atomicfile.OS.Stat(path)
}

// ReadFile implements [atomicfile.FS].
func (f *FS) ReadFile(path string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.call("ReadFile", path); err != nil {
		return nil, err
	}
	return atomicfile.OS.ReadFile(path)
}

// ReadDir implements [atomicfile.FS].
func (f *FS) ReadDir(path string) ([]fs.DirEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.call("ReadDir", path); err != nil {
		return nil, err
	}
	return atomicfile.OS.ReadDir(path)
}

// PowerLoss takes back everything that was not made durable, as an unkind file system may: files lose what was written
// since their last Sync, and name changes in folders not synced since are undone, newest first. Call it once, after the
// work has ended.
func (f *FS) PowerLoss() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
	for _, n := range f.files {
		n.f.Close()
		if err := gone(os.Truncate(n.path, n.durable)); err != nil {
			return err
		}
	}
	for i := len(f.pending) - 1; i >= 0; i-- {
		if err := f.pending[i].do(); err != nil {
			return err
		}
	}
	f.pending = nil
	return nil
}

func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// file counts and fails writes. durable is the length at the last Sync.
type file struct {
	fs            *FS
	f             atomicfile.File
	path          string
	size, durable int64
}

func (n *file) Write(p []byte) (int, error) {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	fault, err := n.fs.call("Write", n.path)
	if err != nil {
		return 0, err
	}
	switch fault {
	case ShortWrite, ShortQuiet:
		k, err := n.f.Write(p[:len(p)/2])
		n.size += int64(k)
		if err == nil && fault == ShortWrite {
			err = &fs.PathError{Op: "Write", Path: n.path, Err: syscall.ENOSPC}
		}
		return k, err
	}
	k, err := n.f.Write(p)
	n.size += int64(k)
	return k, err
}

func (n *file) Sync() error {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	if _, err := n.fs.call("Sync", n.path); err != nil {
		return err
	}
	n.durable = n.size
	return nil
}

func (n *file) Close() error {
	n.fs.mu.Lock()
	defer n.fs.mu.Unlock()
	_, err := n.fs.call("Close", n.path)
	if e := n.f.Close(); err == nil && !errors.Is(e, fs.ErrClosed) {
		err = e
	}
	return err
}
