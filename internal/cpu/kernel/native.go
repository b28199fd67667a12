//go:build cgo && linux

package kernel

/*
#cgo CFLAGS: -O3 -Wall -Wno-psabi
#cgo LDFLAGS: -lm -lpthread
#include "ldm.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"
)

func runnable(i ISA) bool { return C.ldm_runnable(C.int(i)) != 0 }

// native runs the C kernels. Descriptions of shapes are kept here, so that calls allocate nothing.
type native struct {
	pool           *C.ldm_pool
	convShape      C.ldm_conv_shape
	linearShape    C.ldm_linear_shape
	attentionShape C.ldm_attention_shape
	normShape      C.ldm_group_norm_shape
	windowShape    C.ldm_window_shape
	windows        []C.long
	spread         C.ldm_spread
	adam           C.ldm_adam
	sum            C.double
	gradients      // in plain Go
}

func newKernels(isa ISA, threads int) (kernels, error) {
	if isa == Generic {
		return newPlain(threads), nil
	}
	pool := C.ldm_pool_new(C.int(threads), C.int(isa))
	if pool == nil {
		return nil, errors.New("no memory or no more threads")
	}
	return &native{pool: pool, gradients: &plain{threads}}, nil
}

func ptr(s []float32) *C.float { return (*C.float)(unsafe.Pointer(unsafe.SliceData(s))) }

func flag(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// must panics when a kernel had no scratch memory, as the Go runtime does when it has none.
func must(r C.int, what string) {
	if r != 0 {
		panic(fmt.Sprintf("kernel: out of memory for the scratch space of %s", what))
	}
}

func (k *native) close()        { C.ldm_pool_free(k.pool) }
func (k *native) peak() float64 { return float64(C.ldm_peak(k.pool)) }

func (k *native) setConv(s ConvShape) *C.ldm_conv_shape {
	k.convShape = C.ldm_conv_shape{n: C.int(s.N), h: C.int(s.H), w: C.int(s.W), c: C.int(s.C), out_h: C.int(s.OutH), out_w: C.int(s.OutW),
		o: C.int(s.O), kh: C.int(s.KH), kw: C.int(s.KW), stride: C.int(s.Stride), pad_top: C.int(s.PadTop), pad_left: C.int(s.PadLeft),
		upsample: flag(s.Upsample), ldy: C.int(s.ldY())}
	return &k.convShape
}

// winograd is the output tile of a Winograd convolution, its height and width; zero means the direct product.
type winograd struct{ h, w int }

func (w winograd) String() string {
	if w.h == 0 {
		return "direct"
	}
	return fmt.Sprintf("winograd %dx%d", w.h, w.w)
}

// algorithm chooses by the layer alone: Winograd for the kernels of winograd.inc.h once the transforms pay, with small tiles, or none,
// for maps of which large tiles would cover too few to hide the reading of the weights.
func algorithm(s ConvShape) winograd {
	large := s.OutH*s.OutW >= 14*16
	if s.Stride == 2 {
		large = s.OutH*s.OutW > 16*16 // tiles have more frequencies
	}
	switch {
	case min(s.C, s.O) < 16 || s.Stride > 2:
		return winograd{}
	case s.Stride == 2:
		if large && s.KH == 3 && s.KW == 3 {
			return winograd{3, 3}
		}
		return winograd{}
	}
	switch [2]int{s.KH, s.KW} {
	case [2]int{3, 3}:
		if !large {
			return winograd{2, 2}
		}
		return winograd{4, 4}
	case [2]int{5, 5}:
		if large {
			return winograd{4, 4}
		}
	case [2]int{1, 3}, [2]int{1, 7}:
		return winograd{1, 4}
	case [2]int{3, 1}, [2]int{7, 1}:
		return winograd{4, 1}
	}
	return winograd{}
}

func (k *native) packConv(s ConvShape, oihw []float32, prec Precision, direct bool) packed {
	var algo winograd
	if !direct {
		algo = algorithm(s)
	}
	kind := algo.h<<4 | algo.w
	data := Alloc(int(C.ldm_conv_size(k.pool, k.setConv(s), C.int(kind), flag(prec == Mixed))))
	w := packed{algo: algo.String(), data: data, kind: kind, prec: prec}
	k.repackConv(s, oihw, w)
	return w
}

func (k *native) repackConv(s ConvShape, oihw []float32, w packed) {
	C.ldm_conv_pack(k.pool, k.setConv(s), C.int(w.kind), flag(w.prec == Mixed), ptr(oihw), ptr(w.data))
}

func (k *native) reserveConv(s ConvShape, w packed) {
	must(C.ldm_conv_reserve(k.pool, k.setConv(s), C.int(w.kind), flag(w.prec == Mixed)), "a convolution")
}

func (k *native) conv(s ConvShape, w packed, x, y []float32, e Epilogue) {
	must(C.ldm_conv(k.pool, k.setConv(s), C.int(w.kind), flag(w.prec == Mixed), ptr(w.data), ptr(x), ptr(y), ptr(e.Bias), ptr(e.SampleBias),
		C.long(e.SampleStride), ptr(e.Residual), C.int(e.Act)), "a convolution")
}

func (k *native) turnKernel(o, c, kh, kw int, t turn, oihw, y []float32) {
	if kh != 3 || kw != 3 || t != (turn{rows: 3, cols: 3, step: 1}) {
		k.gradients.turnKernel(o, c, kh, kw, t, oihw, y)
		return
	}
	C.ldm_turn_3x3(k.pool, C.long(o), C.long(c), ptr(oihw), ptr(y))
}

func (k *native) convSpread(s ConvShape, w packed, t spread, x, y []float32) {
	k.spread = C.ldm_spread{h: C.int(t.h), w: C.int(t.w), step: C.int(t.step), top: C.int(t.top), left: C.int(t.left)}
	must(C.ldm_conv_spread(k.pool, k.setConv(s), &k.spread, ptr(w.data), ptr(x), ptr(y)), "an input gradient")
}

func (k *native) convGradWeight(s ConvShape, x, dy, dw []float32) {
	must(C.ldm_conv_grad_weight(k.pool, k.setConv(s), ptr(x), ptr(dy), ptr(dw)), "a weight gradient")
}

func (k *native) linearGradWeight(rows, in, out, ldx, ldy int, x, dy, dw []float32) {
	s := k.setLinear(LinearShape{Rows: rows, In: in, Out: out, LdX: ldx, LdY: ldy})
	must(C.ldm_linear_grad_weight(k.pool, s, ptr(x), ptr(dy), ptr(dw)), "a weight gradient")
}

func (k *native) attentionGrad(s AttentionShape, q, key, v, dy, dq, dk, dv []float32) {
	must(C.ldm_attention_grad(k.pool, k.setAttention(s), ptr(q), ptr(key), ptr(v), ptr(dy), ptr(dq), ptr(dk), ptr(dv)), "a gradient of attention")
}

func (k *native) groupNormGrad(s GroupNormShape, x, gamma, beta, dy, dx, dgamma, dbeta []float32) {
	must(C.ldm_group_norm_grad(k.pool, k.setNorm(s), ptr(x), ptr(gamma), ptr(beta), ptr(dy), ptr(dx), ptr(dgamma), ptr(dbeta)),
		"a gradient of a group norm")
}

func (k *native) layerNormGrad(rows, c int, eps float64, x, gamma, dy, dx, dgamma, dbeta []float32) {
	must(C.ldm_layer_norm_grad(k.pool, C.long(rows), C.long(c), C.double(eps), ptr(x), ptr(gamma), ptr(dy), ptr(dx), ptr(dgamma), ptr(dbeta)),
		"a gradient of a layer norm")
}

func (k *native) columnSums(n, rows, c, ld int, x, y []float32) {
	must(C.ldm_column_sums(k.pool, C.long(n), C.long(rows), C.long(c), C.long(ld), ptr(x), ptr(y)), "sums of columns")
}

func (k *native) total(kind C.int, a, b []float32) float64 {
	must(C.ldm_total(k.pool, kind, C.long(len(a)), ptr(a), ptr(b), &k.sum), "a sum")
	return float64(k.sum)
}

func (k *native) dot(a, b []float32) float64            { return k.total(0, a, b) }
func (k *native) squareDistance(a, b []float32) float64 { return k.total(1, a, b) }

func (k *native) activateGrad(a Act, x, dy, dx []float32) {
	C.ldm_slopes(k.pool, C.int(a-SiLU), 0, C.long(len(dx)), ptr(x), ptr(dy), ptr(dx))
}

func (k *native) leakyReLUGrad(slope float32, x, dy, dx []float32) {
	C.ldm_slopes(k.pool, 4, C.float(slope), C.long(len(dx)), ptr(x), ptr(dy), ptr(dx))
}

func (k *native) leakyReLU(slope float32, x, y []float32) {
	C.ldm_slopes(k.pool, 5, C.float(slope), C.long(len(y)), ptr(x), ptr(x), ptr(y))
}

func (k *native) gegluGrad(rows, c int, x, dy, dx []float32) {
	C.ldm_geglu_grad(k.pool, C.long(rows), C.long(c), ptr(x), ptr(dy), ptr(dx))
}

func (k *native) adamW(c adamStep, w, g, m, v, ema []float32) {
	k.adam = C.ldm_adam{keep: C.float(c.keep), rest1: C.float(c.rest1), beta2: C.float(c.beta2), rest2: C.float(c.rest2), size: C.float(c.size),
		root: C.float(c.root), eps: C.float(c.eps), rest_ema: C.float(c.restEMA)}
	C.ldm_adam_step(k.pool, &k.adam, C.long(len(w)), ptr(w), ptr(g), ptr(m), ptr(v), ptr(ema))
}

func (k *native) packLinear(in int, parts [][]float32, geglu bool, prec Precision) packed {
	out := 0
	for _, p := range parts {
		out += len(p) / in
	}
	if geglu {
		out /= 2
	}
	data := Alloc(int(C.ldm_linear_size(k.pool, C.long(in), C.long(out), flag(geglu), flag(prec == Mixed))))
	w := packed{algo: "direct", data: data, prec: prec}
	k.repackLinear(in, out, parts, geglu, w)
	return w
}

func (k *native) repackLinear(in, out int, parts [][]float32, geglu bool, w packed) {
	first := 0
	for _, p := range parts {
		rows := len(p) / in
		C.ldm_linear_pack(k.pool, C.long(in), C.long(out), flag(geglu), flag(w.prec == Mixed), ptr(p), C.long(first), C.long(rows), ptr(w.data))
		first += rows
	}
}

func (k *native) setLinear(s LinearShape) *C.ldm_linear_shape {
	k.linearShape = C.ldm_linear_shape{rows: C.long(s.Rows), in: C.long(s.In), out: C.long(s.Out), rows_per_sample: C.long(s.RowsPerSample),
		ldx: C.long(s.LdX), ldy: C.long(s.LdY)}
	return &k.linearShape
}

func (k *native) reserveLinear(s LinearShape, w *LinearWeights) {
	must(C.ldm_linear_reserve(k.pool, k.setLinear(s), flag(w.geglu), flag(w.prec == Mixed)), "a linear layer")
}

func (k *native) linear(s LinearShape, w *LinearWeights, x, y []float32, e Epilogue) {
	must(C.ldm_linear(k.pool, k.setLinear(s), flag(w.geglu), flag(w.prec == Mixed), ptr(w.data), ptr(x), ptr(y), ptr(e.Bias), ptr(e.SampleBias),
		C.long(e.SampleStride), ptr(e.Residual), C.int(e.Act)), "a linear layer")
}

func (k *native) setAttention(s AttentionShape) *C.ldm_attention_shape {
	k.attentionShape = C.ldm_attention_shape{n: C.long(s.N), tq: C.long(s.Tq), tk: C.long(s.Tk), heads: C.long(s.Heads), d: C.long(s.D),
		scale: C.float(s.Scale), q_row: C.long(s.QRow), q_head: C.long(s.QHead), k_row: C.long(s.KRow), k_head: C.long(s.KHead),
		v_row: C.long(s.VRow), v_head: C.long(s.VHead), o_row: C.long(s.ORow), o_head: C.long(s.OHead),
		q_sample: C.long(s.QSample), k_sample: C.long(s.KSample), v_sample: C.long(s.VSample), o_sample: C.long(s.OSample)}
	return &k.attentionShape
}

func (k *native) reserveAttention(s AttentionShape, prec Precision) {
	must(C.ldm_attention_reserve(k.pool, k.setAttention(s), flag(prec == Mixed)), "attention")
}

func (k *native) attention(s AttentionShape, q, key, v, o []float32, prec Precision) {
	must(C.ldm_attention(k.pool, k.setAttention(s), flag(prec == Mixed), ptr(q), ptr(key), ptr(v), ptr(o)), "attention")
}

func (k *native) setNorm(s GroupNormShape) *C.ldm_group_norm_shape {
	k.normShape = C.ldm_group_norm_shape{n: C.long(s.N), hw: C.long(s.HW), c: C.long(s.C), groups: C.long(s.Groups),
		scale_stride: C.long(s.ScaleStride), eps: C.double(s.Eps), silu: flag(s.SiLU)}
	return &k.normShape
}

func (k *native) groupNorm(s GroupNormShape, x, gamma, beta, moments, scaleShift, y []float32) {
	must(C.ldm_group_norm(k.pool, k.setNorm(s), ptr(x), ptr(gamma), ptr(beta), ptr(moments), ptr(scaleShift), ptr(y)), "a group norm")
}

func (k *native) groupMoments(s GroupNormShape, width int, windows []window, x, y []float32) {
	k.windows = k.windows[:0]
	for _, w := range windows {
		k.windows = append(k.windows, C.long(w.top), C.long(w.left), C.long(w.bottom), C.long(w.right))
	}
	must(C.ldm_group_moments(k.pool, k.setNorm(s), C.long(width), &k.windows[0], ptr(x), ptr(y)), "moments of groups")
}

func (k *native) layerNorm(rows, c int, eps float64, x, gamma, beta, y []float32) {
	C.ldm_layer_norm(k.pool, C.long(rows), C.long(c), C.double(eps), ptr(x), ptr(gamma), ptr(beta), ptr(y))
}

func (k *native) activate(a Act, x, y []float32) {
	C.ldm_activate(k.pool, C.int(a), C.long(len(y)), ptr(x), ptr(y))
}

func (k *native) scale(f float32, x, y []float32) {
	C.ldm_scale(k.pool, C.float(f), C.long(len(y)), ptr(x), ptr(y))
}

func (k *native) add(dst, a, b []float32) {
	C.ldm_add(k.pool, C.long(len(dst)), ptr(a), ptr(b), ptr(dst))
}

func (k *native) geglu(rows, c int, x, y []float32) {
	C.ldm_geglu(k.pool, C.long(rows), C.long(c), ptr(x), ptr(y))
}

func (k *native) addRowsPerSample(n, t, c int, x, v []float32, ldv int, y []float32) {
	C.ldm_add_rows(k.pool, C.long(n*t), C.long(c), ptr(x), ptr(v), C.long(ldv), C.long(t), C.long(n), ptr(y))
}

func (k *native) addRows(n, t, c int, x, pos, y []float32) {
	C.ldm_add_rows(k.pool, C.long(n*t), C.long(c), ptr(x), ptr(pos), C.long(c), 1, C.long(t), ptr(y))
}

func (k *native) modulate(n, t, c int, x, s []float32, lds int, y []float32) {
	C.ldm_modulate(k.pool, C.long(n*t), C.long(c), ptr(x), ptr(s), C.long(lds), C.long(t), ptr(y))
}

func (k *native) copyColumns(rows, n int, x []float32, ldx int, y []float32, ldy int) {
	C.ldm_copy_rows(k.pool, C.long(rows), C.long(n), ptr(x), C.long(ldx), 1, ptr(y), C.long(ldy))
}

func (k *native) broadcast(n, t, c int, v []float32, ldv int, y []float32) {
	C.ldm_copy_rows(k.pool, C.long(n*t), C.long(c), ptr(v), C.long(ldv), C.long(t), ptr(y), C.long(c))
}

func (k *native) upsample2(n, h, w, c int, x, y []float32) {
	C.ldm_upsample2(k.pool, C.long(n), C.long(h), C.long(w), C.long(c), ptr(x), ptr(y))
}

func (k *native) avgPool2(n, h, w, c int, x, y []float32) {
	C.ldm_avg_pool2(k.pool, C.long(n), C.long(h), C.long(w), C.long(c), ptr(x), ptr(y))
}

func (k *native) poolWindows(s WindowShape, average, relu bool, x, y []float32) {
	k.windowShape = C.ldm_window_shape{n: C.int(s.N), h: C.int(s.H), w: C.int(s.W), c: C.int(s.C), out_h: C.int(s.OutH), out_w: C.int(s.OutW),
		k: C.int(s.Kernel), stride: C.int(s.Stride), pad: C.int(s.Pad), ldy: C.int(s.ldY())}
	C.ldm_pool_windows(k.pool, &k.windowShape, flag(average), flag(relu), ptr(x), ptr(y))
}

func (k *native) pixelMean(n, hw, c int, x, y []float32) {
	C.ldm_pixel_mean(k.pool, C.long(n), C.long(hw), C.long(c), ptr(x), ptr(y))
}

func (k *native) transpose(n, rows, cols int, x, y []float32) {
	C.ldm_transpose(k.pool, C.long(n), C.long(rows), C.long(cols), ptr(x), ptr(y))
}

func (k *native) embed(ids []float32, dim int, table, y []float32) { embed(ids, dim, table, y) }

func (k *native) codeIndex(rows, c, v int, z, codebook, idx []float32) {
	must(C.ldm_code_index(k.pool, C.long(rows), C.long(c), C.long(v), ptr(z), ptr(codebook), ptr(idx)), "a codebook search")
}

func (k *native) quantize(rows, c int, z, codebook, idx, y []float32) {
	C.ldm_quantize(k.pool, C.long(rows), C.long(c), ptr(z), ptr(codebook), ptr(idx), ptr(y))
}

func (k *native) gaussianSample(rows, c int, moments, noise, y []float32) {
	C.ldm_gaussian_sample(k.pool, C.long(rows), C.long(c), ptr(moments), ptr(noise), ptr(y))
}

func (k *native) timeEmbedding(t []float32, dim int, freq, y []float32) {
	timeEmbedding(t, dim, freq, y)
}
