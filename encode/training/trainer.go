package training

import (
	"errors"
	"fmt"
	"math"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/lpips"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// Term is a logged number. Names are the reference's, without its "train/".
type Term struct {
	Name  string
	Value float64
}

// Log is the terms of a batch, in the order in which the reference makes them.
type Log []Term

// Value returns a term.
func (l Log) Value(name string) (float64, bool) {
	for _, t := range l {
		if t.Name == name {
			return t.Value, true
		}
	}
	return 0, false
}

// Options are what a [Trainer] is made of.
type Options struct {
	Stage      nn.FirstStageConfig
	Loss       Loss
	Perceptual *lpips.Model // nil: without the perceptual distance, whatever its weight
	Backend    plan.Backend
	Memory     int64 // bytes of activations above which values are dropped and computed again; 0: no limit
}

// Trainer trains a first stage. Its weights are zero until [Trainer.Initialize], [Trainer.Load] or [Trainer.Restore].
type Trainer struct {
	net        *network
	perceptual *lpips.Model // with the prefix of the state dict
	params     *engine.Params
	training   *engine.Training
	norms      []normState
	steps      int64
	stageNames []string // what the first optimiser moves
	discNames  []string // what the second one moves
	noise      []float32
	losses     map[string][]string // names by objective
	memory     int64               // budget of activations
}

// normState is what batches change in a normalisation of the discriminator beside its parameters.
type normState struct {
	nn.Norm
	mean, variance []float32
	counter        int64 // batches seen, or 1 when shift and scale are set
}

// New makes a trainer. Errors of the options are of class exitcode.Data.
func New(o Options) (*Trainer, error) {
	if err := o.Stage.Validate(); err != nil {
		return nil, exitcode.With(exitcode.Data, fmt.Errorf("first stage: %w", err))
	}
	if err := o.Loss.Validate(o.Stage.Kind); err != nil {
		return nil, err
	}
	if d := o.Loss.Discriminator; d != nil && d.InChannels != o.Stage.OutCh {
		return nil, exitcode.Errorf(exitcode.Data, "loss: the discriminator takes %d channels, the first stage makes %d", d.InChannels, o.Stage.OutCh)
	}
	if o.Stage.InChannels != o.Stage.OutCh {
		return nil, exitcode.Errorf(exitcode.Data, "first stage: images have %d channels, reconstructions %d", o.Stage.InChannels, o.Stage.OutCh)
	}
	if o.Stage.Dropout > 0 {
		return nil, exitcode.Errorf(exitcode.Data, "first stage: ddconfig.dropout: is %v, training without dropout only", o.Stage.Dropout)
	}
	t := &Trainer{net: newNetwork(o.Stage, o.Loss, o.Perceptual != nil), losses: map[string][]string{}, memory: o.Memory}
	var frozen plan.WeightSource
	if t.net.perceptual {
		if o.Stage.InChannels != 3 {
			return nil, exitcode.Errorf(exitcode.Data, "loss: the perceptual distance takes images of 3 channels, not %d", o.Stage.InChannels)
		}
		t.perceptual = o.Perceptual.Prefixed(perceptualPrefix)
		frozen = t.perceptual
	}
	var err error
	if t.params, err = engine.NewParams(o.Backend, t.net.params()); err != nil {
		return nil, err
	}
	t.training = engine.NewTraining(t.params, frozen, o.Backend, o.Memory)
	t.stageNames = names(t.net.stage.Params())
	if o.Loss.LearnLogVar {
		t.stageNames = append(t.stageNames, logVarKey)
	}
	if t.net.discriminator != nil {
		t.discNames = names(t.net.discriminator.Params())
		for _, n := range t.net.discriminator.Norms() {
			s := normState{Norm: n}
			if n.Mean != "" {
				s.mean, s.variance = make([]float32, n.Channels), make([]float32, n.Channels)
			}
			t.norms = append(t.norms, s)
		}
	}
	return t, nil
}

// Close frees the parameters and all that was compiled.
func (t *Trainer) Close() {
	t.training.Close()
	t.params.Close()
}

// Steps is the number of batches that were made.
func (t *Trainer) Steps() int64 { return t.steps }

// Params are the parameters: the autoencoder's, the log-variance of its loss, the discriminator's.
func (t *Trainer) Params() *engine.Params { return t.params }

// Perceptual says whether the perceptual distance is part of the loss.
func (t *Trainer) Perceptual() bool { return t.net.perceptual }

// LatentShape is the shape of the noise for a batch of n images of h x w.
func (t *Trainer) LatentShape(n, h, w int) []int {
	f := t.net.stage.Config.Factor()
	return []int{n, t.net.stage.Config.EmbedDim, h / f, w / f}
}

// Rates are the learning rates of the two optimisers. The reference multiplies that of the autoencoder of a VQ first stage by
// lr_g_factor, 1 by default.
type Rates struct{ Stage, Discriminator float64 }

// Adam's constants in the reference.
const (
	beta1   = 0.5
	beta2   = 0.9
	adamEps = 1e-8
)

// Step makes both passes of a batch of n images of h x w, row-major (N,C,H,W) in [-1,1]. noise fills the normal noise of a pass, 0 or
// 1, of [Trainer.LatentShape]; a VQ first stage does not ask for it. An error leaves the pass that failed without effect.
func (t *Trainer) Step(images []float32, n, h, w int, noise func(pass int, dst []float32), r Rates) (Log, error) {
	b := batch{n, h, w}
	if err := t.check(images, b); err != nil {
		return nil, err
	}
	factor := 0.0
	if t.steps >= t.net.loss.DiscStart {
		factor = t.net.loss.DiscFactor
	}
	in := map[string][]float32{"image": images, inputFactor: {float32(factor)}}
	draw := func(pass int) {
		if t.net.kl() {
			shape := t.LatentShape(n, h, w)
			if size := shape[0] * shape[1] * shape[2] * shape[3]; len(t.noise) != size {
				t.noise = make([]float32, size)
			}
			noise(pass, t.noise)
			in["noise"] = t.noise
		}
	}
	draw(0)
	if err := t.setShiftAndScale(b, in); err != nil {
		return nil, err
	}
	// Without effect of the discriminator its gradients and moments are zero: to leave it out changes no weight.
	judged := t.net.discriminator != nil && (factor != 0 || t.net.loss.JudgeEarly)
	objective, name := t.net.unjudged, "generator alone"
	if judged {
		objective, name = t.net.judged, "generator"
	}
	step, losses, err := t.run(name, b, in, objective)
	if err != nil {
		return nil, err
	}
	log := t.generatorLog(losses, factor)
	if err := t.update(r.Stage, t.stageNames); err != nil {
		return nil, err
	}
	if judged {
		counts := t.counts(b)
		t.track(step, momentsFake, counts)
		draw(1)
		step, losses, err := t.run("critic", b, in, t.net.critic)
		if err != nil {
			return nil, err
		}
		log = append(log, criticLog(losses)...)
		if err := t.update(r.Discriminator, t.discNames); err != nil {
			return nil, err
		}
		t.track(step, momentsReal, counts)
		t.track(step, momentsFake, counts)
	}
	t.steps++
	return log, nil
}

// Check looks for a parameter, a running statistic or a gradient of the last pass that is not finite; the error of class internal
// names it.
func (t *Trainer) Check() error {
	for _, p := range t.params.List() {
		if err := finite(p.Name, t.params.Data(p.Name)); err != nil {
			return err
		}
	}
	for _, n := range t.norms {
		if err := errors.Join(finite(n.Mean, n.mean), finite(n.Variance, n.variance)); err != nil {
			return err
		}
	}
	_, err := t.params.GradNorm()
	return err
}

func finite(name string, values []float32) error {
	for _, v := range values {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return exitcode.Errorf(exitcode.Internal, "parameter %s is not finite", name)
		}
	}
	return nil
}

