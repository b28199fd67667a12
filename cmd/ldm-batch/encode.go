package main

import (
	"context"
	"slices"

	"github.com/urfave/cli/v2"
)

func encodeCommand(k *console) *cli.Command {
	settings := slices.Concat(modelSettings, inputSettings, encodeSettings, deviceSettings)
	return &cli.Command{
		Name:      "encode",
		Usage:     "encode a dataset of images to latents, from flags and perhaps a job file",
		ArgsUsage: "[JOB.yaml]",
		Flags:     jobFlags(settings),
		Action: k.action(func(ctx context.Context, c *cli.Context) error {
			return k.runJob(ctx, c, "Encode", settings)
		}),
	}
}
