package training

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// TestGuidance trains the null class by dropping labels, and generates pictures with guidance away from it.
func TestGuidance(t *testing.T) {
	t.Parallel()
	null := func(run string) []float32 { // the embedding of the last class
		f, err := weights.Open(filepath.Join(run, modelName), weights.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		x, ok := f.Lookup("cond_stage_model.embedding.weight")
		if !ok {
			t.Fatal("no embedding")
		}
		v, err := x.Values()
		if err != nil {
			t.Fatal(err)
		}
		return slices.Clone(v[2*8:])
	}
	dir, path := fixture(t, classes("use_ema: true"), "steps: 3", "weight_decay: 0")
	rows := map[string][]float32{}
	for _, drop := range []string{"0", "0.4"} {
		for _, seed := range []string{"1", "2"} { // other samples are dropped, the weights begin otherwise
			out := filepath.Join(dir, "drop"+drop+"-"+seed)
			if _, err := runFile(context.Background(), path, jobs.RunOptions{}, set("train.learning_rate", "2e-2", "train.drop", drop, "output.path", out, "compute.seed", seed)...); err != nil {
				t.Fatal(err)
			}
			rows[drop+" "+seed] = null(out)
		}
	}
	for _, seed := range []string{"1", "2"} {
		if slices.Equal(rows["0 "+seed], rows["0.4 "+seed]) {
			t.Errorf("seed %s: the null class was not trained", seed)
		}
	}
	run := filepath.Join(dir, "drop0.4-1")
	pictures := map[string][][]byte{}
	for _, guidance := range []string{"1", "3"} {
		out := filepath.Join(dir, "pictures-"+guidance)
		text := "kind: Sample\nspec:\n  model: {checkpoint: " + filepath.Join(run, modelName) + ", config: " + filepath.Join(run, configName) + "}\n" +
			"  sample: {task: class, classes: \"0-1\", per_class: 2, size: 8}\n  sampler: {steps: 2, guidance: " + guidance + "}\n  output: {path: " + out + "}\n  compute: {threads: 1}\n"
		r, err := spec.Load("sample.yaml", []byte(text), dir, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, err := jobs.Prepare(context.Background(), r, jobs.PrepareOptions{})
		if err != nil {
			t.Fatal(err)
		}
		res, err := p.Run(context.Background(), jobs.RunOptions{})
		p.Close()
		if err != nil || res.State != "finished" {
			t.Fatalf("%+v, %v", res, err)
		}
		files, err := filepath.Glob(filepath.Join(out, "data", "*.arrow"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		f, err := part.OpenTrusted(files[0])
		if err != nil {
			t.Fatal(err)
		}
		for row, err := range f.Rows() {
			if err != nil || row.Status != part.OK {
				t.Fatal(row, err)
			}
			pictures[guidance] = append(pictures[guidance], bytes.Clone(row.Image))
		}
		f.Close()
	}
	if len(pictures["1"]) != 4 || len(pictures["3"]) != 4 {
		t.Fatalf("%d and %d pictures", len(pictures["1"]), len(pictures["3"]))
	}
	for i, p := range pictures["1"] {
		if bytes.Equal(p, pictures["3"][i]) {
			t.Errorf("picture %d does not depend on guidance", i)
		}
	}
}
