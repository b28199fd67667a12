package nn

import (
	"math"
	"slices"

	"github.com/ldm-batch/ldm-batch/internal/ir"
)

// epsAE is the epsilon of every normalisation in a first stage.
const epsAE = 1e-6

// aeBlock is the residual block of the autoencoder: twice norm, SiLU, convolution.
type aeBlock struct {
	norm1, norm2 groupNorm
	conv1, conv2 conv
	shortcut     *conv // when the number of channels changes
}

func (s scope) aeBlock(ci, co int) aeBlock {
	b := aeBlock{
		norm1: s.at("norm1").groupNorm(ci, epsAE), conv1: s.at("conv1").conv3(ci, co),
		norm2: s.at("norm2").groupNorm(co, epsAE), conv2: s.at("conv2").conv3(co, co),
	}
	if ci != co {
		c := s.at("nin_shortcut").conv1(ci, co)
		b.shortcut = &c
	}
	return b
}

func (b aeBlock) apply(x *ir.Tensor) *ir.Tensor {
	h := b.conv1.apply(ir.SiLU(b.norm1.apply(x)))
	h = b.conv2.apply(ir.SiLU(b.norm2.apply(h)))
	if b.shortcut != nil {
		x = b.shortcut.apply(x)
	}
	return ir.Add(x, h)
}

// aeAttention is self-attention over pixels with a single head of all channels.
type aeAttention struct {
	norm         groupNorm
	q, k, v, out linear
}

func (s scope) aeAttention(c int) *aeAttention {
	return &aeAttention{
		s.at("norm").groupNorm(c, epsAE),
		s.at("q").linear(c, c, 1, 1), s.at("k").linear(c, c, 1, 1), s.at("v").linear(c, c, 1, 1),
		s.at("proj_out").linear(c, c, 1, 1),
	}
}

// apply on a nil attention is the identity.
func (a *aeAttention) apply(x *ir.Tensor) *ir.Tensor {
	if a == nil {
		return x
	}
	h := ir.Tokens(a.norm.apply(x))
	h = ir.Attention(a.q.apply(h), a.k.apply(h), a.v.apply(h), 1, 1/math.Sqrt(float64(x.Dim(1))))
	height, width := size(x)
	return ir.Add(x, ir.Untokens(a.out.apply(h), height, width))
}

// aeMid is the part of the lowest resolution.
type aeMid struct {
	block1, block2 aeBlock
	attention      *aeAttention
}

func (s scope) aeMid(c int, attention bool) aeMid {
	m := aeMid{block1: s.at("block_1").aeBlock(c, c)}
	if attention {
		m.attention = s.at("attn_1").aeAttention(c)
	}
	m.block2 = s.at("block_2").aeBlock(c, c)
	return m
}

func (m aeMid) apply(x *ir.Tensor) *ir.Tensor {
	return m.block2.apply(m.attention.apply(m.block1.apply(x)))
}

// aeLevel is one resolution of an encoder or a decoder.
type aeLevel struct {
	blocks    []aeBlock
	attention []*aeAttention // beside blocks; nil entries do nothing
	resample  bool           // a change of resolution follows
	conv      *conv          // of the change; absent with resamp_with_conv false
}

func (s scope) aeLevel(blocks, ci, co int, attention bool) aeLevel {
	l := aeLevel{attention: make([]*aeAttention, blocks)}
	for i := range blocks {
		l.blocks = append(l.blocks, s.at("block.%d", i).aeBlock(ci, co))
		ci = co
	}
	if attention {
		for i := range l.attention {
			l.attention[i] = s.at("attn.%d", i).aeAttention(co)
		}
	}
	return l
}

func (l aeLevel) apply(x *ir.Tensor) *ir.Tensor {
	for i, b := range l.blocks {
		x = l.attention[i].apply(b.apply(x))
	}
	return x
}

// aeEnd is the last norm and convolution of an encoder or a decoder.
type aeEnd struct {
	norm groupNorm
	conv conv
}

