package mapped

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	want := []byte("0123456789")
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := f.ReadAt(got, 3); err != nil || string(got) != "3456" {
		t.Errorf("ReadAt: %q, %v", got, err)
	}
	if b, ok := f.Slice(2, 5); ok && !bytes.Equal(b, want[2:7]) {
		t.Errorf("Slice: %q", b)
	}
	for _, r := range [][2]int64{{-1, 2}, {0, 11}, {11, 0}, {5, -1}, {1 << 62, 1 << 62}} {
		if _, ok := f.Slice(r[0], r[1]); ok {
			t.Errorf("Slice(%d, %d) leaves the file", r[0], r[1])
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := f.Slice(0, 1); ok {
		t.Error("Slice after Close")
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); err == nil {
		t.Error("a folder was opened")
	}
	if _, err := Open(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Errorf("missing file: %v", err)
	}
}

func TestEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Size() != 0 {
		t.Error("size")
	}
}
