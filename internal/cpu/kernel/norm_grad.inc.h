// Gradients of normalisations.

// Group norm: with xhat the normalised input and d the gradient before the scale, dx = rstd (d gamma - mean(d gamma) - xhat
// mean(d gamma xhat)), means over a group. Sums go over the chunks of pixels that the forward pass has, then on in float64. With
// SiLU, d is dy times its slope, which stands in dx between the passes.

typedef struct {
	group_norm_job f; // statistics of the forward pass; mul and add make xhat of x
	const float *dy;
	float *dx, *dgamma, *dbeta;
	float *sums;     // [n][chunk][2][ldc]: of d and d xhat
	double *total;   // [n][2][ldc]: over chunks
	float *ca, *cb;  // dx = d rstd gamma + ca + xhat cb, (n, ldc) each
	float *rg;       // rstd gamma
	ldm_counter next[3];
} group_norm_grad_job;

static void norm_grad_statistics(const group_norm_grad_job *j, long n) {
	const group_norm_job *f = &j->f;
	const ldm_group_norm_shape *s = f->s;
	long per = s->c / s->groups;
	const float *first = f->x + n * s->hw * s->c, *part = f->part + n * f->chunks * 2 * f->ldc;
	for (long g = 0; g < s->groups; g++) {
		double mean, var;
		norm_moments(f, g, first, part, f->chunks, s->hw, &mean, &var);
		double rstd = 1 / sqrt(var + s->eps);
		for (long c = g * per; c < (g + 1) * per; c++) {
			f->mul[n * f->ldc + c] = rstd;
			f->add[n * f->ldc + c] = -mean * rstd;
		}
	}
}

// The sums of pixels p0 to p1 of sample n.
static INLINE void norm_grad_sums(const group_norm_grad_job *j, long n, long p0, long p1, float *out, const int silu) {
	const group_norm_job *f = &j->f;
	const ldm_group_norm_shape *s = f->s;
	const float *mul = f->mul + n * f->ldc, *add = f->add + n * f->ldc;
	for (long c = 0; c < s->c; c += VL) {
		long left = s->c - c, at = (n * s->hw + p0) * s->c + c;
		vf a = load(mul + c), b = load(add + c), sum = {0}, dot = {0}, gamma = {0}, beta = {0};
		if (silu) gamma = load_n(f->gamma + c, left), beta = load_n(f->beta + c, left);
		for (long p = p0; p < p1; p++, at += s->c) {
			vf h = load_n(f->x + at, left) * a + b, d = load_n(j->dy + at, left);
			if (silu) {
				d *= silu_slope_v(h * gamma + beta);
				if (j->dx) store_n(j->dx + at, d, left);
			}
			sum += d;
			dot += d * h;
		}
		store(out + c, sum);
		store(out + f->ldc + c, dot);
	}
}

static void norm_grad_coefficients(const group_norm_grad_job *j, long n) {
	const group_norm_job *f = &j->f;
	const ldm_group_norm_shape *s = f->s;
	long per = s->c / s->groups;
	double *total = j->total + n * 2 * f->ldc, count = (double)per * s->hw;
	const float *part = j->sums + n * f->chunks * 2 * f->ldc;
	for (long c = 0; c < s->c; c++) {
		double a = 0, b = 0;
		for (long k = 0; k < f->chunks; k++) {
			a += part[k * 2 * f->ldc + c];
			b += part[(k * 2 + 1) * f->ldc + c];
		}
		total[c] = a;
		total[f->ldc + c] = b;
	}
	if (!j->dx) return;
	for (long g = 0; g < s->groups; g++) {
		double a = 0, b = 0;
		for (long c = g * per; c < (g + 1) * per; c++) {
			a += f->gamma[c] * total[c];
			b += f->gamma[c] * total[f->ldc + c];
		}
		for (long c = g * per; c < (g + 1) * per; c++) {
			float rstd = f->mul[n * f->ldc + c];
			j->rg[n * f->ldc + c] = rstd * f->gamma[c];
			j->ca[n * f->ldc + c] = -rstd * a / count;
			j->cb[n * f->ldc + c] = -rstd * b / count;
		}
	}
}

