//go:build unix

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// TestEnvironment runs one job in strange places: results do not depend on them.
func TestEnvironment(t *testing.T) {
	j := encodeJob(t, get(t, klModel), get(t, fewPictures), "input.limit=6", "output.rows_per_part=2")
	ref := filepath.Join(t.TempDir(), "ref")
	j.to(ref).must(t, jobs.RunOptions{})
	want := snapshot(t, ref)
	shell := func(redirect string) func(*process) {
		return func(p *process) {
			p.Args = append([]string{"sh", "-c", `exec "$0" "$@" ` + redirect, p.Path}, p.Args[1:]...)
			p.Path = "/bin/sh"
		}
	}
	cases := []struct {
		name  string
		code  int
		setup func(*process)
	}{
		{"no environment", 0, func(p *process) { p.Env = []string{} }},
		{"no HOME", 0, func(p *process) { p.Env = []string{"PATH=/nowhere"} }},
		{"odd time zone", 0, func(p *process) { p.Env = environ("TZ=Pacific/Chatham") }},
		{"wrong time zone", 0, func(p *process) { p.Env = environ("TZ=Nowhere/At All", "LANG=tr_TR.UTF-8", "LC_ALL=ar_EG") }},
		{"TMPDIR missing", 0, func(p *process) { p.Env = environ("TMPDIR=/nowhere") }},
		{"one processor", 0, func(p *process) { p.Env = environ("GOMAXPROCS=1") }},
		{"read-only working folder", 0, func(p *process) { p.Dir = "/proc" }},
		{"stdin closed", 0, shell("<&-")},
		{"stdout closed", 0, shell(">&-")},
		{"stdout and stderr closed", 0, shell(">&- 2>&-")},
		{"all closed", 0, shell("<&- >&- 2>&-")},
		{"stdout full", 74, shell(">/dev/full")},
		{"stderr full", 0, shell("2>/dev/full")},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "out")
			p := command(t, j.to(out).args()...)
			if strings.HasSuffix(c.name, "full") {
				if _, err := os.Stat("/dev/full"); err != nil {
					t.Skip("SKIPPED: no /dev/full here")
				}
			}
			c.setup(p)
			p.start().expect(c.code)
			same(t, out, want)
		})
	}
	t.Run("working folder deleted", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		out := filepath.Join(dir, "out")
		p := command(t, j.to(out).args()...)
		p.Args = append([]string{"sh", "-c", `rmdir "$PWD" && exec "$0" "$@"`, p.Path}, p.Args[1:]...)
		p.Path = "/bin/sh"
		code := p.start().wait()
		// Flags alone are relative to a folder that is not there: a clear error is fine, but then nothing may be left.
		if _, err := os.Stat(out); code == 0 {
			same(t, out, want)
		} else if err == nil || p.stderr.Len() == 0 {
			t.Errorf("exit code %d, message %q, output folder: %v", code, p.stderr.String(), err)
		}
	})
}

// TestRelativePaths resolves the paths of flags against the working folder, and those of a job file against its folder.
func TestRelativePaths(t *testing.T) {
	kl := get(t, klModel)
	dir := t.TempDir()
	work := filepath.Join(dir, "a, b") // a comma in a name is not a list
	if err := os.Mkdir(work, 0o777); err != nil {
		t.Fatal(err)
	}
	copyDir(t, get(t, fewPictures), filepath.Join(dir, "in"), 4)
	copyFile(t, kl.checkpoint, filepath.Join(work, "m.safetensors"))
	copyFile(t, kl.config, filepath.Join(work, "m.yaml"))
	file := filepath.Join(work, "job.yaml")
	text := "apiVersion: ldm-batch/v1\nkind: Encode\nspec:\n  model: {checkpoint: m.safetensors, config: m.yaml}\n" +
		"  input: {path: ../in}\n  preprocess: {size: 32}\n  output: {path: out, rows_per_part: 2}\n"
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	command(t, "run", file).start().expect(0)
	want := snapshot(t, filepath.Join(work, "out"))
	p := command(t, "encode", "--model", "m.safetensors", "--config", "m.yaml", "--input", "../in", "--size", "32", "--rows-per-part", "2", "--output", "again")
	p.Dir = work
	p.start().expect(0)
	same(t, filepath.Join(work, "again"), want)
}

// TestUnavailable asks for what this machine does not have: class unavailable, one line that says what is missing.
func TestUnavailable(t *testing.T) {
	j := encodeJob(t, get(t, klModel), get(t, fewPictures), "input.limit=2").to(filepath.Join(t.TempDir(), "out"))
	check := func(setting string, words ...string) {
		t.Helper()
		p := command(t, j.with(setting).args("--json", "--log-format", "text")...).start().expect(69)
		if text := strings.TrimSpace(p.stderr.String()); strings.Contains(text, "\n") {
			t.Errorf("more than a line: %s", text)
		}
		mentions(t, p.stderr.String(), words...)
		var r jobs.Result
		if err := json.Unmarshal(p.stdout.Bytes(), &r); err != nil || r.ExitCode != 69 || r.State != "failed" {
			t.Errorf("result %s: %v", p.stdout.String(), err)
		}
	}
	check("compute.device=gpu", "gpu")
	if kernel.Detect().BF16() {
		command(t, j.with("compute.precision=mixed").args()...).start().expect(0)
	} else {
		check("compute.precision=mixed", "bf16")
	}
}

// TestTimeout stops a job by --timeout: class temporary, and the same command goes on.
func TestTimeout(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	start := time.Now()
	p := command(t, long(t).to(out).args("--timeout", "300ms")...).start().expect(75)
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
	mentions(t, p.stderr.String(), "--timeout")
}
