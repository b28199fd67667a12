package nn

import "github.com/ldm-batch/ldm-batch/internal/ir"

// resample is a change of resolution without parameters.
type resample int

const (
	keep resample = iota
	down
	up
)

func (r resample) apply(x *ir.Tensor) *ir.Tensor {
	switch r {
	case down:
		return ir.AvgPool2(x)
	case up:
		return ir.Upsample2(x)
	}
	return x
}

// resBlock is the residual block of the U-Net, into which the time embedding enters.
type resBlock struct {
	norm1, norm2 groupNorm
	conv1, conv2 conv
	emb          linear
	skip         *conv // when the number of channels changes
	scaleShift   bool  // the embedding scales and shifts the second norm instead of being added before it
	resample     resample
}

func (s scope) resBlock(ci, co, emb int, scaleShift bool, r resample) resBlock {
	wide := co
	if scaleShift {
		wide *= 2
	}
	b := resBlock{
		norm1: s.at("in_layers.0").groupNorm(ci, 1e-5), conv1: s.at("in_layers.2").conv3(ci, co),
		emb:   s.at("emb_layers.1").linear(emb, wide),
		norm2: s.at("out_layers.0").groupNorm(co, 1e-5), conv2: s.at("out_layers.3").conv3(co, co),
		scaleShift: scaleShift, resample: r,
	}
	if ci != co {
		c := s.at("skip_connection").conv1(ci, co)
		b.skip = &c
	}
	return b
}

// apply takes images x and the activated time embedding (N,E).
func (b resBlock) apply(x, emb *ir.Tensor) *ir.Tensor {
	h := b.conv1.apply(b.resample.apply(ir.SiLU(b.norm1.apply(x))))
	x = b.resample.apply(x)
	e := b.emb.apply(emb)
	if b.scaleShift {
		h = ir.Modulate(b.norm2.apply(h), e)
	} else {
		h = b.norm2.apply(ir.AddChannels(h, e))
	}
	h = b.conv2.apply(ir.SiLU(h))
	if b.skip != nil {
		x = b.skip.apply(x)
	}
	return ir.Add(x, h)
}
