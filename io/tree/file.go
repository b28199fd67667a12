package tree

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Name is the folder of the tree in an output folder.
const Name = "images"

// File is one file of a tree.
type File struct {
	Path   string // relative to the output folder, with slashes: images/...
	Bytes  int64
	SHA256 string // hex
}

// local is where the file lies below the output folder dir; a path that leads out of the tree is class data.
func (f File) local(dir string) (string, error) {
	rel, err := filepath.Localize(f.Path)
	if err != nil || len(f.Path) <= len(Name) || f.Path[:len(Name)+1] != Name+"/" {
		return "", exitcode.Errorf(exitcode.Data, "%q is not a path below %s", f.Path, Name)
	}
	return filepath.Join(dir, rel), nil
}

// Present checks that the file is there below the output folder dir, with its size. What is wrong is class data.
func (f File) Present(dir string) error {
	path, err := f.local(dir)
	if err != nil {
		return err
	}
	return stat(path, f.Bytes)
}

// Check hashes the file below the output folder dir and compares it with what is known of it. A difference is class data.
func (f File) Check(dir string) error {
	path, err := f.local(dir)
	if err != nil {
		return err
	}
	return check(path, f)
}

// Read is Check that returns the content.
func (f File) Read(dir string) ([]byte, error) {
	path, err := f.local(dir)
	if err != nil {
		return nil, err
	}
	// The recorded size bounds what is read.
	r, err := open(path, f.Bytes)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := make([]byte, f.Bytes)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	sum := sha256.Sum256(b)
	return b, compare(path, sum[:], f.SHA256)
}

func check(path string, want File) error {
	r, err := open(path, want.Bytes)
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return compare(path, h.Sum(nil), want.SHA256)
}

// stat wants a regular file of the given size.
func stat(path string, size int64) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return exitcode.Errorf(exitcode.Data, "%s: is missing", path)
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return exitcode.Errorf(exitcode.Data, "%s: is not a file", path)
	case info.Size() != size:
		return exitcode.Errorf(exitcode.Data, "%s: %d bytes, not %d as recorded", path, info.Size(), size)
	}
	return nil
}

func open(path string, size int64) (*os.File, error) {
	if err := stat(path, size); err != nil {
		return nil, err
	}
	return os.Open(path)
}

func compare(path string, sum []byte, want string) error {
	if got := hex.EncodeToString(sum); got != want {
		return exitcode.Errorf(exitcode.Data, "%s: sha256 %s, not %s as recorded", path, got, want)
	}
	return nil
}
