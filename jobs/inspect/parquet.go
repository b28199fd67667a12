package inspect

import (
	"context"
	"fmt"
	"strings"

	"github.com/ldm-batch/ldm-batch/io/dataset"
	"github.com/ldm-batch/ldm-batch/io/table"
)

// Parquet describes a dataset as a job would read it.
type Parquet struct {
	Rows       int64          `json:"rows"`
	Files      []ParquetFile  `json:"files"`
	Image      string         `json:"image,omitempty"` // detected columns
	Label      string         `json:"label,omitempty"`
	Text       string         `json:"text,omitempty"`
	ClassNames []string       `json:"class_names,omitempty"`
	Columns    []table.Column `json:"columns,omitempty"` // the stored schema of one file
	CreatedBy  string         `json:"created_by,omitempty"`
	Warnings   []string       `json:"warnings,omitempty"`
	Problem    string         `json:"problem,omitempty"` // why no job could read it as images
}

// ParquetFile is one file.
type ParquetFile struct {
	Name      string `json:"name"`
	Bytes     int64  `json:"bytes"`
	Rows      int64  `json:"rows"`
	RowGroups int    `json:"row_groups"`
}

// openParquet describes a path; file is a single file whose schema is listed, or "".
func openParquet(ctx context.Context, path, file string) (*Parquet, error) {
	p := &Parquet{}
	d, err := dataset.Open(ctx, dataset.Spec{Path: path}, dataset.Limits{})
	switch dataset.ClassOf(err) {
	case "":
		if err != nil {
			return nil, err
		}
	case dataset.SchemaNoImage, dataset.SchemaAmbiguous: // still a table that can be described
		p.Problem = err.Error()
	default:
		return nil, err
	}
	if d != nil && err == nil {
		features := d.Features()
		p.Rows, p.Image, p.Label, p.Text, p.ClassNames, p.Warnings = d.NumRows(), features.Image, features.Label, features.Text, features.ClassNames, d.Warnings()
		for _, f := range d.Files() {
			p.Files = append(p.Files, ParquetFile{f.Name, f.Size, f.Rows, f.RowGroups})
			if file == "" && strings.HasSuffix(f.Name, ".parquet") {
				file = f.Path
			}
		}
	}
	if file == "" {
		if p.Problem != "" {
			return nil, err
		}
		return p, nil
	}
	info, err := table.Describe(file)
	if err != nil {
		return nil, err
	}
	p.Columns, p.CreatedBy = info.Columns, info.CreatedBy
	if p.Problem != "" {
		p.Rows = info.Rows
	}
	return p, nil
}

// shownFiles and shownNames bound the text; JSON has them all.
const shownFiles, shownNames = 10, 20

func (p *Parquet) write(b *strings.Builder) {
	fmt.Fprintf(b, "%d rows in %d files\n", p.Rows, max(len(p.Files), 1))
	if p.Problem != "" {
		fmt.Fprintf(b, "not usable as images: %s\n", p.Problem)
	} else {
		fmt.Fprintf(b, "image column %q, label column %q, text column %q\n", p.Image, p.Label, p.Text)
	}
	writeNames(b, p.ClassNames)
	for i, f := range p.Files {
		if i == shownFiles {
			fmt.Fprintf(b, "and %d more files\n", len(p.Files)-i)
			break
		}
		fmt.Fprintf(b, "%s: %d rows in %d row groups, %d bytes\n", f.Name, f.Rows, f.RowGroups, f.Bytes)
	}
	for _, c := range p.Columns {
		fmt.Fprintf(b, "column %s: %s", c.Name, c.Type)
		if c.Optional {
			b.WriteString(", optional")
		}
		if c.Repeated {
			b.WriteString(", repeated")
		}
		b.WriteByte('\n')
	}
	if p.CreatedBy != "" {
		fmt.Fprintf(b, "created by %s\n", p.CreatedBy)
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(b, "warning: %s\n", w)
	}
}

// writeNames lists the first names of classes.
func writeNames(b *strings.Builder, names []string) {
	n := len(names)
	if n == 0 {
		return
	}
	fmt.Fprintf(b, "%d classes: %s", n, strings.Join(names[:min(n, shownNames)], ", "))
	if n > shownNames {
		b.WriteString(", ...")
	}
	b.WriteByte('\n')
}
