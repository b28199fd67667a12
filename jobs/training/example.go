package training

import (
	"errors"
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/wordpiece"
	"github.com/ldm-batch/ldm-batch/io/dataset"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/io/preprocess"
	"github.com/ldm-batch/ldm-batch/io/resize"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
	"github.com/ldm-batch/ldm-batch/sample"
	diffusion "github.com/ldm-batch/ldm-batch/sample/training"
)

// example is one row on its way into a batch.
type example struct {
	number int64     // place in the order of the whole run; everything random follows from it
	image  []float32 // 3 x H x W in [-1, 1]
	latent []float32 // C x h x w, as stored
	label  int64
	tokens []int
	boxes  []sample.Box // in fractions of the whole image
	small  []float32    // 3 x h x w in [-1, 1], for super-resolution
	holes  []float32    // H x W, 1 in a hole
	labels []uint8      // H x W
}

// condition is what a model is trained on beside images.
type condition string

const (
	none     condition = "no condition"
	class    condition = "classes"
	text     condition = "captions"
	layout   condition = "boxes"
	semantic condition = "label maps"
	superres condition = "small images"
	inpaint  condition = "masked images"
)

// conditionOf is that of a model; a first stage has none.
func conditionOf(m *nn.Model) (condition, error) {
	_, classes := sample.ClassCount(m)
	_, maps := sample.SemanticClasses(m)
	switch {
	case m.UNet == nil:
		return none, nil
	case classes:
		return class, nil
	case sample.CanText(m):
		return text, nil
	case sample.CanLayout(m):
		return layout, nil
	case maps:
		return semantic, nil
	case sample.CanSuperres(m):
		return superres, nil
	case sample.CanInpaint(m):
		return inpaint, nil
	case m.UNet.Config.InChannels == m.UNet.Config.OutChannels && m.Conditioner.Config.Kind == nn.Unconditional:
		return none, nil
	}
	return "", exitcode.Errorf(exitcode.Usage, "%s: conditions of this kind cannot be trained", m.Config.Path)
}

// recipe says what of a row makes an example.
type recipe struct {
	job       *spec.Spec
	condition condition
	factor    int    // of the first stage
	latent    [3]int // of latents that are read; zero when images are
	vocab     *wordpiece.Vocab
	tokens    int // of a caption
	layout    sample.LayoutConfig
	classes   int
	drop      func(number int64) bool // whether a class or caption is left out
	columns   []string
	config    preprocess.Config
	shrink    resize.Method // of the degradation
}

// newRecipe checks that the job brings what the model is conditioned on.
func newRecipe(job *spec.Spec, m *nn.Model, drop func(int64) bool) (*recipe, error) {
	r := &recipe{job: job, drop: drop}
	var err error
	if r.condition, err = conditionOf(m); err != nil {
		return nil, err
	}
	if m.FirstStage != nil {
		r.factor = m.FirstStage.Config.Factor()
	}
	missing := func(key string) error {
		return exitcode.Errorf(exitcode.Usage, "spec.%s: missing: the model is conditioned on %s", key, r.condition)
	}
	in := job.Input
	switch p := job.Preprocess; {
	case r.mapsLatents() && (p.Flip || p.Crop == string(preprocess.Random)):
		return nil, exitcode.Errorf(exitcode.Usage, "spec.preprocess: what goes with latents is cut out as the images that were encoded: without random crop and flip")
	case job.Train.Drop > 0 && r.condition != class && r.condition != text:
		return nil, exitcode.Errorf(exitcode.Usage, "spec.train.drop: the model is conditioned on %s, of which none can be left out", r.condition)
	}
	switch r.condition {
	case class:
		r.classes, _ = sample.ClassCount(m)
	case text:
		if in.Caption == "" {
			return nil, missing("input.caption")
		}
		if job.Train.Vocab == "" {
			return nil, missing("train.vocab")
		}
		if r.vocab, err = wordpiece.Load(job.Train.Vocab); err != nil {
			return nil, fmt.Errorf("spec.train.vocab: %w", err)
		}
		r.tokens, r.columns = sample.TextLength(m), []string{in.Caption}
	case layout:
		if in.Boxes == "" || in.Categories == "" {
			return nil, missing("input.boxes and input.categories")
		}
		if r.layout, err = sample.NewLayoutConfig(m); err != nil {
			return nil, err
		}
		r.columns = []string{in.Boxes, in.Categories}
	case semantic:
		if in.Segmentation == "" {
			return nil, missing("input.segmentation")
		}
		r.classes, _ = sample.SemanticClasses(m)
	case superres:
		if job.Train.Degradation == "" {
			return nil, missing("train.degradation")
		}
		if r.shrink, err = preprocess.Degradation(job.Train.Degradation).Method(); err != nil {
			return nil, exitcode.Errorf(exitcode.Usage, "spec.train.degradation: %w", err)
		}
	}
	if job.Train.Latent != "" {
		r.columns = append(r.columns, job.Train.Latent)
		if !r.mapsLatents() {
			return r, nil
		}
	}
	return r, r.images()
}

