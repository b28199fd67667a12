package jobs

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/wordpiece"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
	"github.com/ldm-batch/ldm-batch/sample"
)

// Tasks that start from noise and a condition.

// unconditional says whether a model takes no condition at all.
func unconditional(m *nn.Model) bool {
	return (m.Conditioner == nil || m.Conditioner.Config.Kind == nn.Unconditional) && m.UNet.Config.NumClasses == 0 &&
		m.UNet.Config.InChannels == m.UNet.Config.OutChannels
}

// canvas is the size of what is generated, for tasks whose rows have none.
type canvas struct{ h, w int }

func newCanvas(g *sample.Generator, size spec.Extent) (canvas, error) {
	c := canvas{size.H, size.W}
	if c.h == 0 || c.w == 0 {
		c.h, c.w = g.DefaultSize()
	}
	return c, g.CheckSize(c.h, c.w)
}

// size is that of every row.
func (c canvas) size() (h, w int) { return c.h, c.w }

func (c canvas) set(it *item) {
	it.h, it.w, it.given.outH, it.given.outW = c.h, c.w, c.h, c.w
}

// uncond generates from noise alone.
type uncond struct{ canvas }

func newUncond(s *engine.Session, g *sample.Generator, job *spec.Spec) (*uncond, error) {
	if count, ok := sample.ClassCount(s.Model); ok {
		return nil, exitcode.Errorf(exitcode.Usage, "spec.sample.task: the model is conditioned on %d classes; use task class", count)
	}
	if !unconditional(s.Model) {
		return nil, exitcode.Errorf(exitcode.Usage, "spec.sample.task: the model needs a condition; uncond has none")
	}
	c, err := newCanvas(g, job.Sample.Size)
	return &uncond{c}, err
}

func (r *uncond) wants() wanted                                                 { return wanted{} }
func (r *uncond) read(_ *kitchen, it *item) error                               { r.set(it); return nil }
func (r *uncond) request(*sample.Request, []*item, sample.RowNoise) (err error) { return nil }

// byClass generates images of classes, listed or carried by rows.
type byClass struct {
	canvas
	session *engine.Session
	count   int
	guided  bool
}

func newByClass(s *engine.Session, g *sample.Generator, job *spec.Spec) (*byClass, error) {
	count, ok := sample.ClassCount(s.Model)
	if !ok {
		return nil, exitcode.Errorf(exitcode.Usage, "spec.sample.task: the model is not conditioned on classes; use task uncond")
	}
	if job.Sample.Classes != "" {
		list, err := spec.ParseClasses(job.Sample.Classes)
		if err != nil {
			return nil, err
		}
		for _, cl := range list {
			if cl >= count {
				return nil, exitcode.Errorf(exitcode.Usage, "spec.sample.classes: class %d is not in 0..%d", cl, count-1)
			}
		}
	}
	c, err := newCanvas(g, job.Sample.Size)
	return &byClass{c, s, count, job.Sampler.Guidance != 1}, err
}

func (r *byClass) wants() wanted { return wanted{} }

func (r *byClass) read(_ *kitchen, it *item) error {
	if !it.row.HasLabel || it.row.Label < 0 {
		return exitcode.Errorf(exitcode.Data, "the row has no label")
	}
	if it.row.Label >= int64(r.count) {
		return exitcode.Errorf(exitcode.Data, "label %d is not in 0..%d, the model's classes", it.row.Label, r.count-1)
	}
	r.set(it)
	return nil
}

func (r *byClass) request(q *sample.Request, batch []*item, _ sample.RowNoise) (err error) {
	labels := make([]int64, len(batch))
	for i, it := range batch {
		labels[i] = it.row.Label
	}
	if q.Cond, err = sample.ClassCondition(r.session, labels); err != nil || !r.guided {
		return err
	}
	null, _ := sample.NullClass(r.session.Model)
	for i := range labels {
		labels[i] = null
	}
	u, err := sample.ClassCondition(r.session, labels)
	q.Uncond = &u
	return err
}

func (r *byClass) outline(q *sample.Request) {
	if r.guided {
		q.Uncond = &q.Cond
	}
}

// text generates images from captions.
type text struct {
	canvas
	session *engine.Session
	tally   *tally
	vocab   *wordpiece.Vocab
	column  string
	source  *datasetSource
	guided  bool
}

func newText(s *engine.Session, g *sample.Generator, job *spec.Spec, t *tally) (*text, error) {
	if !sample.CanText(s.Model) {
		return nil, exitcode.Errorf(exitcode.Usage, "spec.sample.task: the model is not conditioned on captions")
	}
	vocab, err := wordpiece.Load(job.Sample.Vocab)
	if err != nil {
		return nil, fmt.Errorf("spec.sample.vocab: %w", err)
	}
	c, err := newCanvas(g, job.Sample.Size)
	return &text{canvas: c, session: s, tally: t, vocab: vocab, column: job.Input.Caption, guided: job.Sampler.Guidance != 1}, err
}

func (r *text) wants() wanted { return wanted{values: []string{r.column}} }

func (r *text) from(d *datasetSource) { r.source = d }

