package nn

import (
	"slices"

	"github.com/ldm-batch/ldm-batch/internal/ir"
)

// UNet predicts the noise in a noisy latent.
type UNet struct {
	Config        UNetConfig
	params        []ir.Param
	time0, time2  linear
	label         weight // class embedding, with num_classes
	stem          conv
	input, output []unetBlock
	middle        unetBlock
	norm          groupNorm
	out           conv
}

// unetBlock is one entry of the input or output blocks: residual blocks with at most one attention between them, then at
// most one change of resolution. A field that is absent does nothing.
type unetBlock struct {
	res       *resBlock
	attention interface {
		apply(x, context *ir.Tensor) *ir.Tensor
	}
	res2   *resBlock // after the attention, in the middle
	sample resample  // before conv or, when going down with a convolution, done by its stride
	conv   *conv
}

// NewUNet makes the module; prefix comes before every parameter name. The configuration must be valid.
func NewUNet(c UNetConfig, prefix string) *UNet {
	n := &UNet{Config: c}
	s := scope{prefix, &n.params}
	d := c.ModelChannels
	emb := 4 * d
	n.time0, n.time2 = s.at("time_embed.0").linear(d, emb), s.at("time_embed.2").linear(emb, emb)
	if c.NumClasses > 0 {
		n.label = s.at("label_emb").weight("weight", c.NumClasses, emb)
	}
	res := func(s scope, ci, co int, r resample) *resBlock {
		b := s.resBlock(ci, co, emb, c.UseScaleShiftNorm, r)
		return &b
	}
	attend := func(b *unetBlock, s scope, ch int, decoding bool) {
		heads := c.heads(ch, decoding)
		if c.UseSpatialTransformer {
			b.attention = s.spatialTransformer(ch, heads, c.TransformerDepth, c.ContextDim)
		} else {
			b.attention = s.attentionBlock(ch, heads, !c.UseNewAttentionOrder)
		}
	}

	n.stem = s.at("input_blocks.0.0").conv3(c.InChannels, d)
	ch, ds, skips := d, 1, []int{d}
	for level, mult := range c.ChannelMult {
		for range c.NumResBlocks[level] {
			at := s.at("input_blocks.%d", len(skips))
			b := unetBlock{res: res(at.at("0"), ch, mult*d, keep)}
			ch = mult * d
			if slices.Contains(c.AttentionResolutions, ds) {
				attend(&b, at.at("1"), ch, false)
			}
			n.input, skips = append(n.input, b), append(skips, ch)
		}
		if level < len(c.ChannelMult)-1 {
			at := s.at("input_blocks.%d.0", len(skips))
			var b unetBlock
			switch {
			case c.ResblockUpdown:
				b.res = res(at, ch, ch, down)
			case c.ConvResample:
				k := at.at("op").conv(ch, ch, 3, ir.Conv{Stride: 2, Top: 1, Left: 1, Bottom: 1, Right: 1})
				b.conv = &k
			default:
				b.sample = down
			}
			n.input, skips = append(n.input, b), append(skips, ch)
			ds *= 2
		}
	}

	n.middle.res = res(s.at("middle_block.0"), ch, ch, keep)
	attend(&n.middle, s.at("middle_block.1"), ch, false)
	n.middle.res2 = res(s.at("middle_block.2"), ch, ch, keep)

	for level, mult := range slices.Backward(c.ChannelMult) {
		for i := range c.NumResBlocks[level] + 1 {
			at, next := s.at("output_blocks.%d", len(n.output)), 1
			skip := skips[len(skips)-1]
			skips = skips[:len(skips)-1]
			b := unetBlock{res: res(at.at("0"), ch+skip, mult*d, keep)}
			ch = mult * d
			if slices.Contains(c.AttentionResolutions, ds) {
				attend(&b, at.at("1"), ch, true)
				next = 2
			}
			if level > 0 && i == c.NumResBlocks[level] {
				switch {
				case c.ResblockUpdown:
					b.res2 = res(at.at("%d", next), ch, ch, up)
				case c.ConvResample:
					k := at.at("%d.conv", next).conv3(ch, ch)
					b.sample, b.conv = up, &k
				default:
					b.sample = up
				}
				ds /= 2
			}
			n.output = append(n.output, b)
		}
	}
	n.norm, n.out = s.at("out.0").groupNorm(ch, 1e-5), s.at("out.2").conv3(d, c.OutChannels)
	return n
}

