package preprocess

import (
	"fmt"
	"slices"
)

// Rounding names how a sample in 0..1 becomes a byte.
type Rounding string

// The roundings.
const (
	Truncate Rounding = "truncate" // v*255 cut to a whole number: the reference's own scripts
	Round    Rounding = "round"    // v*255 + 0.5 cut: torchvision's save_image
)

var roundings = []Rounding{Truncate, Round}

// ParseRounding returns the rounding of that name, or an error that lists the known ones.
func ParseRounding(name string) (Rounding, error) {
	if r := Rounding(name); slices.Contains(roundings, r) {
		return r, nil
	}
	return "", fmt.Errorf("unknown rounding %q, want one of %s", name, join(roundings))
}

// ToUint8 turns float32 planes (c x h x w, nominally [-1, 1]) into an interleaved picture (h x w x c, 0..255):
// clamp((x+1)/2, 0, 1)*255 in float32 arithmetic, then the rounding. A NaN is an error that says where it is.
func ToUint8(dst []uint8, src []float32, c, h, w int, r Rounding) error {
	return quantize(dst, src, c, h, w, r, 255)
}

// ToUint16 is [ToUint8] for pictures of 16 bits, 0..65535.
func ToUint16(dst []uint16, src []float32, c, h, w int, r Rounding) error {
	return quantize(dst, src, c, h, w, r, 65535)
}

func quantize[T uint8 | uint16](dst []T, src []float32, c, h, w int, r Rounding, top float32) error {
	if _, err := ParseRounding(string(r)); err != nil {
		return err
	}
	n := h * w
	if c < 1 || h < 1 || w < 1 || len(src) != c*n || len(dst) != c*n {
		return fmt.Errorf("picture of %d channels, %dx%d pixels: %d samples in, %d out", c, h, w, len(src), len(dst))
	}
	half := float32(0)
	if r == Round {
		half = 0.5
	}
	for ch := range c {
		for i, x := range src[ch*n:][:n] {
			v := (x + 1) / 2
			if v != v {
				return fmt.Errorf("picture holds NaN at channel %d, row %d, column %d", ch, i/w, i%w)
			}
			v = min(max(v, 0), 1)
			dst[i*c+ch] = T(float32(v*top) + half)
		}
	}
	return nil
}

// Luma turns the three planes of src (3 x h x w, RGB, nominally [-1, 1]) into one (h x w): 0.299 R + 0.587 G + 0.114 B of
// the clamped samples, the weights of ITU-R BT.601. Equal samples stay as they are, and a NaN stays one. dst may be the first
// plane of src.
func Luma(dst, src []float32) error {
	n := len(dst)
	if len(src) != 3*n {
		return fmt.Errorf("luma of %d samples from %d, not three planes", n, len(src))
	}
	clamp := func(x float32) float64 { return float64(min(max(x, -1), 1)) }
	for i, x := range src[:n] {
		r, g, b := clamp(x), clamp(src[n+i]), clamp(src[2*n+i])
		if dst[i] = float32(r); r != g || r != b {
			dst[i] = float32(float64(0.299*r) + float64(0.587*g) + float64(0.114*b))
		}
	}
	return nil
}
