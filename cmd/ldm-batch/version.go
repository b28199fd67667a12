package main

import (
	"context"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/jobs/inspect"
)

// version is set by the linker in releases.
var version string

// buildVersion is the release, else what the Go tool recorded.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "devel"
	}
	return info.Main.Version
}

func versionCommand(k *console) *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print version, processor features, devices and build tags",
		Flags: outputFlags(),
		Action: k.query(func(_ context.Context, c *cli.Context) error {
			if _, err := arguments(c); err != nil {
				return err
			}
			b := inspect.ReadBuild(buildVersion())
			k.report.doc, k.report.text = b, b.Text()
			return nil
		}),
	}
}