static void norm_grad_apply(const group_norm_grad_job *j, long n, long p0, long p1) {
	const group_norm_job *f = &j->f;
	const ldm_group_norm_shape *s = f->s;
	const float *mul = f->mul + n * f->ldc, *add = f->add + n * f->ldc, *rg = j->rg + n * f->ldc, *ca = j->ca + n * f->ldc, *cb = j->cb + n * f->ldc;
	const float *from = s->silu ? j->dx : j->dy;
	for (long p = p0; p < p1; p++) {
		long at = (n * s->hw + p) * s->c;
		for (long c = 0; c < s->c; c += VL) {
			long left = s->c - c;
			vf h = load_n(f->x + at + c, left) * load(mul + c) + load(add + c);
			store_n(j->dx + at + c, load_n(from + at + c, left) * load(rg + c) + (load(ca + c) + h * load(cb + c)), left);
		}
	}
}

static void group_norm_grad_task(void *arg, int tid, int threads) {
	group_norm_grad_job *j = arg;
	group_norm_job *f = &j->f;
	long i, n = f->s->n, hw = f->s->hw, c = f->s->c;
	(void)tid, (void)threads;
	while ((i = take(&f->next[0])) < n * f->chunks) {
		const float *sample = f->x + i / f->chunks * hw * c;
		long p0 = i % f->chunks * norm_chunk;
		norm_sums(f, sample, sample, p0, min_long(hw, p0 + norm_chunk), f->part + i * 2 * f->ldc);
	}
	pool_barrier(f->pool);
	while ((i = take(&f->next[1])) < n) norm_grad_statistics(j, i);
	pool_barrier(f->pool);
	while ((i = take(&f->next[2])) < n * f->chunks) {
		long p0 = i % f->chunks * norm_chunk, p1 = min_long(hw, p0 + norm_chunk);
		float *out = j->sums + i * 2 * f->ldc;
		if (f->s->silu) norm_grad_sums(j, i / f->chunks, p0, p1, out, 1);
		else norm_grad_sums(j, i / f->chunks, p0, p1, out, 0);
	}
	pool_barrier(f->pool);
	while ((i = take(&j->next[0])) < n) norm_grad_coefficients(j, i);
	pool_barrier(f->pool);
	while (j->dx && (i = take(&j->next[1])) < n * f->chunks) {
		long p0 = i % f->chunks * norm_chunk;
		norm_grad_apply(j, i / f->chunks, p0, min_long(hw, p0 + norm_chunk));
	}
	while (j->dgamma && (i = take(&j->next[2]) * 64) < c)
		for (long k = i; k < min_long(c, i + 64); k++) {
			double a = 0, b = 0;
			for (long l = 0; l < n; l++) {
				a += j->total[(2 * l + 1) * f->ldc + k];
				b += j->total[2 * l * f->ldc + k];
			}
			j->dgamma[k] = a;
			j->dbeta[k] = b;
		}
}

static int group_norm_grad(ldm_pool *pool, const ldm_group_norm_shape *s, const float *x, const float *gamma, const float *beta, const float *dy,
	float *dx, float *dgamma, float *dbeta) {
	group_norm_grad_job j = {.f = {.pool = pool, .s = s, .x = x, .gamma = gamma, .beta = beta}, .dy = dy, .dx = dx, .dgamma = dgamma, .dbeta = dbeta};
	group_norm_job *f = &j.f;
	f->chunks = div_up(s->hw, norm_chunk);
	f->ldc = div_up(s->c, 16) * 16;
	long row = s->n * f->ldc;
	// The sums of the forward pass are read before those of the backward pass are written, but for those of other samples.
	char *scratch = pool_scratch(pool, row * (2 * 8 + (5 + 4 * f->chunks) * 4));
	if (!scratch) return -1;
	j.total = (double *)scratch;
	f->mul = (float *)(j.total + 2 * row);
	f->add = f->mul + row;
	j.ca = f->add + row;
	j.cb = j.ca + row;
	j.rg = j.cb + row;
	f->part = j.rg + row;
	j.sums = f->part + 2 * row * f->chunks;
	pool_run(pool, s->n * s->hw * s->c * 32, group_norm_grad_task, &j);
	return 0;
}

