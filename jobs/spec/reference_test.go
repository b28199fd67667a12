package spec

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/io/preprocess"
	"github.com/ldm-batch/ldm-batch/io/resize"
)

var update = flag.Bool("update", false, "write the generated files in docs")

// about says in one line what each key means. It is the source of docs/jobs.md and of the descriptions in the schema.
var about = map[string]string{
	"apiVersion":    "version of the format",
	"kind":          "what the job does",
	"metadata.name": "name of the job in logs, metrics and results",

	"spec.model.checkpoint": "model file: safetensors or a PyTorch checkpoint",
	"spec.model.config":     "the model's configuration, YAML in the form of latent-diffusion",
	"spec.model.weights":    "which weights of the U-Net: ema takes their moving average, raw the others, auto what the configuration's use_ema says",
	"spec.model.sha256":     "expected SHA-256 of the model file, 64 hexadecimal digits; the job fails when it differs",

	"spec.input.path":        "what to read: Parquet and Arrow files, folders of pictures, zip and tar files of pictures; a file, a folder, a glob, or several separated by commas",
	"spec.input.image":       "column of the images, found by its type when empty; of pictures, their extension (tasks that read images)",
	"spec.input.id":          "column of the rows' ids; file name and row when empty",
	"spec.input.label":       "column of the labels; the class label that the file declares, or a column named label, when empty",
	"spec.input.columns":     "further columns to copy to the output",
	"spec.input.limit":       "read only the first rows; 0 reads all",
	"spec.input.allow_paths": "folder from which images that are given by path may be read; such images are refused when empty",
	"spec.input.exif":        "apply or ignore the orientation that a picture states",

	"spec.input.mask":         "column of the masks, white where to fill (task inpaint)",
	"spec.input.caption":      "column of the captions (task text; tasks inpaint and img2img with a model of captions)",
	"spec.input.boxes":        "column of the boxes, a list of [x, y, width, height] in fractions of the image (task layout; tasks inpaint and img2img with a model of layouts)",
	"spec.input.categories":   "column of the boxes' categories, a list of numbers (as input.boxes)",
	"spec.input.segmentation": "column of the label maps, gray pictures whose values are labels (task semantic); the image column when empty",
	"spec.input.reference":    "column of the pictures that results are scored against",

	"spec.preprocess.size":   "size of the model's input; 0 keeps that of each picture",
	"spec.preprocess.crop":   "center and random resize until the output fits inside and cut; lsun cuts the middle square, then resizes; none resizes to the size whatever the shape",
	"spec.preprocess.resize": "library and filter whose results are reproduced",
	"spec.preprocess.flip":   "mirror with probability one half, by the seed and the row's id",

	"spec.encode.latent": "mode: mean of the posterior; sample: draw from it, by the seed and the row's id (KL first stages only)",
	"spec.encode.dtype":  "type of the written latents",
	"spec.encode.scale":  "multiply with the model's scale factor, as the diffusion model expects it",

	"spec.sample.task":      "what is generated",
	"spec.sample.classes":   "classes and ranges such as 0-9,15 (task class)",
	"spec.sample.per_class": "images for each class (task class)",
	"spec.sample.rows":      "images (task uncond)",
	"spec.sample.size":      "size of the images in pixels; 0 takes the size that the model was made for",

	"spec.sample.degradation": "how the small picture is made from the image, such as pil_bicubic; empty takes the image itself as the small one (task superres)",
	"spec.sample.inpaint":     "model: the model takes the masked image, as inpainting models do; latent: any model, its latent held where the mask is black; auto what the model can (task inpaint)",
	"spec.sample.outpaint":    "pixels to add, such as 64 on every side or 0,64,0,64 for top, right, bottom and left; instead of a mask (task inpaint)",
	"spec.sample.strength":    "share of the steps that change the image, above 0 to 1 (task img2img)",
	"spec.sample.vocab":       "vocab.txt of bert-base-uncased, which the model's captions are written with (as input.caption)",
	"spec.sample.score":       "write PSNR and SSIM against the reference: the column input.reference, or the image that sample.degradation made small",

	"spec.sampler.name":              "the sampler",
	"spec.sampler.steps":             "steps; ddpm makes every step of the process and takes no number",
	"spec.sampler.eta":               "noise of ddim, 0 deterministic to 1 ancestral; 0 with the others",
	"spec.sampler.guidance":          "classifier-free guidance scale; 1 is without (models of classes or captions)",
	"spec.sampler.spacing":           "how the steps are spread over the process",
	"spec.sampler.temperature":       "factor on the noise of stochastic steps",
	"spec.sampler.noise_from":        "safetensors file with x_T and, for stochastic samplers, noise, instead of noise by seed and id",
	"spec.sampler.guidance_rescale":  "how far guided predictions get the standard deviation of conditional ones, 0 not to 1 fully",
	"spec.sampler.guidance_interval": "guide only at times within these fractions of the process, such as 0.2,0.8; empty guides everywhere",

	"spec.sampler.reuse.every":  "compute the deep part of the U-Net in every N-th step only and reuse it between: faster and approximate; 1 is exact",
	"spec.sampler.reuse.branch": "skip connection at which the U-Net is cut for reuse: 0 the outermost, which saves most",

	"spec.eval.generated":           "pictures to score: folders, archives, Parquet or Arrow files, finished output folders, .npz with arr_0; several separated by commas",
	"spec.eval.reference":           "what they are compared with: pictures likewise, or a file of statistics (ours, .npz of pytorch-fid, clean-fid and the ADM suite, a cache of torch-fidelity, or a .pkl of EDM2); not needed where only statistics are saved",
	"spec.eval.reference_image":     "column of the reference's images; found by its type when empty",
	"spec.eval.reference_label":     "column of the reference's labels; found as input.label is when empty",
	"spec.eval.reconstruct":         "score reconstructions of the reference by the model's first stage (rFID)",
	"spec.eval.metrics":             "scores: " + strings.Join(metrics, ", "),
	"spec.eval.protocol":            "the evaluation tool whose preprocessing, splits and seeds are followed",
	"spec.eval.extractor.name":      "network that makes features: inception, that of FID; shapes64, which comes with the program; classifier, one that a training made; vgg16, of ImageNet; the first stage of the model. Scores of all but inception are called FD(name). auto is inception where extractor.path is given, else shapes64",
	"spec.eval.extractor.path":      "its weights: of inception a PyTorch state dict, TorchScript archive, TensorFlow graph or safetensors; of vgg16 torchvision's state dict, safetensors too; of a classifier safetensors, with config.yaml beside",
	"spec.eval.extractor.sha256":    "expected SHA-256 of that file",
	"spec.eval.extractor.precision": "float32, or float64 in plain loops: hundreds of times slower, to audit features of few pictures",

	"spec.eval.neighbours":   "neighbours of precision, recall, density, coverage; 0 takes the protocol's, or 3",
	"spec.eval.max_features": "rows of a set whose features are held at a time; of larger sets kid, precision and the like, and standard errors see so many, drawn by a fixed seed",
	"spec.eval.plane":        "what psnr and ssim compare",
	"spec.eval.border":       "pixels that psnr and ssim leave out on every side",
	"spec.eval.perceptual":   "weights of lpips: VGG16 and the LPIPS heads, two files separated by a comma, or one with both",
	"spec.eval.force":        "compare with statistics made in another way than these; the result says so",
	"spec.eval.fail_if":      "conditions such as fid>12.5 under which the job fails with exit code 65, after its result is written",
	"spec.eval.save_stats":   "file to write the statistics of the generated pictures to, by the features that the metrics have: .arrow, ours, with classes for class_fid; .npz, mu and sigma, with sfid mu_s and sigma_s; _kid.npz, features as clean-fid has them; .pt, as torch-fidelity has them",

	"spec.train.stage":            "first-stage: an autoencoder; diffusion: the U-Net and, where the configuration says so, the conditioner, on latents; classifier: the small network of features and classes that eval can score with",
	"spec.train.first_stage":      "model file of the first stage, when spec.model.checkpoint does not bring it (stage diffusion)",
	"spec.train.perceptual":       "VGG16 weights and LPIPS heads, two files separated by a comma, or none for no perceptual loss (stage first-stage)",
	"spec.train.latent":           "column of latents that a job of kind Encode wrote, to train on instead of images (stage diffusion)",
	"spec.train.steps":            "steps of the optimiser",
	"spec.train.batch":            "samples that are computed together",
	"spec.train.accumulate":       "batches whose gradients make one step",
	"spec.train.workers":          "of these batches computed at the same time (stage diffusion), with the threads divided among them; results do not depend on it",
	"spec.train.learning_rate":    "learning rate; 0 is base_learning_rate of the configuration times batch times accumulate, as the reference scales it",
	"spec.train.schedule":         "constant, linear or cosine to final_rate at the last step, or the scheduler_config of the model's configuration",
	"spec.train.warmup":           "first steps, on which the learning rate grows linearly from 0",
	"spec.train.final_rate":       "share of the learning rate that is left at the last step (schedules linear and cosine)",
	"spec.train.weight_decay":     "decoupled weight decay of AdamW (stage diffusion)",
	"spec.train.clip":             "largest norm of the gradient; 0 does not clip",
	"spec.train.ema":              "decay of the moving average of the U-Net, with the reference's warm-up; 0 keeps none (stage diffusion)",
	"spec.train.shuffle":          "rows that are mixed at a time; the blocks they are read in come from all over the input",
	"spec.train.drop":             "share of the samples that are trained without their class or caption, for guidance (stage diffusion)",
	"spec.train.min_snr":          "gamma of min-SNR weighting, such as 5; 0 is without (stage diffusion)",
	"spec.train.posterior_logvar": "log-variance that the latents of a new KL autoencoder begin with, such as -6; 0 leaves the reference's random weights as they are (stage first-stage)",
	"spec.train.offset_noise":     "standard deviation of a shift of a sample's noise, such as 0.1; 0 is without (stage diffusion)",
	"spec.train.degradation":      "how the small picture is made, such as pil_bicubic (models for super-resolution)",
	"spec.train.vocab":            "vocab.txt of bert-base-uncased (models conditioned on captions)",
	"spec.train.validation":       "rows to validate with, named as input.path is",
	"spec.train.validation_rows":  "how many of them, from the first on",
	"spec.train.validate_every":   "steps between validations; 0 never validates",
	"spec.train.samples":          "pictures that every validation shows on the page of the training: reconstructions, or samples of models of classes and without a condition; 0 shows none",
	"spec.train.checkpoint_every": "steps between checkpoints",
	"spec.train.keep_best":        "checkpoints with the lowest validation loss that are kept beside the last one",
	"spec.train.log_every":        "steps between lines of the log of losses",
	"spec.train.resume":           "auto goes on from the last checkpoint of the output folder; never starts again",

	"spec.output.path":          "folder that the job writes",
	"spec.output.rows_per_part": "rows in each part",
	"spec.output.compression":   "compression of the parts",
	"spec.output.latent_layout": "list: nested fixed-size lists; tensor: the Arrow extension arrow.fixed_shape_tensor",
	"spec.output.format":        "format of generated images",
	"spec.output.quality":       "quality of jpeg",
	"spec.output.layout":        "arrow: images in the parts; tree: image files below images/ with the names of the input, and parts that name them",
	"spec.output.alpha":         "keep: the source's alpha is put back, or matted for jpeg, which has none; matte: the source is laid on output.matte first; drop: ignored",
	"spec.output.matte":         "color under transparent pixels",
	"spec.output.metadata":      "keep: color profile and EXIF of the source are written again, the orientation reset; drop",

	"spec.compute.device":    "where to compute; auto takes what there is",
	"spec.compute.precision": "fp32, or mixed: bfloat16 inside transformer blocks, on processors that have it",
	"spec.compute.batch":     "images computed together; results do not depend on it",
	"spec.compute.threads":   "threads; 0 takes every processor; results do not depend on it",
	"spec.compute.seed":      "seed of everything random; noise follows from seed and row id alone",

	"spec.limits.max_bad_rows": "rows that may fail before the job does: a number or a share such as 1%",
	"spec.limits.max_pixels":   "largest picture that is decoded, in pixels",
	"spec.limits.memory":       "most memory that a run takes beside the model's weights and the reader's pages; an image that needs more is tiled, or its row fails",

	"spec.limits.tile.size":    "side of the tiles that large images are computed in: auto as large as the memory allows, 0 never, or a number of latent cells",
	"spec.limits.tile.overlap": "of neighbouring tiles, at most a third of their side; auto is a quarter",
	"spec.limits.tile.blend":   "how tiles are joined: by ramps, or as the reference does with split inputs (patches of tile.size that begin every tile.size - tile.overlap cells, auto half of it; weighted means; statistics of each patch)",
	"spec.limits.tile.norm":    "statistics of normalisations: of the whole image, in a pass of its own, or of each tile, faster and with visible seams",
}

