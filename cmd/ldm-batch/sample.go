package main

import (
	"context"
	"slices"

	"github.com/urfave/cli/v2"
)

func sampleCommand(k *console) *cli.Command {
	settings := slices.Concat(modelSettings, inputSettings, sampleSettings, deviceSettings)
	return &cli.Command{
		Name:      "sample",
		Usage:     "generate images, from flags and perhaps a job file",
		ArgsUsage: "[JOB.yaml]",
		Flags:     jobFlags(settings),
		Action: k.action(func(ctx context.Context, c *cli.Context) error {
			return k.runJob(ctx, c, "Sample", settings)
		}),
	}
}
