package e2e

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// TestSameBytes runs jobs with every number of threads, rows in a batch and shards, at one go and resumed: the output is the
// same, byte for byte.
func TestSameBytes(t *testing.T) {
	kl, class := get(t, klModel), get(t, classModel)
	few := get(t, fewPictures)
	encode := encodeJob(t, kl, few, "input.limit=14", "output.rows_per_part=3")
	sample := job{kind: "Sample"}.with(class.settings()...).with("sample.task=class", "sample.classes=0-1,7", "sample.per_class=3",
		"sample.size=32", "sampler.steps=2", "output.rows_per_part=2")
	cases := []struct {
		name string
		job  job
		all  bool // the whole matrix
	}{
		{"mode", encode, true},
		{"posterior sample, random crop and flip", encode.with("encode.latent=sample", "preprocess.crop=random", "preprocess.flip=true"), true},
		{"ragged float16", encode.with("preprocess.size=0", "preprocess.crop=lsun", "preprocess.resize=none", "encode.dtype=float16", "limits.max_bad_rows=100%"), false},
		{"class eta 1", sample.with("sampler.eta=1"), true},
		{"class guided", sample.with("sampler.guidance=2", "output.format=jpeg"), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			ref := filepath.Join(dir, "ref")
			r := c.job.with("compute.batch=1", "compute.threads=1").to(ref).must(t, jobs.RunOptions{})
			if r.State != "finished" || r.OK == 0 {
				t.Fatalf("state %s, %d rows are fine: %v", r.State, r.OK, r.Reasons)
			}
			want := snapshot(t, ref)
			for _, threads := range []int{1, 2} {
				for _, batch := range []int{1, 3, 8} {
					if (testing.Short() || !c.all) && (threads != 2 || batch != 3) {
						continue
					}
					v := c.job.with(fmt.Sprintf("compute.threads=%d", threads), fmt.Sprintf("compute.batch=%d", batch))
					at := filepath.Join(dir, fmt.Sprintf("%d-%d", threads, batch))
					v.to(at+"-whole").must(t, jobs.RunOptions{})
					same(t, at+"-whole", want)
					if c.all && (batch == 1 || threads == 1 && batch == 3 || threads == 2 && batch == 8) {
						continue // shards and restarts only crosswise
					}
					for i := range 3 { // out of order; the last one publishes
						r := v.to(at+"-shards").must(t, jobs.RunOptions{Shard: commit.Shard{Index: (i + 1) % 3, Count: 3}})
						if (r.State == "finished") != (i == 2) {
							t.Errorf("state %s after %d of 3 shards", r.State, i+1)
						}
					}
					if _, err := commit.Finalize(t.Context(), at+"-shards"); err != nil {
						t.Error(err)
					}
					same(t, at+"-shards", want)
					// A shard of another shape left off in the middle, then the rest at one go.
					c.job.with("compute.batch=5").to(at+"-resumed").must(t, jobs.RunOptions{Shard: commit.Shard{Index: 1, Count: 3}})
					if r := v.to(at+"-resumed").must(t, jobs.RunOptions{}); r.PartsDone == r.Parts {
						t.Error("nothing was left to resume")
					}
					same(t, at+"-resumed", want)
				}
			}
		})
	}
}
