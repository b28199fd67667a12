package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// childEnv makes the test binary run the job of its arguments in place of tests: crash points exist only in test binaries.
const childEnv = "LDM_BATCH_E2E_CHILD"

// scratch holds what tests share: models, pictures, the program.
var scratch string

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child(os.Args[1:]))
	}
	var err error
	if scratch, err = os.MkdirTemp("", "ldm-batch-e2e-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

// child runs a job given as kind and KEY=VALUE arguments.
func child(args []string) int {
	j := job{kind: args[0], set: map[string]string{}}
	for _, a := range args[1:] {
		k, v, _ := strings.Cut(a, "=")
		j.set[k] = v
	}
	_, err := j.run(context.Background(), jobs.RunOptions{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return int(exitcode.Of(err))
}

// job is a job as settings by dotted key below spec.
type job struct {
	kind string
	set  map[string]string
}

// with is a copy with other settings, given as "key=value".
func (j job) with(settings ...string) job {
	c := job{j.kind, map[string]string{}}
	for k, v := range j.set {
		c.set[k] = v
	}
	for _, s := range settings {
		k, v, ok := strings.Cut(s, "=")
		if !ok {
			panic(s)
		}
		c.set[k] = v
	}
	return c
}

// to is a copy that writes to a folder.
func (j job) to(dir string) job { return j.with("output.path=" + dir) }

func (j job) resolve() (*spec.Resolved, error) {
	settings := []spec.Setting{{Key: "kind", Value: j.kind, Origin: "test"}}
	for _, k := range sorted(j.set) {
		settings = append(settings, spec.Setting{Key: k, Value: j.set[k], Origin: k})
	}
	return spec.Load("", nil, scratch, nil, settings)
}

// run runs the job in this process.
func (j job) run(ctx context.Context, o jobs.RunOptions) (*jobs.Result, error) {
	r, err := j.resolve()
	if err != nil {
		return nil, err
	}
	p, err := jobs.Prepare(ctx, r, jobs.PrepareOptions{})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return p.Run(ctx, o)
}

// must runs the job, which has to succeed.
func (j job) must(t testing.TB, o jobs.RunOptions) *jobs.Result {
	t.Helper()
	r, err := j.run(t.Context(), o)
	if err != nil {
		t.Fatalf("job %v: %v", j.set, err)
	}
	return r
}

// args is the command line of the job.
func (j job) args(flags ...string) []string {
	a := append([]string{strings.ToLower(j.kind)}, flags...)
	for _, k := range sorted(j.set) {
		a = append(a, "--set", k+"="+j.set[k])
	}
	return a
}

// program builds the program, once.
var program = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(scratch, "ldm-batch")
	out, err := exec.Command("go", "build", "-o", bin, "../../cmd/ldm-batch").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return bin, nil
})

// process is a running child.
type process struct {
	*exec.Cmd
	t      testing.TB
	stdout bytes.Buffer
	stderr bytes.Buffer
}

// command prepares the program; change its fields, then start it.
func command(t testing.TB, args ...string) *process {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(bin, args...), t: t}
	p.Env = environ()
	p.Cmd.Stdout, p.Cmd.Stderr = &p.stdout, &p.stderr
	p.Dir = t.TempDir()
	return p
}

// environ is a bare environment, so that tests do not depend on where they run.
func environ(more ...string) []string {
	e := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + scratch}
	return append(e, more...)
}

// start starts the child; it is killed when the test ends first.
func (p *process) start() *process {
	p.t.Helper()
	if err := p.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { p.Process.Kill() })
	return p
}

// maxRun bounds every child, so that a hang is a failure and not a time-out of the whole test.
const maxRun = 90 * time.Second

// wait returns the exit code, -1 for a signal.
func (p *process) wait() int {
	p.t.Helper()
	limit := time.AfterFunc(maxRun, func() { p.Process.Kill() })
	err := p.Wait()
	if !limit.Stop() {
		p.t.Fatalf("hangs: %v\n%s", p.Args, p.stderr.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return p.ProcessState.ExitCode()
}

// expect waits and checks the exit code.
func (p *process) expect(code int) *process {
	p.t.Helper()
	if got := p.wait(); got != code {
		p.t.Fatalf("exit code %d, want %d\nstdout: %s\nstderr: %s", got, code, p.stdout.String(), p.stderr.String())
	}
	return p
}
