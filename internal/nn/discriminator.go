package nn

import "github.com/ldm-batch/ldm-batch/internal/ir"

// DiscriminatorConfig describes a [Discriminator].
type DiscriminatorConfig struct {
	InChannels int  // of the images
	Channels   int  // of the first layer; they double in each of the following ones, up to eight times as many
	Layers     int  // that halve the resolution
	ActNorm    bool // normalisation by learned shifts and scales, which the first batch sets, in place of the batch's statistics
}

// Validate checks the values. Errors are [*FieldError].
func (c DiscriminatorConfig) Validate() error {
	if err := positive("disc_in_channels", c.InChannels, "disc_ndf", c.Channels, "disc_num_layers", c.Layers); err != nil {
		return err
	}
	if c.Channels > maxChannels || c.InChannels > maxChannels {
		return invalid("disc_ndf", "%d channels are more than %d", max(c.Channels, c.InChannels), maxChannels)
	}
	if c.Layers > maxLevels {
		return invalid("disc_num_layers", "is %d, want up to %d", c.Layers, maxLevels)
	}
	return nil
}

// epsBN and discSlope are constants of the discriminator.
const (
	epsBN     = 1e-5
	discSlope = 0.2
)

// Discriminator judges patches of images (Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017):
// it maps images (N,C,H,W) to logits (N,1,h,w) that are high for what looks real.
type Discriminator struct {
	Config DiscriminatorConfig
	keys   []ir.Param
	params []ir.Param
	convs  []conv
	norms  []discNorm // of all convolutions but the first and the last
}

// discNorm is a normalisation: gamma and beta of a batch normalisation with its statistics, or scale and shift.
type discNorm struct{ gamma, beta, mean, variance, counter weight }

// NewDiscriminator makes the module; prefix comes before every parameter name. The configuration must be valid.
func NewDiscriminator(c DiscriminatorConfig, prefix string) *Discriminator {
	d := &Discriminator{Config: c}
	s := scope{prefix, &d.keys}
	at, in := 0, c.InChannels
	layer := func(out, stride int, bias bool) {
		o := ir.Conv{Stride: stride, Top: 1, Left: 1, Bottom: 1, Right: 1}
		k := conv{w: s.at("main.%d", at).weight("weight", out, in, 4, 4), o: o}
		d.params = append(d.params, ir.Param(k.w))
		if bias {
			k.b = s.at("main.%d", at).weight("bias", out)
			d.params = append(d.params, ir.Param(k.b))
		}
		d.convs = append(d.convs, k)
		at, in = at+1, out
	}
	layer(c.Channels, 2, true)
	for i := 1; i <= c.Layers; i++ {
		at++ // the rectifier
		stride := 2
		if i == c.Layers {
			stride = 1
		}
		layer(c.Channels*min(1<<i, 8), stride, c.ActNorm) // the shift of a batch normalisation takes the place of a bias
		d.norms = append(d.norms, s.at("main.%d", at).discNorm(in, c.ActNorm))
		d.params = append(d.params, ir.Param(d.norms[i-1].gamma), ir.Param(d.norms[i-1].beta))
		at++
	}
	at++
	layer(1, 1, true)
	return d
}

func (s scope) discNorm(c int, actNorm bool) discNorm {
	if actNorm {
		n := discNorm{beta: s.weight("loc", 1, c, 1, 1), gamma: s.weight("scale", 1, c, 1, 1)}
		n.counter = s.weight("initialized")
		return n
	}
	n := discNorm{gamma: s.weight("weight", c), beta: s.weight("bias", c), mean: s.weight("running_mean", c), variance: s.weight("running_var", c)}
	n.counter = s.weight("num_batches_tracked")
	return n
}

// Params lists what is trained.
func (d *Discriminator) Params() []ir.Param { return d.params }

// Keys lists the state dict in its order: parameters, running statistics of batch normalisations, and the scalars
// "num_batches_tracked", a count, or "initialized", which is 0 until the first batch.
func (d *Discriminator) Keys() []ir.Param { return d.keys }

