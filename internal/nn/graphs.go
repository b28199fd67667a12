package nn

import (
	"fmt"
	"slices"

	"github.com/ldm-batch/ldm-batch/internal/ir"
)

// Graph is a program for fixed sizes. The names of the inputs are those of its leaves; Outputs names the program's outputs
// in their order.
type Graph struct {
	*ir.Program
	Inputs, Outputs []string
}

// Shape returns the shape of an input or output, nil for an unknown name.
func (g *Graph) Shape(name string) []int {
	for i, out := range g.Outputs {
		if out == name {
			return g.Nodes[g.Program.Outputs[i]].Shape
		}
	}
	for _, n := range g.Nodes {
		if n.Leaf == ir.InputLeaf && n.Name == name {
			return n.Shape
		}
	}
	return nil
}

// builder collects the inputs and outputs of a graph.
type builder struct {
	g           *ir.Graph
	inputs      []string
	outputs     []*ir.Tensor
	outputNames []string
}

func (b *builder) input(name string, shape ...int) *ir.Tensor {
	b.inputs = append(b.inputs, name)
	return b.g.Input(name, shape...)
}

func (b *builder) output(name string, t *ir.Tensor) {
	b.outputs, b.outputNames = append(b.outputs, t), append(b.outputNames, name)
}

// build makes the program of what f adds.
func build(name string, f func(b *builder)) (*Graph, error) {
	b := &builder{g: ir.New(name)}
	if err := ir.Build(func() { f(b) }); err != nil {
		return nil, fmt.Errorf("graph %s: %w", name, err)
	}
	p, err := b.g.Program(b.outputs...)
	if err != nil {
		return nil, fmt.Errorf("graph %s: %w", name, err)
	}
	unread := func(name string) bool {
		return !slices.ContainsFunc(p.Nodes, func(n ir.Node) bool { return n.Leaf == ir.InputLeaf && n.Name == name })
	}
	return &Graph{p, slices.DeleteFunc(b.inputs, unread), b.outputNames}, nil
}

// sized checks sizes that callers give.
func sized(what string, n, h, w, multiple int) error {
	if n < 1 || h < 1 || w < 1 {
		return fmt.Errorf("graph %s: %d images of %dx%d", what, n, h, w)
	}
	if h%multiple != 0 || w%multiple != 0 {
		return fmt.Errorf("graph %s: %dx%d (height x width) is no multiple of %d", what, h, w, multiple)
	}
	return nil
}

// UNetGraph predicts the noise: inputs "x" (n,in_channels,h,w), "t" (n), with spatial transformers "context"
// (n,contextTokens,context_dim), with num_classes "y" (n); output "eps" (n,out_channels,h,w). With concatenated conditions
// x holds the latent first. h and w must be multiples of [UNetConfig.SizeMultiple].
func (m *Model) UNetGraph(n, h, w, contextTokens int) (*Graph, error) {
	return m.unetGraph("unet", n, h, w, contextTokens, 0, func(b *builder, x, t, context, y *ir.Tensor) {
		b.output("eps", m.UNet.Apply(x, t, context, y))
	})
}

// UNetBranchGraph is [Model.UNetGraph] with a second output, the deep feature of a branch: "deep" (n,c,h/f,w/f) with c and f
// of the level at which the branch ends. 0 <= branch < [UNet.Branches].
func (m *Model) UNetBranchGraph(n, h, w, contextTokens, branch int) (*Graph, error) {
	return m.unetGraph("unet.full", n, h, w, contextTokens, branch, func(b *builder, x, t, context, y *ir.Tensor) {
		eps, deep := m.UNet.ApplyBranch(branch, x, t, context, y)
		b.output("eps", eps)
		b.output("deep", deep)
	})
}

// UNetShallowGraph predicts the noise with a deep feature that [Model.UNetBranchGraph] gave at another time: its inputs
// and "deep"; output "eps". Inputs that the remaining blocks do not read, such as a context where none of them has attention,
// are left out.
func (m *Model) UNetShallowGraph(n, h, w, contextTokens, branch int) (*Graph, error) {
	full, err := m.UNetBranchGraph(n, h, w, contextTokens, branch)
	if err != nil {
		return nil, err
	}
	shape := full.Shape("deep")
	return m.unetGraph("unet.shallow", n, h, w, contextTokens, branch, func(b *builder, x, t, context, y *ir.Tensor) {
		b.output("eps", m.UNet.ApplyShallow(branch, x, t, context, y, b.input("deep", shape...)))
	})
}

