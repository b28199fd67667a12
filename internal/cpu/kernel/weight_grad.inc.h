// Gradients of weights: sums over all rows of a batch of outer products of dy and x.
//
// The sum over rows is cut into stretches, each summed in registers and then added to sums in memory, and those into slices (or
// rounds, in the Winograd domain) with sums of their own, which are added up at the end. All cuts depend on the shape alone.

enum { outer_stretch = 128 };

// c[0..mr][0..nv*VL] = or += the sum over k of a[k][0..mr] * b[k][0..nv*VL]
static INLINE void tile_outer(const int mr, const int nv, const float *a, long lda, const float *b, long ldb, long k, float *c, long ldc, int add) {
	vf acc[MR][2];
	UNROLL for (int i = 0; i < mr; i++) UNROLL for (int j = 0; j < nv; j++) acc[i][j] = (vf){0};
	for (; k > 0; k--, a += lda, b += ldb) {
		vf bv[2];
		UNROLL for (int j = 0; j < nv; j++) bv[j] = load(b + j * VL);
		UNROLL for (int i = 0; i < mr; i++) {
			float s = a[i];
			UNROLL for (int j = 0; j < nv; j++) acc[i][j] += s * bv[j];
		}
	}
	UNROLL for (int i = 0; i < mr; i++) UNROLL for (int j = 0; j < nv; j++) {
		vf v = acc[i][j];
		if (add) v += load(c + i * ldc + j * VL);
		store(c + i * ldc + j * VL, v);
	}
}

typedef void (*outer_fn)(const float *a, long lda, const float *b, long ldb, long k, float *c, long ldc, int add);

#define OUTER_ARGS const float *a, long lda, const float *b, long ldb, long k, float *c, long ldc, int add
#define OUTER(M)                                                                                    \
	static NOINLINE void outer_##M##_1(OUTER_ARGS) { tile_outer(M, 1, a, lda, b, ldb, k, c, ldc, add); } \
	static NOINLINE void outer_##M##_2(OUTER_ARGS) { tile_outer(M, 2, a, lda, b, ldb, k, c, ldc, add); }
#define OUTER_ENTRY(M) {outer_##M##_1, outer_##M##_2},
EACH_ROW_COUNT(OUTER)
static const outer_fn outers[MR + 1][2] = {{0}, EACH_ROW_COUNT(OUTER_ENTRY)}; // [rows of the tile][vectors - 1]

// c[0..m][0..n] += a^T b over k rows in stretches; the last panel is filled up to whole vectors. The first stretch overwrites c
// unless add is set.
static void outer_product(const float *a, long lda, long m, const float *b, long ldb, long n, long k, float *c, long ldc, int add) {
	long row_tiles = div_up(m, MR), panels = panel_count(n);
	for (long k0 = 0; k0 < k; k0 += outer_stretch) {
		long count = min_long(outer_stretch, k - k0);
		for (long p = 0; p < panels; p++) // a panel of b stays in the first-level cache
			for (long i = 0; i < row_tiles; i++) {
				long r0 = m * i / row_tiles, rows = m * (i + 1) / row_tiles - r0;
				outers[rows][panel_vectors(n, p) - 1](a + k0 * lda + r0, lda, b + k0 * ldb + p * NR, ldb, count, c + r0 * ldc + p * NR, ldc, add || k0);
			}
	}
}

// Rows that leave no more than a few lines of each set of the first-level cache to a column of tiles.
static inline long odd_lines(long floats) { return (div_up(floats, 16) | 1) * 16; }

// The direct product: rows of dy with rows of x, or with windows of images.

typedef struct {
	ldm_pool *pool;
	gemm_job windows; // of what gather_windows reads
	long rows, o, k, taps, c, ldx, ldy;
	const float *x, *dy;
	float *dw, *sums; // sums: [slice][o][ld]
	long slices, o_groups, k_groups, ld, lda, ldb, thread_size;
	char *scratch;
	ldm_counter next[2];
} outer_job;

// dw[o][c][tap] is the sum over slices of sums[o][tap][c].
static void outer_finish(const outer_job *j, long o) {
	float *d = j->dw + o * j->k;
	for (long t = 0; t < j->taps; t++)
		for (long c = 0; c < j->c; c += VL) {
			long n = j->c - c;
			const float *s = j->sums + o * j->ld + t * j->c + c;
			vf v = load_n(s, n);
			for (long i = 1; i < j->slices; i++) v += load_n(s + i * j->o * j->ld, n);
			if (j->taps == 1) store_n(d + c, v, n);
			else for (long l = 0; l < min_long(n, VL); l++) d[(c + l) * j->taps + t] = v[l];
		}
}

