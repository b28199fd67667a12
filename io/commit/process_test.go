package commit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// TestMain turns the test binary into a job of its own when asked to.
func TestMain(m *testing.M) {
	dir := os.Getenv("COMMIT_TEST_DIR")
	if dir == "" {
		os.Exit(m.Run())
	}
	parts, err := SplitRows(14, 5)
	if err != nil {
		panic(err)
	}
	p, err := NewPlan(document(), parts)
	if err != nil {
		panic(err)
	}
	switch os.Getenv("COMMIT_TEST_MODE") {
	case "hold":
		f, err := Open(context.Background(), dir, p, Options{})
		if err != nil {
			panic(err)
		}
		fmt.Println("held")
		bufio.NewReader(os.Stdin).ReadString('\n')
		f.Close()
	case "tree":
		if err := treeJob(dir, treePlan("x"), Options{RetryFailed: true}, 0); err != nil {
			panic(err)
		}
	case "job":
		if err := job(dir, p, Options{RetryFailed: true}, false); err != nil {
			panic(err)
		}
	}
	os.Exit(0)
}

func child(dir, mode string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "COMMIT_TEST_DIR="+dir, "COMMIT_TEST_MODE="+mode), env...)
	return cmd
}

// TestKilledAtEveryPoint kills a process at every crash point, each time it is passed, and runs the job again.
func TestKilledAtEveryPoint(t *testing.T) {
	p := testPlan(t)
	clean, flaky := reference(t, false), reference(t, true)
	prepare := map[string]func(dir string){
		"fresh": func(string) {},
		"retry": func(dir string) {
			if err := job(dir, p, Options{FS: noSync(t)}, true); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, prep := range prepare {
		root := scratch(t)
		var points []string // "point:n" in order
		seen := map[string]int{}
		dir := filepath.Join(root, "list")
		prep(dir)
		crashHook = func(point string) {
			seen[point]++
			points = append(points, fmt.Sprintf("%s:%d", point, seen[point]))
		}
		err := job(dir, p, Options{RetryFailed: true, FS: noSync(t)}, false)
		crashHook = nil
		if err != nil {
			t.Fatal(err)
		}
		if len(points) < 30 {
			t.Errorf("%s: only %d crash points: %v", name, len(points), points)
		}
		for _, at := range points {
			dir := filepath.Join(root, strings.ReplaceAll(at, ":", "-"))
			prep(dir)
			out, err := child(dir, "job", "LDM_BATCH_CRASH_AT="+at).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Exited() {
				t.Fatalf("%s %s: the child was not killed: %v\n%s", name, at, err, out)
			}
			wantSound(t, name+" "+at, dir, clean, flaky)
			if out, err := child(dir, "job").CombinedOutput(); err != nil {
				t.Fatalf("%s %s: second run: %v\n%s", name, at, err, out)
			}
			wantSame(t, name+" "+at, published(t, dir), clean)
			if left, _ := os.ReadDir(filepath.Join(dir, controlName, tmpName)); len(left) > 0 {
				t.Errorf("%s %s: temporary files left: %v", name, at, left)
			}
		}
	}
}

// hold starts a process that holds the folder, and returns when it does.
func hold(t *testing.T, dir string) (*exec.Cmd, func()) {
	t.Helper()
	cmd := child(dir, "hold")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("child says %q, %v", line, err)
	}
	return cmd, func() { fmt.Fprintln(in) }
}

func TestBusy(t *testing.T) {
	p := testPlan(t)
	dir := filepath.Join(scratch(t), "out")
	cmd, letGo := hold(t, dir)
	for _, s := range []Shard{{}, {0, 2}} {
		_, err := Open(context.Background(), dir, p, Options{Shard: s, FS: noSync(t)})
		if !errors.Is(err, ErrLocked) || exitcode.Of(err) != exitcode.Temporary {
			t.Errorf("shard %s: %v", s, err)
		}
		if want := fmt.Sprintf("pid %d on ", cmd.Process.Pid); !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if s, err := ReadStatus(dir); err != nil || len(s.Holders) != 1 || s.Holders[0].PID != cmd.Process.Pid {
		t.Errorf("status %+v, %v", s, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := Open(ctx, dir, p, Options{Wait: time.Minute, FS: noSync(t)}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled wait: %v", err)
	}
	time.AfterFunc(100*time.Millisecond, letGo)
	f, err := Open(context.Background(), dir, p, Options{Wait: time.Minute, FS: noSync(t)})
	if err != nil {
		t.Fatalf("after the wait: %v", err)
	}
	f.Close()
}

// TestKilledHolder kills the holder: the lock is free at once, and its note is known to be stale.
func TestKilledHolder(t *testing.T) {
	p := testPlan(t)
	dir := filepath.Join(scratch(t), "out")
	cmd, _ := hold(t, dir)
	cmd.Process.Kill()
	cmd.Wait()
	if s, err := ReadStatus(dir); err != nil || len(s.Holders) != 0 {
		t.Errorf("status %+v, %v", s, err)
	}
	f, err := Open(context.Background(), dir, p, Options{FS: noSync(t)})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestShardLocks(t *testing.T) {
	p := testPlan(t)
	dir := filepath.Join(scratch(t), "out")
	open := func(s Shard) (*Folder, error) {
		return Open(context.Background(), dir, p, Options{Shard: s, FS: noSync(t)})
	}
	a, err := open(Shard{0, 2})
	if err != nil {
		t.Fatal(err)
	}
	b, err := open(Shard{1, 2})
	if err != nil {
		t.Fatalf("another shard: %v", err)
	}
	for _, s := range []Shard{{0, 2}, {}} {
		if _, err := open(s); !errors.Is(err, ErrLocked) {
			t.Errorf("shard %s beside shards 0/2 and 1/2: %v", s, err)
		}
	}
	if s, err := ReadStatus(dir); err != nil || len(s.Holders) != 2 {
		t.Errorf("holders %v, %v", s.Holders, err)
	}
	a.Close()
	b.Close()
	f, err := open(Shard{})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, s := range []Shard{{2, 2}, {-1, 2}, {0, -1}, {1, 0}} {
		if _, err := open(s); exitcode.Of(err) != exitcode.Usage {
			t.Errorf("shard %d/%d: %v", s.Index, s.Count, err)
		}
	}
}

// TestSweep checks whose temporary files go: all for a whole run, its own for a shard.
func TestSweep(t *testing.T) {
	p := testPlan(t)
	dir := filepath.Join(scratch(t), "out")
	names := []string{"r.part.tmp", "s00000-of-00002.part.tmp", "s00001-of-00002.part.tmp"}
	left := func(s Shard) (got []string) {
		f, err := Open(context.Background(), dir, p, Options{Shard: s, FS: noSync(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		entries, _ := os.ReadDir(f.tmp())
		for _, e := range entries {
			got = append(got, e.Name())
		}
		return got
	}
	left(Shard{})
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(dir, controlName, tmpName, n), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if got := left(Shard{1, 2}); !slices.Equal(got, names[:2]) {
		t.Errorf("a shard left %v", got)
	}
	if got := left(Shard{}); got != nil {
		t.Errorf("a whole run left %v", got)
	}
}
