package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Kinds of jobs that this version runs.
var runnable = []string{"Encode", "Sample"}

// Tasks of kind Sample that this version runs.
var tasks = []string{"class", "uncond"}

// Validate checks what the types cannot say: required values, ranges and combinations. Errors name the key and its origin.
func (r *Resolved) Validate() error {
	s := &r.Spec
	check := []struct {
		bad bool
		key string
		msg string
	}{
		{r.Kind == "", "kind", "missing; one of Encode, Sample"},
		{r.Kind != "" && !slices.Contains(runnable, r.Kind), "kind", fmt.Sprintf("%s is not available in this version; available: %s", r.Kind, strings.Join(runnable, ", "))},
		{s.Model.Checkpoint == "", "spec.model.checkpoint", "missing"},
		{s.Model.Config == "", "spec.model.config", "missing"},
		{s.Model.SHA256 != "" && len(s.Model.SHA256) != 64, "spec.model.sha256", "not 64 hexadecimal digits"},
		{s.Output.Path == "", "spec.output.path", "missing"},
		{s.Output.RowsPerPart < 1 || s.Output.RowsPerPart > 1<<20, "spec.output.rows_per_part", "not in 1..1048576"},
		{s.Output.Quality < 1 || s.Output.Quality > 100, "spec.output.quality", "not in 1..100"},
		{s.Compute.Batch < 1 || s.Compute.Batch > 4096, "spec.compute.batch", "not in 1..4096"},
		{s.Compute.Threads < 0 || s.Compute.Threads > 1024, "spec.compute.threads", "not in 0..1024 (0: every processor)"},
		{s.Input.Limit < 0, "spec.input.limit", "negative"},
		{s.Limits.MaxPixels < 1, "spec.limits.max_pixels", "not at least 1"},
		{s.Limits.Memory < 64<<20, "spec.limits.memory", "less than 64MiB"},
	}
	for _, c := range check {
		if c.bad {
			return r.fail(c.key, "%s", c.msg)
		}
	}
	switch r.Kind {
	case "Encode":
		return r.validateEncode()
	case "Sample":
		return r.validateSample()
	}
	return nil
}

func (r *Resolved) validateEncode() error {
	if r.Spec.Input.Path == "" {
		return r.fail("spec.input.path", "missing: kind Encode reads images")
	}
	for _, key := range []string{"spec.sample.task", "spec.sample.classes", "spec.sampler.steps", "spec.sampler.name"} {
		if r.Origins[key] != "" {
			return r.fail(key, "has no meaning for kind Encode")
		}
	}
	return nil
}

func (r *Resolved) validateSample() error {
	s := &r.Spec
	switch {
	case s.Sample.Task == "":
		return r.fail("spec.sample.task", "missing; one of %s", strings.Join(tasks, ", "))
	case !slices.Contains(tasks, s.Sample.Task):
		return r.fail("spec.sample.task", "%s is not available in this version; available: %s", s.Sample.Task, strings.Join(tasks, ", "))
	case s.Sample.PerClass < 1:
		return r.fail("spec.sample.per_class", "not at least 1")
	case s.Sample.Rows < 0:
		return r.fail("spec.sample.rows", "negative")
	case s.Input.Path != "":
		return r.fail("spec.input.path", "has no meaning for task %s, which makes its rows from sample", s.Sample.Task)
	case s.Sample.Task == "uncond" && s.Sample.Rows == 0:
		return r.fail("spec.sample.rows", "missing: how many images to generate")
	case s.Sample.Task == "uncond" && s.Sample.Classes != "":
		return r.fail("spec.sample.classes", "has no meaning for task uncond")
	case s.Sample.Task == "uncond" && s.Sampler.Guidance != 1:
		return r.fail("spec.sampler.guidance", "needs a conditional model; task uncond has no condition")
	case s.Sample.Task == "class" && s.Sample.Classes == "":
		return r.fail("spec.sample.classes", "missing: classes such as 0-9")
	case s.Sample.Task == "class" && s.Sample.Rows != 0:
		return r.fail("spec.sample.rows", "has no meaning for task class: rows follow from classes and per_class")
	case s.Sampler.Name == "plms" && s.Sampler.Eta != 0, s.Sampler.Name == "ddpm" && s.Sampler.Eta != 0:
		return r.fail("spec.sampler.eta", "must be 0 with %s", s.Sampler.Name)
	case s.Sampler.Eta < 0 || s.Sampler.Eta > 1:
		return r.fail("spec.sampler.eta", "not in [0, 1]")
	case s.Sampler.Name == "ddpm" && s.Sampler.Steps != 0:
		return r.fail("spec.sampler.steps", "ddpm makes every step of the process; leave it out")
	case s.Sampler.Name != "ddpm" && s.Sampler.Steps < 1:
		return r.fail("spec.sampler.steps", "not at least 1")
	case s.Sampler.Temperature < 0:
		return r.fail("spec.sampler.temperature", "negative")
	}
	if s.Sample.Task == "class" {
		if _, err := ParseClasses(s.Sample.Classes); err != nil {
			return r.fail("spec.sample.classes", "%s", err)
		}
	}
	return nil
}

// fail makes an error of class usage that names the key and where its value came from.
func (r *Resolved) fail(key, format string, args ...any) error {
	msg := fmt.Sprintf(format, args...)
	if o := r.Origins[key]; o != "" {
		return exitcode.Errorf(exitcode.Usage, "%s: %s: %s", o, key, msg)
	}
	return exitcode.Errorf(exitcode.Usage, "%s: %s", key, msg)
}
