package spec

import (
	"slices"
	"strings"
)

// only says which tasks a key has a meaning for.
var only = []struct {
	key   string
	tasks []string
}{
	{"spec.sample.classes", []string{"class"}},
	{"spec.sample.per_class", []string{"class"}},
	{"spec.sample.rows", []string{"uncond"}},
	{"spec.sample.degradation", []string{"superres"}},
	{"spec.sample.inpaint", []string{"inpaint"}},
	{"spec.sample.outpaint", []string{"inpaint"}},
	{"spec.sample.strength", []string{"img2img"}},
	{"spec.sample.vocab", []string{"text", "inpaint", "img2img"}},
	{"spec.sample.size", []string{"class", "uncond", "text", "layout"}},
	{"spec.input.image", []string{"superres", "inpaint", "img2img", "semantic"}},
	{"spec.input.mask", []string{"inpaint"}},
	{"spec.input.caption", []string{"text", "inpaint", "img2img"}},
	{"spec.input.boxes", []string{"layout", "inpaint", "img2img"}},
	{"spec.input.categories", []string{"layout", "inpaint", "img2img"}},
	{"spec.input.segmentation", []string{"semantic"}},
}

func (r *Resolved) validateSample() error {
	s := &r.Spec
	task := s.Sample.Task
	switch {
	case task == "":
		return r.fail("spec.sample.task", "missing; one of %s", strings.Join(tasks, ", "))
	case !slices.Contains(tasks, task):
		return r.fail("spec.sample.task", "%q is not one of %s", task, strings.Join(tasks, ", "))
	}
	for _, o := range only {
		if set := r.Origins[o.key]; set != "" && !slices.Contains(o.tasks, task) {
			return r.fail(o.key, "has no meaning for task %s, only for %s", task, strings.Join(o.tasks, ", "))
		}
	}
	for _, check := range []func() error{r.validateRows, r.validateConditions, r.validateSampler, r.validateImages} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// validateRows checks where the rows come from.
func (r *Resolved) validateRows() error {
	s := &r.Spec
	task := s.Sample.Task
	switch {
	case s.Sample.PerClass < 1:
		return r.fail("spec.sample.per_class", "not at least 1")
	case s.Sample.Rows < 0:
		return r.fail("spec.sample.rows", "negative")
	case task == "uncond" && s.Input.Path != "":
		return r.fail("spec.input.path", "has no meaning for task uncond, which makes its rows from sample.rows")
	case task == "uncond" && s.Sample.Rows == 0:
		return r.fail("spec.sample.rows", "missing: how many images to generate")
	case task == "class" && s.Sample.Classes == "" && s.Input.Path == "":
		return r.fail("spec.sample.classes", "missing: classes such as 0-9, or an input with labels")
	case task == "class" && s.Sample.Classes != "" && s.Input.Path != "":
		return r.fail("spec.sample.classes", "does not go with spec.input.path, whose rows carry labels")
	case task != "class" && task != "uncond" && s.Input.Path == "":
		return r.fail("spec.input.path", "missing: task %s reads a dataset", task)
	}
	if s.Sample.Classes != "" {
		if _, err := ParseClasses(s.Sample.Classes); err != nil {
			return r.fail("spec.sample.classes", "%s", err)
		}
	}
	return nil
}

// validateConditions checks what a task needs of its rows.
func (r *Resolved) validateConditions() error {
	s := &r.Spec
	switch task := s.Sample.Task; {
	case task == "inpaint" && s.Input.Mask == "" && s.Sample.Outpaint == "":
		return r.fail("spec.input.mask", "missing: the column of the masks; or give spec.sample.outpaint")
	case task == "inpaint" && s.Input.Mask != "" && s.Sample.Outpaint != "":
		return r.fail("spec.sample.outpaint", "does not go with spec.input.mask")
	case task == "text" && s.Input.Caption == "":
		return r.fail("spec.input.caption", "missing: the column of the captions")
	case task == "text" && s.Sample.Vocab == "":
		return r.fail("spec.sample.vocab", "missing: the vocab.txt of bert-base-uncased")
	case task == "semantic" && s.Input.Segmentation != "" && r.Origins["spec.input.image"] != "":
		return r.fail("spec.input.image", "is not read beside spec.input.segmentation")
	case task == "layout" && s.Input.Boxes == "":
		return r.fail("spec.input.boxes", "missing: the column of the boxes")
	case task == "layout" && s.Input.Categories == "":
		return r.fail("spec.input.categories", "missing: the column of the boxes' categories")
	case s.Sampler.Guidance != 1 && !slices.Contains([]string{"class", "text", "inpaint", "img2img"}, task): // of the last two it depends on the model
		return r.fail("spec.sampler.guidance", "must be 1 with task %s: its models know no missing condition", task)
	case s.Sample.Score && s.Input.Reference == "" && s.Sample.Degradation == "":
		return r.fail("spec.sample.score", "needs the column spec.input.reference, or spec.sample.degradation")
	case s.Input.Reference != "" && !s.Sample.Score:
		return r.fail("spec.input.reference", "is read for spec.sample.score only")
	}
	if s.Sample.Outpaint != "" {
		if _, err := ParseMargins(s.Sample.Outpaint); err != nil {
			return r.fail("spec.sample.outpaint", "%s", err)
		}
	}
	return nil
}

func (r *Resolved) validateSampler() error {
	s := &r.Spec.Sampler
	switch {
	case s.Name != "ddim" && s.Eta != 0:
		return r.fail("spec.sampler.eta", "must be 0 with %s", s.Name)
	case s.Eta < 0 || s.Eta > 1:
		return r.fail("spec.sampler.eta", "not in [0, 1]")
	case s.Name == "ddpm" && s.Steps != 0:
		return r.fail("spec.sampler.steps", "ddpm makes every step of the process; leave it out")
	case s.Name != "ddpm" && s.Steps < 1:
		return r.fail("spec.sampler.steps", "not at least 1")
	case s.Temperature < 0:
		return r.fail("spec.sampler.temperature", "negative")
	case s.GuidanceRescale < 0 || s.GuidanceRescale > 1:
		return r.fail("spec.sampler.guidance_rescale", "not in [0, 1]")
	case s.Guidance == 1 && (s.GuidanceRescale != 0 || s.GuidanceInterval != ""):
		return r.fail("spec.sampler.guidance", "is 1, which leaves nothing to rescale or limit")
	}
	if size := r.Spec.Limits.Tile.Size; size > 0 && (s.Reuse.Every > 1 || r.Spec.Sample.Task == "layout") {
		return r.fail("spec.limits.tile.size", "tiles go neither with task layout, whose crop would be another one in every tile, nor with spec.sampler.reuse")
	}
	if err := r.validatePatches(); err != nil {
		return err
	}
	if s.Reuse.Branch > 0 && s.Reuse.Every == 1 {
		return r.fail("spec.sampler.reuse.branch", "has no meaning without spec.sampler.reuse.every above 1")
	}
	if _, _, err := ParseInterval(s.GuidanceInterval); err != nil {
		return r.fail("spec.sampler.guidance_interval", "%s", err)
	}
	return nil
}

// patchTasks are those that do not encode pictures, which the reference's patches are not made for.
var patchTasks = []string{"superres", "semantic", "class", "uncond", "text"}

// validatePatches checks what goes with the reference's split inputs.
func (r *Resolved) validatePatches() error {
	t, key := r.Spec.Limits.Tile, "spec.limits.tile.blend"
	switch {
	case t.Blend != "reference":
		return nil
	case t.Size <= 0:
		return r.fail(key, "reference needs a number in spec.limits.tile.size")
	case t.Overlap >= t.Size:
		return r.fail("spec.limits.tile.overlap", "not less than spec.limits.tile.size")
	case r.Origins["spec.limits.tile.norm"] != "":
		return r.fail("spec.limits.tile.norm", "has no meaning with blend reference, whose patches have their own statistics each")
	case !slices.Contains(patchTasks, r.Spec.Sample.Task):
		return r.fail(key, "reference does not go with task %s, only with %s", r.Spec.Sample.Task, strings.Join(patchTasks, ", "))
	}
	return nil
}

// validateImages checks how results are written.
func (r *Resolved) validateImages() error {
	s := &r.Spec
	if _, err := ParseColor(s.Output.Matte); err != nil {
		return r.fail("spec.output.matte", "%s", err)
	}
	if s.Output.Layout == "tree" && s.Input.Path == "" {
		return r.fail("spec.output.layout", "tree takes its names from an input, which task %s has not; export images of its parts instead", s.Sample.Task)
	}
	return nil
}
