package main

import (
	"context"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/jobs/demo"
)

func demoCommand(k *console) *cli.Command {
	return &cli.Command{
		Name:      "demo",
		Usage:     "encode, generate, upscale, inpaint and score with the models that come along, and make a page of it",
		ArgsUsage: " ",
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "output", Usage: "`FOLDER` of the demonstration", Value: "demo"},
			&cli.BoolFlag{Name: "overwrite", Usage: "make results of another version of the program anew"},
		}, outputFlags()),
		Action: k.action(func(ctx context.Context, c *cli.Context) error {
			if c.Args().Present() {
				return usagef("demo takes no arguments; --output names the folder")
			}
			r, err := demo.Run(ctx, demo.Options{Dir: c.String("output"), Overwrite: c.Bool("overwrite"), Log: k.log, Progress: k.progress(), Args: os.Args[1:]})
			if err != nil {
				return err
			}
			k.report.doc, k.report.text = r, r.Text()
			return nil
		}),
	}
}