// mapsLatents says whether rows bring latents, and pictures of which the condition is made.
func (r *recipe) mapsLatents() bool {
	return r.job.Train.Latent != "" && (r.condition == semantic || r.condition == superres || r.condition == inpaint)
}

// reads says whether rows bring an image.
func (r *recipe) reads() bool {
	return r.job.Train.Latent == "" || r.condition == superres || r.condition == inpaint
}

// contextTokens is the length of the context that a frozen conditioner gives.
func (r *recipe) contextTokens(m *nn.Model) int {
	if r.condition == text || r.condition == layout {
		return sample.TextLength(m)
	}
	return 1
}

// images says how the job wants its images.
func (r *recipe) images() error {
	p := r.job.Preprocess
	r.config = preprocess.Config{
		Size: preprocess.Size{H: p.Size.H, W: p.Size.W}, Crop: preprocess.Crop(p.Crop), Resize: resize.Method(p.Resize), Flip: p.Flip,
	}
	if err := r.config.Validate(); err != nil {
		return exitcode.With(exitcode.Usage, fmt.Errorf("spec.%w", err))
	}
	return nil
}

// dataset is how the rows are opened.
func (r *recipe) dataset(path string, limit int64) dataset.Spec {
	in := r.job.Input
	s := dataset.Spec{Path: path, Image: in.Image, ID: in.ID, Label: in.Label, Columns: r.columns, Limit: limit, AllowPaths: in.AllowPaths, NoImage: !r.reads()}
	switch {
	case r.condition == semantic:
		s.Images = []string{in.Segmentation}
	case r.condition == inpaint && in.Mask != "":
		s.Images = []string{in.Mask}
	}
	return s
}

// kitchen is what one worker makes examples with.
type kitchen struct {
	r       *recipe
	dec     picture.Decoder
	img     picture.Image
	options picture.Options
	pre     *preprocess.Preprocessor
	nearest *preprocess.Preprocessor // of maps and masks
	shrink  *resize.Resizer
}

func newKitchen(r *recipe) (*kitchen, error) {
	limits := picture.DefaultLimits()
	limits.MaxPixels = int64(r.job.Limits.MaxPixels)
	k := &kitchen{r: r, options: picture.Options{Limits: limits, ApplyOrientation: r.job.Input.EXIF == "apply"}}
	if r.config.Size == (preprocess.Size{}) {
		return k, nil
	}
	var err error
	if k.pre, err = preprocess.New(r.config); err != nil {
		return nil, err
	}
	flat := r.config
	flat.Resize = "pil-nearest"
	if k.nearest, err = preprocess.New(flat); err != nil {
		return nil, err
	}
	if r.shrink != "" {
		k.shrink, err = resize.New(r.shrink)
	}
	return k, err
}

