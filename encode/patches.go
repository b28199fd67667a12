package encode

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/patch"
)

// PatchConfig says how a latent is cut into overlapping patches, in latent cells; images are cut at the same places. It is
// reduced to a latent that is smaller than a patch.
//
// The reference reads one number as pixels when it encodes and as latent cells when it decodes and samples (split_input_params:
// ks, stride); its encoder with ks pixels is this one with ks divided by the factor.
type PatchConfig = patch.Config

// EncodePatches is Encode patch by patch, with the weighted means of overlapping latents. The result is an approximation of
// Encode, whose network sees the whole image. KL first stages average means of posteriors; sampling one is an error, as the
// reference cannot either.
func (f *FirstStage) EncodePatches(images []float32, n, h, w int, o Options, c PatchConfig) ([]float32, error) {
	if err := f.CheckSize(h, w); err != nil {
		return nil, err
	}
	if o.Noise != nil {
		return nil, fmt.Errorf("patches: posteriors of patches cannot be sampled, only their means")
	}
	k := f.Factor()
	c = c.Shrink(h/k, w/k)
	from, err := patch.New(c.Scale(k), h, w)
	if err != nil {
		return nil, err
	}
	to, err := patch.New(c, h/k, w/k)
	if err != nil {
		return nil, err
	}
	return join(from, to, images, n, f.Channels(), func(x []float32) ([]float32, error) {
		return f.Encode(x, n, c.Size[0]*k, c.Size[1]*k, o)
	})
}

// DecodePatches is Decode patch by patch, with the weighted means of overlapping images. The result is an approximation of
// Decode, whose network sees the whole latent.
func (f *FirstStage) DecodePatches(z []float32, n, h, w int, q nn.Quantization, c PatchConfig) ([]float32, error) {
	k := f.Factor()
	c = c.Shrink(h, w)
	from, err := patch.New(c, h, w)
	if err != nil {
		return nil, err
	}
	to, err := patch.New(c.Scale(k), h*k, w*k)
	if err != nil {
		return nil, err
	}
	return join(from, to, z, n, 3, func(x []float32) ([]float32, error) {
		return f.Decode(x, n, c.Size[0], c.Size[1], q)
	})
}

// join runs every patch of n inputs and puts the results, each of the given number of planes, together.
func join(from, to *patch.Grid, in []float32, n, planes int, run func([]float32) ([]float32, error)) ([]float32, error) {
	s := from.Config.Size
	x := make([]float32, len(in)/(from.H*from.W)*s[0]*s[1])
	out := make([]float32, n*planes*to.H*to.W)
	for i := range from.Len() {
		p := from.Order(i)
		from.Cut(x, in, p)
		y, err := run(x)
		if err != nil {
			return nil, fmt.Errorf("patch %d of %d: %w", p+1, from.Len(), err)
		}
		to.Add(out, y, p)
	}
	to.Divide(out)
	return out, nil
}
