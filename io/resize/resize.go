package resize

import (
	"errors"
	"fmt"
)

// Shape is the geometry of one call: sizes in pixels, channels interleaved (HWC).
type Shape struct {
	SrcH, SrcW int
	DstH, DstW int
	Channels   int
}

func (s Shape) String() string {
	return fmt.Sprintf("%dx%d to %dx%d with %d channels", s.SrcH, s.SrcW, s.DstH, s.DstW, s.Channels)
}

// ErrSampleType says that the method's library has no kernel for the type of samples.
var ErrSampleType = errors.New("no kernel for this sample type")

// Resizer resizes with one method. It keeps coefficient tables and scratch memory between calls and must not be used by two
// goroutines at a time.
type Resizer struct {
	method Method
	kernel any // one of the library types; it implements some of the three interfaces below
}

type (
	uint8Kernel interface {
		uint8(dst, src []uint8, s Shape)
	}
	float32Kernel interface {
		float32(dst, src []float32, s Shape)
	}
	float64Kernel interface {
		float64(dst, src []float64, s Shape)
	}
)

// Method returns the method that the Resizer was made for.
func (r *Resizer) Method() Method { return r.method }

// Uint8 resizes src (SrcH x SrcW x Channels) into dst (DstH x DstW x Channels), values 0..255, rounded as the library rounds.
// Four channels are RGBA for pil-*: alpha is multiplied in first and divided out afterwards, as Pillow does; every other
// method and every other number of channels treats the channels alike. tf1-bilinear and the torch methods without an integer
// kernel of their own return [ErrSampleType].
func (r *Resizer) Uint8(dst, src []uint8, s Shape) error {
	k, ok := r.kernel.(uint8Kernel)
	if !ok || !r.method.Uint8() {
		return fmt.Errorf("resize %s: uint8: %w", r.method, ErrSampleType)
	}
	if err := check(len(dst), len(src), s); err != nil {
		return fmt.Errorf("resize %s: %w", r.method, err)
	}
	k.uint8(dst, src, s)
	return nil
}

// Float32 resizes src (SrcH x SrcW x Channels) into dst (DstH x DstW x Channels) without clipping: filters with negative
// lobes leave the range of the input. pil-* follows mode F, channel by channel. cv-* and matlab-* return [ErrSampleType].
func (r *Resizer) Float32(dst, src []float32, s Shape) error {
	k, ok := r.kernel.(float32Kernel)
	if !ok {
		return fmt.Errorf("resize %s: float32: %w", r.method, ErrSampleType)
	}
	if err := check(len(dst), len(src), s); err != nil {
		return fmt.Errorf("resize %s: %w", r.method, err)
	}
	k.float32(dst, src, s)
	return nil
}

// Float64 is [Resizer.Float32] in double precision, for torch-* and matlab-*.
func (r *Resizer) Float64(dst, src []float64, s Shape) error {
	k, ok := r.kernel.(float64Kernel)
	if !ok {
		return fmt.Errorf("resize %s: float64: %w", r.method, ErrSampleType)
	}
	if err := check(len(dst), len(src), s); err != nil {
		return fmt.Errorf("resize %s: %w", r.method, err)
	}
	k.float64(dst, src, s)
	return nil
}

// maxSide keeps every product of two sides and the channels inside an int, and every index inside the integer types of the
// libraries.
const maxSide = 1 << 24

func check(dst, src int, s Shape) error {
	for _, n := range [...]int{s.SrcH, s.SrcW, s.DstH, s.DstW} {
		if n < 1 || n > maxSide {
			return fmt.Errorf("%v: a side is outside 1..%d", s, maxSide)
		}
	}
	if s.Channels < 1 || s.Channels > 1024 {
		return fmt.Errorf("%v: channels are outside 1..1024", s)
	}
	if want := s.SrcH * s.SrcW * s.Channels; src != want {
		return fmt.Errorf("%v: source holds %d samples, not %d", s, src, want)
	}
	if want := s.DstH * s.DstW * s.Channels; dst != want {
		return fmt.Errorf("%v: destination holds %d samples, not %d", s, dst, want)
	}
	return nil
}

// grow returns a slice of n elements, reusing buf's memory where it suffices. The content is undefined.
func grow[T any](buf *[]T, n int) []T {
	if cap(*buf) < n {
		*buf = make([]T, n)
	}
	return (*buf)[:n]
}
