package stats

import (
	"math"
	"math/bits"
)

// sum192 is a signed integer of 192 bits, two's complement, low word first.
type sum192 [3]uint64

// add adds v * 2^shift, shift below 192.
func (s *sum192) add(v int64, shift uint) {
	sign := uint64(v >> 63)
	lo, hi := uint64(v)<<(shift%64), uint64(v>>(64-shift%64))
	var c uint64
	switch {
	case shift < 64:
		s[0], c = bits.Add64(s[0], lo, 0)
		s[1], c = bits.Add64(s[1], hi, c)
		s[2], _ = bits.Add64(s[2], sign, c)
	case shift < 128:
		s[1], c = bits.Add64(s[1], lo, 0)
		s[2], _ = bits.Add64(s[2], hi, c)
	default:
		s[2] += lo
	}
}

func (s *sum192) plus(t sum192) {
	var c uint64
	s[0], c = bits.Add64(s[0], t[0], 0)
	s[1], c = bits.Add64(s[1], t[1], c)
	s[2], _ = bits.Add64(s[2], t[2], c)
}

// magnitude returns the absolute value and whether s is negative.
func (s sum192) magnitude() (sum192, bool) {
	if int64(s[2]) >= 0 {
		return s, false
	}
	var b uint64
	s[0], b = bits.Sub64(0, s[0], 0)
	s[1], b = bits.Sub64(0, s[1], b)
	s[2], _ = bits.Sub64(0, s[2], b)
	return s, true
}

// float returns s * 2^exp, rounded once.
func (s sum192) float(exp int) float64 {
	m, negative := s.magnitude()
	return float(append(m[:], 0), negative, exp)
}

// float returns a magnitude of words, low word first, times 2^exp, rounded once.
func float(m []uint64, negative bool, exp int) float64 {
	top := len(m) - 1
	for top > 0 && m[top] == 0 {
		top--
	}
	v := m[top]
	if v == 0 {
		return 0
	}
	if shift := uint(bits.LeadingZeros64(v)); top > 0 {
		rest := m[top-1] << shift
		v = v<<shift | m[top-1]>>(64-shift)
		for _, w := range m[:top-1] {
			rest |= w
		}
		if rest != 0 {
			v |= 1 // below what is kept of the 64 bits
		}
		exp += 64*top - int(shift)
	}
	f := math.Ldexp(float64(v), exp)
	if negative {
		f = -f
	}
	return f
}

// centered returns n * xy - x * y, rounded once, times 2^exp, where x and y are below 2^128 and n * xy below 2^255.
func centered(n uint64, xy, x, y sum192, exp int) float64 {
	p, pneg := xy.magnitude()
	var a [4]uint64
	var c, carry uint64
	for i, w := range p {
		hi, lo := bits.Mul64(w, n)
		a[i], c = bits.Add64(lo, carry, 0)
		carry = hi + c
	}
	a[3] = carry
	u, uneg := x.magnitude()
	v, vneg := y.magnitude()
	b := product(u, v)
	bneg := uneg != vneg
	if pneg != bneg {
		for i := range a {
			a[i], c = bits.Add64(a[i], b[i], cond(i > 0, c))
		}
		return float(a[:], pneg, exp)
	}
	if less(a, b) {
		a, b, pneg = b, a, !pneg
	}
	for i := range a {
		a[i], c = bits.Sub64(a[i], b[i], cond(i > 0, c))
	}
	return float(a[:], pneg, exp)
}

func cond(ok bool, c uint64) uint64 {
	if ok {
		return c
	}
	return 0
}

// product multiplies magnitudes below 2^128.
func product(u, v sum192) (r [4]uint64) {
	for i := range 2 {
		var carry uint64
		for j := range 2 {
			hi, lo := bits.Mul64(u[i], v[j])
			var c uint64
			lo, c = bits.Add64(lo, carry, 0)
			hi += c
			r[i+j], c = bits.Add64(r[i+j], lo, 0)
			carry = hi + c
		}
		r[i+2] = carry
	}
	return r
}

func less(a, b [4]uint64) bool {
	for i := 3; i >= 0; i-- {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}
