package commit

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/atomicfile/faultfs"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/tree"
)

var treeNames = []string{"a/x.jpg", "a/x.png", "../b/y.gif", "a/z", "a/x.png/w"}

// treePlan has five rows in two parts; content tells two jobs apart.
func treePlan(content string) Plan {
	doc := document()
	doc["content"] = content
	parts, err := SplitRows(int64(len(treeNames)), 3)
	if err != nil {
		panic(err)
	}
	p, err := NewPlan(doc, parts)
	if err != nil {
		panic(err)
	}
	return p
}

// treeJob writes a tree; the rows of fails fail. Each job has a file of its own beside those of treeNames.
func treeJob(dir string, p Plan, o Options, fails ...int) (err error) {
	ctx := context.Background()
	f, err := Open(ctx, dir, p, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	names := tree.Names(treeNames, "png")
	names[3] = "only/" + p.Fingerprint[7:17] + ".png"
	for _, i := range f.Pending() {
		_, err := f.WritePart(i, part.Schema{Files: true}, func(w *part.Writer) error {
			for n := p.Parts[i].FirstRow; n < p.Parts[i].FirstRow+p.Parts[i].Rows; n++ {
				row := part.Row{ID: treeNames[n], Status: part.OK}
				if slices.Contains(fails, int(n)) {
					row.Status, row.Reason, row.Error = part.Failed, "decode", "tar, \"x\":\ntruncated"
				} else {
					file, err := f.WriteFile(names[n], bytes.Repeat([]byte(p.Fingerprint), int(n+1)))
					if err != nil {
						return err
					}
					row.ImagePath, row.FileBytes, row.FileSHA256 = file.Path, file.Bytes, file.SHA256
				}
				if err := w.Append(row); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	_, err = f.Finalize(ctx)
	return err
}

func treeReference(t testing.TB, p Plan, fails ...int) map[string]string {
	t.Helper()
	dir := filepath.Join(scratch(t), "out")
	if err := treeJob(dir, p, Options{FS: noSync(t)}, fails...); err != nil {
		t.Fatal(err)
	}
	return published(t, dir)
}

func TestTree(t *testing.T) {
	p := treePlan("x")
	dir := filepath.Join(scratch(t), "out")
	if err := treeJob(dir, p, Options{FS: noSync(t)}, 1); err != nil {
		t.Fatal(err)
	}
	m, err := ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	files, size := 0, int64(0)
	for name, b := range published(t, dir) {
		if strings.HasPrefix(name, tree.Name) {
			files++
			size += int64(len(b))
		}
	}
	if files != 4 || m.Totals.FileBytes != size || m.Totals.Failed != 1 {
		t.Errorf("%d files of %d bytes, totals %+v", files, size, m.Totals)
	}
	b, err := os.ReadFile(filepath.Join(dir, "failed.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "name,reason,error\r\na/x.png,decode,\"tar, \"\"x\"\":\r\ntruncated\"\r\n"; string(b) != want {
		t.Errorf("failed.csv is %q, want %q", b, want)
	}
	if rows, err := csv.NewReader(bytes.NewReader(b)).ReadAll(); err != nil || len(rows) != 2 {
		t.Errorf("failed.csv: %v, %v", rows, err)
	}
	if r, err := Verify(dir); err != nil || r.Err() != nil || r.Files != 4 || r.State != Finished {
		t.Errorf("verify: %+v, %v", r, err)
	}
	if s, err := ReadStatus(dir); err != nil || s.State != Finished || s.Done != m.Totals {
		t.Errorf("status %+v, %v", s, err)
	}
	// Without a failure the list is there all the same, and empty.
	if got := treeReference(t, p)["failed.csv"]; got != "name,reason,error\r\n" {
		t.Errorf("failed.csv of a run without failures: %q", got)
	}
	// A run of all parts that failed has no images.
	none := treeReference(t, p, 0, 1, 2, 3, 4)
	for name := range none {
		if strings.HasPrefix(name, tree.Name) {
			t.Errorf("%s exists", name)
		}
	}
	if n := strings.Count(none["failed.csv"], "decode"); n != 5 {
		t.Errorf("%d rows in failed.csv", n)
	}
}

// TestTreeShards lets shards write one tree.
func TestTreeShards(t *testing.T) {
	p := treePlan("x")
	dir := filepath.Join(scratch(t), "out")
	for s := range 2 {
		err := treeJob(dir, p, Options{Shard: Shard{s, 2}, FS: noSync(t)}, 1)
		var inc *IncompleteError
		if s < 1 != errors.As(err, &inc) {
			t.Errorf("shard %d: %v", s, err)
		}
	}
	wantSame(t, "shards", published(t, dir), treeReference(t, p, 1))
}

// TestTreeFaults fails, crashes and cuts the power at every file system call: of a fresh run, of a retry after which a file
// fails that had been written, and of an overwrite of another job; then the same command must come to the same end.
func TestTreeFaults(t *testing.T) {
	p, other := treePlan("x"), treePlan("y")
	want, before, otherRef := treeReference(t, p, 0), treeReference(t, p, 1), treeReference(t, other)
	run := func(t *testing.T, p Plan, dir string, fails ...int) {
		if err := treeJob(dir, p, Options{FS: noSync(t)}, fails...); err != nil {
			t.Fatal(err)
		}
	}
	for _, sc := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		opts    Options
		refs    []map[string]string
	}{
		{"fresh", func(*testing.T, string) {}, Options{}, []map[string]string{want}},
		{"retry", func(t *testing.T, dir string) { run(t, p, dir, 1) }, Options{RetryFailed: true}, []map[string]string{want, before}},
		{"overwrite", func(t *testing.T, dir string) { run(t, other, dir) }, Options{Overwrite: true}, []map[string]string{want, otherRef}},
	} {
		faults := map[string]faultfs.Fault{"no space": faultfs.NoSpace, "crash": faultfs.Crash, "quiet short write": faultfs.ShortQuiet}
		for _, fname := range slices.Sorted(maps.Keys(faults)) {
			short := strings.Contains(fname, "short")
			if fname != "crash" && sc.name != "fresh" {
				continue // nothing is done there that is not done elsewhere
			}
			t.Run(sc.name+" "+fname, func(t *testing.T) {
				t.Parallel()
				root, stash := scratch(t), scratch(t)
				count := faultfs.New(stash, 0, faultfs.None)
				if short { // other calls than writes fail as in the other cases
					if err := treeJob(filepath.Join(root, "count", "out"), p, Options{FS: count}, 0); err != nil {
						t.Fatal(err)
					}
				}
				for k := 1; ; k++ {
					if calls := count.Calls(); short && k <= len(calls) && !strings.HasPrefix(calls[k-1], "Write ") {
						continue
					}
					dir := filepath.Join(root, fmt.Sprint(k), "out")
					sc.prepare(t, dir)
					o := sc.opts
					fsys := faultfs.New(stash, k, faults[fname])
					o.FS = fsys
					err := treeJob(dir, p, o, 0)
					if !fsys.Fired() {
						if err != nil {
							t.Fatalf("without a fault: %v", err)
						}
						wantSame(t, "end", published(t, dir), want)
						if k < 60 {
							t.Errorf("only %d calls", k-1)
						}
						return
					}
					what := fmt.Sprintf("call %d (%s)", k, fsys.Calls()[k-1])
					if err != nil && fname == "no space" && exitcode.Of(err) != exitcode.IO {
						t.Errorf("%s: code %d for %v", what, exitcode.Of(err), err)
					}
					if _, serr := os.Stat(dir); serr == nil {
						wantSound(t, what, dir, sc.refs...)
					}
					if err := fsys.PowerLoss(); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					if _, serr := os.Stat(dir); serr == nil {
						wantSound(t, what+", power lost", dir, sc.refs...)
					}
					o.FS = noSync(t)
					if err := treeJob(dir, p, o, 0); err != nil {
						t.Errorf("%s: second run: %v", what, err)
					} else {
						wantSame(t, what+", second run", published(t, dir), want)
					}
					if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
						t.Fatal(err)
					}
					if t.Failed() {
						return
					}
				}
			})
		}
	}
}

// TestTreeKilled kills a process at every crash point that a tree adds, the first and the last time it is passed, and runs
// the job again. The image that an earlier attempt made of row 0, which now fails, is a stray.
func TestTreeKilled(t *testing.T) {
	p := treePlan("x")
	want, before := treeReference(t, p, 0), treeReference(t, p, 1)
	root := scratch(t)
	prepare := func(dir string) {
		if err := treeJob(dir, p, Options{FS: noSync(t)}, 1); err != nil {
			t.Fatal(err)
		}
	}
	passes := map[string]int{}
	prepare(filepath.Join(root, "list"))
	crashHook = func(point string) { passes[point]++ }
	err := treeJob(filepath.Join(root, "list"), p, Options{RetryFailed: true, FS: noSync(t)}, 0)
	crashHook = nil
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for _, point := range slices.Sorted(maps.Keys(passes)) {
		step, _, _ := strings.Cut(point, ".")
		if !slices.Contains([]string{"file", "strays", "failed", "drop"}, step) {
			continue
		}
		for _, n := range slices.Compact([]int{1, passes[point]}) {
			killed++
			at := fmt.Sprintf("%s:%d", point, n)
			dir := filepath.Join(root, strings.ReplaceAll(at, ":", "-"))
			prepare(dir)
			out, err := child(dir, "tree", "LDM_BATCH_CRASH_AT="+at).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Exited() {
				t.Fatalf("%s: the child was not killed: %v\n%s", at, err, out)
			}
			wantSound(t, at, dir, want, before)
			if out, err := child(dir, "tree").CombinedOutput(); err != nil {
				t.Fatalf("%s: second run: %v\n%s", at, err, out)
			}
			wantSame(t, at, published(t, dir), want)
		}
	}
	if killed < 20 {
		t.Errorf("killed only %d times, of %v", killed, passes)
	}
}

// TestTreeDamage breaks a finished folder in one way at a time. Verify must see it; a run must mend it.
func TestTreeDamage(t *testing.T) {
	p := treePlan("x")
	want := treeReference(t, p, 1)
	image := tree.Names(treeNames, "png")[0]
	rehash := Options{Rehash: true}
	for _, c := range []struct {
		name   string
		damage func(dir string) error
		opts   Options
		redone []int
		seen   string
	}{
		{"image removed", func(dir string) error { return os.Remove(filepath.Join(dir, "images", image)) }, rehash, []int{0}, "missing"},
		{"image changed", func(dir string) error {
			path := filepath.Join(dir, "images", image)
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b[3] ^= 1
			return os.WriteFile(path, b, 0o666)
		}, rehash, []int{0}, "sha256"},
		{"image cut, part touched", func(dir string) error {
			now := time.Now().Add(time.Hour)
			return errors.Join(os.Truncate(filepath.Join(dir, "images", image), 3), os.Chtimes(filepath.Join(dir, PartFile(0)), now, now))
		}, Options{}, []int{0}, "3 bytes"},
		{"stray image", func(dir string) error { return os.WriteFile(filepath.Join(dir, "images", "a", "q.png"), nil, 0o666) }, Options{}, nil, "not a file of this job"},
		{"failed.csv changed", func(dir string) error { return os.WriteFile(filepath.Join(dir, "failed.csv"), nil, 0o666) }, Options{}, nil, "not what the parts give"},
		{"failed.csv removed", func(dir string) error { return os.Remove(filepath.Join(dir, "failed.csv")) }, Options{}, nil, "is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(scratch(t), "out")
			if err := treeJob(dir, p, Options{FS: noSync(t)}, 1); err != nil {
				t.Fatal(err)
			}
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			r, err := Verify(dir)
			if err != nil || !strings.Contains(fmt.Sprint(r.Err()), c.seen) {
				t.Errorf("verify found %v, %v, want %q", r.Problems, err, c.seen)
			}
			c.opts.FS = noSync(t)
			f, err := Open(context.Background(), dir, p, c.opts)
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Pending(); !slices.Equal(got, c.redone) {
				t.Errorf("pending %v, want %v", got, c.redone)
			}
			f.Close()
			if err := treeJob(dir, p, c.opts, 1); err != nil {
				t.Fatal(err)
			}
			wantSame(t, "mended", published(t, dir), want)
		})
	}
	t.Run("another kind of file", func(t *testing.T) {
		dir := filepath.Join(scratch(t), "out")
		if err := treeJob(dir, p, Options{FS: noSync(t)}, 1); err != nil {
			t.Fatal(err)
		}
		note := filepath.Join(dir, "images", "a", "notes.txt")
		if err := os.WriteFile(note, []byte("mine"), 0o666); err != nil {
			t.Fatal(err)
		}
		if r, err := Verify(dir); err != nil || len(r.Problems) != 1 {
			t.Errorf("verify: %+v, %v", r, err)
		}
		if err := treeJob(dir, treePlan("y"), Options{Overwrite: true, FS: noSync(t)}); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(note); string(b) != "mine" {
			t.Errorf("the file is gone: %v", err)
		}
	})
}

// TestPartBeforeFiles refuses a part whose files are not there.
func TestPartBeforeFiles(t *testing.T) {
	p := treePlan("x")
	f, err := Open(context.Background(), filepath.Join(scratch(t), "out"), p, Options{FS: noSync(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = f.WritePart(1, part.Schema{Files: true}, func(w *part.Writer) error {
		row := part.Row{ID: "x", Status: part.OK, ImagePath: "images/x.png", FileBytes: 3, FileSHA256: strings.Repeat("0f", 32)}
		return errors.Join(w.Append(row), w.Append(row))
	})
	if err == nil || !strings.Contains(err.Error(), "x.png: is missing") {
		t.Errorf("error %v", err)
	}
	if got := f.Pending(); !slices.Contains(got, 1) {
		t.Errorf("pending %v", got)
	}
}
