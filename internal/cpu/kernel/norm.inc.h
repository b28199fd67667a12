// Normalisations.

// Group norm takes sums per channel over fixed chunks of pixels, relative to the sample's first pixel so that a mean far from zero
// costs no digits, adds the chunks up in float64, and combines the channels of a group. The chunks depend on the image alone.

enum { norm_chunk = 64 };

typedef struct {
	ldm_pool *pool;
	const ldm_group_norm_shape *s;
	const float *x, *gamma, *beta, *scale_shift;
	float *y, *mul, *add; // y = x * mul + add, (n, ldc)
	float *part;          // [n][chunk][2][ldc]: sums and sums of squares
	long chunks, ldc;
	ldm_counter next[3];
} group_norm_job;

static void norm_sums(const group_norm_job *j, long n, long chunk) {
	const ldm_group_norm_shape *s = j->s;
	const float *first = j->x + n * s->hw * s->c;
	long p0 = chunk * norm_chunk, p1 = min_long(s->hw, p0 + norm_chunk);
	float *out = j->part + (n * j->chunks + chunk) * 2 * j->ldc;
	enum { G = 4 };
	for (long c = 0; c < s->c; c += G * VL) {
		vf sum[G], sq[G], ref[G];
		long left = s->c - c;
		const float *x = first + p0 * s->c + c;
		if (left >= G * VL) {
			UNROLL for (int g = 0; g < G; g++) {
				ref[g] = load(first + c + g * VL);
				sum[g] = sq[g] = (vf){0};
			}
			for (long p = p0; p < p1; p++, x += s->c) UNROLL for (int g = 0; g < G; g++) {
				vf d = load(x + g * VL) - ref[g];
				sum[g] += d;
				sq[g] += d * d;
			}
			UNROLL for (int g = 0; g < G; g++) {
				store(out + c + g * VL, sum[g]);
				store(out + j->ldc + c + g * VL, sq[g]);
			}
			continue;
		}
		for (long o = 0; o < left; o += VL) {
			vf r = load_n(first + c + o, left - o), a = {0}, b = {0};
			for (long p = p0; p < p1; p++) {
				vf d = load_n(x + (p - p0) * s->c + o, left - o) - r;
				a += d;
				b += d * d;
			}
			store(out + c + o, a);
			store(out + j->ldc + c + o, b);
		}
	}
}

static void norm_coefficients(const group_norm_job *j, long n) {
	const ldm_group_norm_shape *s = j->s;
	long per = s->c / s->groups;
	const float *first = j->x + n * s->hw * s->c, *ss = j->scale_shift ? j->scale_shift + n * s->scale_stride : NULL;
	const float *part = j->part + n * j->chunks * 2 * j->ldc;
	float *mul = j->mul + n * j->ldc, *add = j->add + n * j->ldc;
	for (long g = 0; g < s->groups; g++) {
		// Means relative to the group's first value; the variance is that within channels plus that between their means.
		double ref = first[g * per], total = 0, within = 0, squares = 0;
		for (long c = g * per; c < (g + 1) * per; c++) {
			double sum = 0, sq = 0;
			for (long k = 0; k < j->chunks; k++) {
				sum += part[k * 2 * j->ldc + c];
				sq += part[k * 2 * j->ldc + j->ldc + c];
			}
			double mean = sum / s->hw, m = first[c] - ref + mean;
			within += sq / s->hw - mean * mean;
			total += m;
			squares += m * m;
		}
		double mean = total / per, var = (within + squares) / per - mean * mean;
		double rstd = 1 / sqrt((var > 0 ? var : 0 * var) + s->eps); // NaN stays NaN
		mean += ref;
		for (long c = g * per; c < (g + 1) * per; c++) {
			double m = j->gamma[c] * rstd, a = j->beta[c] - mean * m;
			if (ss) {
				double k = 1 + (double)ss[c];
				m *= k;
				a = a * k + ss[s->c + c];
			}
			mul[c] = m;
			add[c] = a;
		}
	}
}

