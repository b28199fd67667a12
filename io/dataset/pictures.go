package dataset

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// pictureExts are the files a folder of pictures may hold. What a file really is, its decoder tells.
var pictureExts = []string{".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}

// openPictures opens a folder of picture files as a data set: a row per file in the order of their paths, its relative path as
// id, and, when every file lies in a sub-folder of the folder, the sub-folders as classes in the order of their names.
func (d *Dataset) openPictures(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	all, err := findFiles(d.spec.Path, pictureExts...)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return exitcode.Errorf(exitcode.NoInput, "input: %s holds neither Parquet files nor pictures", d.spec.Path)
	}
	s := d.spec
	if s.Image != "" && s.Image != "image" || len(s.Images) > 0 || s.ID != "" || s.Label != "" && s.Label != "label" || len(s.Columns) > 0 {
		return errorf(SchemaNoColumn, "input: %s is a folder of pictures: its only columns are image and label", s.Path)
	}
	d.features = Features{Image: "image"}
	classes := map[string]bool{}
	sum := sha256.New()
	for _, p := range all {
		class, _, _ := strings.Cut(p.name, "/")
		classes[class] = true
		fmt.Fprintf(sum, "%s\x00%d\x00%d\n", p.name, p.size, p.modTime.UnixNano())
	}
	if !slices.ContainsFunc(all, func(p found) bool { return path.Dir(p.name) == "." || filepath.IsAbs(p.name) }) {
		for c := range classes {
			d.features.ClassNames = append(d.features.ClassNames, c)
		}
		slices.Sort(d.features.ClassNames)
		d.features.Label = "label"
	} else if s.Label != "" {
		return errorf(SchemaNoColumn, "input: %s has pictures outside of sub-folders, so it has no labels", s.Path)
	}
	n := int64(len(all))
	f := &file{found: found{path: s.Path, name: filepath.ToSlash(filepath.Base(s.Path))}, rows: n, groups: []group{{rows: n}}, pictures: all}
	for _, p := range all {
		f.size += p.size
	}
	f.sha = hex.EncodeToString(sum.Sum(nil))
	d.files = []*file{f}
	if d.rows = n; s.Limit > 0 {
		d.rows = min(n, s.Limit)
	}
	return nil
}

// pictures delivers rows from..to of a folder of pictures.
func (c *cursor) pictures(ctx context.Context, from, to int64, yield func(Row, error) bool) (stopped bool, err error) {
	for i := from; i < to; i++ {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		p := c.f.pictures[i]
		row := Row{Index: c.f.first + i, File: c.file, RowInFile: i, RowInGroup: i, ID: p.name, Path: p.name, Label: -1}
		if names := c.d.features.ClassNames; names != nil {
			row.LabelName, _, _ = strings.Cut(p.name, "/")
			row.Label, row.HasLabel = int64(slices.Index(names, row.LabelName)), true
		}
		if row.Image, row.Err = readPicture(p, c.d.lim.MaxImageBytes); row.Err != nil {
			row.Err = at(row.Err, p.name, -1, i, "")
		}
		if !yield(row, nil) {
			return true, nil
		}
	}
	return false, nil
}

// readPicture reads a picture file; a file that is gone or cannot be read is a problem of its row only.
func readPicture(p found, limit int64) ([]byte, error) {
	if p.size > limit {
		return nil, errorf(RowTooLarge, "file of %d bytes is over the limit of %d", p.size, limit)
	}
	b, err := os.ReadFile(p.path)
	switch {
	case err != nil:
		return nil, errorf(RowPathMissing, "%w", err)
	case len(b) == 0:
		return nil, errorf(RowEmpty, "file has zero bytes")
	}
	return b, nil
}
