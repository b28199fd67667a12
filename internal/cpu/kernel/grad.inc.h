// Gradients of the cheap kernels, sums, and the step of the optimiser.

typedef double vw __attribute__((vector_size(VL * 8)));

// Sums over rows: columns are added up over fixed chunks of rows, and the chunks in float64.

enum { sum_rows = 64, sum_columns = 512 };

typedef struct {
	ldm_pool *pool;
	long n, rows, c, ld, chunks, across, ldc;
	const float *x;
	float *y, *part; // part: [n][chunk][ldc]
	ldm_counter next[2];
} column_job;

static void column_chunk(const float *x, long ld, long rows, long c, float *y) {
	enum { G = 4 };
	long i = 0;
	for (; i + G * VL <= c; i += G * VL) {
		vf s[G];
		UNROLL for (int g = 0; g < G; g++) s[g] = load(x + i + g * VL);
		for (long r = 1; r < rows; r++) UNROLL for (int g = 0; g < G; g++) s[g] += load(x + r * ld + i + g * VL);
		UNROLL for (int g = 0; g < G; g++) store(y + i + g * VL, s[g]);
	}
	for (; i < c; i += VL) {
		vf s = load_n(x + i, c - i);
		for (long r = 1; r < rows; r++) s += load_n(x + r * ld + i, c - i);
		store(y + i, s);
	}
}

static void column_task(void *arg, int tid, int threads) {
	column_job *j = arg;
	(void)tid, (void)threads;
	long i;
	while ((i = take(&j->next[0])) < j->n * j->chunks * j->across) {
		long a = i % j->across, k = i / j->across % j->chunks, n = i / j->across / j->chunks, c0 = a * sum_columns;
		column_chunk(j->x + (n * j->rows + k * sum_rows) * j->ld + c0, j->ld, min_long(sum_rows, j->rows - k * sum_rows), min_long(sum_columns, j->c - c0),
			j->part + (n * j->chunks + k) * j->ldc + c0);
	}
	pool_barrier(j->pool);
	while ((i = take(&j->next[1])) < j->n * j->across) {
		long n = i / j->across, c0 = i % j->across * sum_columns, c1 = min_long(j->c, c0 + sum_columns);
		for (long c = c0; c < c1; c += VL) {
			vw s = {0};
			for (long k = 0; k < j->chunks; k++) s += __builtin_convertvector(load(j->part + (n * j->chunks + k) * j->ldc + c), vw);
			store_n(j->y + n * j->c + c, __builtin_convertvector(s, vf), c1 - c);
		}
	}
}

static int column_sums(ldm_pool *pool, long n, long rows, long c, long ld, const float *x, float *y) {
	column_job j = {.pool = pool, .n = n, .rows = rows, .c = c, .ld = ld, .chunks = div_up(rows, sum_rows), .across = div_up(c, sum_columns),
		.ldc = div_up(c, 16) * 16, .x = x, .y = y};
	j.part = (float *)pool_scratch(pool, n * j.chunks * j.ldc * 4);
	if (!j.part) return -1;
	pool_run(pool, n * rows * c * 2, column_task, &j);
	return 0;
}

// Sums of products and of squares of differences, in float64 over fixed chunks.

enum { total_dot, total_distance, total_chunk = 8192 };

typedef struct {
	int kind;
	long n;
	const float *a, *b;
	double *part;
	ldm_counter next;
} total_job;

static double total_part(const total_job *j, long from, long to) {
	vw s0 = {0}, s1 = {0};
	double sum = 0;
	for (long i = from; i < to; i += 2 * VL) {
		vw a0 = __builtin_convertvector(load_n(j->a + i, to - i), vw), b0 = __builtin_convertvector(load_n(j->b + i, to - i), vw);
		vw a1 = {0}, b1 = {0};
		if (i + VL < to) {
			a1 = __builtin_convertvector(load_n(j->a + i + VL, to - i - VL), vw);
			b1 = __builtin_convertvector(load_n(j->b + i + VL, to - i - VL), vw);
		}
		if (j->kind == total_distance) {
			a0 -= b0, b0 = a0;
			a1 -= b1, b1 = a1;
		}
		s0 += a0 * b0;
		s1 += a1 * b1;
	}
	s0 += s1;
	for (int i = 0; i < VL; i++) sum += s0[i];
	return sum;
}

static void total_task(void *arg, int tid, int threads) {
	total_job *j = arg;
	(void)tid, (void)threads;
	for (long i; (i = take(&j->next)) * total_chunk < j->n;) j->part[i] = total_part(j, i * total_chunk, min_long(j->n, (i + 1) * total_chunk));
}

static int total(ldm_pool *pool, int kind, long n, const float *a, const float *b, double *y) {
	total_job j = {.kind = kind, .n = n, .a = a, .b = b};
	long chunks = div_up(n, total_chunk);
	j.part = (double *)pool_scratch(pool, chunks * sizeof *j.part);
	if (!j.part) return -1;
	pool_run(pool, n * 4, total_task, &j);
	*y = 0;
	for (long i = 0; i < chunks; i++) *y += j.part[i];
	return 0;
}

// Slopes of activations.

static INLINE vf silu_slope_v(vf x) {
	vf s = 1.0f / (exp_v(-x) + 1.0f);
	return s * (1.0f + x * (1.0f - s));
}

