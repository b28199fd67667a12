package jobs

import (
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
	"github.com/ldm-batch/ldm-batch/sample"
)

// sourced is a recipe that reads columns of values.
type sourced interface{ from(d *datasetSource) }

// condition is what a model is conditioned on besides the image that a row starts from: a class, a caption, a layout, or nothing.
type condition struct{ recipe }

// newCondition takes the recipe of the task that generates images from the model's condition alone.
func newCondition(s *engine.Session, g *sample.Generator, job *spec.Spec, t *tally) (c condition, err error) {
	if err := checkCondition(s.Model, job); err != nil {
		return c, err
	}
	_, classes := sample.ClassCount(s.Model)
	switch {
	case sample.CanText(s.Model):
		c.recipe, err = newText(s, g, job, t)
	case sample.CanLayout(s.Model):
		c.recipe, err = newLayout(s, g, job, t)
	case classes:
		c.recipe, err = newByClass(s, g, job)
	case unconditional(s.Model):
		c.recipe = nothing{}
	default:
		err = exitcode.Errorf(exitcode.Usage, "spec.sample.task: %s needs a model that is conditioned on nothing, or on classes, captions or layouts", job.Sample.Task)
	}
	return c, err
}

// checkCondition checks that a job gives what the model is conditioned on, and nothing else.
func checkCondition(m *nn.Model, job *spec.Spec) error {
	captions, layouts := sample.CanText(m), sample.CanLayout(m)
	for _, k := range []struct {
		key, value, needs string
		used              bool
	}{
		{"spec.input.caption", job.Input.Caption, "the column of the captions", captions},
		{"spec.sample.vocab", job.Sample.Vocab, "the vocab.txt of bert-base-uncased", captions},
		{"spec.input.boxes", job.Input.Boxes, "the column of the boxes", layouts},
		{"spec.input.categories", job.Input.Categories, "the column of the boxes' categories", layouts},
	} {
		switch {
		case k.used && k.value == "":
			return exitcode.Errorf(exitcode.Usage, "%s: missing: %s, which this model is conditioned on", k.key, k.needs)
		case !k.used && k.value != "":
			return exitcode.Errorf(exitcode.Usage, "%s: has no meaning for task %s with this model, which is not conditioned on it", k.key, job.Sample.Task)
		}
	}
	if _, classes := sample.ClassCount(m); job.Sampler.Guidance != 1 && !captions && !classes {
		return exitcode.Errorf(exitcode.Usage, "spec.sampler.guidance: must be 1 with this model, which knows no missing condition")
	}
	return nil
}

// with adds what the condition reads to what the task does.
func (c condition) with(w wanted) wanted {
	w.values = append(w.values, c.wants().values...)
	return w
}

func (c condition) from(d *datasetSource) {
	if r, ok := c.recipe.(sourced); ok {
		r.from(d)
	}
}

func (c condition) outline(q *sample.Request) {
	if r, ok := c.recipe.(outliner); ok {
		r.outline(q)
	}
}

// nothing is the condition of unconditional models.
type nothing struct{}

func (nothing) wants() wanted                                           { return wanted{} }
func (nothing) read(*kitchen, *item) error                              { return nil }
func (nothing) request(*sample.Request, []*item, sample.RowNoise) error { return nil }
