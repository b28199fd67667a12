package kernel

import "fmt"

// LinearWeights are the packed weights of a linear layer.
type LinearWeights struct {
	packed
	in, out int // out counts columns of y
	geglu   bool
	isa     ISA
	turned  bool // the transpose of what was packed
}

// PackLinear packs weight matrices, each (Oi, in) row-major, side by side: y has the columns of all parts in order. With geglu
// there is one part of 2*Out rows, values before gates, and y has Out columns, value * GELU(gate). The parts are read once and
// not kept.
func PackLinear(p *Pool, in int, parts [][]float32, geglu bool, prec Precision) (*LinearWeights, error) {
	if in < 1 || len(parts) == 0 {
		return nil, fmt.Errorf("linear weights: %d inputs, %d parts", in, len(parts))
	}
	out := 0
	for i, w := range parts {
		if len(w) == 0 || len(w)%in != 0 {
			return nil, fmt.Errorf("linear weights: part %d has %d elements, not a multiple of %d inputs", i, len(w), in)
		}
		out += len(w) / in
	}
	if geglu {
		if len(parts) != 1 || out%2 != 0 {
			return nil, fmt.Errorf("linear weights: geglu needs one part with an even number of rows, not %d parts with %d", len(parts), out)
		}
		out /= 2
	}
	if err := p.checkPrecision(prec); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return &LinearWeights{packed: p.k.packLinear(in, parts, geglu, prec), in: in, out: out, geglu: geglu, isa: p.isa}, nil
}

// In is the number of columns of x.
func (w *LinearWeights) In() int { return w.in }

// Out is the number of columns of y.
func (w *LinearWeights) Out() int { return w.out }

// Bytes is the memory that the packed weights take.
func (w *LinearWeights) Bytes() int64 { return int64(len(w.data)) * 4 }

// Close frees the memory.
func (w *LinearWeights) Close() {
	Free(w.data)
	w.data = nil
}

// Linear computes y = act(x w^T + bias) + residual.
func (p *Pool) Linear(s LinearShape, w *LinearWeights, x, y []float32, e Epilogue) {
	s = s.withDefaults()
	if s.In != w.in || s.Out != w.out || w.isa != p.isa || s.LdX < s.In || s.LdY < s.Out {
		panic(fmt.Sprintf("kernel: weights packed for %d to %d on %v used for %+v on %v", w.in, w.out, w.isa, s, p.isa))
	}
	if w.geglu && (e.SampleBias != nil || e.Act != None) {
		panic("kernel: a geglu layer takes neither sample bias nor activation")
	}
	if s.Rows == 0 {
		return
	}
	x, y = x[:(s.Rows-1)*s.LdX+s.In], y[:(s.Rows-1)*s.LdY+s.Out]
	biases := s.Out
	if w.geglu {
		biases *= 2
	}
	e = e.check((s.Rows+s.RowsPerSample-1)/s.RowsPerSample, s.Out, biases, len(y))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.linear(s, w, x, y, e)
}

// ReserveLinear grows the scratch memory to what Linear will need.
func (p *Pool) ReserveLinear(s LinearShape, w *LinearWeights) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.reserveLinear(s.withDefaults(), w)
}
