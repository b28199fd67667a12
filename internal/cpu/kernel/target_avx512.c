//go:build cgo && linux

// 16 lanes: AVX-512.
#if defined(__x86_64__)
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")
#define VL 16
#define MR 14
#define BF16 0
#define WINOGRAD_BLOCK 28
#define TARGET ldm_target_avx512
#include "target.inc.h"
#endif