static void outer_task(void *arg, int tid, int threads) {
	outer_job *j = arg;
	(void)threads;
	float *a = (float *)(j->scratch + tid * j->thread_size), *b = a + outer_stretch * j->lda;
	long i;
	while ((i = take(&j->next[0])) < j->slices * j->o_groups * j->k_groups) {
		long slice = i / (j->o_groups * j->k_groups), og = i / j->k_groups % j->o_groups, kg = i % j->k_groups;
		long o0 = j->o * og / j->o_groups, o1 = j->o * (og + 1) / j->o_groups;
		long panels = panel_count(j->k), k0 = panels * kg / j->k_groups * NR, k1 = min_long(j->k, panels * (kg + 1) / j->k_groups * NR);
		long r0 = j->rows * slice / j->slices, r1 = j->rows * (slice + 1) / j->slices;
		float *sums = j->sums + (slice * j->o + o0) * j->ld + k0;
		for (long r = r0; r < r1; r += outer_stretch) {
			long n = min_long(outer_stretch, r1 - r);
			for (long l = 0; l < n; l++) copy_floats(a + l * j->lda, j->dy + (r + l) * j->ldy + o0, o1 - o0);
			if (j->windows.image) gather_windows(&j->windows, r, n, k0, k1, b, j->ldb);
			else for (long l = 0; l < n; l++) copy_floats(b + l * j->ldb, j->x + (r + l) * j->ldx + k0, k1 - k0);
			outer_product(a, j->lda, o1 - o0, b, j->ldb, k1 - k0, n, sums, j->ld, r > r0);
		}
	}
	pool_barrier(j->pool);
	while ((i = take(&j->next[1])) < j->o) outer_finish(j, i);
}

static int outer_run(ldm_pool *pool, outer_job *j) {
	enum { slice_rows = 1024, slices_max = 64, sums_max = 32 << 20, o_max = 192, k_max = 384 };
	int threads = pool_threads(pool);
	j->ld = div_up(j->k, NR) * NR;
	j->slices = max_long(1, min_long(min_long(slices_max, j->rows / slice_rows), sums_max / (j->o * j->ld * 4)));
	j->o_groups = div_up(j->o, o_max);
	j->k_groups = div_up(j->k, k_max);
	if (threads > 1) {
		long panels = panel_count(j->k);
		while (j->slices * j->o_groups * j->k_groups < 4 * threads && j->k_groups < panels) j->k_groups++;
		while (j->slices * j->o_groups * j->k_groups < 4 * threads && j->o / (j->o_groups + 1) >= 2 * MR) j->o_groups++;
	}
	j->lda = odd_lines(div_up(j->o, j->o_groups));
	j->ldb = odd_lines(div_up(panel_count(j->k), j->k_groups) * NR);
	j->thread_size = outer_stretch * (j->lda + j->ldb) * 4;
	size_t sums = line_up(j->slices * j->o * j->ld * 4);
	char *scratch = pool_scratch(pool, sums + threads * j->thread_size);
	if (!scratch) return -1;
	j->pool = pool;
	j->sums = (float *)scratch;
	j->scratch = scratch + sums;
	pool_run(pool, j->rows * j->o * j->k, outer_task, j);
	return 0;
}

static int linear_grad_weight(ldm_pool *pool, const ldm_linear_shape *s, const float *x, const float *dy, float *dw) {
	outer_job j = {.rows = s->rows, .o = s->out, .k = s->in, .taps = 1, .c = s->in, .x = x, .ldx = s->ldx, .dy = dy, .ldy = s->ldy, .dw = dw};
	return outer_run(pool, &j);
}

// 3x3 kernels in the Winograd domain: with the transforms of winograd.inc.h, y = A^T ((G w G^T) (B^T x B)) A, so that
// dw = G^T (sum over tiles of (A dy A^T) (B^T x B)) G. All threads transform a block of tiles, then multiply its frequencies.

static INLINE void transform_dy(const int m, const vf *y, vf *e) {
	const int pairs = m / 2;
	e[0] = y[0];
	e[m + 1] = y[m - 1];
	UNROLL for (int i = 0; i < pairs; i++) {
		vf even = y[0], odd = pairs_of[pairs][i] * y[1];
		UNROLL for (int k = 2; k < m; k += 2) {
			even += power(pairs_of[pairs][i], k) * y[k];
			odd += power(pairs_of[pairs][i], k + 1) * y[k + 1];
		}
		e[2 * i + 1] = even + odd;
		e[2 * i + 2] = even - odd;
	}
}