// Memory is what a step with n images of h x w takes beside parameters and packed weights. The passes run in turns.
func (t *Trainer) Memory(n, h, w int) (int64, error) {
	objectives := []func(batch) (*engine.Objective, error){t.net.unjudged}
	if t.net.discriminator != nil {
		objectives = []func(batch) (*engine.Objective, error){t.net.judged, t.net.critic}
	}
	var m engine.Memory
	for _, build := range objectives {
		o, err := build(batch{n, h, w})
		if err != nil {
			return 0, err
		}
		more, err := engine.MemoryOf(o, t.memory)
		if err != nil {
			return 0, err
		}
		m = m.Beside(more)
	}
	return m.Total(), nil
}

func (t *Trainer) check(images []float32, b batch) error {
	if f := t.net.stage.Config.Factor(); b.n < 1 || b.h < f || b.w < f || b.h%f != 0 || b.w%f != 0 {
		return exitcode.Errorf(exitcode.Data, "batch of %d images of %dx%d (height x width), want sizes that are multiples of %d", b.n, b.h, b.w, f)
	}
	if want := b.n * t.net.stage.Config.InChannels * b.h * b.w; len(images) != want {
		return fmt.Errorf("batch of %d images of %dx%d (height x width): %d values, want %d", b.n, b.h, b.w, len(images), want)
	}
	return nil
}

