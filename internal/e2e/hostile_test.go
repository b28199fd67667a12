package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// oddFile is what a reader should make of one file of the odd set.
type oddFile struct {
	Path    string
	Rows    int64
	Good    int64
	Outcome any // a class, or several of which any is fine
	BadRows []struct {
		Row   int64
		Class any
	} `json:"bad_rows"`
}

func (f oddFile) outcomes() []string {
	if s, ok := f.Outcome.(string); ok {
		return []string{s}
	}
	var list []string
	for _, o := range f.Outcome.([]any) {
		list = append(list, o.(string))
	}
	return list
}

func oddFiles(t *testing.T) (dir string, files []oddFile) {
	t.Helper()
	dir = golden.Data(t, "odd")
	b, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Files []oddFile }
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Files) == 0 {
		t.Fatal("no file is listed")
	}
	return dir, doc.Files
}

// TestOddFiles encodes every file of the odd set: strange ones are read, bad pictures become error rows under their own
// number, damaged files end the job with class data and a message that names the file.
func TestOddFiles(t *testing.T) {
	dir, files := oddFiles(t)
	kl := get(t, klModel)
	for i, f := range files {
		if testing.Short() && i%8 != 0 {
			continue
		}
		t.Run(f.Path, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			j := encodeJob(t, kl, filepath.Join(dir, f.Path), "limits.max_bad_rows=100%", "output.rows_per_part=15").to(out)
			r, err := j.run(t.Context(), jobs.RunOptions{})
			if err != nil {
				if exitcode.Of(err) != exitcode.Data || !slices.ContainsFunc(f.outcomes(), func(o string) bool { return o != "ok" }) {
					t.Fatalf("class %d, want outcome %v: %v", exitcode.Of(err), f.Outcome, err)
				}
				mentions(t, err.Error(), filepath.Base(f.Path))
				if r != nil && r.State != "failed" {
					t.Errorf("state %s", r.State)
				}
				return
			}
			if !slices.Contains(f.outcomes(), "ok") {
				t.Fatalf("accepted with %d of %d rows failed, want %v", r.Failed, r.Rows, f.Outcome)
			}
			if r.Rows != f.Rows || r.State != "finished" && r.Rows > 0 {
				t.Errorf("%s with %d rows, want %d", r.State, r.Rows, f.Rows)
			}
			bad := map[int64]string{}
			for _, b := range f.BadRows {
				bad[b.Row] = fmt.Sprint(b.Class)
			}
			for i, row := range readRows(t, out) {
				class, isBad := bad[int64(i)]
				switch {
				case row.Status == part.OK && isBad && !strings.Contains(class, "row.unsupported"):
					t.Errorf("row %d is fine, want %s", i, class)
				case row.Status == part.OK && (len(row.Latent) != 3*8*8 || row.Error != ""):
					t.Errorf("row %d is fine with a latent of %d values, error %q", i, len(row.Latent), row.Error)
				case row.Status == part.Failed:
					if !isBad && f.Good == f.Rows && !strings.HasPrefix(f.Path, "flipped_bit") {
						t.Errorf("row %d failed: %s", i, row.Error)
					}
					if len(row.Latent) != 0 {
						t.Errorf("row %d failed and has a latent", i)
					}
					mentions(t, row.Error, filepath.Base(f.Path), "row group ", "row ")
				}
			}
		})
	}
}

