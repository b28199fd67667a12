//go:build !(cgo && linux)

package kernel

func runnable(ISA) bool { return false }

func newKernels(_ ISA, threads int) (kernels, error) { return newPlain(threads), nil }
