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
			vals[i].Flat = spatial(n.Shape)
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
		switch n.Op.Kind {
		case ir.KindTokens, ir.KindUntokens:
			out.Base = in[0]
			continue
		case ir.KindDetach:
			vals[i] = in[0]
			continue
		case ir.KindPick:
			out.Base, out.ColOffset, out.RowStride = in[0], n.Op.Offset(), out.Cols()
			continue
		}
		s, err := l.step(n, in, out)
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		s.Name, s.Out = n.Name, out
		if out.Flat, err = flat(s); err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		for _, v := range append(append([]*Value(nil), s.Weights...), s.Bias...) {
			if v.Place != Param {
				return fmt.Errorf("%s: operand %s is data where a parameter is expected", n.Name, v.Name)
			}
		}
		emit(s)
	}
	outputs := len(l.prog.Outputs) - len(l.options.Gradients)
	for i, o := range l.prog.Outputs {
		if i >= outputs {
			g := l.value(l.options.Gradients[i-outputs], Gradient, l.prog.Nodes[o].Shape)
			if g.Flat = vals[o].Flat; !g.Flat && spatial(g.Shape) {
				return fmt.Errorf("gradient of %s: an image cannot be a parameter", g.Name)
			}
			l.plan.Gradients = append(l.plan.Gradients, g)
			emit(&Step{Kind: Accumulate, Name: g.Name, In: []*Value{vals[o]}, Out: g})
			continue
		}
		port := l.value(fmt.Sprintf("output%d", i), Output, l.prog.Nodes[o].Shape)
		l.plan.Outputs = append(l.plan.Outputs, port)
		emit(&Step{Kind: Store, Name: port.Name, In: []*Value{vals[o]}, Out: port})
	}
	return nil
}

// spatial says that a shape means different things as an image and as the weight of a convolution.
func spatial(shape []int) bool { return len(shape) == 4 && shape[2]*shape[3] != 1 }

// flat decides the layout of a step's result of rank 4. Weights and their gradients are row-major, and so is what is computed of
// them element by element; everything else is an image.
func flat(s *Step) (bool, error) {
	switch s.Kind {
	case ConvGradWeight, LinearGradWeight:
		return true, nil
	}
	weights, images := 0, 0
	for _, v := range s.In {
		switch {
		case v.Flat:
			weights++
		case spatial(v.Shape):
			images++
		}
	}
	switch {
	case weights == 0:
		return false, nil
	case images > 0:
		return false, fmt.Errorf("a parameter of rank 4 meets an image")
	case !elementwise[s.Kind]:
		return false, fmt.Errorf("a parameter of rank 4 is an operand of %s", s.Kind)
	}
	return spatial(s.Out.Shape), nil // a sum of weights is no image either way
}

// elementwise are the steps that do not look at the shape of their operands.
var elementwise = map[Kind]bool{
	SiLU: true, GELU: true, ReLU: true, SiLUGrad: true, GELUGrad: true, ReLUGrad: true, Scale: true, ScaleBy: true, Add: true, Copy: true,
	Dot: true, MeanSquare: true, MeanSquareGrad: true, Sum: true, NormRatio: true,
	LeakyReLU: true, LeakyReLUGrad: true, Abs: true, AbsGrad: true, Square: true, SquareGrad: true, Exp: true, ExpGrad: true,
	Softplus: true, SoftplusGrad: true, Reciprocal: true, ReciprocalGrad: true, Offset: true,
}