// TestBadRowBudget counts bad rows against their budget, also over a restart.
func TestBadRowBudget(t *testing.T) {
	dir, files := oddFiles(t)
	kl := get(t, klModel)
	tested := 0
	for _, f := range files {
		n := int64(len(f.BadRows))
		if o := f.outcomes(); len(o) > 1 || o[0] != "ok" || n == 0 || n+f.Good != f.Rows || f.Good == 0 || tested == 3 {
			continue
		}
		tested++
		t.Run(f.Path, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			j := encodeJob(t, kl, filepath.Join(dir, f.Path), "output.rows_per_part=4").to(out)
			for range 2 { // the second start meets the finished parts of the first
				_, err := j.with(fmt.Sprintf("limits.max_bad_rows=%d", n-1)).run(t.Context(), jobs.RunOptions{})
				if exitcode.Of(err) != exitcode.Data {
					t.Fatalf("%d bad rows with a budget of %d: %v", n, n-1, err)
				}
				mentions(t, err.Error(), "max_bad_rows", f.Path, "row group")
			}
			if r := j.with(fmt.Sprintf("limits.max_bad_rows=%d", n)).must(t, jobs.RunOptions{}); r.Failed != n || r.OK != f.Good {
				t.Errorf("%d failed, %d fine, want %d and %d", r.Failed, r.OK, n, f.Good)
			}
		})
	}
	if tested == 0 {
		t.Error("no file has good and bad rows")
	}
}

// TestDamagedParquet cuts a sound file and flips its bits. The job says so, or reads on; it never crashes or hangs, and never
// ends well with fewer rows.
func TestDamagedParquet(t *testing.T) {
	dir, files := oddFiles(t)
	i := slices.IndexFunc(files, func(f oddFile) bool { return f.Good == f.Rows && f.Rows > 0 && strings.HasPrefix(f.Path, "row_groups") })
	if i < 0 {
		i = slices.IndexFunc(files, func(f oddFile) bool { return f.Good == f.Rows && f.Rows > 0 && strings.HasSuffix(f.Path, ".parquet") })
	}
	sound, err := os.ReadFile(filepath.Join(dir, files[i].Path))
	if err != nil {
		t.Fatal(err)
	}
	kl := get(t, klModel)
	n := 40
	if testing.Short() {
		n = 8
	}
	refused := 0
	for seed := range n {
		r := rand.New(rand.NewPCG(uint64(seed), 3))
		b := slices.Clone(sound)
		what := ""
		if seed%2 == 0 {
			b = b[:r.IntN(len(b))]
			what = fmt.Sprintf("cut to %d of %d bytes", len(b), len(sound))
		} else {
			at := r.IntN(len(b))
			if seed%4 == 1 {
				at = len(b) - 1 - r.IntN(min(len(b), 3000)) // the footer
			}
			b[at] ^= 1 << r.IntN(8)
			what = fmt.Sprintf("bit flipped in byte %d of %d", at, len(b))
		}
		dir := t.TempDir()
		path := filepath.Join(dir, "damaged.parquet")
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		res, err := encodeJob(t, kl, path, "limits.max_bad_rows=100%").to(filepath.Join(dir, "out")).run(t.Context(), jobs.RunOptions{})
		switch {
		case err != nil && exitcode.Of(err) != exitcode.Data:
			t.Errorf("%s: class %d: %v", what, exitcode.Of(err), err)
		case err != nil:
			refused++
			mentions(t, err.Error(), "damaged.parquet")
		case seed%2 == 0:
			t.Errorf("%s: read as %d rows", what, res.Rows)
		case res.Rows != files[i].Rows:
			t.Errorf("%s: %d rows of %d", what, res.Rows, files[i].Rows)
		}
	}
	if refused < n/2 {
		t.Errorf("%d of %d damaged files were refused", refused, n)
	}
}

