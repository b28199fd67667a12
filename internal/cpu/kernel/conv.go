package kernel

import "fmt"

// ConvWeights are the packed weights of a convolution. They fit every batch size of the layer they were packed for.
type ConvWeights struct {
	packed
	shape ConvShape // the layer
	isa   ISA
	parts []convPart // of an input gradient
}

// PackConv packs oihw, (O,C,KH,KW) row-major, for the layer that s describes. The algorithm follows from the layer alone, never
// from N: Winograd (Lavin and Gray 2016, with interpolation points that keep the error small) where the stride is 1, the kernel is 3x3,
// 5x5 or a row or column of 3 or 7, and both channel counts are large enough, and a direct implicit matrix product otherwise.
// oihw is read once and not kept.
func PackConv(p *Pool, s ConvShape, oihw []float32, prec Precision) (*ConvWeights, error) {
	s = s.layer()
	s.N = 1
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if n := s.O * s.C * s.KH * s.KW; len(oihw) != n {
		return nil, fmt.Errorf("convolution weights have %d elements, want %d for (%d,%d,%d,%d)", len(oihw), n, s.O, s.C, s.KH, s.KW)
	}
	if err := p.checkPrecision(prec); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &ConvWeights{packed: p.k.packConv(s, oihw, prec, false), shape: s.layer(), isa: p.isa}
	return w, nil
}

// Algorithm is "direct" or "winograd HxW" with the size of a tile's output; of the first part of an input gradient.
func (w *ConvWeights) Algorithm() string { return w.algo }

// Bytes is the memory that the packed weights take.
func (w *ConvWeights) Bytes() int64 {
	n := len(w.data)
	for _, part := range w.parts {
		n += len(part.data)
	}
	return int64(n) * 4
}

// Close frees the memory.
func (w *ConvWeights) Close() {
	Free(w.data)
	w.data = nil
	for i := range w.parts {
		Free(w.parts[i].data)
		w.parts[i].data = nil
	}
}

// Conv computes y = act(x * w + bias) + residual for s.N samples. s must be the shape that w was packed for but for N and LdY, which a
// residual shares.
func (p *Pool) Conv(s ConvShape, w *ConvWeights, x, y []float32, e Epilogue) {
	if s.layer() != w.shape || w.isa != p.isa || w.parts != nil {
		panic(fmt.Sprintf("kernel: weights packed for %+v on %v used for %+v on %v", w.shape, w.isa, s, p.isa))
	}
	if s.N == 0 {
		return
	}
	x, y = x[:s.inLen()], y[:s.outLen()]
	e = e.check(s.N, s.O, s.O, len(y))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.conv(s, w.packed, x, y, e)
}

// ReserveConv grows the scratch memory to what Conv will need.
func (p *Pool) ReserveConv(s ConvShape, w *ConvWeights) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.reserveConv(s, w.packed)
}

// check panics when a part is too short and fills in the default stride.
func (e Epilogue) check(samples, o, biases, ylen int) Epilogue {
	if e.Bias != nil {
		e.Bias = e.Bias[:biases]
	}
	if e.SampleBias != nil {
		if e.SampleStride == 0 {
			e.SampleStride = o
		}
		_ = e.SampleBias[:(samples-1)*e.SampleStride+o]
	}
	if e.Residual != nil {
		e.Residual = e.Residual[:ylen]
	}
	return e
}
