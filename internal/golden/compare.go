package golden

import (
	"math"
	"testing"
)

// RelL2 is |got - want| / |want| over whole tensors, in float64. Different
// lengths, NaN anywhere and a want of nothing but zeros give NaN or infinity, which no tolerance passes.
func RelL2(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.NaN()
	}
	var d, r float64
	for i, w := range want {
		e := float64(got[i]) - float64(w)
		d += e * e
		r += float64(w) * float64(w)
	}
	if r == 0 {
		return math.Inf(1)
	}
	return math.Sqrt(d / r)
}

// Line prints the line that `make golden` collects for one comparison. The error is in the measure of the comparison: a
// relative L2 error for networks, the largest difference for pixels, the number of differences where all must be equal.
func Line(t testing.TB, name string, err, tolerance float64) {
	t.Helper()
	t.Logf("golden %-60s error %.2e tolerance %.0e", name, err, tolerance)
}

// Near fails the test unless got is within a relative L2 error of want, and prints one line that `make golden` collects.
func Near(t testing.TB, name string, got, want []float32, tolerance float64) {
	t.Helper()
	e := RelL2(got, want)
	Line(t, name, e, tolerance)
	if !(e <= tolerance) {
		t.Errorf("%s: relative L2 error %.2e is over %.0e (%d values, want %d)", name, e, tolerance, len(got), len(want))
	}
}
