//go:build cgo && linux

package linalg

/*
#cgo CFLAGS: -O3 -Wall -Wno-psabi
#include "product.h"
*/
import "C"

import (
	"sync"
	"unsafe"
)

var hasNative = C.ldm_linalg_runnable() != 0

// scratch keeps the packing buffers of products, one for each that runs.
var scratch = sync.Pool{New: func() any {
	b := make([]float64, C.ldm_linalg_scratch()/8)
	return &b
}}

func ptr(s []float64) *C.double { return (*C.double)(unsafe.Pointer(unsafe.SliceData(s))) }

func nativeProduct(c Matrix, alpha float64, a, b operand) {
	buf := scratch.Get().(*[]float64)
	C.ldm_linalg_product(C.ptrdiff_t(c.R), C.ptrdiff_t(c.C), C.ptrdiff_t(a.c), C.double(alpha), ptr(a.data), C.ptrdiff_t(a.rs), C.ptrdiff_t(a.cs),
		ptr(b.data), C.ptrdiff_t(b.rs), C.ptrdiff_t(b.cs), ptr(c.Data), C.ptrdiff_t(c.Stride), ptr(*buf))
	scratch.Put(buf)
}

// reflectRows computes c -= tau v (v' c); w is scratch memory of a row.
func reflectRows(v []float64, tau float64, c Matrix, w []float64) {
	if c.C == 0 || c.R == 0 || tau == 0 {
		return
	}
	if !hasNative {
		plainReflectRows(v[:c.R], tau, c, w[:c.C])
		return
	}
	_, _ = v[c.R-1], w[c.C-1]
	C.ldm_linalg_reflect_rows(C.ptrdiff_t(c.R), C.ptrdiff_t(c.C), ptr(v), C.double(tau), ptr(c.Data), C.ptrdiff_t(c.Stride), ptr(w))
}

// reflectColumns computes c -= tau (c v) v'.
func reflectColumns(v []float64, tau float64, c Matrix) {
	if c.C == 0 || c.R == 0 || tau == 0 {
		return
	}
	if !hasNative {
		plainReflectColumns(v[:c.C], tau, c)
		return
	}
	_ = v[c.C-1]
	C.ldm_linalg_reflect_columns(C.ptrdiff_t(c.R), C.ptrdiff_t(c.C), ptr(v), C.double(tau), ptr(c.Data), C.ptrdiff_t(c.Stride))
}
