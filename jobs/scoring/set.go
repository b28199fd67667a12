package scoring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/ldm-batch/ldm-batch/eval"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/dataset"
	"github.com/ldm-batch/ldm-batch/io/npz"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/tree"
)

// picture is a row of a set.
type pictureRow struct {
	id       string
	label    int64
	hasLabel bool
	raw      []byte       // an encoded picture, or
	pixels   eval.Picture // one that is not
	err      error        // why there is none
	where    string
}

// set is a list of pictures.
type set interface {
	rows() int64
	// read yields rows from (included) to (excluded), in order; only one reading at a time.
	read(ctx context.Context, from, to int64) iter.Seq2[pictureRow, error]
	about() setInfo
}

// setInfo is what results say of a set.
type setInfo struct {
	Path       string   `json:"path"`
	What       string   `json:"what"`
	Rows       int64    `json:"rows"`
	Labeled    bool     `json:"labeled"`
	ClassNames []string `json:"class_names,omitempty"`
	Identity   any      `json:"identity"` // what the content is known by; where it lies does not matter
	Warnings   []string `json:"warnings,omitempty"`
}

// columns are those of a set's table.
type columns struct {
	image, label, id, allowPaths string
	limit, memory                int64
}

// openSet opens the pictures at path.
func openSet(ctx context.Context, path string, c columns) (set, error) {
	if _, err := os.Stat(filepath.Join(path, ".ldm-batch", "plan.json")); err == nil {
		return openResults(ctx, path, c)
	}
	if strings.HasSuffix(path, ".npz") || strings.HasSuffix(path, ".npy") {
		return openArrays(path, c.limit)
	}
	return openTable(ctx, path, path, "", c)
}

// openResults opens the pictures that a job of this program wrote. The folder must be finished, and its parts are hashed, and so are
// the pictures where they are files that the parts name.
func openResults(ctx context.Context, dir string, c columns) (set, error) {
	m, err := commit.ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	for _, p := range m.Parts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := checkPart(ctx, dir, p); err != nil {
			return nil, err
		}
	}
	if m.Totals.FileBytes > 0 {
		c.image, c.allowPaths = "path", dir
	}
	return openTable(ctx, dir, filepath.Join(dir, "data"), fmt.Sprintf("finished run of %d parts, %s", len(m.Parts), m.Fingerprint), c)
}

// checkPart hashes a part and the files that it names.
func checkPart(ctx context.Context, dir string, p commit.ManifestPart) error {
	path := filepath.Join(dir, p.File)
	if p.FileBytes == 0 {
		return part.Check(path, p.Expect())
	}
	r, err := part.Open(path, p.Expect())
	if err != nil {
		return err
	}
	defer r.Close()
	for row, err := range r.Rows() {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && row.Status == part.OK {
			err = tree.File{Path: row.ImagePath, Bytes: row.FileBytes, SHA256: row.FileSHA256}.Check(dir)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.File, err)
		}
	}
	return nil
}

// table is a data set of encoded pictures.
type table struct {
	ds    *dataset.Dataset
	files []dataset.FileInfo
	info  setInfo
}

func openTable(ctx context.Context, path, files, what string, c columns) (set, error) {
	ds, err := dataset.Open(ctx, dataset.Spec{Path: files, Image: c.image, Label: c.label, ID: c.id, Limit: c.limit, AllowPaths: c.allowPaths}, dataset.Limits{Memory: c.memory})
	if err != nil {
		return nil, err
	}
	t := &table{ds: ds, files: ds.Files()}
	type file struct {
		Name   string `json:"name"`
		Size   int64  `json:"size"`
		Footer string `json:"footer_sha256"`
		Rows   int64  `json:"rows"`
	}
	var list []file
	for _, f := range t.files {
		list = append(list, file{f.Name, f.Size, f.FooterSHA256, f.Rows})
	}
	f := ds.Features()
	if what == "" {
		what = fmt.Sprintf("%d files", len(list))
		if len(list) == 1 {
			what = "one file, or one list of pictures"
		}
	}
	t.info = setInfo{Path: path, What: what, Rows: ds.NumRows(), Labeled: f.Label != "", ClassNames: f.ClassNames, Identity: list, Warnings: ds.Warnings()}
	return t, nil
}

func (t *table) rows() int64    { return t.info.Rows }
func (t *table) about() setInfo { return t.info }

