package training

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// Adversarial is the loss of the discriminator.
type Adversarial string

// The losses of discriminators; that of the autoencoder is the negative mean of the logits with both.
const (
	Hinge   Adversarial = "hinge"
	Vanilla Adversarial = "vanilla" // logistic
)

// Pixel is the difference of an image and its reconstruction.
type Pixel string

// The differences. KL first stages take the absolute one.
const (
	Absolute Pixel = "l1"
	Squared  Pixel = "l2"
)

// Loss is the objective of a first stage. A KL first stage sums the reconstruction's terms over an image, a VQ one takes their mean:
// weights differ by five orders of magnitude.
type Loss struct {
	Pixel      Pixel
	Perceptual float64 // weight of the perceptual distance; 0 does without
	KL         float64 // KL: weight of the divergence from the normal distribution
	Codebook   float64 // VQ: weight of the codebook's terms
	Beta       float64 // VQ: weight of one of those against the other
	// BetaOnCommitment puts Beta on the term that moves latents towards the codebook, as van den Oord et al. do, and not on the one that
	// moves the codebook, as the reference does.
	BetaOnCommitment bool
	LogVar           float64 // KL: log-variance of the reconstruction at the start
	LearnLogVar      bool    // KL: train it. The reference does not, though it has a gradient there

	Discriminator *nn.DiscriminatorConfig // nil: none
	Adversarial   Adversarial
	DiscStart     int64   // number of batches before the adversary has any effect
	DiscFactor    float64 // of its loss, in both passes
	DiscWeight    float64 // of its gradient at the decoder's last layer, against the reconstruction's
	// JudgeEarly runs the discriminator before it has an effect, as the reference does: for about twice the time its terms are logged
	// and its running statistics move. The weights are the same without.
	JudgeEarly bool
}

// DefaultBeta is the reference's.
const DefaultBeta = 0.25

// Validate checks the values for a kind of first stage. Errors are of class exitcode.Data.
func (l Loss) Validate(kind nn.FirstStageKind) error {
	bad := func(format string, args ...any) error {
		return exitcode.Errorf(exitcode.Data, "loss: "+format, args...)
	}
	switch {
	case kind != nn.KL && kind != nn.VQ:
		return bad("a first stage of kind %s has nothing to train", kind)
	case l.Pixel != Absolute && (l.Pixel != Squared || kind == nn.KL):
		return bad("difference of pixels %q is unknown for a first stage of kind %s", l.Pixel, kind)
	case l.Discriminator == nil:
	case l.Adversarial != Hinge && l.Adversarial != Vanilla:
		return bad("adversarial loss %q, want %s or %s", l.Adversarial, Hinge, Vanilla)
	case l.DiscStart < 0:
		return bad("the discriminator starts at batch %d, want 0 or more", l.DiscStart)
	}
	for _, w := range []struct {
		name  string
		value float64
	}{
		{"perceptual weight", l.Perceptual}, {"weight of the divergence", l.KL}, {"weight of the codebook", l.Codebook}, {"beta", l.Beta},
		{"discriminator factor", l.DiscFactor}, {"discriminator weight", l.DiscWeight},
	} {
		if !(w.value >= 0) || math.IsInf(w.value, 1) {
			return bad("%s is %v, want 0 or more", w.name, w.value)
		}
	}
	if math.IsNaN(l.LogVar) || math.Abs(l.LogVar) > 30 {
		return bad("log-variance is %v, want -30 to 30", l.LogVar)
	}
	if l.LearnLogVar && kind != nn.KL {
		return bad("a first stage of kind %s has no log-variance to learn", kind)
	}
	if l.Discriminator != nil {
		if err := l.Discriminator.Validate(); err != nil {
			return exitcode.With(exitcode.Data, fmt.Errorf("loss: %w", err))
		}
	}
	return nil
}

// DefaultLoss is for first stages whose configuration has no lossconfig: what the reference's configurations of first stages say.
func DefaultLoss() Loss {
	l := classLoss()
	l.KL, l.DiscStart, l.DiscWeight = 1e-6, 50001, 0.5
	return l
}

// classLoss is the loss of the reference's classes where their parameters say nothing.
func classLoss() Loss {
	return Loss{
		Pixel: Absolute, Perceptual: 1, KL: 1, Codebook: 1, Beta: DefaultBeta,
		Discriminator: &nn.DiscriminatorConfig{InChannels: 3, Channels: 64, Layers: 3}, Adversarial: Hinge, DiscFactor: 1, DiscWeight: 1,
	}
}

// targetIdentity is the loss of configurations for inference.
const targetIdentity = "torch.nn.Identity"

// lossTargets are the reference's classes, by the kind of first stage that they are for.
var lossTargets = map[string]nn.FirstStageKind{
	"ldm.modules.losses.LPIPSWithDiscriminator":                   nn.KL,
	"ldm.modules.losses.contperceptual.LPIPSWithDiscriminator":    nn.KL,
	"ldm.modules.losses.vqperceptual.VQLPIPSWithDiscriminator":    nn.VQ,
	"taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator": nn.VQ,
}

