//go:build cgo && linux

// 16 lanes with bf16 dot products: AVX-512 with AVX512_BF16.
#if defined(__x86_64__)
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
#define VL 16
#define MR 14
#define BF16 2
#define WINOGRAD_BLOCK 28
#define TARGET ldm_target_avx512bf16
#include "target.inc.h"
#endif