// Norm names the state of a normalisation: what a batch changes beside the parameters.
type Norm struct {
	Mean, Variance string // running statistics of a batch normalisation
	Shift, Scale   string // parameters of a shift and scale
	Counter        string // batches seen, or whether shift and scale are set
	Channels       int
}

// Norms lists the normalisations in the order of application.
func (d *Discriminator) Norms() []Norm {
	list := make([]Norm, len(d.norms))
	for i, n := range d.norms {
		list[i] = Norm{Mean: n.mean.Name, Variance: n.variance.Name, Counter: n.counter.Name, Channels: n.gamma.Shape[0]}
		if d.Config.ActNorm {
			list[i] = Norm{Shift: n.beta.Name, Scale: n.gamma.Name, Counter: n.counter.Name, Channels: n.beta.Shape[1]}
		}
	}
	return list
}

// Counts returns the number of values per channel that goes into each normalisation, for a batch of n images of h x w.
func (d *Discriminator) Counts(n, h, w int) []int {
	list := make([]int, len(d.norms))
	for i, c := range d.convs[:len(d.norms)+1] {
		h, w = (h+c.o.Top+c.o.Bottom-c.w.Shape[2])/c.o.Stride+1, (w+c.o.Left+c.o.Right-c.w.Shape[3])/c.o.Stride+1
		if i > 0 {
			list[i-1] = n * h * w
		}
	}
	return list
}

// Train judges images in training: batch normalisations use the statistics of the batch. Beside the logits (N,1,h,w) it returns
// the moments (2C), see [ir.BatchMoments], of what goes into each normalisation, in the order of [Discriminator.Norms].
func (d *Discriminator) Train(x *ir.Tensor) (logits *ir.Tensor, moments []*ir.Tensor) {
	logits = d.apply(x, func(n discNorm, x *ir.Tensor) *ir.Tensor {
		moments = append(moments, ir.BatchMoments(x))
		if d.Config.ActNorm {
			return n.affine(x)
		}
		return ir.BatchNorm(x, n.gamma.in(x), n.beta.in(x), epsBN)
	})
	return logits, moments
}

// Judge judges images outside training: batch normalisations use their running statistics. No gradient flows through those.
func (d *Discriminator) Judge(x *ir.Tensor) *ir.Tensor {
	return d.apply(x, func(n discNorm, x *ir.Tensor) *ir.Tensor {
		if d.Config.ActNorm {
			return n.affine(x)
		}
		return ir.BatchNormGiven(x, n.gamma.in(x), n.beta.in(x), n.mean.in(x), n.variance.in(x), epsBN)
	})
}

func (n discNorm) affine(x *ir.Tensor) *ir.Tensor {
	return ir.ScaleChannels(ir.ShiftChannels(x, n.beta.in(x)), n.gamma.in(x))
}

func (d *Discriminator) apply(x *ir.Tensor, norm func(discNorm, *ir.Tensor) *ir.Tensor) *ir.Tensor {
	last := len(d.convs) - 1
	for i, c := range d.convs[:last] {
		x = c.apply(x)
		if i > 0 {
			x = norm(d.norms[i-1], x)
		}
		x = ir.LeakyReLU(x, discSlope)
	}
	return d.convs[last].apply(x)
}

// bnMomentum is how much a batch moves the running statistics.
const bnMomentum = 0.1

// TrackMoments moves running statistics (C) of a batch normalisation towards the moments (2C) of a batch of count values per
// channel, of which the unbiased variance counts.
func TrackMoments(mean, variance, moments []float32, count int) {
	c := len(mean)
	for i := range c {
		unbiased := float64(moments[c+i]) * float64(count) / float64(max(count-1, 1))
		mean[i] = float32((1-bnMomentum)*float64(mean[i]) + bnMomentum*float64(moments[i]))
		variance[i] = float32((1-bnMomentum)*float64(variance[i]) + bnMomentum*unbiased)
	}
}
