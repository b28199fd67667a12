package training

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// Description is what a job would do.
type Description struct {
	Schema      string       `json:"schema"` // ldm-batch/plan/v1
	Kind        string       `json:"kind"`
	Output      string       `json:"output"`
	Fingerprint string       `json:"fingerprint"`
	Values      []spec.Value `json:"values"` // the resolved job, with the origin of each value
	Rows        int64        `json:"rows"`
	Steps       int          `json:"steps"`
	Epochs      float64      `json:"epochs"` // over the rows
	Device      string       `json:"device"`
	Trained     int          `json:"trained"` // numbers in the parameters that change
	Condition   string       `json:"condition"`
	Rate        float64      `json:"learning_rate"` // before its schedule
	MemoryBytes int64        `json:"memory_bytes"`  // of trained parameters: values, gradients (of each worker), moments, averages
	Workers     int          `json:"workers"`
	StepBytes   int64        `json:"step_bytes"`   // of activations and gradients within a step, of all workers
	ReaderBytes int64        `json:"reader_bytes"` // the most that one reader of the input holds, rows that are mixed aside
	Warnings    []string     `json:"warnings,omitempty"`
}

// Describe says what Run would do, without doing it.
func (p *Prepared) Describe() *Description {
	t := p.spec.Spec.Train
	d := &Description{
		Schema: "ldm-batch/plan/v1", Kind: p.spec.Kind, Output: p.spec.Spec.Output.Path, Fingerprint: p.plan.Fingerprint, Values: p.spec.Values(),
		Rows: p.data.NumRows(), Steps: t.Steps, Epochs: float64(t.Steps*t.Batch*t.Accumulate) / float64(p.data.NumRows()), Device: p.backend.Name(),
		Trained: p.learner.elems(), Condition: string(p.recipe.condition), Rate: p.rate, ReaderBytes: p.data.MemoryBound(), Warnings: p.warnings, Workers: max(1, len(p.workers)),
	}
	arenas := 4
	if t.Stage == "diffusion" && t.EMA > 0 {
		arenas = 5
	}
	arenas += len(p.workers)
	d.MemoryBytes = 4 * int64(arenas) * int64(d.Trained)
	err := exitcode.Guard("training", func() (err error) {
		d.StepBytes, err = p.learner.memory()
		return err
	})
	if err != nil {
		d.Warnings = append(slices.Clone(d.Warnings), "memory of a step: "+err.Error())
	}
	return d
}

// Shards is the list of a scheduler: a training is not divided.
func (d *Description) Shards() []jobs.Shard { return []jobs.Shard{{Shard: 0, Of: 1, Rows: d.Rows}} }

// Write prints the description for people.
func (d *Description) Write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range d.Values {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", v.Key, v.Value, v.Origin)
	}
	fmt.Fprintf(tw, "\t\t\nrows\t%d\t%s\n", d.Rows, d.Condition)
	fmt.Fprintf(tw, "steps\t%d\t%.3g epochs, learning rate %g\n", d.Steps, d.Epochs, d.Rate)
	fmt.Fprintf(tw, "output\t%s\t%s\n", d.Output, d.Fingerprint)
	fmt.Fprintf(tw, "device\t%s\t%d workers\n", d.Device, d.Workers)
	fmt.Fprintf(tw, "trained\t%.2f M parameters\t%.1f MB with gradients and moments, %.1f MB within a step\n",
		float64(d.Trained)/1e6, float64(d.MemoryBytes)/1e6, float64(d.StepBytes)/1e6)
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, warning := range d.Warnings {
		if _, err := fmt.Fprintf(w, "warning: %s\n", warning); err != nil {
			return err
		}
	}
	return nil
}