// allowed are values that another package checks.
var allowed = map[string][]string{
	"kind":                   runnable,
	"spec.sample.task":       tasks,
	"spec.preprocess.crop":   {string(preprocess.Center), string(preprocess.Random), string(preprocess.LSUN), string(preprocess.NoCrop)},
	"spec.preprocess.resize": methods(),
}

func methods() (names []string) {
	for _, m := range resize.Methods() {
		names = append(names, string(m))
	}
	return names
}

// between are the smallest and largest values of numbers; max 0 is none. TestRanges compares them with Validate.
var between = map[string]struct{ min, max int }{
	"spec.input.limit":      {min: 0},
	"spec.sample.per_class": {min: 1},
	"spec.sample.rows":      {min: 1},
	"spec.sample.strength":  {0, 1},

	"spec.sampler.reuse.every":    {min: 1},
	"spec.sampler.reuse.branch":   {min: 0},
	"spec.sampler.steps":          {min: 1},
	"spec.sampler.eta":            {0, 1},
	"spec.sampler.temperature":    {min: 0},
	"spec.eval.neighbours":        {min: 0},
	"spec.eval.max_features":      {min: 100},
	"spec.eval.border":            {min: 0},
	"spec.train.steps":            {min: 1},
	"spec.train.batch":            {1, 4096},
	"spec.train.accumulate":       {1, 1 << 16},
	"spec.train.workers":          {1, 256},
	"spec.train.learning_rate":    {min: 0},
	"spec.train.warmup":           {min: 0},
	"spec.train.final_rate":       {0, 1},
	"spec.train.weight_decay":     {min: 0},
	"spec.train.clip":             {min: 0},
	"spec.train.shuffle":          {min: 1},
	"spec.train.min_snr":          {min: 0},
	"spec.train.posterior_logvar": {-30, 20},
	"spec.train.offset_noise":     {0, 1},
	"spec.train.samples":          {0, 64},
	"spec.train.validation_rows":  {min: 1},
	"spec.train.validate_every":   {min: 0},
	"spec.train.checkpoint_every": {min: 1},
	"spec.train.keep_best":        {min: 0},
	"spec.train.log_every":        {min: 1},
	"spec.output.rows_per_part":   {1, 1 << 20},
	"spec.output.quality":         {1, 100},
	"spec.compute.batch":          {1, 4096},
	"spec.compute.threads":        {0, 1024},
	"spec.compute.seed":           {min: 0},
	"spec.limits.max_pixels":      {min: 1},
}

