//go:build cgo && linux

// A persistent thread pool. The caller of pool_run works as thread 0. Every wait (idle worker, caller at the end, barrier) first
// spins and then sleeps on a futex, so that a spinning thread never keeps another one of the same task off its processor for
// long. Threads are not pinned: a pinned thread cannot evade a busy neighbour.
#define _GNU_SOURCE
#include "pool.h"
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// A word that threads wait on, with the number of those asleep.
typedef struct {
	uint32_t value, sleepers;
	char pad[LINE - 8];
} event;

struct ldm_pool {
	event start, done, barrier;
	uint32_t arrived, quit;
	char pad[LINE - 8];
	int threads, active, reserving; // active threads of the current task
	const ldm_target *target;
	ldm_task task;
	void *arg;
	char *scratch;
	size_t scratch_size;
	pthread_t *thread;
};

typedef struct {
	ldm_pool *pool;
	int tid;
} worker_arg;

static inline void relax(void) {
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb");
#endif
}

static long long now_ns(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

enum { spin_idle_ns = 100000, spin_wait_ns = 30000 };

// wait_change returns when the event's value is no longer old.
static void wait_change(event *e, uint32_t old, long long spin_ns) {
	long long end = 0;
	for (int i = 0;; i++) {
		if (__atomic_load_n(&e->value, __ATOMIC_ACQUIRE) != old) return;
		relax();
		if (i % 64 == 63) {
			long long now = now_ns();
			if (!end) end = now + spin_ns;
			if (now >= end) break;
		}
	}
	__atomic_fetch_add(&e->sleepers, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&e->value, __ATOMIC_SEQ_CST) == old) syscall(SYS_futex, &e->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
	__atomic_fetch_sub(&e->sleepers, 1, __ATOMIC_SEQ_CST);
}

static void advance(event *e) {
	__atomic_fetch_add(&e->value, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&e->sleepers, __ATOMIC_SEQ_CST)) syscall(SYS_futex, &e->value, FUTEX_WAKE_PRIVATE, 0x7fffffff, NULL, NULL, 0);
}

static void *worker(void *v) {
	worker_arg w = *(worker_arg *)v;
	free(v);
	ldm_pool *p = w.pool;
	for (uint32_t seen = 0;; seen++) {
		wait_change(&p->start, seen, spin_idle_ns);
		if (p->quit) return NULL;
		p->task(p->arg, w.tid, p->threads);
		advance(&p->done);
	}
}

ldm_pool *ldm_pool_new(int threads, int isa) {
	static const ldm_target *const targets[] = {
		NULL, &ldm_target_vector4,
#if defined(__x86_64__)
		&ldm_target_avx2, &ldm_target_wide, &ldm_target_avx512, &ldm_target_avx512bf16,
#endif
	};
	ldm_pool *p = aligned_alloc(LINE, line_up(sizeof *p));
	if (!p) return NULL;
	memset(p, 0, sizeof *p);
	p->target = targets[isa];
	p->threads = 1;
	p->thread = calloc(threads, sizeof *p->thread);
	if (!p->thread) {
		free(p);
		return NULL;
	}
	// Signals belong to the threads of the Go runtime.
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int bad = 0;
	for (int i = 1; i < threads && !bad; i++) {
		worker_arg *w = malloc(sizeof *w);
		bad = !w;
		if (bad) break;
		*w = (worker_arg){p, i};
		bad = pthread_create(&p->thread[i], NULL, worker, w);
		if (bad) free(w);
		else p->threads++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (bad) {
		ldm_pool_free(p);
		return NULL;
	}
	return p;
}

void ldm_pool_free(ldm_pool *p) {
	p->quit = 1;
	advance(&p->start);
	for (int i = 1; i < p->threads; i++) pthread_join(p->thread[i], NULL);
	if (p->scratch) munmap(p->scratch, p->scratch_size);
	free(p->thread);
	free(p);
}

int pool_threads(const ldm_pool *p) { return p->threads; }
int pool_reserving(const ldm_pool *p) { return p->reserving; }

void pool_run(ldm_pool *p, long work, ldm_task f, void *arg) {
	enum { worth_waking = 1 << 18 };
	p->active = work < worth_waking ? 1 : p->threads;
	if (p->active == 1) {
		f(arg, 0, 1);
		return;
	}
	p->task = f;
	p->arg = arg;
	__atomic_store_n(&p->done.value, 0, __ATOMIC_RELAXED);
	advance(&p->start);
	f(arg, 0, p->threads);
	uint32_t others = p->threads - 1, d;
	while ((d = __atomic_load_n(&p->done.value, __ATOMIC_ACQUIRE)) != others) wait_change(&p->done, d, spin_wait_ns);
}

void pool_barrier(ldm_pool *p) {
	if (p->active == 1) return;
	uint32_t gen = __atomic_load_n(&p->barrier.value, __ATOMIC_ACQUIRE);
	if (__atomic_add_fetch(&p->arrived, 1, __ATOMIC_ACQ_REL) == (uint32_t)p->threads) {
		__atomic_store_n(&p->arrived, 0, __ATOMIC_RELAXED);
		advance(&p->barrier);
	} else {
		wait_change(&p->barrier, gen, spin_wait_ns);
	}
}

char *pool_scratch(ldm_pool *p, size_t bytes) {
	if (bytes <= p->scratch_size) return p->scratch;
	bytes = (bytes + (1 << 21) - 1) >> 21 << 21;
	if (p->scratch) munmap(p->scratch, p->scratch_size);
	p->scratch_size = 0;
	p->scratch = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->scratch == MAP_FAILED) {
		p->scratch = NULL;
		return NULL;
	}
	madvise(p->scratch, bytes, MADV_HUGEPAGE);
	p->scratch_size = bytes;
	return p->scratch;
}

