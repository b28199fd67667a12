package scoring

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// TestShards: shards and finalize give the bytes of one run, whatever batch and threads.
func TestShards(t *testing.T) {
	dir := golden.Dir(t, "eval", "files")
	a, ref := filepath.Join(dir, "images_a.npz"), filepath.Join(dir, "images_b.npz")
	one, many := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "out")
	const metrics = "fid_64, psnr, ssim"
	if res := must(t, job(t, a, ref, metrics, one, "input.limit=10"), jobs.RunOptions{}); res.State != "finished" || res.Rows != 20 {
		t.Fatalf("%+v", res)
	}
	for i := range 3 {
		r := job(t, a, ref, metrics, many, "input.limit=10", fmt.Sprint("compute.batch=", 3+i), fmt.Sprint("compute.threads=", 1+i%2))
		res := must(t, r, jobs.RunOptions{Shard: commit.Shard{Index: i, Count: 3}})
		if (res.State == "partial") != (i < 2) {
			t.Errorf("shard %d is %s", i, res.State)
		}
		if i == 1 {
			if _, err := Finalize(context.Background(), many); exitcode.Of(err) != exitcode.Temporary {
				t.Errorf("finalize too early: %v", err)
			}
		}
	}
	for _, name := range []string{ReportName, "_SUCCESS"} {
		if err := os.Remove(filepath.Join(many, name)); err != nil {
			t.Fatal(err)
		}
	}
	res, err := Finalize(context.Background(), many)
	if err != nil || res.Rows != 20 || len(res.Scores) != 3 {
		t.Fatalf("%v, %+v", err, res)
	}
	list, err := filepath.Glob(filepath.Join(one, "data", "*"))
	if err != nil || len(list) != 4 {
		t.Fatal(list, err)
	}
	for _, p := range append(list, filepath.Join(one, ReportName), filepath.Join(one, "_manifest.json"), filepath.Join(one, "_SUCCESS")) {
		rel, _ := filepath.Rel(one, p)
		x, err1 := os.ReadFile(p)
		y, err2 := os.ReadFile(filepath.Join(many, rel))
		if err1 != nil || err2 != nil || string(x) != string(y) {
			t.Errorf("%s differs: %v, %v", rel, err1, err2)
		}
	}
	if res := must(t, job(t, a, ref, metrics, one, "input.limit=10"), jobs.RunOptions{}); res.State != "nothing" || len(res.Scores) != 3 {
		t.Errorf("second run: %+v", res)
	}
}
