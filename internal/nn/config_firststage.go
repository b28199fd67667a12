package nn

// FirstStageKind is the kind of an autoencoder.
type FirstStageKind string

// The kinds of first stages.
const (
	KL                 FirstStageKind = "kl"       // diagonal Gaussian latents
	VQ                 FirstStageKind = "vq"       // latents snapped to a codebook before decoding
	IdentityFirstStage FirstStageKind = "identity" // images are their own latents
)

// The values of attn_type.
const (
	AttnVanilla = "vanilla"
	AttnNone    = "none"
)

const (
	targetVQ          = "ldm.models.autoencoder.VQModel"
	targetVQInterface = "ldm.models.autoencoder.VQModelInterface"
	targetKL          = "ldm.models.autoencoder.AutoencoderKL"
	targetIdentityAE  = "ldm.models.autoencoder.IdentityFirstStage"
)

var firstStageTargets = []string{targetKL, targetVQ, targetVQInterface, targetIdentityAE}

// AutoencoderConfig is a ddconfig.
type AutoencoderConfig struct {
	DoubleZ         bool
	ZChannels       int
	Resolution      int // nominal size of images in pixels; decides where attention goes and nothing else
	InChannels      int
	OutCh           int
	Ch              int
	ChMult          []int
	NumResBlocks    int
	AttnResolutions []int // nominal sizes with attention
	Dropout         float64
	ResampWithConv  bool
	AttnType        string // [AttnVanilla] or [AttnNone]
}

// FirstStageConfig describes an autoencoder.
type FirstStageConfig struct {
	Kind FirstStageKind
	AutoencoderConfig
	EmbedDim int // channels of the latent
	NEmbed   int // VQ: size of the codebook
	Loss     *Target
}

// Factor is the ratio of image size to latent size.
func (c FirstStageConfig) Factor() int {
	if c.Kind == IdentityFirstStage {
		return 1
	}
	return 1 << (len(c.ChMult) - 1)
}

// Validate checks the values. Errors are [*FieldError].
func (c FirstStageConfig) Validate() error {
	d := c.AutoencoderConfig
	dd := func(key string) string { return "ddconfig." + key }
	switch c.Kind {
	case IdentityFirstStage:
		return nil
	case KL, VQ:
	default:
		return invalid("kind", "is %q, want %s, %s or %s", c.Kind, KL, VQ, IdentityFirstStage)
	}
	if c.Kind == KL && !d.DoubleZ {
		return invalid(dd("double_z"), "must be true for a KL first stage")
	}
	if c.Kind == VQ && d.DoubleZ {
		return invalid(dd("double_z"), "must be false for a VQ first stage")
	}
	err := positive("embed_dim", c.EmbedDim, dd("z_channels"), d.ZChannels, dd("resolution"), d.Resolution,
		dd("in_channels"), d.InChannels, dd("out_ch"), d.OutCh, dd("ch"), d.Ch, dd("num_res_blocks"), d.NumResBlocks)
	if err != nil {
		return err
	}
	if c.Kind == VQ && (c.NEmbed < 1 || c.NEmbed > 1<<24) {
		return invalid("n_embed", "is %d, want 1 to %d", c.NEmbed, 1<<24)
	}
	if err := layers(dd("num_res_blocks"), d.NumResBlocks); err != nil {
		return err
	}
	if d.Ch%groups != 0 {
		return invalid(dd("ch"), "is %d, want a multiple of %d, the number of groups of a norm", d.Ch, groups)
	}
	if err := mults(dd("ch_mult"), d.Ch, d.ChMult); err != nil {
		return err
	}
	if err := fraction(dd("dropout"), d.Dropout); err != nil {
		return err
	}
	if d.AttnType != AttnVanilla && d.AttnType != AttnNone {
		return invalid(dd("attn_type"), "is %q, want %s or %s", d.AttnType, AttnVanilla, AttnNone)
	}
	return nil
}

// Bounds of numbers of layers and channels, far above any real model, so that a bad file costs no memory.
const (
	maxLayers   = 1000
	maxLevels   = 16
	maxChannels = 1 << 20
)

func layers(key string, n int) error {
	if n > maxLayers {
		return invalid(key, "is %d, want up to %d", n, maxLayers)
	}
	return nil
}

// mults checks the channel multipliers of the levels.
func mults(key string, ch int, list []int) error {
	if len(list) == 0 || len(list) > maxLevels {
		return invalid(key, "has %d levels, want 1 to %d", len(list), maxLevels)
	}
	for _, m := range list {
		if m < 1 || m > maxChannels/min(ch, maxChannels) {
			return invalid(key, "has the multiplier %d, want 1 to %d", m, maxChannels/min(ch, maxChannels))
		}
	}
	if ch > maxChannels {
		return invalid(key, "%d channels are more than %d", ch, maxChannels)
	}
	return nil
}

func fraction(key string, f float64) error {
	if f < 0 || f >= 1 {
		return invalid(key, "is %v, want 0 or more and less than 1", f)
	}
	return nil
}

func (s section) firstStage(key string) *FirstStageConfig {
	target, params, ok := s.instance(key, firstStageTargets)
	if !ok {
		return nil
	}
	return params.firstStageParams(target)
}

func (s section) firstStageParams(target string) *FirstStageConfig {
	c := &FirstStageConfig{Kind: VQ}
	switch target {
	case targetIdentityAE:
		c.Kind = IdentityFirstStage
		s.ignore("vq_interface")
		s.open()
		return c
	case targetKL:
		c.Kind = KL
	default:
		s.require("n_embed")
		c.NEmbed = s.integer("n_embed", 0)
		s.unsupported("remap")
		s.ignore("sane_index_shape", "batch_resize_range", "scheduler_config", "lr_g_factor", "use_ema")
	}
	s.require("embed_dim", "ddconfig")
	c.EmbedDim = s.integer("embed_dim", 0)
	c.Loss = s.target("lossconfig")
	s.ignore("ckpt_path", "ignore_keys", "image_key", "colorize_nlabels", "monitor")
	s.closed()
	if s.r.err != nil {
		return c
	}
	d := s.r.section(s.at("ddconfig"), s.values["ddconfig"])
	d.require("z_channels", "resolution", "in_channels", "out_ch", "ch", "num_res_blocks", "attn_resolutions")
	d.unsupported("use_linear_attn", "tanh_out", "give_pre_end")
	c.AutoencoderConfig = AutoencoderConfig{
		DoubleZ: d.boolean("double_z", true), ZChannels: d.integer("z_channels", 0), Resolution: d.integer("resolution", 0),
		InChannels: d.integer("in_channels", 0), OutCh: d.integer("out_ch", 0), Ch: d.integer("ch", 0),
		ChMult: d.integers("ch_mult"), NumResBlocks: d.integer("num_res_blocks", 0),
		AttnResolutions: d.integers("attn_resolutions"), Dropout: d.number("dropout", 0),
		ResampWithConv: d.boolean("resamp_with_conv", true), AttnType: d.text("attn_type", AttnVanilla),
	}
	if c.ChMult == nil {
		c.ChMult = []int{1, 2, 4, 8}
	}
	d.open()
	if s.r.err == nil {
		s.r.invalid(s.path, c.Validate())
	}
	return c
}
