package main

import (
	"context"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/scoring"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

var evalSettings = []setting{
	{"name", "metadata.name", "`NAME` of the job in logs, metrics and reports", plain},
	{"generated", "eval.generated", "`PICTURES` to score: folders, archives, tables, finished output folders, .npz", paths},
	{"reference", "eval.reference", "`PICTURES` to compare with, or a file of statistics", paths},
	{"metrics", "eval.metrics", "`SCORES`, separated by commas: fid, sfid, kid, is, precision, recall, ...", list},
	{"protocol", "eval.protocol", "`TOOL` whose conventions are followed: torch-fidelity, pytorch-fid, clean-fid, adm or torchmetrics", plain},
	{"inception", "eval.extractor.path", "`FILE` of the extractor's weights: the Inception-v3 of FID, VGG16, or a classifier", path},
	{"extractor", "eval.extractor.name", "`NETWORK` that makes features: auto, shapes64, classifier, inception, vgg16 or first-stage", plain},
	{"reconstruct", "eval.reconstruct", "score reconstructions of the reference by the model's first stage (rFID)", toggle},
	{"model", "model.checkpoint", "model `FILE` of the first stage", path},
	{"config", "model.config", "configuration `FILE` of the model", path},
	{"size", "preprocess.size", "`SIZE` at which the first stage sees pictures, such as 256", plain},
	{"crop", "preprocess.crop", "`CROP` for the first stage: center, lsun or none", plain},
	{"resize", "preprocess.resize", "`METHOD` of resizing for the first stage, such as pil-bicubic", plain},
	{"image", "input.image", "`COLUMN` of the generated images (default: found by its type)", plain},
	{"label", "input.label", "`COLUMN` of their labels (default: found by its type)", plain},
	{"reference-image", "eval.reference_image", "`COLUMN` of the reference's images (default: found by its type)", plain},
	{"reference-label", "eval.reference_label", "`COLUMN` of the reference's labels (default: found by its type)", plain},
	{"limit", "input.limit", "take only the first `N` rows of each set", plain},
	{"neighbours", "eval.neighbours", "`N` neighbours of precision, recall, density and coverage", plain},
	{"max-features", "eval.max_features", "hold the features of at most `N` rows of a set", plain},
	{"plane", "eval.plane", "`WHAT` psnr and ssim compare: rgb, luma or luma-rounded", plain},
	{"border", "eval.border", "`N` pixels that psnr and ssim leave out on every side", plain},
	{"perceptual", "eval.perceptual", "`FILES` of the weights of lpips: VGG16 and heads, separated by a comma", paths},
	{"extractor-precision", "eval.extractor.precision", "`TYPE` that features are computed in: float32, or float64 for audits of few pictures", plain},
	{"force", "eval.force", "compare with statistics that were made in another way", toggle},
	{"fail-if", "eval.fail_if", "fail with exit code 65 if one of the `CONDITIONS` is met, such as fid>12.5", list},
	{"save-stats", "eval.save_stats", "write the statistics of the generated pictures to `FILE`: .arrow, .npz, _kid.npz or .pt", path},
	{"output", "output.path", "output `FOLDER`", path},
	{"rows-per-part", "output.rows_per_part", "`N` rows in each part", plain},
	{"compression", "output.compression", "`KIND` of compression of parts: none, zstd or lz4", plain},
	{"batch", "compute.batch", "`N` pictures computed at a time; results do not depend on it", plain},
	{"max-bad-rows", "limits.max_bad_rows", "`BUDGET` of rows that cannot be used, a number or a share such as 1% (default: none)", plain},
	{"max-pixels", "limits.max_pixels", "refuse images of more than `N` pixels", plain},
}

func evalCommand(k *console) *cli.Command {
	settings := slices.Concat(evalSettings, deviceSettings)
	return &cli.Command{
		Name:      "eval",
		Usage:     "score pictures: FID and its relatives with their uncertainty, PSNR and SSIM of pairs",
		ArgsUsage: "[JOB.yaml]",
		Flags:     jobFlags(settings),
		Action: k.action(func(ctx context.Context, c *cli.Context) error {
			return k.runJob(ctx, c, "Eval", settings)
		}),
	}
}

// runEvaluation runs a resolved job of kind Eval.
func (k *console) runEvaluation(ctx context.Context, c *cli.Context, r *spec.Resolved, o jobs.RunOptions) error {
	p, err := scoring.Prepare(ctx, r, k.log)
	if err != nil {
		return err
	}
	defer p.Close()
	res, err := p.Run(ctx, o)
	return k.runEnded(c, &res.Result, res, err)
}

// describeEvaluation opens a resolved job of kind Eval and describes it.
func (k *console) describeEvaluation(ctx context.Context, r *spec.Resolved) (*jobs.Description, error) {
	p, err := scoring.Prepare(ctx, r, k.log)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return p.Describe(), nil
}

// finalizeEvaluation scores and publishes a folder of kind Eval.
func (k *console) finalizeEvaluation(ctx context.Context, c *cli.Context, dir string) error {
	res, err := scoring.Finalize(ctx, dir)
	if res == nil {
		return err
	}
	return k.runEnded(c, &res.Result, res, err)
}
