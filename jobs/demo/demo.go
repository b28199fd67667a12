package demo

import (
	"cmp"
	"context"
	"embed"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/demodata"
	"github.com/ldm-batch/ldm-batch/jobs/scoring"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

//go:embed jobs/*.yaml
var jobFiles embed.FS

// The data: pictures that no model was trained on, since splits have none in common.
const (
	split = "demo"
	rows  = 500 // unless Options say otherwise
	size  = 64
	seed  = 1
)

// Options say how the demonstration is run.
type Options struct {
	Dir       string // everything is written below it
	Overwrite bool   // make results of other models or job files anew instead of refusing
	Log       *slog.Logger
	Progress  *jobs.Progress
	Args      []string

	rows     int64                     // pictures of the data set; 0 is the usual number
	settings map[string][]spec.Setting // layered on the job files of these names
}

// Schema names the layout of [Result].
const Schema = "ldm-batch/demo/v1"

// Result says what was made.
type Result struct {
	Schema  string  `json:"schema"`
	Page    string  `json:"page"`
	Seconds float64 `json:"seconds"`
	Steps   []Step  `json:"steps"`
	Scores  []Score `json:"scores"`
}

// Step is one job.
type Step struct {
	File    string  `json:"file"` // of the job
	Rows    int64   `json:"rows"`
	Seconds float64 `json:"seconds"`
}

// Score is one number of the page.
type Score struct {
	Of    string  `json:"of"`
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
	Rows  int64   `json:"rows"`
}

// Text is the result for people.
func (r *Result) Text() string {
	var b strings.Builder
	for _, s := range r.Scores {
		fmt.Fprintf(&b, "%-22s %-22s %8s   %d pictures\n", s.Of, s.Name, s.text(), s.Rows)
	}
	fmt.Fprintf(&b, "%s, after %.0f s\n", r.Page, r.Seconds)
	return b.String()
}

func (s Score) text() string {
	switch s.Unit {
	case "%":
		return fmt.Sprintf("%.1f %%", 100*s.Value)
	case "dB":
		return fmt.Sprintf("%.2f dB", s.Value)
	}
	return fmt.Sprintf("%.3f", s.Value)
}

// Run makes what the folder still lacks, and the page.
func Run(ctx context.Context, o Options) (*Result, error) {
	began := time.Now()
	r := &Result{Schema: Schema, Page: filepath.Join(o.Dir, "index.html")}
	if err := writeModels(filepath.Join(o.Dir, "models")); err != nil {
		return nil, err
	}
	if err := writeData(ctx, filepath.Join(o.Dir, "data"), cmp.Or(o.rows, rows)); err != nil {
		return nil, err
	}
	files, err := writeJobs(filepath.Join(o.Dir, "jobs"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		step, err := o.run(ctx, file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		o.Log.Info("step", "job", file, "rows", step.Rows, "seconds", step.Seconds)
		r.Steps = append(r.Steps, step)
	}
	p, err := collect(ctx, o.Dir, files)
	if err != nil {
		return nil, err
	}
	r.Scores = p.Scores
	w := atomicfile.Writer{TempDir: o.Dir}
	if err := w.Replace(r.Page, p.write, nil); err != nil {
		return nil, err
	}
	r.Seconds = time.Since(began).Seconds()
	return r, nil
}

// writeData draws the pictures unless they are there: files appear under their names when they are complete.
func writeData(ctx context.Context, dir string, rows int64) error {
	if found, err := filepath.Glob(filepath.Join(dir, split+"-*.parquet")); err != nil || len(found) > 0 {
		return err
	}
	_, err := demodata.Write(ctx, dir, demodata.Options{Rows: rows, Size: size, Seed: seed, Split: split, Objects: 1})
	return err
}

// writeJobs writes the job files and returns their paths in order.
func writeJobs(dir string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, exitcode.With(exitcode.IO, err)
	}
	entries, err := jobFiles.ReadDir("jobs")
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		data, err := jobFiles.ReadFile("jobs/" + e.Name())
		if err != nil {
			return nil, err
		}
		file := filepath.Join(dir, e.Name())
		if err := (atomicfile.Writer{TempDir: dir}).Replace(file, atomicfile.Bytes(data), nil); err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// run runs one job, of which perhaps nothing is left to do.
func (o Options) run(ctx context.Context, file string) (Step, error) {
	job, err := spec.LoadFile(file, nil, o.settings[filepath.Base(file)])
	if err != nil {
		return Step{}, err
	}
	options := jobs.RunOptions{Overwrite: o.Overwrite, Progress: o.Progress, Args: o.Args}
	if job.Kind == "Eval" {
		e, err := scoring.Prepare(ctx, job, o.Log)
		if err != nil {
			return Step{}, err
		}
		defer e.Close()
		r, err := e.Run(ctx, options)
		if err != nil {
			return Step{}, err
		}
		return Step{File: file, Rows: r.Rows, Seconds: r.Seconds}, nil
	}
	p, err := jobs.Prepare(ctx, job, jobs.PrepareOptions{Log: o.Log})
	if err != nil {
		return Step{}, err
	}
	defer p.Close()
	r, err := p.Run(ctx, options)
	if err != nil {
		return Step{}, err
	}
	return Step{File: file, Rows: r.Rows, Seconds: r.Seconds}, nil
}
