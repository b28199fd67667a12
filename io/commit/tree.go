package commit

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/tree"
)

// WriteFile writes an image file below DIR/images, durably, under a name that [tree.Names] gave. It counts once a part that
// names it is finished; until then it may be written again. Many goroutines may call it.
func (f *Folder) WriteFile(name string, data []byte) (tree.File, error) {
	file, err := f.files.Write(name, data)
	return file, outputError(err)
}

// listing is what parts with files say, in order.
type listing struct {
	tree   bool
	paths  map[string]bool
	failed [][]string // name, reason and error of the rows without a file
}

// add reads a part and hands each file that it names to check.
func (x *listing) add(path string, want part.Stats, check func(tree.File) error) (err error) {
	x.tree = true
	if x.paths == nil {
		x.paths = map[string]bool{}
	}
	r, err := part.Open(path, part.Expect{Size: want.Bytes, SHA256: want.SHA256})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for row, err := range r.Rows() {
		if err != nil {
			return err
		}
		if row.Status != part.OK {
			x.failed = append(x.failed, []string{row.ID, row.Reason, row.Error})
			continue
		}
		x.paths[row.ImagePath] = true
		if err := check(tree.File{Path: row.ImagePath, Bytes: row.FileBytes, SHA256: row.FileSHA256}); err != nil {
			return err
		}
	}
	return nil
}

// failedCSV spells the rows without a file by RFC 4180.
func (x *listing) failedCSV() ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.UseCRLF = true
	err := errors.Join(w.Write([]string{"name", "reason", "error"}), w.WriteAll(x.failed))
	return b.Bytes(), err
}

// verify looks for what the listed parts do not account for.
func (x *listing) verify(fsys atomicfile.FS, l layout, problem func(file, format string, args ...any)) error {
	if !x.tree {
		return nil
	}
	want, err := x.failedCSV()
	if err != nil {
		return err
	}
	switch got, err := fsys.ReadFile(l.failed()); {
	case errors.Is(err, fs.ErrNotExist):
		problem(failedName, "is missing")
	case err != nil:
		return outputError(err)
	case !bytes.Equal(got, want):
		problem(failedName, "is not what the parts give")
	}
	return walk(fsys, l.images(), tree.Name, func(name string) {
		if !x.paths[name] {
			problem(name, "is not a file of this job")
		}
	})
}

// walk visits everything below a folder but folders, if there is the folder; names have slashes and begin with name.
func walk(fsys atomicfile.FS, dir, name string, visit func(name string)) error {
	entries, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return outputError(err)
	}
	for _, e := range entries {
		n := path.Join(name, e.Name())
		if !e.IsDir() {
			visit(n)
		} else if err := walk(fsys, filepath.Join(dir, e.Name()), n, visit); err != nil {
			return err
		}
	}
	return nil
}

// publishTree removes images that no part lists, left behind by attempts that came to another result, and writes failed.csv.
func (f *Folder) publishTree(states []PartState) error {
	var files listing
	for i, s := range states {
		if !s.Entry.Tree {
			continue
		}
		if err := files.add(f.part(i), s.Entry.Stats, func(tree.File) error { return nil }); err != nil {
			return fmt.Errorf("part %d: %w", i, outputError(err))
		}
	}
	if !files.tree {
		return nil
	}
	if _, err := f.removeImages(f.images(), files.paths); err != nil {
		return err
	}
	crashPoint("strays")
	b, err := files.failedCSV()
	if err != nil {
		return err
	}
	if err := f.publishFile("failed", f.failed(), b); err != nil {
		return fmt.Errorf("%s: %w", failedName, err)
	}
	return nil
}

// removeImages removes the images below a folder of the tree that are not kept, and the folder if that leaves it empty.
// Files of other kinds stay. left is the number of entries that remain.
func (f *Folder) removeImages(dir string, keep map[string]bool) (left int, err error) {
	entries, err := f.fs.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, outputError(err)
	}
	var gone []string
	for _, e := range entries {
		full := filepath.Join(dir, e.Name())
		if e.IsDir() {
			n, err := f.removeImages(full, keep)
			if err != nil {
				return 0, err
			}
			if n > 0 {
				left++
			}
			continue
		}
		rel, err := filepath.Rel(f.dir, full)
		if err != nil {
			return 0, err
		}
		if keep[filepath.ToSlash(rel)] || !e.Type().IsRegular() || !isImage(e.Name()) {
			left++
		} else {
			gone = append(gone, full)
		}
	}
	if err := f.remove(gone...); err != nil {
		return 0, err
	}
	if left == 0 {
		return 0, f.remove(dir)
	}
	return left, nil
}

// isImage reports whether a name ends as those of the tree do.
func isImage(name string) bool {
	return strings.HasSuffix(name, tree.Extension("png")) || strings.HasSuffix(name, tree.Extension("jpeg"))
}
