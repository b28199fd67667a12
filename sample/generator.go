package sample

import (
	"context"
	"fmt"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// Generator makes images from a latent diffusion model, batch by batch. It is not safe for concurrent use.
type Generator struct {
	session *engine.Session
	first   *encode.FirstStage
	sampler *Sampler
	config  Config
	h, w    int // latent cells
}

// NewGenerator checks that the model can do what the configuration asks. h and w are the size of images in pixels; 0 takes
// the size that the model was made for.
func NewGenerator(s *engine.Session, c Config, h, w int) (*Generator, error) {
	m := s.Model
	sched, err := ModelSchedule(m)
	if err != nil {
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
	f := first.Factor()
	if h == 0 || w == 0 {
		h, w = m.Config.Diffusion.ImageSize*f, m.Config.Diffusion.ImageSize*f
	}
	if k := f * m.UNet.Config.SizeMultiple(); h%k != 0 || w%k != 0 {
		return nil, exitcode.Errorf(exitcode.Usage, "size %dx%d (height x width) is not a multiple of %d pixels, which this model needs", h, w, k)
	}
	return &Generator{session: s, first: first, sampler: p, config: c, h: h / f, w: w / f}, nil
}

// Steps is the number of steps that each image takes; see [Sampler.Steps].
func (g *Generator) Steps() int { return g.sampler.Steps() }

// Size is the height and width of images in pixels.
func (g *Generator) Size() (h, w int) { return g.h * g.first.Factor(), g.w * g.first.Factor() }

// LatentShape is channels, height and width of a latent.
func (g *Generator) LatentShape() (c, h, w int) {
	return g.session.Model.UNet.Config.OutChannels, g.h, g.w
}

// Generate returns n images, N x 3 x H x W in about [-1, 1] and not clamped, from a condition. uncond is the condition that
// guidance starts from, nil for none. The result is valid until the next call.
func (g *Generator) Generate(ctx context.Context, n int, cond Condition, uncond *Condition, noise Noise) ([]float32, error) {
	c, _, _ := g.LatentShape()
	d, err := NewDenoiser(g.session, n, g.h, g.w, cond, uncond, g.config.Guidance)
	if err != nil {
		return nil, err
	}
	x := make([]float32, n*c*g.h*g.w)
	if err := noise.Initial(x); err != nil {
		return nil, fmt.Errorf("initial noise: %w", err)
	}
	if err := g.sampler.Sample(ctx, d, x, n, noise, Hooks{}); err != nil {
		return nil, err
	}
	return g.first.Decode(x, n, g.h, g.w, nn.Quantized)
}
