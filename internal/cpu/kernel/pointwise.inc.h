// Elementwise kernels, and those that only move or compare.

enum { op_scale, op_add, op_silu, op_gelu, op_relu, op_geglu, op_add_rows, op_modulate, op_quantize, op_gaussian, op_average };

typedef struct {
	int op;
	long rows, c, block; // a task is a block of rows; y is (rows, c)
	const float *a, *b, *d;
	float *y;
	long lda, ldb, div, mod, w, h;
	float f;
	ldm_counter next;
} pointwise_job;

// One vector of a row: r is the row, i the column, n how many columns are left.
static INLINE vf pointwise_v(const int op, const pointwise_job *j, long r, long i, long n) {
	const float *a = j->a + r * j->lda + i;
	switch (op) {
	case op_scale: return load_n(a, n) * j->f;
	case op_add: return load_n(a, n) + load_n(j->b + r * j->ldb + i, n);
	case op_silu: return silu_v(load_n(a, n));
	case op_gelu: return gelu_v(load_n(a, n));
	case op_relu: return relu_v(load_n(a, n));
	case op_geglu: return load_n(a, n) * gelu_v(load_n(a + j->c, n));
	case op_add_rows: return load_n(a, n) + load_n(j->b + r / j->div % j->mod * j->ldb + i, n);
	case op_modulate: {
		const float *s = j->b + r / j->div * j->ldb + i;
		return load_n(a, n) * (load_n(s, n) + 1.0f) + load_n(s + j->c, n);
	}
	case op_quantize: {
		vf z = load_n(a, n);
		return z + (load_n(j->b + (long)j->d[r] * j->c + i, n) - z);
	}
	case op_gaussian: {
		vf logvar = vmax(splat(-30.0f), vmin(splat(20.0f), load_n(a + j->c, n)));
		return load_n(a, n) + exp_v(logvar * 0.5f) * load_n(j->b + r * j->ldb + i, n);
	}
	case op_average: {
		const float *p = j->a + ((r / (j->w / 2) / (j->h / 2) * j->h + r / (j->w / 2) % (j->h / 2) * 2) * j->w + r % (j->w / 2) * 2) * j->c + i;
		const float *q = p + j->w * j->c;
		return ((load_n(p, n) + load_n(p + j->c, n)) + (load_n(q, n) + load_n(q + j->c, n))) * 0.25f;
	}
	}
	return (vf){0};
}

static INLINE void pointwise_op(const int op, pointwise_job *j) {
	long whole = j->c / VL * VL;
	for (long b; (b = take(&j->next) * j->block) < j->rows;)
		for (long r = b; r < min_long(j->rows, b + j->block); r++) {
			float *y = j->y + r * j->c;
			for (long i = 0; i < whole; i += VL) store(y + i, pointwise_v(op, j, r, i, VL));
			if (whole < j->c) store_n(y + whole, pointwise_v(op, j, r, whole, j->c - whole), j->c - whole);
		}
}

static void pointwise_task(void *arg, int tid, int threads) {
	pointwise_job *j = arg;
	(void)tid, (void)threads;
	switch (j->op) {
#define OP(o) case o: pointwise_op(o, j); break;
	OP(op_scale) OP(op_add) OP(op_silu) OP(op_gelu) OP(op_relu) OP(op_geglu) OP(op_add_rows) OP(op_modulate) OP(op_quantize) OP(op_gaussian) OP(op_average)
#undef OP
	}
}

static void pointwise(ldm_pool *pool, pointwise_job *j) {
	j->block = max_long(1, 8192 / j->c);
	if (!j->div) j->div = 1;
	pool_run(pool, j->rows * j->c * 8, pointwise_task, j);
}

// Flat arrays are cut into rows of this many elements; what is left over is a row of its own.
enum { flat_row = 4096 };

static void flat(ldm_pool *pool, int op, float f, long n, const float *a, const float *b, float *y) {
	long whole = n / flat_row * flat_row, rest = n - whole;
	if (whole) {
		pointwise_job j = {.op = op, .rows = n / flat_row, .c = flat_row, .a = a, .b = b, .y = y, .lda = flat_row, .ldb = flat_row, .f = f};
		pointwise(pool, &j);
	}
	if (rest) {
		pointwise_job j = {.op = op, .rows = 1, .c = rest, .block = 1, .a = a + whole, .b = b ? b + whole : NULL, .y = y + whole, .f = f, .div = 1};
		pointwise_task(&j, 0, 1);
	}
}