func (s scope) aeEnd(ci, co int) aeEnd {
	return aeEnd{s.at("norm_out").groupNorm(ci, epsAE), s.at("conv_out").conv3(ci, co)}
}

// features is what goes into the last convolution.
func (e aeEnd) features(x *ir.Tensor) *ir.Tensor { return ir.SiLU(e.norm.apply(x)) }

func (e aeEnd) apply(x *ir.Tensor) *ir.Tensor { return e.conv.apply(e.features(x)) }

// encoder maps images to z_channels, or twice as many, channels at a lower resolution.
type encoder struct {
	in     conv
	levels []aeLevel
	mid    aeMid
	end    aeEnd
}

// attends says whether a level of the given nominal resolution, which is unrelated to the size of actual images, attends.
func (c AutoencoderConfig) attends(resolution int) bool {
	return c.AttnType != AttnNone && slices.Contains(c.AttnResolutions, resolution)
}

func (s scope) encoder(c AutoencoderConfig) encoder {
	e := encoder{in: s.at("conv_in").conv3(c.InChannels, c.Ch)}
	ch, resolution := c.Ch, c.Resolution
	for i, mult := range c.ChMult {
		l := s.at("down.%d", i).aeLevel(c.NumResBlocks, ch, c.Ch*mult, c.attends(resolution))
		ch = c.Ch * mult
		if i < len(c.ChMult)-1 {
			l.resample = true
			if c.ResampWithConv {
				// Padded on the right and at the bottom only.
				k := s.at("down.%d.downsample.conv", i).conv(ch, ch, 3, ir.Conv{Stride: 2, Bottom: 1, Right: 1})
				l.conv = &k
			}
			resolution /= 2
		}
		e.levels = append(e.levels, l)
	}
	e.mid = s.at("mid").aeMid(ch, c.AttnType != AttnNone)
	out := c.ZChannels
	if c.DoubleZ {
		out *= 2
	}
	e.end = s.aeEnd(ch, out)
	return e
}

func (e encoder) apply(x *ir.Tensor) *ir.Tensor {
	x = e.in.apply(x)
	for _, l := range e.levels {
		x = l.apply(x)
		switch {
		case l.conv != nil:
			x = l.conv.apply(x)
		case l.resample:
			x = ir.AvgPool2(x)
		}
	}
	return e.end.apply(e.mid.apply(x))
}

// decoder maps z_channels channels back to images.
type decoder struct {
	in     conv
	mid    aeMid
	levels []aeLevel // by resolution, the full one first; applied from last to first
	end    aeEnd
}

func (s scope) decoder(c AutoencoderConfig) decoder {
	last := len(c.ChMult) - 1
	ch := c.Ch * c.ChMult[last]
	d := decoder{in: s.at("conv_in").conv3(c.ZChannels, ch), levels: make([]aeLevel, last+1)}
	d.mid = s.at("mid").aeMid(ch, c.AttnType != AttnNone)
	for i, mult := range c.ChMult { // in key order, which is not the order of application
		ci, co := ch, c.Ch*mult
		if i < last {
			ci = c.Ch * c.ChMult[i+1]
		}
		resolution := c.Resolution >> last << (last - i)
		l := s.at("up.%d", i).aeLevel(c.NumResBlocks+1, ci, co, c.attends(resolution))
		if i > 0 {
			l.resample = true
			if c.ResampWithConv {
				k := s.at("up.%d.upsample.conv", i).conv3(co, co)
				l.conv = &k
			}
		}
		d.levels[i] = l
	}
	d.end = s.aeEnd(c.Ch*c.ChMult[0], c.OutCh)
	return d
}

func (d decoder) apply(z *ir.Tensor) *ir.Tensor { return d.end.conv.apply(d.features(z)) }

// features is what goes into the last convolution.
func (d decoder) features(z *ir.Tensor) *ir.Tensor {
	x := d.mid.apply(d.in.apply(z))
	for _, l := range slices.Backward(d.levels) {
		x = l.apply(x)
		if l.resample {
			x = ir.Upsample2(x)
		}
		if l.conv != nil {
			x = l.conv.apply(x)
		}
	}
	return d.end.features(x)
}
