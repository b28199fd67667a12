package training

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// Config says how a model is trained beyond what its own configuration says.
type Config struct {
	// MinSNR is gamma of min-SNR weighting (Hang et al. 2023): errors are weighted as if no time had a larger signal-to-noise
	// ratio. 0 is none.
	MinSNR float64
	// OffsetNoise is the standard deviation of one number that is added to all noise of a sample's channel. 0 is none.
	OffsetNoise float64
	// Drop is the share of samples whose class or caption is replaced by the null one, for guidance.
	Drop float64
}

// Validate checks ranges.
func (c Config) Validate() error {
	switch {
	case !(c.MinSNR >= 0):
		return exitcode.Errorf(exitcode.Usage, "min-SNR gamma %v is negative", c.MinSNR)
	case !(c.OffsetNoise >= 0 && c.OffsetNoise <= 1):
		return exitcode.Errorf(exitcode.Usage, "offset noise %v is not in [0, 1]", c.OffsetNoise)
	case !(c.Drop >= 0 && c.Drop < 1):
		return exitcode.Errorf(exitcode.Usage, "share of dropped conditions %v is not in [0, 1)", c.Drop)
	}
	return nil
}

// Size is that of a batch.
type Size struct {
	N, H, W int // latents, and the cells of one
	Tokens  int // of a context from a frozen conditioner, 0 without
}

// Objective is the training loss of a latent diffusion model (paper, equation 1 and appendix B; reference: p_losses).
type Objective struct {
	model  *nn.Model
	config Config
	tables tables
	feed   map[string][]float32
	times  []int // of the batch that was fed
}

// LogvarKey is the learned log-variance of each time, where a configuration says learn_logvar.
const LogvarKey = "logvar"

// NewObjective checks that a model can be trained.
func NewObjective(m *nn.Model, c Config) (*Objective, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	fail := func(format string, args ...any) error {
		return exitcode.Errorf(exitcode.Usage, "%s: "+format, append([]any{m.Config.Path}, args...)...)
	}
	switch d := m.Config.Diffusion; {
	case d == nil || m.UNet == nil:
		return nil, fail("describes no latent diffusion model")
	case d.ConditioningKey == nn.Hybrid:
		return nil, fail("conditioning_key hybrid is not supported; concat, crossattn and adm are")
	case m.UNet.Config.Dropout > 0:
		return nil, fail("unet_config.params.dropout is %v; training with dropout is not supported", m.UNet.Config.Dropout)
	case d.CondStageTrainable && !trainable(m):
		return nil, fail("cond_stage_trainable: a conditioner of kind %s has nothing to train", m.Conditioner.Config.Kind)
	}
	t, err := newTables(m, c)
	if err != nil {
		return nil, err
	}
	return &Objective{model: m, config: c, tables: t, feed: map[string][]float32{}}, nil
}

// another is the same objective with buffers of its own.
func (o *Objective) another() *Objective {
	return &Objective{model: o.model, config: o.config, tables: o.tables, feed: map[string][]float32{}}
}

// trainable says whether a conditioner has parameters of its own.
func trainable(m *nn.Model) bool {
	return slices.Contains([]nn.ConditionerKind{nn.ClassEmbedder, nn.BERTEmbedder, nn.SpatialRescaler}, m.Conditioner.Config.Kind) &&
		len(m.Conditioner.Params()) > 0
}

// Learns says whether the conditioner is trained with the U-Net, so that batches bring its input and not its output.
func (o *Objective) Learns() bool { return o.model.Config.Diffusion.CondStageTrainable }

// Params are the parameters that training changes, U-Net first. What no gradient reaches, such as the unused head of a text
// encoder, is not among them and keeps its value, as it does in the reference.
func (o *Objective) Params() ([]ir.Param, error) {
	c := o.model.UNet.Config
	side := c.SizeMultiple()
	s := Size{N: 1, H: side, W: side}
	if c.UseSpatialTransformer && !o.Learns() {
		s.Tokens = 1
	}
	g, _, err := o.forward(s)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, p := range g.Params() {
		used[p.Name] = true
	}
	list := slices.DeleteFunc(o.model.Params(), func(p ir.Param) bool { return !used[p.Name] })
	if o.model.Config.Diffusion.LearnLogvar {
		list = append(list, o.logvar())
	}
	return list, nil
}

// Averaged are those of the parameters that have a moving average: the U-Net's, not the conditioner's (reference: LitEma over
// DiffusionWrapper).
func Averaged(list []ir.Param) []string {
	var names []string
	for _, p := range list {
		if strings.HasPrefix(p.Name, nn.UNetPrefix) {
			names = append(names, p.Name)
		}
	}
	return names
}