// TestBadCheckpoints opens hostile, foreign and cut model files.
func TestBadCheckpoints(t *testing.T) {
	few := get(t, fewPictures)
	kl := get(t, klModel)
	refuse := func(t *testing.T, path string, words ...string) {
		t.Helper()
		_, err := encodeJob(t, model{path, kl.config}, few).to(filepath.Join(t.TempDir(), "out")).run(t.Context(), jobs.RunOptions{})
		if exitcode.Of(err) != exitcode.Data {
			t.Errorf("%s: class %d: %v", path, exitcode.Of(err), err)
			return
		}
		mentions(t, err.Error(), append(words, filepath.Base(path))...)
	}
	t.Run("hostile", func(t *testing.T) {
		files, err := filepath.Glob(filepath.Join(golden.Dir(t, "pickle"), "refuse-*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no file, %v", err)
		}
		for _, f := range files {
			refuse(t, f)
		}
	})
	cut := func(t *testing.T, path string) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 1, 7, 8, 9, 100, len(b) / 3, len(b) - 1000, len(b) - 1} {
			p := filepath.Join(t.TempDir(), fmt.Sprintf("cut-%d%s", n, filepath.Ext(path)))
			if err := os.WriteFile(p, b[:n], 0o666); err != nil {
				t.Fatal(err)
			}
			refuse(t, p)
		}
	}
	t.Run("cut safetensors", func(t *testing.T) { cut(t, kl.checkpoint) })
	t.Run("cut checkpoint", func(t *testing.T) {
		for _, dir := range golden.Cases(t, "first_stage") {
			path := filepath.Join(dir, "model.ckpt")
			if _, err := os.Stat(path); err == nil {
				cut(t, path)
				return
			}
		}
		t.Error("no case has a checkpoint")
	})
	t.Run("of another model", func(t *testing.T) { refuse(t, get(t, classModel).checkpoint) })
	t.Run("missing", func(t *testing.T) {
		for _, m := range []model{{few + "/none.ckpt", kl.config}, {kl.checkpoint, few + "/none.yaml"}} {
			_, err := encodeJob(t, m, few).to(filepath.Join(t.TempDir(), "out")).run(t.Context(), jobs.RunOptions{})
			if exitcode.Of(err) != exitcode.NoInput {
				t.Errorf("class %d: %v", exitcode.Of(err), err)
			} else {
				mentions(t, err.Error(), "none.")
			}
		}
	})
}

// TestDamagedPart changes parts of finished and unfinished folders: what was damaged is made again, and nothing else.
func TestDamagedPart(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	j := encodeJob(t, get(t, klModel), get(t, fewPictures), "input.limit=12", "output.rows_per_part=2").to(out)
	j.must(t, jobs.RunOptions{})
	want := snapshot(t, out)
	damages := []struct {
		name   string
		damage func(path string) error
	}{
		{"cut", func(p string) error { return os.Truncate(p, 100) }},
		{"removed", os.Remove},
		{"flipped", func(p string) error {
			b, err := os.ReadFile(p)
			if err == nil {
				b[len(b)/2] ^= 1
				err = os.WriteFile(p, b, 0o666)
			}
			return err
		}},
	}
	for i, d := range damages {
		path := filepath.Join(out, "data", fmt.Sprintf("part-%05d.arrow", i+1))
		if err := d.damage(path); err != nil {
			t.Fatal(err)
		}
		r := j.must(t, jobs.RunOptions{})
		if r.PartsDone != 1 || r.State != "finished" {
			t.Errorf("%s: state %s, %d parts made again, want 1", d.name, r.State, r.PartsDone)
		}
		same(t, out, want)
	}
	for _, f := range []string{"_SUCCESS", "_manifest.json", ".ldm-batch/journal/00003.json"} {
		if err := os.Remove(filepath.Join(out, f)); err != nil {
			t.Fatal(err)
		}
		j.must(t, jobs.RunOptions{})
		same(t, out, want)
	}
	if err := os.WriteFile(filepath.Join(out, ".ldm-batch", "plan.json"), []byte("{"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := j.run(t.Context(), jobs.RunOptions{}); exitcode.Of(err) != exitcode.Data {
		t.Errorf("damaged plan: class %d: %v", exitcode.Of(err), err)
	} else {
		mentions(t, err.Error(), "plan.json")
	}
	if err := os.RemoveAll(out); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(out, 0o777), os.WriteFile(filepath.Join(out, "thesis.tex"), nil, 0o666)); err != nil {
		t.Fatal(err)
	}
	for _, o := range []jobs.RunOptions{{}, {Overwrite: true}} {
		if _, err := j.run(t.Context(), o); exitcode.Of(err) != exitcode.Conflict {
			t.Errorf("somebody's folder: class %d: %v", exitcode.Of(err), err)
		}
	}
}
