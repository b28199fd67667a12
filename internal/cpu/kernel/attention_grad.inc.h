// The gradient of attention. A task is one head of a sample: for blocks of queries the weights P and their gradients are computed
// again; with o = P v and P = softmax(scale q k^T), dS = scale P (dP - sum of P dP) where dP = do v^T, and dq = dS k,
// dk = dS^T q, dv = P^T do.

typedef struct {
	ldm_pool *pool;
	const ldm_attention_shape *s;
	const float *q, *k, *v, *dy;
	float *dq, *dk, *dv;
	char *scratch;
	long thread_size, heads, rows; // rows of a block
	long lds, ldd, keys, values;   // sizes in floats: keys and values packed
	ldm_counter next;
} attention_grad_job;

// The transpose of t rows of d: panels of rows.
static void pack_turned(const float *x, long row, long t, long d, float *to) {
	for (long p = 0; p < panel_count(t); p++) {
		long n = min_long(NR, t - p * NR), wide = panel_vectors(t, p) * VL;
		float *y = to + p * d * NR;
		n = min_long(n, wide);
		transpose_block(x + p * NR * row, row, n, d, y, wide);
		for (long c = 0; c < d && n < wide; c++)
			for (long l = n; l < wide; l++) y[c * wide + l] = 0;
	}
}

// t rows of d: panels of columns.
static void pack_straight(const float *x, long row, long t, long d, float *to) {
	for (long p = 0; p < panel_count(d); p++) {
		int nv = panel_vectors(d, p);
		for (long r = 0; r < t; r++)
			for (int l = 0; l < nv; l++) store(to + p * t * NR + (r * nv + l) * VL, load_n(x + r * row + p * NR + l * VL, d - p * NR - l * VL));
	}
}

// y[0..rows][0..n] = a[0..rows][0..k] * the packed matrix (k, n).
static void times_packed(const float *a, long lda, long rows, long k, const float *b, long n, float *y, long ldy) {
	enum { run = 256 };
	long row_tiles = div_up(rows, MR);
	for (long k0 = 0; k0 < k; k0 += run)
		for (long p = 0; p < panel_count(n); p++) {
			int nv = panel_vectors(n, p);
			for (long i = 0; i < row_tiles; i++) {
				long r0 = rows * i / row_tiles, r1 = rows * (i + 1) / row_tiles;
				tiles[r1 - r0][0][nv - 1](a + r0 * lda + k0, lda, b + p * k * NR + k0 * nv * VL, min_long(run, k - k0), y + r0 * ldy + p * NR, ldy, k0 > 0);
			}
		}
}

// Turns a row of n scores into weights, and one of gradients of weights into gradients of scores.
static INLINE void softmax_grad_row(float *s, float *g, long n, float scale) {
	vf hi = splat(-3.0e38f), sum = {0}, along = {0};
	for (long pad = n; pad % VL; pad++) s[pad] = -3.0e38f, g[pad] = 0;
	for (long i = 0; i < n; i += VL) hi = vmax(hi, load(s + i));
	float top = max_lanes(hi);
	for (long i = 0; i < n; i += VL) {
		vf e = exp2_v(load(s + i) - top);
		if (i + VL > n)
			for (long l = n - i; l < VL; l++) ((float *)&e)[l] = 0;
		sum += e;
		along += e * load(g + i);
		store(s + i, e);
	}
	float f = 1 / sum_lanes(sum), mean = sum_lanes(along) * f;
	for (long i = 0; i < n; i += VL) {
		vf p = load(s + i) * f;
		store(s + i, p);
		store(g + i, p * (load(g + i) - mean) * scale);
	}
}

static void copy_padded(const float *x, long row, long rows, long d, float f, float *y, long ldy) {
	for (long r = 0; r < rows; r++)
		for (long c = 0; c < ldy; c += VL) store(y + r * ldy + c, c < d ? f * load_n(x + r * row + c, d - c) : (vf){0});
}