static void activate(ldm_pool *pool, int act, long n, const float *x, float *y) {
	static const int op[] = {[act_silu] = op_silu, [act_gelu] = op_gelu, [act_relu] = op_relu};
	flat(pool, op[act], 0, n, x, NULL, y);
}

static void scale(ldm_pool *pool, float f, long n, const float *x, float *y) { flat(pool, op_scale, f, n, x, NULL, y); }
static void add(ldm_pool *pool, long n, const float *a, const float *b, float *y) { flat(pool, op_add, 0, n, a, b, y); }

static void geglu(ldm_pool *pool, long rows, long c, const float *x, float *y) {
	pointwise_job j = {.op = op_geglu, .rows = rows, .c = c, .a = x, .y = y, .lda = 2 * c};
	pointwise(pool, &j);
}

static void add_rows(ldm_pool *pool, long rows, long c, const float *x, const float *v, long ldv, long div, long mod, float *y) {
	pointwise_job j = {.op = op_add_rows, .rows = rows, .c = c, .a = x, .b = v, .y = y, .lda = c, .ldb = ldv, .div = div, .mod = mod};
	pointwise(pool, &j);
}

static void modulate(ldm_pool *pool, long rows, long c, const float *x, const float *s, long lds, long div, float *y) {
	pointwise_job j = {.op = op_modulate, .rows = rows, .c = c, .a = x, .b = s, .y = y, .lda = c, .ldb = lds, .div = div};
	pointwise(pool, &j);
}

static void avg_pool2(ldm_pool *pool, long n, long h, long w, long c, const float *x, float *y) {
	pointwise_job j = {.op = op_average, .rows = n * (h / 2) * (w / 2), .c = c, .a = x, .y = y, .w = w, .h = h};
	pointwise(pool, &j);
}

static void quantize(ldm_pool *pool, long rows, long c, const float *z, const float *codebook, const float *idx, float *y) {
	pointwise_job j = {.op = op_quantize, .rows = rows, .c = c, .a = z, .b = codebook, .d = idx, .y = y, .lda = c};
	pointwise(pool, &j);
}

static void gaussian_sample(ldm_pool *pool, long rows, long c, const float *moments, const float *noise, float *y) {
	pointwise_job j = {.op = op_gaussian, .rows = rows, .c = c, .a = moments, .b = noise, .y = y, .lda = 2 * c, .ldb = c};
	pointwise(pool, &j);
}

// Transposition in squares that fit the first-level cache.

typedef struct {
	long n, rows, cols, across;
	const float *x;
	float *y;
	ldm_counter next;
} transpose_job;

static void transpose_task(void *arg, int tid, int threads) {
	transpose_job *j = arg;
	(void)tid, (void)threads;
	enum { edge = 16, strip = 256 };
	long down = div_up(j->rows, strip);
	for (long t; (t = take(&j->next)) < j->n * j->across * down;) {
		long n = t / (j->across * down), c0 = t / down % j->across * edge, c1 = min_long(j->cols, c0 + edge);
		long s0 = t % down * strip, s1 = min_long(j->rows, s0 + strip);
		const float *x = j->x + n * j->rows * j->cols;
		float *y = j->y + n * j->rows * j->cols;
		for (long r0 = s0; r0 < s1; r0 += edge) {
			long r1 = min_long(s1, r0 + edge);
			transpose_block(x + r0 * j->cols + c0, j->cols, r1 - r0, c1 - c0, y + c0 * j->rows + r0, j->rows);
		}
	}
}

static void transpose(ldm_pool *pool, long n, long rows, long cols, const float *x, float *y) {
	transpose_job j = {.n = n, .rows = rows, .cols = cols, .across = div_up(cols, 16), .x = x, .y = y};
	pool_run(pool, n * rows * cols * 8, transpose_task, &j);
}

// Nearest rows of a codebook: a product with the packed codebook, with a running minimum for each row and column of a panel.

