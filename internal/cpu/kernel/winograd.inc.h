// Winograd convolution F(m,3) in two dimensions, m = 4 or 2, for 3x3 kernels with stride 1 and padding 1 (Lavin and Gray 2016).
//
// An output tile of m x m pixels comes from an input tile of (m+2) x (m+2) pixels: the input tile is transformed, each of its
// (m+2)^2 frequencies is multiplied by that frequency's C x O matrix (one product over all tiles), and the result is
// transformed back. Interpolation points are 0, +-5/8, +-3/2 and infinity for m = 4, which keep the error 2.3 times below that
// of the usual 0, +-1, +-2, and 0, +-1 and infinity for m = 2. Weights are transformed in float64 and rounded once.
//
// Packed weights: [frequency][panel][C][NR]. Transformed tiles v: [frequency][tile][C], products m: [frequency][tile][O], with
// rows padded by a cache line and planes an odd number of lines apart, since otherwise all frequencies of a tile would compete
// for the same cache sets.

#define POINT_A 0.625f
#define POINT_B 1.5f

static INLINE void transform_in(const int m, const vf *d, vf *o) {
	if (m == 2) {
		o[0] = d[2] - d[0];
		o[1] = d[2] + d[1];
		o[2] = d[2] - d[1];
		o[3] = d[3] - d[1];
		return;
	}
	const float a = POINT_A, b = POINT_B, a2 = a * a, b2 = b * b;
	vf even_a = d[4] - b2 * d[2], odd_a = a * (d[3] - b2 * d[1]);
	vf even_b = d[4] - a2 * d[2], odd_b = b * (d[3] - a2 * d[1]);
	o[0] = d[4] - (a2 + b2) * d[2] + a2 * b2 * d[0];
	o[1] = even_a + odd_a;
	o[2] = even_a - odd_a;
	o[3] = even_b + odd_b;
	o[4] = even_b - odd_b;
	o[5] = d[5] - (a2 + b2) * d[3] + a2 * b2 * d[1];
}

static INLINE void transform_out(const int m, const vf *d, vf *y) {
	if (m == 2) {
		y[0] = d[0] + (d[1] + d[2]);
		y[1] = (d[1] - d[2]) + d[3];
		return;
	}
	const float a = POINT_A, b = POINT_B, a2 = a * a, b2 = b * b;
	vf sa = d[1] + d[2], da = d[1] - d[2], sb = d[3] + d[4], db = d[3] - d[4];
	y[0] = d[0] + sa + sb;
	y[1] = a * da + b * db;
	y[2] = a2 * sa + b2 * sb;
	y[3] = a2 * a * da + (b2 * b * db + d[5]);
}

typedef struct {
	int m, edge, frequencies; // edge = m + 2
	long tiles, tiles_x, tiles_y, c, o, panels;
	ldm_pool *pool;
	const ldm_conv_shape *s;
	const float *x, *w, *zeros;
	float *y;
	epilogue e;
	long ldv, ldm, v_plane, m_plane; // in floats
	long block, blocks, parts;       // tiles in a block; blocks; panel groups of a block's product
	int shared;
	char *scratch;
	long thread_size;
	ldm_counter next[3];
} winograd_job;

// Channels c0..c1 of the transformed input tile.
static INLINE void tile_in_m(const int m, const float *const *in, long c0, long c1, float *v, long plane) {
	enum { E = 6 };
	const int edge = m + 2;
	for (long c = c0; c < c1; c += VL) {
		vf t[E][E], d[E], o[E];
		long n = c1 - c;
		if (n >= VL) {
			UNROLL for (int j = 0; j < edge; j++) {
				UNROLL for (int i = 0; i < edge; i++) d[i] = load(in[i * edge + j] + c);
				transform_in(m, d, o);
				UNROLL for (int i = 0; i < edge; i++) t[i][j] = o[i];
			}
		} else {
			for (int j = 0; j < edge; j++) {
				for (int i = 0; i < edge; i++) d[i] = load_n(in[i * edge + j] + c, n);
				transform_in(m, d, o);
				for (int i = 0; i < edge; i++) t[i][j] = o[i];
			}
		}
		UNROLL for (int i = 0; i < edge; i++) {
			transform_in(m, t[i], o);
			UNROLL for (int j = 0; j < edge; j++) store(v + (i * edge + j) * plane + c, o[j]);
		}
	}
}

static NOINLINE void tile_in_4(const float *const *in, long c0, long c1, float *v, long plane) { tile_in_m(4, in, c0, c1, v, plane); }
static NOINLINE void tile_in_2(const float *const *in, long c0, long c1, float *v, long plane) { tile_in_m(2, in, c0, c1, v, plane); }

