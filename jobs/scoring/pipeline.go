package scoring

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/eval"
	"github.com/ldm-batch/ldm-batch/eval/extract"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/dataset"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/io/preprocess"
	"github.com/ldm-batch/ldm-batch/io/resize"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// item is one row on its way from its set to its part.
type item struct {
	row       part.Row
	generated bool
	source    pictureRow
	pair      *pictureRow // the reference's row of a paired metric
	image     []float32   // what the first stage reconstructs
	original  eval.Picture
	compared  [2]eval.Picture // of the perceptual distance
	input     []float32       // of the network
	scores    []float64
	ready     chan struct{}
}

func (it *item) fail(err error) {
	it.row.Status, it.row.Error = part.Failed, it.source.where+": "+err.Error()
	it.row.Reason = "picture"
	var p *picture.Error
	if errors.As(err, &p) {
		it.row.Reason = string(p.Kind)
	}
	if it.source.err != nil {
		it.row.Reason = string(dataset.ClassOf(it.source.err))
		it.row.Error = it.source.err.Error()
	}
	it.row.Image, it.row.Width, it.row.Height, it.scores, it.compared = nil, 0, 0, nil, [2]eval.Picture{}
}

// runner writes the pending parts.
type runner struct {
	*Evaluation
	folder *commit.Folder
	batch  int
	budget int64
	failed int64
	extra  int // columns of a part beside those of every job
	items  <-chan *item
	done   []*item // computed, to be written
	waited time.Duration
	busy   time.Duration

	progress *jobs.Progress
}

