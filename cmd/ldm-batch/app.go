package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// run is the whole program but for the process: arguments in, exit code out.
func run(args []string, stdout, stderr io.Writer) int {
	k := newConsole(args, stdout, stderr)
	defer k.stop()
	return k.finish(newApp(k).RunContext(context.Background(), args))
}

func newApp(k *console) *cli.App {
	app := &cli.App{
		Name:                      "ldm-batch",
		Usage:                     "batch jobs on latent diffusion models",
		Version:                   buildVersion(),
		Writer:                    k.stdout,
		ErrWriter:                 k.stderr,
		HideHelpCommand:           true,
		EnableBashCompletion:      true,
		DisableSliceFlagSeparator: true, // values may hold commas
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              usageError,
		Action:                    noCommand,
		Commands: []*cli.Command{
			runCommand(k), encodeCommand(k), sampleCommand(k), trainCommand(k), evalCommand(k), planCommand(k), validateCommand(k),
			statusCommand(k), verifyCommand(k), finalizeCommand(k),
			reportCommand(k), inspectCommand(k), convertCommand(k), exportCommand(k), demoCommand(k), demoDataCommand(k), versionCommand(k), genDocsCommand(k),
		},
	}
	for _, c := range app.Commands {
		c.HideHelpCommand = true
		c.OnUsageError = usageError
		c.Before = noTrailingFlags
	}
	return app
}

func noCommand(c *cli.Context) error {
	var names []string
	for _, cmd := range c.App.VisibleCommands() {
		names = append(names, cmd.Name)
	}
	what := "no command given"
	if c.Args().Present() {
		what = fmt.Sprintf("unknown command %q", c.Args().First())
	}
	return usagef("%s; commands: %s", what, strings.Join(names, ", "))
}

// usageError turns the parser's errors into ours.
func usageError(c *cli.Context, err error, _ bool) error {
	msg := err.Error()
	if name, ok := strings.CutPrefix(msg, "flag provided but not defined: -"); ok {
		msg = "unknown flag --" + strings.TrimPrefix(name, "-")
	}
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != c.App.Name {
		return usagef("%s: %s; see ldm-batch %s --help", c.Command.Name, msg, c.Command.Name)
	}
	return usagef("%s; see ldm-batch --help", msg)
}

// noTrailingFlags refuses flags behind the arguments: the parser takes them for arguments, and the job would run without.
func noTrailingFlags(c *cli.Context) error {
	for _, a := range c.Args().Slice() {
		if strings.HasPrefix(a, "-") && a != "-" {
			return usagef("%s: flag %s must come before %s", c.Command.Name, a, c.Args().First())
		}
	}
	return nil
}

// arguments checks how many arguments were given.
func arguments(c *cli.Context, names ...string) ([]string, error) {
	args := c.Args().Slice()
	switch {
	case len(args) < len(names):
		return nil, usagef("%s: %s is missing; see ldm-batch %s --help", c.Command.Name, names[len(args)], c.Command.Name)
	case len(args) > len(names):
		return nil, usagef("%s: unexpected argument %q; see ldm-batch %s --help", c.Command.Name, args[len(names)], c.Command.Name)
	}
	for i, a := range args {
		if a == "" {
			return nil, usagef("%s: %s is empty", c.Command.Name, names[i])
		}
	}
	return args, nil
}

func usagef(format string, args ...any) error {
	return exitcode.Errorf(exitcode.Usage, format, args...)
}