static INLINE void tile_dy_m(const int m, const float *const *in, long c1, float *v, long plane) {
	const int edge = m + 2;
	for (long c = 0; c < c1; c += VL) {
		vf t[6][4], d[4], e[6];
		long n = c1 - c;
		UNROLL for (int j = 0; j < m; j++) {
			UNROLL for (int i = 0; i < m; i++) d[i] = load_n(in[i * m + j] + c, n);
			transform_dy(m, d, e);
			UNROLL for (int i = 0; i < edge; i++) t[i][j] = e[i];
		}
		UNROLL for (int i = 0; i < edge; i++) {
			transform_dy(m, t[i], e);
			UNROLL for (int j = 0; j < edge; j++) store(v + (i * edge + j) * plane + c, e[j]);
		}
	}
}

static NOINLINE void tile_dy_4(const float *const *in, long c1, float *v, long plane) { tile_dy_m(4, in, c1, v, plane); }
static NOINLINE void tile_dy_2(const float *const *in, long c1, float *v, long plane) { tile_dy_m(2, in, c1, v, plane); }

typedef struct {
	winograd_job t; // what tile_in reads; its blocks are those here
	const float *dy;
	float *dw, *d, *v, *sums;                 // d and v: [frequency][tile][channel], sums: [frequency][o][c]
	long ldd, d_plane, ld, s_plane, parts, round; // round: blocks until the sums are added to dw
} winograd_grad_job;

static void tile_dy(const winograd_grad_job *j, long t, long l) {
	const ldm_conv_shape *s = j->t.s;
	const float *in[16];
	int m = j->t.kind->mh;
	long n = t / (j->t.tiles_x * j->t.tiles_y), rest = t % (j->t.tiles_x * j->t.tiles_y);
	long y0 = rest / j->t.tiles_x * m, x0 = rest % j->t.tiles_x * m;
	for (int i = 0; i < m; i++)
		for (int k = 0; k < m; k++)
			in[i * m + k] = y0 + i < s->h && x0 + k < s->w ? j->dy + ((n * s->h + y0 + i) * s->w + x0 + k) * s->o : j->t.zeros;
	(m == 4 ? tile_dy_4 : tile_dy_2)(in, s->o, j->d + l * j->ldd, j->d_plane);
}

// G^T s G for all input channels of output channel o.
static INLINE void tile_dw_m(const int m, const winograd_grad_job *j, float g[edge_max][3], long o, int add) {
	const int edge = m + 2;
	for (long c = 0; c < j->t.c; c += VL) {
		const float *s = j->sums + o * j->ld + c;
		float *d = j->dw + (o * j->t.c + c) * 9;
		vf t[3][6], r[9];
		UNROLL for (int k = 0; k < edge; k++) {
			vf v[6];
			UNROLL for (int i = 0; i < edge; i++) v[i] = load(s + (i * edge + k) * j->s_plane);
			UNROLL for (int u = 0; u < 3; u++) {
				t[u][k] = g[0][u] * v[0];
				UNROLL for (int i = 1; i < edge; i++) t[u][k] += g[i][u] * v[i];
			}
		}
		UNROLL for (int u = 0; u < 3; u++) UNROLL for (int w = 0; w < 3; w++) {
			r[3 * u + w] = g[0][w] * t[u][0];
			UNROLL for (int k = 1; k < edge; k++) r[3 * u + w] += g[k][w] * t[u][k];
		}
		for (long l = 0; l < min_long(j->t.c - c, VL); l++)
			UNROLL for (int k = 0; k < 9; k++) d[l * 9 + k] = add ? d[l * 9 + k] + r[k][l] : r[k][l];
	}
}

static NOINLINE void tile_dw_4(const winograd_grad_job *j, float g[edge_max][3], long o, int add) { tile_dw_m(4, j, g, o, add); }
static NOINLINE void tile_dw_2(const winograd_grad_job *j, float g[edge_max][3], long o, int add) { tile_dw_m(2, j, g, o, add); }