func (t *table) read(ctx context.Context, from, to int64) iter.Seq2[pictureRow, error] {
	return func(yield func(pictureRow, error) bool) {
		for r, err := range t.ds.Rows(ctx, from, to) {
			if err != nil {
				yield(pictureRow{}, err)
				return
			}
			p := pictureRow{id: r.ID, label: r.Label, hasLabel: r.HasLabel && r.LabelErr == nil && r.Label >= 0, raw: r.Image, err: r.Err,
				where: t.files[r.File].Where(r)}
			if !yield(p, nil) {
				return
			}
		}
	}
}

// arrays is the array arr_0 of an .npz: N x H x W x C, uint8.
type arrays struct {
	path    string
	name    string
	n       int64
	h, w, c int
	info    setInfo

	file *npz.File // open at row next
	a    *npz.Array
	next int64
}

func openArrays(path string, limit int64) (set, error) {
	f, err := npz.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &arrays{path: path, name: "arr_0"}
	if len(f.Names()) == 1 && f.Names()[0] == "" {
		s.name = ""
	}
	a, err := f.Array(s.name)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	if a.Type != npz.Uint8 || len(a.Shape) != 4 || a.Fortran || a.Shape[3] != 3 && a.Shape[3] != 1 {
		return nil, exitcode.Errorf(exitcode.Data, "%s: %s of type %v and shape %v holds no pictures, N x H x W x 3 of uint8", path, s.name, a.Type, a.Shape)
	}
	s.n, s.h, s.w, s.c = int64(a.Shape[0]), a.Shape[1], a.Shape[2], a.Shape[3]
	if limit > 0 {
		s.n = min(s.n, limit)
	}
	sum, size, err := weights.SHA256(path)
	if err != nil {
		return nil, err
	}
	s.info = setInfo{Path: path, What: fmt.Sprintf("array of %d x %d pixels", s.h, s.w), Rows: s.n, Identity: map[string]any{"sha256": sum, "size": size}}
	return s, nil
}

func (s *arrays) rows() int64    { return s.n }
func (s *arrays) about() setInfo { return s.info }

func (s *arrays) close() {
	if s.file != nil {
		s.a.Close()
		s.file.Close()
		s.file = nil
	}
}

// seek opens the array at a row; rows before it are read and dropped.
func (s *arrays) seek(row int64) error {
	if s.file != nil && s.next == row {
		return nil
	}
	s.close()
	var err error
	if s.file, err = npz.Open(s.path); err != nil {
		return err
	}
	if s.a, err = s.file.Array(s.name); err == nil {
		_, err = io.CopyN(io.Discard, s.a, row*int64(s.h*s.w*s.c))
	}
	s.next = row
	return err
}

func (s *arrays) read(ctx context.Context, from, to int64) iter.Seq2[pictureRow, error] {
	return func(yield func(pictureRow, error) bool) {
		if err := s.seek(from); err != nil {
			yield(pictureRow{}, err)
			return
		}
		for i := from; i < to; i++ {
			pix := make([]uint8, s.h*s.w*s.c)
			_, err := io.ReadFull(s.a, pix)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				s.close()
				yield(pictureRow{}, err)
				return
			}
			s.next = i + 1
			p := pictureRow{id: fmt.Sprintf("%s#%d", filepath.Base(s.path), i), label: -1, pixels: eval.Picture{H: s.h, W: s.w, C: s.c, Pix8: pix}}
			p.where = p.id
			if !yield(p, nil) {
				return
			}
		}
		if to == s.n {
			if _, err := s.a.Read(make([]byte, 1)); s.limitless() && err != nil && !errors.Is(err, io.EOF) {
				yield(pictureRow{}, err) // the checksum
			}
			s.close()
		}
	}
}

// limitless says that the last row read is the last of the array.
func (s *arrays) limitless() bool { return s.a.Shape[0] == int(s.n) }

// isStatistics says whether a path is a file of statistics, and whether it has pictures as well.
func isStatistics(path string) (yes, pictures bool, err error) {
	switch filepath.Ext(path) {
	case ".npz":
		f, err := npz.Open(path)
		if err != nil {
			return false, false, err
		}
		defer f.Close()
		return f.Has("mu") || f.Has("feats"), f.Has("arr_0"), nil
	case ".pt", ".pkl":
		return true, false, nil
	case ".arrow":
		b := make([]byte, 1<<16)
		f, err := os.Open(path)
		if err != nil {
			return false, false, err
		}
		defer f.Close()
		n, _ := io.ReadFull(f, b)
		return strings.Contains(string(b[:n]), "ldm-batch/statistics/"), false, nil
	}
	return false, false, nil
}
