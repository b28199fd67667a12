package sample

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// KnownNoise is a [Noise] with numbers that bring a known region to each step's time.
type KnownNoise interface {
	// Known writes standard normal numbers for the k-th step made, counted from 0.
	Known(k int, dst []float32) error
}

// Known implements [KnownNoise].
func (n RowNoise) Known(k int, dst []float32) error { n.Fill(StreamMask+uint32(k), dst); return nil }

// Keep holds a known region of a batch of latents through a walk (reference: the mask and x0 arguments of its samplers).
//
// Before each step, and with the ddpm sampler after each step with the same time, the kept cells are replaced by the known
// latent with the noise of that time. Nothing is replaced after the last step, as in the reference: the kept cells of the
// result are what one step makes of the known latent at the lowest time, close to it and not equal. Who needs the known
// pixels themselves pastes them over the decoded image, see [Paste].
type Keep struct {
	Known []float32 // N x C x h x w, scaled
	Mask  []float32 // N x 1 x h x w: 1 keeps a cell, 0 leaves it free, values between mix
	N     int
	Cells int // h w
	Noise Noise

	known, noise []float32
}

// Hooks are the hooks of a walk of a sampler that keep the region.
func (m *Keep) Hooks(p *Sampler) (Hooks, error) {
	if m.N < 1 || m.Cells < 1 || len(m.Mask) != m.N*m.Cells || len(m.Known) == 0 || len(m.Known)%len(m.Mask) != 0 {
		return Hooks{}, fmt.Errorf("known region: %d numbers and a mask of %d for %d latents of %d cells", len(m.Known), len(m.Mask), m.N, m.Cells)
	}
	noise, ok := m.Noise.(KnownNoise)
	if !ok {
		return Hooks{}, exitcode.Errorf(exitcode.Usage, "known region: the noise has none for known regions")
	}
	m.known, m.noise = make([]float32, len(m.Known)), make([]float32, len(m.Known))
	mix := func(k int, l Level, x []float32) error {
		if len(x) != len(m.Known) {
			return fmt.Errorf("known region: %d numbers for latents of %d", len(m.Known), len(x))
		}
		if err := noise.Known(k, m.noise); err != nil {
			return err
		}
		l.Diffuse(m.known, m.Known, m.noise)
		size := len(x) / m.N
		for i := range x {
			v := m.Mask[i/size*m.Cells+i%m.Cells]
			x[i] = float32(m.known[i]*v) + float32((1-v)*x[i])
		}
		return nil
	}
	if p.cfg.Name == "ddpm" {
		return Hooks{After: func(k int, l Level, x, _ []float32) error { return mix(k, l, x) }}, nil
	}
	return Hooks{Before: mix}, nil
}
