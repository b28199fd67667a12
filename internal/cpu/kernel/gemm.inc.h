// Matrix products: the inner kernels, and the driver of linear layers and direct convolutions.
//
// Weights are packed in panels of NR columns, [panel][k][NR]; the last panel is VL wide when that is enough, and filled up with
// zeros. With GEGLU a panel holds VL values and their VL gates. bf16 panels hold pairs of neighbouring k in a 32-bit lane.
//
// Sums over k are cut into stretches of equal length, at most stretch_max, each summed in registers by itself and then added to
// the total: a panel's stretch stays in the first-level cache, and rounding errors grow with the stretch, not with k. The cuts
// depend on k alone, so every element sees the same operations wherever it is computed.

enum { stretch_max = 320 };

static inline long stretch_count(long k) { return div_up(k, stretch_max); }
static inline long stretch_start(long k, long i, long n) { return k * i / n; }

// c[0..mr][0..nv*VL] = or += a[0..mr][0..k] * b[0..k][0..nv*VL]
static INLINE void tile_f32(const int mr, const int nv, const float *a, long lda, const float *b, long k, float *c, long ldc, int add) {
	vf acc[MR][2];
	UNROLL for (int i = 0; i < mr; i++) UNROLL for (int j = 0; j < nv; j++) acc[i][j] = (vf){0};
	for (; k > 0; k--) {
		vf bv[2];
		UNROLL for (int j = 0; j < nv; j++) bv[j] = load(b + j * VL);
		b += nv * VL;
		UNROLL for (int i = 0; i < mr; i++) {
			float s = a[i * lda];
			UNROLL for (int j = 0; j < nv; j++) acc[i][j] += s * bv[j];
		}
		a++;
	}
	UNROLL for (int i = 0; i < mr; i++) UNROLL for (int j = 0; j < nv; j++) {
		vf v = acc[i][j];
		if (add) v += load(c + i * ldc + j * VL);
		store(c + i * ldc + j * VL, v);
	}
}

#if BF16
// The same with pairs: a, b and k count pairs.
static INLINE void tile_bf16(const int mr, const int nv, const float *a, long lda, const float *b, long k, float *c, long ldc, int add) {
	vf acc[MR][2];
	UNROLL for (int i = 0; i < mr; i++) UNROLL for (int j = 0; j < nv; j++) acc[i][j] = (vf){0};
	for (; k > 0; k--) {
		vi bv[2];
		UNROLL for (int j = 0; j < nv; j++) bv[j] = *(const vi_mem *)(b + j * VL);
		b += nv * VL;
		UNROLL for (int i = 0; i < mr; i++) {
			int32_t s;
			memcpy(&s, a + i * lda, 4);
			vi sv = s - (vi){0};
			UNROLL for (int j = 0; j < nv; j++) acc[i][j] = dot_bf16(acc[i][j], sv, bv[j]);
		}
		a++;
	}
	UNROLL for (int i = 0; i < mr; i++) UNROLL for (int j = 0; j < nv; j++) {
		vf v = acc[i][j];
		if (add) v += load(c + i * ldc + j * VL);
		store(c + i * ldc + j * VL, v);
	}
}
#endif

typedef void (*tile_fn)(const float *a, long lda, const float *b, long k, float *c, long ldc, int add);

#define TILE_ARGS const float *a, long lda, const float *b, long k, float *c, long ldc, int add
#if BF16
#define TILE(M)                                                                                   \
	static NOINLINE void f32_##M##_1(TILE_ARGS) { tile_f32(M, 1, a, lda, b, k, c, ldc, add); }   \
	static NOINLINE void f32_##M##_2(TILE_ARGS) { tile_f32(M, 2, a, lda, b, k, c, ldc, add); }   \
	static NOINLINE void bf16_##M##_1(TILE_ARGS) { tile_bf16(M, 1, a, lda, b, k, c, ldc, add); } \
	static NOINLINE void bf16_##M##_2(TILE_ARGS) { tile_bf16(M, 2, a, lda, b, k, c, ldc, add); }
