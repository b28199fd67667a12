//go:build cgo && linux

// 8 lanes: AVX2 with fused multiply-add.
#if defined(__x86_64__)
#pragma GCC target("avx2,fma")
#define VL 8
#define MR 6
#define BF16 0
#define WINOGRAD_BLOCK 30
#define TARGET ldm_target_avx2
#include "target.inc.h"
#endif