// key is one key of the job file as the documentation sees it.
type key struct {
	path  string
	kind  reflect.Type
	enum  []string
	value string // default
	about string
}

func allKeys(t *testing.T) []key {
	var list []key
	walk(reflect.ValueOf(Default()), "", func(path string, v reflect.Value, f reflect.StructField) {
		k := key{path: path, kind: f.Type, about: about[path], value: fmt.Sprint(v.Interface()), enum: allowed[path]}
		if tag := f.Tag.Get("enum"); tag != "" && k.enum == nil {
			k.enum = strings.Split(tag, ",")
		}
		if k.about == "" {
			t.Errorf("%s has no description in the table above", path)
		}
		list = append(list, k)
	})
	for path := range about {
		if !slices.ContainsFunc(list, func(k key) bool { return k.path == path }) {
			t.Errorf("%s is described and does not exist", path)
		}
	}
	return list
}

// section is the block of a key: "model" for spec.model.checkpoint, "" for kind.
func (k key) section() string {
	if f := strings.Split(k.path, "."); len(f) >= 3 {
		return f[1]
	}
	return ""
}

// typeName is the type of a key in words.
func (k key) typeName() string {
	switch k.kind {
	case reflect.TypeOf(Extent{}):
		return "pixels"
	case reflect.TypeOf(Size(0)):
		return "bytes"
	case reflect.TypeOf(Cells(0)):
		return "latent cells, auto"
	case reflect.TypeOf(Budget{}):
		return "rows or %"
	}
	switch k.kind.Kind() {
	case reflect.Slice:
		return "list of text"
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true, false"
	case reflect.Float64:
		return "number"
	}
	return "whole number"
}