#define ENTRY(M) {{f32_##M##_1, f32_##M##_2}, {bf16_##M##_1, bf16_##M##_2}},
#else
#define TILE(M)                                                                                 \
	static NOINLINE void f32_##M##_1(TILE_ARGS) { tile_f32(M, 1, a, lda, b, k, c, ldc, add); } \
	static NOINLINE void f32_##M##_2(TILE_ARGS) { tile_f32(M, 2, a, lda, b, k, c, ldc, add); }
#define ENTRY(M) {{f32_##M##_1, f32_##M##_2}, {0, 0}},
#endif
#if MR == 6
#define EACH_ROW_COUNT(X) X(1) X(2) X(3) X(4) X(5) X(6)
#elif MR == 14
#define EACH_ROW_COUNT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#endif
EACH_ROW_COUNT(TILE)
static const tile_fn tiles[MR + 1][2][2] = {{{0}}, EACH_ROW_COUNT(ENTRY)}; // [rows][bf16][vectors - 1]

// Panels of a matrix with o columns.
static inline long panel_count(long o) { return div_up(o, NR); }
static inline int panel_vectors(long o, long p) { return o - p * NR <= VL ? 1 : 2; }

// Asks for part i of n of a stretch of weights that comes next, so that it is in the second-level cache when its turn comes. Beyond
// the end of the weights this does nothing.
static INLINE void prefetch_part(const float *w, long floats, long i, long n) {
	for (const float *p = w + floats * i / n, *end = w + floats * (i + 1) / n; p < end; p += LINE / 4) __builtin_prefetch(p, 0, 2);
}

// What happens to a sum on its way to memory.
typedef struct {
	const float *bias, *sample_bias, *residual;
	long sample_stride, rows_per_sample;
	int act;
} epilogue;

static INLINE const float *sample_row(const epilogue *e, long row) {
	return e->sample_bias ? e->sample_bias + row / e->rows_per_sample * e->sample_stride : NULL;
}

static INLINE vf finish(const epilogue *e, vf v, const float *sample, long col, long n, const float *residual) {
	if (e->bias) v += load_n(e->bias + col, n);
	if (sample) v += load_n(sample + col, n);
	if (e->act) v = act_v(e->act, v);
	if (residual) v += load_n(residual, n);
	return v;
}

typedef struct {
	long rows, k, out, o, panels; // o counts columns of the product: 2 * out with GEGLU, rounded up to whole panels
	const float *x;
	long ldx;
	const ldm_conv_shape *image; // rows are windows of an image
	const ldm_spread *spread;    // and go to pixels that are apart
	const float *w;
	int bf, geglu;
	float *y;
	long ldy;
	epilogue e;
	long units, row_blocks, panel_groups, t_size, a_size, h_size; // units of k: floats, or pairs of bf16
	char *scratch;
	ldm_counter next;
} gemm_job;

// Whole vectors without activation or with a cheap one, the usual cases.
static INLINE void finish_rows(const gemm_job *j, const float *t, long ldt, long row, long rows, long col, const int nv, const int act) {
	vf bias[2] = {{0}, {0}};
	if (j->e.bias) UNROLL for (int v = 0; v < nv; v++) bias[v] = load(j->e.bias + col + v * VL);
	float *y = j->y + row * j->ldy + col;
	const float *residual = j->e.residual ? j->e.residual + row * j->ldy + col : NULL;
	for (long i = 0; i < rows; i++, t += ldt, y += j->ldy) {
		vf r[2];
		UNROLL for (int v = 0; v < nv; v++) r[v] = load(t + v * VL) + bias[v];
		if (j->e.sample_bias) {
			const float *s = sample_row(&j->e, row + i) + col;
			UNROLL for (int v = 0; v < nv; v++) r[v] += load(s + v * VL);
		}
		UNROLL for (int v = 0; v < nv; v++) r[v] = act_v(act, r[v]);
		if (residual) {
			UNROLL for (int v = 0; v < nv; v++) r[v] += load(residual + v * VL);
			residual += j->ldy;
		}
		UNROLL for (int v = 0; v < nv; v++) store(y + v * VL, r[v]);
	}
}