static void winograd_grad_task(void *arg, int tid, int threads) {
	winograd_grad_job *j = arg;
	winograd_job *w = &j->t;
	(void)threads;
	transform_g exact;
	float g[edge_max][3];
	point_weights(w->eh, 3, exact);
	for (int i = 0; i < w->eh; i++)
		for (int k = 0; k < 3; k++) g[i][k] = exact[i][k];
	for (long b = 0, first = 0; b < w->blocks; b++) {
		long t0 = w->tiles * b / w->blocks, t1 = w->tiles * (b + 1) / w->blocks, i;
		while ((i = take(&w->next[0])) < 2 * (t1 - t0)) {
			if (i % 2) tile_dy(j, t0 + i / 2, i / 2);
			else tile_in(w, t0 + i / 2, i / 2, 0, w->c, j->v);
		}
		pool_barrier(w->pool);
		if (!tid) w->next[0].next = 0;
		while ((i = take(&w->next[1])) < w->frequencies * j->parts) {
			long f = i / j->parts, o0 = w->o * (i % j->parts) / j->parts, o1 = w->o * (i % j->parts + 1) / j->parts;
			outer_product(j->d + f * j->d_plane + o0, j->ldd, o1 - o0, j->v + f * w->v_plane, w->ldv, w->c, t1 - t0,
				j->sums + f * j->s_plane + o0 * j->ld, j->ld, b > first);
		}
		pool_barrier(w->pool);
		if (!tid) w->next[1].next = 0;
		if (b + 1 < w->blocks && b + 1 - first < j->round) continue;
		while ((i = take(&w->next[2])) < w->o) (w->kind->mh == 4 ? tile_dw_4 : tile_dw_2)(j, g, i, first > 0);
		pool_barrier(w->pool);
		if (!tid) w->next[2].next = 0;
		first = b + 1;
	}
}

static int winograd_grad_weight(ldm_pool *pool, const ldm_conv_shape *s, int m, const float *x, const float *dy, float *dw) {
	enum { block_bytes = 8 << 20, round_tiles = 4096 };
	winograd_grad_job j = {.t = winograd_start(pool, s, m << 4 | m), .dy = dy, .dw = dw};
	winograd_job *w = &j.t;
	w->x = x;
	w->ldv = odd_lines(div_up(s->c, NR) * NR);
	j.ldd = odd_lines(s->o);
	j.ld = odd_lines(div_up(s->c, NR) * NR);
	long most = max_long(outer_stretch, block_bytes / (w->frequencies * (w->ldv + j.ldd) * 4) / outer_stretch * outer_stretch);
	w->blocks = div_up(w->tiles, most);
	w->block = div_up(w->tiles, w->blocks);
	j.round = max_long(1, round_tiles / w->block);
	w->v_plane = (w->ldv / 16 * w->block | 1) * 16;
	j.d_plane = (j.ldd / 16 * w->block | 1) * 16;
	j.s_plane = (j.ld / 16 * w->o | 1) * 16;
	j.parts = max_long(1, min_long(s->o / (2 * MR), 4));
	long zeros = line_up(max_long(s->c, s->o) * 4);
	char *scratch = pool_scratch(pool, zeros + w->frequencies * (w->v_plane + j.d_plane + j.s_plane) * 4);
	if (!scratch) return -1;
	memset(scratch, 0, zeros);
	w->zeros = (float *)scratch;
	j.v = (float *)(scratch + zeros);
	j.d = j.v + w->frequencies * w->v_plane;
	j.sums = j.d + w->frequencies * j.d_plane;
	pool_run(pool, w->tiles * w->frequencies * s->c * s->o, winograd_grad_task, &j);
	return 0;
}

// Counts multiplications for each weight, and the passes over the sums of frequencies as the multiplications that take as long.
static int grad_weight_algorithm(const ldm_conv_shape *s) {
	enum { pass = 30 };
	if (s->kh != 3 || s->kw != 3 || s->stride != 1 || s->pad_top != 1 || s->pad_left != 1 || s->out_h != s->h || s->out_w != s->w) return 0;
	if (min_long(s->c, s->o) < 16) return 0;
	long direct = 9 * ((long)s->n * s->h * s->w + pass), four = 36 * (s->n * div_up(s->h, 4) * div_up(s->w, 4) + pass);
	long two = 16 * (s->n * div_up(s->h, 2) * div_up(s->w, 2) + pass);
	if (direct <= min_long(two, four)) return 0;
	return two < four ? 2 : 4;
}

static int conv_grad_weight(ldm_pool *pool, const ldm_conv_shape *s, const float *x, const float *dy, float *dw) {
	int m = grad_weight_algorithm(s);
	if (m) return winograd_grad_weight(pool, s, m, x, dy, dw);
	long taps = (long)s->kh * s->kw;
	outer_job j = {.rows = (long)s->n * s->out_h * s->out_w, .o = s->o, .k = taps * s->c, .taps = taps, .c = s->c, .x = x, .ldx = s->c, .dy = dy,
		.ldy = s->o, .dw = dw};
	if (!whole_pixels(s)) j.windows = (gemm_job){.image = s, .x = x};
	return outer_run(pool, &j);
}
