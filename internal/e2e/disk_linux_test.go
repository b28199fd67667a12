package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// TestDiskFull fills a small file system at several points of a job.
func TestDiskFull(t *testing.T) {
	j := forty(t)
	ref := filepath.Join(t.TempDir(), "ref")
	j.to(ref).must(t, jobs.RunOptions{})
	want := snapshot(t, ref)
	for _, size := range []int{16, 48, 100, 150, 200, 260} {
		t.Run(fmt.Sprintf("%dKiB", size), func(t *testing.T) {
			disk := filepath.Join(t.TempDir(), "disk")
			if err := os.Mkdir(disk, 0o777); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%dk", size)); errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
				t.Skip("SKIPPED: this user may not mount; TestFileSizeLimit still runs")
			} else if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
					t.Error(err)
				}
			}()
			out := filepath.Join(disk, "out")
			_, err := j.to(out).run(t.Context(), jobs.RunOptions{})
			if exitcode.Of(err) != exitcode.IO || !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("error %v of class %d, want a full disk and class %d", err, exitcode.Of(err), exitcode.IO)
			}
			mentions(t, err.Error(), disk, "no space left on device")
			honest(t, out, want)
			t.Logf("%d parts were written: %v", parts(out), err)
			if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=16m"); err != nil {
				t.Fatal(err)
			}
			j.to(out).must(t, jobs.RunOptions{})
			same(t, out, want)
		})
	}
}

// TestFileSizeLimit runs into a limit on the size of files (ulimit -f), which the kernel also signals by SIGXFSZ.
func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	j := forty(t).with("output.rows_per_part=40")
	dir := t.TempDir()
	ref, out := filepath.Join(dir, "ref"), filepath.Join(dir, "out")
	j.to(ref).must(t, jobs.RunOptions{})
	want := snapshot(t, ref)
	p := command(t)
	p.Path = "/bin/sh"
	p.Args = append([]string{"sh", "-c", `ulimit -f 8 && exec "$0" "$@"`, get(t, program)}, j.to(out).args()...)
	p.start().expect(74)
	mentions(t, p.stderr.String(), out, "file too large")
	honest(t, out, want)
	j.to(out).must(t, jobs.RunOptions{})
	same(t, out, want)
}
