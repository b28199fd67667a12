//go:build unix

package main

import (
	"os"
	"syscall"
)

// userSignal is what Slurm and submitit are often told to send before the time limit.
var userSignal = []os.Signal{syscall.SIGUSR1}