func (r *runner) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	workers := max(2, runtime.GOMAXPROCS(0))
	depth := 2*r.batch + 2*workers
	ordered, prepare := make(chan *item, depth), make(chan *item, depth)
	r.items = ordered
	wg.Go(func() {
		defer close(ordered)
		defer close(prepare)
		if err := exitcode.Guard("read", func() error { return r.read(ctx, prepare, ordered) }); err != nil {
			cancel(err)
		}
	})
	for range workers {
		c, err := r.newCook()
		if err != nil {
			return err
		}
		wg.Go(func() {
			for it := range prepare {
				if err := exitcode.Guard("prepare", func() error { c.do(it); return nil }); err != nil {
					cancel(err)
				}
				close(it.ready)
			}
		})
	}
	c, err := r.newCook()
	if err != nil {
		return err
	}
	schema := r.schema()
	r.extra = len(schema.Extra)
	for _, i := range r.folder.Pending() {
		var entry commit.Entry
		if entry, err = r.folder.WritePart(i, schema, func(w *part.Writer) error { return r.fill(ctx, c, w, r.plan.Parts[i].Rows) }); err != nil {
			break
		}
		r.progress.PartDone(entry)
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// read hands out the rows of the pending parts in order.
func (r *runner) read(ctx context.Context, prepare, ordered chan<- *item) error {
	g := r.generated.rows()
	for _, i := range r.folder.Pending() {
		p := r.plan.Parts[i]
		from, to, set, name := p.FirstRow, p.FirstRow+p.Rows, r.generated, "generated"
		if from >= g {
			from, to, set, name = from-g, to-g, r.reference, "reference"
		}
		pairs := func() (pictureRow, error, bool) { return pictureRow{}, nil, false }
		if set == r.generated && r.paired() && r.before == nil {
			next, stop := iter.Pull2(r.reference.read(ctx, from, to))
			defer stop()
			pairs = next
		}
		n := int64(0)
		for row, err := range set.read(ctx, from, to) {
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			it := &item{generated: set == r.generated, source: row, ready: make(chan struct{})}
			it.row = part.Row{ID: row.id, Label: row.label, HasLabel: row.hasLabel, Status: part.OK}
			pair, err, ok := pairs()
			if err != nil {
				return fmt.Errorf("reference: %w", err)
			}
			if ok {
				it.pair = &pair
			}
			n++
			for _, c := range []chan<- *item{prepare, ordered} {
				select {
				case c <- it:
				case <-ctx.Done():
					return nil
				}
			}
		}
		if n != p.Rows && ctx.Err() == nil {
			return exitcode.Errorf(exitcode.Data, "%s: %d rows, planned were %d", name, n, p.Rows)
		}
	}
	return nil
}

// fill writes the rows of one part.
func (r *runner) fill(ctx context.Context, c *cook, w *part.Writer, rows int64) error {
	for range rows {
		if len(r.done) == 0 {
			if err := r.compute(ctx, c); err != nil {
				return err
			}
		}
		it := r.done[0]
		r.done = r.done[1:]
		if it.row.Status != part.OK {
			r.progress.RowFailed(it.row.Error)
			if r.failed++; r.failed > r.budget {
				return exitcode.Errorf(exitcode.Data, "%d rows cannot be used, limits.max_bad_rows allows %d; the last: %s", r.failed, r.budget, it.row.Error)
			}
		}
		if err := w.Append(it.row); err != nil {
			return fmt.Errorf("%s: %w", it.source.where, err)
		}
		r.progress.RowDone()
	}
	return nil
}

// compute takes rows until a batch of good ones is together, and computes it.
func (r *runner) compute(ctx context.Context, c *cook) error {
	var batch []*item
	start := time.Now()
	for len(batch) < r.batch {
		var it *item
		select {
		case it = <-r.items:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if it == nil {
			break
		}
		<-it.ready
		r.done = append(r.done, it)
		if it.row.Status == part.OK {
			batch = append(batch, it)
		}
	}
	r.waited += time.Since(start)
	if len(r.done) == 0 {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return exitcode.Errorf(exitcode.Internal, "rows ended early")
	}
	start = time.Now()
	defer func() { r.busy += time.Since(start) }()
	if r.before != nil {
		if err := r.reconstruct(batch, c); err != nil {
			return err
		}
	}
	if err := r.perceptual(batch); err != nil {
		return err
	}
	if err := r.features(batch); err != nil {
		return err
	}
	for _, it := range r.done {
		extra := make([]any, r.extra)
		extra[0] = "reference"
		if it.generated {
			extra[0] = "generated"
		}
		for i, s := range it.scores {
			extra[1+i] = s
		}
		copy(extra[len(extra)-len(r.record.Taps):], it.row.Extra)
		it.row.Extra = extra
	}
	return nil
}

// features fills the vectors of a batch in.
func (r *runner) features(batch []*item) error {
	if r.network == nil || len(batch) == 0 {
		return nil
	}
	inputs := make([]float32, 0, len(batch)*r.network.Inputs())
	for _, it := range batch {
		inputs = append(inputs, it.input...)
		it.input = nil
	}
	y, err := r.network.Features(inputs, len(batch))
	if err != nil {
		return fmt.Errorf("%s and %d more rows: %w", batch[0].source.where, len(batch)-1, err)
	}
	for i, it := range batch {
		for t, tap := range r.record.Taps {
			it.row.Extra = append(it.row.Extra, y[t][i*tap.D:(i+1)*tap.D])
		}
	}
	return nil
}

// perceptual fills the perceptual distances of a batch in: pictures of one size together.
func (r *runner) perceptual(batch []*item) error {
	type size struct{ h, w int }
	sizes := map[size][]*item{}
	var order []size
	for _, it := range batch {
		if p := it.compared[0]; p.Pix8 != nil {
			s := size{p.H, p.W}
			if sizes[s] == nil {
				order = append(order, s)
			}
			sizes[s] = append(sizes[s], it)
		}
	}
	for _, s := range order {
		items := sizes[s]
		var x [2][]float32
		for k := range x {
			x[k] = make([]float32, 0, len(items)*3*s.h*s.w)
			for _, it := range items {
				for c := range 3 {
					for i := c; i < 3*s.h*s.w; i += 3 {
						x[k] = append(x[k], float32(it.compared[k].Pix8[i])/127.5-1)
					}
				}
			}
		}
		d, err := r.lpips.Distances(x[0], x[1], len(items), s.h, s.w)
		if err != nil {
			return fmt.Errorf("%s and %d more rows: %w", items[0].source.where, len(items)-1, err)
		}
		at := slices.Index(pairedMetrics(r.job.Spec.Eval.Metrics), "lpips")
		for i, it := range items {
			it.scores[at], it.compared = d[i], [2]eval.Picture{}
		}
	}
	return nil
}

// reconstruct sends the generated rows of a batch through the first stage.
func (r *runner) reconstruct(batch []*item, c *cook) error {
	h, w := r.before.Size.H, r.before.Size.W
	var images []float32
	var rows []*item
	for _, it := range batch {
		if it.image != nil {
			images, rows = append(images, it.image...), append(rows, it)
			it.image = nil
		}
	}
	if len(rows) == 0 {
		return nil
	}
	z, err := r.first.Encode(images, len(rows), h, w, encode.Options{Scale: true})
	if err != nil {
		return err
	}
	f := r.first.Factor()
	out, err := r.first.Decode(append([]float32(nil), z...), len(rows), h/f, w/f, nn.Quantized)
	if err != nil {
		return err
	}
	for i, it := range rows {
		p := eval.Picture{H: h, W: w, C: 3, Pix8: make([]uint8, 3*h*w)}
		if err := preprocess.ToUint8(p.Pix8, out[i*3*h*w:(i+1)*3*h*w], 3, h, w, preprocess.Round); err != nil {
			return exitcode.With(exitcode.Internal, fmt.Errorf("%s: %w", it.source.where, err))
		}
		if err := c.finish(it, p, it.original); err != nil {
			return fmt.Errorf("%s: %w", it.source.where, err)
		}
		it.original = eval.Picture{}
	}
	return nil
}

// cook is what one worker prepares rows with.
type cook struct {
	r      *runner
	dec    picture.Decoder
	opt    picture.Options
	before *preprocess.Preprocessor
	input  extract.Preparer
	small  *resize.Resizer
}

func (r *runner) newCook() (*cook, error) {
	l := picture.DefaultLimits()
	l.MaxPixels = int64(r.job.Spec.Limits.MaxPixels)
	c := &cook{r: r, opt: picture.Options{Limits: l}}
	var err error
	if r.before != nil {
		if c.before, err = preprocess.New(*r.before); err != nil {
			return nil, err
		}
	}
	if r.network != nil {
		if c.input, err = r.network.NewPreparer(); err != nil {
			return nil, err
		}
	}
	c.small, err = resize.New("pil-lanczos")
	return c, err
}

// do brings a row as far as it gets without a network.
func (c *cook) do(it *item) {
	if err := c.try(it); err != nil {
		it.fail(err)
	}
	it.source.raw, it.source.pixels, it.pair = nil, eval.Picture{}, nil
}

func (c *cook) try(it *item) error {
	p, err := c.decode(&it.source)
	if err != nil {
		return err
	}
	if it.source.raw != nil {
		sum := sha256.Sum256(it.source.raw)
		it.row.SourceSHA256 = hex.EncodeToString(sum[:])
	}
	it.row.Width, it.row.Height = p.W, p.H
	if c.before == nil {
		var pair eval.Picture
		if it.pair != nil {
			if pair, err = c.decode(it.pair); err != nil {
				return fmt.Errorf("reference %s: %w", it.pair.where, err)
			}
		}
		return c.finish(it, p, pair)
	}
	at, err := c.before.Place(p.H, p.W, nil)
	if err != nil {
		return err
	}
	src := preprocess.Picture{Pix: p.Pix8, H: p.H, W: p.W, Channels: p.C}
	h, w := c.r.before.Size.H, c.r.before.Size.W
	cut := eval.Picture{H: h, W: w, C: 3, Pix8: make([]uint8, 3*h*w)}
	if err := c.before.Uint8(cut.Pix8, src, at); err != nil {
		return err
	}
	if !it.generated {
		return c.finish(it, cut, eval.Picture{})
	}
	it.original, it.image = cut, make([]float32, 3*h*w)
	for i, v := range cut.Pix8 { // what is scored and what is encoded are the same 8 bits
		it.image[i%3*h*w+i/3] = float32(float64(v)/127.5 - 1) // as package preprocess does it
	}
	return nil
}

// decode returns the picture of a row, RGB.
func (c *cook) decode(s *pictureRow) (eval.Picture, error) {
	if s.err != nil {
		return eval.Picture{}, s.err
	}
	if s.pixels.Pix8 != nil {
		p := s.pixels
		if p.C == 1 {
			rgb := make([]uint8, 3*len(p.Pix8))
			for i := range rgb {
				rgb[i] = p.Pix8[i/3]
			}
			p.C, p.Pix8 = 3, rgb
		}
		return p, nil
	}
	m, err := c.dec.Decode(s.raw, c.opt)
	if err != nil {
		return eval.Picture{}, err
	}
	return eval.Picture{H: m.H, W: m.W, C: 3, Pix8: m.Pix}, nil
}

// finish scores a picture against its pair, if there is one, and makes its thumbnail and the network's input.
func (c *cook) finish(it *item, p, pair eval.Picture) error {
	if pair.Pix8 != nil {
		e := &c.r.job.Spec.Eval
		o := eval.Options{Plane: eval.Plane(e.Plane), Border: e.Border}
		for _, m := range e.Metrics {
			var score func(a, b eval.Picture, o eval.Options) (float64, error)
			switch m {
			case "psnr":
				score = eval.PSNR
			case "ssim":
				score = eval.SSIM
			case "msssim":
				score = eval.MSSSIM
			case "lpips":
				score = func(a, b eval.Picture, _ eval.Options) (float64, error) { return 0, c.comparable(a, b) } // later, in batches
				it.compared = [2]eval.Picture{p, pair}
			default:
				continue
			}
			v, err := score(p, pair, o)
			if err != nil {
				return fmt.Errorf("%s: %w", m, err)
			}
			it.scores = append(it.scores, v)
		}
	}
	var err error
	if it.row.Image, err = c.thumbnail(p); err != nil {
		return err
	}
	if c.input != nil {
		it.input = make([]float32, c.r.network.Inputs())
		return c.input.Prepare(it.input, p)
	}
	return nil
}

// comparable says why the perceptual distance of two pictures is not defined.
func (c *cook) comparable(a, b eval.Picture) error {
	if a.H != b.H || a.W != b.W {
		return fmt.Errorf("pictures are %d x %d and %d x %d", a.H, a.W, b.H, b.W)
	}
	if least := c.r.lpips.Least; a.H < least || a.W < least {
		return fmt.Errorf("picture is %d x %d, at least %d x %d needed", a.H, a.W, least, least)
	}
	return nil
}

// thumbnailSide is the longest side of thumbnails, in pixels.
const thumbnailSide = 96

// thumbnail is a small JPEG of a picture.
func (c *cook) thumbnail(p eval.Picture) ([]byte, error) {
	m := &picture.Image{W: p.W, H: p.H, Pix: p.Pix8, Channels: 3}
	if long := max(p.W, p.H); long > thumbnailSide {
		m.W, m.H = max(1, p.W*thumbnailSide/long), max(1, p.H*thumbnailSide/long)
		m.Pix = make([]uint8, 3*m.W*m.H)
		if err := c.small.Uint8(m.Pix, p.Pix8, resize.Shape{SrcH: p.H, SrcW: p.W, DstH: m.H, DstW: m.W, Channels: 3}); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	err := picture.EncodeJPEG(&b, m, 90)
	return b.Bytes(), err
}

// pairedMetrics are the metrics of pairs, in the order of their columns.
func pairedMetrics(metrics []string) []string {
	var out []string
	for _, m := range metrics {
		if spec.Paired(m) {
			out = append(out, m)
		}
	}
	return out
}
