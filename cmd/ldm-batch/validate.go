package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/jobs"
)

// validation is the result of validate.
type validation struct {
	Schema      string   `json:"schema"`
	Valid       bool     `json:"valid"`
	Kind        string   `json:"kind"`
	Rows        int64    `json:"rows"`
	Parts       int      `json:"parts"`
	Fingerprint string   `json:"fingerprint"`
	Warnings    []string `json:"warnings,omitempty"`
}

func validateCommand(k *console) *cli.Command {
	return &cli.Command{
		Name:      "validate",
		Usage:     "check a job file, its inputs and its model, without doing anything",
		ArgsUsage: "JOB.yaml",
		Flags:     slices.Concat(settingFlags(deviceSettings), specFlags(), outputFlags()),
		Action: k.query(func(ctx context.Context, c *cli.Context) error {
			args, err := arguments(c, "JOB.yaml")
			if err != nil {
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
				k.report.doc = validation{"ldm-batch/validate/v1", true, d.Kind, d.Rows, 0, d.Fingerprint, d.Warnings}
				k.report.text = fmt.Sprintf("%s: valid, kind %s, %d rows, %d steps\n", args[0], d.Kind, d.Rows, d.Steps)
				return nil
			}
			if r.Kind == "Eval" {
				d, err := k.describeEvaluation(ctx, r)
				if err != nil {
					return err
				}
				k.valid(args[0], d)
				return nil
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
			k.valid(args[0], d)
			return nil
		}),
	}
}

// valid says that a job with parts can be run.
func (k *console) valid(file string, d *jobs.Description) {
	k.report.doc = validation{"ldm-batch/validate/v1", true, d.Kind, d.Rows, len(d.Parts), d.Fingerprint, d.Warnings}
	k.report.text = fmt.Sprintf("%s: valid, kind %s, %d rows in %d parts\n", file, d.Kind, d.Rows, len(d.Parts))
}