// read makes an example of a row. values are the columns that the recipe asked for, by the data set's list.
func (k *kitchen) read(row dataset.Row, columns []dataset.Column, number int64) (*example, error) {
	r := k.r
	e := &example{number: number}
	value := func(name string) any {
		for i, c := range columns {
			if c.Name == name {
				return row.Values[i]
			}
		}
		return nil
	}
	if err := k.condition(e, row, value); err != nil {
		return nil, err
	}
	if r.job.Train.Latent != "" {
		if err := e.flatten(value(r.job.Train.Latent), r); err != nil {
			return nil, err
		}
		if !r.reads() {
			return e, k.labels(e, row, nil, preprocess.Placement{})
		}
	}
	if row.Err != nil {
		return nil, row.Err
	}
	return e, k.picture(e, row)
}

// condition reads what of a condition is no picture.
func (k *kitchen) condition(e *example, row dataset.Row, value func(string) any) (err error) {
	r := k.r
	dropped := r.drop != nil && r.drop(e.number)
	switch r.condition {
	case class:
		switch {
		case dropped:
			e.label = int64(r.classes - 1)
		case row.LabelErr != nil:
			return row.LabelErr
		case !row.HasLabel:
			return exitcode.Errorf(exitcode.Data, "the row has no label")
		case row.Label < 0 || row.Label >= int64(r.classes):
			return exitcode.Errorf(exitcode.Data, "label %d is not in 0..%d, the model's classes", row.Label, r.classes-1)
		default:
			e.label = row.Label
		}
	case text:
		caption, ok := value(r.job.Input.Caption).(string)
		if !ok {
			return exitcode.Errorf(exitcode.Data, "caption (column %s) is missing or not text", r.job.Input.Caption)
		}
		if dropped {
			caption = ""
		}
		e.tokens, _ = sample.TextTokens(r.vocab, caption, r.tokens)
	case layout:
		if e.boxes, err = sample.ParseBoxes(value(r.job.Input.Boxes), value(r.job.Input.Categories)); err == nil && r.job.Train.Latent != "" {
			e.tokens, err = sample.LayoutTokens(e.boxes, r.layout)
		}
		return err
	}
	return nil
}

// picture decodes, crops and mirrors the image and what goes with it, all at the same place.
func (k *kitchen) picture(e *example, row dataset.Row) error {
	r := k.r
	if err := k.dec.DecodeInto(&k.img, row.Image, k.options); err != nil {
		return err
	}
	img := preprocess.Picture{Pix: k.img.Pix, H: k.img.H, W: k.img.W, Channels: 3}
	at, err := k.pre.Place(img.H, img.W, r.numbers(e.number, sample.StreamCrop))
	if err != nil {
		return err
	}
	h, w := at.Window.H, at.Window.W
	e.image = make([]float32, 3*h*w)
	if err := k.pre.CHW(e.image, img, at); err != nil {
		return err
	}
	switch r.condition {
	case layout:
		boxes, config := inPlace(e.boxes, r.layout, img.H, img.W, at)
		e.tokens, err = sample.LayoutTokens(boxes, config)
		return err
	case superres:
		return k.shrunk(e, img, at)
	case inpaint:
		if r.job.Input.Mask == "" {
			e.holes = drawHoles(h, w, r.numbers(e.number, diffusion.StreamHoles))
			return nil
		}
		gray, err := k.further(row, "mask", &img, at)
		if err != nil {
			return err
		}
		e.holes = make([]float32, h*w)
		for i, v := range gray {
			if v >= 128 {
				e.holes[i] = 1
			}
		}
	case semantic:
		return k.labels(e, row, &img, at)
	}
	return nil
}

