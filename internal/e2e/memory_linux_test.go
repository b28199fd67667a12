package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/ldm-batch/ldm-batch/jobs"
)

// TestSmallMemory runs batches that do not fit into limits.memory: they go on incomplete, and the output is the same. Whether
// the source or the network finds out first is chance, so it runs more than once.
func TestSmallMemory(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	if err := os.Mkdir(in, 0o777); err != nil {
		t.Fatal(err)
	}
	b, err := drawing(rand.New(rand.NewPCG(1, 1)), 1500, 1500) // decoded, resized and packed: about 7 MB on the way
	if err != nil {
		t.Fatal(err)
	}
	for i := range 14 {
		if err := os.WriteFile(filepath.Join(in, fmt.Sprintf("%02d.png", i)), b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	j := encodeJob(t, get(t, klModel), in, "output.rows_per_part=9", "compute.batch=16")
	ref := filepath.Join(dir, "ref")
	j.to(ref).must(t, jobs.RunOptions{})
	want := snapshot(t, ref)
	repeats := 2
	if testing.Short() {
		repeats = 1
	}
	for i := range repeats {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("hangs"))
		out := filepath.Join(dir, fmt.Sprint(i))
		if _, err := j.with("limits.memory=64MiB").to(out).run(ctx, jobs.RunOptions{}); err != nil {
			t.Errorf("run %d: %v", i, err)
		}
		cancel()
		same(t, out, want)
	}
}

// TestBoundedMemory compares the largest resident size of the program over many rows with that over few.
func TestBoundedMemory(t *testing.T) {
	j := encodeJob(t, get(t, klModel), get(t, manyPictures), "output.rows_per_part=100", "limits.memory=64MiB")
	peak := func(limit string) int64 {
		p := command(t, j.with("input.limit="+limit).to(filepath.Join(t.TempDir(), "out")).args("--quiet")...).start().expect(0)
		return p.ProcessState.SysUsage().(*syscall.Rusage).Maxrss >> 10 // KiB on Linux
	}
	few, many := peak("200"), peak("2000")
	t.Logf("resident: %d MiB for 200 rows, %d MiB for 2000", few, many)
	if many > few+64 || many > 512 {
		t.Errorf("resident size grows from %d MiB for 200 rows to %d MiB for 2000", few, many)
	}
}
