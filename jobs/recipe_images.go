package jobs

import (
	"math"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/io/preprocess"
	"github.com/ldm-batch/ldm-batch/io/resize"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
	"github.com/ldm-batch/ldm-batch/sample"
)

// Tasks that start from images. Each takes images of any size: sides are filled up to the model's multiple by reflection, and
// the result is cut back.

// superres enlarges images by the first stage's factor (paper, section 4.4): the small image stands beside the latent.
type superres struct {
	session *engine.Session
	gen     *sample.Generator
	tally   *tally
	method  resize.Method // makes the small image, "" when the input is small already
	score   bool
	tile    spec.Tile
}

func newSuperres(s *engine.Session, g *sample.Generator, job *spec.Spec, t *tally) (*superres, error) {
	if !sample.CanSuperres(s.Model) {
		return nil, exitcode.Errorf(exitcode.Usage, "spec.sample.task: superres needs a model that takes a small image beside the latent")
	}
	r := &superres{session: s, gen: g, tally: t, score: job.Sample.Score && job.Input.Reference == "", tile: job.Limits.Tile}
	if d := job.Sample.Degradation; d != "" {
		m, err := preprocess.Degradation(d).Method()
		if err != nil {
			return nil, exitcode.Errorf(exitcode.Usage, "spec.sample.degradation: %w", err)
		}
		r.method = m
	}
	return r, nil
}

func (r *superres) wants() wanted { return wanted{image: true} }

func (r *superres) read(k *kitchen, it *item) error {
	m, err := k.decode(it)
	if err != nil {
		return err
	}
	g, f := &it.given, r.gen.Factor()
	g.source = m
	h, w := m.H, m.W
	if r.method == "" {
		g.scale = f
	} else {
		if h, w = m.H/f, m.W/f; h < 1 || w < 1 {
			return exitcode.Errorf(exitcode.Data, "image of %dx%d (height x width) is smaller than the factor %d", m.H, m.W, f)
		}
		// What the factor does not divide is cut off, so that the result is as large as what it is compared with.
		full := crop(m.Pix, m.W, h*f, w*f)
		z, err := resize.New(r.method)
		if err != nil {
			return err
		}
		// Small images have 8 bits, as the reference makes them.
		small := &picture.Image{Pix: make([]uint8, 3*h*w), H: h, W: w}
		if err := z.Uint8(small.Pix, full, resize.Shape{SrcH: h * f, SrcW: w * f, DstH: h, DstW: w, Channels: 3}); err != nil {
			return err
		}
		if r.score {
			ref := *m
			ref.H, ref.W, ref.Pix = h*f, w*f, full
			g.reference = &ref
		}
		m = small
	}
	lh, lw := canvasOf(r.tile, r.gen.Multiple()/f, h, w)
	if lh != h || lw != w {
		r.tally.count("padded")
	}
	it.h, it.w, g.outH, g.outW = lh*f, lw*f, h*f, w*f
	it.input = planes(m, lh, lw)
	return nil
}

func (r *superres) request(q *sample.Request, batch []*item, _ sample.RowNoise) (err error) {
	f := r.gen.Factor()
	q.Cond, err = sample.SuperresCondition(r.session, inputs(batch), q.N, q.H/f, q.W/f)
	return err
}

func (r *superres) frame(h, w int) (outH, outW int) {
	f := r.gen.Factor()
	if r.method != "" {
		return h / f * f, w / f * f
	}
	return h * f, w * f
}

// inpaint fills holes of images: by a model that takes the masked image, or by another one whose latent is held where the image
// is known (paper, section 4.5).
type inpaint struct {
	condition
	session  *engine.Session
	gen      *sample.Generator
	first    *encode.FirstStage
	tally    *tally
	mask     string
	margins  spec.Margins // outpainting
	outpaint bool
	model    bool // the model takes the masked image
}