func (r *text) read(_ *kitchen, it *item) error {
	caption, ok := r.source.value(it.given.values, r.column).(string)
	if !ok {
		return exitcode.Errorf(exitcode.Data, "caption (column %s) is missing or not text", r.column)
	}
	tokens, truncated := sample.TextTokens(r.vocab, caption, sample.TextLength(r.session.Model))
	if truncated {
		r.tally.add("captions_truncated", it, "the caption has more than the model's %d tokens and is cut", sample.TextLength(r.session.Model))
	}
	it.given.tokens = tokens
	r.set(it)
	return nil
}

func (r *text) request(q *sample.Request, batch []*item, _ sample.RowNoise) (err error) {
	if q.Cond, err = sample.TextCondition(r.session, tokens(batch)); err != nil || !r.guided {
		return err
	}
	empty, _ := sample.TextTokens(r.vocab, "", sample.TextLength(r.session.Model))
	all := make([][]int, len(batch))
	for i := range all {
		all[i] = empty
	}
	u, err := sample.TextCondition(r.session, all)
	q.Uncond = &u
	return err
}

func (r *text) outline(q *sample.Request) {
	if r.guided {
		q.Uncond = &q.Cond
	}
}

func tokens(batch []*item) [][]int {
	all := make([][]int, len(batch))
	for i, it := range batch {
		all[i] = it.given.tokens
	}
	return all
}

// layout generates images from bounding boxes.
type layout struct {
	canvas
	session           *engine.Session
	tally             *tally
	config            sample.LayoutConfig
	boxes, categories string
	source            *datasetSource
}

func newLayout(s *engine.Session, g *sample.Generator, job *spec.Spec, t *tally) (*layout, error) {
	cfg, err := sample.NewLayoutConfig(s.Model)
	if err != nil {
		return nil, fmt.Errorf("spec.sample.task: %w", err)
	}
	c, err := newCanvas(g, job.Sample.Size)
	return &layout{canvas: c, session: s, tally: t, config: cfg, boxes: job.Input.Boxes, categories: job.Input.Categories}, err
}

func (r *layout) wants() wanted { return wanted{values: []string{r.boxes, r.categories}} }

func (r *layout) from(d *datasetSource) { r.source = d }

func (r *layout) read(_ *kitchen, it *item) error {
	boxes, err := sample.ParseBoxes(r.source.value(it.given.values, r.boxes), r.source.value(it.given.values, r.categories))
	if err != nil {
		return fmt.Errorf("boxes (columns %s and %s): %w", r.boxes, r.categories, err)
	}
	if len(boxes) > r.config.MaxObjects {
		r.tally.add("layouts_truncated", it, "%d boxes, of which the model takes the first %d", len(boxes), r.config.MaxObjects)
	}
	if it.given.tokens, err = sample.LayoutTokens(boxes, r.config); err != nil {
		return fmt.Errorf("boxes (column %s): %w", r.boxes, err)
	}
	r.set(it)
	return nil
}

func (r *layout) request(q *sample.Request, batch []*item, _ sample.RowNoise) (err error) {
	q.Cond, err = sample.LayoutCondition(r.session, tokens(batch))
	return err
}

// semantic generates images from label maps, each of its own size.
type semantic struct {
	session *engine.Session
	gen     *sample.Generator
	tally   *tally
	classes int
	column  string // "" is the image column
	tile    spec.Tile
}

func newSemantic(s *engine.Session, g *sample.Generator, job *spec.Spec, t *tally) (*semantic, error) {
	n, ok := sample.SemanticClasses(s.Model)
	if !ok {
		return nil, exitcode.Errorf(exitcode.Usage, "spec.sample.task: the model does not take label maps")
	}
	return &semantic{s, g, t, n, job.Input.Segmentation, job.Limits.Tile}, nil
}

func (r *semantic) wants() wanted {
	if r.column == "" {
		return wanted{image: true}
	}
	return wanted{images: []string{r.column}}
}

func (r *semantic) read(k *kitchen, it *item) error {
	m, err := k.dec.Decode(it.raw, k.options)
	what := "label map"
	if r.column != "" {
		what += " (column " + r.column + ")"
		m, err = k.further(what, it.given.images, 0)
	}
	if err != nil {
		return err
	}
	if m.Channels != 1 || m.Depth16 {
		return exitcode.Errorf(exitcode.Data, "%s: want an 8-bit gray picture whose values are labels, not mode %s", what, m.Mode)
	}
	g := &it.given
	g.outH, g.outW = m.H, m.W
	f := r.gen.Factor()
	lh, lw := canvasOf(r.tile, r.gen.Multiple()/f, upTo(m.H, f)/f, upTo(m.W, f)/f)
	it.h, it.w = lh*f, lw*f
	if it.h != m.H || it.w != m.W {
		r.tally.count("padded")
	}
	g.labels = make([]uint8, it.h*it.w)
	for y := range it.h {
		for x := range it.w {
			v := m.Pix[3*(mirror(y, m.H)*m.W+mirror(x, m.W))]
			if int(v) >= r.classes {
				return exitcode.Errorf(exitcode.Data, "%s: label %d at (%d, %d) is not in 0..%d", what, v, x, y, r.classes-1)
			}
			g.labels[y*it.w+x] = v
		}
	}
	return nil
}

func (r *semantic) request(q *sample.Request, batch []*item, _ sample.RowNoise) (err error) {
	maps := make([][]uint8, len(batch))
	for i, it := range batch {
		maps[i] = it.given.labels
	}
	q.Cond, err = sample.SemanticCondition(r.session, maps, q.H, q.W)
	return err
}
