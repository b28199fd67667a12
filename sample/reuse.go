package sample

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/engine"
)

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

// newReused compiles both networks for n samples of h x w cells. every is N, branch the skip connection to cut at.
func newReused(s *engine.Session, n, h, w, tokens, every, branch int) (*reused, error) {
	if every < 1 {
		return nil, fmt.Errorf("reuse: every %d steps", every)
	}
	full, err := s.UNetFull(n, h, w, tokens, branch)
	if err != nil {
		return nil, err
	}
	r := &reused{full: full, every: every, n: n, step: -1, at: -1}
	if every > 1 {
		if r.shallow, err = s.UNetShallow(n, h, w, tokens, branch); err != nil {
			return nil, err
		}
	}
	return r, nil
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
	if s, ok := g.Pair.(interface{ Step(k, steps int) }); ok {
		s.Step(k, steps)
	}
}

// Reuse counts predictions.
func (g *Guided) Reuse() ReuseCount {
	if r, ok := g.Pair.(reuser); ok {
		return r.Reuse()
	}
	return ReuseCount{}
}