int ldm_runnable(int isa) {
#if defined(__x86_64__)
	__builtin_cpu_init();
	int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
	int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
		__builtin_cpu_supports("avx512vl");
	switch (isa) {
	case 1: return 1;
	case 2: case 3: return avx2;
	case 4: return avx512;
	case 5: return avx512 && __builtin_cpu_supports("avx512bf16");
	}
	return 0;
#else
	return isa == 1;
#endif
}

// The entry points: each goes to the pool's instruction set.

double ldm_peak(ldm_pool *p) { return p->target->peak(p); }

long ldm_conv_size(ldm_pool *p, const ldm_conv_shape *s, int algo, int bf) { return p->target->conv_size(s, algo, bf); }

void ldm_conv_pack(ldm_pool *p, const ldm_conv_shape *s, int algo, int bf, const float *oihw, float *dst) {
	p->target->conv_pack(p, s, algo, bf, oihw, dst);
}

int ldm_conv(ldm_pool *p, const ldm_conv_shape *s, int algo, int bf, const float *w, const float *x, float *y, const float *bias,
	const float *sample_bias, long sample_stride, const float *residual, int act) {
	return p->target->conv(p, s, algo, bf, w, x, y, bias, sample_bias, sample_stride, residual, act);
}

int ldm_conv_spread(ldm_pool *p, const ldm_conv_shape *s, const ldm_spread *t, const float *w, const float *x, float *y) {
	return p->target->conv_spread(p, s, t, w, x, y);
}

int ldm_conv_grad_weight(ldm_pool *p, const ldm_conv_shape *s, const float *x, const float *dy, float *dw) {
	return p->target->conv_grad_weight(p, s, x, dy, dw);
}

int ldm_linear_grad_weight(ldm_pool *p, const ldm_linear_shape *s, const float *x, const float *dy, float *dw) {
	return p->target->linear_grad_weight(p, s, x, dy, dw);
}

int ldm_conv_reserve(ldm_pool *p, const ldm_conv_shape *s, int algo, int bf) {
	p->reserving = 1;
	int r = p->target->conv(p, s, algo, bf, NULL, NULL, NULL, NULL, NULL, 0, NULL, 0);
	p->reserving = 0;
	return r;
}

long ldm_linear_size(ldm_pool *p, long in, long out, int geglu, int bf) { return p->target->linear_size(in, out, geglu, bf); }

void ldm_linear_pack(ldm_pool *p, long in, long out, int geglu, int bf, const float *part, long first, long rows, float *dst) {
	p->target->linear_pack(p, in, out, geglu, bf, part, first, rows, dst);
}

