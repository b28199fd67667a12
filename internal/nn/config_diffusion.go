package nn

const (
	targetDiffusion = "ldm.models.diffusion.ddpm.LatentDiffusion"
	targetLayout    = "ldm.models.diffusion.ddpm.Layout2ImgDiffusion"
)

var diffusionTargets = []string{targetDiffusion, targetLayout}

// ConditioningKey is how a condition enters the U-Net.
type ConditioningKey string

// The conditioning keys.
const (
	NoConditioning ConditioningKey = ""
	Concat         ConditioningKey = "concat"    // more channels of the input, after the latent's
	CrossAttn      ConditioningKey = "crossattn" // a context
	Hybrid         ConditioningKey = "hybrid"    // both
	ADM            ConditioningKey = "adm"       // a class number
)

// DiffusionConfig describes the diffusion process of a latent diffusion model and its training.
type DiffusionConfig struct {
	Timesteps        int
	BetaSchedule     string // linear (in the square root), cosine, sqrt_linear, sqrt
	LinearStart      float64
	LinearEnd        float64
	CosineS          float64
	VPosterior       float64
	Parameterization string // eps or x0

	ScaleFactor float64 // the diffusion model's latent is the first stage's times this
	ScaleByStd  bool    // the factor is a buffer of the checkpoint

	ConditioningKey    ConditioningKey // resolved
	CondStageKey       string
	CondStageTrainable bool
	FirstStageKey      string
	Channels           int // of the latent
	ImageSize          int // of the latent, nominal
	UseEMA             bool

	LossType           string // l1 or l2
	LSimpleWeight      float64
	OriginalELBOWeight float64
	LearnLogvar        bool
	LogvarInit         float64
	BaseLearningRate   float64
	Scheduler          *Target
}

// Validate checks the values. Errors are [*FieldError].
func (d DiffusionConfig) Validate() error {
	if err := positive("timesteps", d.Timesteps, "channels", d.Channels, "image_size", d.ImageSize); err != nil {
		return err
	}
	if d.Timesteps > 1<<20 {
		return invalid("timesteps", "is %d, want up to %d", d.Timesteps, 1<<20)
	}
	if err := oneOf("beta_schedule", d.BetaSchedule, "linear", "cosine", "sqrt_linear", "sqrt"); err != nil {
		return err
	}
	if !(d.LinearStart > 0 && d.LinearStart < 1) {
		return invalid("linear_start", "is %v, want more than 0 and less than 1", d.LinearStart)
	}
	if !(d.LinearEnd >= d.LinearStart && d.LinearEnd < 1) {
		return invalid("linear_end", "is %v, want linear_start or more and less than 1", d.LinearEnd)
	}
	if !(d.CosineS > 0) {
		return invalid("cosine_s", "is %v, want more than 0", d.CosineS)
	}
	if d.VPosterior < 0 || d.VPosterior > 1 {
		return invalid("v_posterior", "is %v, want 0 to 1", d.VPosterior)
	}
	if err := oneOf("parameterization", d.Parameterization, "eps", "x0"); err != nil {
		return err
	}
	if !(d.ScaleFactor > 0) {
		return invalid("scale_factor", "is %v, want more than 0", d.ScaleFactor)
	}
	if err := oneOf("loss_type", d.LossType, "l1", "l2"); err != nil {
		return err
	}
	return oneOf("conditioning_key", string(d.ConditioningKey), "", string(Concat), string(CrossAttn), string(Hybrid), string(ADM))
}

func oneOf(key, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return invalid(key, "is %q, want one of %q", value, allowed)
}

// diffusion reads the parameters that are not of one of the parts; the caller reads those and closes the section.
func (s section) diffusion(target string) *DiffusionConfig {
	d := &DiffusionConfig{
		Timesteps: s.integer("timesteps", 1000), BetaSchedule: s.text("beta_schedule", "linear"),
		LinearStart: s.number("linear_start", 1e-4), LinearEnd: s.number("linear_end", 2e-2),
		CosineS: s.number("cosine_s", 8e-3), VPosterior: s.number("v_posterior", 0),
		Parameterization: s.text("parameterization", "eps"),
		ScaleFactor:      s.number("scale_factor", 1), ScaleByStd: s.boolean("scale_by_std", false),
		CondStageKey: s.text("cond_stage_key", "image"), CondStageTrainable: s.boolean("cond_stage_trainable", false),
		FirstStageKey: s.text("first_stage_key", "image"), Channels: s.integer("channels", 3),
		ImageSize: s.integer("image_size", 256), UseEMA: s.boolean("use_ema", true),
		LossType: s.text("loss_type", "l2"), LSimpleWeight: s.number("l_simple_weight", 1),
		OriginalELBOWeight: s.number("original_elbo_weight", 0), LearnLogvar: s.boolean("learn_logvar", false),
		LogvarInit: s.number("logvar_init", 0), Scheduler: s.target("scheduler_config"),
	}
	concat := s.boolean("concat_mode", true)
	switch key := s.text("conditioning_key", ""); {
	case key != "":
		d.ConditioningKey = ConditioningKey(key)
	case concat:
		d.ConditioningKey = Concat
	default:
		d.ConditioningKey = CrossAttn
	}
	s.unsupported("given_betas", "use_positional_encodings", "cond_stage_forward")
	if n := s.integer("num_timesteps_cond", 1); n != 1 {
		s.r.fail(s.at("num_timesteps_cond"), "is %d, only 1 is supported", n)
	}
	s.ignore("ckpt_path", "ignore_keys", "load_only_unet", "monitor", "log_every_t", "clip_denoised")
	if target == targetLayout && d.CondStageKey != "coordinates_bbox" {
		s.r.fail(s.at("cond_stage_key"), "is %q, want coordinates_bbox for this target", d.CondStageKey)
	}
	if s.r.err == nil {
		s.r.invalid(s.path, d.Validate())
	}
	return d
}
