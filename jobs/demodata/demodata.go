// Package demodata writes the procedural data set as Parquet files.
//
// Concept: the set is a function of its options (package internal/demodata draws it); files are in the layout of Hugging
// Face datasets, named SPLIT-00000-of-0000N.parquet, so that a folder holds several splits. The bytes of a file depend on the
// options alone.
//
// Data flow: rows are drawn and encoded in parallel, a block at a time, and written in order. Memory does not grow with rows.
//
// Ownership: every file appears under its name only when it is complete. Errors: impossible options and existing files of the
// split are of class usage.
package demodata

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sync"

	"github.com/ldm-batch/ldm-batch/internal/demodata"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/io/table"
)

// Options say what is written.
type Options struct {
	Rows      int64
	Size      int
	Seed      uint64
	Split     string // part of the file names
	Objects   int    // at most so many things in a picture
	FileRows  int64  // rows of a file; 0 is 5000
	Grid      string // also a PNG file with the first rows by class, for the eye; "" for none
	Overwrite bool   // replace files of the split
}

// Result says what was written.
type Result struct {
	Schema  string   `json:"schema"` // ldm-batch/demo-data/v1
	Dir     string   `json:"dir"`
	Files   []string `json:"files"`
	Rows    int64    `json:"rows"`
	Size    int      `json:"size"`
	Seed    uint64   `json:"seed"`
	Split   string   `json:"split"`
	Classes []string `json:"classes"`
}

// Text is the result for people.
func (r *Result) Text() string {
	return fmt.Sprintf("%s: %d pictures of %dx%d pixels in %d classes, split %s, in %d files\n", r.Dir, r.Rows, r.Size, r.Size, len(r.Classes), r.Split, len(r.Files))
}

var splitName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,31}$`)

// Write makes the set in dir.
func Write(ctx context.Context, dir string, o Options) (*Result, error) {
	if o.FileRows == 0 {
		o.FileRows = 5000
	}
	set, err := demodata.New(demodata.Options{Size: o.Size, Seed: o.Seed, Split: o.Split, Objects: o.Objects})
	switch {
	case err != nil:
		return nil, exitcode.With(exitcode.Usage, err)
	case !splitName.MatchString(o.Split):
		return nil, exitcode.Errorf(exitcode.Usage, "split %q is not a name of letters and digits", o.Split)
	case o.Rows < 1 || o.FileRows < 1 || (o.Rows-1)/o.FileRows > 99999:
		return nil, exitcode.Errorf(exitcode.Usage, "%d rows in files of %d", o.Rows, o.FileRows)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	old, err := filepath.Glob(filepath.Join(escape(dir), o.Split+"-?????-of-?????.parquet"))
	if err != nil {
		return nil, err
	}
	if len(old) > 0 && !o.Overwrite {
		return nil, exitcode.Errorf(exitcode.Usage, "%s exists; --overwrite replaces the split", old[0])
	}
	r := &Result{Schema: "ldm-batch/demo-data/v1", Dir: dir, Rows: o.Rows, Size: o.Size, Seed: o.Seed, Split: o.Split, Classes: demodata.Classes}
	w := atomicfile.Writer{TempDir: dir}
	files := (o.Rows + o.FileRows - 1) / o.FileRows
	for i := range files {
		name := fmt.Sprintf("%s-%05d-of-%05d.parquet", o.Split, i, files)
		if err := w.Replace(filepath.Join(dir, name), func(out io.Writer) error {
			return writeRows(ctx, out, set, o, i*o.FileRows, min((i+1)*o.FileRows, o.Rows))
		}, nil); err != nil {
			return nil, err
		}
		r.Files = append(r.Files, name)
	}
	for _, path := range old {
		if !slices.Contains(r.Files, filepath.Base(path)) {
			if err := os.Remove(path); err != nil {
				return nil, err
			}
		}
	}
	if o.Grid != "" {
		tmp := atomicfile.Writer{TempDir: filepath.Dir(o.Grid)}
		if err := tmp.Replace(o.Grid, func(out io.Writer) error { return writeGrid(out, set, o.Rows, o.Size) }, nil); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// escape makes a path a pattern of itself.
func escape(path string) string {
	return regexp.MustCompile(`[\\*?\[]`).ReplaceAllString(path, `\$0`)
}

// writeRows writes rows from..to as one file.
func writeRows(ctx context.Context, out io.Writer, set *demodata.Set, o Options, from, to int64) error {
	w, err := table.NewWriter(out, table.Options{LabelNames: demodata.Classes, Scene: true})
	if err != nil {
		return err
	}
	const block = 64
	var rows [block]table.Row
	var errs [block]error
	for ; from < to; from += block {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(block, to-from)
		var wg sync.WaitGroup
		for k := range min(n, int64(runtime.GOMAXPROCS(0))) {
			wg.Go(func() {
				for i := k; i < n; i += int64(runtime.GOMAXPROCS(0)) {
					rows[i], errs[i] = row(set, o, from+i)
				}
			})
		}
		wg.Wait()
		for i := range n {
			if err := errs[i]; err != nil {
				return fmt.Errorf("row %d: %w", from+i, err)
			}
			if err := w.Append(rows[i]); err != nil {
				return err
			}
		}
	}
	return w.Close()
}

// row draws and encodes one picture.
func row(set *demodata.Set, o Options, i int64) (table.Row, error) {
	p := set.Row(i)
	label, s := int64(p.Label), &table.Scene{Caption: p.Caption}
	r := table.Row{ID: fmt.Sprintf("%s-%08d", o.Split, i), Label: &label, Width: p.Size, Height: p.Size, Status: "ok", Scene: s}
	r.Path = r.ID + ".png"
	for _, e := range []struct {
		dst      *[]byte
		channels int
		pix      []uint8
	}{{&r.Image, 3, p.RGB}, {&s.Mask, 1, p.Mask}, {&s.Segmentation, 1, p.Labels}} {
		var b bytes.Buffer
		f := &picture.Frame{W: p.Size, H: p.Size, Channels: e.channels, Pix8: e.pix}
		if err := picture.Encode(&b, f, picture.EncodeOptions{Format: picture.PNG}); err != nil {
			return r, err
		}
		*e.dst = b.Bytes()
	}
	for _, t := range p.Objects {
		s.Boxes, s.Categories = append(s.Boxes, t.Box), append(s.Categories, int64(t.Class))
	}
	return r, nil
}

// writeGrid draws a line of pictures for every class.
func writeGrid(out io.Writer, set *demodata.Set, rows int64, size int) error {
	const columns, gap = 12, 2
	n := len(demodata.Classes)
	step := size + gap
	f := picture.NewFrame(columns*step+gap, n*step+gap, 3, 8)
	for i := range f.Pix8 {
		f.Pix8[i] = 255
	}
	seen := make([]int, n)
	for i := range min(rows, int64(columns*n)) {
		p := set.Row(i)
		x0, y0 := gap+seen[p.Label]*step, gap+p.Label*step
		seen[p.Label]++
		for y := range size {
			copy(f.Pix8[3*((y0+y)*f.W+x0):], p.RGB[3*y*size:3*(y+1)*size])
		}
	}
	return picture.Encode(out, f, picture.EncodeOptions{Format: picture.PNG, Level: picture.Small})
}
