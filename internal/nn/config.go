package nn

import (
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Config describes a model. A file holds one of: a latent diffusion model, with all parts; a first stage; a U-Net.
type Config struct {
	Path        string // of the file, empty when there is none
	Diffusion   *DiffusionConfig
	UNet        *UNetConfig
	FirstStage  *FirstStageConfig
	Conditioner *ConditionerConfig
	Warnings    []string // what the file says and has no effect
}

// FieldError is an impossible value. Key is the YAML key, with dots, relative to the part that was validated.
type FieldError struct{ Key, Reason string }

func (e *FieldError) Error() string {
	if e.Key == "" {
		return e.Reason
	}
	return e.Key + ": " + e.Reason
}

func invalid(key, format string, args ...any) error {
	return &FieldError{key, fmt.Sprintf(format, args...)}
}

// positive checks pairs of a key and a value.
func positive(pairs ...any) error {
	for i := 0; i < len(pairs); i += 2 {
		if n := pairs[i+1].(int); n < 1 {
			return invalid(pairs[i].(string), "is %d, want 1 or more", n)
		}
	}
	return nil
}

// maxConfig bounds the size of a configuration file in bytes.
const maxConfig = 1 << 20

// LoadConfig reads a configuration in the YAML format of latent-diffusion: nodes of a target and its params. Only what
// describes the model is read; sections for data and trainers are ignored. Errors are of class exitcode.Data and name file,
// line and key.
func LoadConfig(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open model configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("read model configuration: %w", err)
	}
	return ParseConfig(path, data)
}

// ParseConfig is [LoadConfig] for the content of a file; path is for messages.
func ParseConfig(path string, data []byte) (*Config, error) {
	if len(data) > maxConfig {
		return nil, exitcode.Errorf(exitcode.Data, "%s: larger than %d bytes, not a model configuration", path, maxConfig)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, exitcode.With(exitcode.Data, fmt.Errorf("%s: %w", path, err))
	}
	if len(doc.Content) == 0 {
		return nil, exitcode.Errorf(exitcode.Data, "%s: the file is empty", path)
	}
	r := &reader{file: path, lines: map[string]int{}}
	c := &Config{Path: path}
	r.root(c, doc.Content[0])
	if r.err != nil {
		return nil, r.err
	}
	c.Warnings = r.warnings
	return c, nil
}

// root reads the outermost level.
func (r *reader) root(c *Config, n *yaml.Node) {
	top := r.section("", n)
	model, unet := top.get("model"), top.get("unet_config")
	switch {
	case r.err != nil:
	case model != nil:
		r.model(c, "model", model)
	case unet != nil:
		c.UNet = top.unet("unet_config")
	case top.get("target") != nil:
		r.model(c, "", n)
	default:
		r.fail("model", "is missing")
	}
}

// model reads a latent diffusion model or a first stage.
func (r *reader) model(c *Config, path string, n *yaml.Node) {
	known := append(append([]string{}, diffusionTargets...), append(firstStageTargets, targetUNet)...)
	target, params, ok := r.instance(path, n, known)
	if !ok {
		return
	}
	base := params.path
	switch target {
	case targetUNet:
		c.UNet = params.unetParams()
	case targetDiffusion, targetLayout:
		c.Diffusion = params.diffusion(target)
		c.Diffusion.BaseLearningRate = r.section(path, n).number("base_learning_rate", 0)
		c.UNet = params.unet("unet_config")
		c.FirstStage = params.firstStage("first_stage_config")
		c.Conditioner = params.conditioner("cond_stage_config", c.Diffusion)
		params.closed()
		if r.err == nil {
			r.invalid(base, c.crossCheck())
		}
	default:
		c.FirstStage = params.firstStageParams(target)
	}
}

// Validate checks every part and that the parts fit each other. Errors are [*FieldError].
func (c *Config) Validate() error {
	under := func(base string, err error) error {
		var bad *FieldError
		if errors.As(err, &bad) {
			return &FieldError{join(base, bad.Key), bad.Reason}
		}
		return err
	}
	if c.UNet != nil {
		if err := c.UNet.Validate(); err != nil {
			return under("unet_config.params", err)
		}
	}
	if c.FirstStage != nil {
		if err := c.FirstStage.Validate(); err != nil {
			return under("first_stage_config.params", err)
		}
	}
	if c.Diffusion == nil {
		return nil
	}
	if err := c.Diffusion.Validate(); err != nil {
		return err
	}
	if c.UNet == nil || c.FirstStage == nil || c.Conditioner == nil {
		return invalid("", "a latent diffusion model needs a U-Net, a first stage and a conditioner")
	}
	if err := c.Conditioner.Validate(); err != nil {
		return under("cond_stage_config.params", err)
	}
	return c.crossCheck()
}

// crossCheck checks that the parts of a diffusion model fit each other.
func (c *Config) crossCheck() error {
	d, u, f, s := c.Diffusion, c.UNet, c.FirstStage, c.Conditioner
	if f.Kind != IdentityFirstStage && f.EmbedDim != d.Channels {
		return invalid("channels", "is %d, the first stage has embed_dim %d", d.Channels, f.EmbedDim)
	}
	if u.OutChannels != d.Channels {
		return invalid("unet_config.params.out_channels", "is %d, the latent has %d channels", u.OutChannels, d.Channels)
	}
	concat := d.ConditioningKey == Concat || d.ConditioningKey == Hybrid
	crossattn := d.ConditioningKey == CrossAttn || d.ConditioningKey == Hybrid
	in := d.Channels
	if concat && s.Kind == SpatialRescaler {
		in += s.channels()
	}
	switch {
	case concat && s.Kind != SpatialRescaler:
		if u.InChannels <= in {
			return invalid("unet_config.params.in_channels", "is %d, want more than the latent's %d with concatenated conditions", u.InChannels, in)
		}
	case u.InChannels != in:
		return invalid("unet_config.params.in_channels", "is %d, the latent and its condition have %d", u.InChannels, in)
	}
	if crossattn != u.UseSpatialTransformer {
		if crossattn {
			return invalid("unet_config.params.use_spatial_transformer", "must be true for conditioning key %q", d.ConditioningKey)
		}
		return invalid("conditioning_key", "is %q, a U-Net with spatial transformers needs crossattn or hybrid", d.ConditioningKey)
	}
	if (s.Kind == ClassEmbedder || s.Kind == BERTEmbedder) && crossattn && u.ContextDim != s.EmbedDim {
		return invalid("unet_config.params.context_dim", "is %d, the conditioner has %d", u.ContextDim, s.EmbedDim)
	}
	if (d.ConditioningKey == ADM) != (u.NumClasses > 0) {
		return invalid("unet_config.params.num_classes", "and conditioning key adm need each other")
	}
	if s.Kind == FirstStageCond && f.Kind == IdentityFirstStage {
		return invalid("cond_stage_config", "the first stage is the identity; use torch.nn.Identity")
	}
	return nil
}
