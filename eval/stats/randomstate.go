package stats

import "math"

// RandomState is numpy's legacy generator numpy.random.RandomState, an MT19937 (Matsumoto and Nishimura 1998) with that
// library's ways of drawing, which published scores are seeded with.
type RandomState struct {
	key    [624]uint32
	pos    int
	normal float64 // the second of a pair
	spare  bool
}

// NewRandomState is RandomState(seed).
func NewRandomState(seed uint32) *RandomState {
	r := &RandomState{pos: 624}
	for i := range r.key {
		r.key[i] = seed
		seed = 1812433253*(seed^seed>>30) + uint32(i) + 1
	}
	return r
}

// Uint32 is the next word of the generator.
func (r *RandomState) Uint32() uint32 {
	if r.pos == len(r.key) {
		for i := range r.key {
			y := r.key[i]&0x80000000 | r.key[(i+1)%624]&0x7fffffff
			v := r.key[(i+397)%624] ^ y>>1
			if y&1 != 0 {
				v ^= 0x9908b0df
			}
			r.key[i] = v
		}
		r.pos = 0
	}
	y := r.key[r.pos]
	r.pos++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// Float64 is random_sample(), in [0, 1).
func (r *RandomState) Float64() float64 {
	a, b := r.Uint32()>>5, r.Uint32()>>6
	return (float64(a)*(1<<26) + float64(b)) / (1 << 53)
}

// Normal is standard_normal().
func (r *RandomState) Normal() float64 {
	if r.spare {
		r.spare = false
		return r.normal
	}
	for {
		x, y := 2*r.Float64()-1, 2*r.Float64()-1
		if s := float64(x*x) + float64(y*y); s < 1 && s != 0 {
			f := math.Sqrt(-2 * math.Log(s) / s)
			r.normal, r.spare = f*x, true
			return f * y
		}
	}
}

// Permutation is permutation(n), for n up to 2^32.
func (r *RandomState) Permutation(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	for i := n - 1; i > 0; i-- {
		mask := uint32(i)
		for s := 1; s < 32; s *= 2 {
			mask |= mask >> s
		}
		j := r.Uint32() & mask
		for j > uint32(i) {
			j = r.Uint32() & mask
		}
		p[i], p[j] = p[j], p[i]
	}
	return p
}

// Choice is choice(n, size, replace=False).
func (r *RandomState) Choice(n, size int) []int { return r.Permutation(n)[:size] }
