// Command ldm-batch runs batch jobs on latent diffusion models.
//
// Concept: a command turns its flags into a job or a question, hands it to package jobs, and reports what came of it.
// Data flow: arguments and environment -> settings -> jobs -> one report. Standard output carries the result and nothing
// else, standard error logs and progress. Every command ends in console.finish, whatever happened: it writes the result
// file, the metrics, the line for people and the line for machines, in this order, and chooses the exit code.
// Errors: the exit code follows from the error's class, see package exitcode; a failure always prints one line.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// A pipe whose reader is gone must not end a process that drains: schedulers close their end right after SIGTERM.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(os.Args, os.Stdout, os.Stderr))
}
