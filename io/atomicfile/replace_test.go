package atomicfile_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/io/atomicfile/faultfs"
)

// layout makes a folder with an old file, a temporary folder beside it and a stash for faultfs.
func layout(t *testing.T) (path, tmp, stash string) {
	t.Helper()
	root := t.TempDir()
	tmp, stash = filepath.Join(root, "tmp"), filepath.Join(root, "stash")
	for _, d := range []string{tmp, stash, filepath.Join(root, "out")} {
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	path = filepath.Join(root, "out", "file")
	if err := os.WriteFile(path, []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	return path, tmp, stash
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// writeTwice writes "new!" in two calls and hides the error of the first one, as a careless writer does.
func writeTwice(w io.Writer) error {
	w.Write([]byte("ne"))
	w.Write([]byte("w!"))
	return nil
}

func TestReplace(t *testing.T) {
	path, tmp, _ := layout(t)
	var stages []string
	w := atomicfile.Writer{TempDir: tmp, Prefix: "p.", At: func(s atomicfile.Stage) { stages = append(stages, string(s)) }}
	err := w.Replace(path, writeTwice, func(tmp string) error {
		if got := content(t, tmp); got != "new!" {
			t.Errorf("check sees %q", got)
		}
		if !strings.HasPrefix(filepath.Base(tmp), "p.file.") {
			t.Errorf("temporary name %s", tmp)
		}
		return nil
	})
	if err != nil || content(t, path) != "new!" {
		t.Errorf("Replace: %v, content %q", err, content(t, path))
	}
	if got := strings.Join(stages, " "); got != "created written synced checked renamed durable" {
		t.Errorf("stages: %s", got)
	}
	if left, _ := os.ReadDir(tmp); len(left) != 0 {
		t.Errorf("temporary folder holds %v", left)
	}
}

func TestReplaceCheckFails(t *testing.T) {
	path, tmp, _ := layout(t)
	bad := errors.New("bad")
	err := atomicfile.Writer{TempDir: tmp}.Replace(path, writeTwice, func(string) error { return bad })
	if !errors.Is(err, bad) || content(t, path) != "old" {
		t.Errorf("err %v, content %q", err, content(t, path))
	}
	if left, _ := os.ReadDir(tmp); len(left) != 0 {
		t.Errorf("temporary folder holds %v", left)
	}
}

// TestReplaceFaults fails every call in turn, in every way, and then loses power: the file is old or new, never between,
// success means new for good, and an error leaves no temporary file behind.
func TestReplaceFaults(t *testing.T) {
	faults := []faultfs.Fault{faultfs.NoSpace, faultfs.IOError, faultfs.ShortWrite, faultfs.ShortQuiet, faultfs.Crash, faultfs.CrashAfter}
	for _, fault := range faults {
		for k := 1; ; k++ {
			path, tmp, stash := layout(t)
			fsys := faultfs.New(stash, k, fault)
			err := atomicfile.Writer{FS: fsys, TempDir: tmp}.Replace(path, writeTwice, nil)
			calls := fsys.Calls()
			at := "end"
			if fsys.Fired() {
				at = calls[k-1]
			}
			got := content(t, path)
			if err == nil && got != "new!" {
				t.Errorf("fault %d at %s: success, but content %q", fault, at, got)
			}
			if err != nil && got != "old" && !strings.HasPrefix(at, "SyncDir") && !strings.HasPrefix(at, "Rename") {
				t.Errorf("fault %d at %s: error, but content %q", fault, at, got)
			}
			if fsys.Fired() && fault != faultfs.CrashAfter && err == nil && !strings.HasPrefix(at, "Remove") {
				t.Errorf("fault %d at %s went unnoticed", fault, at)
			}
			left, _ := os.ReadDir(tmp)
			if len(left) > 0 && fault != faultfs.Crash && fault != faultfs.CrashAfter {
				t.Errorf("fault %d at %s left %v", fault, at, left)
			}
			if err := fsys.PowerLoss(); err != nil {
				t.Fatal(err)
			}
			lost := content(t, path)
			if lost != "old" && lost != "new!" || err == nil && lost != "new!" {
				t.Errorf("fault %d at %s, err %v: after power loss content %q", fault, at, err, lost)
			}
			if !fsys.Fired() {
				break
			}
		}
	}
}

// TestPowerLossSeesMissingSync proves the test's own teeth: without the syncs the loss shows.
func TestPowerLossSeesMissingSync(t *testing.T) {
	path, tmp, stash := layout(t)
	fsys := faultfs.New(stash, 0, faultfs.None)
	f, err := fsys.Create(filepath.Join(tmp, "x"))
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("new!"))
	f.Close()
	if err := fsys.Rename(filepath.Join(tmp, "x"), path); err != nil {
		t.Fatal(err)
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if err := fsys.PowerLoss(); err != nil {
		t.Fatal(err)
	}
	if got := content(t, path); got != "" {
		t.Errorf("an unsynced file kept %q over a power loss", got)
	}
}

func TestDiskFullMessage(t *testing.T) {
	path, tmp, stash := layout(t)
	fsys := faultfs.New(stash, 3, faultfs.NoSpace) // Create, Write, then the second Write
	err := atomicfile.Writer{FS: fsys, TempDir: tmp}.Replace(path, writeTwice, nil)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("err %v is not ENOSPC", err)
	}
	for _, want := range []string{path, "after 2 bytes", "at least 2 more"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestDevFull(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here: ", err)
	}
	defer f.Close()
	path, tmp, _ := layout(t)
	err = atomicfile.Writer{TempDir: tmp}.Replace(path, func(io.Writer) error {
		_, err := io.Copy(f, bytes.NewReader([]byte("x")))
		return err
	}, nil)
	if !errors.Is(err, syscall.ENOSPC) || content(t, path) != "old" {
		t.Errorf("err %v, content %q", err, content(t, path))
	}
}