static void attention_grad_head(const attention_grad_job *j, long head, float *m) {
	const ldm_attention_shape *s = j->s;
	long n = head / s->heads, h = head % s->heads;
	const float *q = j->q + n * s->q_sample + h * s->q_head, *k = j->k + n * s->k_sample + h * s->k_head;
	const float *v = j->v + n * s->v_sample + h * s->v_head, *dy = j->dy + n * s->o_sample + h * s->o_head;
	float *dq = j->dq + n * s->q_sample + h * s->q_head, *dk = j->dk + n * s->k_sample + h * s->k_head, *dv = j->dv + n * s->v_sample + h * s->v_head;
	float *kt = m, *vt = kt + j->keys, *kr = vt + j->keys, *sums_k = kr + j->values, *sums_v = sums_k + s->tk * j->ldd;
	float *sc = sums_v + s->tk * j->ldd, *g = sc + j->rows * j->lds, *qs = g + j->rows * j->lds, *qr = qs + j->rows * j->ldd;
	float *d = qr + j->rows * j->ldd, *out = d + j->rows * j->ldd;
	pack_turned(k, s->k_row, s->tk, s->d, kt);
	pack_turned(v, s->v_row, s->tk, s->d, vt);
	pack_straight(k, s->k_row, s->tk, s->d, kr);
	float base = s->scale * 1.44269504088896341f; // exponentials are powers of two
	for (long t0 = 0; t0 < s->tq; t0 += j->rows) {
		long rows = min_long(j->rows, s->tq - t0);
		copy_padded(q + t0 * s->q_row, s->q_row, rows, s->d, base, qs, j->ldd);
		copy_padded(q + t0 * s->q_row, s->q_row, rows, s->d, 1, qr, j->ldd);
		copy_padded(dy + t0 * s->o_row, s->o_row, rows, s->d, 1, d, j->ldd);
		times_packed(qs, j->ldd, rows, s->d, kt, s->tk, sc, j->lds);
		times_packed(d, j->ldd, rows, s->d, vt, s->tk, g, j->lds);
		for (long r = 0; r < rows; r++) softmax_grad_row(sc + r * j->lds, g + r * j->lds, s->tk, s->scale);
		times_packed(g, j->lds, rows, s->tk, kr, s->d, out, j->ldd);
		for (long r = 0; r < rows; r++)
			for (long c = 0; c < s->d; c += VL) store_n(dq + (t0 + r) * s->q_row + c, load(out + r * j->ldd + c), s->d - c);
		outer_product(g, j->lds, s->tk, qr, j->ldd, s->d, rows, sums_k, j->ldd, t0 > 0);
		outer_product(sc, j->lds, s->tk, d, j->ldd, s->d, rows, sums_v, j->ldd, t0 > 0);
	}
	for (long t = 0; t < s->tk; t++)
		for (long c = 0; c < s->d; c += VL) {
			store_n(dk + t * s->k_row + c, load(sums_k + t * j->ldd + c), s->d - c);
			store_n(dv + t * s->v_row + c, load(sums_v + t * j->ldd + c), s->d - c);
		}
}

static void attention_grad_task(void *arg, int tid, int threads) {
	attention_grad_job *j = arg;
	(void)threads;
	for (long i; (i = take(&j->next)) < j->heads;) attention_grad_head(j, i, (float *)(j->scratch + tid * j->thread_size));
}

static int attention_grad(ldm_pool *pool, const ldm_attention_shape *s, const float *q, const float *k, const float *v, const float *dy, float *dq,
	float *dk, float *dv) {
	attention_grad_job j = {.pool = pool, .s = s, .q = q, .k = k, .v = v, .dy = dy, .dq = dq, .dk = dk, .dv = dv, .heads = s->n * s->heads};
	j.rows = min_long(s->tq, 8 * MR);
	j.lds = (panel_count(s->tk) * NR / 16 | 1) * 16 + 16; // odd lines
	j.ldd = panel_count(s->d) * NR + 16;
	j.keys = panel_count(s->tk) * NR * s->d;
	j.values = panel_count(s->d) * NR * s->tk;
	j.thread_size = line_up((2 * j.keys + j.values + 2 * s->tk * j.ldd + j.rows * (2 * j.lds + 4 * j.ldd) + VL) * 4);
	j.scratch = pool_scratch(pool, pool_threads(pool) * j.thread_size);
	if (!j.scratch) return -1;
	pool_run(pool, 5 * j.heads * s->tq * s->tk * s->d, attention_grad_task, &j);
	return 0;
}
