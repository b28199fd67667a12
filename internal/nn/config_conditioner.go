package nn

import "go.yaml.in/yaml/v3"

// ConditionerKind is what a conditioner computes.
type ConditionerKind string

// The kinds of conditioners.
const (
	Unconditional   ConditionerKind = "unconditional"
	IdentityCond    ConditionerKind = "identity"    // the condition is used as it is
	FirstStageCond  ConditionerKind = "first-stage" // images encoded by the model's own first stage
	ClassEmbedder   ConditionerKind = "class"
	BERTEmbedder    ConditionerKind = "bert"
	SpatialRescaler ConditionerKind = "rescaler"
)

const (
	targetClass        = "ldm.modules.encoders.modules.ClassEmbedder"
	targetBERT         = "ldm.modules.encoders.modules.BERTEmbedder"
	targetRescaler     = "ldm.modules.encoders.modules.SpatialRescaler"
	targetIdentityCond = "torch.nn.Identity"
	isUnconditional    = "__is_unconditional__"
	isFirstStage       = "__is_first_stage__"
)

// ConditionerConfig describes a conditioner. Fields of other kinds are zero.
type ConditionerConfig struct {
	Kind     ConditionerKind
	EmbedDim int // width of the context: embed_dim of a class embedder, n_embed of a BERT embedder

	NClasses int    // ClassEmbedder, with a null class if the model was trained with one
	Key      string // ClassEmbedder

	NLayer       int // BERTEmbedder
	VocabSize    int
	MaxSeqLen    int
	UseTokenizer bool // the input is text; otherwise it is token numbers

	NStages     int // SpatialRescaler: how often height and width are halved
	InChannels  int
	OutChannels int // 0: no mapping of channels
	Bias        bool
}

// channels is the number of channels of a rescaled map.
func (c ConditionerConfig) channels() int {
	if c.OutChannels > 0 {
		return c.OutChannels
	}
	return c.InChannels
}

// Validate checks the values. Errors are [*FieldError].
func (c ConditionerConfig) Validate() error {
	switch c.Kind {
	case Unconditional, IdentityCond, FirstStageCond:
		return nil
	case ClassEmbedder:
		if c.NClasses > 1<<24 {
			return invalid("n_classes", "is %d, want up to %d", c.NClasses, 1<<24)
		}
		return positive("embed_dim", c.EmbedDim, "n_classes", c.NClasses)
	case BERTEmbedder:
		if err := layers("n_layer", c.NLayer); err != nil {
			return err
		}
		if c.VocabSize > 1<<24 {
			return invalid("vocab_size", "is %d, want up to %d", c.VocabSize, 1<<24)
		}
		return positive("n_embed", c.EmbedDim, "n_layer", c.NLayer, "vocab_size", c.VocabSize, "max_seq_len", c.MaxSeqLen)
	case SpatialRescaler:
		if c.NStages < 0 || c.NStages > maxLevels {
			return invalid("n_stages", "is %d, want 0 to %d", c.NStages, maxLevels)
		}
		if c.OutChannels < 0 {
			return invalid("out_channels", "is %d, want 1 or more", c.OutChannels)
		}
		return positive("in_channels", c.InChannels)
	}
	return invalid("kind", "%q is unknown", c.Kind)
}

// conditioner reads a class, or one of the names that stand for none.
func (s section) conditioner(key string, d *DiffusionConfig) *ConditionerConfig {
	n := s.get(key)
	if n != nil && n.Kind == yaml.ScalarNode {
		switch n.Value {
		case isUnconditional:
			d.ConditioningKey = NoConditioning // whatever the key says
			return &ConditionerConfig{Kind: Unconditional}
		case isFirstStage:
			return &ConditionerConfig{Kind: FirstStageCond}
		}
		s.r.fail(s.at(key), "is %q, want a mapping, %s or %s", n.Value, isUnconditional, isFirstStage)
		return nil
	}
	target, p, ok := s.instance(key, []string{targetClass, targetBERT, targetRescaler, targetIdentityCond})
	if !ok {
		return nil
	}
	c := &ConditionerConfig{}
	switch target {
	case targetIdentityCond:
		c.Kind = IdentityCond // takes and ignores any argument
		return c
	case targetClass:
		p.require("embed_dim")
		c.Kind, c.EmbedDim, c.NClasses, c.Key = ClassEmbedder, p.integer("embed_dim", 0), p.integer("n_classes", 1000), p.text("key", "class")
	case targetBERT:
		p.require("n_embed", "n_layer")
		c.Kind, c.EmbedDim, c.NLayer = BERTEmbedder, p.integer("n_embed", 0), p.integer("n_layer", 0)
		c.VocabSize, c.MaxSeqLen = p.integer("vocab_size", 30522), p.integer("max_seq_len", 77)
		c.UseTokenizer = p.boolean("use_tokenizer", true)
		p.ignore("device", "embedding_dropout")
	case targetRescaler:
		c.Kind, c.NStages, c.InChannels = SpatialRescaler, p.integer("n_stages", 1), p.integer("in_channels", 3)
		c.OutChannels, c.Bias = p.integer("out_channels", 0), p.boolean("bias", false)
		if m := p.text("method", "bilinear"); m != "bilinear" && m != "area" {
			p.r.fail(p.at("method"), "is %q, want bilinear or area", m)
		}
		if m := p.number("multiplier", 0.5); m != 0.5 {
			p.r.fail(p.at("multiplier"), "is %v, only 0.5 is supported", m)
		}
	}
	p.closed()
	if s.r.err == nil {
		s.r.invalid(p.path, c.Validate())
	}
	return c
}
