//go:build cgo && linux

// The code of the 16-lane targets on AVX2, with bf16 products emulated, so that its logic can be tested on more machines.
#if defined(__x86_64__)
#pragma GCC target("avx2,fma")
#define VL 16
#define MR 14
#define BF16 1
#define WINOGRAD_BLOCK 28
#define TARGET ldm_target_wide
#pragma GCC diagnostic ignored "-Wpsabi" // no 64-byte vector crosses a call
#include "target.inc.h"
#endif
