package sample

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// Condition is what a batch is generated from. Unused parts are nil.
type Condition struct {
	Context []float32 // N x Tokens x context_dim, for cross-attention
	Tokens  int
	Concat  []float32 // N x channels x H x W, beside the latent's channels
	Y       []float32 // N class numbers added to the time embedding
}

// DenoiserSpec says what a denoiser is made for.
type DenoiserSpec struct {
	N, H, W int // latents, and the cells of one
	Cond    Condition
	Uncond  *Condition   // what guidance starts from; nil for none
	Config  Config       // guidance and the reuse of features
	Tiles   *TileConfig  // nil: the full frame
	Patches *PatchConfig // nil: the full frame
}

// network predicts the noise of a batch, which may be a doubled one.
type network interface {
	Denoiser
	Pair
}

// unet is the denoiser of a latent diffusion model for one batch.
type unet struct {
	net    runner
	cond   Condition
	n      int
	latent int // channels of the latent
	inputs map[string][]float32
	joined []float32 // latent and concatenated condition
}

// newUNet compiles the U-Net for n latents of h x w cells.
func newUNet(s *engine.Session, n, h, w int, c Condition, r reuse) (*unet, error) {
	cfg := s.Model.UNet.Config
	u := &unet{cond: c, n: n, latent: cfg.OutChannels}
	var err error
	if u.inputs, err = c.inputs(cfg, n, h, w); err != nil {
		return nil, err
	}
	if c.Concat != nil {
		u.joined = make([]float32, n*cfg.InChannels*h*w)
	}
	u.net, err = newRunner(s, n, h, w, c.Tokens, r)
	return u, err
}

// inputs checks a condition of n latents of h x w cells and names those of its parts that are inputs of the U-Net.
func (c Condition) inputs(cfg nn.UNetConfig, n, h, w int) (map[string][]float32, error) {
	in := map[string][]float32{}
	if extra := cfg.InChannels - cfg.OutChannels; len(c.Concat) != n*extra*h*w {
		return nil, fmt.Errorf("the U-Net takes %d channels beside the latent's %d; the concatenated condition holds %d numbers, not those of %d x %d x %d x %d",
			extra, cfg.OutChannels, len(c.Concat), n, extra, h, w)
	}
	if c.Context != nil {
		if want := n * c.Tokens * cfg.ContextDim; len(c.Context) != want {
			return nil, fmt.Errorf("the context holds %d numbers, not those of %d x %d x %d", len(c.Context), n, c.Tokens, cfg.ContextDim)
		}
		in["context"] = c.Context
	}
	if cfg.NumClasses > 0 {
		if len(c.Y) != n {
			return nil, fmt.Errorf("the U-Net is conditioned on classes and %d were given for %d latents", len(c.Y), n)
		}
		in["y"] = c.Y
	}
	return in, nil
}

// Predict implements [Denoiser].
func (u *unet) Predict(x, t, eps []float32) error {
	u.inputs["x"], u.inputs["t"] = x, t
	if u.joined != nil {
		a, b := len(x)/u.n, len(u.cond.Concat)/u.n
		for i := range u.n {
			row := u.joined[i*(a+b) : (i+1)*(a+b)]
			copy(row[copy(row, x[i*a:(i+1)*a]):], u.cond.Concat[i*b:(i+1)*b])
		}
		u.inputs["x"] = u.joined
	}
	out, err := u.net.Run(u.inputs)
	if err != nil {
		return err
	}
	copy(eps, out[0])
	return engine.Finite("predicted noise", eps)
}

// PredictPair implements [Pair] for a denoiser whose condition holds the unconditional half first.
func (u *unet) PredictPair(x, t, eps []float32) error { return u.Predict(x, t, eps) }

// joinConditions puts the unconditional condition before the conditional one, for a doubled batch.
func joinConditions(uncond, cond Condition) (Condition, error) {
	if uncond.Tokens != cond.Tokens || len(uncond.Context) != len(cond.Context) || len(uncond.Concat) != len(cond.Concat) || len(uncond.Y) != len(cond.Y) {
		return Condition{}, fmt.Errorf("guidance: the unconditional condition has another shape than the conditional one")
	}
	join := func(a, b []float32) []float32 {
		if a == nil {
			return nil
		}
		return append(append(make([]float32, 0, len(a)+len(b)), a...), b...)
	}
	return Condition{
		Context: join(uncond.Context, cond.Context), Tokens: cond.Tokens,
		Concat: join(uncond.Concat, cond.Concat), Y: join(uncond.Y, cond.Y),
	}, nil
}