// same maps operations that become a step of their own without attributes.
var same = map[ir.Kind]Kind{
	ir.KindSiLU: SiLU, ir.KindGELU: GELU, ir.KindReLU: ReLU, ir.KindGEGLU: GEGLU, ir.KindAdd: Add, ir.KindAddChannels: AddSample,
	ir.KindModulate: Modulate, ir.KindConcat: Concat, ir.KindUpsample2: Upsample, ir.KindAvgPool2: AvgPool,
	ir.KindAvgPool3: AvgPool3, ir.KindPixelMean: PixelMean, ir.KindTimeEmbedding: TimeEmbedding, ir.KindGaussianSample: GaussianSample,
	ir.KindChannelSum: ColumnSum, ir.KindRowSum: ColumnSum, ir.KindPixelSum: PixelSum, ir.KindBatchSum: BatchSum,
	ir.KindSiLUGrad: SiLUGrad, ir.KindGELUGrad: GELUGrad, ir.KindReLUGrad: ReLUGrad, ir.KindGEGLUGrad: GEGLUGrad,
	ir.KindModulateGradX: ModulateGradX, ir.KindModulateGradS: ModulateGradS, ir.KindLinearGradWeight: LinearGradWeight,
	ir.KindAvgPool3Grad: AvgPool3Grad, ir.KindPixelMeanGrad: PixelMeanGrad, ir.KindGaussianSampleGrad: GaussianSampleGrad,
	ir.KindEmbedGrad: EmbedGrad, ir.KindOne: One, ir.KindDot: Dot, ir.KindScaleBy: ScaleBy, ir.KindMeanSquare: MeanSquare,
	ir.KindMeanSquareGrad: MeanSquareGrad, ir.KindBatchMoments: BatchMoments, ir.KindShiftChannels: ShiftChannels,
	ir.KindScaleChannels: ScaleChannels, ir.KindChannelDot: ChannelDot, ir.KindGaussianKL: GaussianKL,
	ir.KindGaussianKLGrad: GaussianKLGrad, ir.KindFill: Fill, ir.KindAbs: Abs, ir.KindAbsGrad: AbsGrad, ir.KindSquare: Square,
	ir.KindSquareGrad: SquareGrad, ir.KindExp: Exp, ir.KindExpGrad: ExpGrad, ir.KindSoftplus: Softplus, ir.KindSoftplusGrad: SoftplusGrad,
	ir.KindReciprocal: Reciprocal, ir.KindReciprocalGrad: ReciprocalGrad, ir.KindSum: Sum,
	ir.KindCrossEntropy: CrossEntropy, ir.KindCrossEntropyGrad: CrossEntropyGrad,
}

// factored maps operations with a number as attribute.
var factored = map[ir.Kind]Kind{
	ir.KindScale: Scale, ir.KindOffset: Offset, ir.KindLeakyReLU: LeakyReLU, ir.KindLeakyReLUGrad: LeakyReLUGrad, ir.KindNormRatio: NormRatio,
}

// qkv are the suffixes of the names of an attention's operands.
var qkv = [3]string{".q", ".k", ".v"}

// pointwise says that a convolution is a product of rows.
func pointwise(c ir.Conv, w []int) bool { return w[2] == 1 && w[3] == 1 && c == (ir.Conv{Stride: 1}) }

func windowOf(c ir.Conv, w []int) Window {
	return Window{KH: w[2], KW: w[3], Stride: c.Stride, Top: c.Top, Left: c.Left}
}

func poolWindow(p ir.Pool) Window {
	return Window{KH: p.Kernel, KW: p.Kernel, Stride: p.Stride, Top: p.Pad, Left: p.Pad}
}

