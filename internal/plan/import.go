package plan

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/ir"
)

// importProgram makes one step of each operation. Token sequences become views of images, since both are rows of channels in
// memory; 1x1 convolutions become products of rows; inputs and outputs get a step that changes between NCHW and NHWC.
func importProgram(l *lowering) error {
	vals := make([]*Value, len(l.prog.Nodes))
	emit := func(s *Step) {
		s.Out.producer = s
		l.plan.Steps = append(l.plan.Steps, s)
	}
	for i, n := range l.prog.Nodes { // inputs first: whatever uses one may be moved to any place
		if n.Leaf == ir.InputLeaf {
			port := l.value(n.Name, Input, n.Shape)
			l.plan.Inputs = append(l.plan.Inputs, port)
			vals[i] = l.value(n.Name, Arena, n.Shape)
			emit(&Step{Kind: Load, Name: n.Name, In: []*Value{port}, Out: vals[i]})
		}
	}
	for i, n := range l.prog.Nodes {
		switch n.Leaf {
		case ir.ParamLeaf:
			vals[i] = l.value(n.Name, Param, n.Shape)
			l.plan.Params = append(l.plan.Params, vals[i])
			continue
		case ir.InputLeaf:
			continue
		}
		in := make([]*Value, len(n.In))
		for j, k := range n.In {
			in[j] = vals[k]
		}
		out := l.value(n.Name, Arena, n.Shape)
		vals[i] = out
		if n.Op.Kind == ir.KindTokens || n.Op.Kind == ir.KindUntokens {
			out.Base = in[0]
			continue
		}
		s, err := l.step(n, in)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		s.Name, s.Out = n.Name, out
		for _, v := range s.operands() {
			if v.Root().Place != Arena {
				return fmt.Errorf("%s: operand %s is a parameter where data is expected", n.Name, v.Name)
			}
		}
		for _, v := range append(append([]*Value(nil), s.Weights...), s.Bias...) {
			if v.Place != Param {
				return fmt.Errorf("%s: operand %s is data where a parameter is expected", n.Name, v.Name)
			}
		}
		emit(s)
	}
	for i, o := range l.prog.Outputs {
		port := l.value(fmt.Sprintf("output%d", i), Output, l.prog.Nodes[o].Shape)
		l.plan.Outputs = append(l.plan.Outputs, port)
		emit(&Step{Kind: Store, Name: port.Name, In: []*Value{vals[o]}, Out: port})
	}
	return nil
}

// same maps operations that become a step of their own without attributes.
var same = map[ir.Kind]Kind{
	ir.KindSiLU: SiLU, ir.KindGELU: GELU, ir.KindReLU: ReLU, ir.KindGEGLU: GEGLU, ir.KindAdd: Add, ir.KindAddChannels: AddSample,
	ir.KindModulate: Modulate, ir.KindConcat: Concat, ir.KindUpsample2: Upsample, ir.KindAvgPool2: AvgPool,
	ir.KindAvgPool3: AvgPool3, ir.KindPixelMean: PixelMean, ir.KindTimeEmbedding: TimeEmbedding, ir.KindGaussianSample: GaussianSample,
}

// step translates one operation; the caller sets name and output.
func (l *lowering) step(n ir.Node, in []*Value) (*Step, error) {
	op := n.Op
	if k, ok := same[op.Kind]; ok {
		return &Step{Kind: k, In: in}, nil
	}
	weighted := func(k Kind) *Step {
		s := &Step{Kind: k, In: in[:1], Weights: in[1:2]}
		if len(in) == 3 {
			s.Bias = in[2:3]
		}
		return s
	}
	switch op.Kind {
	case ir.KindConv2D:
		c, w := op.Conv(), in[1].Shape
		if w[2] == 1 && w[3] == 1 && c == (ir.Conv{Stride: 1}) {
			return weighted(Linear), nil
		}
		s := weighted(Conv)
		s.Window = Window{KH: w[2], KW: w[3], Stride: c.Stride, Top: c.Top, Left: c.Left}
		return s, nil
	case ir.KindLinear:
		return weighted(Linear), nil
	case ir.KindGroupNorm:
		return &Step{Kind: GroupNorm, In: in[:1], Weights: in[1:3], Groups: op.Groups(), Eps: op.Eps}, nil
	case ir.KindGroupNormGiven:
		return &Step{Kind: GroupNorm, In: in[:1], Weights: in[1:3], Moments: in[3], Groups: op.Groups(), Eps: op.Eps}, nil
	case ir.KindGroupMoments:
		return &Step{Kind: GroupMoments, In: in, Groups: op.Groups()}, nil
	case ir.KindPoolMoments:
		return &Step{Kind: PoolMoments, In: in, Groups: op.Every()}, nil
	case ir.KindLayerNorm:
		return &Step{Kind: LayerNorm, In: in[:1], Weights: in[1:3], Eps: op.Eps}, nil
	case ir.KindAttention:
		d := n.Shape[2] / op.Heads()
		return &Step{Kind: Attention, In: in, Heads: op.Heads(), Factor: op.Scale, QKVHead: [4]int{d, d, d, d}}, nil
	case ir.KindQKVAttention:
		c := n.Shape[2]
		d := c / op.Heads()
		head, next := d, c
		if op.Legacy() { // each head's q, k and v stand side by side
			head, next = 3*d, d
		}
		s := &Step{Kind: Attention, Heads: op.Heads(), Factor: op.Scale, QKVHead: [4]int{head, head, head, d}}
		for i, name := range []string{".q", ".k", ".v"} {
			v := l.value(n.Name+name, Arena, n.Shape)
			v.Base, v.ColOffset, v.RowStride = in[0], i*next, in[0].Stride()
			s.In = append(s.In, v)
		}
		return s, nil
	case ir.KindMaxPool:
		p := op.Pool()
		return &Step{Kind: MaxPool, In: in, Window: Window{KH: p.Kernel, KW: p.Kernel, Stride: p.Stride, Top: p.Pad, Left: p.Pad}}, nil
	case ir.KindScale:
		return &Step{Kind: Scale, In: in, Factor: op.Scale}, nil
	case ir.KindAddRows:
		if in[1].Place == Param {
			return &Step{Kind: AddRows, In: in[:1], Weights: in[1:]}, nil
		}
		return &Step{Kind: AddRows, In: in}, nil
	case ir.KindSliceChannels, ir.KindSliceLast:
		from, to := op.Range()
		return &Step{Kind: Slice, In: in, From: from, To: to}, nil
	case ir.KindEmbed:
		return &Step{Kind: Embed, In: in[:1], Weights: in[1:]}, nil
	case ir.KindCodeIndex:
		return &Step{Kind: CodeIndex, In: in[:1], Weights: in[1:]}, nil
	case ir.KindQuantize:
		return &Step{Kind: Quantize, In: in[:1], Weights: in[1:]}, nil
	}
	return nil, fmt.Errorf("operation %s has no lowering", op.Kind)
}