// Graph is the objective for batches of a size: the loss, the error of each sample as the value "errors" and, when asked for,
// the gradient of the loss by every parameter. Inputs are those of [Objective.Feed].
func (o *Objective) Graph(s Size, gradients bool) (*engine.Objective, error) {
	g, out, err := o.forward(s)
	if err != nil {
		return nil, err
	}
	list := []*ir.Tensor{out.loss, out.errors}
	obj := &engine.Objective{Losses: []string{"loss"}, Values: []string{"errors"}}
	if gradients {
		var wrt []*ir.Tensor
		for _, p := range g.Params() {
			wrt = append(wrt, g.Param(p.Name, p.Shape...))
			obj.Grads = append(obj.Grads, p.Name)
		}
		grads, err := ir.Grad(out.loss, wrt...)
		if err != nil {
			return nil, err
		}
		list = append(list, grads...)
	}
	obj.Program, err = g.Program(list...)
	return obj, err
}

type outputs struct{ loss, errors *ir.Tensor }

// forward builds the loss.
func (o *Objective) forward(s Size) (g *ir.Graph, out outputs, err error) {
	m, d, u := o.model, o.model.Config.Diffusion, o.model.UNet.Config
	if k := u.SizeMultiple(); s.N < 1 || s.H < 1 || s.W < 1 || s.H%k != 0 || s.W%k != 0 {
		return nil, out, fmt.Errorf("objective: %d latents of %dx%d cells, want multiples of %d", s.N, s.H, s.W, k)
	}
	g = ir.New("objective")
	err = ir.Build(func() {
		latent := []int{s.N, d.Channels, s.H, s.W}
		var context, y *ir.Tensor
		channels := u.InChannels
		mapped := o.Learns() && m.Conditioner.Config.Kind == nn.SpatialRescaler
		if mapped {
			channels = d.Channels
		}
		x := g.Input("x", s.N, channels, s.H, s.W)
		t := g.Input("t", s.N)
		switch {
		case mapped:
			x = ir.Concat(x, o.rescale(g.Input("shares", s.N, m.Conditioner.Config.InChannels, s.H, s.W)))
		case u.UseSpatialTransformer && o.Learns():
			name, shape, err := m.Conditioner.Input(s.N, 1, 1)
			if err != nil {
				panic(err) // kinds without an input have nothing to train, see NewObjective
			}
			context = m.Conditioner.Apply(g.Input(name, shape...))
		case u.UseSpatialTransformer:
			context = g.Input("context", s.N, s.Tokens, u.ContextDim)
		case u.NumClasses > 0:
			y = g.Input("y", s.N)
		}
		eps := m.UNet.Apply(x, t, context, y)
		diff := ir.Sub(eps, g.Input("target", latent...))
		if d.LossType == "l1" {
			diff = ir.Abs(diff)
		} else {
			diff = ir.Square(diff)
		}
		out.errors = ir.Scale(ir.SampleSum(diff), 1/float64(d.Channels*s.H*s.W))
		out.loss = ir.Dot(out.errors, g.Input("weights", s.N))
		if d.LearnLogvar {
			out.loss = ir.Add(out.loss, o.likelihood(out.errors))
		}
	})
	if err != nil {
		return nil, out, fmt.Errorf("objective: %w", err)
	}
	return g, out, nil
}

// logvar is the table of learned log-variances as the graph has it; a checkpoint stores a vector.
func (o *Objective) logvar() ir.Param {
	return ir.Param{Name: LogvarKey, Shape: []int{o.tables.len(), 1}}
}

// likelihood is the simple loss under a Gaussian whose log-variance is learned for each time: the mean of error/exp(logvar) +
// logvar, times l_simple_weight. The weights of min-SNR enter as logarithms.
func (o *Objective) likelihood(errors *ir.Tensor) *ir.Tensor {
	g, n := errors.Graph(), errors.Dim(0)
	p := o.logvar()
	lv := ir.SampleSum(ir.Embed(g.Input("times", n, 1), g.Param(p.Name, p.Shape...)))
	scaled := ir.Dot(errors, ir.Exp(ir.Sub(g.Input("log_weights", n), lv)))
	return ir.Scale(ir.Add(scaled, ir.Sum(lv)), o.tables.lsimple/float64(n))
}

// rescale is the trained part of a rescaler, applied to the share of each label in each cell: halving a one-hot map by box means
// has nothing to train and is done beside the graph.
func (o *Objective) rescale(shares *ir.Tensor) *ir.Tensor {
	p := o.model.Conditioner.Params()
	g := shares.Graph()
	var bias *ir.Tensor
	if len(p) > 1 {
		bias = g.Param(p[1].Name, p[1].Shape...)
	}
	return ir.Conv2D(shares, g.Param(p[0].Name, p[0].Shape...), bias, ir.Same(1))
}