static INLINE vf gelu_slope_v(vf x) {
	vf e, p = normal_v(x, &e);
	return p + x * e * 0.3989422804014327f;
}

enum { grad_silu, grad_gelu, grad_relu, grad_geglu, grad_leaky, leaky };

typedef struct {
	int op;
	long rows, c, block;
	const float *x, *dy;
	float *dx, f;
	ldm_counter next;
} slope_job;

static INLINE void slope_row(const int op, const slope_job *j, long r) {
	long c = j->c;
	const float *x = j->x + r * c, *dy = j->dy + r * c;
	float *dx = j->dx + r * c;
	if (op == grad_geglu) {
		x += r * c;
		dx += r * c;
	}
	for (long i = 0; i < c; i += VL) {
		long n = c - i;
		vf v = load_n(x + i, n), d = load_n(dy + i, n);
		switch (op) {
		case grad_silu: store_n(dx + i, silu_slope_v(v) * d, n); break;
		case grad_gelu: store_n(dx + i, gelu_slope_v(v) * d, n); break;
		case grad_relu: store_n(dx + i, choose(v > 0.0f, d, splat(0.0f)), n); break;
		case grad_leaky: store_n(dx + i, choose(v > 0.0f, d, d * j->f), n); break;
		case leaky: store_n(dx + i, choose(v < 0.0f, v * j->f, v), n); break;
		case grad_geglu: {
			vf gate = load_n(x + c + i, n), e, p = normal_v(gate, &e);
			store_n(dx + i, d * (gate * p), n);
			store_n(dx + c + i, d * v * (p + gate * e * 0.3989422804014327f), n);
		}
		}
	}
}

static void slope_task(void *arg, int tid, int threads) {
	slope_job *j = arg;
	(void)tid, (void)threads;
	for (long b; (b = take(&j->next) * j->block) < j->rows;)
		for (long r = b; r < min_long(j->rows, b + j->block); r++) switch (j->op) {
#define OP(o) case o: slope_row(o, j, r); break;
			OP(grad_silu) OP(grad_gelu) OP(grad_relu) OP(grad_geglu) OP(grad_leaky) OP(leaky)
#undef OP
			}
}

// Flat arrays are cut into rows of flat_row elements.
static void slopes(ldm_pool *pool, int op, float f, long n, const float *x, const float *dy, float *dx) {
	long rows = n / flat_row, whole = rows * flat_row;
	if (rows) {
		slope_job j = {.op = op, .rows = rows, .c = flat_row, .block = 2, .x = x, .dy = dy, .dx = dx, .f = f};
		pool_run(pool, n * 16, slope_task, &j);
	}
	if (whole < n) {
		slope_job j = {.op = op, .rows = 1, .c = n - whole, .block = 1, .x = x + whole, .dy = dy + whole, .dx = dx + whole, .f = f};
		slope_task(&j, 0, 1);
	}
}

static void geglu_grad(ldm_pool *pool, long rows, long c, const float *x, const float *dy, float *dx) {
	slope_job j = {.op = grad_geglu, .rows = rows, .c = c, .block = max_long(1, 8192 / c), .x = x, .dy = dy, .dx = dx};
	pool_run(pool, rows * c * 32, slope_task, &j);
}

// The optimiser.

static INLINE vf sqrt_v(vf v) {
#if VL == 16 && defined(__AVX512F__)
	return (vf)_mm512_sqrt_ps((__m512)v);
#elif VL == 8 && defined(__AVX2__)
	return (vf)_mm256_sqrt_ps((__m256)v);
#elif VL == 4 && defined(__SSE2__)
	return (vf)_mm_sqrt_ps((__m128)v);
#else
	for (int i = 0; i < VL; i++) ((float *)&v)[i] = __builtin_sqrtf(((float *)&v)[i]);
	return v;
#endif
}

typedef struct {
	const ldm_adam *c;
	long n;
	float *w, *m, *v, *ema;
	const float *g;
	ldm_counter next;
} adam_job;

static void adam_task(void *arg, int tid, int threads) {
	adam_job *j = arg;
	const ldm_adam *c = j->c;
	(void)tid, (void)threads;
	for (long b; (b = take(&j->next) * flat_row) < j->n;)
		for (long i = b; i < min_long(j->n, b + flat_row); i += VL) {
			long n = j->n - i;
			vf g = load_n(j->g + i, n), m = load_n(j->m + i, n), v = load_n(j->v + i, n), w = load_n(j->w + i, n);
			m += (g - m) * c->rest1;
			v = v * c->beta2 + c->rest2 * g * g;
			w = w * c->keep - c->size * (m / (sqrt_v(v) / c->root + c->eps));
			store_n(j->m + i, m, n);
			store_n(j->v + i, v, n);
			store_n(j->w + i, w, n);
			if (j->ema) {
				vf e = load_n(j->ema + i, n);
				store_n(j->ema + i, e - c->rest_ema * (e - w), n);
			}
		}
}

static void adam(ldm_pool *pool, const ldm_adam *c, long n, float *w, const float *g, float *m, float *v, float *ema) {
	adam_job j = {.c = c, .n = n, .w = w, .m = m, .v = v, .ema = ema, .g = g};
	pool_run(pool, n * 16, adam_task, &j);
}
