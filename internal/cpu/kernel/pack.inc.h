// Packing of weights into panels.

typedef struct {
	long k, o, rows, first, taps, c; // rows first.. of the matrix are in src, each [c][taps]
	long out;                        // with GEGLU: columns of the result, else 0
	int bf;
	const float *src;
	float *dst;
	ldm_counter next;
} pack_job;

// One row into column col of the matrix. k runs tap by tap in the panel, channel by channel in the source.
static void pack_task(void *arg, int tid, int threads) {
	pack_job *j = arg;
	(void)tid, (void)threads;
	enum { run = 64 }; // channels at a time, so that all rows of a panel share cache lines of the destination
	long unit = j->bf ? 2 : 1, panel = div_up(j->k, unit) * NR, panels = panel_count(j->o);
	for (long p; (p = take(&j->next)) < panels;) {
		long row_of[NR];
		int nv = panel_vectors(j->o, p), any = 0, wide = nv * VL;
		for (int l = 0; l < wide; l++) {
			long row = p * NR + l;
			if (j->out) {
				row = p * VL + l % VL;
				row = row < j->out ? row + l / VL * j->out : -1;
			}
			row -= j->first;
			row_of[l] = row >= 0 && row < j->rows ? row : -1;
			any |= row_of[l] >= 0;
		}
		if (!any) continue;
		float *d = j->dst + p * panel;
		if (!j->bf && j->taps == 1 && row_of[0] >= 0 && row_of[wide - 1] >= 0) { // whole matrices, in halves for GEGLU
			for (long c0 = 0; c0 < j->c; c0 += run)
				for (int v = 0; v < wide; v += VL)
					transpose_block(j->src + row_of[v] * j->k + c0, j->k, VL, min_long(run, j->c - c0), d + c0 * wide + v, wide);
			continue;
		}
		for (long c0 = 0; c0 < j->c; c0 += run)
			for (long t = 0; t < j->taps; t++)
				for (int l = 0; l < wide; l++) {
					if (row_of[l] < 0) continue;
					const float *s = j->src + row_of[l] * j->k + t;
					long c1 = min_long(j->c, c0 + run);
#if BF16
					if (j->bf) {
						uint16_t *h = (uint16_t *)d;
						for (long c = c0; c < c1; c++) {
							long k = t * j->c + c;
							h[(k / 2 * wide + l) * 2 + k % 2] = round_bf16_1(s[c * j->taps]);
						}
						continue;
					}
#endif
					for (long c = c0; c < c1; c++) d[(t * j->c + c) * wide + l] = s[c * j->taps];
				}
	}
}

static void linear_pack(ldm_pool *pool, long in, long out, int geglu, int bf, const float *part, long first, long rows, float *dst) {
	pack_job j = {.k = in, .o = geglu ? geglu_columns(out) : out, .rows = rows, .first = first, .taps = 1, .c = in, .out = geglu ? out : 0,
		.bf = bf, .src = part, .dst = dst};
	pool_run(pool, j.rows * j.k * 32, pack_task, &j);
}

static void direct_pack(ldm_pool *pool, const ldm_conv_shape *s, int bf, const float *oihw, float *dst) {
	long taps = (long)s->kh * s->kw;
	pack_job j = {.k = taps * s->c, .o = s->o, .rows = s->o, .taps = taps, .c = s->c, .bf = bf, .src = oihw, .dst = dst};
	pool_run(pool, j.rows * j.k * 32, pack_task, &j);
}
