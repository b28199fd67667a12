package kernel

import "fmt"

// Attention computes o = softmax(Scale * q k^T) v, sample by sample and head by head, without ever holding the whole matrix of
// scores. [Mixed] rounds q, k, v and the exponentials to bf16.
func (p *Pool) Attention(s AttentionShape, q, k, v, o []float32, prec Precision) {
	if err := p.checkPrecision(prec); err != nil {
		panic(fmt.Sprintf("kernel: %v", err))
	}
	if s.N == 0 || s.Tq == 0 || s.Heads == 0 {
		return
	}
	if s.Tk < 1 || s.D < 1 {
		panic(fmt.Sprintf("kernel: attention %+v has no keys", s))
	}
	q = q[:s.span(s.Tq, s.QRow, s.QHead, s.QSample)]
	k = k[:s.span(s.Tk, s.KRow, s.KHead, s.KSample)]
	v = v[:s.span(s.Tk, s.VRow, s.VHead, s.VSample)]
	o = o[:s.span(s.Tq, s.ORow, s.OHead, s.OSample)]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.attention(s, q, k, v, o, prec)
}

// ReserveAttention grows the scratch memory to what Attention will need.
func (p *Pool) ReserveAttention(s AttentionShape, prec Precision) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.reserveAttention(s, prec)
}
