package encode

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// FirstStage encodes and decodes images in batches.
type FirstStage struct {
	session *engine.Session
	config  nn.FirstStageConfig
	scale   float32
	latents []float32
	tiled   []float32 // the whole that tiles are put together in
}

// New wraps the first stage of a session's model.
func New(s *engine.Session) (*FirstStage, error) {
	if s.Model.FirstStage == nil {
		return nil, fmt.Errorf("%s: the configuration has no first stage", s.Model.Config.Path)
	}
	return &FirstStage{session: s, config: s.Model.FirstStage.Config, scale: s.Model.ScaleFactor}, nil
}

// Factor is how many pixels of an image side one latent cell covers.
func (f *FirstStage) Factor() int { return f.config.Factor() }

// Channels is the number of latent channels.
func (f *FirstStage) Channels() int {
	if f.config.Kind == nn.IdentityFirstStage {
		return 3
	}
	return f.config.EmbedDim
}

// ScaleFactor is what latents are multiplied by for the diffusion model.
func (f *FirstStage) ScaleFactor() float32 { return f.scale }

// Stochastic says whether latents can be sampled: only KL posteriors have a variance.
func (f *FirstStage) Stochastic() bool { return f.config.Kind == nn.KL }

// CheckSize says whether images of h x w pixels can be encoded.
func (f *FirstStage) CheckSize(h, w int) error {
	if k := f.Factor(); h < k || w < k || h%k != 0 || w%k != 0 {
		return fmt.Errorf("size %dx%d (height x width) is not a multiple of %d pixels", h, w, k)
	}
	return nil
}

// Options say which latent Encode returns.
type Options struct {
	Scale bool // multiply by the scale factor
	// Noise, for KL first stages, asks for samples of the posterior with these standard normal numbers (N x C x H/f x W/f)
	// instead of its mean.
	Noise []float32
}

// Encode returns the latents, N x C x H/f x W/f, of n images of h x w pixels.
func (f *FirstStage) Encode(images []float32, n, h, w int, o Options) ([]float32, error) {
	if err := f.CheckSize(h, w); err != nil {
		return nil, err
	}
	if f.config.Kind == nn.IdentityFirstStage {
		return f.scaled(images, o.Scale), nil
	}
	net, err := f.session.Encoder(n, h, w)
	if err != nil {
		return nil, err
	}
	out, err := net.Run(map[string][]float32{"image": images})
	if err != nil {
		return nil, err
	}
	z := out[0]
	if f.config.Kind == nn.KL {
		z = f.posterior(z, n, net.Shape(0), o.Noise)
	}
	if err := engine.Finite("latent", z); err != nil {
		return nil, err
	}
	return f.scaled(z, o.Scale), nil
}

// posterior takes the mean, or a sample with the given noise, of moments N x 2C x h x w: the mean's channels come first, then
// the logarithms of the variance, clamped to [-30, 20].
func (f *FirstStage) posterior(moments []float32, n int, shape []int, noise []float32) []float32 {
	half := shape[1] / 2 * shape[2] * shape[3]
	z := f.buffer(n * half)
	for i := range n {
		mean, logvar := moments[2*i*half:(2*i+1)*half], moments[(2*i+1)*half:(2*i+2)*half]
		dst := z[i*half : (i+1)*half]
		if noise == nil {
			copy(dst, mean)
			continue
		}
		for j, e := range noise[i*half : (i+1)*half] {
			dst[j] = mean[j] + float32(std(logvar[j])*e)
		}
	}
	return z
}

func (f *FirstStage) scaled(z []float32, on bool) []float32 {
	if !on || f.scale == 1 {
		return z
	}
	out := f.buffer(len(z))
	for i, v := range z {
		out[i] = v * f.scale
	}
	return out
}

func (f *FirstStage) unscaled(z []float32) []float32 {
	if f.scale == 1 {
		return z
	}
	out := f.buffer(len(z))
	inv := 1 / f.scale
	for i, v := range z {
		out[i] = v * inv
	}
	return out
}

func (f *FirstStage) buffer(n int) []float32 {
	if cap(f.latents) < n {
		f.latents = make([]float32, n)
	}
	f.latents = f.latents[:n]
	return f.latents
}

// Decode returns the images, N x 3 x H*f x W*f, about [-1, 1] and not clamped, of n scaled latents of h x w cells. VQ latents
// are quantised first unless q says otherwise.
func (f *FirstStage) Decode(z []float32, n, h, w int, q nn.Quantization) ([]float32, error) {
	z = f.unscaled(z)
	if f.config.Kind == nn.IdentityFirstStage {
		return z, nil
	}
	net, err := f.session.Decoder(n, h, w, q)
	if err != nil {
		return nil, err
	}
	out, err := net.Run(map[string][]float32{"z": z})
	if err != nil {
		return nil, err
	}
	if err := engine.Finite("decoded image", out[0]); err != nil {
		return nil, err
	}
	return out[0], nil
}
