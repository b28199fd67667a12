package plan

// Kind names what a step computes.
type Kind string

// The step kinds. In holds the operands in the order given; shapes as in package ir.
const (
	Conv           Kind = "conv"            // x; Weights: w (OIHW)
	Linear         Kind = "linear"          // x; Weights: one or more (O, C) parts side by side; also 1x1 convolutions
	GroupNorm      Kind = "group_norm"      // x; Weights: gamma, beta; Moments; ScaleShift; SiLU
	GroupMoments   Kind = "group_moments"   // x (N,C,H,W); window (N,4)
	PoolMoments    Kind = "pool_moments"    // moments (N,2 Groups); weights (N); Groups: samples of a run
	LayerNorm      Kind = "layer_norm"      // x; Weights: gamma, beta
	Attention      Kind = "attention"       // q, k, v
	SiLU           Kind = "silu"            // x
	GELU           Kind = "gelu"            // x
	ReLU           Kind = "relu"            // x
	GEGLU          Kind = "geglu"           // x
	Scale          Kind = "scale"           // x
	Add            Kind = "add"             // a, b, ...
	AddSample      Kind = "add_sample"      // x (N,C,H,W) or (N,T,C); v (N,C)
	AddRows        Kind = "add_rows"        // x (N,T,C); p (T,C)
	Modulate       Kind = "modulate"        // x (N,C,H,W); s (N,2C)
	Concat         Kind = "concat"          // a, b, ... on channels
	Slice          Kind = "slice"           // x; columns From..To
	Upsample       Kind = "upsample"        // x
	AvgPool        Kind = "avg_pool"        // x
	AvgPool3       Kind = "avg_pool3"       // x
	MaxPool        Kind = "max_pool"        // x; Window
	PixelMean      Kind = "pixel_mean"      // x (N,C,H,W), to (N,C)
	Embed          Kind = "embed"           // ids; Weights: table
	TimeEmbedding  Kind = "time_embedding"  // t
	CodeIndex      Kind = "code_index"      // z; Weights: codebook
	Quantize       Kind = "quantize"        // z; Weights: codebook
	GaussianSample Kind = "gaussian_sample" // moments, noise
	Broadcast      Kind = "broadcast"       // v (N,1,C) to (N,T,C)
	Copy           Kind = "copy"            // x
	Load           Kind = "load"            // input port to arena (NCHW to NHWC)
	Store          Kind = "store"           // arena to output port (NHWC to NCHW)
)

// The step kinds of gradients. dy is the gradient of what the step without "_grad" gives.
const (
	ConvGradInput       Kind = "conv_grad_input"        // dy; Weights: w; Window of the convolution
	ConvGradWeight      Kind = "conv_grad_weight"       // x, dy; Window
	LinearGradWeight    Kind = "linear_grad_weight"     // x, dy
	ColumnSum           Kind = "column_sum"             // x (..., C), to (C); also images
	PixelSum            Kind = "pixel_sum"              // x (N,C,H,W) or (N,T,C), to (N,C)
	BatchSum            Kind = "batch_sum"              // x (N,T,C), to (T,C)
	GroupNormGrad       Kind = "group_norm_grad"        // x, dy; Weights: gamma, with SiLU also beta; Affine
	GroupNormGradParams Kind = "group_norm_grad_params" // x, dy, to gradients of gamma and beta (2C)
	LayerNormGrad       Kind = "layer_norm_grad"        // x, dy; Weights: gamma; Affine
	LayerNormGradParams Kind = "layer_norm_grad_params" // x, dy, to (2C)
	AttentionGrad       Kind = "attention_grad"         // q, k, v, dy; Parts: dq, dk, dv
	SiLUGrad            Kind = "silu_grad"              // x, dy
	GELUGrad            Kind = "gelu_grad"              // x, dy
	ReLUGrad            Kind = "relu_grad"              // x, dy
	GEGLUGrad           Kind = "geglu_grad"             // x, dy
	ModulateGradX       Kind = "modulate_grad_x"        // s, dy
	ModulateGradS       Kind = "modulate_grad_s"        // x, dy
	Pad                 Kind = "pad"                    // dy; to columns from From on, zeros around
	MaxPoolGrad         Kind = "max_pool_grad"          // x, dy; Window
	AvgPool3Grad        Kind = "avg_pool3_grad"         // dy
	PixelMeanGrad       Kind = "pixel_mean_grad"        // dy (N,C), to (N,C,H,W)
	EmbedGrad           Kind = "embed_grad"             // ids, dy
	GaussianSampleGrad  Kind = "gaussian_sample_grad"   // moments, noise, dy
	Accumulate          Kind = "accumulate"             // x, added to a gradient
)

