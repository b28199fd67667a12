// Attention in one pass over blocks of keys with a running maximum and sum (Milakov and Gimelshein 2018, Dao et al. 2022).
//
// Keys are packed like the weights of a layer with D inputs and one column a key, values like those of a layer with one input a
// key and D columns. A task is a block of queries of one head; its scores, sums and results stay in the thread's scratch memory.

enum { key_block = 256 };

typedef struct {
	ldm_pool *pool;
	const ldm_attention_shape *s;
	const float *q, *k, *v;
	float *o;
	int bf;
	long heads, kp_head, vp_head, kp_panels, vp_panels, query_blocks, query_block; // sizes in floats
	long d_units, k_groups;
	float *kp, *vp;
	char *scratch;
	long thread_size, scores_size, lds, ldq, ldo, ldp;
	ldm_counter next[2];
} attention_job;

// Keys t0..t1, whole panels: kp[panel][d][NR].
static void pack_keys(const attention_job *j, long head, long p) {
	const ldm_attention_shape *s = j->s;
	const float *k = j->k + head / s->heads * s->k_sample + head % s->heads * s->k_head + p * NR * s->k_row;
	long n = min_long(NR, s->tk - p * NR), wide = panel_vectors(s->tk, p) * VL;
	float *d = j->kp + head * j->kp_head + p * j->d_units * NR;
#if BF16
	if (j->bf) {
		enum { run = 32 };
		uint16_t *h = (uint16_t *)d;
		for (long c0 = 0; c0 < 2 * j->d_units; c0 += run)
			for (long l = 0; l < wide; l++)
				for (long c = c0; c < min_long(2 * j->d_units, c0 + run); c++)
					h[(c / 2 * wide + l) * 2 + c % 2] = l < n && c < s->d ? round_bf16_1(k[l * s->k_row + c]) : 0;
		return;
	}
#endif
	n = min_long(n, wide);
	transpose_block(k, s->k_row, n, s->d, d, wide);
	for (long c = 0; c < s->d && n < wide; c++)
		for (long l = n; l < wide; l++) d[c * wide + l] = 0;
}

// Values of keys t0..t1 for one panel of D: vp[panel][key][NR].
static void pack_values(const attention_job *j, long head, long p, long t0, long t1) {
	const ldm_attention_shape *s = j->s;
	const float *v = j->v + head / s->heads * s->v_sample + head % s->heads * s->v_head + p * NR;
	int nv = panel_vectors(s->d, p);
	long n = s->d - p * NR, wide = nv * VL;
	float *d = j->vp + head * j->vp_head + p * div_up(s->tk, j->bf ? 2 : 1) * NR;
#if BF16
	if (j->bf) {
		for (long t = t0; t < t1; t += 2)
			for (int l = 0; l < nv; l++) {
				vf lo = load_n(v + t * s->v_row + l * VL, n - l * VL), hi = {0};
				if (t + 1 < s->tk) hi = load_n(v + (t + 1) * s->v_row + l * VL, n - l * VL);
				*(vi_mem *)(d + t / 2 * wide + l * VL) = pair_bf16(lo, hi);
			}
		return;
	}
#endif
	for (long t = t0; t < t1; t++)
		for (int l = 0; l < nv; l++) store(d + t * wide + l * VL, load_n(v + t * s->v_row + l * VL, n - l * VL));
}

// s[0..rows][0..panels] = q * kp with sums cut into stretches.
static void scores(const attention_job *j, const float *q, long rows, const float *kp, long p0, long p1, float *s) {
	long n = stretch_count(j->d_units);
	for (long i = 0; i < n; i++) {
		long k0 = stretch_start(j->d_units, i, n), k1 = stretch_start(j->d_units, i + 1, n), row_tiles = div_up(rows, MR);
		for (long p = p0; p < p1; p++) {
			int nv = panel_vectors(j->s->tk, p);
			for (long r = 0; r < row_tiles; r++) {
				long r0 = rows * r / row_tiles, r1 = rows * (r + 1) / row_tiles;
				tiles[r1 - r0][j->bf][nv - 1](q + r0 * j->ldq + k0, j->ldq, kp + p * j->d_units * NR + k0 * nv * VL, k1 - k0,
					s + r0 * j->lds + (p - p0) * NR, j->lds, i > 0);
			}
		}
	}
}

// Replaces a row of n scores by exponentials relative to the running maximum, rescaling what was summed before.
static INLINE void softmax_row(const attention_job *j, float *s, long n, float *top, float *sum, float *o, float *pairs) {
	vf hi = splat(*top);
	long i = 0;
	for (long pad = n; pad % VL; pad++) s[pad] = -3.0e38f;
	for (; i < n; i += VL) hi = vmax(hi, load(s + i));
	float m = max_lanes(hi);
	if (m > *top) {
		vf f = exp2_v(splat(*top - m));
		*sum *= f[0];
		for (long d = 0; d < j->s->d; d += VL) store(o + d, load(o + d) * f);
		*top = m;
	}
	vf acc = {0};
	for (i = 0; i < n; i += VL) {
		vf e = exp2_v(load(s + i) - m);
		if (i + VL > n)
			for (long l = n - i; l < VL; l++) ((float *)&e)[l] = 0;
		acc += e;
		store(s + i, e);
	}
	*sum += sum_lanes(acc);
#if BF16
	if (j->bf) convert_rows(s, 0, 1, n, pairs, 0);
#endif
	(void)pairs;
}

