package e2e

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/table/tabletest"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// sketch is a picture with a mask and everything that models are conditioned on.
type sketch struct {
	ID         string          `parquet:"id"`
	Image      tabletest.Image `parquet:"image"`
	Mask       tabletest.Image `parquet:"mask"`
	Caption    string          `parquet:"caption"`
	Boxes      [][]float64     `parquet:"boxes,list"`
	Categories []int64         `parquet:"categories,list"`
	Label      int64           `parquet:"label"`
}

// sketches writes six of them, of a size, with what is not known of them.
func sketches(t *testing.T, w, h int, hole func(x, y int) bool) string {
	t.Helper()
	var rows []sketch
	for i := range 6 {
		rows = append(rows, sketch{
			fmt.Sprint("row", i), tabletest.Image{Bytes: scene(t, uint64(i), w, h)}, tabletest.Image{Bytes: maskOf(t, w, h, hole)},
			fmt.Sprintf("w%d w%d", 104+i, 130), [][]float64{{0.05 * float64(i), 0.2, 0.5, 0.25}}, []int64{int64(i)}, int64(i % 5),
		})
	}
	path := filepath.Join(t.TempDir(), "rows.parquet")
	tabletest.Write(t, path, rows)
	return "input.path=" + path
}

// TestConditionedPictures inpaints by the latent, and changes pictures, with models of classes, captions and layouts. Where all of a
// picture is to be filled, inpainting makes what the task makes that generates from the condition alone.
func TestConditionedPictures(t *testing.T) {
	words := "sample.vocab=" + vocab(t, 200)
	whole := sketches(t, 32, 32, func(int, int) bool { return true })
	half := sketches(t, 40, 24, func(x, _ int) bool { return x > 20 })
	for _, c := range []struct {
		name, task string
		model      func() (model, error)
		settings   []string
	}{
		{"classes", "class", classModel, []string{"sampler.guidance=2"}},
		{"class vector", "class", admModel, []string{"sampler.name=heun"}},
		{"captions", "text", textModel, []string{"input.caption=caption", words, "sampler.guidance=3", "sampler.guidance_rescale=0.5"}},
		{"layouts", "layout", layoutModel, []string{"input.boxes=boxes", "input.categories=categories", "sampler.eta=1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			run := func(task, out string, settings ...string) string {
				t.Helper()
				out = filepath.Join(dir, out)
				j := taskJob(t, c.model, task, "input.id=id", "output.rows_per_part=4").with(c.settings...).with(settings...).to(out)
				if r := j.must(t, jobs.RunOptions{}); r.OK != 6 {
					t.Fatalf("%s: %d rows are fine: %v", task, r.OK, r.Reasons)
				}
				return out
			}
			alone, filled := readRows(t, run(c.task, "alone", whole)), readRows(t, run("inpaint", "filled", whole, "input.mask=mask"))
			for i := range alone {
				if !bytes.Equal(alone[i].Image, filled[i].Image) {
					t.Errorf("%s: filled from nothing known, it is another image than without a picture", alone[i].ID)
				}
			}
			for task, settings := range map[string][]string{"inpaint": {"input.mask=mask"}, "img2img": {"sampler.steps=4", "sample.strength=0.5"}} {
				one := run(task, task, append(settings, half, "compute.batch=1")...)
				same(t, run(task, task+" many", append(settings, half, "compute.batch=8", "compute.threads=2")...), snapshot(t, one))
			}
		})
	}
}

// TestUnsupportedModels refuses models that cannot be sampled from when the job is checked, and says why.
func TestUnsupportedModels(t *testing.T) {
	in := []string{"input.path=" + descriptions(t, t.TempDir(), nil), "input.caption=caption", "sample.vocab=" + vocab(t, 200)}
	embedder := `    cond_stage_config:
      target: ldm.modules.encoders.modules.BERTEmbedder
      params: {n_embed: 24, n_layer: 1, vocab_size: 200, max_seq_len: 77}
    cond_stage_key: caption
    conditioning_key: `
	hybrid := func() (model, error) { return makeModel("hybrid", taskConfig(6, attends, embedder+"hybrid\n"), 0.7) }
	with := func(old, new string) func() (model, error) {
		m := get(t, textModel)
		m.config = rewrite(t, m.config, filepath.Join(t.TempDir(), "model.yaml"), old, new)
		return func() (model, error) { return m, nil }
	}
	for _, c := range []struct {
		model func() (model, error)
		word  string
	}{
		{hybrid, "conditioning_key hybrid is not supported"},
		{with("modules.BERTEmbedder", "modules.FrozenCLIPTextEmbedder"), "FrozenCLIPTextEmbedder is not supported"},
		{with("use_ema: false", "use_ema: false\n    parameterization: x0"), "parameterization x0 is not supported"},
	} {
		r, err := taskJob(t, c.model, "text", in...).to(filepath.Join(t.TempDir(), "out")).resolve()
		if err != nil {
			t.Fatal(err)
		}
		p, err := jobs.Prepare(t.Context(), r, jobs.PrepareOptions{})
		if err == nil {
			p.Close()
			t.Errorf("accepted, want %q", c.word)
			continue
		}
		mentions(t, err.Error(), ".yaml", c.word)
	}
}

// TestConditionKeys gives models what they are not conditioned on, and not what they are.
func TestConditionKeys(t *testing.T) {
	in := sketches(t, 32, 32, func(x, _ int) bool { return x > 20 })
	fill := func(m func() (model, error), settings ...string) job {
		return taskJob(t, m, "inpaint", in, "input.mask=mask").with(settings...)
	}
	for _, c := range []struct {
		job  job
		word string
	}{
		{fill(textModel), "spec.input.caption: missing"},
		{fill(textModel, "input.caption=caption"), "spec.sample.vocab: missing"},
		{fill(layoutModel, "input.boxes=boxes"), "spec.input.categories: missing"},
		{fill(classModel, "input.caption=caption"), "spec.input.caption: has no meaning for task inpaint with this model"},
		{fill(inpaintModel, "input.boxes=boxes"), "spec.input.boxes: has no meaning for task inpaint with this model"},
		{fill(uncondModel, "sampler.guidance=2"), "spec.sampler.guidance: must be 1 with this model"},
		{fill(inpaintModel, "sampler.guidance=2"), "spec.sampler.guidance: must be 1 with this model"},
		{fill(semanticModel), "spec.sample.task: inpaint needs a model that is conditioned on nothing, or on classes, captions or layouts"},
		{taskJob(t, superresModel, "img2img", in), "spec.sample.task: img2img needs a model"},
	} {
		_, err := c.job.to(filepath.Join(t.TempDir(), "out")).run(t.Context(), jobs.RunOptions{})
		if exitcode.Of(err) != exitcode.Usage {
			t.Errorf("want %q: %v", c.word, err)
			continue
		}
		mentions(t, err.Error(), c.word)
	}
}
