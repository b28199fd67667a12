package training

import (
	"bytes"
	"fmt"

	"github.com/ldm-batch/ldm-batch/jobs"
)

// Result is what a run reports, on failure too: the fields of every run, and those of a training.
type Result struct {
	jobs.Result
	Step           int64              `json:"step"`       // that the weights are of
	Steps          int64              `json:"steps"`      // of the whole run
	StepsDone      int64              `json:"steps_done"` // by this run
	StepsPerSecond float64            `json:"steps_per_second,omitempty"`
	Losses         map[string]float64 `json:"losses,omitempty"`     // of the last line of the log
	Validation     map[string]float64 `json:"validation,omitempty"` // the last
	Checkpoint     string             `json:"checkpoint,omitempty"` // the last good one
}

// Text is the result for people: one line, and one more for each warning.
func (r *Result) Text() string {
	var b bytes.Buffer
	switch r.State {
	case "failed", "stopped":
		fmt.Fprintf(&b, "%s: %s\n", r.State, r.Error)
	case "nothing":
		fmt.Fprintf(&b, "%s: nothing to do, all %d steps are made\n", r.Output, r.Steps)
	default:
		fmt.Fprintf(&b, "%s: %s, step %d of %d, %.1f s, %.3g steps/s", r.Output, r.State, r.Step, r.Steps, r.Seconds, r.StepsPerSecond)
		if l, ok := r.Losses["loss"]; ok {
			fmt.Fprintf(&b, ", loss %.4g", l)
		}
		b.WriteByte('\n')
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	return b.String()
}
