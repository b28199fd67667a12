package training

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/train"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/io/preprocess"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// Run makes the steps that the output folder still lacks and, after the last one, publishes the model. The result is complete on
// failure too. Of the options, shards and those about rows and parts have no meaning here.
func (p *Prepared) Run(ctx context.Context, o jobs.RunOptions) (*Result, error) {
	started := time.Now()
	r := &Result{Steps: int64(p.spec.Spec.Train.Steps)}
	r.Job, r.Kind, r.Output, r.Fingerprint = p.spec.Metadata.Name, p.spec.Kind, p.spec.Spec.Output.Path, p.plan.Fingerprint
	r.Device, r.Warnings = p.backend.Name(), p.warnings
	err := p.run(ctx, o, r, started)
	r.Conclude(err, started)
	return r, err
}

func (p *Prepared) run(ctx context.Context, o jobs.RunOptions, r *Result, started time.Time) (err error) {
	if o.Shard.Count > 1 {
		return exitcode.Errorf(exitcode.Usage, "--shard: a training is not divided; use --threads and --workers")
	}
	dir := p.spec.Spec.Output.Path
	folder, err := o.Open(ctx, dir, p.plan, p.backend.Name())
	if folder == nil {
		r.State = "nothing"
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	if _, err := os.Stat(filepath.Join(dir, "_SUCCESS")); err == nil {
		r.State, r.Step = "nothing", r.Steps
		return nil
	}
	l := &loop{p: p, dir: dir, result: r, started: started}
	err = exitcode.Guard("training", func() error { return l.run(ctx, o.Overwrite) })
	if err == nil {
		if _, err = folder.Finalize(ctx); err == nil {
			r.State = "finished"
		}
	}
	outcome := *r
	outcome.Conclude(err, started)
	return errors.Join(err, folder.EndRun(outcome))
}

// loop is one run.
type loop struct {
	p       *Prepared
	dir     string
	result  *Result
	started time.Time

	store  *store
	log    *logFile
	valid  []*example
	state  train.State
	report progress
}

// run makes the steps.
func (l *loop) run(ctx context.Context, overwrite bool) (err error) {
	if err := l.open(ctx, overwrite); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.log.close()) }()
	p, t := l.p, l.p.spec.Spec.Train
	reader, err := newLoader(p.data, p.recipe, p.order, t.Batch, p.spec.Spec.Limits.MaxBadRows.Rows(p.data.NumRows()), p.log)
	if err != nil {
		return err
	}
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	batches := reader.start(reading, l.state)
	defer func() {
		stop()
		for range batches { // its goroutine reads files that Close closes
		}
	}()
	first := l.state.Step
	l.report = progress{path: filepath.Join(l.dir, ".ldm-batch", progressName), steps: int64(t.Steps), first: first, started: time.Now()}
	for l.state.Step < int64(t.Steps) {
		after, terms, err := l.step(ctx, batches)
		if err != nil {
			return err
		}
		if after == nil {
			return l.drain(context.Cause(ctx))
		}
		l.state = *after
		l.result.Step, l.result.StepsDone = l.state.Step, l.state.Step-first
		if err := l.told(terms); err != nil {
			return err
		}
		if err := l.due(ctx); err != nil {
			return err
		}
	}
	l.result.Step = l.state.Step
	if c, ok := l.store.index.last(); !ok || c.Step != l.state.Step {
		if err := l.checkpoint(nil); err != nil {
			return err
		}
	}
	l.result.StepsPerSecond = l.report.rate(l.state.Step)
	l.report.write(l.state.Step, l.result.Losses, "finished")
	if err := l.redraw("finished"); err != nil {
		return err
	}
	return l.store.publish(l.dir)
}

// open readies the folder and goes on from its last checkpoint.
func (l *loop) open(ctx context.Context, overwrite bool) error {
	p, t := l.p, l.p.spec.Spec.Train
	again := t.Resume == "never"
	if x, err := readIndex(atomicfile.OS, l.dir); err == nil && x.Finished && overwrite {
		again = true
	}
	var err error
	if l.store, err = openStore(atomicfile.OS, l.dir, filepath.Join(l.dir, ".ldm-batch", "tmp"), p.plan.Fingerprint, t.KeepBest, again); err != nil {
		return err
	}
	if err := l.writeConfig(); err != nil {
		return err
	}
	var resumed bool
	if l.state, resumed, err = l.store.restore(p.learner); err != nil {
		return err
	}
	if resumed {
		p.log.Info("going on from a checkpoint", "step", l.state.Step)
	}
	l.noteCheckpoint()
	if l.log, err = openLog(l.dir, l.state.Step); err != nil {
		return err
	}
	if p.valid == nil {
		return nil
	}
	still := *p.recipe // what validation sees must not depend on chance
	still.drop, still.config.Flip = nil, false
	if still.config.Crop == preprocess.Random {
		still.config.Crop = preprocess.Center
	}
	reader, err := newLoader(p.valid, &still, orderOf(p.valid.NumRows(), 1, 0), t.Batch, p.spec.Spec.Limits.MaxBadRows.Rows(p.valid.NumRows()), p.log)
	if err != nil {
		return err
	}
	if l.valid, err = reader.first(ctx, int64(t.ValidationRows)); err == nil && len(l.valid) == 0 {
		err = exitcode.Errorf(exitcode.Data, "validation: no row can be used")
	}
	return err
}

// writeConfig puts the model's configuration beside the checkpoints, as it was given.
func (l *loop) writeConfig() error {
	path := filepath.Join(l.dir, configName)
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, l.p.yaml) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return exitcode.With(exitcode.IO, err)
	}
	return exitcode.With(exitcode.IO, l.store.files.Replace(path, atomicfile.Bytes(l.p.yaml), nil))
}

