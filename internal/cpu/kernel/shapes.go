package kernel

import (
	"cmp"
	"fmt"
)

// ConvShape describes a convolution. x is (N,H,W,C) and y (N,OutH,OutW,O), both NHWC.
type ConvShape struct {
	N, H, W, C      int // H and W as the convolution sees them, that is after Upsample
	OutH, OutW, O   int
	KH, KW, Stride  int
	PadTop, PadLeft int  // bottom and right padding follow from OutH and OutW
	Upsample        bool // x is (N,H/2,W/2,C), read as its nearest-neighbour doubling
	LdY             int  // floats from one pixel of y to the next, of the forward pass only; 0 is O
}

// layer is what does not change with the batch and the place of the result.
func (s ConvShape) layer() ConvShape {
	s.N, s.LdY = 0, 0
	return s
}

// Validate reports a shape that no kernel can run.
func (s ConvShape) Validate() error {
	switch {
	case s.N < 1 || s.H < 1 || s.W < 1 || s.C < 1 || s.OutH < 1 || s.OutW < 1 || s.O < 1:
		return fmt.Errorf("convolution %+v: sizes must be positive", s)
	case s.KH < 1 || s.KW < 1 || s.Stride < 1 || s.PadTop < 0 || s.PadLeft < 0:
		return fmt.Errorf("convolution %+v: bad kernel, stride or padding", s)
	case s.LdY != 0 && s.LdY < s.O:
		return fmt.Errorf("convolution %+v: results overlap", s)
	case s.KH*s.KW > maxTaps:
		return fmt.Errorf("convolution %+v: kernel larger than %d positions", s, maxTaps)
	case s.Upsample && (s.H%2 != 0 || s.W%2 != 0):
		return fmt.Errorf("convolution %+v: an upsampled input has even height and width", s)
	}
	return nil
}

const maxTaps = 64

// FLOP is the number of multiplications and additions of the direct algorithm.
func (s ConvShape) FLOP() int64 {
	return 2 * int64(s.N) * int64(s.OutH*s.OutW) * int64(s.O) * int64(s.C) * int64(s.KH*s.KW)
}

func (s ConvShape) inLen() int {
	if s.Upsample {
		return s.N * s.H / 2 * s.W / 2 * s.C
	}
	return s.N * s.H * s.W * s.C
}

func (s ConvShape) ldY() int { return cmp.Or(s.LdY, s.O) }

func (s ConvShape) outLen() int { return (s.N*s.OutH*s.OutW-1)*s.ldY() + s.O }

// LinearShape describes y = x W^T. x is (Rows, In) with LdX floats from row to row, y (Rows, Out) with LdY.
type LinearShape struct {
	Rows, In, Out int
	RowsPerSample int // rows that share one row of Epilogue.SampleBias; 0 means that all do
	LdX, LdY      int // 0 means contiguous
}

func (s LinearShape) withDefaults() LinearShape {
	if s.LdX == 0 {
		s.LdX = s.In
	}
	if s.LdY == 0 {
		s.LdY = s.Out
	}
	if s.RowsPerSample == 0 {
		s.RowsPerSample = max(s.Rows, 1)
	}
	return s
}

// Epilogue is what happens to a product on its way to memory: y = act(acc + Bias + SampleBias) + Residual. Nil parts are
// left out. With a GEGLU layer, y = (value + bias) * GELU(gate + bias) + Residual.
type Epilogue struct {
	Bias         []float32 // (O), or (2*Out) with GEGLU
	SampleBias   []float32 // (N, O) with SampleStride floats from row to row; not with GEGLU
	SampleStride int       // 0 means contiguous
	Residual     []float32 // same layout as y; may be y itself
	Act          Act       // not with GEGLU
}

// AttentionShape describes o = softmax(Scale * q k^T) v for each sample and head. Strides are in floats: element (t, d) of head
// h of sample n of q is q[n*QSample + t*QRow + h*QHead + d].
type AttentionShape struct {
	N, Tq, Tk, Heads, D                int
	Scale                              float32
	QRow, QHead, KRow, KHead           int
	VRow, VHead, ORow, OHead           int
	QSample, KSample, VSample, OSample int
}

// PackedAttention returns the shape for q, k, v and o that are each contiguous (N, T, Heads*D).
func PackedAttention(n, tq, tk, heads, d int, scale float32) AttentionShape {
	c := heads * d
	return AttentionShape{N: n, Tq: tq, Tk: tk, Heads: heads, D: d, Scale: scale,
		QRow: c, QHead: d, KRow: c, KHead: d, VRow: c, VHead: d, ORow: c, OHead: d,
		QSample: tq * c, KSample: tk * c, VSample: tk * c, OSample: tq * c}
}

func (s AttentionShape) span(t, row, head, sample int) int {
	return (s.N-1)*sample + (t-1)*row + (s.Heads-1)*head + s.D
}

// GroupNormShape describes a group normalisation of x (N,HW,C): each of Groups runs of C/Groups channels of a sample is
// normalised by its mean and (biased) variance.
type GroupNormShape struct {
	N, HW, C, Groups int
	Eps              float64
	SiLU             bool // apply SiLU to the result
	ScaleStride      int  // floats between the rows of scaleShift; 0 means 2*C
}

func (s GroupNormShape) check() {
	if s.Groups < 1 || s.C%s.Groups != 0 {
		panic(fmt.Sprintf("kernel: group norm %+v: channels are not a multiple of groups", s))
	}
}