// LossOf reads the lossconfig of a first stage: one of the reference's classes with its parameters. ok is false when it has none,
// as in configurations for inference. Errors are of class exitcode.Data.
func LossOf(c nn.FirstStageConfig) (l Loss, ok bool, err error) {
	if c.Loss == nil || c.Loss.Target == targetIdentity {
		return Loss{}, false, nil
	}
	kind, known := lossTargets[c.Loss.Target]
	if !known {
		return Loss{}, false, exitcode.Errorf(exitcode.Data, "lossconfig: target %q is unknown", c.Loss.Target)
	}
	if kind != c.Kind {
		return Loss{}, false, exitcode.Errorf(exitcode.Data, "lossconfig: %s is for a first stage of kind %s, this one is %s", c.Loss.Target, kind, c.Kind)
	}
	l = classLoss()
	r := paramReader{params: c.Loss.Params, seen: map[string]bool{}}
	start, has := r.number("disc_start", 0)
	if !has {
		r.fail("disc_start", "is missing")
	}
	l.DiscStart = int64(start)
	if start != math.Trunc(start) || start < 0 || start > 1<<53 {
		r.fail("disc_start", "is %v, want a whole number", start)
	}
	r.ignore("pixelloss_weight", "n_classes") // without effect
	l.Discriminator.Layers = r.whole("disc_num_layers", l.Discriminator.Layers)
	l.Discriminator.InChannels = r.whole("disc_in_channels", l.Discriminator.InChannels)
	l.Discriminator.ActNorm = r.boolean("use_actnorm")
	l.DiscFactor, _ = r.number("disc_factor", l.DiscFactor)
	l.DiscWeight, _ = r.number("disc_weight", l.DiscWeight)
	l.Perceptual, _ = r.number("perceptual_weight", l.Perceptual)
	l.Adversarial = Adversarial(r.text("disc_loss", string(l.Adversarial)))
	if r.boolean("disc_conditional") {
		r.fail("disc_conditional", "is not supported")
	}
	if kind == nn.KL {
		l.KL, _ = r.number("kl_weight", l.KL)
		l.LogVar, _ = r.number("logvar_init", 0)
	} else {
		l.Codebook, _ = r.number("codebook_weight", l.Codebook)
		l.Discriminator.Channels = r.whole("disc_ndf", l.Discriminator.Channels)
		l.Pixel = Pixel(r.text("pixel_loss", string(l.Pixel)))
		if p := r.text("perceptual_loss", "lpips"); p != "lpips" {
			r.fail("perceptual_loss", "is %q, want lpips", p)
		}
	}
	r.finish()
	if r.err == nil {
		r.err = l.Validate(c.Kind)
	}
	return l, r.err == nil, r.err
}

// paramReader reads the params of a target; the first error stays.
type paramReader struct {
	params map[string]any
	seen   map[string]bool
	err    error
}

func (r *paramReader) fail(key, format string, args ...any) {
	if r.err == nil {
		r.err = exitcode.Errorf(exitcode.Data, "lossconfig: params.%s %s", key, fmt.Sprintf(format, args...))
	}
}

func (r *paramReader) get(key string) (any, bool) {
	r.seen[key] = true
	v, ok := r.params[key]
	return v, ok && v != nil
}

func (r *paramReader) ignore(keys ...string) {
	for _, k := range keys {
		r.seen[k] = true
	}
}

func (r *paramReader) number(key string, otherwise float64) (value float64, ok bool) {
	switch v, ok := r.get(key); x := v.(type) {
	case int:
		return float64(x), true
	case float64:
		return x, true
	case string: // YAML takes 1e-6 for a text
		if f, err := strconv.ParseFloat(x, 64); err == nil {
			return f, true
		}
		r.fail(key, "is %q, want a number", x)
	default:
		if ok {
			r.fail(key, "is %v, want a number", v)
		}
	}
	return otherwise, false
}

func (r *paramReader) whole(key string, otherwise int) int {
	f, _ := r.number(key, float64(otherwise))
	if f != math.Trunc(f) || math.Abs(f) > 1<<30 {
		r.fail(key, "is %v, want a whole number", f)
		return otherwise
	}
	return int(f)
}

func (r *paramReader) boolean(key string) bool {
	v, ok := r.get(key)
	b, is := v.(bool)
	if ok && !is {
		r.fail(key, "is %v, want true or false", v)
	}
	return b
}

func (r *paramReader) text(key, otherwise string) string {
	v, ok := r.get(key)
	if !ok {
		return otherwise
	}
	s, is := v.(string)
	if !is {
		r.fail(key, "is %v, want a text", v)
	}
	return strings.TrimSpace(s)
}

// finish refuses parameters that nothing asked for.
func (r *paramReader) finish() {
	for _, key := range slices.Sorted(maps.Keys(r.params)) {
		if !r.seen[key] {
			r.fail(key, "is unknown")
		}
	}
}