func (m *Model) unetGraph(name string, n, h, w, contextTokens, branch int, f func(b *builder, x, t, context, y *ir.Tensor)) (*Graph, error) {
	if m.UNet == nil {
		return nil, fmt.Errorf("graph %s: the model has no U-Net", name)
	}
	c := m.UNet.Config
	if err := sized(name, n, h, w, c.SizeMultiple()); err != nil {
		return nil, err
	}
	if c.UseSpatialTransformer != (contextTokens > 0) {
		return nil, fmt.Errorf("graph %s: %d context tokens given, use_spatial_transformer is %t", name, contextTokens, c.UseSpatialTransformer)
	}
	if k := m.UNet.Branches(); branch < 0 || branch >= k {
		return nil, fmt.Errorf("graph %s: branch %d is not one of the %d from 0 on", name, branch, k)
	}
	return build(name, func(b *builder) {
		x, t := b.input("x", n, c.InChannels, h, w), b.input("t", n)
		var context, y *ir.Tensor
		if contextTokens > 0 {
			context = b.input("context", n, contextTokens, c.ContextDim)
		}
		if c.NumClasses > 0 {
			y = b.input("y", n)
		}
		f(b, x, t, context, y)
	})
}

// autoencoder returns the first stage of a graph that needs one that computes something.
func (m *Model) autoencoder(what string, vq bool) (*FirstStage, error) {
	switch f := m.FirstStage; {
	case f == nil:
		return nil, fmt.Errorf("graph %s: the model has no first stage", what)
	case f.Config.Kind == IdentityFirstStage:
		return nil, fmt.Errorf("graph %s: the first stage is the identity and computes nothing", what)
	case vq && f.Config.Kind != VQ:
		return nil, fmt.Errorf("graph %s: a first stage of kind %s has no codebook", what, f.Config.Kind)
	default:
		return f, nil
	}
}

// EncoderGraph encodes images: input "image" (n,in_channels,h,w) in [-1,1]; output "moments" (n,2*embed_dim,h/f,w/f) of a
// KL first stage, or "z" (n,embed_dim,h/f,w/f) of a VQ one, not quantised. Sizes that are no multiple of f are rounded down.
func (m *Model) EncoderGraph(n, h, w int) (*Graph, error) {
	f, err := m.autoencoder("encoder", false)
	if err != nil {
		return nil, err
	}
	if err := sized("encoder", n, h, w, 1); err != nil {
		return nil, err
	}
	if factor := f.Config.Factor(); h < factor || w < factor {
		return nil, fmt.Errorf("graph encoder: %dx%d (height x width) is smaller than one latent cell of %d pixels", h, w, factor)
	}
	name := "z"
	if f.Config.Kind == KL {
		name = "moments"
	}
	return build("encoder", func(b *builder) {
		b.output(name, f.Encode(b.input("image", n, f.Config.InChannels, h, w)))
	})
}

// Quantization says what a decoder does with a VQ latent first.
type Quantization bool

// The choices for [Model.DecoderGraph]; a KL first stage has none.
const (
	Quantized    Quantization = true  // snap it to the codebook, as models are trained
	NotQuantized Quantization = false // decode it as it is
)

// DecoderGraph decodes latents, which must have been divided by the scale factor: input "z" (n,embed_dim,h,w); output
// "image" (n,out_ch,h*f,w*f), about [-1,1], not clamped.
func (m *Model) DecoderGraph(n, h, w int, q Quantization) (*Graph, error) {
	return m.latentGraph("decoder", "image", n, h, w, false, func(f *FirstStage, z *ir.Tensor) *ir.Tensor {
		if q == Quantized {
			z = f.Quantize(z)
		}
		return f.Decode(z)
	})
}

// QuantizeGraph snaps latents to the codebook of a VQ first stage: input "z" (n,embed_dim,h,w); output "quantized".
func (m *Model) QuantizeGraph(n, h, w int) (*Graph, error) {
	return m.latentGraph("quantize", "quantized", n, h, w, true, (*FirstStage).Quantize)
}

// CodesGraph finds the codes of a VQ first stage: input "z" (n,embed_dim,h,w); output "indices" (n,h,w), whole numbers.
func (m *Model) CodesGraph(n, h, w int) (*Graph, error) {
	return m.latentGraph("codes", "indices", n, h, w, true, (*FirstStage).Codes)
}

func (m *Model) latentGraph(name, output string, n, h, w int, vq bool, f func(*FirstStage, *ir.Tensor) *ir.Tensor) (*Graph, error) {
	first, err := m.autoencoder(name, vq)
	if err != nil {
		return nil, err
	}
	if err := sized(name, n, h, w, 1); err != nil {
		return nil, err
	}
	return build(name, func(b *builder) {
		b.output(output, f(first, b.input("z", n, first.Config.EmbedDim, h, w)))
	})
}

// ConditionerGraph computes conditions: the input is [Conditioner.Input], h and w being the size of images or maps where it
// is one; output "cond" is [Conditioner.Apply].
func (m *Model) ConditionerGraph(n, h, w int) (*Graph, error) {
	if m.Conditioner == nil {
		return nil, fmt.Errorf("graph conditioner: the model has no conditioner")
	}
	name, shape, err := m.Conditioner.Input(n, h, w)
	if err != nil {
		return nil, fmt.Errorf("graph conditioner: %w", err)
	}
	for _, d := range shape {
		if d < 1 {
			return nil, fmt.Errorf("graph conditioner: input of shape %v", shape)
		}
	}
	return build("conditioner", func(b *builder) {
		b.output("cond", m.Conditioner.Apply(b.input(name, shape...)))
	})
}