// Transforms tile t of the whole batch into row l of the block. Pixels outside the image point at zeros.
static void tile_in(const winograd_job *j, long t, long l, long c0, long c1, float *v) {
	const ldm_conv_shape *s = j->s;
	const float *in[36];
	long n = t / (j->tiles_x * j->tiles_y), rest = t % (j->tiles_x * j->tiles_y);
	long y0 = rest / j->tiles_x * j->m - 1, x0 = rest % j->tiles_x * j->m - 1;
	int up = s->upsample != 0;
	long w = s->w >> up, h = s->h >> up;
	const float *img = j->x + n * h * w * j->c;
	for (int i = 0; i < j->edge; i++)
		for (int k = 0; k < j->edge; k++) {
			long y = y0 + i, x = x0 + k;
			int ok = y >= 0 && y < s->h && x >= 0 && x < s->w;
			in[i * j->edge + k] = ok ? img + ((y >> up) * w + (x >> up)) * j->c : j->zeros;
		}
	(j->m == 4 ? tile_in_4 : tile_in_2)(in, c0, c1, v + l * j->ldv, j->v_plane);
}

typedef struct {
	float *y;
	const float *residual;
	long row_stride, rows, cols; // of the part of the tile that lies in the image
	const epilogue *e;
	const float *sample; // the sample's bias
} tile_target;

static INLINE void tile_out_m(const int m, const float *p, long plane, const tile_target *g, long o, long n, long ld) {
	enum { E = 6 };
	const int edge = m + 2;
	vf t[E][4], d[E], r[4];
	UNROLL for (int i = 0; i < edge; i++) {
		UNROLL for (int j = 0; j < edge; j++) d[j] = load(p + (i * edge + j) * plane);
		transform_out(m, d, r);
		UNROLL for (int j = 0; j < m; j++) t[i][j] = r[j];
	}
	UNROLL for (int j = 0; j < m; j++) {
		UNROLL for (int i = 0; i < edge; i++) d[i] = t[i][j];
		transform_out(m, d, r);
		if (j >= g->cols) continue;
		UNROLL for (int i = 0; i < m; i++) {
			if (i >= g->rows) continue;
			long at = i * g->row_stride + j * ld + o;
			store_n(g->y + at, finish(g->e, r[i], g->sample, o, n, g->residual ? g->residual + at : NULL), n);
		}
	}
}

static NOINLINE void tile_out_4(const float *p, long plane, const tile_target *g, long o0, long o1, long ld) {
	for (long o = o0; o < o1; o += VL) tile_out_m(4, p + o, plane, g, o, o1 - o, ld);
}

static NOINLINE void tile_out_2(const float *p, long plane, const tile_target *g, long o0, long o1, long ld) {
	for (long o = o0; o < o1; o += VL) tile_out_m(2, p + o, plane, g, o, o1 - o, ld);
}

static void tile_out(const winograd_job *j, long t, long l, long o0, long o1, const float *m) {
	const ldm_conv_shape *s = j->s;
	long n = t / (j->tiles_x * j->tiles_y), rest = t % (j->tiles_x * j->tiles_y);
	long y0 = rest / j->tiles_x * j->m, x0 = rest % j->tiles_x * j->m;
	long row = (n * s->h + y0) * s->w + x0;
	tile_target g = {.y = j->y + row * j->o, .residual = j->e.residual ? j->e.residual + row * j->o : NULL, .row_stride = s->w * j->o,
		.rows = s->h - y0, .cols = s->w - x0, .e = &j->e, .sample = sample_row(&j->e, row)};
	(j->m == 4 ? tile_out_4 : tile_out_2)(m + l * j->ldm, j->m_plane, &g, o0, o1, j->o);
}

// The product of one frequency over the tiles of a block, for panels p0..p1. Weights are read from front to back.
static void frequency_product(const winograd_job *j, int f, long count, long p0, long p1, const float *v, float *m) {
	long n = stretch_count(j->c), rows = div_up(count, MR);
	v += f * j->v_plane;
	m += f * j->m_plane;
	for (long p = p0; p < p1; p++) {
		int nv = panel_vectors(j->o, p);
		const float *panel = j->w + (f * j->panels + p) * j->c * NR;
		for (long s = 0; s < n; s++) {
			long k0 = stretch_start(j->c, s, n), k1 = stretch_start(j->c, s + 1, n), floats = (k1 - k0) * nv * VL;
			const float *w = panel + k0 * nv * VL;
			for (long i = 0; i < rows; i++) {
				long r0 = count * i / rows, r1 = count * (i + 1) / rows;
				prefetch_part(w + floats, floats, i, rows);
				tiles[r1 - r0][0][nv - 1](v + r0 * j->ldv + k0, j->ldv, w, k1 - k0, m + r0 * j->ldm + p * NR, j->ldm, s > 0);
			}
		}
	}
}