static void finish_geglu(const gemm_job *j, const float *t, long ldt, long row, long rows, long p) {
	long col = p * VL, n = j->out - col;
	vf bv = {0}, bg = {0};
	if (j->e.bias) {
		bv = load_n(j->e.bias + col, n);
		bg = load_n(j->e.bias + j->out + col, n);
	}
	for (long i = 0; i < rows; i++, t += ldt) {
		long at = (row + i) * j->ldy + col;
		vf r = (load(t) + bv) * gelu_v(load(t + VL) + bg);
		if (j->e.residual) r += load_n(j->e.residual + at, n);
		store_n(j->y + at, r, n);
	}
}

// The row of y that a row of the product goes to.
static INLINE long target_row(const gemm_job *j, long row) {
	const ldm_spread *t = j->spread;
	if (!t) return row;
	long line = row / j->image->out_w, n = line / j->image->out_h;
	return (n * t->h + line % j->image->out_h * t->step + t->top) * t->w + row % j->image->out_w * t->step + t->left;
}

static void finish_tile(const gemm_job *j, const float *t, long ldt, long row, long rows, long p) {
	if (j->geglu) {
		finish_geglu(j, t, ldt, row, rows, p);
		return;
	}
	long col = p * NR, n = j->out - col;
	if (n >= NR && !j->spread && (j->e.act == act_none || j->e.act == act_relu)) {
		if (j->e.act) finish_rows(j, t, ldt, row, rows, col, 2, act_relu);
		else finish_rows(j, t, ldt, row, rows, col, 2, act_none);
		return;
	}
	for (long i = 0; i < rows; i++, t += ldt) {
		const float *sample = sample_row(&j->e, row + i);
		for (long v = 0; v < min_long(n, NR); v += VL) {
			long at = target_row(j, row + i) * j->ldy + col + v;
			store_n(j->y + at, finish(&j->e, load(t + v), sample, col + v, n - v, j->e.residual ? j->e.residual + at : NULL), n - v);
		}
	}
}

static INLINE void copy_floats(float *d, const float *s, long n) {
	if (n >= 64) memcpy(d, s, n * sizeof(float));
	else for (long i = 0; i < n; i += VL) store_n(d + i, load_n(s + i, n - i), n - i);
}

// Columns k0..k1 of the windows of output pixels row..row+rows, in the order (kernel row, kernel column, channel).
static void gather_windows(const gemm_job *j, long row, long rows, long k0, long k1, float *a, long lda) {
	const ldm_conv_shape *s = j->image;
	int up = s->upsample != 0;
	long in_w = s->w >> up, in_h = s->h >> up, c = s->c;
	long line = row / s->out_w, ox = row % s->out_w, oy = line % s->out_h;
	const float *img = j->x + line / s->out_h * in_h * in_w * c;
	for (long r = 0; r < rows; r++, a += lda) {
		long y0 = oy * s->stride - s->pad_top, x0 = ox * s->stride - s->pad_left;
		// Neighbouring taps of a row that lie inside are one run of memory.
		int inside = !up && x0 >= 0 && x0 + s->kw <= s->w;
		long ky = k0 / c / s->kw, kx = k0 / c % s->kw, ch = k0 % c, m;
		for (float *d = a, *end = a + (k1 - k0); d < end; d += m, ch = 0) {
			long y = y0 + ky, x = x0 + kx;
			m = min_long(end - d, (inside ? (s->kw - kx) * c : c) - ch);
			if (y >= 0 && y < s->h && x >= 0 && x < s->w) copy_floats(d, img + ((y >> up) * in_w + (x >> up)) * c + ch, m);
			else memset(d, 0, m * sizeof(float));
			if (inside || ++kx == s->kw) kx = 0, ky++;
		}
		if (++ox == s->out_w) {
			ox = 0;
			if (++oy == s->out_h) oy = 0, img += in_h * in_w * c;
		}
	}
}

