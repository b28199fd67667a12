package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// File is a file being written. Writes only append.
type File interface {
	io.Writer
	io.Closer
	// Sync makes the content durable.
	Sync() error
}

// FS is the set of file system calls the write paths of this module make. Paths are ordinary operating-system paths.
type FS interface {
	// Create makes a new file; it fails with fs.ErrExist when the name is taken.
	Create(path string) (File, error)
	// Rename replaces newPath by oldPath atomically. Both are on one file system.
	Rename(oldPath, newPath string) error
	// Remove removes a file or an empty folder.
	Remove(path string) error
	// SyncDir makes the names in a folder durable.
	SyncDir(path string) error
	// Mkdir makes one folder; it fails with fs.ErrExist when the name is taken.
	Mkdir(path string) error
	Stat(path string) (fs.FileInfo, error)
	ReadFile(path string) ([]byte, error)
	// ReadDir lists a folder in order of names.
	ReadDir(path string) ([]fs.DirEntry, error)
}

// OS is the real file system.
var OS FS = osFS{}

type osFS struct{}

func (osFS) Create(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Rename(oldPath, newPath string) error       { return os.Rename(oldPath, newPath) }
func (osFS) Remove(path string) error                   { return os.Remove(path) }
func (osFS) Mkdir(path string) error                    { return os.Mkdir(path, 0o777) }
func (osFS) Stat(path string) (fs.FileInfo, error)      { return os.Stat(path) }
func (osFS) ReadFile(path string) ([]byte, error)       { return os.ReadFile(path) }
func (osFS) ReadDir(path string) ([]fs.DirEntry, error) { return os.ReadDir(path) }

func (osFS) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = ignoreUnsupported(d.Sync())
	if e := d.Close(); err == nil {
		err = e
	}
	return err
}

type osFile struct{ *os.File }

func (f osFile) Sync() error { return ignoreUnsupported(f.File.Sync()) }

// ignoreUnsupported drops the errors by which network and FUSE file systems say that they have no fsync; every other
// error of fsync means that data may be lost.
func ignoreUnsupported(err error) error {
	if errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS) {
		return nil
	}
	return err
}
