package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/jobs/folder"
	"github.com/ldm-batch/ldm-batch/jobs/training"
)

func statusCommand(k *console) *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "print the state of an output folder",
		ArgsUsage: "DIR",
		Flags:     outputFlags(),
		Action: k.query(func(_ context.Context, c *cli.Context) error {
			args, err := arguments(c, "DIR")
			if err != nil {
				return err
			}
			if training.IsTraining(args[0]) {
				s, err := training.ReadStatus(args[0])
				if err != nil {
					return err
				}
				k.report.doc, k.report.text = s, s.Text()
				return nil
			}
			s, err := folder.ReadStatus(args[0])
			if err != nil {
				return err
			}
			k.report.doc, k.report.text = s, s.Text()
			return nil
		}),
	}
}