#if BF16
static void convert_rows(const float *x, long ldx, long rows, long k, float *a, long lda) {
	for (long r = 0; r < rows; r++, x += ldx, a += lda) {
		uint16_t *d = (uint16_t *)a;
		long i = 0;
		for (; i + VL <= k; i += VL) {
			vu u = (vu)round_bf16(load(x + i)) >> 16;
			UNROLL for (int l = 0; l < VL; l++) d[i + l] = u[l];
		}
		for (; i < k; i++) d[i] = round_bf16_1(x[i]);
		if (k & 1) d[k] = 0;
	}
}
#endif

// One stretch of a block of rows times panel p, into the sums at c.
static INLINE void block_product(const gemm_job *j, const float *a, long lda, long row, long rows, long p, long k0, long k1, float *c,
	long ldc, int add, int last) {
	int nv = panel_vectors(j->o, p);
	const float *w = j->w + p * j->units * NR + k0 * nv * VL;
	for (long i = 0, n = div_up(rows, MR); i < n; i++) {
		long i0 = rows * i / n, m = rows * (i + 1) / n - i0;
		prefetch_part(w + (k1 - k0) * nv * VL, (k1 - k0) * nv * VL, i, n);
		tiles[m][j->bf][nv - 1](a + i0 * lda, lda, w, k1 - k0, c + i0 * ldc, ldc, add);
		if (last) finish_tile(j, c + i0 * ldc, ldc, row + i0, m, p);
	}
}

static void gemm_task(void *arg, int tid, int threads) {
	gemm_job *j = arg;
	(void)threads;
	float *t = (float *)(j->scratch + tid * (j->t_size + j->a_size + j->h_size));
	float *gathered = (float *)((char *)t + j->t_size), *half = (float *)((char *)gathered + j->a_size);
	long n = stretch_count(j->units), unit = j->bf ? 2 : 1, pad = LINE / 4;
	(void)half, (void)unit;
	for (long task; (task = take(&j->next)) < j->row_blocks * j->panel_groups;) {
		long g = task / j->row_blocks, b = task % j->row_blocks;
		long r0 = j->rows * b / j->row_blocks, rows = j->rows * (b + 1) / j->row_blocks - r0;
		long p0 = j->panels * g / j->panel_groups, p1 = j->panels * (g + 1) / j->panel_groups;
		if (!j->image) { // rows lie ready: one panel after the other
			const float *a = j->x + r0 * j->ldx;
			long lda = j->ldx;
#if BF16
			if (j->bf) {
				convert_rows(a, lda, rows, j->k, half, j->units + pad);
				a = half;
				lda = j->units + pad;
			}
#endif
			for (long p = p0; p < p1; p++)
				for (long s = 0; s < n; s++) {
					long k0 = stretch_start(j->units, s, n), k1 = stretch_start(j->units, s + 1, n);
					block_product(j, a + k0, lda, r0, rows, p, k0, k1, t, NR, s > 0, s == n - 1);
				}
			continue;
		}
		// Windows are gathered stretch by stretch.
		long ldt = (p1 - p0) * NR;
		for (long s = 0; s < n; s++) {
			long k0 = stretch_start(j->units, s, n), k1 = stretch_start(j->units, s + 1, n);
			long f0 = k0 * unit, f1 = min_long(k1 * unit, j->k), lda = f1 - f0 + pad; // in floats
			gather_windows(j, r0, rows, f0, f1, gathered, lda);
			const float *a = gathered;
#if BF16
			if (j->bf) {
				convert_rows(a, lda, rows, f1 - f0, half, k1 - k0 + pad);
				a = half;
				lda = k1 - k0 + pad;
			}
#endif
			for (long p = p0; p < p1; p++) block_product(j, a, lda, r0, rows, p, k0, k1, t + (p - p0) * NR, ldt, s > 0, s == n - 1);
		}
	}
}