// step translates one operation; the caller sets name and output.
func (l *lowering) step(n ir.Node, in []*Value, out *Value) (*Step, error) {
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
		if pointwise(c, w) {
			return weighted(Linear), nil
		}
		s := weighted(Conv)
		s.Window = windowOf(c, w)
		return s, nil
	case ir.KindLinear:
		return weighted(Linear), nil
	case ir.KindConv2DGradInput:
		c, w := op.Conv(), in[0].Shape
		if pointwise(c, w) {
			return &Step{Kind: Linear, In: in[1:2], Weights: in[:1], Transposed: true}, nil
		}
		return &Step{Kind: ConvGradInput, In: in[1:2], Weights: in[:1], Window: windowOf(c, w)}, nil
	case ir.KindConv2DGradWeight:
		c, w := op.Conv(), n.Shape
		if pointwise(c, w) {
			return &Step{Kind: LinearGradWeight, In: in}, nil
		}
		return &Step{Kind: ConvGradWeight, In: in, Window: windowOf(c, w)}, nil
	case ir.KindLinearGradInput:
		return &Step{Kind: Linear, In: in[1:2], Weights: in[:1], Transposed: true}, nil
	case ir.KindGroupNormGradInput:
		return &Step{Kind: GroupNormGrad, In: []*Value{in[0], in[2]}, Weights: in[1:2], Groups: op.Groups(), Eps: op.Eps}, nil
	case ir.KindGroupNormGradParams:
		return &Step{Kind: GroupNormGradParams, In: in, Groups: op.Groups(), Eps: op.Eps}, nil
	case ir.KindLayerNormGradInput:
		return &Step{Kind: LayerNormGrad, In: []*Value{in[0], in[2]}, Weights: in[1:2], Eps: op.Eps}, nil
	case ir.KindLayerNormGradParams:
		return &Step{Kind: LayerNormGradParams, In: in, Eps: op.Eps}, nil
	case ir.KindPadChannels, ir.KindPadLast:
		return &Step{Kind: Pad, In: in, From: op.Offset()}, nil
	case ir.KindMaxPoolGrad:
		return &Step{Kind: MaxPoolGrad, In: in, Window: poolWindow(op.Pool())}, nil
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
	case ir.KindAttention, ir.KindAttentionGrad:
		d := in[0].Shape[2] / op.Heads()
		s := &Step{Kind: Attention, In: in, Heads: op.Heads(), Factor: op.Scale, QKVHead: [4]int{d, d, d, d}}
		if op.Kind == ir.KindAttentionGrad {
			s.Kind = AttentionGrad
			at := 0
			for i, v := range in[:3] {
				part := l.value(n.Name+qkv[i], Arena, v.Shape)
				part.Base, part.ColOffset, part.RowStride = out, at, v.Cols()
				at += part.Elems()
				s.Parts[i] = part
			}
		}
		return s, nil
	case ir.KindQKVAttention, ir.KindQKVAttentionGrad:
		x := in[0]
		shape := []int{x.Shape[0], x.Shape[1], x.Shape[2] / 3}
		d := shape[2] / op.Heads()
		head, next := d, shape[2]
		if op.Legacy() { // each head's q, k and v stand side by side
			head, next = 3*d, d
		}
		s := &Step{Kind: Attention, Heads: op.Heads(), Factor: op.Scale, QKVHead: [4]int{head, head, head, d}}
		for i, name := range qkv {
			v := l.value(n.Name+name, Arena, shape)
			v.Base, v.ColOffset, v.RowStride = x, i*next, x.Stride()
			s.In = append(s.In, v)
		}
		if op.Kind == ir.KindQKVAttentionGrad {
			s.Kind, s.In = AttentionGrad, append(s.In, in[1])
			for i := range s.Parts {
				part := l.value(n.Name+".d"+qkv[i][1:], Arena, shape)
				part.Base, part.ColOffset, part.RowStride = out, i*next, out.Stride()
				s.Parts[i] = part
			}
		}
		return s, nil
	case ir.KindMaxPool:
		return &Step{Kind: MaxPool, In: in, Window: poolWindow(op.Pool())}, nil
	case ir.KindScale, ir.KindOffset, ir.KindLeakyReLU, ir.KindLeakyReLUGrad, ir.KindNormRatio:
		return &Step{Kind: factored[op.Kind], In: in, Factor: op.Scale, Eps: op.Eps}, nil
	case ir.KindBatchNorm:
		return &Step{Kind: GroupNorm, In: in[:1], Weights: in[1:3], Groups: n.Shape[1], Eps: op.Eps, Batch: true}, nil
	case ir.KindBatchNormGradInput:
		return &Step{Kind: GroupNormGrad, In: []*Value{in[0], in[2]}, Weights: in[1:2], Groups: n.Shape[1], Eps: op.Eps, Batch: true}, nil
	case ir.KindBatchNormGradParams:
		return &Step{Kind: GroupNormGradParams, In: in, Groups: n.Shape[0] / 2, Eps: op.Eps, Batch: true}, nil
	case ir.KindBatchNormGiven:
		return &Step{Kind: BatchNormGiven, In: []*Value{in[0], in[3], in[4]}, Weights: in[1:3], Eps: op.Eps}, nil
	case ir.KindUnitDistance:
		return &Step{Kind: UnitDistance, In: in[:2], Weights: in[2:], Eps: op.Eps}, nil
	case ir.KindUnitDistanceGrad:
		return &Step{Kind: UnitDistanceGrad, In: []*Value{in[0], in[1], in[3]}, Weights: in[2:3], Eps: op.Eps}, nil
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
