package sample

import (
	"context"
	"fmt"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// Generator makes images from a latent diffusion model, batch by batch, each batch of its own size. One batch is made at a time; what
// a request needs, and sizes, may be asked meanwhile.
type Generator struct {
	session *engine.Session
	first   *encode.FirstStage
	sampler *Sampler
	config  Config
	x       []float32 // latents of the last batch
	reused  ReuseCount
}

// NewGenerator checks that the model can do what the configuration asks.
func NewGenerator(s *engine.Session, c Config) (*Generator, error) {
	sched, err := ModelSchedule(s.Model)
	if err != nil {
		return nil, err
	}
	if err := checkModel(s.Model, c); err != nil {
		return nil, err
	}
	p, err := New(c, sched)
	if err != nil {
		return nil, exitcode.With(exitcode.Usage, err)
	}
	first, err := encode.New(s)
	if err != nil {
		return nil, err
	}
	return &Generator{session: s, first: first, sampler: p, config: c}, nil
}

// Steps is the number of steps that a whole walk makes; see [Sampler.Steps].
func (g *Generator) Steps() int { return g.sampler.Steps() }

// Factor is how many pixels of an image side one latent cell covers.
func (g *Generator) Factor() int { return g.first.Factor() }

// Multiple is the number of pixels that sides of images must be multiples of.
func (g *Generator) Multiple() int { return g.Factor() * g.session.Model.UNet.Config.SizeMultiple() }

// DefaultSize is the height and width, in pixels, of the images that the model was made for.
func (g *Generator) DefaultSize() (h, w int) {
	side := g.session.Model.Config.Diffusion.ImageSize * g.Factor()
	return side, side
}

// CheckSize says whether images of h x w pixels can be made, as one frame. The error is of class usage.
func (g *Generator) CheckSize(h, w int) error {
	if k := g.Multiple(); h < k || w < k || h%k != 0 || w%k != 0 {
		return exitcode.Errorf(exitcode.Usage, "size %dx%d (height x width) is not a multiple of %d pixels, which this model needs", h, w, k)
	}
	return nil
}

// LatentShape is channels, height and width of the latent of an image of h x w pixels.
func (g *Generator) LatentShape(h, w int) (c, lh, lw int) {
	return g.session.Model.UNet.Config.OutChannels, h / g.Factor(), w / g.Factor()
}

// Request is one batch to generate.
type Request struct {
	N, H, W int // images, and the pixels of one
	Cond    Condition
	Uncond  *Condition // what guidance starts from; nil for none
	Noise   Noise

	// Init, for image-to-image, holds scaled latents N x C x h x w. They are brought to the time of the first of the Last
	// steps with the initial noise, and only those steps are made (paper, section 4.4; reference: stochastic_encode, decode).
	Init []float32
	Last int

	// Known and Mask, for latent-mask inpainting with any model, hold scaled latents N x C x h x w and what to keep of them,
	// N x 1 x h x w, 1 for kept cells and 0 for free ones; see [Keep]. The noise must be a [KnownNoise].
	Known, Mask []float32

	Tiles   *TileConfig  // sample and decode tile by tile
	Patches *PatchConfig // sample and decode patch by patch, as the reference does with split inputs
}

// Generate returns images, N x 3 x H x W in about [-1, 1] and not clamped. The result is valid until the next call.
func (g *Generator) Generate(ctx context.Context, r Request) ([]float32, error) {
	z, err := g.GenerateLatents(ctx, r)
	if err != nil {
		return nil, err
	}
	return g.Decode(r, z)
}

// GenerateLatents returns scaled latents, N x C x h x w. The result is valid until the next call.
func (g *Generator) GenerateLatents(ctx context.Context, r Request) ([]float32, error) {
	if err := g.CheckSize(r.H, r.W); err != nil {
		return nil, err
	}
	c, h, w := g.LatentShape(r.H, r.W)
	d, err := NewDenoiser(g.session, DenoiserSpec{
		N: r.N, H: h, W: w, Cond: r.Cond, Uncond: r.Uncond, Config: g.config, Tiles: r.Tiles, Patches: r.Patches,
	})
	if err != nil {
		return nil, err
	}
	size := r.N * c * h * w
	if cap(g.x) < size {
		g.x = make([]float32, size)
	}
	x := g.x[:size]
	if err := r.Noise.Initial(x); err != nil {
		return nil, fmt.Errorf("initial noise: %w", err)
	}
	steps := g.Steps()
	if r.Init != nil {
		if steps = r.Last; steps < 1 || steps > g.Steps() || len(r.Init) != size {
			return nil, exitcode.Errorf(exitcode.Usage, "image-to-image: the last %d of %d steps from %d numbers, want 1 to %d steps from %d numbers",
				steps, g.Steps(), len(r.Init), g.Steps(), size)
		}
		g.sampler.Level(g.Steps()-steps).Diffuse(x, r.Init, x)
	}
	var hooks Hooks
	if r.Known != nil || r.Mask != nil {
		keep := Keep{Known: r.Known, Mask: r.Mask, N: r.N, Cells: h * w, Noise: r.Noise}
		if hooks, err = keep.Hooks(g.sampler); err != nil {
			return nil, err
		}
	}
	if err := g.sampler.SampleLast(ctx, d, x, r.N, steps, r.Noise, hooks); err != nil {
		return nil, err
	}
	g.reused = g.reused.Add(Reuse(d))
	return x, nil
}

// Decode returns the images, N x 3 x H x W in about [-1, 1] and not clamped, of the latents of a request. The result is valid
// until the next call.
func (g *Generator) Decode(r Request, z []float32) ([]float32, error) {
	_, h, w := g.LatentShape(r.H, r.W)
	switch {
	case r.Tiles != nil:
		return decodeTiles(g.first, z, r.N, h, w, *r.Tiles)
	case r.Patches != nil:
		return g.first.DecodePatches(z, r.N, h, w, nn.Quantized, *r.Patches)
	}
	return g.first.Decode(z, r.N, h, w, nn.Quantized)
}
