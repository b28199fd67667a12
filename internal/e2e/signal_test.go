//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/jobs"
)

const longParts = 200

// long is a job that takes a second or more, in many parts.
func long(t testing.TB) job {
	return encodeJob(t, get(t, klModel), get(t, manyPictures), "output.rows_per_part=4", "compute.batch=2", fmt.Sprintf("input.limit=%d", 4*longParts))
}

// untilPart waits until a running job has finished a part.
func untilPart(t testing.TB, dir string) {
	t.Helper()
	for limit := time.Now().Add(maxRun); parts(dir) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s: no part in %v", dir, maxRun)
		}
	}
}

// TestSignals stops the program in every way that schedulers do. The next start goes on.
func TestSignals(t *testing.T) {
	// A shell's background job ignores SIGINT, and its children inherit that; a caught signal they do not.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, os.Interrupt)
	t.Cleanup(func() { signal.Stop(caught) }) // after the parallel subtests
	cases := []struct {
		name  string
		sig   os.Signal
		code  int
		flags []string
	}{
		{"SIGTERM", syscall.SIGTERM, 143, nil},
		{"SIGINT", os.Interrupt, 130, nil},
		{"SIGUSR1 on request", syscall.SIGUSR1, 143, []string{"--drain-on-usr1"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "out")
			j := long(t).to(out)
			p := command(t, j.args(append(c.flags, "--json")...)...).start()
			untilPart(t, out)
			p.Process.Signal(syscall.SIGCONT) // comes with every signal of Slurm, and means nothing
			start := time.Now()
			p.Process.Signal(c.sig)
			p.expect(c.code)
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("took %v to stop", d)
			}
			stopped(t, out, p.stdout.Bytes(), c.code)
			// The same command goes on, with less to do.
			done := parts(out)
			r := j.must(t, jobs.RunOptions{})
			if want := longParts - done; r.PartsDone != want || r.Parts != longParts || r.State != "finished" {
				t.Errorf("state %s, wrote %d of %d parts, want %d after %d", r.State, r.PartsDone, r.Parts, want, done)
			}
		})
	}
}

// stopped checks result and folder of a stopped run.
func stopped(t testing.TB, out string, result []byte, code int) {
	t.Helper()
	var r jobs.Result
	if err := json.Unmarshal(result, &r); err != nil {
		t.Fatalf("result %q: %v", result, err)
	}
	if r.State != "stopped" || r.ExitCode != code || !r.Retryable || r.Error == "" {
		t.Errorf("result %s", result)
	}
	s, err := commit.ReadStatus(out)
	if err != nil {
		t.Fatal(err)
	}
	if s.State != commit.Incomplete || len(s.Holders) > 0 || r.Parts != s.Done.Parts {
		t.Errorf("folder is %s with %d parts, held by %v; the result says %d parts", s.State, s.Done.Parts, s.Holders, r.Parts)
	}
	if left, _ := filepath.Glob(filepath.Join(out, ".ldm-batch", "tmp", "*")); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

// TestAbandoned does what Airflow does half a second after its SIGTERM: nobody reads standard output and standard error any
// more, and the working folder is gone. The drain still ends in order.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out, result, cwd := filepath.Join(dir, "out"), filepath.Join(dir, "result.json"), filepath.Join(dir, "cwd")
	if err := os.Mkdir(cwd, 0o777); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := command(t, long(t).to(out).args("--json", "--result-file", result)...)
	p.Cmd.Stdout, p.Cmd.Stderr, p.Dir = w, w, cwd
	p.start()
	w.Close()
	untilPart(t, out)
	r.Close()
	if err := os.RemoveAll(cwd); err != nil {
		t.Fatal(err)
	}
	p.Process.Signal(syscall.SIGTERM)
	p.expect(143)
	b, err := os.ReadFile(result)
	if err != nil {
		t.Fatal(err)
	}
	stopped(t, out, b, 143)
	var record commit.Run
	if b, err = os.ReadFile(filepath.Join(out, ".ldm-batch", "run.json")); err == nil {
		err = json.Unmarshal(b, &record)
	}
	if err != nil || record.Ended == nil || record.Outcome == nil {
		t.Errorf("run record %s, %v", b, err)
	}
}

// TestLock runs two at a time on one folder.
func TestLock(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	j := long(t).to(out)
	first := command(t, j.args("--quiet")...).start()
	untilPart(t, out)

	// While the first has the folder, a second fails at once, or has nothing to do. The first is halted, so as not to end.
	first.Process.Signal(syscall.SIGSTOP)
	second := command(t, j.args()...).start().expect(75)
	mentions(t, second.stderr.String(), out, "locked", "pid")
	command(t, j.args("--if-locked", "skip", "--skip-exit-code", "99")...).start().expect(99)
	skipped := command(t, j.args("--if-locked", "skip", "--json")...).start().expect(0)
	mentions(t, skipped.stdout.String(), `"state":"nothing"`)

	// A retry that starts while the first drains waits, then goes on.
	retry := command(t, j.args("--lock-wait", "60s", "--json")...).start()
	time.Sleep(200 * time.Millisecond) // so that it really waits, most times
	first.Process.Signal(syscall.SIGTERM)
	first.Process.Signal(syscall.SIGCONT)
	first.expect(143)
	done := parts(out)
	retry.expect(0)
	var r jobs.Result
	if err := json.Unmarshal(retry.stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.State != "finished" || r.Parts != longParts || r.PartsDone == 0 || r.PartsDone > longParts-done+1 {
		t.Errorf("%d parts were there; the retry says %s", done, retry.stdout.String())
	}

	// A killed run leaves no lock behind; a finished folder is nothing to do.
	if n := command(t, j.args("--skip-exit-code", "99")...).start().wait(); n != 99 {
		t.Errorf("exit code %d for a finished job, want 99", n)
	}
}
