package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ldm-batch/ldm-batch/jobs"
)

// TestKill kills the program at random moments and runs it again until it ends by itself; the result must be that of an
// undisturbed run, and nothing may look finished before it is.
func TestKill(t *testing.T) {
	j := forty(t)
	ref := filepath.Join(t.TempDir(), "ref")
	command(t, j.to(ref).args("--quiet")...).start().expect(0) // the first start pays for reading the program
	if err := os.RemoveAll(ref); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	command(t, j.to(ref).args("--quiet")...).start().expect(0)
	whole := time.Since(start)
	want := snapshot(t, ref)
	if len(want) != 43 {
		t.Fatalf("%d files, want 40 parts, manifest, _SUCCESS and plan", len(want))
	}
	repeats := 25
	if testing.Short() {
		repeats = 4
	}
	t.Logf("undisturbed: %v", whole)
	for seed := range repeats {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(uint64(seed), 9))
			out := filepath.Join(t.TempDir(), "out")
			kills := 1 + r.IntN(2)
			left := 1.0
			for k := range kills {
				p := command(t, j.to(out).args("--quiet")...).start()
				share := left * r.Float64()
				left -= share
				time.Sleep(time.Duration(share * float64(whole)))
				p.Process.Kill()
				code := p.wait()
				if _, err := os.Stat(out); err == nil {
					honest(t, out, want)
				}
				t.Logf("kill %d after %.0f%%: exit code %d, %d parts", k, 100*share, code, parts(out))
				if code == 0 {
					break // was faster than the signal
				}
			}
			command(t, j.to(out).args("--quiet")...).start().expect(0)
			same(t, out, want)
		})
	}
}

// TestCrashPoints ends the process at every numbered step of the commit protocol, as kill -9 does, and runs the job again.
func TestCrashPoints(t *testing.T) {
	j := encodeJob(t, get(t, klModel), get(t, fewPictures), "output.rows_per_part=2", "input.limit=6")
	ref := filepath.Join(t.TempDir(), "ref")
	j.to(ref).must(t, jobs.RunOptions{})
	want := snapshot(t, ref)
	points := []string{"scaffold", "lock", "sweep"}
	for _, step := range []string{"plan", "run", "part", "journal", "manifest", "success"} {
		for _, stage := range []string{"created", "written", "synced", "checked", "renamed", "durable"} {
			points = append(points, step+"."+stage)
			if step == "part" || step == "journal" {
				points = append(points, step+"."+stage+":2")
			}
		}
	}
	for i, point := range points {
		if testing.Short() && i%6 != 0 {
			continue
		}
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "out")
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			args := []string{j.kind}
			for k, v := range j.to(out).set {
				args = append(args, k+"="+v)
			}
			cmd := exec.Command(self, args...)
			cmd.Env = environ(childEnv+"=1", "LDM_BATCH_CRASH_AT="+point)
			text, err := cmd.CombinedOutput()
			if err == nil || cmd.ProcessState.Exited() {
				t.Fatalf("was not killed: the point is never reached (%v)\n%s", err, text)
			}
			honest(t, out, want)
			j.to(out).must(t, jobs.RunOptions{})
			same(t, out, want)
			if left, _ := filepath.Glob(filepath.Join(out, ".ldm-batch", "tmp", "*")); len(left) > 0 {
				t.Errorf("temporary files are left: %v", left)
			}
		})
	}
}
