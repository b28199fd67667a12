package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/tile"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
	"github.com/ldm-batch/ldm-batch/sample"
)

// generateTask makes images, each from its own noise and what the recipe of its task reads of its row.
type generateTask struct {
	session *engine.Session
	gen     *sample.Generator
	config  sample.Config
	job     *spec.Spec
	recipe  recipe
	data    *datasetSource // nil: rows are a list of images to make
	tally   tally
	scores  scores
	fits    needs
	tape    *sample.Tape  // recorded noise, or nil
	tapeOf  *weights.File // stays open while the tape is used
	seconds func() map[string]float64
	spent   map[string]float64 // seconds of the parts of compute
	reuse   *ReuseResult       // measured with the first batch that reuses features
}

// newGenerateTask checks that the model can do the task. The source of its rows is given by [generateTask.from].
func newGenerateTask(s *engine.Session, job *spec.Spec, seconds func() map[string]float64) (*generateTask, error) {
	c, err := samplerConfig(job.Sampler)
	if err != nil {
		return nil, err
	}
	gen, err := sample.NewGenerator(s, c)
	if err != nil {
		return nil, err
	}
	if err := checkPatches(job.Limits.Tile, gen); err != nil {
		return nil, err
	}
	t := &generateTask{session: s, gen: gen, config: c, job: job, seconds: seconds, spent: map[string]float64{}}
	t.fits = needs{limit: int64(job.Limits.Memory), tile: job.Limits.Tile, whole: sample.CanLayout(s.Model) || c.ReuseEvery > 1, factor: gen.Factor(), model: t}
	switch job.Sample.Task {
	case "uncond":
		t.recipe, err = newUncond(s, gen, job)
	case "class":
		t.recipe, err = newByClass(s, gen, job)
	case "superres":
		t.recipe, err = newSuperres(s, gen, job, &t.tally)
	case "inpaint":
		t.recipe, err = newInpaint(s, gen, job, &t.tally)
	case "img2img":
		t.recipe, err = newImg2img(s, gen, job, &t.tally)
	case "text":
		t.recipe, err = newText(s, gen, job, &t.tally)
	case "layout":
		t.recipe, err = newLayout(s, gen, job, &t.tally)
	case "semantic":
		t.recipe, err = newSemantic(s, gen, job, &t.tally)
	default:
		err = exitcode.Errorf(exitcode.Usage, "spec.sample.task: unknown task %q", job.Sample.Task)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// samplerConfig is the sampler block for package sample.
func samplerConfig(s spec.Sampler) (sample.Config, error) {
	c := sample.Config{
		Name: s.Name, Steps: s.Steps, Eta: s.Eta, Guidance: s.Guidance, Spacing: s.Spacing, Temperature: s.Temperature,
		GuidanceRescale: s.GuidanceRescale, ReuseEvery: s.Reuse.Every, ReuseBranch: s.Reuse.Branch,
	}
	var err error
	c.GuidanceFrom, c.GuidanceTo, err = spec.ParseInterval(s.GuidanceInterval)
	return c, err
}

// wants names the columns of the input that the task reads.
func (t *generateTask) wants() wanted {
	w := t.recipe.wants()
	if ref := t.job.Input.Reference; ref != "" {
		w.images = append(w.images, ref)
	}
	return w
}

// sized is a recipe whose rows all have one size.
type sized interface{ size() (h, w int) }

// from tells where rows come from: a dataset, or nil for the list of a number of images.
func (t *generateTask) from(d *datasetSource, rows int64) error {
	t.data = d
	if t.job.Sample.Score {
		d.blanks = len(scoreNames)
	}
	if r, ok := t.recipe.(sourced); ok {
		r.from(d)
	}
	if t.job.Sampler.NoiseFrom == "" {
		return nil
	}
	return t.openTape(rows)
}

func (t *generateTask) openTape(rows int64) error {
	f, err := weights.Open(t.job.Sampler.NoiseFrom, weights.Limits{})
	if err != nil {
		return fmt.Errorf("spec.sampler.noise_from: %w", err)
	}
	var c, h, w int
	if r, ok := t.recipe.(sized); ok {
		c, h, w = t.gen.LatentShape(r.size())
	} else if x, ok := f.Lookup("x_T"); ok && len(x.Shape) == 4 { // rows of another size fail when they come
		c, h, w = x.Shape[1], x.Shape[2], x.Shape[3]
	}
	tape, err := sample.OpenTape(f, c, h, w, t.gen.Steps(), t.config.Stochastic())
	if err == nil && int64(tape.Rows()) < rows {
		err = exitcode.Errorf(exitcode.Data, "noise file %s holds %d rows, the job has %d", f.Path(), tape.Rows(), rows)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("spec.sampler.noise_from: %w", err)
	}
	t.tape, t.tapeOf = tape, f
	return nil
}

func (t *generateTask) schema() part.Schema {
	s := part.Schema{Image: true, Sampling: true, Compression: part.Compression(t.job.Output.Compression)}
	if t.job.Output.Layout == "tree" {
		s.Image, s.Files = false, true
	}
	if t.data == nil {
		s.Label = t.job.Sample.Task == "class"
	} else {
		s.Label, s.LabelNames, s.Extra = t.data.features.Label != "", t.data.features.ClassNames, t.data.columns()
	}
	if t.job.Sample.Score {
		for _, name := range scoreNames {
			s.Extra = append(s.Extra, part.Column{Name: name, Type: part.Float64})
		}
	}
	return s
}

// stages is the time in networks by name, and that of compute by its parts.
func (t *generateTask) stages() map[string]float64 {
	m := map[string]float64{}
	for name, s := range t.seconds() {
		m[name] = s
	}
	for name, s := range t.spent {
		m[name] = s
	}
	return m
}

func (t *generateTask) counts() map[string]int64 {
	m := t.tally.counts()
	if r := t.gen.Reuse(); r.Shallow > 0 {
		m["predictions_full"], m["predictions_reused"] = int64(r.Full), int64(r.Shallow)
	}
	return m
}

// Bytes that a pixel takes on its way. They are for 16 bits, with alpha, a mask and a reference, and so too many for most pictures.
const (
	sourcePixel = 36 // decoded, and as the network's input
	resultPixel = 24 // as the network's output, quantised, and in the file
)

// cost is the encoded pictures, what they are decoded to, and the result. Sizes come from the header; a header that cannot be read
// fails later and costs little.
func (t *generateTask) cost(it *item) int64 {
	bytes := int64(len(it.raw)) + 4096
	for _, m := range it.given.images {
		bytes += int64(len(m.Bytes))
	}
	if r, ok := t.recipe.(sized); ok {
		h, w := r.size()
		return bytes + resultPixel*int64(h)*int64(w)
	}
	raw := it.raw
	if raw == nil && len(it.given.images) > 0 { // a label map beside no image
		raw = it.given.images[0].Bytes
	}
	m, err := picture.Probe(raw, pictureLimits(t.job))
	if err != nil {
		return bytes
	}
	h, w := m.H, m.W
	if r, ok := t.recipe.(framed); ok {
		h, w = r.frame(h, w)
	}
	return bytes + sourcePixel*int64(m.H)*int64(m.W) + resultPixel*int64(h)*int64(w)
}

// held implements [needsModel]: as cost, of a result of h x w pixels.
func (t *generateTask) held(h, w int) int64 {
	pixels := int64(h) * int64(w)
	switch r := t.recipe.(type) {
	case sized:
		return resultPixel * pixels
	case *superres:
		if f := int64(t.gen.Factor()); r.method == "" {
			return (resultPixel + sourcePixel/(f*f) + 1) * pixels
		}
	}
	return (resultPixel + sourcePixel) * pixels
}

// outline is a request as far as its needs go.
func (t *generateTask) outline(n, h, w int, c cutting) sample.Request {
	m := t.session.Model
	r := sample.Request{N: n, H: h, W: w, Tiles: c.tiles, Patches: c.patches}
	switch {
	case m.Conditioner != nil && m.Conditioner.Config.Kind == nn.BERTEmbedder:
		r.Cond.Tokens = m.Conditioner.Config.MaxSeqLen
	case m.UNet.Config.UseSpatialTransformer:
		r.Cond.Tokens = 1
	}
	if o, ok := t.recipe.(outliner); ok {
		o.outline(&r)
	}
	return r
}

func (t *generateTask) fit(h, w int, f tile.Fit) (*tile.Config, engine.Needs, error) {
	return t.gen.FitTiles(t.outline(1, h, w, cutting{}), f)
}

func (t *generateTask) needs(n, h, w int, c cutting) (engine.Needs, error) {
	return t.gen.Needs(t.outline(n, h, w, c))
}

// newWorker reads rows before compute and writes images after it.
func (t *generateTask) newWorker() (prepare, finish func(*item)) {
	k, err := newKitchen(t.job, &t.tally)
	p := &plate{job: t.job, scores: &t.scores}
	return func(it *item) {
		e := err
		if e == nil {
			e = t.read(k, it)
		}
		if e != nil {
			reason := "prepare"
			var p *picture.Error
			if errors.As(e, &p) {
				reason = string(p.Kind)
			}
			it.fail(reason, e)
		}
		it.raw = nil
	}, p.finish
}

func (t *generateTask) read(k *kitchen, it *item) error {
	if t.data != nil && len(it.raw) > 0 {
		sum := sha256.Sum256(it.raw)
		it.row.SourceSHA256 = hex.EncodeToString(sum[:])
	}
	if err := t.recipe.read(k, it); err != nil {
		return err
	}
	if t.job.Input.Reference != "" {
		t.reference(k, it)
	}
	it.given.images, it.given.values = nil, nil
	it.way = t.fits.way(it.h, it.w, t.job.Compute.Batch)
	return it.way.err
}

// reference reads what the result is scored against. Without it the row has no score.
func (t *generateTask) reference(k *kitchen, it *item) {
	images := it.given.images
	m, err := k.further("reference (column "+t.job.Input.Reference+")", images, len(images)-1)
	switch {
	case err != nil:
		t.tally.add("references_missing", it, "no score: %v", err)
	case m.H != it.given.outH || m.W != it.given.outW:
		t.tally.add("references_of_other_size", it, "no score: the reference is %dx%d (height x width), the result %dx%d", m.H, m.W, it.given.outH, it.given.outW)
	default:
		it.given.reference = m
	}
}

func (t *generateTask) compute(ctx context.Context, batch []*item) error {
	n := len(batch)
	ids, rows := make([]string, n), make([]int64, n)
	for i, it := range batch {
		ids[i], rows[i] = it.row.ID, it.number
	}
	own := sample.RowNoise{Seed: t.job.Compute.Seed, Rows: ids}
	r := sample.Request{N: n, H: batch[0].h, W: batch[0].w, Noise: own, Tiles: batch[0].way.tiles, Patches: batch[0].way.patches}
	if t.tape != nil {
		r.Noise = t.tape.Slice(rows)
	}
	images, err := t.generate(ctx, &r, batch, own)
	if err != nil {
		return fmt.Errorf("%s and %d more rows: %w", batch[0].where, n-1, err)
	}
	size := len(images) / n
	for i, it := range batch {
		it.out = append([]float32(nil), images[i*size:(i+1)*size]...)
		it.input = nil
		it.row.Seed, it.row.Steps, it.row.Guidance = t.job.Compute.Seed, t.gen.Steps(), float32(t.job.Sampler.Guidance)
	}
	return nil
}

func (t *generateTask) generate(ctx context.Context, r *sample.Request, batch []*item, noise sample.RowNoise) ([]float32, error) {
	timed := func(name string, start time.Time) { t.spent[name] += time.Since(start).Seconds() }
	start := time.Now()
	if err := t.recipe.request(r, batch, noise); err != nil {
		return nil, err
	}
	timed("condition", start)
	start = time.Now()
	z, err := t.denoise(ctx, r)
	if err != nil {
		return nil, err
	}
	timed("denoise", start)
	defer timed("decode", time.Now())
	return t.gen.Decode(*r, z)
}

// denoise makes latents. The first batch that reuses features is made a second time without, to tell how far they are off.
func (t *generateTask) denoise(ctx context.Context, r *sample.Request) ([]float32, error) {
	if t.config.ReuseEvery <= 1 || t.reuse != nil {
		return t.gen.GenerateLatents(ctx, *r)
	}
	z, d, err := t.gen.MeasureReuse(ctx, *r)
	if err != nil {
		return nil, err
	}
	t.reuse = &ReuseResult{
		ReusePlan:    ReusePlan{Approximate: true, Every: t.config.ReuseEvery, Branch: t.config.ReuseBranch},
		RowsMeasured: r.N, Speedup: round3(d.Exact / max(d.Reuse, 1e-9)), RelL2: d.RelL2, WorstRelL2: d.Worst,
	}
	return z, nil
}

func (t *generateTask) close() {
	if t.tapeOf != nil {
		t.tapeOf.Close()
	}
}

// notes says what users should know before the job runs.
func (t *generateTask) notes() (list []string) {
	if s := t.job.Sampler; s.Name != "ddpm" && t.gen.Steps() != s.Steps {
		list = append(list, strings.Join([]string{"spec.sampler.steps:", strconv.Itoa(s.Steps), "steps with", s.Spacing,
			"spacing are", strconv.Itoa(t.gen.Steps()), "in the reference schedule"}, " "))
	}
	if every := t.job.Sampler.Reuse.Every; every > 1 {
		list = append(list, fmt.Sprintf("spec.sampler.reuse.every: %d: results are approximate; the first batch is made twice to measure by how much", every))
	}
	return list
}