static void attend(const attention_job *j, long head, long t0, long rows, float *scratch) {
	const ldm_attention_shape *s = j->s;
	float *sc = scratch, *q = sc + j->scores_size, *o = q + rows * j->ldq, *top = o + rows * j->ldo, *sum = top + rows, *pr = sum + rows;
	const float *src = j->q + head / s->heads * s->q_sample + head % s->heads * s->q_head + t0 * s->q_row;
	float *dst = j->o + head / s->heads * s->o_sample + head % s->heads * s->o_head + t0 * s->o_row;
	float scale = s->scale * 1.44269504088896341f; // exponentials are powers of two
	for (long r = 0; r < rows; r++) {
		float *d = j->bf ? sc : q + r * j->ldq;
		for (long c = 0; c < s->d; c += VL) store(d + c, scale * load_n(src + r * s->q_row + c, s->d - c));
#if BF16
		if (j->bf) convert_rows(d, 0, 1, s->d, q + r * j->ldq, 0);
#endif
		memset(o + r * j->ldo, 0, j->ldo * sizeof(float));
		top[r] = -3.0e38f;
		sum[r] = 0;
	}
	const float *kp = j->kp + head * j->kp_head, *vp = j->vp + head * j->vp_head;
	long unit = j->bf ? 2 : 1, row_tiles = div_up(rows, MR), v_panel = div_up(s->tk, unit) * NR;
	for (long k0 = 0; k0 < s->tk; k0 += key_block) {
		long n = min_long(key_block, s->tk - k0);
		scores(j, q, rows, kp, k0 / NR, div_up(k0 + n, NR), sc);
		for (long r = 0; r < rows; r++) softmax_row(j, sc + r * j->lds, n, top + r, sum + r, o + r * j->ldo, pr + r * j->ldp);
		const float *a = j->bf ? pr : sc;
		long lda = j->bf ? j->ldp : j->lds;
		for (long p = 0; p < j->vp_panels; p++) {
			int nv = panel_vectors(s->d, p);
			for (long i = 0; i < row_tiles; i++) {
				long r0 = rows * i / row_tiles, r1 = rows * (i + 1) / row_tiles;
				tiles[r1 - r0][j->bf][nv - 1](a + r0 * lda, lda, vp + p * v_panel + k0 / unit * nv * VL, div_up(n, unit), o + r0 * j->ldo + p * NR,
					j->ldo, 1);
			}
		}
	}
	for (long r = 0; r < rows; r++) {
		float f = 1 / sum[r];
		for (long c = 0; c < s->d; c += VL) store_n(dst + r * s->o_row + c, load(o + r * j->ldo + c) * f, s->d - c);
	}
}

static void attention_task(void *arg, int tid, int threads) {
	attention_job *j = arg;
	(void)threads;
	long i, per_head = j->kp_panels + j->vp_panels * j->k_groups;
	while ((i = take(&j->next[0])) < j->heads * per_head) {
		long head = i / per_head, p = i % per_head;
		if (p < j->kp_panels) {
			pack_keys(j, head, p);
			continue;
		}
		p -= j->kp_panels;
		long t0 = p % j->k_groups * key_block;
		pack_values(j, head, p / j->k_groups, t0, min_long(j->s->tk, t0 + key_block));
	}
	pool_barrier(j->pool);
	float *scratch = (float *)(j->scratch + tid * j->thread_size);
	while ((i = take(&j->next[1])) < j->heads * j->query_blocks) {
		long b = i % j->query_blocks, t0 = j->s->tq * b / j->query_blocks, t1 = j->s->tq * (b + 1) / j->query_blocks;
		attend(j, i / j->query_blocks, t0, t1 - t0, scratch);
	}
}

static int attention(ldm_pool *pool, const ldm_attention_shape *s, int bf, const float *q, const float *k, const float *v, float *o) {
	int threads = pool_threads(pool);
	long unit = bf ? 2 : 1, pad = LINE / 4;
	attention_job j = {.pool = pool, .s = s, .q = q, .k = k, .v = v, .o = o, .bf = bf, .heads = s->n * s->heads};
	j.d_units = div_up(s->d, unit);
	j.kp_panels = panel_count(s->tk);
	j.vp_panels = panel_count(s->d);
	j.k_groups = div_up(s->tk, key_block);
	j.kp_head = j.kp_panels * j.d_units * NR;
	j.vp_head = j.vp_panels * div_up(s->tk, unit) * NR;
	j.query_blocks = div_up(s->tq, 8 * MR);
	while (threads > 1 && j.heads * j.query_blocks < 3 * threads && s->tq / (j.query_blocks + 1) >= MR) j.query_blocks++;
	j.query_block = div_up(s->tq, j.query_blocks);
	j.lds = key_block + pad;
	j.ldq = j.d_units + pad;
	j.ldo = j.vp_panels * NR + pad;
	j.ldp = key_block / 2 + pad;
	// Scores hold a row of D floats while queries are converted.
	j.scores_size = max_long(j.query_block * j.lds, s->d + VL);
	j.thread_size = line_up((j.scores_size + j.query_block * (j.ldq + j.ldo + j.ldp + 2)) * 4 + VL * 4);
	long k_size = line_up(j.heads * j.kp_head * 4), v_size = line_up(j.heads * j.vp_head * 4);
	char *scratch = pool_scratch(pool, k_size + v_size + threads * j.thread_size);
	if (!scratch) return -1;
	if (pool_reserving(pool)) return 0;
	j.kp = (float *)scratch;
	j.vp = (float *)(scratch + k_size);
	j.scratch = scratch + k_size + v_size;
	pool_run(pool, 2 * j.heads * s->tq * s->tk * s->d, attention_task, &j);
	return 0;
}
