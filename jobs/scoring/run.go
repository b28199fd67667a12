package scoring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ldm-batch/ldm-batch/eval/measure"
	"github.com/ldm-batch/ldm-batch/eval/report"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// Result is what a run reports.
type Result struct {
	jobs.Result
	Details []report.Score `json:"details,omitempty"` // the scores with their uncertainty
}

// Run writes the parts that the folder lacks and, when none is missing, the scores. The result is complete on failure too.
func (e *Evaluation) Run(ctx context.Context, o jobs.RunOptions) (*Result, error) {
	started := time.Now()
	r := &Result{Result: jobs.Result{
		Job: e.job.Metadata.Name, Kind: "Eval", Output: e.job.Spec.Output.Path, Fingerprint: e.plan.Fingerprint,
		Device: e.backend.Name(), Warnings: e.record.Warnings,
	}}
	err := e.run(ctx, o, r, started)
	r.conclude(err, started)
	return r, err
}

// conclude fills in what follows from an error. A condition that is met changes the exit code and not the state: all is written.
func (r *Result) conclude(err error, started time.Time) {
	state := r.State
	r.Conclude(err, started)
	if gate := (*gateError)(nil); errors.As(err, &gate) {
		r.State = state
	}
}

func (e *Evaluation) run(ctx context.Context, o jobs.RunOptions, r *Result, started time.Time) (err error) {
	s := &e.job.Spec
	folder, err := o.Open(ctx, s.Output.Path, e.plan, e.backend.Name())
	if folder == nil {
		r.State = "nothing"
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	if err := e.record.write(s.Output.Path); err != nil {
		return err
	}
	run := &runner{Evaluation: e, folder: folder, batch: s.Compute.Batch, progress: o.Progress}
	if e.job.Origins["spec.limits.max_bad_rows"] != "" { // else none may fail: scores of fewer pictures are other scores
		run.budget = s.Limits.MaxBadRows.Rows(e.plan.Rows)
	}
	pending := folder.Pending()
	lo, hi := folder.Range()
	for i := lo; i < hi; i++ {
		if entry, ok := folder.Entry(i); ok {
			run.failed += entry.Failed
		}
	}
	if len(pending) > 0 {
		todo := int64(0)
		for _, i := range pending {
			todo += e.plan.Parts[i].Rows
		}
		o.Progress.Begin(todo)
		err = run.run(ctx)
		o.Progress.End()
	}
	for i := lo; i < hi; i++ {
		if entry, ok := folder.Entry(i); ok {
			r.Parts++
			r.Rows, r.OK, r.Failed = r.Rows+entry.Rows, r.OK+entry.OK, r.Failed+entry.Failed
		}
	}
	r.PartsDone = len(pending) - len(folder.Pending())
	r.Stages = map[string]float64{"wait": run.waited.Seconds(), "compute": run.busy.Seconds()}
	if err == nil {
		err = e.finish(ctx, r, len(pending) == 0)
	}
	outcome := *r
	outcome.conclude(err, started)
	return errors.Join(err, folder.EndRun(outcome.Result))
}

// finish scores the parts when all are there, those of other shards included.
func (e *Evaluation) finish(ctx context.Context, r *Result, nothing bool) error {
	dir := e.job.Spec.Output.Path
	st, err := commit.ReadStatus(dir)
	if err != nil {
		return err
	}
	if st.State == commit.Incomplete {
		r.State = "partial"
		return nil
	}
	start := time.Now()
	_, scoreErr := publish(ctx, dir, &e.record, r)
	r.Stages["score"] = time.Since(start).Seconds()
	r.State = "finished"
	if nothing && scoreErr == nil {
		r.State = "nothing"
	}
	return scoreErr
}

// publish scores a complete folder, writes the results, publishes the folder, and then looks at the conditions.
func publish(ctx context.Context, dir string, rec *record, r *Result) (commit.Manifest, error) {
	var m commit.Manifest
	out, scores, err := score(ctx, dir, rec)
	if err != nil {
		return m, err
	}
	r.Warnings, r.Details, r.Scores = out.Warnings, out.Scores, map[string]float64{}
	for _, s := range scores {
		if v := float64(s.Value); !math.IsInf(v, 0) && !math.IsNaN(v) {
			r.Scores[s.Key] = v
		}
	}
	for _, f := range []struct {
		name  string
		write func(io.Writer) error
	}{{ReportName, out.JSON}, {PageName, out.HTML}, {MarkdownName, out.Markdown}} {
		var b bytes.Buffer
		if err := f.write(&b); err != nil {
			return m, fmt.Errorf("%s: %w", f.name, err)
		}
		if err := jobs.WriteFile(filepath.Join(dir, f.name), b.Bytes()); err != nil {
			return m, exitcode.With(exitcode.IO, err)
		}
	}
	if m, err = commit.Finalize(ctx, dir); err != nil {
		return m, err
	}
	return m, gate(rec.Eval, scores)
}

// Files of the result: for programs, and the same for people.
const (
	ReportName   = "report.json"
	PageName     = "report.html"
	MarkdownName = "report.md"
)

// gateError is a condition that is met.
type gateError struct{ text string }

func (e *gateError) Error() string { return e.text }

// gate checks the conditions under which a job fails.
func gate(e spec.Eval, scores []measure.Keyed) error {
	var met []string
	for _, text := range e.FailIf {
		c, err := spec.ParseCondition(text)
		if err != nil {
			return exitcode.With(exitcode.Usage, err)
		}
		for _, s := range scores {
			if s.Key == e.Key(c.Metric) && c.Holds(float64(s.Value)) {
				met = append(met, fmt.Sprintf("%s is %g (fail_if %s)", s.Key, float64(s.Value), c))
			}
		}
	}
	if met == nil {
		return nil
	}
	return exitcode.With(exitcode.Data, &gateError{"quality gate: " + strings.Join(met, "; ")})
}

func recordPath(dir string) string { return filepath.Join(dir, ".ldm-batch", "evaluation.json") }

// write leaves the record for whoever scores the folder; every shard writes the same.
func (r *record) write(dir string) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return exitcode.With(exitcode.IO, jobs.WriteFile(recordPath(dir), append(b, '\n')))
}

