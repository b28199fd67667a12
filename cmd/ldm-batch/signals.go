package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// stopPolicy says when a command ends before its work does.
type stopPolicy struct {
	timeout time.Duration // 0: never
	drain   time.Duration // how long the work may take to stop
	usr1    bool          // SIGUSR1 stops as well
}

// defaultDrain stays below the 30 seconds that Kubernetes and Slurm wait before they kill.
const defaultDrain = 20 * time.Second

func stopping(c *cli.Context) stopPolicy {
	p := stopPolicy{drain: defaultDrain, usr1: c.Bool("drain-on-usr1"), timeout: durationOf(c, "timeout")}
	if c.IsSet("drain-timeout") {
		p.drain = durationOf(c, "drain-timeout")
	}
	return p
}

// watcher turns signals and the time limit into the end of a context.
type watcher struct {
	exit    func(code int) // ends the process
	signals chan os.Signal
	done    chan struct{}
}

// watch returns a context that ends with the first signal or when the time is up. The cause has the class of the exit
// code. Work that has not ended when the drain time is over, or at a second signal, is abandoned. SIGCONT, which Slurm
// sends along, means nothing.
func (k *console) watch(parent context.Context, p stopPolicy) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	k.signals, k.done = make(chan os.Signal, 4), make(chan struct{})
	stops := []os.Signal{syscall.SIGTERM}
	if !signal.Ignored(os.Interrupt) { // a shell's background job ignores it, and shall go on doing so
		stops = append(stops, os.Interrupt)
	}
	if p.usr1 {
		stops = append(stops, userSignal...)
	}
	signal.Notify(k.signals, stops...)
	var limit <-chan time.Time
	if p.timeout > 0 {
		limit = time.After(p.timeout)
	}
	go func(signals <-chan os.Signal, done <-chan struct{}) {
		var cause error
		select {
		case s := <-signals:
			cause = signalError(s)
		case <-limit:
			cause = exitcode.Errorf(exitcode.Temporary, "stopped after --timeout %s; the same command goes on", p.timeout)
		case <-done:
			return
		}
		abandon := time.After(p.drain)
		cancel(cause)
		go k.log.Warn("stopping", "cause", cause.Error(), "drain_timeout", p.drain.String()) // may block; nobody waits for it
		select {
		case <-signals:
		case <-abandon:
		case <-done:
			return
		}
		k.abandon(cause)
	}(k.signals, k.done)
	return ctx
}

// abandon ends the process without waiting for the work, reporting as far as that is possible at once.
func (k *console) abandon(cause error) {
	go k.finish(cause)
	select {
	case <-k.ended:
	case <-time.After(time.Second):
	}
	k.exit(int(exitcode.Of(cause)))
}

// stop ends the watch.
func (w *watcher) stop() {
	if w.signals != nil {
		signal.Stop(w.signals)
		close(w.done)
		w.signals = nil
	}
}

func signalError(s os.Signal) error {
	switch s {
	case os.Interrupt:
		return exitcode.Errorf(exitcode.Interrupted, "stopped by SIGINT; the same command goes on")
	case syscall.SIGTERM:
		return exitcode.Errorf(exitcode.Terminated, "stopped by SIGTERM; the same command goes on")
	}
	return exitcode.Errorf(exitcode.Terminated, "stopped by SIGUSR1; the same command goes on")
}
