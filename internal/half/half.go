// Package half converts IEEE binary16 values, exactly or rounded once, subnormals included. The conversion of the Arrow library truncates
// and has no subnormals.
package half

import "math"

// Float32 widens an IEEE binary16 value exactly; NaN payloads are kept.
func Float32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	rest := uint32(h&0x7fff) << 13
	if h&0x7c00 == 0x7c00 {
		return math.Float32frombits(sign | 0x7f800000 | rest&0x7fffff)
	}
	// The exponent fields differ by a bias of 112; the multiplication moves it and normalises subnormals, exactly.
	const two112 = 1 << 112
	return math.Float32frombits(sign | math.Float32bits(math.Float32frombits(rest)*two112))
}

// Round rounds to the nearest binary16 value, ties to even. Values beyond its range become infinite; ok is then
// false (an infinite or NaN input is not out of range).
func Round(f float32) (h uint16, ok bool) {
	b := math.Float32bits(f)
	sign, abs := uint16(b>>16)&0x8000, b&0x7fffffff
	switch {
	case abs > 0x7f800000:
		return sign | 0x7e00 | uint16(abs>>13)&0x1ff, true
	case abs == 0x7f800000:
		return sign | 0x7c00, true
	case abs >= 0x477ff000: // 65520 rounds to infinity
		return sign | 0x7c00, false
	case abs < 0x38800000: // subnormal half: adding 0.5 leaves the value, rounded to 2^-24, in the low mantissa bits
		return sign | uint16(math.Float32bits(math.Float32frombits(abs)+0.5)-0x3f000000), true
	}
	abs += 0xfff + abs>>13&1
	return sign | uint16((abs-112<<23)>>13), true
}