typedef struct {
	ldm_pool *pool;
	long rows, c, v, panels;
	const float *z, *codebook;
	float *idx, *packed, *norms;
	char *scratch;
	long thread_size;
	pack_job pack;
	ldm_counter next[2];
} code_job;

static float sum_squares(const float *x, long c) {
	float s = 0;
	for (long i = 0; i < c; i++) s += x[i] * x[i];
	return s;
}

enum { code_rows = 4 * MR };

static void code_task(void *arg, int tid, int threads) {
	code_job *j = arg;
	pack_task(&j->pack, tid, threads);
	for (long b; (b = take(&j->next[0]) * 256) < j->v;)
		for (long i = b; i < min_long(j->v, b + 256); i++) j->norms[i] = sum_squares(j->codebook + i * j->c, j->c);
	pool_barrier(j->pool);
	float *t = (float *)(j->scratch + tid * j->thread_size), *best = t + MR * NR, *at = best + code_rows * NR;
	long blocks = div_up(j->rows, code_rows), n = stretch_count(j->c);
	for (long b; (b = take(&j->next[1])) < blocks;) {
		long r0 = b * code_rows, rows = min_long(j->rows - r0, code_rows);
		float zz[code_rows];
		for (long r = 0; r < rows; r++) zz[r] = sum_squares(j->z + (r0 + r) * j->c, j->c);
		for (long i = 0; i < rows * NR; i++) best[i] = INFINITY, at[i] = 0;
		for (long p = 0; p < j->panels; p++) {
			int nv = panel_vectors(j->v, p);
			const float *w = j->packed + p * j->c * NR;
			for (long i0 = 0; i0 < rows; i0 += MR) {
				long m = min_long(MR, rows - i0);
				for (long s = 0; s < n; s++) {
					long k0 = stretch_start(j->c, s, n), k1 = stretch_start(j->c, s + 1, n);
					tiles[m][0][nv - 1](j->z + (r0 + i0) * j->c + k0, j->c, w + k0 * nv * VL, k1 - k0, t, NR, s > 0);
				}
				for (long i = 0; i < m; i++)
					for (int l = 0; l < nv; l++) {
						float *lo = best + (i0 + i) * NR + l * VL, *index = at + (i0 + i) * NR + l * VL;
						vf d = load(j->norms + p * NR + l * VL) + zz[i0 + i] - 2.0f * load(t + i * NR + l * VL), old = load(lo);
						vi less = (vi)(d < old);
						store(lo, choose(less, d, old));
						store(index, choose(less, splat(p), load(index)));
					}
			}
		}
		for (long r = 0; r < rows; r++) {
			float d = INFINITY;
			long code = j->v;
			for (int l = 0; l < NR; l++) {
				long i = (long)at[r * NR + l] * NR + l;
				float e = best[r * NR + l];
				if (e < d || (e == d && i < code)) d = e, code = i;
			}
			j->idx[r0 + r] = code < j->v ? code : 0;
		}
	}
}

static int code_index(ldm_pool *pool, long rows, long c, long v, const float *z, const float *codebook, float *idx) {
	int threads = pool_threads(pool);
	code_job j = {.pool = pool, .rows = rows, .c = c, .v = v, .panels = panel_count(v), .z = z, .codebook = codebook, .idx = idx};
	long packed = line_up(packed_size(c, v, 0) * 4), norms = line_up(j.panels * NR * 4);
	j.thread_size = line_up((MR + 2 * code_rows) * NR * 4);
	char *scratch = pool_scratch(pool, packed + norms + threads * j.thread_size);
	if (!scratch) return -1;
	j.packed = (float *)scratch;
	j.norms = (float *)(scratch + packed);
	j.scratch = scratch + packed + norms;
	for (long i = v; i < j.panels * NR; i++) j.norms[i] = INFINITY; // columns beyond the codebook are never nearest
	memset(j.packed + (j.panels - 1) * c * NR, 0, c * NR * 4);
	j.pack = (pack_job){.k = c, .o = v, .rows = v, .taps = 1, .c = c, .src = codebook, .dst = j.packed};
	pool_run(pool, rows * v * (c + 8), code_task, &j);
	return 0;
}