int ldm_linear(ldm_pool *p, const ldm_linear_shape *s, int geglu, int bf, const float *w, const float *x, float *y, const float *bias,
	const float *sample_bias, long sample_stride, const float *residual, int act) {
	return p->target->linear(p, s, geglu, bf, w, x, y, bias, sample_bias, sample_stride, residual, act);
}

int ldm_linear_reserve(ldm_pool *p, const ldm_linear_shape *s, int geglu, int bf) {
	p->reserving = 1;
	int r = p->target->linear(p, s, geglu, bf, NULL, NULL, NULL, NULL, NULL, 0, NULL, 0);
	p->reserving = 0;
	return r;
}

int ldm_attention(ldm_pool *p, const ldm_attention_shape *s, int bf, const float *q, const float *k, const float *v, float *o) {
	return p->target->attention(p, s, bf, q, k, v, o);
}

int ldm_attention_reserve(ldm_pool *p, const ldm_attention_shape *s, int bf) {
	p->reserving = 1;
	int r = p->target->attention(p, s, bf, NULL, NULL, NULL, NULL);
	p->reserving = 0;
	return r;
}

int ldm_attention_grad(ldm_pool *p, const ldm_attention_shape *s, const float *q, const float *k, const float *v, const float *dy, float *dq,
	float *dk, float *dv) {
	return p->target->attention_grad(p, s, q, k, v, dy, dq, dk, dv);
}

int ldm_group_norm_grad(ldm_pool *p, const ldm_group_norm_shape *s, const float *x, const float *gamma, const float *beta, const float *dy,
	float *dx, float *dgamma, float *dbeta) {
	return p->target->group_norm_grad(p, s, x, gamma, beta, dy, dx, dgamma, dbeta);
}

int ldm_layer_norm_grad(ldm_pool *p, long rows, long c, double eps, const float *x, const float *gamma, const float *dy, float *dx,
	float *dgamma, float *dbeta) {
	return p->target->layer_norm_grad(p, rows, c, eps, x, gamma, dy, dx, dgamma, dbeta);
}

int ldm_column_sums(ldm_pool *p, long n, long rows, long c, long ld, const float *x, float *y) {
	return p->target->column_sums(p, n, rows, c, ld, x, y);
}

int ldm_total(ldm_pool *p, int kind, long n, const float *a, const float *b, double *y) { return p->target->total(p, kind, n, a, b, y); }

void ldm_slopes(ldm_pool *p, int op, float f, long n, const float *x, const float *dy, float *dx) { p->target->slopes(p, op, f, n, x, dy, dx); }

void ldm_geglu_grad(ldm_pool *p, long rows, long c, const float *x, const float *dy, float *dx) { p->target->geglu_grad(p, rows, c, x, dy, dx); }

void ldm_adam_step(ldm_pool *p, const ldm_adam *c, long n, float *w, const float *g, float *m, float *v, float *ema) {
	p->target->adam(p, c, n, w, g, m, v, ema);
}

int ldm_group_norm(ldm_pool *p, const ldm_group_norm_shape *s, const float *x, const float *gamma, const float *beta,
	const float *moments, const float *scale_shift, float *y) {
	return p->target->group_norm(p, s, x, gamma, beta, moments, scale_shift, y);
}

int ldm_group_moments(ldm_pool *p, const ldm_group_norm_shape *s, long w, const long *windows, const float *x, float *y) {
	return p->target->group_moments(p, s, w, windows, x, y);
}

void ldm_layer_norm(ldm_pool *p, long rows, long c, double eps, const float *x, const float *gamma, const float *beta, float *y) {
	p->target->layer_norm(p, rows, c, eps, x, gamma, beta, y);
}

int ldm_code_index(ldm_pool *p, long rows, long c, long v, const float *z, const float *codebook, float *idx) {
	return p->target->code_index(p, rows, c, v, z, codebook, idx);
}

void ldm_activate(ldm_pool *p, int act, long n, const float *x, float *y) { p->target->activate(p, act, n, x, y); }
void ldm_scale(ldm_pool *p, float f, long n, const float *x, float *y) { p->target->scale(p, f, n, x, y); }
void ldm_add(ldm_pool *p, long n, const float *a, const float *b, float *y) { p->target->add(p, n, a, b, y); }
void ldm_geglu(ldm_pool *p, long rows, long c, const float *x, float *y) { p->target->geglu(p, rows, c, x, y); }

