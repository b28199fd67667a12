package main

import (
	"context"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/jobs/reporting"
)

func reportCommand(k *console) *cli.Command {
	return &cli.Command{
		Name:      "report",
		Usage:     "make the report of finished evaluations: of the newest, with the others as its history",
		ArgsUsage: "DIR...",
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "output", Usage: "`PATH` of a folder, or of one file that ends with .html, .md or .json (default: the newest evaluation's folder)"},
			&cli.StringFlag{Name: "format", Usage: "`FORMATS` to write, separated by commas: html, md, json (default: that of --output, or html,md)"},
		}, outputFlags()),
		Action: k.action(func(ctx context.Context, c *cli.Context) error {
			if !c.Args().Present() {
				return usagef("report: DIR is missing; see ldm-batch report --help")
			}
			o := reporting.Options{Output: c.String("output")}
			if c.IsSet("format") {
				for _, f := range strings.Split(c.String("format"), ",") {
					o.Formats = append(o.Formats, reporting.Format(strings.TrimSpace(f)))
				}
			}
			r, err := reporting.Make(ctx, c.Args().Slice(), o)
			if err != nil {
				return err
			}
			k.report.doc, k.report.text = r, r.Text()
			return nil
		}),
	}
}