func newInpaint(s *engine.Session, g *sample.Generator, job *spec.Spec, t *tally) (*inpaint, error) {
	r := &inpaint{session: s, gen: g, tally: t, mask: job.Input.Mask, outpaint: job.Sample.Outpaint != "", model: sample.CanInpaint(s.Model)}
	switch {
	case job.Sample.Inpaint == "model" && !r.model:
		return nil, exitcode.Errorf(exitcode.Usage, "spec.sample.inpaint: this model does not take a masked image; use latent")
	case job.Sample.Inpaint == "latent" && r.model:
		return nil, exitcode.Errorf(exitcode.Usage, "spec.sample.inpaint: this model takes a masked image and cannot do without; use model")
	case !r.model && job.Sampler.NoiseFrom != "":
		return nil, exitcode.Errorf(exitcode.Usage, "spec.sampler.noise_from: holds no noise for the known region, which inpainting by the latent takes in every step")
	}
	var err error
	if r.model {
		r.condition.recipe, err = nothing{}, checkCondition(s.Model, job)
		if err != nil {
			return nil, err
		}
	} else if r.condition, err = newCondition(s, g, job, t); err != nil {
		return nil, err
	}
	if r.outpaint {
		if r.margins, err = spec.ParseMargins(job.Sample.Outpaint); err != nil {
			return nil, err
		}
	}
	r.first, err = encode.New(s)
	return r, err
}

func (r *inpaint) wants() wanted {
	w := wanted{image: true}
	if !r.outpaint {
		w.images = []string{r.mask}
	}
	return r.with(w)
}

func (r *inpaint) read(k *kitchen, it *item) error {
	m, err := k.decode(it)
	if err == nil {
		err = r.condition.read(k, it)
	}
	if err != nil {
		return err
	}
	g := &it.given
	g.source, g.outH, g.outW = m, m.H, m.W
	if r.outpaint {
		g.outH, g.outW = m.H+r.margins.Top+r.margins.Bottom, m.W+r.margins.Left+r.margins.Right
	}
	it.h, it.w = upTo(g.outH, r.gen.Multiple()), upTo(g.outW, r.gen.Multiple())
	if it.h != g.outH || it.w != g.outW {
		r.tally.count("padded")
	}
	if r.outpaint {
		g.top, g.left = r.margins.Top, r.margins.Left
		it.input, g.holes, err = sample.Extend(planes(m, m.H, m.W), m.H, m.W, it.h, it.w, r.margins.Top, r.margins.Left)
		return err
	}
	it.input = planes(m, it.h, it.w)
	mask, err := k.further("mask (column "+r.mask+")", g.images, 0)
	if err != nil {
		return err
	}
	gray := mask.Gray()
	if mask.H != m.H || mask.W != m.W {
		r.tally.add("masks_resized", it, "the mask of %dx%d (height x width) is resized to the image's %dx%d by nearest neighbours", mask.H, mask.W, m.H, m.W)
		at := make([]uint8, m.H*m.W)
		if err := k.nearest.Uint8(at, gray, resize.Shape{SrcH: mask.H, SrcW: mask.W, DstH: m.H, DstW: m.W, Channels: 1}); err != nil {
			return err
		}
		gray = at
	}
	g.holes = make([]float32, it.h*it.w)
	white := 0
	for y := range it.h {
		for x := range it.w {
			if gray[mirror(y, m.H)*m.W+mirror(x, m.W)] >= 128 { // v/255 >= 0.5, as the reference's script decides
				g.holes[y*it.w+x] = 1
				white++
			}
		}
	}
	switch white {
	case 0:
		r.tally.add("masks_all_black", it, "the mask is black, so that there is nothing to fill")
	case len(g.holes):
		r.tally.add("masks_all_white", it, "the mask is white, so that nothing of the image is kept")
	}
	return nil
}

