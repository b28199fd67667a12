//go:build unix

package kernel

import (
	"fmt"
	"syscall"
	"unsafe"
)

// Alloc returns n zeroed floats outside the Go heap, aligned to a page. It panics when the system has no memory left, as the
// runtime does. [Free] gives them back.
func Alloc(n int) []float32 {
	if n == 0 {
		return nil
	}
	b, err := syscall.Mmap(-1, 0, roundUp(n*4, 4096), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		panic(fmt.Sprintf("kernel: out of memory allocating %d bytes: %v", n*4, err))
	}
	if len(b) >= 4<<20 {
		adviseHuge(b)
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4)[:n]
}

// Forget gives the pages of memory from [Alloc] back to the system while the memory stays usable: it holds zeros, or what it held,
// until it is written again.
func Forget(s []float32) {
	if cap(s) > 0 {
		discard(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), cap(s)*4))
	}
}

// Free releases memory from [Alloc]; s must start where Alloc's slice did and keep its capacity. Free of nil does nothing.
func Free(s []float32) {
	if cap(s) == 0 {
		return
	}
	b := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), cap(s)*4)
	if err := syscall.Munmap(b); err != nil {
		panic(fmt.Sprintf("kernel: free of memory that was not allocated: %v", err))
	}
}
