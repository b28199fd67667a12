package e2e

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// folder writes n pictures of mixed sizes, kinds and formats into nested folders, and five files that are none. It returns the sizes
// of the pictures and, for the broken files, why they are.
func folder(t testing.TB, dir string, n int) (sizes map[string][2]int, broken map[string]string) {
	t.Helper()
	r := rand.New(rand.NewPCG(9, uint64(n)))
	sizes = map[string][2]int{}
	for i := range n {
		w, h, channels := 3+r.IntN(6), 3+r.IntN(6), []int{3, 3, 3, 1, 4}[i%5]
		o, ext := picture.EncodeOptions{Format: picture.PNG}, "png"
		if i%3 == 0 && channels != 4 {
			o, ext = picture.EncodeOptions{Format: picture.JPEG, Quality: 90}, "jpg"
		}
		f := picture.NewFrame(w, h, channels, 8)
		for k := range f.Pix8 {
			f.Pix8[k] = uint8(k*7 + i)
		}
		var b bytes.Buffer
		if err := picture.Encode(&b, f, o); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("set%d/%c/picture %03d.%s", i%4, 'a'+rune(i%7), i/2, ext) // pairs of one stem in many folders
		if _, twice := sizes[name]; twice {
			name = fmt.Sprintf("twice/%03d.%s", i, ext)
		}
		sizes[name] = [2]int{w, h}
		put(t, dir, name, b.Bytes())
	}
	whole, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(slices.Sorted(maps.Keys(sizes))[0])))
	if err != nil {
		t.Fatal(err)
	}
	huge := slices.Clone(scene(t, 1, 4, 4))
	copy(huge[16:24], "\x00\x10\x00\x00\x00\x10\x00\x00") // width and height of the PNG header
	broken = map[string]string{
		"a first.jpg": "empty", "set1/cut.jpg": "truncated", "set2/text.png": "unknown format", "set3/b/huge.png": "", "zz/damaged.png": "",
	}
	put(t, dir, "a first.jpg", nil)
	put(t, dir, "set1/cut.jpg", whole[:len(whole)/2])
	put(t, dir, "set2/text.png", []byte("This is no picture at all, whatever its name says.\n"))
	put(t, dir, "set3/b/huge.png", huge)
	put(t, dir, "zz/damaged.png", append(slices.Clone(scene(t, 2, 30, 30)[:60]), bytes.Repeat([]byte{0xaa}, 80)...))
	return sizes, broken
}

// TestFolder enlarges 500 files of mixed sizes, five of them broken: 495 results in a tree that mirrors the input, and a list of five.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	sizes, broken := folder(t, in, 495)
	j := taskJob(t, superresModel, "superres", "input.path="+in, "sampler.steps=1", "output.layout=tree", "output.rows_per_part=64",
		"compute.threads=2", "compute.batch=16")
	r := j.to(out).must(t, jobs.RunOptions{}) // five of 500 are just within the budget of 1 %
	if r.State != "finished" || r.Rows != 500 || r.OK != 495 || r.Failed != 5 {
		t.Fatalf("%s: %d of %d rows are fine, %d failed: %v", r.State, r.OK, r.Rows, r.Failed, r.Reasons)
	}
	rows, last := readRows(t, out), ""
	for _, row := range rows {
		if row.ID <= last {
			t.Errorf("%s comes after %s", row.ID, last)
		}
		last = row.ID
		size, ok := sizes[row.ID]
		if reason, bad := broken[row.ID]; bad != (row.Status != part.OK) || bad == ok {
			t.Errorf("%s has status %s: %s", row.ID, row.Status, row.Error)
		} else if bad {
			mentions(t, row.Reason+row.Error, row.ID, reason)
			continue
		}
		m := decoded(t, filepath.Join(out, filepath.FromSlash(row.ImagePath)))
		if m.W != 4*size[0] || m.H != 4*size[1] || m.Format != picture.PNG {
			t.Errorf("%s: %s of %dx%d from %dx%d", row.ImagePath, m.Format, m.W, m.H, size[0], size[1])
		}
	}
	files := 0
	err := filepath.WalkDir(filepath.Join(out, "images"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files++
		}
		return err
	})
	if err != nil || files != 495 {
		t.Errorf("%d files in the tree: %v", files, err)
	}
	f, err := os.Open(filepath.Join(out, "failed.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := csv.NewReader(f).ReadAll()
	if err != nil || len(list) != 6 {
		t.Fatalf("failed.csv has %d lines: %v", len(list), err)
	}
	for i, name := range sorted(broken) {
		if row := list[i+1]; row[0] != name || row[1] == "" || row[2] == "" {
			t.Errorf("failed.csv, line %d: %q, want %s", i+1, row, name)
		}
	}
	if testing.Short() {
		return
	}
	want, shards := snapshot(t, out), filepath.Join(dir, "shards")
	for i := range 3 {
		j.with("compute.batch=5", "compute.threads=1").to(shards).must(t, jobs.RunOptions{Shard: commit.Shard{Index: (i + 1) % 3, Count: 3}})
	}
	same(t, shards, want)
}
