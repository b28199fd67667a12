package e2e

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// once checks that exactly one warning holds every word.
func once(t *testing.T, r *jobs.Result, words ...string) {
	t.Helper()
	n := 0
	for _, w := range r.Warnings {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(w, word) }) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d warnings with %q among %q", n, words, r.Warnings)
	}
}

// TestMaskNotices gives odd masks: rows are made, each kind is counted, and told once.
func TestMaskNotices(t *testing.T) {
	dir := t.TempDir()
	whole := func(v bool) func(x, y int) bool { return func(int, int) bool { return v } }
	half := func(x, y int) bool { return x < 8 }
	for i, m := range [][]byte{
		maskOf(t, 16, 16, half), maskOf(t, 5, 9, func(x, y int) bool { return x < 2 }), maskOf(t, 32, 32, half), maskOf(t, 16, 16, whole(true)),
		maskOf(t, 16, 16, whole(true)), maskOf(t, 16, 16, whole(false)), nil, []byte("no picture"),
	} {
		name := string(rune('a' + i))
		put(t, dir, name+".png", scene(t, uint64(i), 16, 16))
		if m != nil {
			put(t, dir, name+"_mask.png", m)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	r := taskJob(t, inpaintModel, "inpaint", "input.path="+dir, "input.mask=mask", "limits.max_bad_rows=100%", "sampler.steps=1").to(out).must(t, jobs.RunOptions{})
	for name, n := range map[string]int64{"masks_resized": 2, "masks_all_white": 2, "masks_all_black": 1} {
		if r.Counts[name] != n {
			t.Errorf("%s is %d, want %d", name, r.Counts[name], n)
		}
	}
	once(t, r, ".png: the mask of ", "is resized to the image's 16x16 by nearest neighbours", "masks_resized")
	once(t, r, ".png: the mask is white", "masks_all_white")
	once(t, r, "f.png: the mask is black", "masks_all_black")
	rows := readRows(t, out)
	for i, row := range rows {
		if (row.Status == part.OK) != (i < 6) {
			t.Errorf("row %s is %s: %s", row.ID, row.Status, row.Error)
		}
	}
	mentions(t, rows[6].Error, "g.png", "mask (column mask) is missing")
	mentions(t, rows[7].Error, "h.png", "mask (column mask)")
}

// TestReferences scores rows against references that are missing, broken or of another size: those have no score, and their image.
func TestReferences(t *testing.T) {
	dir := t.TempDir()
	for i, ref := range [][]byte{scene(t, 9, 64, 48), nil, []byte("no picture"), scene(t, 9, 60, 48), scene(t, 8, 64, 48)} {
		name := string(rune('a' + i))
		put(t, dir, name+".png", scene(t, uint64(i), 16, 12))
		if ref != nil {
			put(t, dir, name+"_truth.png", ref)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	j := taskJob(t, superresModel, "superres", "input.path="+dir, "input.reference=truth", "sample.score=true")
	r := j.to(out).must(t, jobs.RunOptions{})
	if r.OK != 5 || r.Counts["references_missing"] != 2 || r.Counts["references_of_other_size"] != 1 || r.Scores["psnr"] <= 0 {
		t.Errorf("%d rows are fine, counts %v, scores %v", r.OK, r.Counts, r.Scores)
	}
	once(t, r, "no score: reference (column truth)", "references_missing")
	once(t, r, "d.png: no score: the reference is 48x60 (height x width), the result 48x64")
	for i, row := range readRows(t, out) {
		scored := len(row.Extra) == 2 && row.Extra[0] != nil && row.Extra[1] != nil
		if scored != (i == 0 || i == 4) || len(row.Image) == 0 {
			t.Errorf("row %s has the scores %v and an image of %d bytes", row.ID, row.Extra, len(row.Image))
		}
	}
}

// TestUnreadKeys refuses keys that name what the task does not read.
func TestUnreadKeys(t *testing.T) {
	dir := t.TempDir()
	table := "input.path=" + descriptions(t, dir, nil)
	for _, j := range []job{
		taskJob(t, textModel, "text", table, "input.caption=caption", "sample.vocab="+vocab(t, 200)),
		taskJob(t, layoutModel, "layout", table, "input.boxes=boxes", "input.categories=categories"),
		taskJob(t, classModel, "class", table),
		taskJob(t, semanticModel, "semantic", table, "input.segmentation=maps"),
	} {
		_, err := j.with("input.image=image").to(filepath.Join(dir, "out")).run(t.Context(), jobs.RunOptions{})
		if exitcode.Of(err) != exitcode.Usage {
			t.Errorf("%s: %v", j.set["sample.task"], err)
			continue
		}
		mentions(t, err.Error(), "spec.input.image")
	}
}

// TestColumnNames refuses columns to keep whose names the output has by itself, before anything is opened.
func TestColumnNames(t *testing.T) {
	table := "input.path=" + descriptions(t, t.TempDir(), nil)
	text := taskJob(t, textModel, "text", table, "input.caption=caption", "sample.vocab="+vocab(t, 200), "sampler.steps=1")
	scored := taskJob(t, superresModel, "superres", "input.path="+mixed(t, t.TempDir(), 2), "sample.degradation=pil_bicubic", "sample.score=true")
	for _, c := range []struct {
		job   job
		words []string // "" when the columns are fine
	}{
		{text.with("input.columns=[caption]"), nil},
		{text.with("input.columns=[caption, label]"), []string{`"label"`, "that the output has by itself"}},
		{text.with("input.columns=[id]"), []string{`"id"`}},
		{text.with("input.columns=[caption, caption]"), []string{`"caption"`, "listed twice"}},
		{scored.with("input.columns=[psnr]"), []string{`"psnr"`}},
		{scored.with("input.columns=[path]", "output.layout=tree"), []string{`"path"`}},
		{encodeJob(t, get(t, klModel), get(t, fewPictures), "input.columns=[latent]"), []string{`"latent"`}},
	} {
		r, err := c.job.to(filepath.Join(t.TempDir(), "out")).resolve()
		if err != nil {
			t.Fatal(err)
		}
		p, err := jobs.Prepare(t.Context(), r, jobs.PrepareOptions{})
		if err == nil {
			p.Close()
		}
		if c.words == nil {
			if err != nil {
				t.Error(err)
			}
		} else if exitcode.Of(err) != exitcode.Usage {
			t.Errorf("columns %s: %v", c.job.set["input.columns"], err)
		} else {
			mentions(t, err.Error(), append(c.words, "spec.input.columns")...)
		}
	}
}

// TestKnownRegionNoise refuses recorded noise where the known region of a latent takes more of it, when the job is checked.
func TestKnownRegionNoise(t *testing.T) {
	in := "input.path=" + mixed(t, t.TempDir(), 2, "mask")
	noise := noiseFile(t, ramp(2*3*8*8), []int{2, 3, 8, 8}, nil, 0)
	for _, way := range []string{"auto", "latent"} {
		r, err := taskJob(t, uncondModel, "inpaint", in, "input.mask=mask", noise, "sample.inpaint="+way).to(filepath.Join(t.TempDir(), "out")).resolve()
		if err != nil {
			t.Fatal(err)
		}
		_, err = jobs.Prepare(t.Context(), r, jobs.PrepareOptions{})
		if exitcode.Of(err) != exitcode.Usage {
			t.Errorf("%s: %v", way, err)
			continue
		}
		mentions(t, err.Error(), "spec.sampler.noise_from", "known region")
	}
}

// TestReuseReport measures what reuse saves and costs, and changes nothing by it.
func TestReuseReport(t *testing.T) {
	dir := t.TempDir()
	j := taskJob(t, uncondModel, "uncond", "sample.rows=5", "sampler.steps=5", "sampler.reuse.every=3", "compute.batch=2")
	r := j.to(filepath.Join(dir, "out")).must(t, jobs.RunOptions{})
	d := r.Reuse
	if d == nil || !d.Approximate || d.Every != 3 || d.Branch != 0 || d.RowsMeasured != 2 || d.Speedup <= 0 || d.RelL2 <= 0 || d.WorstRelL2 < d.RelL2 {
		t.Errorf("%+v", d)
	}
	if r.Counts["predictions_full"] != 10 || r.Counts["predictions_reused"] != 15 {
		t.Errorf("counts %v", r.Counts)
	}
	mentions(t, r.Text(), "approximate: reuse every 3 steps at branch 0")
	once(t, r, "results are approximate")
	j.with("compute.batch=5").to(filepath.Join(dir, "many")).must(t, jobs.RunOptions{})
	same(t, filepath.Join(dir, "many"), snapshot(t, filepath.Join(dir, "out")))
	other := j.with("sampler.reuse.branch=1").to(filepath.Join(dir, "out"))
	if _, err := other.run(t.Context(), jobs.RunOptions{}); exitcode.Of(err) != exitcode.Conflict {
		t.Errorf("another branch in the same folder: %v", err)
	}
	if _, err := other.with("sampler.reuse.branch=99").to(filepath.Join(dir, "none")).run(t.Context(), jobs.RunOptions{}); err == nil {
		t.Error("a branch that the model has not is accepted")
	}
	exact := j.with("sampler.reuse.every=1").to(filepath.Join(dir, "exact")).must(t, jobs.RunOptions{})
	if exact.Reuse != nil {
		t.Errorf("without reuse: %+v", exact.Reuse)
	}
}

// TestArchiveNames says of a row in an archive which archive and which member it is, and names the files of a tree by it.
func TestArchiveNames(t *testing.T) {
	dir := t.TempDir()
	for _, archive := range []string{"a.tar", "b.tar"} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for name, data := range map[string][]byte{"good.png": scene(t, 1, 16, 16), "sub/bad.png": []byte("no picture")} {
			if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(data); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		put(t, dir, archive, b.Bytes())
	}
	for _, c := range []struct {
		input, where, file string
	}{{dir, "b.tar: sub/bad.png: ", "images/b.tar/good.png"}, {filepath.Join(dir, "a.tar"), "a.tar: sub/bad.png: ", "images/good.png"}} {
		out := filepath.Join(t.TempDir(), "out")
		taskJob(t, superresModel, "superres", "input.path="+c.input, "output.layout=tree", "limits.max_bad_rows=100%", "sampler.steps=1").to(out).must(t, jobs.RunOptions{})
		rows := readRows(t, out)
		if !slices.ContainsFunc(rows, func(r part.Row) bool { return strings.HasPrefix(r.Error, c.where) }) {
			t.Errorf("no error begins with %q: %q", c.where, rows[len(rows)-1].Error)
		}
		if _, err := os.Stat(filepath.Join(out, filepath.FromSlash(c.file))); err != nil {
			t.Error(err)
		}
		failed, err := os.ReadFile(filepath.Join(out, "failed.csv"))
		if err != nil || !strings.Contains(string(failed), c.where) {
			t.Errorf("failed.csv: %q, %v", failed, err)
		}
	}
}
