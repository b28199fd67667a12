// Package exitcode is the one table that maps error classes to process exit codes.
//
// Concept: an error that should end the process with a particular code is wrapped once, where its class is known, with
// [With] or [Errorf]; everything above wraps it with %w and context only. [Of] finds the innermost decision.
// Codes follow sysexits where one fits, so that schedulers can tell a useless retry from a useful one.
// New codes may be added; an unknown code is a failure.
package exitcode

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// Code is a process exit code.
type Code int

// The codes. They are documented in docs/exit-codes.md and never reused.
const (
	OK          Code = 0   // done; everything promised is on disk (also: nothing to do)
	Unknown     Code = 1   // unclassified error
	Crash       Code = 2   // the Go runtime's own code for a panic; never returned on purpose
	RowErrors   Code = 3   // finished and published, but rows failed and --fail-on-row-errors was given
	Usage       Code = 64  // usage or job-file error
	Data        Code = 65  // input data error: row budget exceeded, unreadable Parquet, bad checkpoint
	NoInput     Code = 66  // input missing
	Unavailable Code = 69  // required device or CPU feature unavailable
	Internal    Code = 70  // internal invariant broken: NaN in latents, failed self-check
	IO          Code = 74  // I/O error, disk full included
	Temporary   Code = 75  // lock held, out of memory after back-off
	Permission  Code = 77  // permission denied or path outside its root
	Conflict    Code = 78  // the output folder belongs to another job
	Nothing     Code = 99  // nothing to do; only with --skip-exit-code
	Interrupted Code = 130 // SIGINT after a clean drain
	Terminated  Code = 143 // SIGTERM after a clean drain
)

// Info describes one code for the documentation and for result files.
type Info struct {
	Code      Code
	Name      string
	Meaning   string
	Retryable bool
}

// Table lists every code in ascending order.
var Table = []Info{
	{OK, "ok", "done; everything promised is on disk (also: nothing to do)", false},
	{Unknown, "unknown", "unclassified error", true},
	{Crash, "crash", "the Go runtime's own code for a panic; never returned on purpose", true},
	{RowErrors, "row-errors", "finished and published, but some rows failed and --fail-on-row-errors was given", false},
	{Usage, "usage", "usage or job-file error", false},
	{Data, "data", "input data error: row-failure budget exceeded, unreadable input, bad checkpoint", false},
	{NoInput, "no-input", "input missing", false},
	{Unavailable, "unavailable", "required device or CPU feature unavailable; retry on another machine", true},
	{Internal, "internal", "internal invariant broken (NaN in latents, failed self-check)", false},
	{IO, "io", "I/O error, disk full included; retry after cleaning up", true},
	{Temporary, "temporary", "lock held by another run, or another passing condition", true},
	{Permission, "permission", "permission denied, or a path outside its root", false},
	{Conflict, "conflict", "the output folder belongs to another job", false},
	{Nothing, "nothing", "nothing to do; only with --skip-exit-code", false},
	{Interrupted, "interrupted", "stopped by SIGINT after a clean drain; the same command resumes", true},
	{Terminated, "terminated", "stopped by SIGTERM after a clean drain; the same command resumes", true},
}

// Error carries the class of an error.
type Error struct {
	Code Code
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e *Error) Unwrap() error { return e.Err }

// With wraps err with a class; nil stays nil.
func With(c Code, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: c, Err: err}
}

// Errorf is fmt.Errorf with a class.
func Errorf(c Code, format string, args ...any) error {
	return &Error{Code: c, Err: fmt.Errorf(format, args...)}
}

// Of returns the code for err: the outermost class given with [With], else what the operating system's error implies,
// else [Unknown].
func Of(err error) Code {
	if err == nil {
		return OK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return NoInput
	case errors.Is(err, fs.ErrPermission):
		return Permission
	}
	var no syscall.Errno
	if errors.As(err, &no) {
		return IO
	}
	return Unknown
}

// Lookup returns the description of a code; an unlisted code is described as unknown.
func Lookup(c Code) Info {
	for _, i := range Table {
		if i.Code == c {
			return i
		}
	}
	return Info{Code: c, Name: "unknown", Meaning: "unlisted code", Retryable: false}
}

// Guard runs f and turns a panic into an error of class internal that begins with what was done.
func Guard(what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = Errorf(Internal, "%s: panic: %v", what, p)
		}
	}()
	return f()
}
