package sample

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/ldm-batch/ldm-batch/internal/engine"
)

// reuse says which steps reuse what; see [Config].
type reuse struct{ every, branch int }

// newRunner compiles the U-Net for n samples of h x w cells.
func newRunner(s *engine.Session, n, h, w, tokens int, r reuse) (runner, error) {
	if r.every > 1 {
		return newReused(s, n, h, w, tokens, r)
	}
	return s.UNet(n, h, w, tokens)
}

// runner is a compiled network: named inputs to outputs, which are valid until its next run.
type runner interface {
	Run(in map[string][]float32) ([][]float32, error)
}

// ReuseCount says how much of a walk was computed and how much was approximated, in predictions of one latent: a step of a
// batch of n with guidance counts 2n.
type ReuseCount struct {
	Full    int // by the whole network
	Shallow int // with the deep feature of an earlier prediction
}

// Add joins the counts of two walks.
func (c ReuseCount) Add(d ReuseCount) ReuseCount {
	return ReuseCount{c.Full + d.Full, c.Shallow + d.Shallow}
}

// reuser counts predictions.
type reuser interface{ Reuse() ReuseCount }

// Reuse is the count of a denoiser; zero when it reuses nothing.
func Reuse(d Denoiser) ReuseCount {
	if r, ok := d.(reuser); ok {
		return r.Reuse()
	}
	return ReuseCount{}
}

// reused runs a U-Net whose deep part is computed in every N-th step only (DeepCache: Ma, Fang and Wang 2024, "Accelerating
// Diffusion Models for Free", uniform 1:N). The result is an approximation.
//
// Steps fall into groups of N, counted from the first step that the walk makes, also where it begins in the middle of the
// schedule. A prediction computes the whole network when this denoiser has not done so in the group yet, and again for every
// further prediction of that same step: the two calls of PLMS's first step and of Heun's steps see the same approximation, and
// what is kept is the later one's feature, which is nearer to the steps that follow. The other steps of the group compute the
// shallow part alone. Guidance that begins in the middle of a group is a denoiser without a feature of the group, so that a
// feature is never older than N-1 steps and always of the same samples. Without calls of Step every prediction is a whole one.
type reused struct {
	full, shallow runner
	every, n      int
	deep          []float32
	step, at      int // the step now, and the one that deep is from; -1 for none
	count         ReuseCount
}

// newReused compiles both networks for n samples of h x w cells.
func newReused(s *engine.Session, n, h, w, tokens int, r reuse) (*reused, error) {
	full, err := s.UNetFull(n, h, w, tokens, r.branch)
	if err != nil {
		return nil, err
	}
	shallow, err := s.UNetShallow(n, h, w, tokens, r.branch)
	if err != nil {
		return nil, err
	}
	return &reused{full: full, shallow: shallow, every: r.every, n: n, step: -1, at: -1}, nil
}

// Step says that the predictions that follow are of the k-th step.
func (r *reused) Step(k int) {
	if k == 0 {
		r.at = -1 // another walk
	}
	r.step = k
}

// Run implements [runner] with the inputs of the whole network.
func (r *reused) Run(in map[string][]float32) ([][]float32, error) {
	if r.step >= 0 && r.at >= 0 && r.at != r.step && r.at/r.every == r.step/r.every {
		r.count.Shallow += r.n
		in["deep"] = r.deep
		return r.shallow.Run(in)
	}
	out, err := r.full.Run(in)
	if err != nil {
		return nil, err
	}
	r.count.Full += r.n
	r.deep, r.at = append(r.deep[:0], out[1]...), r.step
	return out[:1], nil
}

// Step implements [Stepper].
func (u *unet) Step(k, _ int) {
	if r, ok := u.net.(*reused); ok {
		r.Step(k)
	}
}

// Reuse counts predictions.
func (u *unet) Reuse() ReuseCount {
	if r, ok := u.net.(*reused); ok {
		return r.count
	}
	return ReuseCount{}
}

// Step implements [Stepper].
func (g *Guided) Step(k, steps int) {
	for _, d := range []any{g.Pair, g.Cond} {
		if s, ok := d.(Stepper); ok {
			s.Step(k, steps)
		}
	}
}

// Reuse counts predictions.
func (g *Guided) Reuse() ReuseCount {
	var c ReuseCount
	for _, d := range []any{g.Pair, g.Cond} {
		if r, ok := d.(reuser); ok {
			c = c.Add(r.Reuse())
		}
	}
	return c
}

// Reuse counts the predictions of all batches so far; zero without reuse.
func (g *Generator) Reuse() ReuseCount { return g.reused }

// Deviation compares a batch that reuses features with the same batch computed in full.
type Deviation struct {
	RelL2        float64 // |approximation - exact| / |exact| of the latents
	Worst        float64 // the same of the sample with the largest
	Exact, Reuse float64 // seconds in networks, without their compilation
}

// MeasureReuse is [Generator.GenerateLatents] that makes the batch a second time without reuse and says how far the result is from
// that. The other batch is not counted, and comes second, so that what is slow in a first run is not held against it. The noise
// must give the same numbers twice. The result is the caller's.
func (g *Generator) MeasureReuse(ctx context.Context, r Request) ([]float32, Deviation, error) {
	var d Deviation
	start := g.seconds()
	z, err := g.GenerateLatents(ctx, r)
	if err != nil {
		return nil, d, err
	}
	z, d.Reuse = slices.Clone(z), g.seconds()-start
	start = g.seconds()
	other := *g // what others ask of g meanwhile is that with reuse
	other.config.ReuseEvery, other.x = 0, nil
	exact, err := other.GenerateLatents(ctx, r)
	if err != nil {
		return nil, d, fmt.Errorf("without reuse: %w", err)
	}
	d.Exact, d.RelL2 = g.seconds()-start, relL2(z, exact)
	for i, per := 0, len(z)/r.N; i < len(z); i += per {
		d.Worst = max(d.Worst, relL2(z[i:i+per], exact[i:i+per]))
	}
	return z, d, nil
}

// seconds is the time spent in networks.
func (g *Generator) seconds() (sum float64) {
	for _, s := range g.session.Seconds() {
		sum += s
	}
	return sum
}

// relL2 is |got - want| / |want|.
func relL2(got, want []float32) float64 {
	var d, n float64
	for i, w := range want {
		e := float64(got[i]) - float64(w)
		d, n = d+e*e, n+float64(w)*float64(w)
	}
	return math.Sqrt(d / n)
}
