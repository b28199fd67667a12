package kernel

import "fmt"

// ISA names an implementation of the kernels.
type ISA int

// The implementations. All but Generic are C.
const (
	Generic    ISA = iota // plain Go
	Vector4               // C with 4-lane vectors: baseline x86-64 (SSE2), or NEON
	AVX2                  // 8 lanes, with FMA
	Wide                  // the 16-lane code lowered to AVX2, with bf16 products emulated: for tests of the AVX-512 code
	AVX512                // 16 lanes
	AVX512BF16            // 16 lanes and bf16 dot products
)

var isaNames = [...]string{"generic", "vector4", "avx2", "wide", "avx512", "avx512bf16"}

func (i ISA) String() string {
	if i < 0 || int(i) >= len(isaNames) {
		return fmt.Sprintf("isa(%d)", int(i))
	}
	return isaNames[i]
}

// ParseISA is the inverse of [ISA.String].
func ParseISA(s string) (ISA, error) {
	for i, n := range isaNames {
		if n == s {
			return ISA(i), nil
		}
	}
	return 0, fmt.Errorf("unknown instruction set %q", s)
}

// BF16 reports whether the implementation multiplies in bf16, that is whether it can run [Mixed].
func (i ISA) BF16() bool { return i == Wide || i == AVX512BF16 }

// Detect returns the best implementation that this processor and this build can run.
func Detect() ISA {
	best := Generic
	for _, i := range Available() {
		if i != Wide {
			best = i
		}
	}
	return best
}

// Available lists the implementations that this processor and this build can run, in ascending order.
func Available() []ISA {
	isas := []ISA{Generic}
	for i := Vector4; i <= AVX512BF16; i++ {
		if runnable(i) {
			isas = append(isas, i)
		}
	}
	return isas
}

// Precision selects the arithmetic of matrix products. Sums and everything else are float32 in both.
type Precision int

const (
	FP32  Precision = iota // float32 products
	Mixed                  // products of operands rounded to bf16, in linear layers, direct convolutions and attention
)

func (p Precision) String() string {
	if p == Mixed {
		return "mixed"
	}
	return "fp32"
}

// Act is an activation applied by an [Epilogue].
type Act int

const (
	None Act = iota
	SiLU     // x * sigmoid(x)
	GELU     // x * Phi(x), the exact form with the error function
	ReLU     // max(x, 0)
)
