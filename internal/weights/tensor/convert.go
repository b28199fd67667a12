package tensor

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/ldm-batch/ldm-batch/internal/half"
)

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

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
			dst[i] = half.Float32(le.Uint16(src[2*i:]))
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