void ldm_add_rows(ldm_pool *p, long rows, long c, const float *x, const float *v, long ldv, long div, long mod, float *y) {
	p->target->add_rows(p, rows, c, x, v, ldv, div, mod, y);
}

void ldm_modulate(ldm_pool *p, long rows, long c, const float *x, const float *s, long lds, long div, float *y) {
	p->target->modulate(p, rows, c, x, s, lds, div, y);
}

void ldm_avg_pool2(ldm_pool *p, long n, long h, long w, long c, const float *x, float *y) { p->target->avg_pool2(p, n, h, w, c, x, y); }

void ldm_pool_windows(ldm_pool *p, const ldm_window_shape *s, int average, int relu, const float *x, float *y) {
	p->target->pool_windows(p, s, average, relu, x, y);
}

void ldm_pixel_mean(ldm_pool *p, long n, long hw, long c, const float *x, float *y) { p->target->pixel_mean(p, n, hw, c, x, y); }
void ldm_transpose(ldm_pool *p, long n, long rows, long cols, const float *x, float *y) { p->target->transpose(p, n, rows, cols, x, y); }

void ldm_quantize(ldm_pool *p, long rows, long c, const float *z, const float *codebook, const float *idx, float *y) {
	p->target->quantize(p, rows, c, z, codebook, idx, y);
}

void ldm_gaussian_sample(ldm_pool *p, long rows, long c, const float *moments, const float *noise, float *y) {
	p->target->gaussian_sample(p, rows, c, moments, noise, y);
}

// Kernels of 3x3 turned by half a turn, with the channels exchanged: (o,c,9) to (c,o,9) backwards.

typedef struct {
	long o, c;
	const float *x;
	float *y;
	ldm_counter next;
} turn_job;

static void turn_task(void *arg, int tid, int threads) {
	turn_job *j = arg;
	(void)tid, (void)threads;
	enum { run = 16 };
	for (long b; (b = take(&j->next) * run) < j->c;)
		for (long o = 0; o < j->o; o++)
			for (long c = b; c < min_long(j->c, b + run); c++) {
				const float *x = j->x + (o * j->c + c) * 9;
				float *y = j->y + (c * j->o + o) * 9;
				for (int i = 0; i < 9; i++) y[i] = x[8 - i];
			}
}

void ldm_turn_3x3(ldm_pool *p, long o, long c, const float *x, float *y) {
	turn_job j = {.o = o, .c = c, .x = x, .y = y};
	pool_run(p, o * c * 18, turn_task, &j);
}

// Plain copies need no vectors.

typedef struct {
	long rows, c, ldv, div, ldy, block;
	const float *v;
	float *y;
	ldm_counter next;
} copy_job;

static void copy_task(void *arg, int tid, int threads) {
	copy_job *j = arg;
	(void)tid, (void)threads;
	for (long b; (b = take(&j->next) * j->block) < j->rows;)
		for (long r = b; r < min_long(j->rows, b + j->block); r++) memcpy(j->y + r * j->ldy, j->v + r / j->div * j->ldv, j->c * sizeof(float));
}

void ldm_copy_rows(ldm_pool *p, long rows, long c, const float *v, long ldv, long div, float *y, long ldy) {
	copy_job j = {.rows = rows, .c = c, .ldv = ldv, .div = div, .ldy = ldy, .block = max_long(1, 16384 / c), .v = v, .y = y};
	pool_run(p, rows * c * 4, copy_task, &j);
}

static void upsample_task(void *arg, int tid, int threads) {
	copy_job *j = arg;
	(void)tid, (void)threads;
	for (long r; (r = take(&j->next)) < j->rows;) {
		const float *x = j->v + r / 2 * j->ldv;
		float *y = j->y + r * j->ldy;
		for (long i = 0; i < j->ldv; i += j->c, y += 2 * j->c) {
			memcpy(y, x + i, j->c * sizeof(float));
			memcpy(y + j->c, x + i, j->c * sizeof(float));
		}
	}
}

void ldm_upsample2(ldm_pool *p, long n, long h, long w, long c, const float *x, float *y) {
	copy_job j = {.rows = n * 2 * h, .c = c, .ldv = w * c, .ldy = 2 * w * c, .v = x, .y = y};
	pool_run(p, n * h * w * c * 16, upsample_task, &j);
}
