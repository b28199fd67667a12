package inspect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/ldm-batch/ldm-batch/io/dataset"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/stats"
)

// Arrow describes an Arrow file or stream that is no checked part: what it holds, and how a job would read it.
type Arrow struct {
	Stream     bool          `json:"stream"` // no footer
	Ended      bool          `json:"ended"`  // false: a stream without an end mark
	Rows       int64         `json:"rows"`
	Batches    int           `json:"batches"`
	Columns    []ArrowColumn `json:"columns"`
	Metadata   [][2]string   `json:"metadata,omitempty"`
	Image      string        `json:"image,omitempty"` // detected columns
	Label      string        `json:"label,omitempty"`
	Text       string        `json:"text,omitempty"`
	ClassNames []string      `json:"class_names,omitempty"`
	Warnings   []string      `json:"warnings,omitempty"`
	Problem    string        `json:"problem,omitempty"` // why no job could read it as images
}

// ArrowColumn is a column of the schema.
type ArrowColumn struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Nullable bool   `json:"nullable,omitempty"`
}

// Statistics describes a file of package io/stats.
type Statistics struct {
	Origin map[string]string `json:"origin"` // of the features: protocol, resize, extractor, extractor_sha256, class_table, input_sha256
	Sets   []StatisticsSet   `json:"sets"`
}

// StatisticsSet is one set of pictures by one tap of the network.
type StatisticsSet struct {
	Tap      string `json:"tap"`
	Features int64  `json:"features"`
	Class    *int64 `json:"class"` // null: all pictures
	Rows     int64  `json:"rows"`
}

// formatKey says in the metadata of a schema what the file is.
const formatKey = "ldm.format"

// openArrow tells parts and statistics from other Arrow files. A part is opened as such when a journal beside it vouches for it, or
// when it is trusted; otherwise it is described with the reader of foreign files.
func (f *File) openArrow(ctx context.Context, trust bool) error {
	entry, err := journalEntry(f.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if entry != nil {
		f.Kind = KindPart
		f.Part, err = openPart(f.Path, entry)
		return err
	}
	info, err := dataset.DescribeArrow(f.Path, dataset.Limits{})
	if err != nil {
		return err
	}
	format := ""
	for _, m := range info.Metadata {
		if m[0] == formatKey {
			format = m[1]
		}
	}
	switch {
	case format == strconv.Itoa(part.Format) && trust:
		f.Kind = KindPart
		f.Part, err = openPart(f.Path, nil)
	case format == stats.Format:
		f.Kind = KindStatistics
		f.Statistics, err = describeStatistics(ctx, f.Path, info)
	default:
		f.Kind = KindArrow
		f.Arrow, err = describeArrow(ctx, f.Path, info)
		if err == nil && format == strconv.Itoa(part.Format) {
			f.Arrow.Warnings = append(f.Arrow.Warnings, "part of a job's results without its journal, so that its sha256 is not known; --trust-input counts its failed rows")
		}
	}
	return err
}

func describeArrow(ctx context.Context, path string, info *dataset.ArrowInfo) (*Arrow, error) {
	a := &Arrow{Stream: info.Stream, Ended: info.Ended, Rows: info.Rows, Batches: info.Batches, Metadata: info.Metadata}
	for _, c := range info.Columns {
		a.Columns = append(a.Columns, ArrowColumn(c))
	}
	d, err := dataset.Open(ctx, dataset.Spec{Path: path}, dataset.Limits{})
	switch {
	case err == nil:
		f := d.Features()
		a.Image, a.Label, a.Text, a.ClassNames, a.Warnings = f.Image, f.Label, f.Text, f.ClassNames, d.Warnings()
	case dataset.ClassOf(err) == "":
		return nil, err
	default: // still a file that can be described
		a.Problem = err.Error()
	}
	return a, nil
}

// describeStatistics reads what every set is, by the reader of foreign files.
func describeStatistics(ctx context.Context, path string, info *dataset.ArrowInfo) (*Statistics, error) {
	s := &Statistics{Origin: map[string]string{}, Sets: []StatisticsSet{}}
	for _, m := range info.Metadata {
		if key, ok := strings.CutPrefix(m[0], "ldm."); ok && m[0] != formatKey {
			s.Origin[key] = m[1]
		}
	}
	d, err := dataset.Open(ctx, dataset.Spec{Path: path, NoImage: true, Columns: []string{"tap", "features", "class", "rows"}}, dataset.Limits{})
	if err != nil {
		return nil, err
	}
	for row, err := range d.Rows(ctx, 0, d.NumRows()) {
		if err != nil {
			return nil, err
		}
		var set StatisticsSet
		set.Tap, _ = row.Values[0].(string)
		set.Features, _ = row.Values[1].(int64)
		if c, ok := row.Values[2].(int64); ok {
			set.Class = &c
		}
		set.Rows, _ = row.Values[3].(int64)
		s.Sets = append(s.Sets, set)
	}
	return s, nil
}

func (a *Arrow) write(b *strings.Builder) {
	form := "file"
	if a.Stream {
		form = "stream"
	}
	fmt.Fprintf(b, "%s of %d rows in %d batches\n", form, a.Rows, a.Batches)
	if !a.Ended {
		b.WriteString("no end mark: whether rows are missing cannot be told\n")
	}
	if a.Problem != "" {
		fmt.Fprintf(b, "not usable as images: %s\n", a.Problem)
	} else {
		fmt.Fprintf(b, "image column %q, label column %q, text column %q\n", a.Image, a.Label, a.Text)
	}
	writeNames(b, a.ClassNames)
	for _, c := range a.Columns {
		fmt.Fprintf(b, "column %s: %s", c.Name, c.Type)
		if c.Nullable {
			b.WriteString(", nullable")
		}
		b.WriteByte('\n')
	}
	for _, m := range a.Metadata {
		fmt.Fprintf(b, "metadata %s: %s\n", m[0], short(m[1]))
	}
	for _, w := range a.Warnings {
		fmt.Fprintf(b, "warning: %s\n", w)
	}
}

// short cuts long values, such as the schemas that other libraries keep beside the file's own. JSON has them all.
func short(s string) string {
	const most = 300
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

func (s *Statistics) write(b *strings.Builder) {
	fmt.Fprintf(b, "statistics of features, %d sets\n", len(s.Sets))
	for _, k := range []string{"protocol", "resize", "extractor", "extractor_sha256", "class_table", "input_sha256"} {
		if v := s.Origin[k]; v != "" {
			fmt.Fprintf(b, "%s: %s\n", k, v)
		}
	}
	for i, set := range s.Sets {
		switch {
		case i == shownNames:
			fmt.Fprintf(b, "and %d more sets\n", len(s.Sets)-i)
			return
		case set.Class == nil:
			fmt.Fprintf(b, "%s, %d features, all pictures: %d\n", set.Tap, set.Features, set.Rows)
		default:
			fmt.Fprintf(b, "%s, %d features, class %d: %d pictures\n", set.Tap, set.Features, *set.Class, set.Rows)
		}
	}
}