static void winograd_task(void *arg, int tid, int threads) {
	winograd_job *j = arg;
	float *v = (float *)(j->scratch + (j->shared ? 0 : tid * j->thread_size)), *m = v + j->frequencies * j->v_plane;
	if (!j->shared) { // each thread works on blocks of its own
		for (long b; (b = take(&j->next[0])) < j->blocks;) {
			long t0 = j->tiles * b / j->blocks, t1 = j->tiles * (b + 1) / j->blocks;
			for (long t = t0; t < t1; t++) tile_in(j, t, t - t0, 0, j->c, v);
			for (int f = 0; f < j->frequencies; f++) frequency_product(j, f, t1 - t0, 0, j->panels, v, m);
			for (long t = t0; t < t1; t++) tile_out(j, t, t - t0, 0, j->o, m);
		}
		return;
	}
	// All threads work on one block, step by step. Few tiles are cut along the channels, in whole vectors.
	for (long b = 0; b < j->blocks; b++) {
		long t0 = j->tiles * b / j->blocks, t1 = j->tiles * (b + 1) / j->blocks, i, tiles = t1 - t0;
		long cut_c = tiles < 8 * threads ? div_up(j->c, 4 * VL) : 1, cut_o = tiles < 8 * threads ? div_up(j->o, 4 * VL) : 1;
		long wide_c = div_up(div_up(j->c, VL), cut_c) * VL, wide_o = div_up(div_up(j->o, VL), cut_o) * VL;
		while ((i = take(&j->next[0])) < tiles * cut_c) {
			long c0 = i % cut_c * wide_c;
			tile_in(j, t0 + i / cut_c, i / cut_c, c0, min_long(j->c, c0 + wide_c), v);
		}
		pool_barrier(j->pool);
		if (!tid) j->next[2].next = 0;
		while ((i = take(&j->next[1])) < j->frequencies * j->parts) {
			long g = i % j->parts;
			frequency_product(j, i / j->parts, tiles, j->panels * g / j->parts, j->panels * (g + 1) / j->parts, v, m);
		}
		pool_barrier(j->pool);
		if (!tid) j->next[0].next = 0;
		while ((i = take(&j->next[2])) < tiles * cut_o) {
			long o0 = i % cut_o * wide_o;
			tile_out(j, t0 + i / cut_o, i / cut_o, o0, min_long(j->o, o0 + wide_o), m);
		}
		pool_barrier(j->pool);
		if (!tid) j->next[1].next = 0;
	}
}

static int winograd(ldm_pool *pool, const ldm_conv_shape *s, int m, const float *w, const float *x, float *y, const float *bias,
	const float *sample_bias, long sample_stride, const float *residual, int act) {
	// A thread's own block has as many tiles as make its products efficient; a shared block is bounded by memory alone.
	enum { own_block = WINOGRAD_BLOCK, shared_block = 512 };
	int threads = pool_threads(pool);
	winograd_job j = {.pool = pool, .m = m, .edge = m + 2, .frequencies = (m + 2) * (m + 2), .c = s->c, .o = s->o, .s = s, .x = x, .w = w, .y = y,
		.e = {bias, sample_bias, residual, sample_stride, (long)s->h * s->w, act}};
	j.tiles_x = div_up(s->w, m);
	j.tiles_y = div_up(s->h, m);
	j.tiles = s->n * j.tiles_x * j.tiles_y;
	j.panels = panel_count(s->o);
	j.shared = threads > 1 && j.tiles < 3 * threads * own_block;
	j.blocks = div_up(j.tiles, j.shared ? shared_block : own_block);
	j.block = div_up(j.tiles, j.blocks);
	j.parts = min_long(j.panels, threads > 1 ? 4 : 1);
	j.ldv = div_up(j.c, 16) * 16 + 16;
	j.ldm = div_up(j.panels * NR, 16) * 16 + 16;
	j.v_plane = (j.ldv / 16 * j.block | 1) * 16;
	j.m_plane = (j.ldm / 16 * j.block | 1) * 16;
	long zeros = line_up(s->c * 4);
	j.thread_size = j.frequencies * (j.v_plane + j.m_plane) * 4;
	char *scratch = pool_scratch(pool, zeros + (j.shared ? 1 : threads) * j.thread_size);
	if (!scratch) return -1;
	if (pool_reserving(pool)) return 0;
	memset(scratch, 0, zeros);
	j.zeros = (float *)scratch;
	j.scratch = scratch + zeros;
	pool_run(pool, j.tiles * j.frequencies * j.c * j.o, winograd_task, &j);
	return 0;
}