// reference is the generated part of docs/jobs.md.
func reference(keys []key) string {
	var b strings.Builder
	section := "?"
	for _, k := range keys {
		if s := k.section(); s != section {
			section = s
			title := "The file"
			if s != "" {
				title = "`spec." + s + "`"
			}
			fmt.Fprintf(&b, "\n### %s\n\n| key | type | default | meaning |\n|---|---|---|---|\n", title)
		}
		name := k.path
		if section != "" {
			name = strings.TrimPrefix(name, "spec."+section+".")
		}
		value := ""
		if k.value != "" && k.value != "[]" {
			value = "`" + k.value + "`"
		}
		meaning := k.about
		if len(k.enum) > 0 {
			meaning += ". One of `" + strings.Join(k.enum, "`, `") + "`"
		}
		if r, ok := between[k.path]; ok && r.max != 0 {
			meaning += fmt.Sprintf(". From %d to %d", r.min, r.max)
		} else if ok && r.min != 0 {
			meaning += fmt.Sprintf(". At least %d", r.min)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, k.typeName(), value, meaning)
	}
	return b.String()
}

const (
	begin = "<!-- begin of the generated part: go test ./jobs/spec -run TestReference -update -->\n"
	end   = "<!-- end of the generated part -->\n"
)

func TestReference(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "jobs.md")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(data), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no generated part", path)
	}
	current(t, path, before+begin+reference(allKeys(t))+"\n"+end+after)
}

// current compares a generated file with what it should be, or writes it.
func current(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date; run: go test ./jobs/spec -run 'TestReference|TestSchemaFile' -update", path)
	}
}
