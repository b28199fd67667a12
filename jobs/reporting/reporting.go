package reporting

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/eval/report"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/scoring"
)

// Format is a kind of file that a report is written as.
type Format string

// The formats.
const (
	HTML     Format = "html"
	Markdown Format = "md"
	JSON     Format = "json"
)

var names = map[Format]string{HTML: scoring.PageName, Markdown: scoring.MarkdownName, JSON: scoring.ReportName}

// Options say what is written where.
type Options struct {
	// Output is a folder, which is made if need be, or a file whose name ends with a format. Empty is the folder of the newest run.
	Output string
	// Formats are what is written; nil is what Output ends with, or HTML and Markdown.
	Formats []Format
}

// Result says what was made of what.
type Result struct {
	Schema string   `json:"schema"` // ldm-batch/reports/v1
	Newest string   `json:"newest"` // the report.json that the report is made of
	Files  []string `json:"files"`
	Runs   []Run    `json:"runs"` // the oldest first
}

// Run is one line of the history.
type Run struct {
	File    string         `json:"file"`
	Name    string         `json:"name"`
	When    string         `json:"when"`
	Scores  []report.Score `json:"scores"`
	Differs string         `json:"differs,omitempty"` // why its scores do not compare with those of the newest
}

// Make writes the report of the newest of the evaluations that paths name: output folders, files, or patterns of either. If there
// are several, the others are its history.
func Make(ctx context.Context, paths []string, o Options) (*Result, error) {
	if len(paths) == 0 {
		return nil, exitcode.Errorf(exitcode.Usage, "no evaluation is named")
	}
	target, err := o.target()
	if err != nil {
		return nil, err
	}
	list, err := find(ctx, paths)
	if err != nil {
		return nil, err
	}
	newest := list[len(list)-1]
	name(list)
	if len(list) > 1 { // else what it has of a history stays
		var earlier []*report.Result
		for _, f := range list[:len(list)-1] {
			earlier = append(earlier, f.result)
		}
		newest.result.Since(earlier)
	}
	r := &Result{Schema: "ldm-batch/reports/v1", Newest: newest.file}
	for i, f := range list {
		run := Run{File: f.file, Name: f.result.Name, When: f.result.When, Scores: f.result.Scores}
		if i < len(list)-1 {
			run.Differs = newest.result.History[i].Differs
		}
		r.Runs = append(r.Runs, run)
	}
	r.Files, err = target.write(newest)
	return r, err
}

// name tells runs of one name apart by their folders.
func name(list []found) {
	n := map[string]int{}
	for _, f := range list {
		n[f.result.Name]++
	}
	for _, f := range list {
		folder := filepath.Base(f.dir)
		if n[f.result.Name] > 1 && folder != f.result.Name {
			f.result.Name += " in " + folder
		}
	}
}

// target is where files go: one file, or a folder.
type target struct {
	file, dir string
	formats   []Format
}

func (o Options) target() (t target, err error) {
	for _, f := range o.Formats {
		if names[f] == "" {
			return t, exitcode.Errorf(exitcode.Usage, "format %q is not one of html, md, json", f)
		}
		if !slices.Contains(t.formats, f) {
			t.formats = append(t.formats, f)
		}
	}
	by := Format(strings.TrimPrefix(filepath.Ext(o.Output), "."))
	info, err := os.Stat(o.Output)
	folder := err == nil && info.IsDir()
	switch {
	case names[by] != "" && !folder:
		if t.formats != nil && !slices.Equal(t.formats, []Format{by}) {
			return t, exitcode.Errorf(exitcode.Usage, "output %s is one file of format %s; other formats need a folder", o.Output, by)
		}
		t.file, t.formats = o.Output, []Format{by}
		return t, nil
	case err == nil && !folder:
		return t, exitcode.Errorf(exitcode.Usage, "output %s is a file whose name does not end with .html, .md or .json", o.Output)
	}
	if t.dir = o.Output; t.formats == nil {
		t.formats = []Format{HTML, Markdown}
	}
	return t, nil
}

// write writes the report in every format, and says into which files.
func (t target) write(f found) (files []string, err error) {
	dir := t.dir
	if dir == "" {
		dir = f.dir
	}
	for _, format := range t.formats {
		file := t.file
		if file == "" {
			file = filepath.Join(dir, names[format])
		}
		var b bytes.Buffer
		if err := map[Format]func(io.Writer) error{HTML: f.result.HTML, Markdown: f.result.Markdown, JSON: f.result.JSON}[format](&b); err != nil {
			return files, fmt.Errorf("%s: %w", file, err)
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			return files, exitcode.With(exitcode.IO, err)
		}
		if err := jobs.WriteFile(file, b.Bytes()); err != nil {
			return files, exitcode.With(exitcode.IO, fmt.Errorf("%s: %w", file, err))
		}
		files = append(files, file)
	}
	return files, nil
}

// Text is the result for people.
func (r *Result) Text() string {
	var b strings.Builder
	for _, run := range r.Runs {
		s := run.Scores[0]
		m := report.MetricOf(s.Metric)
		fmt.Fprintf(&b, "%s  %s: %s %s", run.When, run.Name, s.Label, m.Text(s.Value))
		if s.Interval != nil {
			fmt.Fprintf(&b, " (%s to %s)", m.Text(s.Interval.Low), m.Text(s.Interval.High))
		}
		fmt.Fprintf(&b, ", N %d", s.GeneratedRows)
		if run.Differs != "" {
			fmt.Fprintf(&b, "; does not compare: %s", run.Differs)
		}
		b.WriteByte('\n')
	}
	for _, f := range r.Files {
		fmt.Fprintf(&b, "wrote %s\n", f)
	}
	return b.String()
}
