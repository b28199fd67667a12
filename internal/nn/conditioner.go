package nn

import (
	"fmt"
	"math"

	"github.com/ldm-batch/ldm-batch/internal/ir"
)

// Heads and head width of the text encoder, whatever its other sizes.
const (
	bertHeads   = 8
	bertDimHead = 64
)

// Conditioner turns a condition into what the diffusion model takes.
type Conditioner struct {
	Config     ConditionerConfig
	params     []ir.Param
	firstStage *FirstStage // with FirstStageCond: the model's own
	table      weight      // ClassEmbedder
	tokens     weight      // BERTEmbedder
	positions  weight
	layers     []bertLayer
	norm       layerNorm
	mapper     *conv // SpatialRescaler
}

type bertLayer struct {
	norm1, norm2  layerNorm
	q, k, v, out  linear
	widen, narrow linear
}

// NewConditioner makes the module; prefix comes before every parameter name. firstStage is used by [FirstStageCond] only,
// which shares its parameters and declares none of its own. The configuration must be valid.
func NewConditioner(c ConditionerConfig, prefix string, firstStage *FirstStage) *Conditioner {
	n := &Conditioner{Config: c}
	s := scope{prefix, &n.params}
	switch c.Kind {
	case FirstStageCond:
		n.firstStage = firstStage
	case ClassEmbedder:
		n.table = s.at("embedding").weight("weight", c.NClasses, c.EmbedDim)
	case SpatialRescaler:
		if c.OutChannels > 0 {
			at := s.at("channel_mapper")
			m := conv{w: at.weight("weight", c.OutChannels, c.InChannels, 1, 1), o: ir.Same(1)}
			if c.Bias {
				m.b = at.weight("bias", c.OutChannels)
			}
			n.mapper = &m
		}
	case BERTEmbedder:
		s, d := s.at("transformer"), c.EmbedDim
		n.tokens = s.at("token_emb").weight("weight", c.VocabSize, d)
		n.positions = s.at("pos_emb.emb").weight("weight", c.MaxSeqLen, d)
		const inner = bertHeads * bertDimHead
		for i := range c.NLayer {
			a, f := s.at("attn_layers.layers.%d", 2*i), s.at("attn_layers.layers.%d", 2*i+1)
			n.layers = append(n.layers, bertLayer{
				norm1: a.at("0").layerNorm(d),
				q:     a.at("1.to_q").linearNoBias(d, inner), k: a.at("1.to_k").linearNoBias(d, inner),
				v: a.at("1.to_v").linearNoBias(d, inner), out: a.at("1.to_out").linear(inner, d),
				norm2: f.at("0").layerNorm(d),
				widen: f.at("1.net.0.0").linear(d, 4*d), narrow: f.at("1.net.2").linear(4*d, d),
			})
		}
		n.norm = s.at("norm").layerNorm(d)
		s.at("to_logits").linear(d, c.VocabSize) // stored, never used
	}
	return n
}

// Params lists the conditioner's own parameters in state-dict order.
func (n *Conditioner) Params() []ir.Param { return n.params }

// Input returns the name and shape of what the conditioner takes for n rows, h and w being the size of images or maps:
// "class_label" (n,1); "tokens" (n,max_seq_len); "segmentation" (n,in_channels,h,w), one-hot; "image" (n,3,h,w) in [-1,1].
// Unconditional and identity conditioners compute nothing, which is an error.
func (n *Conditioner) Input(rows, h, w int) (name string, shape []int, err error) {
	c := n.Config
	switch c.Kind {
	case ClassEmbedder:
		return "class_label", []int{rows, 1}, nil
	case BERTEmbedder:
		return "tokens", []int{rows, c.MaxSeqLen}, nil
	case SpatialRescaler:
		if m := 1 << c.NStages; h%m != 0 || w%m != 0 {
			return "", nil, fmt.Errorf("conditioner: a map of %dx%d cannot be halved %d times", h, w, c.NStages)
		}
		return "segmentation", []int{rows, c.InChannels, h, w}, nil
	case FirstStageCond:
		return "image", []int{rows, n.firstStage.Config.InChannels, h, w}, nil
	}
	return "", nil, fmt.Errorf("conditioner: %s computes nothing", c.Kind)
}

// Apply returns the condition for the input that [Conditioner.Input] describes: a context (N,T,D) of a class or text
// embedder, images (N,C,h,w) of a rescaler, or the encoded images of a first stage: the latent of a VQ one, before it is
// quantised and not scaled, or the mean of a KL one.
func (n *Conditioner) Apply(in *ir.Tensor) *ir.Tensor {
	switch n.Config.Kind {
	case ClassEmbedder:
		return ir.Embed(in, n.table.in(in))
	case BERTEmbedder:
		x := ir.AddRows(ir.Embed(in, n.tokens.in(in)), n.positions.in(in))
		for _, l := range n.layers {
			x = l.apply(x)
		}
		return n.norm.apply(x)
	case SpatialRescaler:
		x := in
		for range n.Config.NStages {
			x = ir.AvgPool2(x) // what bilinear interpolation to one half computes
		}
		if n.mapper != nil {
			x = n.mapper.apply(x)
		}
		return x
	case FirstStageCond:
		z := n.firstStage.Encode(in)
		if n.firstStage.Config.Kind == KL {
			z = ir.GaussianMode(z)
		}
		return z
	}
	return in
}

func (l bertLayer) apply(x *ir.Tensor) *ir.Tensor {
	h := l.norm1.apply(x)
	h = ir.Attention(l.q.apply(h), l.k.apply(h), l.v.apply(h), bertHeads, 1/math.Sqrt(bertDimHead))
	x = ir.Add(l.out.apply(h), x)
	return ir.Add(l.narrow.apply(ir.GELU(l.widen.apply(l.norm2.apply(x)))), x)
}
