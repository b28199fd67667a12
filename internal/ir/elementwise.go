package ir

import "math"

const (
	KindLeakyReLU      Kind = "leaky_relu"      // x; Scale: slope below zero
	KindLeakyReLUGrad  Kind = "leaky_relu_grad" // x, dy; Scale as leaky_relu
	KindAbs            Kind = "abs"             // x
	KindAbsGrad        Kind = "abs_grad"        // x, dy
	KindSquare         Kind = "square"          // x
	KindSquareGrad     Kind = "square_grad"     // x, dy
	KindExp            Kind = "exp"             // x
	KindExpGrad        Kind = "exp_grad"        // x, dy
	KindSoftplus       Kind = "softplus"        // x
	KindSoftplusGrad   Kind = "softplus_grad"   // x, dy
	KindReciprocal     Kind = "reciprocal"      // x
	KindReciprocalGrad Kind = "reciprocal_grad" // x, dy
	KindOffset         Kind = "offset"          // x; Scale: what is added
	KindDetach         Kind = "detach"          // x
)

// LeakyReLU is x where x is positive and slope*x elsewhere, on any shape.
func LeakyReLU(x *Tensor, slope float64) *Tensor {
	return apply(Op{Kind: KindLeakyReLU, Scale: slope}, x)
}

// Abs is |x|, on any shape; its gradient at zero is zero.
func Abs(x *Tensor) *Tensor { return apply(Op{Kind: KindAbs}, x) }

// Square is x*x, on any shape.
func Square(x *Tensor) *Tensor { return apply(Op{Kind: KindSquare}, x) }

// Exp is e to the power of x, on any shape.
func Exp(x *Tensor) *Tensor { return apply(Op{Kind: KindExp}, x) }

// Softplus is log(1+exp(x)), on any shape.
func Softplus(x *Tensor) *Tensor { return apply(Op{Kind: KindSoftplus}, x) }

// Reciprocal is 1/x, on any shape.
func Reciprocal(x *Tensor) *Tensor { return apply(Op{Kind: KindReciprocal}, x) }

// Offset is x+a, on any shape.
func Offset(x *Tensor, a float64) *Tensor { return apply(Op{Kind: KindOffset, Scale: a}, x) }

// Detach is x as a constant: no gradient flows through it.
func Detach(x *Tensor) *Tensor { return apply(Op{Kind: KindDetach}, x) }

// Sub is a-b for tensors of one shape.
func Sub(a, b *Tensor) *Tensor { return Add(a, Scale(b, -1)) }

// elementwise registers a function of one variable and its gradient, which is its slope times dy.
func elementwise(k, back Kind, f, slope func(op Op, x float64) float64) {
	register(k, rule{
		min: 1, max: 1, shape: sameAs(0),
		grad: func(op Op, in []*Tensor, dy *Tensor) []*Tensor {
			op.Kind = back
			return []*Tensor{apply(op, in[0], dy)}
		},
		run: func(c *call) error {
			for i, v := range c.in[0] {
				c.y[i] = f(c.op, v)
			}
			return nil
		},
	})
	register(back, rule{
		class: Backward, min: 2, max: 2, shape: sameAs(0),
		run: func(c *call) error {
			for i, v := range c.in[0] {
				c.y[i] = slope(c.op, v) * c.in[1][i]
			}
			return nil
		},
	})
}

// plain is a function without attributes.
func plain(f func(float64) float64) func(Op, float64) float64 {
	return func(_ Op, x float64) float64 { return f(x) }
}

func init() {
	elementwise(KindLeakyReLU, KindLeakyReLUGrad,
		func(op Op, x float64) float64 { return x * leakySlope(op, x) }, leakySlope)
	elementwise(KindAbs, KindAbsGrad, plain(math.Abs), plain(sign))
	elementwise(KindSquare, KindSquareGrad,
		plain(func(x float64) float64 { return x * x }), plain(func(x float64) float64 { return 2 * x }))
	elementwise(KindExp, KindExpGrad, plain(math.Exp), plain(math.Exp))
	elementwise(KindSoftplus, KindSoftplusGrad, plain(softplus), plain(sigmoid))
	elementwise(KindReciprocal, KindReciprocalGrad,
		plain(func(x float64) float64 { return 1 / x }), plain(func(x float64) float64 { return -1 / (x * x) }))
	register(KindOffset, rule{
		min: 1, max: 1, shape: sameAs(0),
		grad: func(_ Op, _ []*Tensor, dy *Tensor) []*Tensor { return []*Tensor{dy} },
		run: func(c *call) error {
			for i, v := range c.in[0] {
				c.y[i] = v + c.op.Scale
			}
			return nil
		},
	})
	register(KindDetach, rule{
		class: InferenceOnly, min: 1, max: 1, shape: sameAs(0),
		run: func(c *call) error { copy(c.y, c.in[0]); return nil },
	})
}

func leakySlope(op Op, x float64) float64 {
	if x > 0 {
		return 1
	}
	return op.Scale
}

// sign is -1, 0 or 1, or NaN.
func sign(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return x
}

func softplus(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }
