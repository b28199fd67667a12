package jobs

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
)

// RunOptions configure one run of a job. None of them changes a byte of the output.
type RunOptions struct {
	Shard       commit.Shard
	Overwrite   bool
	RetryFailed bool          // redo the parts that have failed rows
	Rehash      bool          // read finished parts instead of trusting size and time
	LockWait    time.Duration // how long to wait for another run on the folder
	IfLocked    string        // then: fail (class temporary) or skip (nothing done, no error)
	Progress    *Progress     // nil: silent
	Args        any           // noted in the run record
}

// Open opens the output folder of a run on a device. There is none, and no error, where another run has the folder and IfLocked is
// skip.
func (o RunOptions) Open(ctx context.Context, dir string, p commit.Plan, device string) (*commit.Folder, error) {
	folder, err := commit.Open(ctx, dir, p, commit.Options{
		Shard: o.Shard, Wait: o.LockWait, Overwrite: o.Overwrite, Rehash: o.Rehash, RetryFailed: o.RetryFailed,
		Info: map[string]any{"args": o.Args, "device": device, "go": runtime.Version()},
	})
	switch {
	case errors.Is(err, commit.ErrLocked) && o.IfLocked == "skip":
		return nil, nil
	case err != nil:
		return nil, err
	}
	return folder, nil
}

// Run writes the parts that the output folder still lacks and, when none is missing, publishes it. The result is complete
// on failure too.
func (p *Prepared) Run(ctx context.Context, o RunOptions) (*Result, error) {
	started := time.Now()
	r := &Result{
		Job: p.spec.Metadata.Name, Kind: p.spec.Kind, Output: p.spec.Spec.Output.Path, Fingerprint: p.plan.Fingerprint,
		Device: p.backend.Name(),
	}
	err := p.run(ctx, o, r, started)
	r.Warnings = p.told()
	r.Conclude(err, started)
	return r, err
}

func (p *Prepared) run(ctx context.Context, o RunOptions, r *Result, started time.Time) (err error) {
	folder, err := o.Open(ctx, p.spec.Spec.Output.Path, p.plan, p.backend.Name())
	if folder == nil {
		r.State = "nothing"
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()

	pending := folder.Pending()
	pipe, err := p.pipeline(folder, o.Progress)
	if err != nil {
		return err
	}
	if len(pending) > 0 {
		err = pipe.run(ctx)
		o.Progress.End()
	}
	p.totals(folder, r)
	r.PartsDone = len(pending) - len(folder.Pending())
	r.RowsPerSec = round3(pipe.written / max(time.Since(started).Seconds(), 1e-9))
	r.WaitShare = round3(pipe.waited.Seconds() / max((pipe.waited+pipe.busy).Seconds(), 1e-9))
	r.Stages = map[string]float64{"load": round3(p.loading.Seconds()), "wait": round3(pipe.waited.Seconds()), "compute": round3(pipe.busy.Seconds())}
	for name, s := range pipe.beside.seconds() {
		r.Stages[name] = round3(s)
	}
	for name, s := range p.task.stages() {
		r.Stages["compute."+name] = round3(s)
	}
	r.Counts = p.task.counts()
	if t, ok := p.task.(*generateTask); ok {
		r.Scores, r.Reuse = t.scores.means(), t.reuse
	}
	if err == nil {
		err = p.publish(ctx, folder, r, len(pending) == 0)
	}
	outcome := *r
	outcome.Warnings = p.told()
	outcome.Conclude(err, started)
	return errors.Join(err, folder.EndRun(outcome))
}

// pipeline sets the stages up for a folder; failed rows of finished parts count against the budget.
func (p *Prepared) pipeline(folder *commit.Folder, progress *Progress) (*pipeline, error) {
	s := &p.spec.Spec
	pipe := &pipeline{
		src: p.src, task: p.task, folder: folder, pending: folder.Pending(), batch: s.Compute.Batch, workers: workers(),
		memory: inFlight(int64(s.Limits.Memory)), tree: s.Output.Layout == "tree", budget: s.Limits.MaxBadRows.Rows(p.src.rows()), progress: progress,
	}
	todo := int64(0)
	parts := folder.Plan().Parts
	for _, i := range pipe.pending {
		todo += parts[i].Rows
	}
	lo, hi := folder.Range()
	for i := lo; i < hi; i++ {
		if e, ok := folder.Entry(i); ok {
			pipe.failed += e.Failed
		}
	}
	progress.Begin(todo)
	return pipe, nil
}

// workers is how many goroutines prepare and finish rows.
func workers() int { return max(2, runtime.GOMAXPROCS(0)) }

// totals adds up the finished parts of this run's share.
func (p *Prepared) totals(folder *commit.Folder, r *Result) {
	lo, hi := folder.Range()
	var reasons [][]part.Reason
	for i := lo; i < hi; i++ {
		e, ok := folder.Entry(i)
		if !ok {
			continue
		}
		r.Parts++
		r.Rows, r.OK, r.Skipped, r.Failed = r.Rows+e.Rows, r.OK+e.OK, r.Skipped+e.Skipped, r.Failed+e.Failed
		reasons = append(reasons, e.Reasons)
	}
	r.Reasons = part.MergeReasons(reasons...)
}

// publish finalizes the folder when every part, those of other shards included, is there.
func (p *Prepared) publish(ctx context.Context, folder *commit.Folder, r *Result, nothing bool) error {
	_, err := folder.Finalize(ctx)
	var missing *commit.IncompleteError
	switch {
	case errors.As(err, &missing):
		r.State = "partial"
		return nil
	case err != nil:
		return err
	}
	r.State = "finished"
	if nothing {
		r.State = "nothing"
	}
	return nil
}

// RowErrors is the error of a published run with failed rows, for callers that mind them.
func (r *Result) RowErrors() error {
	if r.Failed == 0 || r.ExitCode != 0 {
		return nil
	}
	return exitcode.Errorf(exitcode.RowErrors, "%d of %d rows failed", r.Failed, r.Rows)
}
