package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
)

func genDocsCommand(k *console) *cli.Command {
	return &cli.Command{
		Name:      "gen-docs",
		Usage:     "write cli.md, the reference of commands and flags",
		ArgsUsage: "DIR",
		Hidden:    true,
		Action: k.action(func(_ context.Context, c *cli.Context) error {
			args, err := arguments(c, "DIR")
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(args[0], "cli.md"), []byte(reference(c.App)), 0o644)
		}),
	}
}

// reference is the page of commands and flags.
func reference(app *cli.App) string {
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, cmd := range app.Commands {
		if cmd.Hidden {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n`ldm-batch %s`\n\n%s.\n\n", cmd.Name, strings.TrimSpace(cmd.Name+" [flags] "+cmd.ArgsUsage), upperFirst(cmd.Usage))
		b.WriteString("| flag | meaning | environment |\n|---|---|---|\n")
		for _, f := range cmd.Flags {
			df, ok := f.(cli.DocGenerationFlag)
			if !ok || f.Names()[0] == "help" {
				continue
			}
			fmt.Fprintln(&b, flagRow(f.Names()[0], df))
		}
	}
	return b.String()
}

// flagRow is one line of a table. The word in back quotes of a usage names the value.
func flagRow(name string, f cli.DocGenerationFlag) string {
	usage := f.GetUsage()
	if before, variable, ok := strings.Cut(usage, " [$"); ok {
		return tableRow(name, before, strings.TrimSuffix(variable, "]"), "")
	}
	variable := ""
	if vars := f.GetEnvVars(); len(vars) > 0 {
		variable = vars[0]
	}
	value := strings.Trim(f.GetDefaultText(), `"`)
	if !f.TakesValue() || value == "" || value == "0" {
		value = ""
	}
	return tableRow(name, usage, variable, value)
}

func tableRow(name, usage, variable, value string) string {
	flag := "--" + name
	if parts := strings.Split(usage, "`"); len(parts) == 3 {
		flag += " " + parts[1]
		usage = strings.Join(parts, "")
	}
	if value != "" {
		usage += "; default " + value
	}
	if variable != "" {
		variable = "`" + variable + "`"
	}
	return fmt.Sprintf("| `%s` | %s | %s |", flag, strings.ReplaceAll(usage, "|", `\|`), variable)
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

const referenceHead = `# Commands

<!-- Written by "ldm-batch gen-docs docs"; a test compares. -->

` + "`ldm-batch COMMAND [flags] ARGUMENTS`" + `: flags come before arguments, and a flag behind an argument is refused.

* Standard output carries the result and nothing else; standard error carries logs and progress.
* A failure always prints one line on standard error, with ` + "`--quiet`" + ` as well. ` + "`--json`" + ` prints one line of JSON as the last thing
  of all, on failure too, even together with ` + "`--quiet`" + `.
* A value comes from the first that gives one: flag, ` + "`--set`" + `, environment variable, job file, default. ` + "`ldm-batch plan`" + ` prints
  where each came from.
* Paths given by flags and environment are relative to the working folder; paths in a job file and in ` + "`--set`" + ` are relative to the
  folder of the job file.
* SIGTERM and SIGINT stop a run cleanly, the second one at once; the same command goes on where it stopped.
* The progress bar is drawn on a terminal only, and not when ` + "`NO_COLOR`" + ` or ` + "`CI`" + ` is set; otherwise there is a log line every half
  minute.

[Exit codes](exit-codes.md); running under [Kubernetes](kubernetes.md), [Airflow](airflow.md), [Slurm](slurm.md).
`
