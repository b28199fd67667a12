package kernel

import "fmt"

// PackLinearTransposed packs w (out, in), the weights of a linear layer, for the gradient of its input: [Pool.Linear] from out to in
// columns computes dx = dy w. w is read once and not kept.
func PackLinearTransposed(p *Pool, out, in int, w []float32) (*LinearWeights, error) {
	if in < 1 || out < 1 || len(w) != in*out {
		return nil, fmt.Errorf("linear weights have %d elements, want %d for (%d,%d)", len(w), in*out, out, in)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.transposed(out, in, w)
	return &LinearWeights{packed: p.k.packLinear(out, [][]float32{t}, false, FP32), in: out, out: in, isa: p.isa, turned: true}, nil
}

// transposed writes the transpose of w to memory of the pool.
func (p *Pool) transposed(rows, cols int, w []float32) []float32 {
	p.reserveKernel(rows * cols)
	p.k.transpose(1, rows, cols, w, p.kernel)
	return p.kernel[:rows*cols]
}

func (p *Pool) reserveKernel(n int) {
	if len(p.kernel) < n {
		Free(p.kernel)
		p.kernel = Alloc(n)
	}
}

// Repack replaces the weights by others of the same layer: the parts, or the one matrix, as at packing. It allocates nothing once the
// pool has packed as large a matrix. The weights must not be in use.
func (w *LinearWeights) Repack(p *Pool, parts ...[]float32) {
	if w.isa != p.isa {
		panic(fmt.Sprintf("kernel: weights packed on %v packed again on %v", w.isa, p.isa))
	}
	size := w.in * w.out
	if w.geglu {
		size *= 2
	}
	for _, part := range parts {
		if len(part)%w.in != 0 && !w.turned {
			panic(fmt.Sprintf("kernel: part of %d weights for %d inputs", len(part), w.in))
		}
		size -= len(part)
	}
	if size != 0 || w.turned && len(parts) != 1 {
		panic(fmt.Sprintf("kernel: parts of another layer than %d to %d", w.in, w.out))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.turned {
		p.one[0] = p.transposed(w.in, w.out, parts[0])
		parts = p.one[:]
	}
	p.k.repackLinear(w.in, w.out, parts, w.geglu, w.packed)
}

// LinearGradWeight computes the gradient dw (out, in) of the weights of a linear layer from x (rows, in), with ldx floats from row to
// row, and the gradient dy (rows, out) of its result, with ldy; 0 means contiguous.
func (p *Pool) LinearGradWeight(rows, in, out, ldx, ldy int, x, dy, dw []float32) {
	dw = dw[:in*out]
	if rows == 0 {
		clear(dw)
		return
	}
	s := LinearShape{Rows: rows, In: in, Out: out, LdX: ldx, LdY: ldy}.withDefaults()
	if s.LdX < in || s.LdY < out {
		panic(fmt.Sprintf("kernel: linear layer %+v: rows overlap", s))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.linearGradWeight(rows, in, out, s.LdX, s.LdY, x[:(rows-1)*s.LdX+in], dy[:(rows-1)*s.LdY+out], dw)
}
