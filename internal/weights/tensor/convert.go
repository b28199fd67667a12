package tensor

import (
	"encoding/binary"
	"math"
	"unsafe"
)

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// HalfToFloat32 widens an IEEE binary16 value exactly; NaN payloads are kept.
func HalfToFloat32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	rest := uint32(h&0x7fff) << 13
	if h&0x7c00 == 0x7c00 {
		return math.Float32frombits(sign | 0x7f800000 | rest&0x7fffff)
	}
	// The exponent fields differ by a bias of 112; the multiplication moves it and normalises subnormals, exactly.
	const two112 = 1 << 112
	return math.Float32frombits(sign | math.Float32bits(math.Float32frombits(rest)*two112))
}

// Float32ToHalf rounds to the nearest binary16 value, ties to even. Values beyond its range become infinite; ok is then
// false (an infinite or NaN input is not out of range).
func Float32ToHalf(f float32) (h uint16, ok bool) {
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

// Float32ToBF16 rounds to the nearest bfloat16 value, ties to even; ok is false when a finite value became infinite.
func Float32ToBF16(f float32) (h uint16, ok bool) {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40, true
	}
	r := uint16((b + 0x7fff + b>>16&1) >> 16)
	return r, r&0x7f80 != 0x7f80 || b&0x7f800000 == 0x7f800000
}

// toFloat32 converts len(dst) raw little-endian elements.
func toFloat32(dst []float32, src []byte, d DType) {
	le := binary.LittleEndian
	src = src[:len(dst)*d.Size()]
	switch d {
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(le.Uint64(src[8*i:])))
		}
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(src[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = HalfToFloat32(le.Uint16(src[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(le.Uint16(src[2*i:])) << 16)
		}
	case I64:
		for i := range dst {
			dst[i] = float32(int64(le.Uint64(src[8*i:])))
		}
	case I32:
		for i := range dst {
			dst[i] = float32(int32(le.Uint32(src[4*i:])))
		}
	case I16:
		for i := range dst {
			dst[i] = float32(int16(le.Uint16(src[2*i:])))
		}
	case I8:
		for i := range dst {
			dst[i] = float32(int8(src[i]))
		}
	case U8:
		for i := range dst {
			dst[i] = float32(src[i])
		}
	case Bool:
		for i := range dst {
			dst[i] = 0
			if src[i] != 0 {
				dst[i] = 1
			}
		}
	}
}

// floatBytes is the memory of f as bytes.
func floatBytes(f []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(f))), 4*len(f))
}

// asFloats views raw bytes as float32 without copying where the machine stores them alike and the address is aligned.
func asFloats(b []byte) ([]float32, bool) {
	p := unsafe.SliceData(b)
	if !littleEndian || uintptr(unsafe.Pointer(p))%4 != 0 {
		return nil, false
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(p)), len(b)/4), true
}
