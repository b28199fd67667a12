package jobs

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/io/preprocess"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
	"github.com/ldm-batch/ldm-batch/sample"
)

// generateTask makes images from noise, for a class or for nothing.
type generateTask struct {
	session *engine.Session
	gen     *sample.Generator
	job     *spec.Spec
	h, w    int           // pixels of an image
	tape    *sample.Tape  // recorded noise, or nil
	tapeOf  *weights.File // stays open while the tape is used
	seconds func() map[string]float64
}

func newGenerateTask(s *engine.Session, job *spec.Spec, rows int64, seconds func() map[string]float64) (*generateTask, error) {
	c := sample.Config{
		Name: job.Sampler.Name, Steps: job.Sampler.Steps, Eta: job.Sampler.Eta, Guidance: job.Sampler.Guidance,
		Spacing: job.Sampler.Spacing, Temperature: job.Sampler.Temperature,
	}
	gen, err := sample.NewGenerator(s, c)
	if err != nil {
		return nil, err
	}
	t := &generateTask{session: s, gen: gen, job: job, h: job.Sample.Size.H, w: job.Sample.Size.W, seconds: seconds}
	if t.h == 0 || t.w == 0 {
		t.h, t.w = gen.DefaultSize()
	}
	if err := gen.CheckSize(t.h, t.w); err != nil {
		return nil, err
	}
	count, classes := sample.ClassCount(s.Model)
	switch {
	case job.Sample.Task == "uncond" && classes:
		return nil, exitcode.Errorf(exitcode.Usage, "spec.sample.task: the model is conditioned on %d classes; use task class", count)
	case job.Sample.Task == "class" && !classes:
		return nil, exitcode.Errorf(exitcode.Usage, "spec.sample.task: the model is not conditioned on classes; use task uncond")
	case job.Sample.Task == "class":
		list, err := spec.ParseClasses(job.Sample.Classes)
		if err != nil {
			return nil, err
		}
		for _, cl := range list {
			if cl >= count {
				return nil, exitcode.Errorf(exitcode.Usage, "spec.sample.classes: class %d is not in 0..%d", cl, count-1)
			}
		}
	}
	if job.Sampler.NoiseFrom != "" {
		if err := t.openTape(rows); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *generateTask) openTape(rows int64) error {
	f, err := weights.Open(t.job.Sampler.NoiseFrom, weights.Limits{})
	if err != nil {
		return fmt.Errorf("spec.sampler.noise_from: %w", err)
	}
	c, h, w := t.gen.LatentShape(t.h, t.w)
	stochastic := t.job.Sampler.Name == "ddpm" || t.job.Sampler.Eta > 0
	tape, err := sample.OpenTape(f, c, h, w, t.gen.Steps(), stochastic)
	if err == nil && int64(tape.Rows()) < rows {
		err = exitcode.Errorf(exitcode.Data, "noise file %s holds %d rows, the job has %d", f.Path(), tape.Rows(), rows)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("spec.sampler.noise_from: %w", err)
	}
	t.tape, t.tapeOf = tape, f
	return nil
}

func (t *generateTask) schema() part.Schema {
	return part.Schema{Image: true, Sampling: true, Label: t.job.Sample.Task == "class", Compression: part.Compression(t.job.Output.Compression)}
}

func (t *generateTask) stages() map[string]float64 { return t.seconds() }

func (t *generateTask) cost(*item) int64 {
	return int64(t.h) * int64(t.w) * (3*4 + 3 + 3) // floats, bytes, file
}

// newWorker encodes images after compute; there is nothing to prepare.
func (t *generateTask) newWorker() (prepare, finish func(*item)) {
	var img picture.Image
	var file bytes.Buffer
	return func(it *item) { it.h, it.w = t.h, t.w }, func(it *item) {
		img.W, img.H = it.w, it.h
		if n := 3 * it.h * it.w; cap(img.Pix) < n {
			img.Pix = make([]uint8, n)
		} else {
			img.Pix = img.Pix[:n]
		}
		file.Reset()
		err := preprocess.ToUint8(img.Pix, it.out, 3, it.h, it.w, preprocess.Truncate)
		if err == nil && t.job.Output.Format == "jpeg" {
			err = picture.EncodeJPEG(&file, &img, t.job.Output.Quality)
		} else if err == nil {
			err = picture.EncodePNG(&file, &img, picture.PNGOptions{})
		}
		if err != nil {
			it.fail("encode", err)
			return
		}
		it.row.Image = append([]byte(nil), file.Bytes()...)
		it.row.ImagePath += "." + t.job.Output.Format
		it.row.Width, it.row.Height = it.w, it.h
		it.out = nil
	}
}

func (t *generateTask) compute(ctx context.Context, batch []*item) error {
	n := t.job.Compute.Batch
	ids, labels, rows := make([]string, n), make([]int64, n), make([]int64, n)
	for i := range n { // an incomplete batch is filled up, so that one compiled size serves all
		it := batch[min(i, len(batch)-1)]
		ids[i], labels[i], rows[i] = it.row.ID, it.row.Label, it.number
	}
	var cond sample.Condition
	var uncond *sample.Condition
	if t.job.Sample.Task == "class" {
		var err error
		if cond, err = sample.ClassCondition(t.session, labels); err != nil {
			return err
		}
		if null, _ := sample.NullClass(t.session.Model); t.job.Sampler.Guidance != 1 {
			for i := range labels {
				labels[i] = null
			}
			u, err := sample.ClassCondition(t.session, labels)
			if err != nil {
				return err
			}
			uncond = &u
		}
	}
	var noise sample.Noise = sample.RowNoise{Seed: t.job.Compute.Seed, Rows: ids}
	if t.tape != nil {
		noise = t.tape.Slice(rows)
	}
	images, err := t.gen.Generate(ctx, sample.Request{N: n, H: t.h, W: t.w, Cond: cond, Uncond: uncond, Noise: noise})
	if err != nil {
		return fmt.Errorf("%s and %d more rows: %w", batch[0].where, len(batch)-1, err)
	}
	size := len(images) / n
	for i, it := range batch {
		it.out = append([]float32(nil), images[i*size:(i+1)*size]...)
		it.row.Seed, it.row.Steps, it.row.Guidance = t.job.Compute.Seed, t.gen.Steps(), float32(t.job.Sampler.Guidance)
	}
	return nil
}

func (t *generateTask) close() {
	if t.tapeOf != nil {
		t.tapeOf.Close()
	}
}

// stepsWarning says when a sampler makes another number of steps than asked.
func (t *generateTask) stepsWarning() string {
	if t.job.Sampler.Name == "ddpm" || t.gen.Steps() == t.job.Sampler.Steps {
		return ""
	}
	return strings.Join([]string{"spec.sampler.steps:", strconv.Itoa(t.job.Sampler.Steps), "steps with", t.job.Sampler.Spacing,
		"spacing are", strconv.Itoa(t.gen.Steps()), "in the reference schedule"}, " ")
}
