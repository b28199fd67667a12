package main

import (
	"context"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
	"github.com/ldm-batch/ldm-batch/jobs/training"
)

var trainSettings = []setting{
	{"name", "metadata.name", "`NAME` of the job in logs and metrics", plain},
	{"stage", "train.stage", "`STAGE` to train: first-stage, diffusion or classifier", plain},
	{"config", "model.config", "configuration `FILE` of the model", path},
	{"model", "model.checkpoint", "model `FILE` to begin with (default: random weights)", path},
	{"weights", "model.weights", "`WHICH` weights of it: auto, ema or raw", plain},
	{"first-stage", "train.first_stage", "model `FILE` of the first stage (stage diffusion)", path},
	{"perceptual", "train.perceptual", "`FILES` of the VGG16 weights and of the LPIPS heads, separated by a comma, or none (stage first-stage)", paths},
	{"output", "output.path", "output `FOLDER`", path},
	{"steps", "train.steps", "`N` steps of the optimiser", plain},
	{"batch", "train.batch", "`N` samples computed together", plain},
	{"accumulate", "train.accumulate", "`N` batches to a step", plain},
	{"workers", "train.workers", "`N` of these batches computed at the same time, with the threads divided among them", plain},
	{"learning-rate", "train.learning_rate", "learning `RATE` (default: the configuration's, scaled)", plain},
	{"schedule", "train.schedule", "`SCHEDULE` of the learning rate: constant, linear, cosine or config", plain},
	{"warmup", "train.warmup", "`N` steps on which the learning rate grows", plain},
	{"clip", "train.clip", "largest `NORM` of the gradient", plain},
	{"ema", "train.ema", "`DECAY` of the moving average, 0 for none", plain},
	{"drop", "train.drop", "`SHARE` of samples trained without their class or caption", plain},
	{"min-snr", "train.min_snr", "`GAMMA` of min-SNR weighting", plain},
	{"latent", "train.latent", "`COLUMN` of latents to train on instead of images", plain},
	{"caption", "input.caption", "`COLUMN` of the captions", plain},
	{"vocab", "train.vocab", "vocab.txt `FILE` of bert-base-uncased", path},
	{"mask", "input.mask", "`COLUMN` of masks, white where to fill (default: drawn at random)", plain},
	{"segmentation", "input.segmentation", "`COLUMN` of label maps", plain},
	{"degradation", "train.degradation", "`HOW` small pictures are made, such as pil_bicubic", plain},
	{"size", "preprocess.size", "`SIZE` in pixels, such as 256 or 256x384 (height x width)", plain},
	{"crop", "preprocess.crop", "`CROP`: center, random, lsun or none", plain},
	{"resize", "preprocess.resize", "`METHOD` of resizing, such as pil-bicubic", plain},
	{"flip", "preprocess.flip", "mirror each image left to right with probability one half", toggle},
	{"validation", "train.validation", "`FILES` to validate with, named as --input is", paths},
	{"validate-every", "train.validate_every", "validate every `N` steps", plain},
	{"checkpoint-every", "train.checkpoint_every", "write a checkpoint every `N` steps", plain},
	{"samples", "train.samples", "show `N` pictures of every validation on the page of the training", plain},
	{"keep-best", "train.keep_best", "keep the `N` best checkpoints beside the last", plain},
	{"log-every", "train.log_every", "log losses every `N` steps", plain},
	{"resume", "train.resume", "`WHAT` to do with an unfinished run: auto goes on, never starts again", plain},
	{"seed", "compute.seed", "`SEED` of everything random", plain},
	{"max-bad-rows", "limits.max_bad_rows", "`BUDGET` of rows that cannot be used, a number or a share such as 1%", plain},
	{"memory", "limits.memory", "`SIZE` of what activations may take, such as 8GiB", plain},
}

// trainInput is what training reads of a data set; it keeps no columns.
func trainInput() []setting {
	return slices.DeleteFunc(slices.Clone(inputSettings), func(s setting) bool { return s.flag == "columns" })
}

func trainCommand(k *console) *cli.Command {
	settings := slices.Concat(trainSettings, trainInput(), deviceSettings)
	return &cli.Command{
		Name:      "train",
		Usage:     "train a first stage or a diffusion model, from flags and perhaps a job file",
		ArgsUsage: "[JOB.yaml]",
		Flags:     jobFlags(settings),
		Action: k.action(func(ctx context.Context, c *cli.Context) error {
			return k.runJob(ctx, c, "Train", settings)
		}),
	}
}

// runTraining runs a resolved job of kind Train.
func (k *console) runTraining(ctx context.Context, c *cli.Context, r *spec.Resolved, o jobs.RunOptions) error {
	p, err := training.Prepare(ctx, r, k.log)
	if err != nil {
		return err
	}
	defer p.Close()
	res, err := p.Run(ctx, o)
	if res == nil {
		return err
	}
	return k.runEnded(c, &res.Result, res, err)
}

// describeTraining opens a resolved job of kind Train and describes it.
func (k *console) describeTraining(ctx context.Context, r *spec.Resolved) (*training.Description, error) {
	p, err := training.Prepare(ctx, r, k.log)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return p.Describe(), nil
}