static INLINE void norm_apply(const group_norm_job *j, long n, long p0, long p1, const int silu) {
	const ldm_group_norm_shape *s = j->s;
	const float *mul = j->mul + n * j->ldc, *add = j->add + n * j->ldc;
	long whole = s->c / VL * VL;
	for (long p = p0; p < p1; p++) {
		const float *x = j->x + (n * s->hw + p) * s->c;
		float *y = j->y + (n * s->hw + p) * s->c;
		for (long c = 0; c < whole; c += VL) {
			vf v = load(x + c) * load(mul + c) + load(add + c);
			store(y + c, silu ? silu_v(v) : v);
		}
		if (whole < s->c) {
			vf v = load_n(x + whole, s->c - whole) * load(mul + whole) + load(add + whole);
			store_n(y + whole, silu ? silu_v(v) : v, s->c - whole);
		}
	}
}

static void group_norm_task(void *arg, int tid, int threads) {
	group_norm_job *j = arg;
	(void)tid, (void)threads;
	long i, n = j->s->n;
	while ((i = take(&j->next[0])) < n * j->chunks) norm_sums(j, i / j->chunks, i % j->chunks);
	pool_barrier(j->pool);
	while ((i = take(&j->next[1])) < n) norm_coefficients(j, i);
	pool_barrier(j->pool);
	while ((i = take(&j->next[2])) < n * j->chunks) {
		long p0 = i % j->chunks * norm_chunk, p1 = min_long(j->s->hw, p0 + norm_chunk);
		if (j->s->silu) norm_apply(j, i / j->chunks, p0, p1, 1);
		else norm_apply(j, i / j->chunks, p0, p1, 0);
	}
}

static int group_norm(ldm_pool *pool, const ldm_group_norm_shape *s, const float *x, const float *gamma, const float *beta,
	const float *scale_shift, float *y) {
	group_norm_job j = {.pool = pool, .s = s, .x = x, .gamma = gamma, .beta = beta, .scale_shift = scale_shift, .y = y};
	j.chunks = div_up(s->hw, norm_chunk);
	j.ldc = div_up(s->c, 16) * 16;
	size_t row = s->n * j.ldc * 4;
	char *scratch = pool_scratch(pool, row * 2 * (j.chunks + 1));
	if (!scratch) return -1;
	j.mul = (float *)scratch;
	j.add = (float *)(scratch + row);
	j.part = (float *)(scratch + 2 * row);
	pool_run(pool, s->n * s->hw * s->c * 16, group_norm_task, &j);
	return 0;
}

typedef struct {
	long rows, c, block;
	double eps;
	const float *x, *gamma, *beta;
	float *y;
	ldm_counter next;
} layer_norm_job;

// Mean first, then the variance around it, both relative to the row's first value.
static void layer_norm_row(const layer_norm_job *j, const float *x, float *y) {
	long c = j->c;
	vf ref = splat(x[0]), s0 = {0}, s1 = {0};
	long i = 0;
	for (; i + 2 * VL <= c; i += 2 * VL) {
		s0 += load(x + i) - ref;
		s1 += load(x + i + VL) - ref;
	}
	double sum = sum_lanes(s0 + s1);
	for (; i < c; i++) sum += (double)(x[i] - x[0]);
	double mean = x[0] + sum / c;
	float hi = mean, lo = mean - hi;
	vf q0 = {0}, q1 = {0};
	for (i = 0; i + 2 * VL <= c; i += 2 * VL) {
		vf a = load(x + i) - hi - lo, b = load(x + i + VL) - hi - lo;
		q0 += a * a;
		q1 += b * b;
	}
	double var = sum_lanes(q0 + q1);
	for (; i < c; i++) {
		float d = x[i] - hi - lo;
		var += (double)(d * d);
	}
	float rstd = 1 / sqrt(var / c + j->eps);
	for (i = 0; i < c; i += VL) {
		long n = c - i;
		store_n(y + i, (load_n(x + i, n) - hi - lo) * rstd * load_n(j->gamma + i, n) + load_n(j->beta + i, n), n);
	}
}

static void layer_norm_task(void *arg, int tid, int threads) {
	layer_norm_job *j = arg;
	(void)tid, (void)threads;
	for (long b; (b = take(&j->next) * j->block) < j->rows;)
		for (long r = b; r < min_long(j->rows, b + j->block); r++) layer_norm_row(j, j->x + r * j->c, j->y + r * j->c);
}

static void layer_norm(ldm_pool *pool, long rows, long c, double eps, const float *x, const float *gamma, const float *beta, float *y) {
	layer_norm_job j = {.rows = rows, .c = c, .block = max_long(1, 8192 / c), .eps = eps, .x = x, .gamma = gamma, .beta = beta, .y = y};
	pool_run(pool, rows * c * 16, layer_norm_task, &j);
}
