package main

import (
	"context"

	"github.com/urfave/cli/v2"
)

func runCommand(k *console) *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "run a job file",
		ArgsUsage: "JOB.yaml",
		Flags:     jobFlags(deviceSettings),
		Action: k.action(func(ctx context.Context, c *cli.Context) error {
			if _, err := arguments(c, "JOB.yaml"); err != nil {
				return err
			}
			return k.runJob(ctx, c, "", deviceSettings)
		}),
	}
}
