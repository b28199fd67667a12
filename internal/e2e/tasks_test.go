package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/table/tabletest"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// mixed writes n pictures of mixed sizes, with further pictures of the same size each: a mask, a reference.
func mixed(t testing.TB, dir string, n int, columns ...string) string {
	t.Helper()
	sizes := [][2]int{{32, 32}, {20, 40}, {32, 32}, {17, 9}, {20, 40}, {33, 31}}
	for i := range n {
		w, h := sizes[i%len(sizes)][0], sizes[i%len(sizes)][1]
		name := fmt.Sprintf("%02d", i)
		put(t, dir, name+".png", scene(t, uint64(i), w, h))
		if slices.Contains(columns, "mask") {
			put(t, dir, name+"_mask.png", maskOf(t, w, h, func(x, y int) bool { return x > w/2 && y > h/3+i }))
		}
		if slices.Contains(columns, "truth") {
			put(t, dir, name+"_truth.png", scene(t, uint64(i+100), w, h))
		}
	}
	return dir
}

// described is a row without a picture.
type described struct {
	ID         string      `parquet:"id"`
	Caption    *string     `parquet:"caption,optional"`
	Boxes      [][]float64 `parquet:"boxes,list"`
	Categories []int64     `parquet:"categories,list"`
	Label      int64       `parquet:"label"`
}

// descriptions writes seven rows that tasks can make images from.
func descriptions(t testing.TB, dir string, change func(i int, r *described)) string {
	t.Helper()
	var rows []described
	for i := range 7 {
		text := fmt.Sprintf("w%d w%d, w%d", 104+i, 110+2*i, 130)
		r := described{fmt.Sprint("row", i), &text, [][]float64{{0.1, 0.2, 0.5, 0.25}, {0.02 * float64(i), 0, 0.5, 1}}, []int64{int64(i), 7}, int64(i % 5)}
		if change != nil {
			change(i, &r)
		}
		rows = append(rows, r)
	}
	path := filepath.Join(dir, "rows.parquet")
	tabletest.Write(t, path, rows)
	return path
}

// TestTasksSameBytes runs jobs of every task with one row at a time and with many, with every number of threads and shards: the
// output is the same, byte for byte.
func TestTasksSameBytes(t *testing.T) {
	dir := t.TempDir()
	pictures, masked := "input.path="+mixed(t, filepath.Join(dir, "plain"), 9), "input.path="+mixed(t, filepath.Join(dir, "masked"), 9, "mask")
	scored := "input.path=" + mixed(t, filepath.Join(dir, "scored"), 9, "mask", "truth")
	table, maps := "input.path="+descriptions(t, dir, nil), "input.path="+filepath.Join(dir, "maps")
	for i := range 5 {
		put(t, dir, fmt.Sprintf("maps/%d.png", i), labelMap(t, uint64(i), 32-3*(i/3), 32, 12))
	}
	cases := []struct {
		name string
		job  job
	}{
		{"superres", taskJob(t, superresModel, "superres", pictures, "sampler.eta=1")},
		{"superres scored", taskJob(t, superresModel, "superres", pictures, "sample.degradation=pil_bicubic", "sample.score=true", "output.layout=tree")},
		{"superres jpeg", taskJob(t, superresModel, "superres", pictures, "sample.degradation=cv_area", "output.format=jpeg")},
		{"superres reused", taskJob(t, superresModel, "superres", pictures, "sampler.reuse.every=2", "sampler.steps=4")},
		{"inpaint", taskJob(t, inpaintModel, "inpaint", scored, "input.mask=mask", "input.reference=truth", "sample.score=true")},
		{"inpaint latent", taskJob(t, uncondModel, "inpaint", masked, "input.mask=mask", "sampler.name=ddim", "sampler.eta=0.5")},
		{"outpaint", taskJob(t, inpaintModel, "inpaint", pictures, "sample.outpaint=3,0,0,9")},
		{"img2img", taskJob(t, uncondModel, "img2img", pictures, "sampler.steps=4", "sample.strength=0.5")},
		{"text", taskJob(t, textModel, "text", table, "input.caption=caption", "sample.vocab="+vocab(t, 200), "sampler.guidance=2", "sampler.guidance_interval=0.1,0.6", "sampler.guidance_rescale=0.5", "sampler.steps=4")},
		{"layout", taskJob(t, layoutModel, "layout", table, "input.boxes=boxes", "input.categories=categories")},
		{"semantic", taskJob(t, semanticModel, "semantic", maps, "sampler.name=dpmpp-2m")},
		{"class of rows", taskJob(t, classModel, "class", table, "sampler.name=unipc")},
		{"adm", taskJob(t, admModel, "class", table, "sampler.name=heun")},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			j := c.job.with("output.rows_per_part=2")
			r := j.with("compute.batch=1").to(filepath.Join(dir, "ref")).must(t, jobs.RunOptions{})
			if r.State != "finished" || r.OK != r.Rows || r.Rows < 5 {
				t.Fatalf("state %s, %d of %d rows are fine: %v", r.State, r.OK, r.Rows, r.Reasons)
			}
			want := snapshot(t, filepath.Join(dir, "ref"))
			many := filepath.Join(dir, "many")
			j.with("compute.batch=8", "compute.threads=2").to(many).must(t, jobs.RunOptions{})
			same(t, many, want)
			if testing.Short() {
				return
			}
			shards := filepath.Join(dir, "shards")
			for i := range 2 {
				j.with("compute.batch=3").to(shards).must(t, jobs.RunOptions{Shard: commit.Shard{Index: 1 - i, Count: 2}})
			}
			same(t, shards, want)
		})
	}
}

