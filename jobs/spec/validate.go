package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Kinds of jobs that this version runs.
var runnable = []string{"Encode", "Sample", "Eval", "Train"}

// Tasks of kind Sample.
var tasks = []string{"class", "uncond", "superres", "inpaint", "text", "layout", "semantic", "img2img"}

// Validate checks what the types cannot say: required values, ranges and combinations. Errors name the key and its origin.
func (r *Resolved) Validate() error {
	s := &r.Spec
	check := []struct {
		bad bool
		key string
		msg string
	}{
		{r.Kind == "", "kind", "missing; one of " + strings.Join(runnable, ", ")},
		{r.Kind != "" && !slices.Contains(runnable, r.Kind), "kind", fmt.Sprintf("%s is not available in this version; available: %s", r.Kind, strings.Join(runnable, ", "))},
		{s.Model.Checkpoint == "" && r.Kind != "Eval" && r.Kind != "Train", "spec.model.checkpoint", "missing"},
		{s.Model.Config == "" && r.Kind != "Eval", "spec.model.config", "missing"},
		{s.Model.SHA256 != "" && len(s.Model.SHA256) != 64, "spec.model.sha256", "not 64 hexadecimal digits"},
		{s.Output.Path == "", "spec.output.path", "missing"},
		{s.Output.RowsPerPart < 1 || s.Output.RowsPerPart > 1<<20, "spec.output.rows_per_part", "not in 1..1048576"},
		{s.Sample.Strength < 0 || s.Sample.Strength > 1, "spec.sample.strength", "not in [0, 1]"},
		{s.Sampler.Reuse.Every < 1, "spec.sampler.reuse.every", "not at least 1"},
		{s.Sampler.Reuse.Branch < 0, "spec.sampler.reuse.branch", "negative"},
		{s.Limits.Tile.Size > 0 && s.Limits.Tile.Blend == "ramp" && 3*s.Limits.Tile.Overlap > s.Limits.Tile.Size, "spec.limits.tile.overlap", "more than a third of spec.limits.tile.size"},
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
	case "Eval":
		return r.validateEval()
	case "Train":
		return r.validateTrain()
	}
	return nil
}

func (r *Resolved) validateEncode() error {
	if r.Spec.Input.Path == "" {
		return r.fail("spec.input.path", "missing: kind Encode reads images")
	}
	for _, key := range []string{"spec.sample.task", "spec.sample.classes", "spec.sampler.steps", "spec.sampler.name", "spec.output.layout", "spec.sample.score", "spec.limits.tile.blend"} {
		if r.Origins[key] != "" {
			return r.fail(key, "has no meaning for kind Encode")
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