// step makes one step of the optimiser. When the context ends before it is made, nothing has changed and no state is returned.
func (l *loop) step(ctx context.Context, batches <-chan delivery) (*train.State, []term, error) {
	p, t := l.p, l.p.spec.Spec.Train
	after := l.state
	var terms []term
	for left := t.Accumulate; left > 0; {
		var some [][]*example
		for range min(left, t.Workers) {
			var d delivery
			select {
			case <-ctx.Done():
				return nil, nil, nil
			case d = <-batches:
			}
			if ctx.Err() != nil {
				return nil, nil, nil
			}
			if d.err != nil {
				return nil, nil, d.err
			}
			some, after = append(some, d.examples), d.after
		}
		left -= len(some)
		more, err := p.learner.add(some...)
		if err != nil {
			return nil, nil, l.diverged(err)
		}
		for _, list := range more {
			if terms == nil {
				terms = make([]term, len(list))
			}
			for i, x := range list {
				terms[i] = term{x.name, terms[i].value + x.value/float64(t.Accumulate)}
			}
		}
	}
	rate := p.rate * p.schedule.Factor(l.state.Step)
	more, err := p.learner.step(rate)
	if err != nil {
		return nil, nil, l.diverged(err)
	}
	after.Step = l.state.Step + 1
	terms = append(append(terms, more...), term{"rate", rate}, term{"epoch", float64(after.Epoch)}, term{"samples", float64(after.Samples)})
	return &after, terms, nil
}

// diverged says where a loss or a gradient stopped being finite, and what is left.
func (l *loop) diverged(err error) error {
	if exitcode.Of(err) != exitcode.Internal {
		return fmt.Errorf("step %d: %w", l.state.Step+1, err)
	}
	if bad := l.p.learner.check(); bad != nil {
		err = fmt.Errorf("%w; %w", err, bad)
	}
	left := "there is no checkpoint yet"
	if c, ok := l.store.index.last(); ok {
		left = fmt.Sprintf("the last good checkpoint is %s", filepath.Join(l.store.dir, c.Model.Name))
	}
	err = exitcode.With(exitcode.Internal, fmt.Errorf("step %d: %w; %s", l.state.Step+1, err, left))
	return errors.Join(err, l.redraw("stopped, "+err.Error()+","))
}

// told writes a line of the log when one is due, and tells how the run gets on.
func (l *loop) told(terms []term) error {
	t := l.p.spec.Spec.Train
	if l.state.Step%int64(t.LogEvery) == 0 || l.state.Step == int64(t.Steps) {
		if err := l.log.write(l.state.Step, terms); err != nil {
			return err
		}
		l.result.Losses = values(terms)
		args := []any{"step", l.state.Step}
		for _, x := range terms {
			args = append(args, x.name, x.value)
		}
		l.p.log.Info("loss", args...)
	}
	l.report.due(l.state.Step, l.result.Losses)
	return nil
}

func values(terms []term) map[string]float64 {
	m := map[string]float64{}
	for _, t := range terms {
		m[t.name] = t.value
	}
	return m
}

// due validates and writes a checkpoint when it is time.
func (l *loop) due(ctx context.Context) error {
	t, step := l.p.spec.Spec.Train, l.state.Step
	var score *term
	if t.ValidateEvery > 0 && (step%int64(t.ValidateEvery) == 0 || step == int64(t.Steps)) {
		terms, err := l.p.learner.validate(l.valid)
		if err != nil {
			return l.diverged(err)
		}
		if err := l.log.write(step, terms); err != nil {
			return err
		}
		l.result.Validation = values(terms)
		args := []any{"step", step}
		for _, x := range terms {
			args = append(args, x.name, x.value)
		}
		l.p.log.Info("validation", args...)
		score = &terms[0]
		if err := l.paint(context.WithoutCancel(ctx)); err != nil {
			return l.diverged(err)
		}
		if err := l.redraw("running"); err != nil {
			return err
		}
	}
	better := score != nil && l.store.index.better(score.value, t.KeepBest)
	if step%int64(t.CheckpointEvery) != 0 && step != int64(t.Steps) && !better {
		return nil
	}
	return l.checkpoint(score)
}

// checkpoint writes one of the present state, if it is sound.
func (l *loop) checkpoint(score *term) error {
	if err := l.p.learner.check(); err != nil {
		return l.diverged(err)
	}
	if err := l.log.sync(); err != nil {
		return err
	}
	if err := l.store.write(l.p.learner, l.state, score); err != nil {
		return err
	}
	l.noteCheckpoint()
	l.p.log.Info("checkpoint", "step", l.state.Step, "file", l.result.Checkpoint)
	return nil
}

func (l *loop) noteCheckpoint() {
	if c, ok := l.store.index.last(); ok {
		l.result.Step, l.result.Checkpoint = c.Step, filepath.Join(l.store.dir, c.Model.Name)
	}
}

// drain ends the run with a checkpoint of the last whole step.
func (l *loop) drain(cause error) error {
	if c, ok := l.store.index.last(); l.state.Step > 0 && (!ok || c.Step != l.state.Step) {
		if err := l.checkpoint(nil); err != nil {
			return errors.Join(cause, err)
		}
	}
	l.report.write(l.state.Step, l.result.Losses, "stopped")
	if err := l.redraw("stopped"); err != nil {
		return errors.Join(cause, err)
	}
	return fmt.Errorf("step %d of %d: %w", l.state.Step, l.p.spec.Spec.Train.Steps, cause)
}
