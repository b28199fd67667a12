//go:build !unix

package kernel

// Alloc returns n zeroed floats. [Free] gives them back.
func Alloc(n int) []float32 { return make([]float32, n) }

// Free releases memory from [Alloc].
func Free(s []float32) {}

// Forget does nothing here; see the version for Unix.
func Forget(s []float32) {}