// checkModel says why a model cannot be sampled from.
func checkModel(m *nn.Model, c Config) error {
	switch {
	case m.UNet == nil:
		return fmt.Errorf("%s: the configuration has no U-Net", m.Config.Path)
	case m.Config.Diffusion != nil && m.Config.Diffusion.ConditioningKey == nn.Hybrid:
		return exitcode.Errorf(exitcode.Usage, "%s: conditioning_key hybrid is not supported; concat, crossattn and adm are", m.Config.Path)
	case c.ReuseEvery > 1 && c.ReuseBranch >= m.UNet.Branches():
		return exitcode.Errorf(exitcode.Usage, "reuse.branch: %d is not one of the %d of this model, from 0 on", c.ReuseBranch, m.UNet.Branches())
	}
	return nil
}

// NewDenoiser makes the denoiser of a model for one batch. With a guidance scale other than 1 and an unconditional
// condition, every prediction is one call on the doubled batch, except where an interval leaves guidance out.
func NewDenoiser(s *engine.Session, d DenoiserSpec) (Denoiser, error) {
	m := s.Model
	if err := checkModel(m, d.Config); err != nil {
		return nil, err
	}
	switch {
	case d.Tiles != nil && d.Patches != nil:
		return nil, exitcode.Errorf(exitcode.Usage, "tiles and patches exclude each other")
	case d.Config.ReuseEvery > 1 && (d.Tiles != nil || d.Patches != nil):
		return nil, exitcode.Errorf(exitcode.Usage, "reuse: not with tiles or patches, which would each need features of their own")
	}
	if d.Uncond == nil || d.Config.Guidance == 1 {
		return newNetwork(s, d, d.N, d.Cond)
	}
	both, err := joinConditions(*d.Uncond, d.Cond)
	if err != nil {
		return nil, err
	}
	pair, err := newNetwork(s, d, 2*d.N, both)
	if err != nil {
		return nil, err
	}
	c := d.Config
	g := &Guided{Pair: pair, Scale: c.Guidance, Rescale: c.GuidanceRescale, From: c.GuidanceFrom, To: c.GuidanceTo, T: m.Config.Diffusion.Timesteps}
	if c.interval() {
		if g.Cond, err = newNetwork(s, d, d.N, d.Cond); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// newNetwork makes the network that a batch of n, doubled or not, goes through.
func newNetwork(s *engine.Session, d DenoiserSpec, n int, c Condition) (network, error) {
	switch {
	case d.Tiles != nil:
		return newTiled(s, n, d.H, d.W, c, *d.Tiles)
	case d.Patches != nil:
		return newPatched(s, n, d.H, d.W, c, *d.Patches)
	}
	return newUNet(s, n, d.H, d.W, c, reuse{d.Config.ReuseEvery, d.Config.ReuseBranch})
}

// ModelSchedule is the schedule of a model: that of its configuration, with the tables of the checkpoint where it has them.
func ModelSchedule(m *nn.Model) (*Schedule, error) {
	d := m.Config.Diffusion
	if d == nil {
		return nil, fmt.Errorf("%s: the configuration has no diffusion process", m.Config.Path)
	}
	if d.Parameterization != "eps" {
		return nil, fmt.Errorf("%s: parameterization %s is not supported; only eps is", m.Config.Path, d.Parameterization)
	}
	s, err := NewSchedule(ScheduleConfig{Kind: d.BetaSchedule, Timesteps: d.Timesteps, LinearStart: d.LinearStart, LinearEnd: d.LinearEnd, CosineS: d.CosineS})
	if err != nil {
		return nil, err
	}
	return s, s.UseBuffers(func(name string) ([]float32, bool) { b, ok := m.Schedule[name]; return b, ok })
}
