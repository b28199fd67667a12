package main

import (
	"context"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/jobs/inspect"
)

func inspectCommand(k *console) *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "print what a checkpoint, Parquet file or folder, Arrow file or part, configuration or statistics file holds",
		ArgsUsage: "FILE",
		Flags: slices.Concat([]cli.Flag{
			&cli.BoolFlag{Name: "trust-input", Usage: "read all rows of an Arrow part that no journal vouches for; a damaged one can take all memory"},
			&cli.BoolFlag{Name: "plan", Usage: "print the lowered networks of --config instead, step by step"},
			&cli.StringFlag{Name: "config", Usage: "configuration `FILE` for --plan"},
			&cli.StringFlag{Name: "model", Usage: "model `FILE` for --plan; its keys are checked when it is given"},
			&cli.StringFlag{Name: "size", Usage: "`SIZE` in pixels for --plan (default: that of the model)"},
			&cli.IntFlag{Name: "batch", Usage: "`N` rows for --plan", Value: 1},
		}, outputFlags()),
		Action: k.query(func(ctx context.Context, c *cli.Context) error {
			var text strings.Builder
			if c.Bool("plan") {
				if _, err := arguments(c); err != nil {
					return err
				}
				if c.String("config") == "" {
					return usagef("inspect: --plan needs --config")
				}
				p, err := inspect.Plan(inspect.PlanOptions{Config: c.String("config"), Model: c.String("model"), Size: c.String("size"), Batch: c.Int("batch")})
				if err != nil {
					return err
				}
				if err := p.Write(&text); err != nil {
					return err
				}
				k.report.doc, k.report.text = p, text.String()
				return nil
			}
			for _, only := range []string{"config", "model", "size", "batch"} {
				if c.IsSet(only) {
					return usagef("inspect: --%s has a meaning with --plan only", only)
				}
			}
			args, err := arguments(c, "FILE")
			if err != nil {
				return err
			}
			f, err := inspect.Open(ctx, args[0], inspect.Options{TrustInput: c.Bool("trust-input")})
			if err != nil {
				return err
			}
			if err := f.Write(&text); err != nil {
				return err
			}
			k.report.doc, k.report.text = f, text.String()
			return nil
		}),
	}
}
