//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// child starts the program with an endless job: the test binary itself, see TestMain.
func child(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), "LDM_BATCH_TEST_MAIN=1")
	cmd.Dir = dir
	t.Cleanup(func() {
		if cmd.Process != nil && cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return cmd
}

// endless is a job whose rows are never all done within a test.
func endless(t *testing.T) (job, out string) {
	t.Helper()
	dir := t.TempDir()
	job = filepath.Join(dir, "job.yaml")
	text := strings.Replace(sampleJob(writeModel(t)), "rows: 6", "rows: 4000", 1)
	write(t, job, strings.Replace(text, "steps: 2", "steps: 100", 1))
	return job, filepath.Join(dir, "out")
}

// waitForParts waits until n parts are finished.
func waitForParts(t *testing.T, out string, n int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if list, _ := filepath.Glob(filepath.Join(out, ".ldm-batch", "journal", "*.json")); len(list) >= n {
			return
		}
	}
	t.Fatalf("%s: no %d parts within 30 s", out, n)
}

// exitOf waits for the end of a child; a signal that kills it is a failure.
func exitOf(t *testing.T, cmd *exec.Cmd, limit time.Duration) int {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(limit):
		cmd.Process.Kill()
		<-done
		t.Fatalf("still running %s after the signal", limit)
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		t.Fatalf("killed by %s", ws.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

func readResult(t *testing.T, path string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatalf("%s: %v: %q", path, err, b)
	}
	return doc
}

// TestSignals stops runs in the ways that schedulers do.
func TestSignals(t *testing.T) {
	cases := []struct {
		name string
		args []string
		send []os.Signal
		want exitcode.Code
	}{
		{"SIGTERM", nil, []os.Signal{syscall.SIGTERM}, exitcode.Terminated},
		{"SIGCONT means nothing", nil, []os.Signal{syscall.SIGCONT, syscall.SIGTERM, syscall.SIGCONT}, exitcode.Terminated},
		{"SIGINT", nil, []os.Signal{os.Interrupt}, exitcode.Interrupted},
		{"SIGUSR1", []string{"--drain-on-usr1"}, []os.Signal{syscall.SIGUSR1}, exitcode.Terminated},
		{"time limit", []string{"--timeout", "600ms"}, nil, exitcode.Temporary},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.want == exitcode.Interrupted && signal.Ignored(os.Interrupt) {
				t.Skip("SIGINT is ignored here, and children inherit that")
			}
			job, out := endless(t)
			result := filepath.Join(filepath.Dir(job), "result.json")
			cmd := child(t, t.TempDir(), append(append([]string{"run", "--json", "--result-file", result}, c.args...), job)...)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if c.send != nil {
				waitForParts(t, out, 1)
			}
			for _, s := range c.send {
				if err := cmd.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
			}
			if code := exitOf(t, cmd, 15*time.Second); code != int(c.want) {
				t.Fatalf("code %d, want %d; stderr %s", code, c.want, stderr.String())
			}
			doc := readResult(t, result)
			if doc["exit_code"] != float64(c.want) || doc["retryable"] != true {
				t.Errorf("result %v", doc)
			}
			if b, _ := os.ReadFile(result); stdout.String() != string(b) {
				t.Errorf("stdout %q, result file %q", stdout.String(), b)
			}
			if strings.Contains(stderr.String(), "\r") || !strings.Contains(stderr.String(), "\nldm-batch: stopped") {
				t.Errorf("stderr %q", stderr.String())
			}
			if left, _ := filepath.Glob(filepath.Join(out, ".ldm-batch", "tmp", "*")); left != nil {
				t.Errorf("half-written files remain: %v", left)
			}
			if got := invoke(t, "verify", out); got.code != 0 {
				t.Errorf("the folder is not sound: %+v", got)
			}
		})
	}
}

// TestAbandonedByScheduler: the reader of both pipes goes away and the working folder is deleted at the moment of SIGTERM.
// The run still drains, leaves its result, and a retry that starts meanwhile waits for the folder and goes on.
func TestAbandonedByScheduler(t *testing.T) {
	job, out := endless(t)
	cwd := filepath.Join(t.TempDir(), "cwd")
	if err := os.Mkdir(cwd, 0o755); err != nil {
		t.Fatal(err)
	}
	result := filepath.Join(filepath.Dir(job), "result.json")
	cmd := child(t, cwd, "run", "--json", "--result-file", result, job)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitForParts(t, out, 1)

	if got := invoke(t, "run", job); got.code != int(exitcode.Temporary) || !strings.Contains(got.stderr, "locked") && !strings.Contains(got.stderr, "in use") {
		t.Errorf("second run: %+v", got)
	}
	if got := invoke(t, "run", "--if-locked", "skip", "--skip-exit-code", "99", "--quiet", job); got.code != 99 || got.stdout+got.stderr != "" {
		t.Errorf("second run with skip: %+v", got)
	}

	retryResult := filepath.Join(filepath.Dir(job), "retry.json")
	retry := child(t, t.TempDir(), "run", "--quiet", "--lock-wait", "20s", "--result-file", retryResult, job)
	if err := retry.Start(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), stdout.Close(), stderr.Close(), os.RemoveAll(cwd)); err != nil {
		t.Fatal(err)
	}
	if code := exitOf(t, cmd, 15*time.Second); code != int(exitcode.Terminated) {
		t.Errorf("code %d, want 143", code)
	}
	first := readResult(t, result)
	if first["state"] != "stopped" || first["parts_done"].(float64) < 1 {
		t.Errorf("result %v", first)
	}
	waitForParts(t, out, int(first["parts"].(float64))+1)
	if err := retry.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := exitOf(t, retry, 15*time.Second); code != int(exitcode.Terminated) {
		t.Errorf("retry: code %d, want 143", code)
	}
	if second := readResult(t, retryResult); second["parts"].(float64) <= first["parts"].(float64) {
		t.Errorf("the retry did not go on: %v after %v", second, first)
	}
}

