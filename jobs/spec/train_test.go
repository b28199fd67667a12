package spec

import (
	"strings"
	"testing"
)

const trainJob = `kind: Train
spec:
  model: {config: model.yaml}
  input: {path: "train-*.parquet"}
  preprocess: {size: 64}
  train: {stage: diffusion, first_stage: kl.safetensors, steps: 1000}
  output: {path: run}
`

func TestTrain(t *testing.T) {
	r, err := load(trainJob, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s := r.Spec.Train; s.FirstStage != "/base/kl.safetensors" || s.Batch != 8 || s.EMA != 0.9999 || s.CheckpointEvery != 1000 || s.Resume != "auto" {
		t.Errorf("%+v", s)
	}
	first := []Setting{{"train.stage", "first-stage", "--set"}, {"train.perceptual", "none", "--set"}, {"train.first_stage", "", "--set"}}
	for want, settings := range map[string][]Setting{
		"":                                  {{"train.latent", "latent", "--set"}, {"preprocess.size", "0", "--set"}},
		"steps: not at least 1":             {{"train.steps", "0", "--set"}},
		"path: missing: kind Train":         {{"input.path", "", "--set"}},
		"size: missing":                     {{"preprocess.size", "0", "--set"}},
		"validation: missing":               {{"train.validate_every", "10", "--set"}},
		"warmup: not in":                    {{"train.warmup", "1001", "--set"}},
		"has no meaning for stage diff":     {{"train.perceptual", "a,b", "--set"}},
		"first_stage: has no meaning for":   first,
		"perceptual: missing: the file":     {{"train.stage", "first-stage", "--set"}},
		"which reads images":                {{"train.stage", "first-stage", "--set"}, {"train.perceptual", "none", "--set"}, {"train.latent", "z", "--set"}},
		"no meaning for stage classifier":   {{"train.stage", "classifier", "--set"}},
		"classifier, which reads images":    {{"train.stage", "classifier", "--set"}, {"train.latent", "z", "--set"}},
		"no meaning for kind Train":         {{"sampler.steps", "3", "--set"}},
		"precision: training is":            {{"compute.precision", "mixed", "--set"}},
		`stage: "both" is not one of first`: {{"train.stage", "both", "--set"}},
	} {
		r, err := load(trainJob, nil, settings...)
		if err == nil {
			err = r.Validate()
		}
		switch {
		case want == "" && err != nil:
			t.Errorf("%v: %v", settings, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%v: error %v, want %q", settings, err, want)
		}
	}
}

func TestPerceptualFiles(t *testing.T) {
	for text, want := range map[string]int{"": 0, "none": 0, "/jobs/none": 0, "/a/vgg16.pth,/a/vgg.pth": 2, "/a/vgg16.pth": -1, "/a,/b,/c": -1} {
		files, err := Train{Perceptual: text}.PerceptualFiles()
		if want < 0 != (err != nil) || want >= 0 && len(files) != want {
			t.Errorf("%q: %q, %v", text, files, err)
		}
	}
}
