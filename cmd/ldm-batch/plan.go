package main

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/jobs"
)

// maxMapped is how many tasks Airflow makes of one list by default.
const maxMapped = 1024

func planCommand(k *console) *cli.Command {
	return &cli.Command{
		Name:      "plan",
		Usage:     "print what a job would do: values and their origins, parts, memory; with --json the list of shards",
		ArgsUsage: "JOB.yaml",
		Flags: slices.Concat(settingFlags(deviceSettings), specFlags(), []cli.Flag{
			&cli.IntFlag{Name: "shards", Usage: "list `N` shards", Value: 1, EnvVars: env("shards")},
		}, outputFlags()),
		Action: k.query(func(ctx context.Context, c *cli.Context) error {
			n := c.Int("shards")
			if n < 1 {
				return usagef("--shards %d is not at least 1", n)
			}
			if _, err := arguments(c, "JOB.yaml"); err != nil {
				return err
			}
			r, err := k.resolve(c, "", deviceSettings)
			if err != nil {
				return err
			}
			if r.Kind == "Train" {
				d, err := k.describeTraining(ctx, r)
				if err != nil {
					return err
				}
				return k.described(d, d.Shards())
			}
			if n > maxMapped {
				k.log.Warn("more shards than Airflow maps by default (core.max_map_length)", "shards", n, "limit", maxMapped)
			}
			if r.Kind == "Eval" {
				d, err := k.describeEvaluation(ctx, r)
				if err != nil {
					return err
				}
				return k.described(d, d.Shards(n))
			}
			p, err := jobs.Prepare(ctx, r, jobs.PrepareOptions{Log: k.log})
			if err != nil {
				return err
			}
			defer p.Close()
			d, err := p.Describe()
			if err != nil {
				return err
			}
			if err := p.Estimate(ctx, d); err != nil {
				return err
			}
			return k.described(d, d.Shards(n))
		}),
	}
}

// described keeps a description of a job: for people and files all of it, for --json the shards.
func (k *console) described(d interface{ Write(io.Writer) error }, shards []jobs.Shard) error {
	var text strings.Builder
	if err := d.Write(&text); err != nil {
		return err
	}
	k.report.text, k.report.file, k.report.doc = text.String(), d, shards
	return nil
}
