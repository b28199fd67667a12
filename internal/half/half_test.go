package half

import (
	"math"
	"testing"
)

// value is binary16 by its definition.
func value(h uint16) float64 {
	sign, exp, man := 1.0, int(h>>10&31), float64(h&1023)
	if h&0x8000 != 0 {
		sign = -1
	}
	switch exp {
	case 0:
		return sign * math.Ldexp(man, -24)
	case 31:
		if man != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1024+man, exp-25)
}

func TestHalf(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		f, want := Float32(h), value(h)
		if float64(f) != want && !(math.IsNaN(want) && math.IsNaN(float64(f))) || math.Signbit(float64(f)) != (h&0x8000 != 0) {
			t.Fatalf("half %#04x = %v, want %v", h, f, want)
		}
		if back, ok := Round(f); !ok || back != h && !math.IsNaN(want) || math.IsNaN(want) != (back&0x7fff > 0x7c00) {
			t.Fatalf("half %#04x comes back as %#04x", h, back)
		}
	}
	// Between neighbours: below, at and above the midpoint.
	for i := range 0x7bff {
		lo, hi := value(uint16(i)), value(uint16(i+1))
		mid := float32((lo + hi) / 2)
		even := uint16(i + i&1)
		for _, c := range []struct {
			f    float32
			want uint16
		}{{math.Nextafter32(mid, 0), uint16(i)}, {mid, even}, {math.Nextafter32(mid, 1e9), uint16(i + 1)}} {
			if got, _ := Round(c.f); got != c.want {
				t.Fatalf("%v rounds to %#04x, want %#04x", c.f, got, c.want)
			}
		}
	}
	for f, fits := range map[float32]bool{65504: true, 65519.9: true, 65520: false, 1e30: false, float32(math.Inf(1)): true, -65520: false} {
		if h, ok := Round(f); ok != fits {
			t.Errorf("%v in half: %#04x, %v", f, h, ok)
		}
	}
}
