package spec

import (
	"fmt"
	"slices"
	"strings"
)

// Train says how a model is trained.
type Train struct {
	Stage      string `yaml:"stage" enum:"first-stage,diffusion,classifier"`
	FirstStage string `yaml:"first_stage" path:"true"`
	Perceptual string `yaml:"perceptual" path:"list"`
	Latent     string `yaml:"latent"`

	Steps        int     `yaml:"steps"`
	Batch        int     `yaml:"batch"`
	Accumulate   int     `yaml:"accumulate"`
	Workers      int     `yaml:"workers" op:"true"`
	LearningRate float64 `yaml:"learning_rate"`
	Schedule     string  `yaml:"schedule" enum:"constant,linear,cosine,config"`
	Warmup       int     `yaml:"warmup"`
	FinalRate    float64 `yaml:"final_rate"`
	WeightDecay  float64 `yaml:"weight_decay"`
	Clip         float64 `yaml:"clip"`
	EMA          float64 `yaml:"ema"`
	Shuffle      int     `yaml:"shuffle"`

	Drop        float64 `yaml:"drop"`
	MinSNR      float64 `yaml:"min_snr"`
	OffsetNoise float64 `yaml:"offset_noise"`

	PosteriorLogVar float64 `yaml:"posterior_logvar"`

	Degradation string `yaml:"degradation"`
	Vocab       string `yaml:"vocab" path:"true"`

	Validation      string `yaml:"validation" path:"list" op:"true"`
	ValidationRows  int    `yaml:"validation_rows" op:"true"`
	ValidateEvery   int    `yaml:"validate_every" op:"true"`
	Samples         int    `yaml:"samples" op:"true"`
	CheckpointEvery int    `yaml:"checkpoint_every" op:"true"`
	KeepBest        int    `yaml:"keep_best" op:"true"`
	LogEvery        int    `yaml:"log_every" op:"true"`
	Resume          string `yaml:"resume" enum:"auto,never" op:"true"`
}

// PerceptualNone is the value of spec.train.perceptual without a perceptual loss.
const PerceptualNone = "none"

func (r *Resolved) validateTrain() error {
	t := &r.Spec.Train
	latents := t.Latent != ""
	first := t.Stage == "first-stage"
	for _, c := range []struct {
		bad bool
		key string
		msg string
	}{
		{t.Stage == "", "spec.train.stage", "missing; one of first-stage, diffusion, classifier"},
		{r.Spec.Input.Path == "", "spec.input.path", "missing: kind Train reads images or latents"},
		{t.Steps < 1, "spec.train.steps", "not at least 1"},
		{t.Batch < 1 || t.Batch > 4096, "spec.train.batch", "not in 1..4096"},
		{t.Accumulate < 1 || t.Accumulate > 1<<16, "spec.train.accumulate", "not in 1..65536"},
		{t.Workers < 1 || t.Workers > 256, "spec.train.workers", "not in 1..256"},
		{t.Workers > t.Accumulate, "spec.train.workers", "more than spec.train.accumulate, the batches of a step; smaller batches, of which more make a step, can be divided among workers"},
		{!(t.LearningRate >= 0), "spec.train.learning_rate", "negative"},
		{t.Warmup < 0 || t.Warmup > t.Steps, "spec.train.warmup", "not in 0..spec.train.steps"},
		{!(t.FinalRate >= 0 && t.FinalRate <= 1), "spec.train.final_rate", "not in [0, 1]"},
		{!(t.WeightDecay >= 0), "spec.train.weight_decay", "negative"},
		{!(t.Clip >= 0), "spec.train.clip", "negative"},
		{!(t.EMA >= 0 && t.EMA < 1), "spec.train.ema", "not in [0, 1)"},
		{t.Shuffle < 1, "spec.train.shuffle", "not at least 1"},
		{!(t.Drop >= 0 && t.Drop < 1), "spec.train.drop", "not in [0, 1)"},
		{!(t.MinSNR >= 0), "spec.train.min_snr", "negative"},
		{!(t.PosteriorLogVar >= -30 && t.PosteriorLogVar <= 20), "spec.train.posterior_logvar", "not in [-30, 20]"},
		{!(t.OffsetNoise >= 0 && t.OffsetNoise <= 1), "spec.train.offset_noise", "not in [0, 1]"},
		{t.ValidationRows < 1, "spec.train.validation_rows", "not at least 1"},
		{t.ValidateEvery < 0, "spec.train.validate_every", "negative"},
		{t.ValidateEvery > 0 && t.Validation == "", "spec.train.validation", "missing: the rows to validate with"},
		{t.Samples < 0 || t.Samples > 64, "spec.train.samples", "not in 0..64"},
		{t.CheckpointEvery < 1, "spec.train.checkpoint_every", "not at least 1"},
		{t.KeepBest < 0, "spec.train.keep_best", "negative"},
		{t.LogEvery < 1, "spec.train.log_every", "not at least 1"},
		{latents && t.Stage != "diffusion", "spec.train.latent", fmt.Sprintf("has no meaning for stage %s, which reads images", t.Stage)},
		{!latents && (r.Spec.Preprocess.Size.H == 0 || r.Spec.Preprocess.Size.W == 0), "spec.preprocess.size", "missing: the size of the images that are trained on"},
		{first && t.Perceptual == "", "spec.train.perceptual", "missing: the file of the VGG16 weights and the one of the LPIPS heads, separated by a comma, or none"},
		{r.Spec.Compute.Precision != "fp32", "spec.compute.precision", "training is computed in fp32"},
	} {
		if c.bad {
			return r.fail(c.key, "%s", c.msg)
		}
	}
	for _, key := range foreign[t.Stage] {
		if r.Origins[key] != "" {
			return r.fail(key, "has no meaning for stage %s", t.Stage)
		}
	}
	for _, key := range []string{"spec.sample.task", "spec.sampler.steps", "spec.sampler.name", "spec.encode.latent", "spec.output.layout", "spec.output.format", "spec.output.rows_per_part"} {
		if r.Origins[key] != "" {
			return r.fail(key, "has no meaning for kind Train")
		}
	}
	return nil
}

// onlyDiffusion are keys that no other stage has, and foreign those that a stage does not have.
var (
	onlyDiffusion = []string{"spec.train.first_stage", "spec.train.drop", "spec.train.min_snr", "spec.train.offset_noise", "spec.train.degradation", "spec.train.vocab", "spec.train.ema", "spec.train.workers"}
	foreign       = map[string][]string{
		"first-stage": append([]string{"spec.train.weight_decay"}, onlyDiffusion...),
		"diffusion":   {"spec.train.perceptual", "spec.train.posterior_logvar"},
		"classifier":  append([]string{"spec.train.perceptual", "spec.train.posterior_logvar"}, onlyDiffusion...),
	}
)

// PerceptualFiles are the files of the perceptual loss, nil without one.
func (t Train) PerceptualFiles() ([]string, error) {
	if t.Perceptual == "" || strings.HasSuffix(t.Perceptual, "/"+PerceptualNone) || t.Perceptual == PerceptualNone {
		return nil, nil
	}
	files := strings.Split(t.Perceptual, ",")
	if len(files) != 2 || slices.Contains(files, "") {
		return nil, fmt.Errorf("spec.train.perceptual: %d files, want that of the VGG16 weights and that of the LPIPS heads", len(files))
	}
	return files, nil
}
