package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// terminationLog is where Kubernetes looks for the reason of a failure.
var terminationLog = "/dev/termination-log"

// console is where a command speaks, and how it ends.
type console struct {
	stdout, stderr io.Writer
	json, quiet    bool
	jsonLogs       bool // the failure line as well
	resultFile     string
	metricsFile    string
	log            *slog.Logger
	report         report
	code           int // chosen for success: that of --skip-exit-code

	watcher
	once  sync.Once
	ended chan struct{}
	final int
}

// report is what a command has to say at its end. A failed command may have none.
type report struct {
	text string // for people
	doc  any    // for --json
	file any    // for --result-file where it differs from doc
	run  *jobs.Result
	job  string // label of the metrics
}

// newConsole reads from the bare arguments what must be known even when they cannot be parsed.
func newConsole(args []string, stdout, stderr io.Writer) *console {
	k := &console{stdout: stdout, stderr: stderr, log: slog.New(slog.DiscardHandler), ended: make(chan struct{})}
	k.exit = os.Exit
	k.json, _ = strconv.ParseBool(os.Getenv(env("json")[0]))
	k.resultFile = absolute(os.Getenv(env("result-file")[0]))
	for i, a := range args {
		if a == "--" {
			break
		}
		name, value, given := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(a, "-"), "-"), "=")
		switch {
		case !strings.HasPrefix(a, "-"):
		case name == "json":
			k.json = !given || value == "true"
		case name == "result-file" && given:
			k.resultFile = absolute(value)
		case name == "result-file" && i+1 < len(args):
			k.resultFile = absolute(args[i+1])
		}
	}
	return k
}

// configure reads the output flags of a parsed command.
func (k *console) configure(c *cli.Context) error {
	k.json, k.quiet = c.Bool("json"), c.Bool("quiet")
	k.resultFile, k.metricsFile = absolute(c.String("result-file")), absolute(c.String("metrics-file"))
	level := slog.LevelInfo
	if k.quiet {
		level = slog.LevelError
	}
	options := &slog.HandlerOptions{Level: level}
	switch format := c.String("log-format"); {
	case format == "json":
		k.jsonLogs = true
		k.log = slog.New(slog.NewJSONHandler(k.stderr, options))
	case format == "text" || (format == "auto" || format == "") && isTerminal(k.stderr):
		k.log = slog.New(slog.NewTextHandler(k.stderr, options))
	case format == "auto" || format == "":
		k.log = slog.New(slog.NewJSONHandler(k.stderr, options))
	default:
		return usagef("%s: --log-format %q is not one of auto, text, json", c.Command.Name, format)
	}
	return nil
}

// progress chooses how a run shows that it gets on.
func (k *console) progress() *jobs.Progress {
	switch {
	case k.quiet:
		return nil
	case isTerminal(k.stderr) && os.Getenv("NO_COLOR") == "" && os.Getenv("CI") == "":
		return jobs.NewTerminalProgress(k.stderr, k.log)
	}
	return jobs.NewLogProgress(k.log)
}

// finish ends the command, once, and returns the exit code. A signal's hard end and the ordinary one may meet here.
func (k *console) finish(err error) int {
	k.once.Do(func() {
		k.final = k.end(err)
		close(k.ended)
	})
	<-k.ended
	return k.final
}

// end reports. Files come first: they must not wait for a reader of the pipes that is stuck.
func (k *console) end(err error) int {
	if ferr := k.writeFiles(err); ferr != nil && err == nil {
		err = ferr
		k.report.doc = nil // it tells of a success
	} else {
		err = ferr
	}
	code := exitcode.Of(err)
	if err != nil {
		line := oneLine(err)
		k.terminationMessage(line)
		k.printFailure(line, code)
	} else if k.code != 0 {
		code = exitcode.Code(k.code)
	}
	werr := k.printResult(err)
	if werr != nil && !errors.Is(werr, syscall.EPIPE) && err == nil { // a broken pipe only means that nobody listens
		k.printFailure("standard output: "+werr.Error(), exitcode.IO)
		return int(exitcode.IO)
	}
	return int(code)
}

// writeFiles writes result and metrics. When that fails, the command has failed.
func (k *console) writeFiles(err error) error {
	if k.metricsFile != "" {
		r, job := k.report.run, k.report.job
		if r == nil {
			r = jobs.Failure(err)
		}
		if merr := r.WriteMetrics(k.metricsFile, job, time.Now()); merr != nil {
			err = errors.Join(err, fmt.Errorf("metrics file: %w", merr))
		}
	}
	if k.resultFile == "" {
		return err
	}
	doc := k.document(err)
	if k.report.file != nil && err == nil {
		doc = k.report.file
	}
	if rerr := writeJSONFile(k.resultFile, doc); rerr != nil {
		err = errors.Join(err, exitcode.With(exitcode.IO, fmt.Errorf("result file: %w", rerr)))
	}
	return err
}

// document is what machines read: the command's own, or a failure.
func (k *console) document(err error) any {
	switch {
	case k.report.doc != nil:
		return k.report.doc
	case err != nil:
		return jobs.Failure(exitcode.With(exitcode.Of(err), errors.New(oneLine(err))))
	}
	return nil
}

func (k *console) printFailure(line string, code exitcode.Code) {
	if k.jsonLogs {
		k.log.Error("failed", "err", line, "code", int(code))
		return
	}
	fmt.Fprintf(k.stderr, "ldm-batch: %s\n", line)
}

func (k *console) printResult(err error) error {
	if k.json {
		if doc := k.document(err); doc != nil {
			b, merr := json.Marshal(doc)
			if merr != nil {
				return merr
			}
			_, werr := k.stdout.Write(append(b, '\n'))
			return werr
		}
		return nil
	}
	if k.quiet && err == nil {
		return nil
	}
	_, werr := io.WriteString(k.stdout, k.report.text)
	return werr
}

// terminationMessage leaves the failure where Kubernetes shows it. There, and only there, the file exists.
func (k *console) terminationMessage(line string) {
	f, err := os.OpenFile(terminationLog, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "ldm-batch: %s\n", line)
}

// maxMessage keeps the failure below what Kubernetes and Airflow take (4096 and 48 KiB).
const maxMessage = 3000

// oneLine is an error without line breaks, cut where it has no end.
func oneLine(err error) string {
	s := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + " ..."
	}
	return s
}

// absolute makes a path independent of the working folder, which a scheduler may delete under a running job.
func absolute(path string) string {
	if path == "" {
		return ""
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// action wraps the body of a command: output flags, signals, then the command itself.
func (k *console) action(body func(context.Context, *cli.Context) error) cli.ActionFunc {
	return k.wrap(body, stopping)
}

// query is action for a command that writes nothing: there is nothing to wait for when it is stopped.
func (k *console) query(body func(context.Context, *cli.Context) error) cli.ActionFunc {
	return k.wrap(body, func(c *cli.Context) stopPolicy { return stopPolicy{timeout: durationOf(c, "timeout")} })
}

func (k *console) wrap(body func(context.Context, *cli.Context) error, policy func(*cli.Context) stopPolicy) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := k.configure(c); err != nil {
			return err
		}
		ctx := k.watch(c.Context, policy(c))
		err := body(ctx, c)
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
			return cause // whoever saw only that the context ended
		}
		return err
	}
}
