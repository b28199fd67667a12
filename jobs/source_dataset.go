package jobs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/ldm-batch/ldm-batch/io/dataset"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/tree"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// datasetSource reads images from files.
type datasetSource struct {
	ds       *dataset.Dataset
	files    []dataset.FileInfo
	features dataset.Features
	passed   int      // columns that go to the output; those behind them are the task's
	blanks   int      // columns of the output behind those, for the task to fill
	names    []string // names of the rows' files in an image tree, nil without
}

// wanted is what a task reads of a row.
type wanted struct {
	image  bool     // the image itself; rows without one fail
	images []string // columns of further images
	values []string // columns of other values
}

func openDataset(ctx context.Context, in spec.Input, lim spec.Limits, w wanted) (*datasetSource, error) {
	// A column can be passed on and read by the task as well.
	columns := slices.Clone(in.Columns)
	for _, c := range w.values {
		if !slices.Contains(columns, c) {
			columns = append(columns, c)
		}
	}
	ds, err := dataset.Open(ctx, dataset.Spec{
		Path: in.Path, Image: in.Image, NoImage: !w.image, Images: w.images, ID: in.ID, Label: in.Label, Columns: columns, Limit: int64(in.Limit), AllowPaths: in.AllowPaths,
	}, dataset.Limits{Memory: int64(lim.Memory)})
	if err != nil {
		return nil, fmt.Errorf("input: %w", err)
	}
	return &datasetSource{ds: ds, files: ds.Files(), features: ds.Features(), passed: len(in.Columns)}, nil
}

// value is the value of a task's column in a row.
func (s *datasetSource) value(values []any, column string) any {
	for i, c := range s.features.Columns {
		if c.Name == column && i < len(values) {
			return values[i]
		}
	}
	return nil
}

// nameRows gives every row the name of its file in an image tree. It reads the names of the whole input, in every shard alike, since
// they must be told apart.
func (s *datasetSource) nameRows(ctx context.Context, format string) error {
	list := make([]string, 0, s.rows())
	for n, err := range s.ds.Names(ctx, 0, s.rows()) {
		if err != nil {
			return fmt.Errorf("input: %w", err)
		}
		list = append(list, cmp.Or(n.Path, n.ID))
	}
	s.names = tree.Names(list, format)
	return nil
}

func (s *datasetSource) rows() int64 { return s.ds.NumRows() }

// identity is each file's name, size, rows and footer hash; the folder it lies in does not matter.
func (s *datasetSource) identity() any {
	type file struct {
		Name   string `json:"name"`
		Size   int64  `json:"size"`
		Footer string `json:"footer_sha256"`
		Rows   int64  `json:"rows"`
	}
	var files []file
	for _, f := range s.files {
		files = append(files, file{f.Name, f.Size, f.FooterSHA256, f.Rows})
	}
	return files
}

func (s *datasetSource) read(ctx context.Context, from, to int64) iter.Seq2[*item, error] {
	return func(yield func(*item, error) bool) {
		for r, err := range s.ds.Rows(ctx, from, to) {
			if err != nil {
				yield(nil, fmt.Errorf("input: %w", err))
				return
			}
			if !yield(s.item(r), nil) {
				return
			}
		}
	}
}

func (s *datasetSource) item(r dataset.Row) *item {
	it := &item{
		row:    part.Row{ID: r.ID, Label: r.Label, HasLabel: s.features.Label != "" && r.LabelErr == nil},
		where:  s.files[r.File].Where(r),
		raw:    r.Image,
		number: r.Index,
		given:  given{images: r.Images, values: r.Values},
	}
	it.row.ImagePath = cmp.Or(r.Path, r.ID)
	if s.names != nil {
		it.row.ImagePath = s.names[r.Index]
	}
	if !r.HasLabel && r.LabelErr == nil {
		it.row.Label = -1
	}
	for i, v := range r.Values[:min(s.passed, len(r.Values))] {
		it.row.Extra = append(it.row.Extra, extra(s.features.Columns[i], v))
	}
	it.row.Extra = append(it.row.Extra, make([]any, s.blanks)...)
	if r.Err != nil {
		reason := string(dataset.ClassOf(r.Err))
		cause := r.Err
		var e *dataset.Error
		if errors.As(r.Err, &e) { // the item says where by itself
			cause = fmt.Errorf("column %s: %w", e.Column, e.Err)
		}
		it.fail(reason, cause)
	}
	return it
}

// columns describes the passed-through columns in the form of parts.
func (s *datasetSource) columns() []part.Column {
	var cs []part.Column
	for _, c := range s.features.Columns[:s.passed] {
		cs = append(cs, part.Column{Name: c.Name, Type: columnType(c)})
	}
	return cs
}

func columnType(c dataset.Column) part.Type {
	if c.List {
		return part.String
	}
	switch c.Kind {
	case dataset.KindBool:
		return part.Bool
	case dataset.KindInt:
		return part.Int64
	case dataset.KindFloat:
		return part.Float64
	case dataset.KindBytes:
		return part.Binary
	}
	return part.String
}

// extra converts a value to its column's type; what has no type of its own in a part is written as text.
func extra(c dataset.Column, v any) any {
	switch x := v.(type) {
	case nil:
		return nil
	case time.Time:
		return x.Format(time.RFC3339Nano)
	default:
		if columnType(c) == part.String {
			if s, ok := v.(string); ok {
				return s
			}
			if b, err := json.Marshal(v); err == nil { // lists and structs
				return string(b)
			}
			return fmt.Sprint(v) // with numbers that JSON does not have
		}
		return v
	}
}
