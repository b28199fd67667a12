package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/jobs/folder"
	"github.com/ldm-batch/ldm-batch/jobs/scoring"
)

func finalizeCommand(k *console) *cli.Command {
	return &cli.Command{
		Name:      "finalize",
		Usage:     "publish an output folder whose parts are all there, after the last shard",
		ArgsUsage: "DIR",
		Flags:     outputFlags(),
		Action: k.action(func(ctx context.Context, c *cli.Context) error {
			args, err := arguments(c, "DIR")
			if err != nil {
				return err
			}
			if scoring.IsEvaluation(args[0]) {
				return k.finalizeEvaluation(ctx, c, args[0])
			}
			f, err := folder.Finalize(ctx, args[0])
			if err != nil {
				return err
			}
			k.report.doc, k.report.text = f, f.Text()
			return nil
		}),
	}
}
