package main

import (
	"context"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/jobs/export"
)

func exportCommand(k *console) *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "write the images of a finished run as files, tar or Parquet",
		ArgsUsage: "DIR OUT",
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "format", Usage: "`FORMAT`: png or jpeg (a folder of files), tar (one file), parquet (a folder in the layout of Hugging Face)", Value: "png"},
			&cli.IntFlag{Name: "quality", Usage: "JPEG `QUALITY` of images that have to be encoded again, 1 to 100", Value: 95},
		}, outputFlags()),
		Action: k.action(func(ctx context.Context, c *cli.Context) error {
			args, err := arguments(c, "DIR", "OUT")
			if err != nil {
				return err
			}
			r, err := export.Export(ctx, args[0], args[1], export.Options{Format: export.Format(c.String("format")), Quality: c.Int("quality")})
			if err != nil {
				return err
			}
			k.report.doc, k.report.text = r, r.Text()
			return nil
		}),
	}
}
