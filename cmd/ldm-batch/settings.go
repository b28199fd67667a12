package main

import (
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// setting is a flag that stands for one value of the job.
type setting struct {
	flag, key, usage string
	form             form
}

// form is how a flag's text becomes a value of the job.
type form int

const (
	plain  form = iota // as it is
	path               // relative to the working folder, where the job file's paths are relative to the job file
	paths              // several of them, separated by commas
	list               // names separated by commas
	toggle             // true or false
)

var deviceSettings = []setting{
	{"device", "compute.device", "`DEVICE`: auto, cpu or gpu", plain},
	{"threads", "compute.threads", "`N` threads, 0 for one on each processor", plain},
}

var modelSettings = []setting{
	{"name", "metadata.name", "`NAME` of the job in logs and metrics", plain},
	{"model", "model.checkpoint", "checkpoint or safetensors `FILE`", path},
	{"config", "model.config", "configuration `FILE` of the model", path},
	{"weights", "model.weights", "`WHICH` weights: auto, ema or raw", plain},
	{"output", "output.path", "output `FOLDER`", path},
	{"rows-per-part", "output.rows_per_part", "`N` rows in each part", plain},
	{"compression", "output.compression", "`KIND` of compression of parts: none, zstd or lz4", plain},
	{"precision", "compute.precision", "`PRECISION`: fp32 or mixed", plain},
	{"batch", "compute.batch", "`N` rows computed at a time; results do not depend on it", plain},
	{"seed", "compute.seed", "`SEED` of everything random", plain},
	{"max-bad-rows", "limits.max_bad_rows", "`BUDGET` of failed rows, a number or a share such as 1%", plain},
	{"memory", "limits.memory", "`SIZE` that a run may take beside the weights, such as 8GiB; an image that needs more is tiled", plain},
	{"tile", "limits.tile.size", "`CELLS` along a tile of large images: auto (default), 0 for never, or a number of latent cells", plain},
	{"tile-overlap", "limits.tile.overlap", "`CELLS` that tiles overlap (default: a quarter of a tile)", plain},
	{"tile-blend", "limits.tile.blend", "`HOW` tiles are joined: ramp, or reference, as latent-diffusion does with split inputs", plain},
	{"tile-norm", "limits.tile.norm", "`WHERE` tiles take statistics of normalisations: global, the whole image, or tile", plain},
}

// inputSettings name a dataset and what is read of it.
var inputSettings = []setting{
	{"input", "input.path", "`PATHS` of Parquet and Arrow files, folders of pictures, zip and tar files: a file, a folder, a glob, or several separated by commas", paths},
	{"image", "input.image", "`COLUMN` of the images (default: found by its type)", plain},
	{"id", "input.id", "`COLUMN` of ids (default: file name and row)", plain},
	{"label", "input.label", "`COLUMN` of labels (default: found by its type)", plain},
	{"columns", "input.columns", "further `COLUMNS` to keep, separated by commas", list},
	{"limit", "input.limit", "take only the first `N` rows", plain},
	{"allow-paths", "input.allow_paths", "`FOLDER` from which images given by path may be read", path},
	{"exif", "input.exif", "`WHAT` to do with the EXIF orientation: apply or ignore", plain},
	{"max-pixels", "limits.max_pixels", "refuse images of more than `N` pixels", plain},
}

var encodeSettings = []setting{
	{"size", "preprocess.size", "`SIZE` in pixels, such as 256 or 256x384 (height x width)", plain},
	{"crop", "preprocess.crop", "`CROP`: center, random, lsun or none", plain},
	{"resize", "preprocess.resize", "`METHOD` of resizing, such as pil-bicubic", plain},
	{"flip", "preprocess.flip", "mirror each image left to right with probability one half", toggle},
	{"latent", "encode.latent", "`LATENT` of a KL first stage: mode or sample", plain},
	{"dtype", "encode.dtype", "stored `TYPE`: float32 or float16", plain},
	{"scale", "encode.scale", "multiply latents by the model's scale factor (default: true)", toggle},
	{"latent-layout", "output.latent_layout", "`LAYOUT` of latents: list or tensor", plain},
}

var sampleSettings = []setting{
	{"task", "sample.task", "`TASK`: class, uncond, superres, inpaint, text, layout, semantic or img2img", plain},
	{"classes", "sample.classes", "`CLASSES` such as 0-9,15", plain},
	{"per-class", "sample.per_class", "`N` images of each class", plain},
	{"rows", "sample.rows", "`N` images, for tasks without classes", plain},
	{"size", "sample.size", "`SIZE` in pixels, such as 256 or 256x384 (height x width)", plain},
	{"mask", "input.mask", "`COLUMN` of the masks, white where to fill (task inpaint)", plain},
	{"caption", "input.caption", "`COLUMN` of the captions (models of captions)", plain},
	{"vocab", "sample.vocab", "vocab.txt `FILE` of bert-base-uncased (models of captions)", path},
	{"boxes", "input.boxes", "`COLUMN` of the boxes (models of layouts)", plain},
	{"categories", "input.categories", "`COLUMN` of the boxes' categories (models of layouts)", plain},
	{"segmentation", "input.segmentation", "`COLUMN` of the label maps (task semantic; default: the image column)", plain},
	{"reference", "input.reference", "`COLUMN` of the pictures that results are scored against", plain},
	{"degradation", "sample.degradation", "`HOW` the small picture is made, such as pil_bicubic; without it the input is small (task superres)", plain},
	{"inpaint", "sample.inpaint", "`WAY` of inpainting: auto, model or latent", plain},
	{"outpaint", "sample.outpaint", "`PIXELS` to add, such as 64 or 0,64,0,64 for top, right, bottom and left (task inpaint)", plain},
	{"strength", "sample.strength", "`SHARE` of the steps that change the image (task img2img)", plain},
	{"score", "sample.score", "write PSNR and SSIM against the reference", toggle},
	{"sampler", "sampler.name", "`SAMPLER`: ddim, ddpm, plms, dpmpp-2m, unipc, heun, euler or euler-a", plain},
	{"steps", "sampler.steps", "`N` steps", plain},
	{"eta", "sampler.eta", "`ETA` of DDIM: 0 is deterministic, 1 is like DDPM", plain},
	{"guidance", "sampler.guidance", "guidance `SCALE`; 1 is none", plain},
	{"spacing", "sampler.spacing", "`SPACING` of the steps: uniform, quad, trailing, linspace or karras", plain},
	{"guidance-rescale", "sampler.guidance_rescale", "`SHARE` by which guided predictions are rescaled", plain},
	{"guidance-interval", "sampler.guidance_interval", "guide only within these `FRACTIONS` of the process, such as 0.2,0.8", plain},
	{"reuse", "sampler.reuse.every", "compute the deep part of the U-Net in every `N`-th step only: faster, approximate", plain},
	{"reuse-branch", "sampler.reuse.branch", "skip connection `N` at which the U-Net is cut for reuse: 0 is the outermost, which saves most", plain},
	{"temperature", "sampler.temperature", "`FACTOR` of the noise of stochastic samplers", plain},
	{"noise-from", "sampler.noise_from", "safetensors `FILE` with the noise, for parity with other programs", path},
	{"format", "output.format", "`FORMAT` of images: png or jpeg", plain},
	{"quality", "output.quality", "JPEG `QUALITY`, 1 to 100", plain},
	{"layout", "output.layout", "`LAYOUT` of images: arrow, in the parts, or tree, as files with the names of the input", plain},
	{"alpha", "output.alpha", "`WHAT` to do with the source's alpha: keep (matted for jpeg), matte or drop", plain},
	{"matte", "output.matte", "`COLOR` under transparent pixels, such as #ffffff", plain},
	{"metadata", "output.metadata", "`WHAT` to do with color profile and EXIF: keep or drop", plain},
}

// settingFlags are the flags. Their environment variables are read by collect, since they rank below --set.
func settingFlags(settings []setting) []cli.Flag {
	var flags []cli.Flag
	for _, s := range settings {
		usage := s.usage + " [$" + env(s.flag)[0] + "]"
		if s.form == toggle {
			flags = append(flags, &cli.BoolFlag{Name: s.flag, Usage: usage})
		} else {
			flags = append(flags, &cli.StringFlag{Name: s.flag, Usage: usage})
		}
	}
	return flags
}

// collect lists what overrides the job file, weakest first: environment, --set, flags.
func collect(c *cli.Context, settings []setting) ([]spec.Setting, error) {
	var out []spec.Setting
	for _, s := range settings {
		name := env(s.flag)[0]
		if v := os.Getenv(name); v != "" {
			out = append(out, s.value(v, name))
		}
	}
	for _, text := range c.StringSlice("set") {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, usagef("--set %q: expected key=value", text)
		}
		out = append(out, spec.Setting{Key: key, Value: value, Origin: "--set " + key})
	}
	for _, s := range settings {
		switch {
		case !c.IsSet(s.flag):
		case s.form == toggle:
			out = append(out, s.value(strconv.FormatBool(c.Bool(s.flag)), "--"+s.flag))
		default:
			out = append(out, s.value(c.String(s.flag), "--"+s.flag))
		}
	}
	return out, nil
}

func (s setting) value(text, origin string) spec.Setting {
	switch s.form {
	case path:
		text = absolute(text)
	case paths:
		parts := strings.Split(text, ",")
		for i, p := range parts {
			parts[i] = absolute(strings.TrimSpace(p))
		}
		text = strings.Join(parts, ",")
	case list:
		parts := strings.Split(text, ",")
		for i, p := range parts {
			parts[i] = strconv.Quote(strings.TrimSpace(p))
		}
		text = "[" + strings.Join(parts, ", ") + "]"
	}
	return spec.Setting{Key: s.key, Value: text, Origin: origin}
}
