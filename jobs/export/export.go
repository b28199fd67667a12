package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/tree"
)

// Format is the form of the output.
type Format string

// The formats.
const (
	PNG     Format = "png"     // a folder of PNG files
	JPEG    Format = "jpeg"    // a folder of JPEG files
	Tar     Format = "tar"     // one tar file: for each row the image as it is stored, and a .json beside it
	Parquet Format = "parquet" // a folder with data/train-*.parquet
)

var formats = []Format{PNG, JPEG, Tar, Parquet}

// Options choose the output.
type Options struct {
	Format  Format
	Quality int // of JPEG files that have to be encoded; 0 means 95
}

// Result describes what was written.
type Result struct {
	Schema string      `json:"schema"` // ldm-batch/export/v1
	Dir    string      `json:"dir"`
	Out    string      `json:"out"`
	Format Format      `json:"format"`
	Rows   int64       `json:"rows"`
	Images int64       `json:"images"`
	Failed int64       `json:"failed"` // rows without an image, skipped ones included
	Errors []FailedRow `json:"errors,omitempty"`
}

// FailedRow is a row without an image.
type FailedRow struct {
	Row    int64  `json:"row"`
	ID     string `json:"id"`
	Status string `json:"status"`
	Error  string `json:"error"`
}

// shownErrors is how many failed rows the result holds; the output lists all.
const shownErrors = 20

// record is a row on its way to a sink.
type record struct {
	index int64
	name  string // unique, without extension
	row   part.Row
}

// sink is an output being written.
type sink interface {
	add(record) error
	// finish completes the output; failed lists the rows without image.
	finish(failed []FailedRow) error
}

// Export writes the images of the finished run in dir to out, which must not exist.
func Export(ctx context.Context, dir, out string, o Options) (_ *Result, err error) {
	if !slices.Contains(formats, o.Format) {
		return nil, exitcode.Errorf(exitcode.Usage, "format %q is not one of png, jpeg, tar, parquet", o.Format)
	}
	if o.Quality == 0 {
		o.Quality = 95
	}
	if o.Quality < 1 || o.Quality > 100 {
		return nil, exitcode.Errorf(exitcode.Usage, "quality %d is not in 1..100", o.Quality)
	}
	if _, err := os.Lstat(out); err == nil {
		return nil, exitcode.Errorf(exitcode.Usage, "%s exists", out)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	m, err := commit.ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	schema, err := imageSchema(dir, m)
	if err != nil {
		return nil, err
	}
	r := &Result{Schema: "ldm-batch/export/v1", Dir: dir, Out: out, Format: o.Format}
	err = staged(out, func(tmp string) error {
		s, done, err := newSink(tmp, o, m, schema)
		if err != nil {
			return err
		}
		return errors.Join(copyRows(ctx, dir, m, s, r), done())
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// staged writes under a temporary name beside out and gives it its name when it is complete.
func staged(out string, write func(tmp string) error) (err error) {
	tmp, err := os.MkdirTemp(filepath.Dir(out), ".ldm-batch-export-*")
	if err != nil {
		return exitcode.With(exitcode.IO, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	inner := filepath.Join(tmp, "out")
	if err := write(inner); err != nil {
		return err
	}
	return os.Rename(inner, out)
}

func newSink(path string, o Options, m commit.Manifest, s part.Schema) (sink, func() error, error) {
	switch o.Format {
	case Tar:
		return newTarSink(path)
	case Parquet:
		return newParquetSink(path, m, s)
	}
	return newFileSink(path, o)
}

// imageSchema is the schema of the parts, which must hold images.
func imageSchema(dir string, m commit.Manifest) (part.Schema, error) {
	if len(m.Parts) == 0 {
		return part.Schema{Image: true}, nil
	}
	r, err := openPart(dir, m.Parts[0])
	if err != nil {
		return part.Schema{}, err
	}
	defer r.Close()
	if s := r.Schema(); s.Image || s.Files {
		return s, nil
	}
	return part.Schema{}, exitcode.Errorf(exitcode.Data, "%s: its parts hold latents and no images", dir)
}

func openPart(dir string, p commit.ManifestPart) (*part.Reader, error) {
	name := filepath.FromSlash(p.File)
	if !filepath.IsLocal(name) {
		return nil, exitcode.Errorf(exitcode.Data, "%s: manifest names the part %q", dir, p.File)
	}
	return part.Open(filepath.Join(dir, name), p.Expect())
}

// copyRows hands every row to the sink, in order.
func copyRows(ctx context.Context, dir string, m commit.Manifest, s sink, r *Result) error {
	names := newNamer()
	var failed []FailedRow
	for _, p := range m.Parts {
		if err := copyPart(ctx, dir, p, func(row part.Row) error {
			rec := record{index: r.Rows, name: names.name(row.ID, r.Rows), row: row}
			r.Rows++
			if row.Status != part.OK || row.Image == nil {
				r.Failed++
				failed = append(failed, FailedRow{rec.index, row.ID, string(row.Status), row.Error})
			} else {
				r.Images++
			}
			return s.add(rec)
		}); err != nil {
			return fmt.Errorf("%s: %w", p.File, err)
		}
	}
	r.Errors = failed[:min(len(failed), shownErrors)]
	return s.finish(failed)
}

func copyPart(ctx context.Context, dir string, p commit.ManifestPart, add func(part.Row) error) error {
	r, err := openPart(dir, p)
	if err != nil {
		return err
	}
	defer r.Close()
	inTree := r.Schema().Files
	for row, err := range r.Rows() {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err == nil && inTree && row.Status == part.OK {
			row.Image, err = tree.File{Path: row.ImagePath, Bytes: row.FileBytes, SHA256: row.FileSHA256}.Read(dir)
		}
		if err == nil {
			err = add(row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Text is the result for people.
func (r *Result) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d images of %d rows as %s, %d without image\n", r.Out, r.Images, r.Rows, r.Format, r.Failed)
	for _, e := range r.Errors {
		fmt.Fprintf(&b, "row %d (%s): %s\n", e.Row, e.ID, e.Error)
	}
	if int64(len(r.Errors)) < r.Failed {
		b.WriteString("the output lists the others\n")
	}
	return b.String()
}