// Layer norm: rows one after the other, the gradients of the parameters summed over chunks of rows, then in float64.

typedef struct {
	ldm_pool *pool;
	long rows, c, chunks, ldc;
	double eps;
	const float *x, *gamma, *dy;
	float *dx, *dgamma, *dbeta, *part; // part: [chunk][2][ldc]
	ldm_counter next[2];
} layer_norm_grad_job;

static void layer_norm_grad_row(const layer_norm_grad_job *j, long r, float *sums) {
	long c = j->c;
	const float *x = j->x + r * c, *dy = j->dy + r * c;
	vf ref = splat(x[0]), s = {0}, q = {0};
	for (long i = 0; i < c; i += VL) {
		vf d = load_n(x + i, c - i) - ref;
		if (c - i < VL)
			for (long l = c - i; l < VL; l++) ((float *)&d)[l] = 0;
		s += d;
	}
	double mean = x[0] + (double)sum_lanes(s) / c;
	float hi = mean, lo = mean - hi;
	for (long i = 0; i < c; i += VL) {
		vf d = load_n(x + i, c - i) - hi - lo;
		if (c - i < VL)
			for (long l = c - i; l < VL; l++) ((float *)&d)[l] = 0;
		q += d * d;
	}
	float rstd = 1 / sqrt((double)sum_lanes(q) / c + j->eps);
	vf a = {0}, b = {0};
	for (long i = 0; i < c; i += VL) {
		long n = c - i;
		vf h = (load_n(x + i, n) - hi - lo) * rstd, d = load_n(dy + i, n); // beyond the row d is zero
		if (sums) {
			store(sums + i, load(sums + i) + d * h);
			store(sums + j->ldc + i, load(sums + j->ldc + i) + d);
		}
		if (j->dx) {
			d *= load_n(j->gamma + i, n);
			a += d;
			b += d * h;
		}
	}
	if (!j->dx) return;
	float da = sum_lanes(a) / c, db = sum_lanes(b) / c;
	for (long i = 0; i < c; i += VL) {
		long n = c - i;
		vf h = (load_n(x + i, n) - hi - lo) * rstd;
		store_n(j->dx + r * c + i, rstd * (load_n(dy + i, n) * load_n(j->gamma + i, n) - da - h * db), n);
	}
}

static void layer_norm_grad_task(void *arg, int tid, int threads) {
	layer_norm_grad_job *j = arg;
	(void)tid, (void)threads;
	long i;
	while ((i = take(&j->next[0])) < j->chunks) {
		float *sums = j->dgamma ? j->part + i * 2 * j->ldc : NULL;
		if (sums) memset(sums, 0, 2 * j->ldc * sizeof(float));
		for (long r = i * sum_rows; r < min_long(j->rows, (i + 1) * sum_rows); r++) layer_norm_grad_row(j, r, sums);
	}
	if (!j->dgamma) return;
	pool_barrier(j->pool);
	while ((i = take(&j->next[1]) * 64) < j->c)
		for (long c = i; c < min_long(j->c, i + 64); c++) {
			double a = 0, b = 0;
			for (long k = 0; k < j->chunks; k++) {
				a += j->part[2 * k * j->ldc + c];
				b += j->part[(2 * k + 1) * j->ldc + c];
			}
			j->dgamma[c] = a;
			j->dbeta[c] = b;
		}
}

static int layer_norm_grad(ldm_pool *pool, long rows, long c, double eps, const float *x, const float *gamma, const float *dy, float *dx,
	float *dgamma, float *dbeta) {
	layer_norm_grad_job j = {.pool = pool, .rows = rows, .c = c, .chunks = div_up(rows, sum_rows), .ldc = div_up(c, 16) * 16, .eps = eps, .x = x,
		.gamma = gamma, .dy = dy, .dx = dx, .dgamma = dgamma, .dbeta = dbeta};
	j.part = (float *)pool_scratch(pool, max_long(1, dgamma ? j.chunks : 0) * 2 * j.ldc * 4);
	if (!j.part) return -1;
	pool_run(pool, rows * c * 32, layer_norm_grad_task, &j);
	return 0;
}