// The step kinds of losses and of what only training has.
const (
	BatchMoments     Kind = "batch_moments"      // x, to means and variances of channels (2C)
	BatchNormGiven   Kind = "batch_norm_given"   // x, mean, variance; Weights: gamma, beta
	ShiftChannels    Kind = "shift_channels"     // x, b
	ScaleChannels    Kind = "scale_channels"     // x, s
	ChannelDot       Kind = "channel_dot"        // x, dy, to (C)
	UnitDistance     Kind = "unit_distance"      // a, b; Weights: w
	UnitDistanceGrad Kind = "unit_distance_grad" // a, b, dy; Weights: w
	GaussianKL       Kind = "gaussian_kl"        // moments
	GaussianKLGrad   Kind = "gaussian_kl_grad"   // moments, scalar
	CrossEntropy     Kind = "cross_entropy"      // logits (N,C), ids (N)
	CrossEntropyGrad Kind = "cross_entropy_grad" // logits, ids, dy (N)
	Sum              Kind = "sum"                // x, to a scalar or (N)
	Fill             Kind = "fill"               // dy, a scalar or (N)
	NormRatio        Kind = "norm_ratio"         // a, b; Eps, Factor

	LeakyReLU      Kind = "leaky_relu"      // x; Factor
	LeakyReLUGrad  Kind = "leaky_relu_grad" // x, dy; Factor
	Abs            Kind = "abs"             // x
	AbsGrad        Kind = "abs_grad"        // x, dy
	Square         Kind = "square"          // x
	SquareGrad     Kind = "square_grad"     // x, dy
	Exp            Kind = "exp"             // x
	ExpGrad        Kind = "exp_grad"        // x, dy
	Softplus       Kind = "softplus"        // x
	SoftplusGrad   Kind = "softplus_grad"   // x, dy
	Reciprocal     Kind = "reciprocal"      // x
	ReciprocalGrad Kind = "reciprocal_grad" // x, dy
	Offset         Kind = "offset"          // x; Factor

	One            Kind = "one"              // no operand
	Zero           Kind = "zero"             // no operand
	Dot            Kind = "dot"              // a, b
	ScaleBy        Kind = "scale_by"         // x, scalar
	MeanSquare     Kind = "mean_square"      // a, b
	MeanSquareGrad Kind = "mean_square_grad" // a, b, scalar
)

// Act is an activation fused into a step's output.
type Act uint8

const (
	NoAct Act = iota
	ActSiLU
	ActGELU
	ActReLU
)

// Window describes the geometry of a convolution or a pooling.
type Window struct {
	KH, KW, Stride, Top, Left int
	Upsample                  bool // the input is read as its nearest-neighbour doubling
}

// Step is one kernel call: Out = act(kernel(In, Weights) + Bias + SampleBias) + Residual, where the kind has these parts.
type Step struct {
	Kind    Kind
	Name    string // the graph operation it ends with
	In      []*Value
	Weights []*Value
	Bias    []*Value // nil, or one per weight part, of which some may be nil
	Out     *Value

	SampleBias *Value // (N, C): one row for each sample
	Residual   *Value // same shape as Out
	ScaleShift *Value // (N, 2C): GroupNorm only
	Moments    *Value // (N, 2 Groups): GroupNorm with statistics from elsewhere
	Act        Act
	SiLU       bool // GroupNorm: SiLU on the way out; GroupNormGrad: dy is the gradient of that
	GEGLU      bool // Linear: the output is value * GELU(gate) of a twice as wide product
	Transposed bool // Linear: the weight is (C, O), Out = x w

	Affine *Value    // a second output: gradients of gamma and beta (2C)
	Parts  [3]*Value // AttentionGrad: views of Out

	Window        Window
	Heads, Groups int
	Batch         bool   // GroupNorm and its gradient: statistics over all samples
	QKVHead       [4]int // Attention: distance between heads of q, k, v, o in floats
	Eps, Factor   float64
	From, To      int
	FLOP          int64
}

// outputs lists what the step writes.
func (s *Step) outputs() []*Value {
	if s.Affine != nil {
		return []*Value{s.Out, s.Affine}
	}
	return []*Value{s.Out}
}

// operands lists every value but weights and biases that the step reads.
func (s *Step) operands() []*Value {
	vs := append([]*Value(nil), s.In...)
	for _, v := range []*Value{s.SampleBias, s.Residual, s.ScaleShift, s.Moments} {
		if v != nil {
			vs = append(vs, v)
		}
	}
	return vs
}
