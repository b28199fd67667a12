package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/jobs/folder"
	"github.com/ldm-batch/ldm-batch/jobs/training"
)

func verifyCommand(k *console) *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "read and hash every part of an output folder",
		ArgsUsage: "DIR",
		Flags:     outputFlags(),
		Action: k.query(func(_ context.Context, c *cli.Context) error {
			args, err := arguments(c, "DIR")
			if err != nil {
				return err
			}
			verify := folder.Verify
			if training.IsTraining(args[0]) {
				verify = training.Verify
			}
			v, err := verify(args[0])
			if v != nil { // with problems, both
				k.report.doc, k.report.text = v, v.Text()
			}
			return err
		}),
	}
}
