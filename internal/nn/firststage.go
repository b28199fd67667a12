package nn

import "github.com/ldm-batch/ldm-batch/internal/ir"

// FirstStage is an autoencoder between images (N,3,H,W) in [-1,1] and latents (N,embed_dim,H/f,W/f), not scaled.
type FirstStage struct {
	Config    FirstStageConfig
	params    []ir.Param
	encoder   encoder
	decoder   decoder
	codebook  weight // VQ only
	quant     conv
	postQuant conv
}

// NewFirstStage makes the module; prefix comes before every parameter name. The configuration must be valid.
func NewFirstStage(c FirstStageConfig, prefix string) *FirstStage {
	f := &FirstStage{Config: c}
	if c.Kind == IdentityFirstStage {
		return f
	}
	s := scope{prefix, &f.params}
	f.encoder = s.at("encoder").encoder(c.AutoencoderConfig)
	f.decoder = s.at("decoder").decoder(c.AutoencoderConfig)
	z, e := c.ZChannels, c.EmbedDim
	if c.Kind == VQ {
		f.codebook = s.at("quantize.embedding").weight("weight", c.NEmbed, e)
		f.quant = s.at("quant_conv").conv1(z, e)
	} else {
		f.quant = s.at("quant_conv").conv1(2*z, 2*e)
	}
	f.postQuant = s.at("post_quant_conv").conv1(e, z)
	return f
}

// Params lists the parameters in state-dict order.
func (f *FirstStage) Params() []ir.Param { return f.params }

// Encode returns, for images (N,C,H,W) in [-1,1]: the moments (N,2*embed_dim,h,w) of a KL first stage, see
// [ir.GaussianSample]; the latent (N,embed_dim,h,w) of a VQ one before it is quantised, which is what diffusion models work
// on; the image itself of an identity.
func (f *FirstStage) Encode(image *ir.Tensor) *ir.Tensor {
	if f.Config.Kind == IdentityFirstStage {
		return image
	}
	return f.quant.apply(f.encoder.apply(image))
}

// Quantize snaps a VQ latent to the codebook; other kinds return it unchanged.
func (f *FirstStage) Quantize(z *ir.Tensor) *ir.Tensor {
	if f.Config.Kind != VQ {
		return z
	}
	return ir.Quantize(z, f.codebook.in(z))
}

// Codes returns the codebook indices (N,h,w) of a VQ latent. It panics on other kinds.
func (f *FirstStage) Codes(z *ir.Tensor) *ir.Tensor { return ir.CodeIndex(z, f.codebook.in(z)) }

// Codebook returns the VQ codebook (n_embed,embed_dim) as a tensor of the graph that x belongs to.
func (f *FirstStage) Codebook(x *ir.Tensor) *ir.Tensor { return f.codebook.in(x) }

// Decode turns a latent into an image that is not clamped. A VQ latent is not quantised here: see [FirstStage.Quantize].
func (f *FirstStage) Decode(z *ir.Tensor) *ir.Tensor {
	if f.Config.Kind == IdentityFirstStage {
		return z
	}
	return f.decoder.apply(f.postQuant.apply(z))
}

// DecodeFeatures is [FirstStage.Decode] up to the input (N,ch,H,W) of the decoder's last convolution, which [FirstStage.Image]
// applies. It panics on an identity.
func (f *FirstStage) DecodeFeatures(z *ir.Tensor) *ir.Tensor {
	return f.decoder.features(f.postQuant.apply(z))
}

// Image applies the decoder's last convolution.
func (f *FirstStage) Image(features *ir.Tensor) *ir.Tensor { return f.decoder.end.conv.apply(features) }

// LastLayer returns the weight of the decoder's last convolution, at which adversarial training balances its losses.
func (f *FirstStage) LastLayer() ir.Param { return ir.Param(f.decoder.end.conv.w) }