// run runs an objective on fresh gradients and checks its losses.
func (t *Trainer) run(name string, b batch, in map[string][]float32, build func(batch) (*engine.Objective, error)) (*engine.Step, map[string]float64, error) {
	key := fmt.Sprint(name, " ", b.n, " ", b.h, " ", b.w)
	step, err := t.training.Compile(key, func() (*engine.Objective, error) {
		o, err := build(b)
		if err == nil {
			t.losses[name] = o.Losses
		}
		return o, err
	})
	if err != nil {
		return nil, nil, err
	}
	losses := t.losses[name]
	t.params.ZeroGrad()
	values, err := step.Run(in)
	if err != nil {
		return nil, nil, err
	}
	byName := make(map[string]float64, len(losses))
	for i, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, nil, exitcode.Errorf(exitcode.Internal, "%s is not finite", losses[i])
		}
		byName[losses[i]] = v
	}
	return step, byName, nil
}

// update moves parameters, once their gradients are known to be finite.
func (t *Trainer) update(rate float64, names []string) error {
	if _, err := t.params.GradNorm(names...); err != nil {
		return err
	}
	t.params.Update(plan.Adam{Rate: rate, Beta1: beta1, Beta2: beta2, Eps: adamEps, Step: int(t.steps) + 1}, names...)
	return nil
}

// generatorLog adds the total to the terms of the first pass.
func (t *Trainer) generatorLog(losses map[string]float64, factor float64) Log {
	bottleneck := t.net.bottleneckTerm()
	total := losses[termNLL] + t.net.bottleneck()*losses[bottleneck] + losses[termWeight]*factor*losses[termGenerator]
	log := Log{{"aeloss", total}, {"total_loss", total}}
	add := func(names ...string) {
		for _, name := range names {
			if v, ok := losses[name]; ok {
				log = append(log, Term{name, v})
			}
		}
	}
	if t.net.kl() {
		log = append(log, Term{"logvar", float64(t.params.Data(logVarKey)[0])})
	}
	add(bottleneck, termNLL, termRec, termPerceptual)
	if _, ok := losses[termWeight]; ok {
		add(termWeight)
		log = append(log, Term{inputFactor, factor})
		add(termGenerator)
	}
	return log
}

// criticLog is the terms of the second pass.
func criticLog(losses map[string]float64) Log {
	return Log{{"discloss", losses[termDisc]}, {termDisc, losses[termDisc]}, {termReal, losses[termReal]}, {termFake, losses[termFake]}}
}

// counts are the values per channel that go into the normalisations of the discriminator.
func (t *Trainer) counts(b batch) []int {
	return t.net.discriminator.Counts(b.n, b.h, b.w)
}

// track moves running statistics by the moments that a pass found.
func (t *Trainer) track(step *engine.Step, moments string, counts []int) {
	for i := range t.norms {
		if n := &t.norms[i]; n.mean != nil {
			nn.TrackMoments(n.mean, n.variance, step.Value(fmt.Sprint(moments, i)), counts[i])
			n.counter++
		}
	}
}

// setShiftAndScale makes the outputs of normalisations by shift and scale standard normal on the first batch, one after the other
// since each one changes what the next one sees.
func (t *Trainer) setShiftAndScale(b batch, in map[string][]float32) error {
	for i := range t.norms {
		n := &t.norms[i]
		if n.Shift == "" || n.counter != 0 {
			continue
		}
		step, _, err := t.run("initial", b, in, t.net.initial)
		if err != nil {
			return err
		}
		moments, count := step.Value(fmt.Sprint(momentsFake, i)), float64(t.counts(b)[i])
		shift, scale := t.params.Data(n.Shift), t.params.Data(n.Scale)
		for c := range shift {
			deviation := math.Sqrt(float64(moments[n.Channels+c]) * count / max(count-1, 1))
			shift[c], scale[c] = -moments[c], float32(1/(deviation+actNormEps))
		}
		t.params.Changed(n.Shift, n.Scale)
		n.counter = 1
	}
	return nil
}

// actNormEps is added to a standard deviation before it divides.
const actNormEps = 1e-6

// Validation is what [Trainer.Validate] measures.
type Validation struct {
	Log            Log
	Reconstruction []float32 // (N,C,H,W), not clamped; valid until the next call
}

// Validate reconstructs images, without noise and without the discriminator, and measures the terms that do not need it.
func (t *Trainer) Validate(images []float32, n, h, w int) (*Validation, error) {
	b := batch{n, h, w}
	if err := t.check(images, b); err != nil {
		return nil, err
	}
	step, losses, err := t.run("validation", b, map[string][]float32{"image": images}, t.net.validation)
	if err != nil {
		return nil, err
	}
	v := &Validation{Reconstruction: step.Value(reconstruction)}
	for _, name := range t.losses["validation"] {
		v.Log = append(v.Log, Term{name, losses[name]})
	}
	return v, nil
}