// Packing: G g G^T for every pair of channels, a vector of output channels at a time.

typedef double vd __attribute__((vector_size(VL * 4)));
enum { VD = VL / 2 };

typedef struct {
	int m;
	long c, o, panels, groups;
	const float *src;
	float *dst;
	ldm_counter next;
} winograd_pack_job;

// Rows of G: powers of the point over the product of its distances to the others.
static void weight_transform(int m, double g[6][3]) {
	const double p4[] = {0, POINT_A, -POINT_A, POINT_B, -POINT_B}, p2[] = {0, 1, -1}, *p = m == 4 ? p4 : p2;
	for (int i = 0; i <= m; i++) {
		double d = 1;
		for (int k = 0; k <= m; k++)
			if (k != i) d *= p[i] - p[k];
		g[i][0] = 1 / d;
		g[i][1] = p[i] / d;
		g[i][2] = p[i] * p[i] / d;
	}
	g[m + 1][0] = g[m + 1][1] = 0;
	g[m + 1][2] = 1;
}

static INLINE void pack_filters(const int m, double g[6][3], const double src[9][NR], int wide, float *dst, long plane) {
	const int edge = m + 2;
	for (int l = 0; l < wide; l += VD) {
		vd t[6][3];
		UNROLL for (int x = 0; x < 3; x++) {
			vd r[3];
			UNROLL for (int k = 0; k < 3; k++) memcpy(&r[k], &src[3 * k + x][l], sizeof(vd));
			UNROLL for (int i = 0; i < edge; i++) t[i][x] = g[i][0] * r[0] + g[i][1] * r[1] + g[i][2] * r[2];
		}
		UNROLL for (int i = 0; i < edge; i++) UNROLL for (int k = 0; k < edge; k++) {
			vd u = t[i][0] * g[k][0] + t[i][1] * g[k][1] + t[i][2] * g[k][2];
			float *d = dst + (i * edge + k) * plane + l;
			UNROLL for (int e = 0; e < VD; e++) d[e] = (float)u[e];
		}
	}
}

static void winograd_pack_task(void *arg, int tid, int threads) {
	winograd_pack_job *j = arg;
	(void)tid, (void)threads;
	double g[6][3];
	weight_transform(j->m, g);
	for (long i; (i = take(&j->next)) < j->panels * j->groups;) {
		long p = i / j->groups, c0 = j->c * (i % j->groups) / j->groups, c1 = j->c * (i % j->groups + 1) / j->groups;
		int wide = panel_vectors(j->o, p) * VL;
		float *d = j->dst + p * j->c * NR;
		double src[9][NR];
		memset(src, 0, sizeof src);
		for (long c = c0; c < c1; c++) {
			for (int l = 0; l < wide && p * NR + l < j->o; l++) {
				const float *w = j->src + ((p * NR + l) * j->c + c) * 9;
				UNROLL for (int k = 0; k < 9; k++) src[k][l] = w[k];
			}
			if (j->m == 4) pack_filters(4, g, src, wide, d + c * wide, j->panels * j->c * NR);
			else pack_filters(2, g, src, wide, d + c * wide, j->panels * j->c * NR);
		}
	}
}

static void winograd_pack(ldm_pool *pool, const ldm_conv_shape *s, int m, const float *oihw, float *dst) {
	winograd_pack_job j = {.m = m, .c = s->c, .o = s->o, .panels = panel_count(s->o), .src = oihw, .dst = dst};
	j.groups = div_up(s->c, 128);
	pool_run(pool, j.c * j.o * 512, winograd_pack_task, &j);
}

static long winograd_size(const ldm_conv_shape *s, int m) { return panel_count(s->o) * NR * s->c * (m + 2) * (m + 2); }

// Convolutions of either kind.

static long conv_size(const ldm_conv_shape *s, int algo, int bf) {
	return algo ? winograd_size(s, algo) : packed_size((long)s->kh * s->kw * s->c, s->o, bf);
}

static void conv_pack(ldm_pool *pool, const ldm_conv_shape *s, int algo, int bf, const float *oihw, float *dst) {
	if (algo) winograd_pack(pool, s, algo, oihw, dst);
	else direct_pack(pool, s, bf, oihw, dst);
}

static int conv(ldm_pool *pool, const ldm_conv_shape *s, int algo, int bf, const float *w, const float *x, float *y, const float *bias,
	const float *sample_bias, long sample_stride, const float *residual, int act) {
	if (algo) return winograd(pool, s, algo, w, x, y, bias, sample_bias, sample_stride, residual, act);
	return conv_direct(pool, s, bf, w, x, y, bias, sample_bias, sample_stride, residual, act);
}
