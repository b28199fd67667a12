package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// resolve makes the job from file, environment and flags. kind is what the command does, "" for whatever the file says.
func resolve(c *cli.Context, kind string, settings []setting) (*spec.Resolved, error) {
	params, err := parseParams(c.StringSlice("param"))
	if err != nil {
		return nil, err
	}
	overrides, err := collect(c, settings)
	if err != nil {
		return nil, err
	}
	if kind != "" && !c.Args().Present() {
		dir, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		r, err := spec.Load("", nil, dir, params, slices.Concat([]spec.Setting{{Key: "kind", Value: kind, Origin: c.Command.Name}}, overrides))
		return r, err
	}
	args, err := arguments(c, "JOB.yaml")
	if err != nil {
		return nil, err
	}
	r, err := spec.LoadFile(args[0], params, overrides)
	if err != nil {
		return nil, err
	}
	if kind != "" && r.Kind != kind {
		return nil, usagef("%s: kind is %s, and the command %s runs kind %s", args[0], r.Kind, c.Command.Name, kind)
	}
	return r, nil
}

// resolve makes the job and names it in the log.
func (k *console) resolve(c *cli.Context, kind string, settings []setting) (*spec.Resolved, error) {
	r, err := resolve(c, kind, settings)
	if err != nil {
		return nil, err
	}
	k.report.job = jobName(c, r)
	k.log = k.log.With(logFields(k.report.job, c.String("shard"))...)
	return r, nil
}

// runJob is every command that runs a job.
func (k *console) runJob(ctx context.Context, c *cli.Context, kind string, settings []setting) error {
	o, err := k.runOptions(c)
	if err != nil {
		return err
	}
	r, err := k.resolve(c, kind, settings)
	if err != nil {
		return err
	}
	if r.Kind == "Train" {
		return k.runTraining(ctx, c, r, o)
	}
	if r.Kind == "Eval" {
		return k.runEvaluation(ctx, c, r, o)
	}
	p, err := jobs.Prepare(ctx, r, jobs.PrepareOptions{Log: k.log})
	if err != nil {
		return err
	}
	defer p.Close()
	res, err := p.Run(ctx, o)
	if res == nil {
		return err
	}
	if err == nil && c.Bool("fail-on-row-errors") {
		if err = res.RowErrors(); err != nil {
			res.ExitCode, res.Error = int(exitcode.RowErrors), err.Error()
		}
	}
	return k.runEnded(c, res, res, err)
}

// runEnded keeps what a run has to say at the end of its command; doc is r or a result that holds it.
func (k *console) runEnded(c *cli.Context, r *jobs.Result, doc interface{ Text() string }, err error) error {
	if err == nil && r.State == "nothing" && c.IsSet("skip-exit-code") {
		k.code = c.Int("skip-exit-code")
		r.ExitCode = k.code
	}
	if err != nil {
		r.Error = oneLine(err)
	} else {
		k.report.text = doc.Text()
	}
	k.report.run, k.report.doc = r, doc
	return err
}

func (k *console) runOptions(c *cli.Context) (jobs.RunOptions, error) {
	o := jobs.RunOptions{
		Overwrite: c.Bool("overwrite"), RetryFailed: c.Bool("retry-failed"), Rehash: c.Bool("rehash"),
		LockWait: lockWait(c), IfLocked: c.String("if-locked"), Progress: k.progress(), Args: os.Args[1:],
	}
	var err error
	o.Shard.Index, o.Shard.Count, err = parseShard(c.String("shard"))
	if err != nil {
		return o, err
	}
	if o.IfLocked != "fail" && o.IfLocked != "skip" {
		return o, usagef("--if-locked %q is not one of fail, skip", o.IfLocked)
	}
	if code := c.Int("skip-exit-code"); c.IsSet("skip-exit-code") && (code < 0 || code > 255) {
		return o, usagef("--skip-exit-code %d is not in 0..255", code)
	}
	return o, nil
}

// schedulers are recognised by a variable that each sets in its jobs.
var schedulers = []string{"AIRFLOW_CTX_DAG_ID", "KUBERNETES_SERVICE_HOST", "SLURM_JOB_ID"}

// schedulerLockWait outlasts defaultDrain: a scheduler may start the retry while the first attempt drains.
const schedulerLockWait = 25 * time.Second

func lockWait(c *cli.Context) time.Duration {
	if c.IsSet("lock-wait") {
		return durationOf(c, "lock-wait")
	}
	if slices.ContainsFunc(schedulers, func(name string) bool { return os.Getenv(name) != "" }) {
		return schedulerLockWait
	}
	return 0
}

// jobName is the job's own, else that of its file or command.
func jobName(c *cli.Context, r *spec.Resolved) string {
	if r.Metadata.Name != "" {
		return r.Metadata.Name
	}
	if file := filepath.Base(c.Args().First()); c.Args().Present() {
		return strings.TrimSuffix(file, filepath.Ext(file))
	}
	return c.Command.Name
}

// logFields are the attributes of every log line: the job, and which task of Airflow it is.
func logFields(job, shard string) []any {
	fields := []any{slog.String("job", job)}
	if shard != "" {
		fields = append(fields, slog.String("shard", shard))
	}
	for _, name := range []string{"AIRFLOW_CTX_DAG_ID", "AIRFLOW_CTX_TASK_ID", "AIRFLOW_CTX_DAG_RUN_ID", "AIRFLOW_CTX_TRY_NUMBER"} {
		if v := os.Getenv(name); v != "" {
			fields = append(fields, slog.String(strings.ToLower(strings.TrimPrefix(name, "AIRFLOW_CTX_")), v))
		}
	}
	return fields
}