// Params lists the parameters in state-dict order.
func (n *UNet) Params() []ir.Param { return n.params }

// Apply returns the prediction (N,out_channels,H,W) for images x (N,in_channels,H,W), where H and W are multiples of
// [UNetConfig.SizeMultiple], and timesteps t (N), whole numbers. context (N,T,context_dim) is needed with spatial
// transformers, y (N), class numbers, with num_classes; both are nil otherwise.
func (n *UNet) Apply(x, t, context, y *ir.Tensor) *ir.Tensor {
	eps, _ := n.ApplyBranch(0, x, t, context, y)
	return eps
}

// Branches is the number of skip connections. Skip 0 joins the first convolution with the last output block; the higher the
// number, the deeper the network between its ends.
func (n *UNet) Branches() int { return len(n.output) }

// ApplyBranch is [UNet.Apply] that also returns the deep feature of a branch: what the network below a skip connection gives
// to the output block at which that skip ends.
func (n *UNet) ApplyBranch(branch int, x, t, context, y *ir.Tensor) (eps, deep *ir.Tensor) {
	emb := n.embed(t, y)
	h, skips := n.down(len(n.input), x, emb, context)
	h = n.middle.apply(h, emb, context)
	for i, b := range n.output {
		skip := len(n.output) - 1 - i
		if skip == branch {
			deep = h
		}
		h = b.apply(ir.Concat(h, skips[skip]), emb, context)
	}
	return n.head(h), deep
}

// ApplyShallow returns the prediction with a given deep feature of a branch in place of the network below its skip
// connection (DeepCache: Ma, Fang and Wang 2024, section 3.2): only the blocks up to the skip and from its end on are computed.
func (n *UNet) ApplyShallow(branch int, x, t, context, y, deep *ir.Tensor) *ir.Tensor {
	emb := n.embed(t, y)
	_, skips := n.down(branch, x, emb, context)
	h := deep
	for skip := branch; skip >= 0; skip-- {
		h = n.output[len(n.output)-1-skip].apply(ir.Concat(h, skips[skip]), emb, context)
	}
	return n.head(h)
}

// embed is the activated embedding of time and class: every residual block begins with the activation.
func (n *UNet) embed(t, y *ir.Tensor) *ir.Tensor {
	emb := ir.TimeEmbedding(t, n.Config.ModelChannels)
	emb = n.time2.apply(ir.SiLU(n.time0.apply(emb)))
	if n.Config.NumClasses > 0 {
		emb = ir.Add(emb, ir.Embed(y, n.label.in(y)))
	}
	return ir.SiLU(emb)
}

// down applies the first convolution and some of the input blocks; skips are the results of each.
func (n *UNet) down(blocks int, x, emb, context *ir.Tensor) (h *ir.Tensor, skips []*ir.Tensor) {
	h = n.stem.apply(x)
	skips = []*ir.Tensor{h}
	for _, b := range n.input[:blocks] {
		h = b.apply(h, emb, context)
		skips = append(skips, h)
	}
	return h, skips
}

func (n *UNet) head(h *ir.Tensor) *ir.Tensor { return n.out.apply(ir.SiLU(n.norm.apply(h))) }

func (b unetBlock) apply(x, emb, context *ir.Tensor) *ir.Tensor {
	if b.res != nil {
		x = b.res.apply(x, emb)
	}
	if b.attention != nil {
		x = b.attention.apply(x, context)
	}
	if b.res2 != nil {
		x = b.res2.apply(x, emb)
	}
	x = b.sample.apply(x)
	if b.conv != nil {
		x = b.conv.apply(x)
	}
	return x
}
