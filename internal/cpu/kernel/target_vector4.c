//go:build cgo && linux

// 4 lanes: what every x86-64 and ARMv8 processor has.
#define VL 4
#define MR 6
#define BF16 0
#define WINOGRAD_BLOCK 24
#define TARGET ldm_target_vector4
#include "target.inc.h"