// IsEvaluation says whether a folder is of kind Eval.
func IsEvaluation(dir string) bool {
	_, err := os.Stat(recordPath(dir))
	return err == nil
}

// Finalize scores and publishes a folder whose parts are all there, after the last shard. Missing parts are an error of class
// temporary.
func Finalize(ctx context.Context, dir string) (*Result, error) {
	started := time.Now()
	r := &Result{Result: jobs.Result{Kind: "Eval", Output: dir, State: "finished"}}
	b, err := os.ReadFile(recordPath(dir))
	if err != nil {
		return nil, err
	}
	var rec record
	if err := json.Unmarshal(b, &rec); err != nil || rec.Schema != recordSchema {
		return nil, exitcode.Errorf(exitcode.Data, "%s: no record of an evaluation of this version: %v", recordPath(dir), err)
	}
	r.Job = rec.Name
	st, err := commit.ReadStatus(dir)
	if err != nil {
		return nil, err
	}
	var m commit.Manifest
	if st.State == commit.Incomplete {
		_, err = commit.Finalize(ctx, dir) // says what is missing
	} else {
		m, err = publish(ctx, dir, &rec, r)
	}
	r.Fingerprint, r.Parts, r.Rows, r.OK, r.Failed = st.Fingerprint, m.Totals.Parts, m.Totals.Rows, m.Totals.OK, m.Totals.Failed
	r.conclude(err, started)
	return r, err
}

// Text is the result for people.
func (r *Result) Text() string {
	if r.State != "finished" && r.State != "nothing" || len(r.Details) == 0 {
		return r.Result.Text()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, %d rows in %d parts (%d failed), %.1f s\n", r.Output, r.State, r.Rows, r.Parts, r.Failed, r.Seconds)
	for _, s := range r.Details {
		fmt.Fprintf(&b, "%-24s %12.6g", s.Label, float64(s.Value))
		if s.StandardError != nil {
			fmt.Fprintf(&b, " +- %.2g", float64(*s.StandardError))
		}
		if s.Spread != nil {
			fmt.Fprintf(&b, " (sd %.3g over %s)", float64(s.Spread.SD), s.Spread.Of)
		}
		if s.Corrected != nil {
			fmt.Fprintf(&b, ", without the bias of few rows %.6g", float64(*s.Corrected))
		}
		fmt.Fprintf(&b, "; N %d", s.GeneratedRows)
		if s.ReferenceRows > 0 {
			fmt.Fprintf(&b, " against %d", s.ReferenceRows)
		}
		b.WriteByte('\n')
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return b.String()
}