// TestRowMessages gives tasks rows that they cannot use, or only in part.
func TestRowMessages(t *testing.T) {
	long := strings.Repeat("w120 ", 100)
	cases := []struct {
		name   string
		job    job
		change func(i int, r *described)
		words  []string // of the one row that fails
		counts map[string]int64
		told   string // in the warning
	}{
		{"caption of more than 77 tokens", taskJob(t, textModel, "text", "input.caption=caption", "sample.vocab="+vocab(t, 200)),
			func(i int, r *described) {
				if i == 2 {
					r.Caption = &long
				}
			}, nil, map[string]int64{"captions_truncated": 1}, "the caption has more than the model's 77 tokens and is cut"},
		{"no caption", taskJob(t, textModel, "text", "input.caption=caption", "sample.vocab="+vocab(t, 200)),
			func(i int, r *described) {
				if i == 2 {
					r.Caption = nil
				}
			}, []string{"row2", "caption (column caption) is missing"}, nil, ""},
		{"box without area", taskJob(t, layoutModel, "layout", "input.boxes=boxes", "input.categories=categories"),
			func(i int, r *described) {
				if i == 2 {
					r.Boxes[1][2] = 0
				}
			}, []string{"row2", "column boxes", "box 1", "no area"}, nil, ""},
		{"box outside", taskJob(t, layoutModel, "layout", "input.boxes=boxes", "input.categories=categories"),
			func(i int, r *described) {
				if i == 2 {
					r.Boxes[0][0] = 0.75
				}
			}, []string{"row2", "box 0", "reach out of the image"}, nil, ""},
		{"boxes without categories", taskJob(t, layoutModel, "layout", "input.boxes=boxes", "input.categories=categories"),
			func(i int, r *described) {
				if i == 2 {
					r.Categories = r.Categories[:1]
				}
			}, []string{"row2", "2 boxes and 1 categories"}, nil, ""},
		{"label out of range", taskJob(t, classModel, "class"),
			func(i int, r *described) {
				if i == 2 {
					r.Label = 11
				}
			}, []string{"row2", "label 11 is not in 0..10"}, nil, ""},
		{"label out of range of a class vector", taskJob(t, admModel, "class"),
			func(i int, r *described) {
				if i == 2 {
					r.Label = 10
				}
			}, []string{"row2", "label 10 is not in 0..9"}, nil, ""},
		{"box without height", taskJob(t, layoutModel, "layout", "input.boxes=boxes", "input.categories=categories"),
			func(i int, r *described) {
				if i == 2 {
					r.Boxes[0][3] = 0
				}
			}, []string{"row2", "column boxes", "box 0", "no area"}, nil, ""},
		{"category out of range", taskJob(t, layoutModel, "layout", "input.boxes=boxes", "input.categories=categories"),
			func(i int, r *described) {
				if i == 2 {
					r.Categories[1] = 1200
				}
			}, []string{"row2", "class 1200 is not in 0..1098"}, nil, ""},
		{"no label", taskJob(t, classModel, "class"),
			func(i int, r *described) {
				if i == 2 {
					r.Label = -1
				}
			}, []string{"row2", "no label"}, nil, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			out := filepath.Join(dir, "out")
			r := c.job.with("input.path="+descriptions(t, dir, c.change), "input.id=id", "limits.max_bad_rows=100%", "sampler.steps=1").to(out).must(t, jobs.RunOptions{})
			for name, n := range c.counts {
				if r.Counts[name] != n {
					t.Errorf("%s is %d, want %d", name, r.Counts[name], n)
				}
				once(t, r, "(row2): "+c.told, name)
			}
			failed := 0
			for _, row := range readRows(t, out) {
				if row.Status != part.OK {
					failed++
					mentions(t, row.Error, append(c.words, "rows.parquet")...)
				}
			}
			if want := min(len(c.words), 1); failed != want {
				t.Errorf("%d rows failed, want %d: %v", failed, want, r.Reasons)
			}
		})
	}
}
