package jobs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/io/part"
)

// ResultSchema names the layout of [Result]. Fields may be added, never renamed.
const ResultSchema = "ldm-batch/result/v1"

// Result is what a run reports, on failure too.
type Result struct {
	Schema      string             `json:"schema"`
	Job         string             `json:"job,omitempty"`
	Kind        string             `json:"kind,omitempty"`
	Output      string             `json:"output,omitempty"`
	State       string             `json:"state"` // finished, partial (other shards remain), nothing, failed, stopped
	ExitCode    int                `json:"exit_code"`
	Retryable   bool               `json:"retryable"`
	Error       string             `json:"error,omitempty"`
	Fingerprint string             `json:"fingerprint,omitempty"`
	Rows        int64              `json:"rows"`    // of this run's parts, earlier runs included
	OK          int64              `json:"ok"`      //
	Skipped     int64              `json:"skipped"` //
	Failed      int64              `json:"failed"`  //
	Reasons     []part.Reason      `json:"reasons,omitempty"`
	Parts       int                `json:"parts"`      // finished parts of this run's share
	PartsDone   int                `json:"parts_done"` // written by this run
	Seconds     float64            `json:"seconds"`
	RowsPerSec  float64            `json:"rows_per_second,omitempty"`
	WaitShare   float64            `json:"wait_share"`              // share of the compute stage's time spent waiting for data
	Stages      map[string]float64 `json:"stage_seconds,omitempty"` // time by stage
	Counts      map[string]int64   `json:"counts,omitempty"`        // of what befell rows in this run, by name
	Scores      map[string]float64 `json:"scores,omitempty"`        // means over the rows of this run
	Reuse       *ReuseResult       `json:"reuse,omitempty"`         // of deep features; results are approximate
	Device      string             `json:"device,omitempty"`
	Warnings    []string           `json:"warnings,omitempty"`
}

// ReuseResult says what the reuse of features saved and cost, measured with the first batch of a run, which is made once more
// without.
type ReuseResult struct {
	ReusePlan
	RowsMeasured int     `json:"rows_measured"`
	Speedup      float64 `json:"speedup"`      // of the time in the U-Net
	RelL2        float64 `json:"rel_l2"`       // deviation of the latents: |approximation - exact| / |exact|
	WorstRelL2   float64 `json:"worst_rel_l2"` // the same of the row with the largest
}

// Conclude fills in what follows from the error that a run ended with, nil for none, and from the time at which it started.
func (r *Result) Conclude(err error, started time.Time) {
	r.Schema = ResultSchema
	code := exitcode.Of(err)
	r.ExitCode, r.Retryable = int(code), exitcode.Lookup(code).Retryable
	r.Seconds = round3(time.Since(started).Seconds())
	if err != nil {
		r.Error = err.Error()
		r.State = "failed"
		if code == exitcode.Terminated || code == exitcode.Interrupted {
			r.State = "stopped"
		}
	}
}

// Failure is the result of a run that ended before it had anything to report.
func Failure(err error) *Result {
	r := &Result{}
	r.Conclude(err, time.Now())
	return r
}

// Text is the result for people: one line, and one more for each warning.
func (r *Result) Text() string {
	var b bytes.Buffer
	switch r.State {
	case "failed", "stopped":
		fmt.Fprintf(&b, "%s: %s\n", r.State, r.Error)
	case "nothing":
		fmt.Fprintf(&b, "%s: nothing to do, all %d parts are finished (%d rows, %d failed)\n", r.Output, r.Parts, r.Rows, r.Failed)
	default:
		fmt.Fprintf(&b, "%s: %s, %d rows in %d parts (%d failed), %.1f s, %.3g rows/s, %.1f%% of the time waiting for data\n",
			r.Output, r.State, r.Rows, r.Parts, r.Failed, r.Seconds, r.RowsPerSec, 100*r.WaitShare)
	}
	if d := r.Reuse; d != nil {
		fmt.Fprintf(&b, "approximate: reuse every %d steps at branch %d, %.2f times as fast in the U-Net, latents deviate by %.3g (relative L2 of %d rows)\n",
			d.Every, d.Branch, d.Speedup, d.RelL2, d.RowsMeasured)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return b.String()
}

// WriteMetrics writes the run's numbers in the Prometheus text format, atomically. A collector reads the file at any time;
// the time of the last success survives failed runs.
func (r *Result) WriteMetrics(path, job string, now time.Time) error {
	lastSuccess := previousSuccess(path)
	if r.ExitCode == 0 {
		lastSuccess = fmt.Sprintf("%d", now.Unix())
	}
	var b bytes.Buffer
	gauge := func(name, help string, lines ...string) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
		for _, l := range lines {
			fmt.Fprintf(&b, "%s%s\n", name, l)
		}
	}
	label := fmt.Sprintf("job=%q", job)
	one := func(v any) string { return fmt.Sprintf("{%s} %v", label, v) }
	gauge("ldm_batch_last_run_timestamp_seconds", "Unix time at which the last run ended.", one(now.Unix()))
	if lastSuccess != "" {
		gauge(successMetric, "Unix time at which the last successful run ended.", one(lastSuccess))
	}
	gauge("ldm_batch_last_exit_code", "Exit code of the last run.", one(r.ExitCode))
	gauge("ldm_batch_duration_seconds", "Duration of the last run.", one(r.Seconds))
	gauge("ldm_batch_rows", "Rows of the last run by status.",
		fmt.Sprintf("{%s,status=\"ok\"} %d", label, r.OK),
		fmt.Sprintf("{%s,status=\"skipped\"} %d", label, r.Skipped),
		fmt.Sprintf("{%s,status=\"failed\"} %d", label, r.Failed))
	return WriteFile(path, b.Bytes())
}

const successMetric = "ldm_batch_last_success_timestamp_seconds"

// previousSuccess reads the time of the last success from an earlier file.
func previousSuccess(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for _, line := range bytes.Split(data, []byte("\n")) {
		if bytes.HasPrefix(line, []byte(successMetric+"{")) {
			if i := bytes.LastIndexByte(line, ' '); i >= 0 {
				return string(line[i+1:])
			}
		}
	}
	return ""
}

// WriteFile replaces a small file that other programs read at any time: metrics, results. They never see half of it, its
// temporary name is one that collectors do not look at, and everybody may read it.
func WriteFile(path string, data []byte) error {
	w := atomicfile.Writer{TempDir: filepath.Dir(path), Prefix: ".ldm-batch-"}
	return w.Replace(path, atomicfile.Bytes(data), func(tmp string) error { return os.Chmod(tmp, 0o644) })
}
