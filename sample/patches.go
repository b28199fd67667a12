package sample

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/patch"
)

// PatchConfig says how latents are cut into overlapping patches, in latent cells.
type PatchConfig = encode.PatchConfig

// patched is a U-Net that sees a latent patch by patch in every step, with the weighted means of overlapping predictions
// (reference: apply_model with split_input_params). A concatenated condition is cut at the same places; a context is the same
// for every patch. Unlike in the first stage, a patch is never reduced to a smaller latent.
type patched struct {
	net    *unet
	grid   *patch.Grid
	concat []float32 // the condition's, uncut
	x, eps []float32 // of a patch
	sum    []float32 // of the whole
}

func newPatched(s *engine.Session, n, h, w int, c Condition, cfg PatchConfig) (*patched, error) {
	m := s.Model
	g, err := newGrid(m, cfg, h, w)
	if err != nil {
		return nil, err
	}
	size, planes := cfg.Size[0]*cfg.Size[1], n*m.UNet.Config.OutChannels
	p := &patched{grid: g, concat: c.Concat, x: make([]float32, planes*size), eps: make([]float32, planes*size), sum: make([]float32, planes*h*w)}
	if c.Concat != nil {
		if len(c.Concat)%(n*h*w) != 0 {
			return nil, fmt.Errorf("patches: a concatenated condition of %d numbers for %d latents of %dx%d", len(c.Concat), n, h, w)
		}
		c.Concat = make([]float32, len(c.Concat)/(h*w)*size)
	}
	p.net, err = newUNet(s, n, cfg.Size[0], cfg.Size[1], c, reuse{})
	return p, err
}

// newGrid checks that the model goes with patches, and lays them.
func newGrid(m *nn.Model, cfg PatchConfig, h, w int) (*patch.Grid, error) {
	if d := m.Config.Diffusion; d != nil && d.CondStageKey == layoutKey {
		return nil, exitcode.Errorf(exitcode.Usage, "patches: not for layouts, whose crop would be another one in every patch")
	}
	if k := m.UNet.Config.SizeMultiple(); cfg.Size[0]%k != 0 || cfg.Size[1]%k != 0 {
		return nil, exitcode.Errorf(exitcode.Usage, "patches of %dx%d (height x width) are no multiples of %d latent cells, which this model needs", cfg.Size[0], cfg.Size[1], k)
	}
	return patch.New(cfg, h, w)
}

// Predict implements [Denoiser].
func (p *patched) Predict(x, t, eps []float32) error {
	clear(p.sum)
	for i := range p.grid.Len() {
		at := p.grid.Order(i)
		p.grid.Cut(p.x, x, at)
		if p.concat != nil {
			p.grid.Cut(p.net.cond.Concat, p.concat, at)
		}
		if err := p.net.Predict(p.x, t, p.eps); err != nil {
			return fmt.Errorf("patch %d of %d: %w", at+1, p.grid.Len(), err)
		}
		p.grid.Add(p.sum, p.eps, at)
	}
	p.grid.Divide(p.sum)
	copy(eps, p.sum)
	return nil
}

// PredictPair implements [Pair] for a condition that holds the unconditional half first.
func (p *patched) PredictPair(x, t, eps []float32) error { return p.Predict(x, t, eps) }
