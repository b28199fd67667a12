package kernel

import "fmt"

// convPart is one of the convolutions that a convolution's input gradient is made of: its own convolution of dy, whose result goes
// to every step-th pixel of dx from (top, left) on.
type convPart struct {
	shape  ConvShape
	spread spread
	turn   turn
	packed
}

// spread says where the pixels of a result go: pixel (y, x) to pixel (y*step+top, x*step+left) of images of h x w.
type spread struct{ h, w, step, top, left int }

// pixel is the number of the pixel that pixel (y, x) of sample n goes to.
func (s spread) pixel(n, y, x int) int { return (n*s.h+y*s.step+s.top)*s.w + x*s.step + s.left }

// turn says which kernel a part has: tap u of rows is tap rows-1-u of those of the forward kernel that are step apart from row on;
// columns likewise. With doubled, a part has one row and column more, and each of its taps is the sum of the taps that reach either
// of two neighbouring pixels.
type turn struct {
	row, col, rows, cols, step int
	doubled                    bool
}

// parts cuts the input gradient of a convolution into convolutions of dy. With stride 1 it is one, with the kernel turned by half a
// turn and the channels exchanged. With a larger stride, pixels of dx that are a stride apart see the same taps, and each such phase
// is a convolution of its own. A doubled input receives the sum of 2x2 pixels, which is a convolution with stride 2.
func (s ConvShape) parts() []convPart {
	part := func(t turn, sp spread, h, w, padTop, padLeft, stride int) convPart {
		kh, kw := t.rows, t.cols
		if t.doubled {
			kh, kw = kh+1, kw+1
		}
		return convPart{turn: t, spread: sp, shape: ConvShape{H: s.OutH, W: s.OutW, C: s.O, OutH: h, OutW: w, O: s.C,
			KH: kh, KW: kw, Stride: stride, PadTop: padTop, PadLeft: padLeft}}
	}
	whole := turn{rows: s.KH, cols: s.KW, step: 1}
	if s.Upsample {
		whole.doubled = true
		return []convPart{part(whole, spread{s.H / 2, s.W / 2, 1, 0, 0}, s.H/2, s.W/2, s.KH-1-s.PadTop, s.KW-1-s.PadLeft, 2)}
	}
	// phase is the first tap that pixel p of an axis sees, their number, and the padding of dy.
	phase := func(p, kernel, pad int) (first, taps, padding int) {
		first = (p + pad) % s.Stride
		taps = max(0, (kernel-first+s.Stride-1)/s.Stride)
		return first, taps, taps - 1 - (p+pad)/s.Stride
	}
	var parts []convPart
	for top := range min(s.Stride, s.H) {
		for left := range min(s.Stride, s.W) {
			row, rows, padTop := phase(top, s.KH, s.PadTop)
			col, cols, padLeft := phase(left, s.KW, s.PadLeft)
			sp := spread{s.H, s.W, s.Stride, top, left}
			if rows*cols == 0 { // pixels that no tap sees
				rows, cols = 0, 0
			}
			parts = append(parts, part(turn{row: row, col: col, rows: rows, cols: cols, step: s.Stride}, sp,
				(s.H-top+s.Stride-1)/s.Stride, (s.W-left+s.Stride-1)/s.Stride, padTop, padLeft, 1))
		}
	}
	return parts
}

// PackConvGradInput packs oihw, the weights (O,C,KH,KW) of the layer that s describes, for its [Pool.ConvGradInput]. oihw is read
// once and not kept. An upsampling layer with a stride is an error.
func PackConvGradInput(p *Pool, s ConvShape, oihw []float32) (*ConvWeights, error) {
	s.N = 1
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if s.Upsample && s.Stride != 1 {
		return nil, fmt.Errorf("convolution %+v: no gradient of an upsampling layer with a stride", s)
	}
	if n := s.O * s.C * s.KH * s.KW; len(oihw) != n {
		return nil, fmt.Errorf("convolution weights have %d elements, want %d for (%d,%d,%d,%d)", len(oihw), n, s.O, s.C, s.KH, s.KW)
	}
	w := &ConvWeights{parts: s.parts(), shape: s.layer(), isa: p.isa}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range w.parts {
		part := &w.parts[i]
		if part.turn.rows == 0 {
			continue
		}
		part.packed = p.k.packConv(part.shape, p.turned(w, part, oihw), FP32, part.spread.step > 1)
	}
	w.algo = w.parts[0].algo
	return w, nil
}

// turned writes the kernel (C,O,rows,cols) of a part to memory of the pool.
func (p *Pool) turned(w *ConvWeights, part *convPart, oihw []float32) []float32 {
	n := part.shape.O * part.shape.C * part.shape.KH * part.shape.KW
	p.reserveKernel(n)
	p.k.turnKernel(w.shape.O, w.shape.C, w.shape.KH, w.shape.KW, part.turn, oihw, p.kernel[:n])
	return p.kernel[:n]
}

// Repack replaces the weights by others of the same layer: (O,C,KH,KW) row-major as at packing. It allocates nothing. The weights
// must not be in use.
func (w *ConvWeights) Repack(p *Pool, oihw []float32) {
	if w.isa != p.isa {
		panic(fmt.Sprintf("kernel: weights packed on %v packed again on %v", w.isa, p.isa))
	}
	oihw = oihw[:w.shape.O*w.shape.C*w.shape.KH*w.shape.KW]
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.parts == nil {
		s := w.shape
		s.N = 1
		p.k.repackConv(s, oihw, w.packed)
		return
	}
	for i := range w.parts {
		if part := &w.parts[i]; part.turn.rows > 0 {
			p.k.repackConv(part.shape, p.turned(w, part, oihw), part.packed)
		}
	}
}

// ConvGradInput computes the gradient dx, with the layout of x, of a convolution from that of its result. s is the shape of the
// forward pass, and w comes from [PackConvGradInput].
func (p *Pool) ConvGradInput(s ConvShape, w *ConvWeights, dy, dx []float32) {
	n := s.N
	if s.layer() != w.shape || w.isa != p.isa || w.parts == nil {
		panic(fmt.Sprintf("kernel: weights packed for %+v on %v used for the input gradient of %+v on %v", w.shape, w.isa, s, p.isa))
	}
	if n == 0 {
		return
	}
	dy, dx = dy[:s.outLen()], dx[:s.inLen()]
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range w.parts {
		part := &w.parts[i]
		t := part.shape
		t.N = n
		switch {
		case part.turn.rows == 0:
			p.k.zeroSpread(n, t.OutH, t.OutW, t.O, part.spread, dx)
		case part.spread.step == 1:
			p.k.conv(t, part.packed, dy, dx, Epilogue{})
		default:
			p.k.convSpread(t, part.packed, part.spread, dy, dx)
		}
	}
}

// ConvGradWeight computes the gradient dw (O,C,KH,KW) of the weights of a convolution over all s.N samples. The sum over samples and
// pixels is cut at places that the shape alone gives.
func (p *Pool) ConvGradWeight(s ConvShape, x, dy, dw []float32) {
	dw = dw[:s.O*s.C*s.KH*s.KW]
	if s.N == 0 {
		clear(dw)
		return
	}
	if err := s.Validate(); err != nil {
		panic(fmt.Sprintf("kernel: %v", err))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.convGradWeight(s, x[:s.inLen()], dy[:s.outLen()], dw)
}
