package training

import (
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/lpips"
)

// Prefixes of the loss in the state dict of a first stage.
const (
	lossPrefix          = "loss."
	logVarKey           = lossPrefix + "logvar"
	perceptualPrefix    = lossPrefix + "perceptual_loss."
	discriminatorPrefix = lossPrefix + "discriminator."
)

// network is the modules of a training and what is made of them.
type network struct {
	loss          Loss
	stage         *nn.FirstStage
	discriminator *nn.Discriminator // nil: none
	perceptual    bool              // whether there are weights of the perceptual distance
}

func newNetwork(c nn.FirstStageConfig, l Loss, perceptual bool) *network {
	m := &network{loss: l, stage: nn.NewFirstStage(c, ""), perceptual: perceptual && l.Perceptual > 0}
	if l.Discriminator != nil {
		m.discriminator = nn.NewDiscriminator(*l.Discriminator, discriminatorPrefix)
	}
	return m
}

func (m *network) kl() bool { return m.stage.Config.Kind == nn.KL }

// logVar is the parameter of a KL first stage's loss, a scalar in the state dict.
var logVar = ir.Param{Name: logVarKey, Shape: []int{1}}

// params lists what has a gradient: the autoencoder, its loss's log-variance, the discriminator.
func (m *network) params() []ir.Param {
	list := append([]ir.Param{}, m.stage.Params()...)
	if m.kl() {
		list = append(list, logVar)
	}
	if m.discriminator != nil {
		list = append(list, m.discriminator.Params()...)
	}
	return list
}

func names(list []ir.Param) []string {
	s := make([]string, len(list))
	for i, p := range list {
		s[i] = p.Name
	}
	return s
}

// tensors asks a graph for parameters.
func tensors(g *ir.Graph, list []ir.Param) []*ir.Tensor {
	t := make([]*ir.Tensor, len(list))
	for i, p := range list {
		t[i] = g.Param(p.Name, p.Shape...)
	}
	return t
}

// batch is the size of a batch of images.
type batch struct{ n, h, w int }

// image adds the input of images.
func (m *network) image(g *ir.Graph, b batch) *ir.Tensor {
	return g.Input("image", b.n, m.stage.Config.InChannels, b.h, b.w)
}

// encode returns the latents that are decoded in training, and the term of the bottleneck: the divergence of a batch from the normal
// distribution, a mean over its samples, or the codebook's. A KL first stage takes noise of the latents' shape; without it the mode
// is decoded.
func (m *network) encode(image *ir.Tensor, noisy bool) (z, term *ir.Tensor) {
	z = m.stage.Encode(image)
	if m.kl() {
		term = ir.Scale(ir.GaussianKL(z), 1/float64(z.Dim(0)))
		if !noisy {
			return ir.GaussianMode(z), term
		}
		return ir.GaussianSample(z, z.Graph().Input("noise", z.Dim(0), z.Dim(1)/2, z.Dim(2), z.Dim(3))), term
	}
	e := ir.Embed(m.stage.Codes(z), m.stage.Codebook(z))
	latent, code := ir.MeanSquare(ir.Detach(e), z), ir.MeanSquare(e, ir.Detach(z))
	if m.loss.BetaOnCommitment {
		latent = ir.Scale(latent, m.loss.Beta)
	} else {
		code = ir.Scale(code, m.loss.Beta)
	}
	return ir.Add(z, ir.Detach(ir.Sub(e, z))), ir.Add(latent, code)
}

// bottleneck is the weight of the bottleneck's term.
func (m *network) bottleneck() float64 {
	if m.kl() {
		return m.loss.KL
	}
	return m.loss.Codebook
}

// bottleneckTerm is what the reference logs the term as.
func (m *network) bottleneckTerm() string {
	if m.kl() {
		return "kl_loss"
	}
	return "quant_loss"
}

// reconstruction compares images with their reconstructions: the negative log-likelihood, and for the log the mean difference with
// the perceptual distance and the mean perceptual distance.
//
// The distance of an image counts at each of its pixels, as the reference has it.
func (m *network) reconstruction(image, rec *ir.Tensor) (nll, mean, perceptual *ir.Tensor) {
	diff := ir.Sub(image, rec)
	if m.loss.Pixel == Squared {
		diff = ir.Square(diff)
	} else {
		diff = ir.Abs(diff)
	}
	each := image.Dim(1) * image.Dim(2) * image.Dim(3)
	mean = ir.Mean(diff)
	if m.perceptual {
		d, _ := lpips.Distance(image, rec, perceptualPrefix)
		perceptual = ir.Mean(d)
		mean = ir.Add(mean, ir.Scale(perceptual, m.loss.Perceptual))
	}
	if !m.kl() {
		return mean, mean, perceptual
	}
	logvar := ir.Sum(tensors(image.Graph(), []ir.Param{logVar})[0])
	return ir.Scale(ir.Add(ir.ScaleBy(mean, ir.Exp(ir.Scale(logvar, -1))), logvar), float64(each)), mean, perceptual
}
