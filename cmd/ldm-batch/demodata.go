package main

import (
	"context"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/jobs/demodata"
)

func demoDataCommand(k *console) *cli.Command {
	return &cli.Command{
		Name:      "demo-data",
		Usage:     "write a procedural data set: ten classes of things on backgrounds, with captions, masks, label maps and boxes, as Parquet",
		ArgsUsage: "DIR",
		Flags: slices.Concat([]cli.Flag{
			&cli.Int64Flag{Name: "rows", Usage: "`N` pictures; every ten of them hold each class once", Value: 10000},
			&cli.Uint64Flag{Name: "seed", Usage: "`SEED` of the set", Value: 1},
			&cli.IntFlag{Name: "size", Usage: "height and width, `PIXELS`", Value: 64},
			&cli.StringFlag{Name: "split", Usage: "`NAME` of the split: first word of the file names; no two splits share a picture", Value: "train"},
			&cli.IntFlag{Name: "objects", Usage: "at most `N` things in a picture, 1 to 6; the label is that of the largest", Value: 1},
			&cli.StringFlag{Name: "grid", Usage: "also write the first pictures by class as one PNG `FILE`"},
			&cli.BoolFlag{Name: "overwrite", Usage: "replace files of the split"},
		}, outputFlags()),
		Action: k.action(func(ctx context.Context, c *cli.Context) error {
			args, err := arguments(c, "DIR")
			if err != nil {
				return err
			}
			r, err := demodata.Write(ctx, args[0], demodata.Options{Rows: c.Int64("rows"), Size: c.Int("size"), Seed: c.Uint64("seed"),
				Split: c.String("split"), Objects: c.Int("objects"), Grid: c.String("grid"), Overwrite: c.Bool("overwrite")})
			if err != nil {
				return err
			}
			k.report.doc, k.report.text = r, r.Text()
			return nil
		}),
	}
}