// stuck watches over work that never ends and returns the channel of the exit code.
func stuck(t *testing.T, p stopPolicy, result string) (*console, context.Context, <-chan int) {
	t.Helper()
	k := newConsole([]string{"ldm-batch", "run", "--result-file", result}, io.Discard, io.Discard)
	k.log = slog.New(slog.DiscardHandler)
	exits := make(chan int, 1)
	k.exit = func(code int) { exits <- code }
	ctx := k.watch(context.Background(), p)
	t.Cleanup(k.stop)
	return k, ctx, exits
}

// TestAbandon: work that does not stop is abandoned when its time is over, and at once by a second signal.
func TestAbandon(t *testing.T) {
	receive := func(c <-chan int) int {
		select {
		case code := <-c:
			return code
		case <-time.After(10 * time.Second):
			t.Fatal("no exit")
			return 0
		}
	}
	t.Run("drain time over", func(t *testing.T) {
		result := filepath.Join(t.TempDir(), "r.json")
		k, ctx, exits := stuck(t, stopPolicy{drain: 50 * time.Millisecond}, result)
		k.signals <- syscall.SIGTERM
		<-ctx.Done()
		if code := receive(exits); code != int(exitcode.Terminated) || exitcode.Of(context.Cause(ctx)) != exitcode.Terminated {
			t.Errorf("code %d, cause %v", code, context.Cause(ctx))
		}
		if doc := readResult(t, result); doc["exit_code"] != 143.0 || doc["state"] != "stopped" {
			t.Errorf("result %v", doc)
		}
	})
	t.Run("second signal", func(t *testing.T) {
		k, ctx, exits := stuck(t, stopPolicy{drain: time.Hour}, filepath.Join(t.TempDir(), "r.json"))
		k.signals <- os.Interrupt
		<-ctx.Done()
		select {
		case code := <-exits:
			t.Fatalf("exit %d after one signal", code)
		case <-time.After(50 * time.Millisecond):
		}
		k.signals <- os.Interrupt
		if code := receive(exits); code != int(exitcode.Interrupted) {
			t.Errorf("code %d, want 130", code)
		}
	})
	t.Run("stuck pipe", func(t *testing.T) {
		k, ctx, exits := stuck(t, stopPolicy{drain: 10 * time.Millisecond}, filepath.Join(t.TempDir(), "r.json"))
		r, w := io.Pipe() // a write waits for a reader that never comes
		defer r.Close()
		k.stderr = w
		k.signals <- syscall.SIGTERM
		<-ctx.Done()
		if code := receive(exits); code != int(exitcode.Terminated) {
			t.Errorf("code %d, want 143", code)
		}
	})
}

// TestLockWaitDefault: under a scheduler a retry may start while the first attempt drains.
func TestLockWaitDefault(t *testing.T) {
	job, out := endless(t)
	cmd := child(t, t.TempDir(), "run", "--quiet", job)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitForParts(t, out, 1)
	t.Setenv("SLURM_JOB_ID", "1")
	start := time.Now()
	got := invoke(t, "run", "--timeout", "500ms", job)
	if got.code != int(exitcode.Temporary) || time.Since(start) < 500*time.Millisecond || !strings.Contains(got.stderr, "--timeout") {
		t.Errorf("%+v after %s: want it to wait until its time limit", got, time.Since(start))
	}
	start = time.Now()
	if got := invoke(t, "run", "--lock-wait", "0s", "--timeout", "10s", job); got.code != int(exitcode.Temporary) || strings.Contains(got.stderr, "--timeout") {
		t.Errorf("%+v after %s: want no waiting", got, time.Since(start))
	}
}

// TestCompletion: the shell gets commands and flags, and nothing runs.
func TestCompletion(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--generate-bash-completion"}, "encode\n"},
		{[]string{"run", "--", "--generate-bash-completion"}, ""},
		{[]string{"run", "--sk", "--generate-bash-completion"}, "--skip-exit-code\n"},
	} {
		cmd := child(t, t.TempDir(), c.args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		b, err := cmd.Output()
		if c.want != "" && (err != nil || !strings.Contains(string(b), c.want) || stderr.Len() > 0) {
			t.Errorf("%v: %v, stdout %q, stderr %q", c.args, err, b, stderr.String())
		}
	}
}
