// Threads, scratch memory and the table of one instruction set.
#ifndef LDM_POOL_H
#define LDM_POOL_H
#include "ldm.h"
#include <stddef.h>
#include <stdint.h>

typedef void (*ldm_task)(void *arg, int tid, int threads);

// A counter hands out work in chunks. It fills a cache line of its own.
typedef struct {
	_Atomic long next;
	char pad[64 - sizeof(long)];
} ldm_counter;

static inline long take(ldm_counter *c) { return __atomic_fetch_add((long *)&c->next, 1, __ATOMIC_RELAXED); }

// The functions of one instruction set; see the .inc.h files.
typedef struct {
	double (*peak)(ldm_pool *);
	long (*conv_size)(const ldm_conv_shape *, int algo, int bf);
	void (*conv_pack)(ldm_pool *, const ldm_conv_shape *, int algo, int bf, const float *, float *);
	int (*conv)(ldm_pool *, const ldm_conv_shape *, int algo, int bf, const float *w, const float *x, float *y, const float *bias,
		const float *sample_bias, long sample_stride, const float *residual, int act);
	int (*conv_spread)(ldm_pool *, const ldm_conv_shape *, const ldm_spread *, const float *w, const float *x, float *y);
	int (*conv_grad_weight)(ldm_pool *, const ldm_conv_shape *, const float *x, const float *dy, float *dw);
	int (*linear_grad_weight)(ldm_pool *, const ldm_linear_shape *, const float *x, const float *dy, float *dw);
	long (*linear_size)(long in, long out, int geglu, int bf);
	void (*linear_pack)(ldm_pool *, long in, long out, int geglu, int bf, const float *, long first, long rows, float *);
	int (*linear)(ldm_pool *, const ldm_linear_shape *, int geglu, int bf, const float *w, const float *x, float *y, const float *bias,
		const float *sample_bias, long sample_stride, const float *residual, int act);
	int (*attention)(ldm_pool *, const ldm_attention_shape *, int bf, const float *q, const float *k, const float *v, float *o);
	int (*attention_grad)(ldm_pool *, const ldm_attention_shape *, const float *q, const float *k, const float *v, const float *dy, float *dq,
		float *dk, float *dv);
	int (*group_norm_grad)(ldm_pool *, const ldm_group_norm_shape *, const float *x, const float *gamma, const float *beta, const float *dy,
		float *dx, float *dgamma, float *dbeta);
	int (*layer_norm_grad)(ldm_pool *, long rows, long c, double eps, const float *x, const float *gamma, const float *dy, float *dx,
		float *dgamma, float *dbeta);
	int (*column_sums)(ldm_pool *, long n, long rows, long c, long ld, const float *x, float *y);
	int (*total)(ldm_pool *, int kind, long n, const float *a, const float *b, double *y);
	void (*slopes)(ldm_pool *, int op, float f, long n, const float *x, const float *dy, float *dx);
	void (*geglu_grad)(ldm_pool *, long rows, long c, const float *x, const float *dy, float *dx);
	void (*adam)(ldm_pool *, const ldm_adam *, long n, float *w, const float *g, float *m, float *v, float *ema);
	int (*group_norm)(ldm_pool *, const ldm_group_norm_shape *, const float *x, const float *gamma, const float *beta,
		const float *moments, const float *scale_shift, float *y);
	int (*group_moments)(ldm_pool *, const ldm_group_norm_shape *, long w, const long *windows, const float *x, float *y);
	void (*layer_norm)(ldm_pool *, long rows, long c, double eps, const float *x, const float *gamma, const float *beta, float *y);
	int (*code_index)(ldm_pool *, long rows, long c, long v, const float *z, const float *codebook, float *idx);
	void (*activate)(ldm_pool *, int act, long n, const float *x, float *y);
	void (*scale)(ldm_pool *, float f, long n, const float *x, float *y);
	void (*add)(ldm_pool *, long n, const float *a, const float *b, float *y);
	void (*geglu)(ldm_pool *, long rows, long c, const float *x, float *y);
	void (*add_rows)(ldm_pool *, long rows, long c, const float *x, const float *v, long ldv, long div, long mod, float *y);
	void (*modulate)(ldm_pool *, long rows, long c, const float *x, const float *s, long lds, long div, float *y);
	void (*avg_pool2)(ldm_pool *, long n, long h, long w, long c, const float *x, float *y);
	void (*pool_windows)(ldm_pool *, const ldm_window_shape *, int average, int relu, const float *x, float *y);
	void (*pixel_mean)(ldm_pool *, long n, long hw, long c, const float *x, float *y);
	void (*transpose)(ldm_pool *, long n, long rows, long cols, const float *x, float *y);
	void (*quantize)(ldm_pool *, long rows, long c, const float *z, const float *codebook, const float *idx, float *y);
	void (*gaussian_sample)(ldm_pool *, long rows, long c, const float *moments, const float *noise, float *y);
} ldm_target;

extern const ldm_target ldm_target_vector4, ldm_target_avx2, ldm_target_wide, ldm_target_avx512, ldm_target_avx512bf16;

int pool_threads(const ldm_pool *p);
// Calls f(arg, 0..threads-1, threads) on all threads and returns when all have; or on the caller's thread alone when the work, in
// multiply-adds or what takes as long, is not worth waking the others.
void pool_run(ldm_pool *p, long work, ldm_task f, void *arg);
void pool_barrier(ldm_pool *p);                     // within a task: waits for all threads of the pool
char *pool_scratch(ldm_pool *p, size_t bytes);      // page-aligned; NULL when there is no memory
int pool_reserving(const ldm_pool *p);              // kernels return after asking for scratch memory

#define LINE 64
static inline size_t line_up(size_t n) { return (n + LINE - 1) / LINE * LINE; }
static inline long div_up(long a, long b) { return (a + b - 1) / b; }
static inline long min_long(long a, long b) { return a < b ? a : b; }
static inline long max_long(long a, long b) { return a > b ? a : b; }

#endif
