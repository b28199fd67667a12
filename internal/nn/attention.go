package nn

import (
	"math"

	"github.com/ldm-batch/ldm-batch/internal/ir"
)

// attentionBlock is self-attention over pixels with fused projections.
type attentionBlock struct {
	norm     groupNorm
	qkv, out linear
	heads    int
	legacy   bool // channels of qkv are [q|k|v] per head
}

func (s scope) attentionBlock(c, heads int, legacy bool) attentionBlock {
	return attentionBlock{
		s.at("norm").groupNorm(c, 1e-5), s.at("qkv").linear(c, 3*c, 1), s.at("proj_out").linear(c, c, 1), heads, legacy,
	}
}

func (a attentionBlock) apply(x, _ *ir.Tensor) *ir.Tensor {
	h := a.qkv.apply(ir.Tokens(a.norm.apply(x)))
	// The reference scales q and k each by the fourth root.
	h = ir.QKVAttention(h, a.heads, a.legacy, 1/math.Sqrt(float64(x.Dim(1)/a.heads)))
	height, width := size(x)
	return ir.Add(x, ir.Untokens(a.out.apply(h), height, width))
}

// spatialTransformer is a stack of transformer blocks over pixels, each with self-attention, attention to a context and a
// gated feed-forward layer.
type spatialTransformer struct {
	norm    groupNorm
	in, out linear
	blocks  []transformerBlock
}

func (s scope) spatialTransformer(c, heads, depth, context int) spatialTransformer {
	t := spatialTransformer{norm: s.at("norm").groupNorm(c, 1e-6), in: s.at("proj_in").linear(c, c, 1, 1)}
	for i := range depth {
		t.blocks = append(t.blocks, s.at("transformer_blocks.%d", i).transformerBlock(c, heads, context))
	}
	t.out = s.at("proj_out").linear(c, c, 1, 1)
	return t
}

func (t spatialTransformer) apply(x, context *ir.Tensor) *ir.Tensor {
	h := t.in.apply(ir.Tokens(t.norm.apply(x)))
	for _, b := range t.blocks {
		h = b.apply(h, context)
	}
	height, width := size(x)
	return ir.Add(x, ir.Untokens(t.out.apply(h), height, width))
}

type transformerBlock struct {
	self, cross         crossAttention
	gate, feed          linear
	norm1, norm2, norm3 layerNorm
}

func (s scope) transformerBlock(c, heads, context int) transformerBlock {
	return transformerBlock{
		self: s.at("attn1").crossAttention(c, c, heads),
		gate: s.at("ff.net.0.proj").linear(c, 8*c), feed: s.at("ff.net.2").linear(4*c, c),
		cross: s.at("attn2").crossAttention(c, context, heads),
		norm1: s.at("norm1").layerNorm(c), norm2: s.at("norm2").layerNorm(c), norm3: s.at("norm3").layerNorm(c),
	}
}

func (b transformerBlock) apply(x, context *ir.Tensor) *ir.Tensor {
	h := b.norm1.apply(x)
	x = ir.Add(b.self.apply(h, h), x)
	x = ir.Add(b.cross.apply(b.norm2.apply(x), context), x)
	return ir.Add(b.feed.apply(ir.GEGLU(b.gate.apply(b.norm3.apply(x)))), x)
}

// crossAttention attends from x to a context, without a mask.
type crossAttention struct {
	q, k, v, out linear
	heads        int
}

func (s scope) crossAttention(c, context, heads int) crossAttention {
	return crossAttention{
		s.at("to_q").linearNoBias(c, c), s.at("to_k").linearNoBias(context, c), s.at("to_v").linearNoBias(context, c),
		s.at("to_out.0").linear(c, c), heads,
	}
}

func (a crossAttention) apply(x, context *ir.Tensor) *ir.Tensor {
	h := ir.Attention(a.q.apply(x), a.k.apply(context), a.v.apply(context), a.heads, 1/math.Sqrt(float64(x.Dim(2)/a.heads)))
	return a.out.apply(h)
}
