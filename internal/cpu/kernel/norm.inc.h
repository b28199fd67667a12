// Normalisations.

// Group norm takes sums per channel over fixed chunks of pixels, relative to the sample's first pixel so that a mean far from zero
// costs no digits, adds the chunks up in float64, and combines the channels of a group. The chunks depend on the image alone.

enum { norm_chunk = 64 };

typedef struct {
	ldm_pool *pool;
	const ldm_group_norm_shape *s;
	const float *x, *gamma, *beta, *scale_shift;
	const float *moments; // means and variances from elsewhere, (n, 2 groups)
	float *y, *mul, *add; // y = x * mul + add, (n, ldc)
	float *part;          // [n][chunk][2][ldc]: sums and sums of squares
	long chunks, ldc;
	ldm_counter next[3];
} group_norm_job;

// The sums of pixels p0 to p1 of a sample, relative to the pixel first.
static void norm_sums(const group_norm_job *j, const float *sample, const float *first, long p0, long p1, float *out) {
	const ldm_group_norm_shape *s = j->s;
	enum { G = 4 };
	for (long c = 0; c < s->c; c += G * VL) {
		vf sum[G], sq[G], ref[G];
		long left = s->c - c;
		const float *x = sample + p0 * s->c + c;
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

// The mean and the variance of a group, from the sums over chunks of the given number of pixels together.
static void norm_moments(const group_norm_job *j, long g, const float *first, const float *part, long chunks, double pixels, double *mean,
	double *var) {
	// Means relative to the group's first value; the variance is that within channels plus that between their means.
	long per = j->s->c / j->s->groups;
	double ref = first[g * per], total = 0, within = 0, squares = 0;
	for (long c = g * per; c < (g + 1) * per; c++) {
		double sum = 0, sq = 0;
		for (long k = 0; k < chunks; k++) {
			sum += part[k * 2 * j->ldc + c];
			sq += part[k * 2 * j->ldc + j->ldc + c];
		}
		double own = sum / pixels, m = first[c] - ref + own;
		within += sq / pixels - own * own;
		total += m;
		squares += m * m;
	}
	double shift = total / per, v = (within + squares) / per - shift * shift;
	*mean = ref + shift;
	*var = v > 0 ? v : 0 * v; // NaN stays NaN
}

static void norm_coefficients(const group_norm_job *j, long n) {
	const ldm_group_norm_shape *s = j->s;
	long per = s->c / s->groups;
	const float *first = j->x + n * s->hw * s->c, *ss = j->scale_shift ? j->scale_shift + n * s->scale_stride : NULL;
	const float *part = j->part + n * j->chunks * 2 * j->ldc, *given = j->moments ? j->moments + n * 2 * s->groups : NULL;
	float *mul = j->mul + n * j->ldc, *add = j->add + n * j->ldc;
	for (long g = 0; g < s->groups; g++) {
		double mean, var;
		if (given) {
			mean = given[g];
			var = given[s->groups + g];
		} else {
			norm_moments(j, g, first, part, j->chunks, s->hw, &mean, &var);
		}
		double rstd = 1 / sqrt(var + s->eps);
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
	long i, n = j->s->n, hw = j->s->hw;
	if (!j->moments) {
		while ((i = take(&j->next[0])) < n * j->chunks) {
			const float *sample = j->x + i / j->chunks * hw * j->s->c;
			long p0 = i % j->chunks * norm_chunk;
			norm_sums(j, sample, sample, p0, min_long(hw, p0 + norm_chunk), j->part + i * 2 * j->ldc);
		}
		pool_barrier(j->pool);
	}
	while ((i = take(&j->next[1])) < n) norm_coefficients(j, i);
	pool_barrier(j->pool);
	while ((i = take(&j->next[2])) < n * j->chunks) {
		long p0 = i % j->chunks * norm_chunk, p1 = min_long(hw, p0 + norm_chunk);
		if (j->s->silu) norm_apply(j, i / j->chunks, p0, p1, 1);
		else norm_apply(j, i / j->chunks, p0, p1, 0);
	}
}

static int group_norm(ldm_pool *pool, const ldm_group_norm_shape *s, const float *x, const float *gamma, const float *beta,
	const float *moments, const float *scale_shift, float *y) {
	group_norm_job j = {.pool = pool, .s = s, .x = x, .gamma = gamma, .beta = beta, .moments = moments, .scale_shift = scale_shift, .y = y};
	j.chunks = div_up(s->hw, norm_chunk);
	j.ldc = div_up(s->c, 16) * 16;
	size_t row = s->n * j.ldc * 4;
	char *scratch = pool_scratch(pool, row * 2 * ((moments ? 0 : j.chunks) + 1));
	if (!scratch) return -1;
	j.mul = (float *)scratch;
	j.add = (float *)(scratch + row);
	j.part = (float *)(scratch + 2 * row);
	pool_run(pool, s->n * s->hw * s->c * 16, group_norm_task, &j);
	return 0;
}

// Moments of each group over a window of every sample. A row of the window is cut into chunks.

typedef struct {
	group_norm_job norm;
	const long *windows; // top, left, bottom, right
	long w;              // width of the image
	float *y;
} group_moments_job;

static void group_moments_task(void *arg, int tid, int threads) {
	group_moments_job *j = arg;
	const ldm_group_norm_shape *s = j->norm.s;
	(void)tid, (void)threads;
	long i;
	while ((i = take(&j->norm.next[0])) < s->n * j->norm.chunks) {
		const long *v = j->windows + 4 * (i / j->norm.chunks), across = div_up(v[3] - v[1], norm_chunk);
		long chunk = i % j->norm.chunks;
		if (chunk >= (v[2] - v[0]) * across) continue;
		const float *sample = j->norm.x + i / j->norm.chunks * s->hw * s->c;
		long row = (v[0] + chunk / across) * j->w, from = v[1] + chunk % across * norm_chunk;
		norm_sums(&j->norm, sample, sample + (v[0] * j->w + v[1]) * s->c, row + from, row + min_long(v[3], from + norm_chunk),
			j->norm.part + i * 2 * j->norm.ldc);
	}
	pool_barrier(j->norm.pool);
	while ((i = take(&j->norm.next[1])) < s->n * s->groups) {
		long n = i / s->groups, g = i % s->groups;
		const long *v = j->windows + 4 * n, rows = v[2] - v[0], width = v[3] - v[1];
		double mean, var;
		norm_moments(&j->norm, g, j->norm.x + (n * s->hw + v[0] * j->w + v[1]) * s->c, j->norm.part + n * j->norm.chunks * 2 * j->norm.ldc,
			rows * div_up(width, norm_chunk), (double)rows * width, &mean, &var);
		j->y[n * 2 * s->groups + g] = mean;
		j->y[(n * 2 + 1) * s->groups + g] = var;
	}
}

static int group_moments(ldm_pool *pool, const ldm_group_norm_shape *s, long w, const long *windows, const float *x, float *y) {
	group_moments_job j = {.norm = {.pool = pool, .s = s, .x = x}, .windows = windows, .w = w, .y = y};
	j.norm.chunks = s->hw / w * div_up(w, norm_chunk); // as many as a window can have
	j.norm.ldc = div_up(s->c, 16) * 16;
	j.norm.part = (float *)pool_scratch(pool, s->n * j.norm.chunks * 2 * j.norm.ldc * 4);
	if (!j.norm.part) return -1;
	pool_run(pool, s->n * s->hw * s->c * 8, group_moments_task, &j);
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
