package commit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/io/atomicfile/faultfs"
	"github.com/ldm-batch/ldm-batch/io/part"
)

// document is a small stand-in for a resolved job.
func document() map[string]any {
	return map[string]any{"format": 1, "spec": map[string]any{"encode": map[string]any{"dtype": "float32", "scale": true},
		"compute": map[string]any{"seed": 23}}, "model": map[string]any{"sha256": "00ff"}, "inputs": []any{map[string]any{"size": 10}}}
}

func testPlan(t testing.TB) Plan {
	t.Helper()
	parts, err := SplitRows(14, 5)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPlan(document(), parts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var testSchema = part.Schema{Latent: &part.Latent{C: 1, H: 2, W: 2}}

// fillRows appends the rows of part i. Row 6 fails as long as flaky is set.
func fillRows(p Plan, i int, flaky bool) func(*part.Writer) error {
	return func(w *part.Writer) error {
		for n := p.Parts[i].FirstRow; n < p.Parts[i].FirstRow+p.Parts[i].Rows; n++ {
			r := part.Row{ID: fmt.Sprint(n), Status: part.OK, Latent: []float32{float32(n), 1, 2, 3}}
			if n == 6 && flaky {
				r = part.Row{ID: fmt.Sprint(n), Status: part.Failed, Error: "truncated: at byte 3"}
			}
			if err := w.Append(r); err != nil {
				return err
			}
		}
		return nil
	}
}

// job runs a whole job on dir as the runner does.
func job(dir string, p Plan, o Options, flaky bool) (err error) {
	ctx := context.Background()
	f, err := Open(ctx, dir, p, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, i := range f.Pending() {
		if _, err := f.WritePart(i, testSchema, fillRows(p, i, flaky)); err != nil {
			return err
		}
	}
	if _, err := f.Finalize(ctx); err != nil {
		return err
	}
	return f.EndRun(map[string]any{"exit": 0})
}

// scratch is a temporary folder, in memory where the system has such: thousands of small folders are made here.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "commit-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// noSync is the real file system without the cost of syncing.
func noSync(t testing.TB) *faultfs.FS { return faultfs.New(scratch(t), 0, faultfs.None) }

// published reads everything that must be the same after every way to the end.
func published(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if strings.HasPrefix(rel, controlName) && rel != filepath.Join(controlName, planName) {
			return nil
		}
		b, err := os.ReadFile(path)
		files[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// reference is the result of an uninterrupted run.
func reference(t testing.TB, flaky bool) map[string]string {
	t.Helper()
	dir := filepath.Join(scratch(t), "out")
	if err := job(dir, testPlan(t), Options{FS: noSync(t)}, flaky); err != nil {
		t.Fatal(err)
	}
	return published(t, dir)
}

func wantSame(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if v, ok := got[k]; !ok || v != want[k] {
			t.Errorf("%s: %s differs or is missing", what, k)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[k]; !ok {
			t.Errorf("%s: %s should not be there", what, k)
		}
	}
}

// wantSound checks an interrupted folder: what looks finished is. refs holds the acceptable contents of the folder.
func wantSound(t testing.TB, what, dir string, refs ...map[string]string) {
	t.Helper()
	for name, b := range published(t, dir) {
		ok := false
		for _, r := range refs {
			ok = ok || r[name] == b && mapHas(r, name)
		}
		if !ok {
			t.Errorf("%s: %s looks finished and is not", what, name)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, controlName, planName)); err != nil {
		return
	}
	r, err := Verify(dir)
	if err != nil {
		t.Errorf("%s: verify: %v", what, err)
	} else if err := r.Err(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func mapHas(m map[string]string, k string) bool { _, ok := m[k]; return ok }

func TestRun(t *testing.T) {
	dir := filepath.Join(scratch(t), "a", "out")
	p := testPlan(t)
	if err := job(dir, p, Options{Info: map[string]any{"version": "x"}}, true); err != nil {
		t.Fatal(err)
	}
	m, err := ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	if m.Totals != (Totals{Parts: 3, Rows: 14, OK: 13, Failed: 1, Bytes: m.Totals.Bytes}) || m.Fingerprint != p.Fingerprint {
		t.Errorf("manifest %+v", m)
	}
	if want := []part.Reason{{Reason: "truncated", Count: 1}}; !slices.Equal(m.Reasons, want) {
		t.Errorf("reasons %v", m.Reasons)
	}
	row := 0
	for _, mp := range m.Parts {
		r, err := part.Open(filepath.Join(dir, mp.File), mp.Expect())
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Schema().Meta; got.JobFingerprint != p.Fingerprint || got.Parts != 3 {
			t.Errorf("%s: metadata %+v", mp.File, got)
		}
		for got, err := range r.Rows() {
			if err != nil {
				t.Fatal(err)
			}
			if got.ID != fmt.Sprint(row) {
				t.Errorf("row %d has id %s", row, got.ID)
			}
			row++
		}
		r.Close()
	}
	if row != 14 {
		t.Errorf("%d rows", row)
	}
	s, err := ReadStatus(dir)
	if err != nil || s.State != Finished || s.Done != m.Totals || len(s.Pending) != 0 || len(s.Holders) != 0 || s.Run.Ended == nil {
		t.Errorf("status %+v, %v", s, err)
	}
	wantSound(t, "finished", dir, reference(t, true))
}

// TestNothingToDo runs a finished job again: nothing published is touched.
func TestNothingToDo(t *testing.T) {
	dir := filepath.Join(scratch(t), "out")
	p := testPlan(t)
	if err := job(dir, p, Options{FS: noSync(t)}, true); err != nil {
		t.Fatal(err)
	}
	times := func() (s []string) {
		for name := range published(t, dir) {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			s = append(s, name+info.ModTime().String())
		}
		slices.Sort(s)
		return s
	}
	before := times()
	for _, o := range []Options{{FS: noSync(t)}, {FS: noSync(t), Rehash: true}} {
		f, err := Open(context.Background(), dir, p, o)
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Pending()) != 0 {
			t.Errorf("pending %v", f.Pending())
		}
		if _, err := f.Finalize(context.Background()); err != nil {
			t.Error(err)
		}
		f.Close()
	}
	if after := times(); !slices.Equal(before, after) {
		t.Errorf("files changed:\n%v\n%v", before, after)
	}
}

// TestFaults fails, crashes and cuts the power at every file system call of a fresh run, of a retry of failed rows, and of
// an overwrite of another job; then the same command must come to the same end.
func TestFaults(t *testing.T) {
	p := testPlan(t)
	clean, flaky := reference(t, false), reference(t, true)
	doc := document()
	doc["format"] = 0
	other, err := NewPlan(doc, p.Parts)
	if err != nil {
		t.Fatal(err)
	}
	otherDir := filepath.Join(scratch(t), "out")
	if err := job(otherDir, other, Options{FS: noSync(t)}, true); err != nil {
		t.Fatal(err)
	}
	otherRef := published(t, otherDir)
	scenarios := []struct {
		name    string
		prepare func(t *testing.T, dir string)
		opts    Options
		refs    []map[string]string
	}{
		{"fresh", func(*testing.T, string) {}, Options{}, []map[string]string{clean}},
		{"retry failed", func(t *testing.T, dir string) {
			if err := job(dir, p, Options{FS: noSync(t)}, true); err != nil {
				t.Fatal(err)
			}
		}, Options{RetryFailed: true}, []map[string]string{clean, flaky}},
		{"overwrite", func(t *testing.T, dir string) {
			if err := job(dir, other, Options{FS: noSync(t)}, true); err != nil {
				t.Fatal(err)
			}
		}, Options{Overwrite: true}, []map[string]string{clean, otherRef}},
	}
	// A crash after call k is a crash before call k+1.
	faults := map[string]faultfs.Fault{"no space": faultfs.NoSpace, "short write": faultfs.ShortWrite,
		"quiet short write": faultfs.ShortQuiet, "crash": faultfs.Crash}
	for _, sc := range scenarios {
		for _, fname := range slices.Sorted(maps.Keys(faults)) {
			short := strings.Contains(fname, "short")
			if sc.name != "fresh" && short {
				continue // the writes are the same
			}
			t.Run(sc.name+" "+fname, func(t *testing.T) {
				t.Parallel()
				root, stash := scratch(t), scratch(t)
				count := faultfs.New(stash, 0, faultfs.None)
				if short { // other calls than writes fail as in the other cases
					if err := job(filepath.Join(root, "count", "out"), p, Options{FS: count}, false); err != nil {
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
					err := job(dir, p, o, false)
					if !fsys.Fired() {
						if err != nil {
							t.Fatalf("without a fault: %v", err)
						}
						wantSame(t, "end", published(t, dir), clean)
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
					if perr := fsys.PowerLoss(); perr != nil {
						t.Fatalf("%s: %v", what, perr)
					}
					if _, serr := os.Stat(dir); serr == nil {
						wantSound(t, what+", power lost", dir, sc.refs...)
					}
					o.FS = noSync(t)
					if err := job(dir, p, o, false); err != nil {
						t.Errorf("%s: second run: %v", what, err)
					} else {
						wantSame(t, what+", second run", published(t, dir), clean)
					}
					if left, _ := os.ReadDir(filepath.Join(dir, controlName, tmpName)); len(left) > 0 {
						t.Errorf("%s: temporary files left: %v", what, left)
					}
					if t.Failed() {
						return
					}
				}
			})
		}
	}
}

func TestFoldersWeDidNotMake(t *testing.T) {
	p := testPlan(t)
	cases := map[string]string{
		"a file":                 "notes.txt",
		"parts without a plan":   "data/part-00000.arrow",
		"a manifest":             "_manifest.json",
		"control, and a file":    ".ldm-batch/tmp/../../x",
		"control, and data":      ".ldm-batch/tmp/../../data/x",
		"journal without a plan": ".ldm-batch/journal/00000.json",
	}
	for name, file := range cases {
		t.Run(name, func(t *testing.T) {
			dir := scratch(t)
			if strings.HasPrefix(file, ".ldm-batch/tmp") {
				if err := os.MkdirAll(filepath.Join(dir, ".ldm-batch", "tmp"), 0o777); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, filepath.FromSlash(file))
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("precious"), 0o666); err != nil {
				t.Fatal(err)
			}
			for _, overwrite := range []bool{false, true} {
				_, err := Open(context.Background(), dir, p, Options{Overwrite: overwrite, FS: noSync(t)})
				if exitcode.Of(err) != exitcode.Conflict {
					t.Errorf("overwrite %v: %v", overwrite, err)
				}
			}
			if b, err := os.ReadFile(path); string(b) != "precious" {
				t.Errorf("the file is gone: %q, %v", b, err)
			}
		})
	}
	file := filepath.Join(scratch(t), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), filepath.Join(file, "out"), p, Options{}); err == nil {
		t.Error("opened a folder below a file")
	}
}

func TestOverwrite(t *testing.T) {
	p := testPlan(t)
	dir := filepath.Join(scratch(t), "out")
	if err := job(dir, p, Options{FS: noSync(t)}, true); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "README")
	if err := os.WriteFile(foreign, []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := job(dir, p, Options{Overwrite: true, FS: noSync(t)}, false); err != nil {
		t.Fatal(err)
	}
	got := published(t, dir)
	if got["README"] != "mine" {
		t.Error("a foreign file was removed")
	}
	delete(got, "README")
	wantSame(t, "overwritten", got, reference(t, false))

	// An unfinished run of the same job goes on.
	if err := os.Remove(filepath.Join(dir, successName)); err != nil {
		t.Fatal(err)
	}
	f, err := Open(context.Background(), dir, p, Options{Overwrite: true, FS: noSync(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := len(f.Pending()); n != 0 {
		t.Errorf("%d parts of an unfinished run are done again", n)
	}
	if _, err := Open(context.Background(), dir, p, Options{Overwrite: true, Shard: Shard{0, 2}}); exitcode.Of(err) != exitcode.Usage {
		t.Errorf("a shard may overwrite: %v", err)
	}
}

// TestConflict changes one thing of the job at a time.
func TestConflict(t *testing.T) {
	p := testPlan(t)
	dir := filepath.Join(scratch(t), "out")
	if err := job(dir, p, Options{FS: noSync(t)}, false); err != nil {
		t.Fatal(err)
	}
	before := published(t, dir)
	spec := func(d map[string]any) map[string]any { return d["spec"].(map[string]any) }
	cases := []struct {
		name   string
		change func(d map[string]any, parts []PartPlan) []PartPlan
		want   string // part of the message; "" means accepted
	}{
		{"nothing", func(d map[string]any, ps []PartPlan) []PartPlan { return ps }, ""},
		{"a value", func(d map[string]any, ps []PartPlan) []PartPlan {
			spec(d)["encode"].(map[string]any)["dtype"] = "float16"
			return ps
		}, `spec.encode.dtype: "float32" there, "float16" here`},
		{"a number", func(d map[string]any, ps []PartPlan) []PartPlan {
			spec(d)["compute"].(map[string]any)["seed"] = 24
			return ps
		}, "spec.compute.seed: 23 there, 24 here"},
		{"the model", func(d map[string]any, ps []PartPlan) []PartPlan {
			d["model"] = map[string]any{"sha256": "11"}
			return ps
		}, `model.sha256: "00ff" there, "11" here`},
		{"an input more", func(d map[string]any, ps []PartPlan) []PartPlan {
			d["inputs"] = append(d["inputs"].([]any), map[string]any{"size": 3})
			return ps
		}, `inputs[1]: absent there, {"size":3} here`},
		{"a key less", func(d map[string]any, ps []PartPlan) []PartPlan {
			delete(spec(d)["encode"].(map[string]any), "scale")
			return ps
		}, "spec.encode.scale: true there, absent here"},
		{"null for a value", func(d map[string]any, ps []PartPlan) []PartPlan { d["format"] = nil; return ps }, "format: 1 there, null here"},
		{"other parts", func(d map[string]any, ps []PartPlan) []PartPlan { return []PartPlan{{0, 14}} }, "parts[0].rows: 5 there, 14 here"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := document()
			q, err := NewPlan(d, c.change(d, p.Parts))
			if err != nil {
				t.Fatal(err)
			}
			if q, err = NewPlan(d, q.Parts); err != nil { // with the changed document
				t.Fatal(err)
			}
			f, err := Open(context.Background(), dir, q, Options{FS: noSync(t)})
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				f.Close()
				return
			}
			var ce *ConflictError
			if !errors.As(err, &ce) || exitcode.Of(err) != exitcode.Conflict || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if strings.Contains(fmt.Sprint(err), "\n") {
				t.Error("the message has more than one line")
			}
		})
	}
	wantSame(t, "after refused jobs", published(t, dir), before)
}

// TestDamage breaks a finished folder in one way at a time. Verify must see it; a run must mend it.
func TestDamage(t *testing.T) {
	p, want := testPlan(t), reference(t, true)
	file := func(dir, name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	flip := func(t *testing.T, path string, keepTime bool) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		when := info.ModTime()
		if !keepTime {
			when = when.Add(time.Second)
		}
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		name   string
		damage func(t *testing.T, dir string)
		opts   Options
		redone []int
		seen   string // what Verify says
	}{
		{"part removed", func(t *testing.T, dir string) { os.Remove(file(dir, PartFile(1))) }, Options{}, []int{1}, "file is missing"},
		{"part truncated", func(t *testing.T, dir string) { os.Truncate(file(dir, PartFile(2)), 100) }, Options{}, []int{2}, "100 bytes"},
		{"part changed", func(t *testing.T, dir string) { flip(t, file(dir, PartFile(0)), false) }, Options{}, []int{0}, "sha256"},
		{"part changed, time kept", func(t *testing.T, dir string) { flip(t, file(dir, PartFile(0)), true) }, Options{Rehash: true}, []int{0}, "sha256"},
		{"part touched", func(t *testing.T, dir string) {
			now := time.Now().Add(time.Hour)
			os.Chtimes(file(dir, PartFile(0)), now, now)
		}, Options{}, nil, ""},
		{"journal removed", func(t *testing.T, dir string) { os.Remove(file(dir, ".ldm-batch/journal/00001.json")) }, Options{}, []int{1}, "not finished"},
		{"journal damaged", func(t *testing.T, dir string) { os.Truncate(file(dir, ".ldm-batch/journal/00001.json"), 40) }, Options{}, []int{1}, "journal"},
		{"journals swapped", func(t *testing.T, dir string) {
			a, b := file(dir, ".ldm-batch/journal/00000.json"), file(dir, ".ldm-batch/journal/00001.json")
			os.Rename(a, a+".x")
			os.Rename(b, a)
			os.Rename(a+".x", b)
		}, Options{}, []int{0, 1}, "entry is of part 1"},
		{"manifest changed", func(t *testing.T, dir string) { flip(t, file(dir, manifestName), true) }, Options{}, nil, "not what plan and journal give"},
		{"manifest removed", func(t *testing.T, dir string) { os.Remove(file(dir, manifestName)) }, Options{}, nil, "is missing"},
		{"run record damaged", func(t *testing.T, dir string) { os.Truncate(file(dir, ".ldm-batch/run.json"), 3) }, Options{}, nil, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(scratch(t), "out")
			if err := job(dir, p, Options{FS: noSync(t)}, true); err != nil {
				t.Fatal(err)
			}
			c.damage(t, dir)
			r, err := Verify(dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(r.Problems); c.seen == "" && len(r.Problems) > 0 || !strings.Contains(got, c.seen) {
				t.Errorf("verify found %s, want %q", got, c.seen)
			}
			if c.seen != "" && exitcode.Of(r.Err()) != exitcode.Data {
				t.Errorf("verify: %v", r.Err())
			}
			o := c.opts
			o.FS = noSync(t)
			f, err := Open(context.Background(), dir, p, o)
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Pending(); !slices.Equal(got, c.redone) {
				t.Errorf("pending %v, want %v", got, c.redone)
			}
			if _, err := os.Stat(file(dir, successName)); c.redone != nil && err == nil {
				t.Error("_SUCCESS stands while parts are redone")
			}
			f.Close()
			if err := job(dir, p, o, true); err != nil {
				t.Fatal(err)
			}
			wantSame(t, "mended", published(t, dir), want)
		})
	}
	t.Run("plan changed", func(t *testing.T) {
		dir := filepath.Join(scratch(t), "out")
		if err := job(dir, p, Options{FS: noSync(t)}, true); err != nil {
			t.Fatal(err)
		}
		path := file(dir, ".ldm-batch/plan.json")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(b), `"seed": 23`, `"seed": 24`, 1)), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(context.Background(), dir, p, Options{}); exitcode.Of(err) != exitcode.Data {
			t.Errorf("open: %v", err)
		}
		if _, err := Verify(dir); exitcode.Of(err) != exitcode.Data {
			t.Errorf("verify: %v", err)
		}
	})
	t.Run("stray part", func(t *testing.T) {
		dir := filepath.Join(scratch(t), "out")
		if err := job(dir, p, Options{FS: noSync(t)}, true); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file(dir, PartFile(3)), nil, 0o666); err != nil {
			t.Fatal(err)
		}
		if r, err := Verify(dir); err != nil || len(r.Problems) != 1 {
			t.Errorf("verify: %+v, %v", r, err)
		}
	})
}

func TestRetryFailed(t *testing.T) {
	p := testPlan(t)
	dir := filepath.Join(scratch(t), "out")
	if err := job(dir, p, Options{FS: noSync(t)}, true); err != nil {
		t.Fatal(err)
	}
	f, err := Open(context.Background(), dir, p, Options{RetryFailed: true, FS: noSync(t)})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Pending(); !slices.Equal(got, []int{1}) {
		t.Errorf("pending %v, want the part with the failed row", got)
	}
	if f.Attempt() != 2 {
		t.Errorf("attempt %d", f.Attempt())
	}
	if e, err := f.WritePart(1, testSchema, fillRows(p, 1, false)); err != nil || e.Failed != 0 || e.Attempt != 2 {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := f.Finalize(context.Background()); err != nil {
		t.Error(err)
	}
	f.Close()
	wantSame(t, "retried", published(t, dir), reference(t, false))
}

// TestShards runs shards side by side and one after the other; the last one publishes.
func TestShards(t *testing.T) {
	p, want := testPlan(t), reference(t, true)
	for _, count := range []int{1, 2, 3, 5} {
		dir := filepath.Join(scratch(t), "out")
		var wg sync.WaitGroup
		for s := range count {
			wg.Add(1)
			go func() {
				defer wg.Done()
				err := job(dir, p, Options{Shard: Shard{s, count}, FS: noSync(t)}, true)
				var inc *IncompleteError
				if err != nil && (!errors.As(err, &inc) || exitcode.Of(err) != exitcode.Temporary) {
					t.Errorf("shard %d/%d: %v", s, count, err)
				}
			}()
		}
		wg.Wait()
		if _, err := Finalize(context.Background(), dir); err != nil {
			t.Error(err)
		}
		wantSame(t, fmt.Sprintf("%d shards", count), published(t, dir), want)
	}
}

func TestShardRange(t *testing.T) {
	for n := range 20 {
		for count := 1; count < 8; count++ {
			next := 0
			for i := range count {
				lo, hi := Shard{i, count}.Range(n)
				if lo != next || hi < lo || hi-lo > n/count+1 {
					t.Fatalf("shard %d/%d of %d parts: %d-%d after %d", i, count, n, lo, hi, next)
				}
				next = hi
			}
			if next != n {
				t.Fatalf("%d shards cover %d of %d parts", count, next, n)
			}
		}
	}
}

func TestIncompleteShards(t *testing.T) {
	p := testPlan(t)
	dir := filepath.Join(scratch(t), "out")
	err := job(dir, p, Options{Shard: Shard{1, 3}, FS: noSync(t)}, true)
	var inc *IncompleteError
	if !errors.As(err, &inc) || !slices.Equal(inc.Missing, []int{0, 2}) || exitcode.Of(err) != exitcode.Temporary {
		t.Errorf("error %v", err)
	}
	if _, err := Finalize(context.Background(), dir); !errors.As(err, &inc) {
		t.Errorf("finalize: %v", err)
	}
	if _, err := ReadManifest(dir); !errors.As(err, &inc) {
		t.Errorf("manifest: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, manifestName)); err == nil {
		t.Error("a manifest of an incomplete folder")
	}
	s, err := ReadStatus(dir)
	if err != nil || s.State != Incomplete || s.Done.Rows != 5 || len(s.Pending) != 2 {
		t.Errorf("status %+v, %v", s, err)
	}
	if _, err := ReadStatus(scratch(t)); exitcode.Of(err) != exitcode.NoInput {
		t.Errorf("status of a foreign folder: %v", err)
	}
	f, err := Open(context.Background(), dir, p, Options{Shard: Shard{0, 3}, FS: noSync(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WritePart(2, testSchema, fillRows(p, 2, true)); exitcode.Of(err) != exitcode.Internal {
		t.Errorf("a shard wrote the part of another: %v", err)
	}
}

// TestFinalizers publishes from many goroutines, each with its own locks, at once.
func TestFinalizers(t *testing.T) {
	p, want := testPlan(t), reference(t, true)
	dir := filepath.Join(scratch(t), "out")
	if err := job(dir, p, Options{FS: noSync(t)}, true); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{successName, manifestName} {
		if err := os.Remove(filepath.Join(dir, f)); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := Finalize(context.Background(), dir); err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	wantSame(t, "finalized", published(t, dir), want)
}

func TestWritePartRefuses(t *testing.T) {
	p := testPlan(t)
	dir := filepath.Join(scratch(t), "out")
	f, err := Open(context.Background(), dir, p, Options{FS: noSync(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stop := errors.New("stop")
	cases := []struct {
		name string
		fill func(*part.Writer) error
		want func(error) bool
	}{
		{"the caller stops", func(w *part.Writer) error { return stop }, func(err error) bool { return errors.Is(err, stop) && exitcode.Of(err) == exitcode.Unknown }},
		{"an input is missing", func(w *part.Writer) error { return fs.ErrNotExist }, func(err error) bool { return exitcode.Of(err) == exitcode.NoInput }},
		{"rows are missing", func(w *part.Writer) error { return nil }, func(err error) bool {
			return exitcode.Of(err) == exitcode.Internal && strings.Contains(err.Error(), "0 rows, the plan has 5")
		}},
		{"NaN", func(w *part.Writer) error {
			nan := float32(0)
			return w.Append(part.Row{Status: part.OK, Latent: []float32{nan / nan, 0, 0, 0}})
		}, func(err error) bool { return exitcode.Of(err) == exitcode.Internal }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := f.WritePart(0, testSchema, c.fill); !c.want(err) {
				t.Errorf("error %v, code %d", err, exitcode.Of(err))
			}
			for _, d := range []string{f.data(), f.tmp(), f.journals()} {
				if left, _ := os.ReadDir(d); len(left) > 0 {
					t.Errorf("%s holds %v", d, left)
				}
			}
		})
	}
	if _, err := f.WritePart(0, testSchema, fillRows(p, 0, true)); err != nil {
		t.Fatalf("the part after its failures: %v", err)
	}
	if _, err := f.WritePart(0, testSchema, fillRows(p, 0, true)); exitcode.Of(err) != exitcode.Internal {
		t.Errorf("the part again: %v", err)
	}
}

// TestFolderVanishes removes the folder under a run: an I/O error, not missing input.
func TestFolderVanishes(t *testing.T) {
	p := testPlan(t)
	dir := filepath.Join(scratch(t), "out")
	f, err := Open(context.Background(), dir, p, Options{FS: noSync(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WritePart(0, testSchema, fillRows(p, 0, true)); exitcode.Of(err) != exitcode.IO {
		t.Errorf("error %v, code %d", err, exitcode.Of(err))
	}
}

// full is a file system on which data files meet a full disk.
type full struct{ atomicfile.FS }

type fullFile struct{ atomicfile.File }

func (f full) Create(path string) (atomicfile.File, error) {
	file, err := f.FS.Create(path)
	if err == nil && strings.Contains(path, "arrow") {
		return fullFile{file}, nil
	}
	return file, err
}

func (f fullFile) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestDiskFull(t *testing.T) {
	p := testPlan(t)
	dir := filepath.Join(scratch(t), "out")
	err := job(dir, p, Options{FS: full{noSync(t)}}, true)
	if exitcode.Of(err) != exitcode.IO || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("code %d for %v", exitcode.Of(err), err)
	}
	for _, want := range []string{"part 0", filepath.Join(dir, PartFile(0)), "more to write"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if err := job(dir, p, Options{FS: noSync(t)}, true); err != nil {
		t.Fatal(err)
	}
	wantSame(t, "after space was freed", published(t, dir), reference(t, true))
}