func (r *inpaint) request(q *sample.Request, batch []*item, noise sample.RowNoise) (err error) {
	images, holes := inputs(batch), make([]float32, 0, len(batch)*q.H*q.W)
	for _, it := range batch {
		holes = append(holes, it.given.holes...)
	}
	if r.model {
		q.Cond, err = sample.InpaintCondition(r.session, images, holes, q.N, q.H, q.W, q.Tiles)
		return err
	}
	if q.Known, err = latents(r.first, images, q, noise); err != nil {
		return err
	}
	q.Mask = sample.KeepMask(holes, q.N, q.H, q.W, r.gen.Factor())
	return r.condition.request(q, batch, noise)
}

func (r *inpaint) outline(q *sample.Request) {
	r.condition.outline(q)
	if !r.model {
		q.Known = []float32{}
	}
}

func (r *inpaint) frame(h, w int) (outH, outW int) {
	return h + r.margins.Top + r.margins.Bottom, w + r.margins.Left + r.margins.Right
}

// latents encodes images for the diffusion model: by a sample of the posterior, as the reference does, drawn for each row.
func latents(f *encode.FirstStage, images []float32, q *sample.Request, noise sample.RowNoise) ([]float32, error) {
	o := encode.Options{Scale: true}
	if f.Stochastic() {
		o.Noise = make([]float32, q.N*f.Channels()*(q.H/f.Factor())*(q.W/f.Factor()))
		noise.Fill(sample.StreamPosterior, o.Noise)
	}
	var z []float32
	var err error
	if q.Tiles != nil {
		z, err = f.EncodeTiles(images, q.N, q.H, q.W, o, *q.Tiles)
	} else {
		z, err = f.Encode(images, q.N, q.H, q.W, o)
	}
	if err != nil {
		return nil, err
	}
	return append([]float32(nil), z...), nil
}

// img2img changes images by the last steps of a walk from their noised latents.
type img2img struct {
	condition
	gen   *sample.Generator
	first *encode.FirstStage
	tally *tally
	last  int
}

func newImg2img(s *engine.Session, g *sample.Generator, job *spec.Spec, t *tally) (*img2img, error) {
	c, err := newCondition(s, g, job, t)
	if err != nil {
		return nil, err
	}
	first, err := encode.New(s)
	steps := g.Steps()
	return &img2img{c, g, first, t, min(max(int(math.Round(job.Sample.Strength*float64(steps))), 1), steps)}, err
}

func (r *img2img) wants() wanted { return r.with(wanted{image: true}) }

func (r *img2img) read(k *kitchen, it *item) error {
	m, err := k.decode(it)
	if err == nil {
		err = r.condition.read(k, it)
	}
	if err != nil {
		return err
	}
	it.given.source, it.given.outH, it.given.outW = m, m.H, m.W
	it.h, it.w = upTo(m.H, r.gen.Multiple()), upTo(m.W, r.gen.Multiple())
	if it.h != m.H || it.w != m.W {
		r.tally.count("padded")
	}
	it.input = planes(m, it.h, it.w)
	return nil
}

func (r *img2img) request(q *sample.Request, batch []*item, noise sample.RowNoise) (err error) {
	if q.Init, err = latents(r.first, inputs(batch), q, noise); err != nil {
		return err
	}
	q.Last = r.last
	return r.condition.request(q, batch, noise)
}

func (r *img2img) outline(q *sample.Request) {
	r.condition.outline(q)
	q.Init, q.Last = []float32{}, r.last
}

// inputs joins the inputs of a batch.
func inputs(batch []*item) []float32 {
	x := make([]float32, 0, len(batch)*len(batch[0].input))
	for _, it := range batch {
		x = append(x, it.input...)
	}
	return x
}

// crop copies the top left h x w pixels of an RGB picture of a width.
func crop(pix []uint8, width, h, w int) []uint8 {
	out := make([]uint8, 0, 3*h*w)
	for y := range h {
		out = append(out, pix[3*width*y:][:3*w]...)
	}
	return out
}
