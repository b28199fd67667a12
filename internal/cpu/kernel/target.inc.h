// Everything that is compiled once for each instruction set. The including target also defines TARGET, the name of its table, and
// WINOGRAD_BLOCK, the tiles that a thread transforms at a time.
#include "vector.inc.h"
#include "gemm.inc.h"
#include "pack.inc.h"
#include "winograd.inc.h"
#include "weight_grad.inc.h"
#include "attention.inc.h"
#include "norm.inc.h"
#include "pointwise.inc.h"
#include "window.inc.h"
#include "grad.inc.h"
#include "norm_grad.inc.h"
#include "attention_grad.inc.h"
#include <time.h>

typedef struct {
	double rate[256];
} peak_job;

// The product's inner loop on data in the first-level cache, by the thread's own clock so that other processes do not matter.
static void peak_task(void *arg, int tid, int threads) {
	peak_job *j = arg;
	(void)threads;
	enum { k = 256, reps = 10000 };
	static float a[MR * k], b[k * NR];
	float c[MR * NR];
	double best = 0;
	for (int i = 0; i < 5; i++) {
		struct timespec t0, t1;
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t0);
		for (int r = 0; r < reps; r++) {
			tiles[MR][0][1](a, k, b, k, c, NR, 0);
			__asm__ volatile("" ::"r"(c) : "memory"); // the result counts as used
		}
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t1);
		double rate = 2.0 * MR * NR * k * reps / (t1.tv_sec - t0.tv_sec + 1e-9 * (t1.tv_nsec - t0.tv_nsec)) * 1e-9;
		if (rate > best) best = rate;
	}
	j->rate[tid] = best;
}

static double peak(ldm_pool *pool) {
	peak_job j = {{0}};
	double sum = 0;
	pool_run(pool, 1 << 30, peak_task, &j);
	for (int i = 0; i < 256; i++) sum += j.rate[i];
	return sum;
}

const ldm_target TARGET = {
	.peak = peak,
	.conv_size = conv_size,
	.conv_pack = conv_pack,
	.conv = conv,
	.conv_spread = conv_spread,
	.conv_grad_weight = conv_grad_weight,
	.linear_grad_weight = linear_grad_weight,
	.linear_size = linear_size,
	.linear_pack = linear_pack,
	.linear = linear,
	.attention = attention,
	.attention_grad = attention_grad,
	.group_norm_grad = group_norm_grad,
	.layer_norm_grad = layer_norm_grad,
	.column_sums = column_sums,
	.total = total,
	.slopes = slopes,
	.geglu_grad = geglu_grad,
	.adam = adam,
	.group_norm = group_norm,
	.group_moments = group_moments,
	.layer_norm = layer_norm,
	.code_index = code_index,
	.activate = activate,
	.scale = scale,
	.add = add,
	.geglu = geglu,
	.add_rows = add_rows,
	.modulate = modulate,
	.avg_pool2 = avg_pool2,
	.pool_windows = pool_windows,
	.pixel_mean = pixel_mean,
	.transpose = transpose,
	.quantize = quantize,
	.gaussian_sample = gaussian_sample,
};