// labels reads the label map of a semantic condition, which goes with an image at a place, or stands alone.
func (k *kitchen) labels(e *example, row dataset.Row, img *preprocess.Picture, at preprocess.Placement) (err error) {
	if k.r.condition != semantic {
		return nil
	}
	if e.labels, err = k.further(row, "label map", img, at); err != nil {
		return err
	}
	w := k.r.config.Size.W
	for i, v := range e.labels {
		if int(v) >= k.r.classes {
			return exitcode.Errorf(exitcode.Data, "label %d at (%d, %d) of the cropped map is not in 0..%d", v, i%w, i/w, k.r.classes-1)
		}
	}
	return nil
}

// shrunk makes the small image of the crop, with 8 bits, as the reference does.
func (k *kitchen) shrunk(e *example, img preprocess.Picture, at preprocess.Placement) error {
	h, w, f := at.Window.H, at.Window.W, k.r.factor
	full := make([]uint8, 3*h*w)
	if err := k.pre.Uint8(full, img, at); err != nil {
		return err
	}
	small := make([]uint8, 3*(h/f)*(w/f))
	if err := k.shrink.Uint8(small, full, resize.Shape{SrcH: h, SrcW: w, DstH: h / f, DstW: w / f, Channels: 3}); err != nil {
		return err
	}
	cells := h / f * (w / f)
	e.small = make([]float32, len(small))
	for i, v := range small {
		e.small[i%3*cells+i/3] = float32(float64(v)/127.5 - 1)
	}
	return nil
}

// further decodes a map or mask and returns its values at the place of the crop. It must have the size of the image, if there is one.
func (k *kitchen) further(row dataset.Row, what string, img *preprocess.Picture, at preprocess.Placement) ([]uint8, error) {
	if err := row.Images[0].Err; err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	m, err := k.dec.Decode(row.Images[0].Bytes, k.options)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if img == nil {
		if at, err = k.pre.Place(m.H, m.W, nil); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
	} else if m.H != img.H || m.W != img.W {
		return nil, exitcode.Errorf(exitcode.Data, "%s of %dx%d (height x width) beside an image of %dx%d", what, m.H, m.W, img.H, img.W)
	}
	if m.Channels != 1 || m.Depth16 {
		return nil, exitcode.Errorf(exitcode.Data, "%s: want an 8-bit gray picture, not mode %s", what, m.Mode)
	}
	out := make([]uint8, 3*at.Window.H*at.Window.W)
	if err := k.nearest.Uint8(out, preprocess.Picture{Pix: m.Pix, H: m.H, W: m.W, Channels: 3}, at); err != nil {
		return nil, err
	}
	for i := range len(out) / 3 {
		out[i] = out[3*i]
	}
	return out[:len(out)/3], nil
}

// numbers are the random numbers of an example.
func (r *recipe) numbers(number int64, stream uint32) func() uint64 {
	return sample.Uint64(r.job.Compute.Seed, diffusion.Key(number), stream)
}

// flatten reads a latent from nested lists.
func (e *example) flatten(v any, r *recipe) error {
	want := r.latent[0] * r.latent[1] * r.latent[2]
	e.latent = make([]float32, 0, want)
	var walk func(v any, depth int) error
	walk = func(v any, depth int) error {
		switch x := v.(type) {
		case []any:
			if depth < 3 && len(x) != r.latent[depth] && len(x) != want {
				return exitcode.Errorf(exitcode.Data, "latent has %d entries in dimension %d, want %d", len(x), depth, r.latent[depth])
			}
			for _, y := range x {
				if err := walk(y, depth+1); err != nil {
					return err
				}
			}
			return nil
		case float64:
			e.latent = append(e.latent, float32(x))
			return nil
		}
		return errors.New("latent is missing or holds no numbers")
	}
	if err := walk(v, 0); err != nil {
		return exitcode.With(exitcode.Data, fmt.Errorf("column %s: %w", r.job.Train.Latent, err))
	}
	if len(e.latent) != want {
		return exitcode.Errorf(exitcode.Data, "column %s: latent of %d numbers, want %d x %d x %d", r.job.Train.Latent, len(e.latent), r.latent[0], r.latent[1], r.latent[2])
	}
	return nil
}
