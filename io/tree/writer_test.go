package tree

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/io/atomicfile/faultfs"
)

// scratch is a temporary folder with a folder for temporary files, in memory where the system has such.
func scratch(t testing.TB) (dir, tmp string) {
	t.Helper()
	root, err := os.MkdirTemp("/dev/shm", "tree-test-")
	if err != nil {
		root = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	dir, tmp = filepath.Join(root, "out"), filepath.Join(root, "tmp")
	for _, d := range []string{dir, tmp} {
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	return dir, tmp
}

var content = map[string][]byte{"a.png": []byte("one"), "b/c/d.png": []byte("two"), "b/e.png": bytes.Repeat([]byte("three"), 9000)}

func writeAll(w *Writer) (files []File, err error) {
	for _, name := range []string{"a.png", "b/c/d.png", "b/e.png"} {
		f, err := w.Write(name, content[name])
		if err != nil {
			return files, err
		}
		files = append(files, f)
	}
	return files, nil
}

func TestWrite(t *testing.T) {
	dir, tmp := scratch(t)
	for range 2 { // the second time everything is replaced
		files, err := writeAll(&Writer{Dir: dir, Files: atomicfile.Writer{TempDir: tmp}})
		if err != nil || len(files) != 3 {
			t.Fatal(files, err)
		}
		for _, f := range files {
			b, err := f.Read(dir)
			if err != nil || !bytes.Equal(b, content[strings.TrimPrefix(f.Path, "images/")]) || f.Bytes != int64(len(b)) {
				t.Errorf("%s: %d bytes, %v", f.Path, len(b), err)
			}
			if err := errors.Join(f.Check(dir), f.Present(dir)); err != nil {
				t.Error(err)
			}
		}
	}
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	w := &Writer{Dir: dir, Files: atomicfile.Writer{TempDir: tmp}}
	for _, name := range []string{"", ".", "..", "/a", "../a", "a/../b", "a//b", "a\x00"} {
		if _, err := w.Write(name, nil); exitcode.Of(err) != exitcode.Internal {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := w.Write("a.png/x.png", nil); exitcode.Of(err) != exitcode.Conflict {
		t.Errorf("a folder where a file is: %v", err)
	}
}

func TestCheckSees(t *testing.T) {
	dir, tmp := scratch(t)
	f, err := (&Writer{Dir: dir, Files: atomicfile.Writer{TempDir: tmp}}).Write("b/a.png", []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "images", "b", "a.png")
	put := func(s string) func() error { return func() error { return os.WriteFile(path, []byte(s), 0o666) } }
	for _, c := range []struct {
		name   string
		change func() error
		want   string
	}{
		{"longer", put("hello!"), "6 bytes, not 5"},
		{"changed", put("hallo"), "sha256"},
		{"missing", func() error { return os.Remove(path) }, "missing"},
		{"a folder", func() error { return os.Mkdir(path, 0o777) }, "not a file"},
		{"a link", func() error {
			os.Remove(path)
			put("x")()
			os.Rename(path, path+"x")
			return os.Symlink(path+"x", path)
		}, "not a file"},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		_, rerr := f.Read(dir)
		for _, err := range []error{f.Check(dir), rerr} {
			if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
	for _, p := range []string{"", "images", "images/", "images/../a", "/images/a", "data/a", "imagesx/a"} {
		if err := (File{Path: p}).Check(dir); exitcode.Of(err) != exitcode.Data {
			t.Errorf("%q: %v", p, err)
		}
	}
}

// TestWriteFaults fails, crashes and cuts the power at every file system call: a file under its name is always whole, one
// that was said to be written is there after a power loss, and a second run comes to the end.
func TestWriteFaults(t *testing.T) {
	for fname, fault := range map[string]faultfs.Fault{"no space": faultfs.NoSpace, "i/o error": faultfs.IOError, "short write": faultfs.ShortWrite,
		"quiet short write": faultfs.ShortQuiet, "crash": faultfs.Crash, "crash after": faultfs.CrashAfter} {
		for k := 1; ; k++ {
			dir, tmp := scratch(t)
			stash := filepath.Dir(dir)
			fsys := faultfs.New(stash, k, fault)
			written, err := writeAll(&Writer{Dir: dir, Files: atomicfile.Writer{FS: fsys, TempDir: tmp}})
			if !fsys.Fired() {
				if err != nil || k < 15 {
					t.Errorf("%s: %d calls, %v", fname, k-1, err)
				}
				break
			}
			what := fmt.Sprintf("%s, call %d (%s)", fname, k, fsys.Calls()[k-1])
			if err == nil && fault != faultfs.CrashAfter {
				t.Errorf("%s: no error", what)
			}
			if left, _ := os.ReadDir(tmp); len(left) > 0 && !errors.Is(err, faultfs.ErrCrashed) {
				t.Errorf("%s: left %v", what, left)
			}
			if err := fsys.PowerLoss(); err != nil {
				t.Fatal(err)
			}
			for _, f := range written {
				if err := f.Check(dir); err != nil {
					t.Errorf("%s: after the power loss: %v", what, err)
				}
			}
			for name, want := range content {
				if b, err := os.ReadFile(filepath.Join(dir, Name, name)); err == nil && !bytes.Equal(b, want) {
					t.Errorf("%s: %s is there with %d of %d bytes", what, name, len(b), len(want))
				}
			}
			files, err := writeAll(&Writer{Dir: dir, Files: atomicfile.Writer{FS: faultfs.New(stash, 0, faultfs.None), TempDir: tmp}})
			if err != nil {
				t.Errorf("%s: second run: %v", what, err)
			}
			for _, f := range files {
				if err := f.Check(dir); err != nil {
					t.Errorf("%s: second run: %v", what, err)
				}
			}
			if t.Failed() {
				return
			}
		}
	}
}

func TestWriteTogether(t *testing.T) {
	dir, tmp := scratch(t)
	w := &Writer{Dir: dir, Files: atomicfile.Writer{FS: faultfs.New(tmp, 0, faultfs.None), TempDir: tmp}}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 10 {
				f, err := w.Write(fmt.Sprintf("%d/%d/x.png", i, g%3), []byte("same"))
				if err == nil {
					err = f.Check(dir)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
