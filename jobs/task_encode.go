package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/tile"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/io/preprocess"
	"github.com/ldm-batch/ldm-batch/io/resize"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
	"github.com/ldm-batch/ldm-batch/sample"
)

// encodeTask turns images into latents.
type encodeTask struct {
	first   *encode.FirstStage
	job     *spec.Spec
	config  preprocess.Config
	shape   part.Schema
	images  []float32 // one batch
	noise   []float32
	fits    needs
	seconds func() map[string]float64
}

// newEncodeTask checks that the pictures' size suits the model.
func newEncodeTask(first *encode.FirstStage, job *spec.Spec, src *datasetSource, seconds func() map[string]float64) (*encodeTask, error) {
	t := &encodeTask{first: first, job: job, seconds: seconds}
	t.fits = needs{limit: int64(job.Limits.Memory), tile: job.Limits.Tile, factor: first.Factor(), model: t}
	t.config = preprocess.Config{
		Size: preprocess.Size{H: job.Preprocess.Size.H, W: job.Preprocess.Size.W},
		Crop: preprocess.Crop(job.Preprocess.Crop), Resize: resize.Method(job.Preprocess.Resize), Flip: job.Preprocess.Flip,
	}
	if err := t.config.Validate(); err != nil {
		return nil, fmt.Errorf("spec.preprocess: %w", err)
	}
	latent := &part.Latent{C: first.Channels(), DType: part.DType(job.Encode.DType), Layout: part.Layout(job.Output.LatentLayout)}
	if h, w := t.config.Size.H, t.config.Size.W; h != 0 && w != 0 {
		if err := first.CheckSize(h, w); err != nil {
			return nil, fmt.Errorf("spec.preprocess.size: %w", err)
		}
		latent.H, latent.W = h/first.Factor(), w/first.Factor()
	} else {
		latent.Layout = part.Ragged
	}
	if job.Encode.Latent == "sample" && !first.Stochastic() {
		return nil, fmt.Errorf("spec.encode.latent: sample needs a KL first stage; this one is VQ, whose latents have no variance")
	}
	scale := 1.0
	if job.Encode.Scale {
		scale = float64(first.ScaleFactor())
	}
	t.shape = part.Schema{
		Latent: latent, Label: src.features.Label != "", LabelNames: src.features.ClassNames, Extra: src.columns(),
		Meta: part.Meta{ScaleFactor: scale}, Compression: part.Compression(job.Output.Compression),
	}
	return t, nil
}

func (t *encodeTask) schema() part.Schema { return t.shape }

func (t *encodeTask) counts() map[string]int64 { return nil }

func (t *encodeTask) stages() map[string]float64 { return t.seconds() }

// cost is the source image, the decoded picture, the network's input and the latent. The size of the decoded picture comes
// from the header; a header that cannot be read fails later and costs little.
func (t *encodeTask) cost(it *item) int64 {
	pixels := int64(t.config.Size.H) * int64(t.config.Size.W)
	if h, err := picture.Probe(it.raw, pictureLimits(t.job)); err == nil {
		decoded := int64(h.W) * int64(h.H)
		if pixels == 0 {
			pixels = decoded
		}
		pixels += decoded / 4 // one byte a sample against four
	}
	return int64(len(it.raw)) + 12*pixels + 4096
}

func (t *encodeTask) newWorker() (prepare, finish func(*item)) {
	var dec picture.Decoder
	var img picture.Image
	pre, err := preprocess.New(t.config)
	opt := picture.Options{Limits: pictureLimits(t.job), ApplyOrientation: t.job.Input.EXIF == "apply"}
	return func(it *item) {
		if err == nil {
			err = t.prepare(it, &dec, &img, pre, opt)
		}
		if err != nil {
			reason := "preprocess"
			var p *picture.Error
			if errors.As(err, &p) {
				reason = string(p.Kind)
			}
			it.fail(reason, err)
			err = nil
		}
		it.raw = nil
	}, nil
}

func (t *encodeTask) prepare(it *item, dec *picture.Decoder, img *picture.Image, pre *preprocess.Preprocessor, opt picture.Options) error {
	sum := sha256.Sum256(it.raw)
	it.row.SourceSHA256 = hex.EncodeToString(sum[:])
	if err := dec.DecodeInto(img, it.raw, opt); err != nil {
		return err
	}
	it.row.Width, it.row.Height = img.W, img.H
	it.h, it.w = pre.OutSize(img.H, img.W)
	if err := t.first.CheckSize(it.h, it.w); err != nil {
		return err
	}
	if it.way = t.fits.way(it.h, it.w, t.job.Compute.Batch); it.way.err != nil {
		return it.way.err
	}
	at, err := pre.Place(img.H, img.W, sample.Uint64(t.job.Compute.Seed, it.row.ID, sample.StreamCrop))
	if err != nil {
		return err
	}
	it.input = make([]float32, 3*it.h*it.w)
	return pre.CHW(it.input, preprocess.Picture{Pix: img.Pix, H: img.H, W: img.W, Channels: 3}, at)
}

func (t *encodeTask) compute(_ context.Context, batch []*item) error {
	h, w, n := batch[0].h, batch[0].w, len(batch)
	size := 3 * h * w
	t.images = grow(t.images, n*size)
	for i, it := range batch {
		copy(t.images[i*size:(i+1)*size], it.input)
	}
	f := t.first.Factor()
	c, lh, lw := t.first.Channels(), h/f, w/f
	cells := c * lh * lw
	o := encode.Options{Scale: t.job.Encode.Scale}
	if t.job.Encode.Latent == "sample" {
		t.noise = grow(t.noise, n*cells)
		for i, it := range batch {
			sample.Normal(t.job.Compute.Seed, it.row.ID, sample.StreamPosterior, t.noise[i*cells:(i+1)*cells])
		}
		o.Noise = t.noise
	}
	z, err := t.encode(n, h, w, o, batch[0].way.tiles)
	if err != nil {
		return fmt.Errorf("%s and %d more rows: %w", batch[0].where, len(batch)-1, err)
	}
	for i, it := range batch {
		it.row.Latent = append([]float32(nil), z[i*cells:(i+1)*cells]...)
		it.row.LatentShape = [3]int{c, lh, lw}
		it.input = nil
	}
	return nil
}

func (t *encodeTask) encode(n, h, w int, o encode.Options, tiles *tile.Config) ([]float32, error) {
	if tiles != nil {
		return t.first.EncodeTiles(t.images, n, h, w, o, *tiles)
	}
	return t.first.Encode(t.images, n, h, w, o)
}

func (t *encodeTask) fit(h, w int, f tile.Fit) (*tile.Config, engine.Needs, error) {
	return t.first.FitTiles(h, w, f)
}

func (t *encodeTask) needs(n, h, w int, c cutting) (engine.Needs, error) {
	return t.first.EncodeNeeds(n, h, w, c.tiles)
}

// held implements [needsModel]: the prepared picture, and as much again for what it was made from and its latent.
func (t *encodeTask) held(h, w int) int64 { return 24 * int64(h) * int64(w) }

func grow(b []float32, n int) []float32 {
	if cap(b) < n {
		return make([]float32, n)
	}
	return b[:n]
}