// Cuts the product into tasks: blocks of rows that fit the second-level cache, groups of panels that do (or whose sums do, with
// gathered windows), and enough of them for all threads.
static int gemm_run(ldm_pool *pool, gemm_job *j) {
	enum { rows_max = 96, sums_max = 256 << 10, weights_max = 384 << 10 };
	int threads = pool_threads(pool);
	j->units = j->bf ? div_up(j->k, 2) : j->k;
	j->panels = panel_count(j->o);
	j->row_blocks = div_up(j->rows, rows_max);
	long group = j->image ? sums_max / (rows_max * NR * 4) : weights_max / (j->units * NR * 4);
	j->panel_groups = min_long(j->panels, div_up(j->panels, max_long(1, group)));
	if (threads > 1) {
		while (j->row_blocks * j->panel_groups < 4 * threads && j->panel_groups < j->panels) j->panel_groups++;
		while (j->row_blocks * j->panel_groups < 4 * threads && j->rows / (j->row_blocks + 1) >= 2 * MR) j->row_blocks++;
	}
	long rows = div_up(j->rows, j->row_blocks), width = j->image ? div_up(j->panels, j->panel_groups) * NR : NR, pad = LINE / 4;
	j->t_size = line_up(rows * width * 4);
	j->a_size = j->image ? line_up(rows * (stretch_max * (j->bf ? 2 : 1) + pad) * 4) : 0;
	j->h_size = j->bf ? line_up(rows * ((j->image ? stretch_max : j->units) + pad) * 4) : 0;
	j->scratch = pool_scratch(pool, threads * (j->t_size + j->a_size + j->h_size));
	if (!j->scratch) return -1;
	if (!pool_reserving(pool)) pool_run(pool, j->rows * j->k * j->o, gemm_task, j);
	return 0;
}

// Linear layers.

static long geglu_columns(long out) { return div_up(out, VL) * NR; }

static long packed_size(long k, long o, int bf) { return panel_count(o) * NR * (bf ? div_up(k, 2) : k); }

static long linear_size(long in, long out, int geglu, int bf) { return packed_size(in, geglu ? geglu_columns(out) : out, bf); }

static int linear(ldm_pool *pool, const ldm_linear_shape *s, int geglu, int bf, const float *w, const float *x, float *y, const float *bias,
	const float *sample_bias, long sample_stride, const float *residual, int act) {
	gemm_job j = {.rows = s->rows, .k = s->in, .out = s->out, .o = geglu ? geglu_columns(s->out) : s->out, .x = x, .ldx = s->ldx, .w = w,
		.bf = bf, .geglu = geglu, .y = y, .ldy = s->ldy, .e = {bias, sample_bias, residual, sample_stride, s->rows_per_sample, act}};
	return gemm_run(pool, &j);
}

// Whether the windows are the pixels themselves.
static int whole_pixels(const ldm_conv_shape *s) {
	return s->kh == 1 && s->kw == 1 && s->stride == 1 && !s->pad_top && !s->pad_left && !s->upsample && s->out_h == s->h && s->out_w == s->w;
}

static int conv_direct(ldm_pool *pool, const ldm_conv_shape *s, int bf, const float *w, const float *x, float *y, const float *bias,
	const float *sample_bias, long sample_stride, const float *residual, int act) {
	long pixels = (long)s->out_h * s->out_w;
	gemm_job j = {.rows = s->n * pixels, .k = (long)s->kh * s->kw * s->c, .out = s->o, .o = s->o, .x = x, .ldx = s->c, .w = w, .bf = bf, .y = y,
		.ldy = s->ldy, .e = {bias, sample_bias, residual, sample_stride, pixels, act}};
	if (!whole_pixels(s)) j.image = s;
	return gemm_run(pool, &j);
}

static int conv_spread(ldm_pool *pool, const ldm_conv_shape *s, const ldm_spread *t, const float *w, const float *x, float *y) {
	gemm_job j = {.rows = (long)s->n * s->out_h * s->out_w, .k = (long)s->kh * s->kw * s->c, .out = s->o, .o = s->o, .x = x, .image = s, .spread = t,
		.w = w, .y = y, .ldy = s->o};
	return gemm_run(pool, &j);
}
