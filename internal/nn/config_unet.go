package nn

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

const targetUNet = "ldm.modules.diffusionmodules.openaimodel.UNetModel"

// UNetConfig describes a U-Net.
type UNetConfig struct {
	InChannels            int
	OutChannels           int
	ModelChannels         int
	ChannelMult           []int
	NumResBlocks          []int // one for each level
	AttentionResolutions  []int // downsampling factors with attention
	Dropout               float64
	ConvResample          bool
	NumClasses            int // 0: no class embedding
	NumHeads              int // -1: from NumHeadChannels
	NumHeadChannels       int // -1: from NumHeads
	NumHeadsUpsample      int // -1: as NumHeads
	UseScaleShiftNorm     bool
	ResblockUpdown        bool
	UseNewAttentionOrder  bool
	UseSpatialTransformer bool
	TransformerDepth      int
	ContextDim            int
	Legacy                bool
}

// SizeMultiple is what height and width of the input must be multiples of.
func (c UNetConfig) SizeMultiple() int { return 1 << (len(c.ChannelMult) - 1) }

// heads is the number of attention heads at ch channels, on the way down and in the middle or on the way up.
func (c UNetConfig) heads(ch int, up bool) int {
	switch {
	case c.NumHeadChannels != -1:
		return ch / c.NumHeadChannels
	case up && c.Legacy && !c.UseSpatialTransformer && c.NumHeadsUpsample != -1:
		// Otherwise the width of a head is given, and the number for the way up has no effect.
		return c.NumHeadsUpsample
	}
	return c.NumHeads
}

// Validate checks the values. Errors are [*FieldError].
func (c UNetConfig) Validate() error {
	if err := positive("in_channels", c.InChannels, "out_channels", c.OutChannels, "model_channels", c.ModelChannels); err != nil {
		return err
	}
	if c.ModelChannels%groups != 0 {
		return invalid("model_channels", "is %d, want a multiple of %d, the number of groups of a norm", c.ModelChannels, groups)
	}
	if err := mults("channel_mult", c.ModelChannels, c.ChannelMult); err != nil {
		return err
	}
	if c.ChannelMult[0] != 1 {
		return invalid("channel_mult", "begins with %d, want 1: the last convolution takes model_channels channels", c.ChannelMult[0])
	}
	if len(c.NumResBlocks) != len(c.ChannelMult) {
		return invalid("num_res_blocks", "has %d numbers for %d levels", len(c.NumResBlocks), len(c.ChannelMult))
	}
	for _, n := range c.NumResBlocks {
		if err := positive("num_res_blocks", n); err != nil {
			return err
		}
		if err := layers("num_res_blocks", n); err != nil {
			return err
		}
	}
	if err := fraction("dropout", c.Dropout); err != nil {
		return err
	}
	if c.NumClasses < 0 || c.NumClasses > 1<<24 {
		return invalid("num_classes", "is %d, want 1 to %d", c.NumClasses, 1<<24)
	}
	if c.UseSpatialTransformer {
		if err := positive("context_dim", c.ContextDim, "transformer_depth", c.TransformerDepth); err != nil {
			return err
		}
		if err := layers("transformer_depth", c.TransformerDepth); err != nil {
			return err
		}
	} else if c.ContextDim != 0 {
		return invalid("context_dim", "needs use_spatial_transformer")
	}
	return c.validateHeads()
}

func (c UNetConfig) validateHeads() error {
	if c.NumHeads == -1 && c.NumHeadChannels == -1 {
		return invalid("num_heads", "or num_head_channels must be given")
	}
	key, n := "num_heads", c.NumHeads
	if c.NumHeadChannels != -1 {
		key, n = "num_head_channels", c.NumHeadChannels
	}
	if err := positive(key, n); err != nil {
		return err
	}
	if u := c.NumHeadsUpsample; u < 1 && u != -1 {
		return invalid("num_heads_upsample", "is %d, want 1 or more, or -1", u)
	}
	for level, m := range c.ChannelMult {
		ch := c.ModelChannels * m
		if level < len(c.ChannelMult)-1 && !slices.Contains(c.AttentionResolutions, 1<<level) {
			continue
		}
		if ch%n != 0 {
			return invalid(key, "is %d, which does not divide the %d channels of a level with attention", n, ch)
		}
		if h := c.heads(ch, true); ch%h != 0 {
			return invalid("num_heads_upsample", "is %d, which does not divide the %d channels of a level with attention", h, ch)
		}
	}
	return nil
}

func (s section) unet(key string) *UNetConfig {
	_, params, ok := s.instance(key, []string{targetUNet})
	if !ok {
		return nil
	}
	return params.unetParams()
}

func (s section) unetParams() *UNetConfig {
	s.require("in_channels", "out_channels", "model_channels", "num_res_blocks", "attention_resolutions")
	s.ignore("image_size", "use_checkpoint", "use_fp16")
	s.unsupported("n_embed")
	if d := s.integer("dims", 2); d != 2 {
		s.r.fail(s.at("dims"), "is %d, only 2 is supported", d)
	}
	c := &UNetConfig{
		InChannels: s.integer("in_channels", 0), OutChannels: s.integer("out_channels", 0),
		ModelChannels: s.integer("model_channels", 0), ChannelMult: s.integers("channel_mult"),
		AttentionResolutions: s.integers("attention_resolutions"), Dropout: s.number("dropout", 0),
		ConvResample: s.boolean("conv_resample", true), NumClasses: s.integer("num_classes", 0),
		NumHeads: s.integer("num_heads", -1), NumHeadChannels: s.integer("num_head_channels", -1),
		NumHeadsUpsample:  s.integer("num_heads_upsample", -1),
		UseScaleShiftNorm: s.boolean("use_scale_shift_norm", false), ResblockUpdown: s.boolean("resblock_updown", false),
		UseNewAttentionOrder:  s.boolean("use_new_attention_order", false),
		UseSpatialTransformer: s.boolean("use_spatial_transformer", false),
		TransformerDepth:      s.integer("transformer_depth", 1), Legacy: s.boolean("legacy", true),
	}
	c.ContextDim = s.single("context_dim")
	if c.ChannelMult == nil {
		c.ChannelMult = []int{1, 2, 4, 8}
	}
	if n := s.get("num_res_blocks"); n != nil && n.Kind == yaml.SequenceNode {
		c.NumResBlocks = s.integers("num_res_blocks")
	} else {
		c.NumResBlocks = slices.Repeat([]int{s.integer("num_res_blocks", 0)}, len(c.ChannelMult))
	}
	s.closed()
	if s.r.err == nil {
		s.r.invalid(s.path, c.Validate())
	}
	return c
}

// single reads a whole number that may be written as a list of one.
func (s section) single(key string) int {
	n := s.get(key)
	if n == nil || n.Kind != yaml.SequenceNode {
		return s.integer(key, 0)
	}
	list := s.integers(key)
	if len(list) != 1 {
		s.r.fail(s.at(key), "has %d numbers, want one", len(list))
		return 0
	}
	return list[0]
}
