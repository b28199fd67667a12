package main

import (
	"slices"

	"github.com/urfave/cli/v2"
)

// outputFlags say how a command speaks; every command has them.
func outputFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "json", Usage: "print one line of JSON, last, on failure too", EnvVars: env("json")},
		&cli.BoolFlag{Name: "quiet", Usage: "print nothing on success", EnvVars: env("quiet")},
		&cli.StringFlag{Name: "log-format", Usage: "`FORMAT` of logs on standard error: auto (text on a terminal, json otherwise), text, json", Value: "auto", EnvVars: env("log-format")},
		&cli.StringFlag{Name: "result-file", Usage: "write the JSON result to `PATH` as well, on failure too", EnvVars: env("result-file")},
	}
}

// specFlags resolve a job file.
func specFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "set", Usage: "set one value of the job, `KEY=VALUE` with a dotted key such as sampler.steps=20; may be repeated"},
		&cli.StringSliceFlag{Name: "param", Usage: "fill ${name} in the job file, `NAME=VALUE`; may be repeated"},
		durationFlag("timeout", "stop after `DURATION` as on SIGTERM, with exit code 75"),
	}
}

// runFlags say how a job is run. None of them changes a byte of its output.
func runFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "shard", Usage: "do share `I/N` of the parts, 0 <= I < N", EnvVars: env("shard")},
		&cli.BoolFlag{Name: "overwrite", Usage: "empty an output folder of another job, or redo a finished one", EnvVars: env("overwrite")},
		&cli.BoolFlag{Name: "retry-failed", Usage: "redo the parts that have failed rows", EnvVars: env("retry-failed")},
		&cli.BoolFlag{Name: "rehash", Usage: "read finished parts again instead of trusting size and time", EnvVars: env("rehash")},
		&cli.BoolFlag{Name: "fail-on-row-errors", Usage: "exit with code 3 when rows failed, though the output is published", EnvVars: env("fail-on-row-errors")},
		&cli.StringFlag{Name: "if-locked", Usage: "when another run has the output folder: `WHAT`, fail (exit code 75) or skip", Value: "fail", EnvVars: env("if-locked")},
		durationFlag("lock-wait", "wait `DURATION` for another run first (default: 25s under Airflow, Kubernetes or Slurm, 0 otherwise)"),
		&cli.IntFlag{Name: "skip-exit-code", Usage: "exit with `CODE` when there was nothing to do, such as 99 for Airflow", EnvVars: env("skip-exit-code")},
		durationFlag("drain-timeout", "after a signal, wait `DURATION` for the work to stop (default: 20s)"),
		&cli.BoolFlag{Name: "drain-on-usr1", Usage: "stop on SIGUSR1 as on SIGTERM", EnvVars: env("drain-on-usr1")},
		&cli.StringFlag{Name: "metrics-file", Usage: "write metrics in the Prometheus text format to `PATH`", EnvVars: env("metrics-file")},
	}
}

// jobFlags are the flags of every command that runs a job.
func jobFlags(settings []setting) []cli.Flag {
	return slices.Concat(settingFlags(settings), specFlags(), runFlags(), outputFlags())
}
