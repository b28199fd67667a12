// Winograd convolution (Lavin and Gray 2016), in two dimensions or in one.
//
// Along an axis, m output pixels come from edge = m + r - 1 input pixels, where r is the kernel's size: an input tile is
// transformed, each of its frequencies is multiplied by that frequency's C x O matrix (one product over all tiles), and the
// result is transformed back. An axis on which the kernel has one tap is left alone: m = edge = 1. Interpolation points are 0,
// pairs +-p and infinity. The pairs are those with the smallest error: for an edge of 6, it is 2.3 times below that of the usual
// 1 and 2. Weights are transformed in float64 and rounded once.
//
// With stride 2 and 3 taps, taps 0 and 2 see the even input pixels of a tile, which makes a convolution with stride 1 and 2 taps, and
// tap 1 sees the odd ones, each for an output pixel of its own: these are m more frequencies of one weight, edge = 2m + 1 in all.
//
// Packed weights: [frequency][panel][C][NR]. Transformed tiles v: [frequency][tile][C], products m: [frequency][tile][O], with
// rows padded by a cache line and planes an odd number of lines apart, since otherwise all frequencies of a tile would compete
// for the same cache sets.

// Every kind there is: height and width of the kernel, and of a tile's output, and the stride. algorithm in native.go chooses among them.
#define WINOGRAD_KINDS(X)                                                                                                  \
	X(3, 3, 4, 4, 1) X(3, 3, 2, 2, 1) X(5, 5, 4, 4, 1) X(1, 7, 1, 4, 1) X(7, 1, 4, 1, 1) X(1, 3, 1, 4, 1) X(3, 1, 4, 1, 1) \
	X(3, 3, 3, 3, 2)

// Pixels of an input tile along an axis, which are as many as frequencies, and how many of these have weights of their own.
#define EDGE(TAPS, M, STRIDE) (((M) - 1) * (STRIDE) + (TAPS))
#define DISTINCT(TAPS, M, STRIDE) ((STRIDE) == 1 ? EDGE(TAPS, M, STRIDE) : (M) + 2)

enum { edge_max = 10, out_max = 4, taps_max = 7, kernel_max = 25, tile_max = 64, pairs_max = 4 };

static const float pairs_of[pairs_max + 1][pairs_max] = {{0}, {1}, {0.625f, 1.5f}, {0.5f, 1, 2}, {0.375f, 0.875f, 1.25f, 2.5f}};

// q[k] is the factor of x^2k in the product of x^2 - p^2 over all pairs but number skip.
static INLINE void pair_product(const int pairs, const int skip, float *q) {
	q[0] = 1;
	UNROLL for (int i = 1; i <= pairs_max; i++) q[i] = 0;
	UNROLL for (int k = 0; k < pairs; k++) {
		if (k == skip) continue;
		const float p2 = pairs_of[pairs][k] * pairs_of[pairs][k];
		UNROLL for (int i = pairs_max; i > 0; i--) q[i] = q[i - 1] - p2 * q[i];
		q[0] *= -p2;
	}
}

// The sum of q[k] * d[2k] for k <= n, where q[n] is 1.
static INLINE vf pair_sum(const int n, const float *q, const vf *d) {
	vf v = d[2 * n];
	UNROLL for (int k = n - 1; k >= 0; k--) v += q[k] * d[2 * k];
	return v;
}

static INLINE void points_in(const int edge, const vf *d, vf *o) {
	const int pairs = edge / 2 - 1;
	float q[pairs_max + 1];
	if (edge == 1) {
		o[0] = d[0];
		return;
	}
	pair_product(pairs, -1, q);
	o[0] = pair_sum(pairs, q, d);
	o[edge - 1] = pair_sum(pairs, q, d + 1);
	UNROLL for (int i = 0; i < pairs; i++) {
		pair_product(pairs, i, q);
		vf even = pair_sum(pairs - 1, q, d + 2), odd = pairs_of[pairs][i] * pair_sum(pairs - 1, q, d + 1);
		o[2 * i + 1] = even + odd;
		o[2 * i + 2] = even - odd;
	}
}

static INLINE void transform_in(const int edge, const int stride, const vf *d, vf *o) {
	if (stride == 1) {
		points_in(edge, d, o);
		return;
	}
	const int m = edge / 2;
	vf even[edge_max];
	UNROLL for (int k = 0; k <= m; k++) even[k] = d[2 * k];
	points_in(m + 1, even, o);
	UNROLL for (int k = 0; k < m; k++) o[m + 1 + k] = d[2 * k + 1];
}

static INLINE float power(const float x, const int n) {
	float p = 1;
	UNROLL for (int i = 0; i < n; i++) p *= x;
	return p;
}

static INLINE void points_out(const int m, const int edge, const vf *d, vf *y) {
	const int pairs = edge / 2 - 1;
	if (edge == 1) {
		y[0] = d[0];
		return;
	}
	UNROLL for (int k = 0; k < m; k++) {
		vf v = k == 0 ? d[0] : k == m - 1 ? d[edge - 1] : (vf){0};
		UNROLL for (int i = pairs - 1; i >= 0; i--) {
			vf both = k % 2 ? d[2 * i + 1] - d[2 * i + 2] : d[2 * i + 1] + d[2 * i + 2];
			v += power(pairs_of[pairs][i], k) * both;
		}
		y[k] = v;
	}
}

static INLINE void transform_out(const int m, const int edge, const int stride, const vf *d, vf *y) {
	if (stride == 1) {
		points_out(m, edge, d, y);
		return;
	}
	points_out(m, m + 1, d, y);
	UNROLL for (int k = 0; k < m; k++) y[k] += d[m + 1 + k];
}

// Where the output of a tile goes.
typedef struct {
	float *y;
	const float *residual;
	long row_stride, rows, cols; // of the part of the tile that lies in the image
	const epilogue *e;
	const float *sample; // the sample's bias
} tile_target;

typedef double transform_g[edge_max][taps_max];

// A kind: how to transform channels c0..c1 of an input tile, whose pixels are at in, into v; how to transform channels o0..o1 of its
// products p back and finish them; and how to transform the weights of one input channel and wide output channels.
typedef struct {
	int kh, kw, mh, mw, stride;
	void (*in)(const float *const *in, long c0, long c1, float *v, long plane);
	void (*out)(const float *p, long plane, const tile_target *g, long o0, long o1, long ld);
	void (*pack)(transform_g gh, transform_g gw, const double src[kernel_max][NR], int wide, float *dst, long plane);
} winograd_kind;

static INLINE void tile_in_of(const int eh, const int ew, const int stride, const float *const *in, long c0, long c1, float *v, long plane) {
	for (long c = c0; c < c1; c += VL) {
		vf t[tile_max], d[edge_max], o[edge_max];
		long n = c1 - c;
		if (n >= VL) {
			UNROLL for (int j = 0; j < ew; j++) {
				UNROLL for (int i = 0; i < eh; i++) d[i] = load(in[i * ew + j] + c);
				transform_in(eh, stride, d, o);
				UNROLL for (int i = 0; i < eh; i++) t[i * ew + j] = o[i];
			}
		} else {
			for (int j = 0; j < ew; j++) {
				for (int i = 0; i < eh; i++) d[i] = load_n(in[i * ew + j] + c, n);
				transform_in(eh, stride, d, o);
				for (int i = 0; i < eh; i++) t[i * ew + j] = o[i];
			}
		}
		UNROLL for (int i = 0; i < eh; i++) {
			transform_in(ew, stride, t + i * ew, o);
			UNROLL for (int j = 0; j < ew; j++) store(v + (i * ew + j) * plane + c, o[j]);
		}
	}
}

static INLINE void tile_out_of(const int mh, const int mw, const int eh, const int ew, const int stride, const float *p, long plane,
	const tile_target *g, long o0, long o1, long ld) {
	for (long o = o0; o < o1; o += VL) {
		vf t[edge_max][out_max], d[edge_max], r[out_max];
		long n = o1 - o;
		UNROLL for (int i = 0; i < eh; i++) {
			UNROLL for (int j = 0; j < ew; j++) d[j] = load(p + (i * ew + j) * plane + o);
			transform_out(mw, ew, stride, d, r);
			UNROLL for (int j = 0; j < mw; j++) t[i][j] = r[j];
		}
		UNROLL for (int j = 0; j < mw; j++) {
			UNROLL for (int i = 0; i < eh; i++) d[i] = t[i][j];
			transform_out(mh, eh, stride, d, r);
			if (j >= g->cols) continue;
			UNROLL for (int i = 0; i < mh; i++) {
				if (i >= g->rows) continue;
				long at = i * g->row_stride + j * ld + o;
				store_n(g->y + at, finish(g->e, r[i], g->sample, o, n, g->residual ? g->residual + at : NULL), n);
			}
		}
	}
}

typedef double vd __attribute__((vector_size(VL * 4)));
enum { VD = VL / 2 };

// G g G^T, a vector of output channels at a time.
static INLINE void pack_of(const int kh, const int kw, const int eh, const int ew, transform_g gh, transform_g gw, const double src[kernel_max][NR],
	int wide, float *dst, long plane) {
	for (int l = 0; l < wide; l += VD) {
		vd t[edge_max][taps_max];
		UNROLL for (int x = 0; x < kw; x++) {
			vd r[taps_max];
			UNROLL for (int k = 0; k < kh; k++) memcpy(&r[k], &src[k * kw + x][l], sizeof(vd));
			UNROLL for (int i = 0; i < eh; i++) {
				t[i][x] = gh[i][0] * r[0];
				UNROLL for (int k = 1; k < kh; k++) t[i][x] += gh[i][k] * r[k];
			}
		}
		UNROLL for (int i = 0; i < eh; i++)
			UNROLL for (int k = 0; k < ew; k++) {
				vd u = t[i][0] * gw[k][0];
				UNROLL for (int x = 1; x < kw; x++) u += t[i][x] * gw[k][x];
				float *d = dst + (i * ew + k) * plane + l;
				UNROLL for (int e = 0; e < VD; e++) d[e] = (float)u[e];
			}
	}
}

#define WINOGRAD_FUNCTIONS(KH, KW, MH, MW, S)                                                                                                        \
	static NOINLINE void tile_in_##KH##x##KW##_##MH##x##MW##_##S(const float *const *in, long c0, long c1, float *v, long plane) {                 \
		tile_in_of(EDGE(KH, MH, S), EDGE(KW, MW, S), S, in, c0, c1, v, plane);                                                                               \
	}                                                                                                                                             \
	static NOINLINE void tile_out_##KH##x##KW##_##MH##x##MW##_##S(const float *p, long plane, const tile_target *g, long o0, long o1, long ld) {   \
		tile_out_of(MH, MW, EDGE(KH, MH, S), EDGE(KW, MW, S), S, p, plane, g, o0, o1, ld);                                                                   \
	}                                                                                                                                             \
	static NOINLINE void pack_##KH##x##KW##_##MH##x##MW##_##S(transform_g gh, transform_g gw, const double src[kernel_max][NR], int wide, float *dst, \
		long plane) {                                                                                                                             \
		pack_of(KH, KW, DISTINCT(KH, MH, S), DISTINCT(KW, MW, S), gh, gw, src, wide, dst, plane);                                                                 \
	}
#define WINOGRAD_KIND(KH, KW, MH, MW, S)                                                                           \
	{KH, KW, MH, MW, S, tile_in_##KH##x##KW##_##MH##x##MW##_##S, tile_out_##KH##x##KW##_##MH##x##MW##_##S, \
		pack_##KH##x##KW##_##MH##x##MW##_##S},
WINOGRAD_KINDS(WINOGRAD_FUNCTIONS)
static const winograd_kind winograd_kinds[] = {WINOGRAD_KINDS(WINOGRAD_KIND)};

// The kind for a layer and an algorithm; see ldm.h.
static const winograd_kind *winograd_kind_of(const ldm_conv_shape *s, int algo) {
	const winograd_kind *k = winograd_kinds;
	while (k->kh != s->kh || k->kw != s->kw || k->mh != algo >> 4 || k->mw != (algo & 15) || k->stride != s->stride) k++;
	return k;
}

typedef struct {
	const winograd_kind *kind;
	int eh, ew, frequencies; // height and width of an input tile
	int gh, gw;              // of which have weights of their own
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

static winograd_job winograd_start(ldm_pool *pool, const ldm_conv_shape *s, int algo) {
	const winograd_kind *k = winograd_kind_of(s, algo);
	winograd_job j = {.kind = k, .eh = EDGE(k->kh, k->mh, k->stride), .ew = EDGE(k->kw, k->mw, k->stride), .gh = DISTINCT(k->kh, k->mh, k->stride),
		.gw = DISTINCT(k->kw, k->mw, k->stride), .pool = pool, .c = s->c, .o = s->o, .s = s};
	j.frequencies = j.eh * j.ew;
	j.tiles_x = div_up(s->out_w, k->mw);
	j.tiles_y = div_up(s->out_h, k->mh);
	j.tiles = s->n * j.tiles_x * j.tiles_y;
	return j;
}

// Transforms tile t of the whole batch into row l of the block. Pixels outside the image point at zeros.
static void tile_in(const winograd_job *j, long t, long l, long c0, long c1, float *v) {
	const ldm_conv_shape *s = j->s;
	const float *in[tile_max];
	long n = t / (j->tiles_x * j->tiles_y), rest = t % (j->tiles_x * j->tiles_y);
	long y0 = rest / j->tiles_x * j->kind->mh * s->stride - s->pad_top, x0 = rest % j->tiles_x * j->kind->mw * s->stride - s->pad_left;
	int up = s->upsample != 0;
	long w = s->w >> up, h = s->h >> up;
	const float *img = j->x + n * h * w * j->c;
	for (int i = 0; i < j->eh; i++)
		for (int k = 0; k < j->ew; k++) {
			long y = y0 + i, x = x0 + k;
			int ok = y >= 0 && y < s->h && x >= 0 && x < s->w;
			in[i * j->ew + k] = ok ? img + ((y >> up) * w + (x >> up)) * j->c : j->zeros;
		}
	j->kind->in(in, c0, c1, v + l * j->ldv, j->v_plane);
}

static void tile_out(const winograd_job *j, long t, long l, long o0, long o1, const float *m) {
	const ldm_conv_shape *s = j->s;
	long n = t / (j->tiles_x * j->tiles_y), rest = t % (j->tiles_x * j->tiles_y);
	long y0 = rest / j->tiles_x * j->kind->mh, x0 = rest % j->tiles_x * j->kind->mw;
	long row = (n * s->out_h + y0) * s->out_w + x0;
	tile_target g = {.y = j->y + row * s->ldy, .residual = j->e.residual ? j->e.residual + row * s->ldy : NULL, .row_stride = (long)s->out_w * s->ldy,
		.rows = s->out_h - y0, .cols = s->out_w - x0, .e = &j->e, .sample = sample_row(&j->e, row)};
	j->kind->out(m + l * j->ldm, j->m_plane, &g, o0, o1, s->ldy);
}

// The product of one frequency over the tiles of a block, for panels p0..p1. Weights are read from front to back.
static void frequency_product(const winograd_job *j, int f, long count, long p0, long p1, const float *v, float *m) {
	long n = stretch_count(j->c), rows = div_up(count, MR), g = min_long(f / j->ew, j->gh - 1) * j->gw + min_long(f % j->ew, j->gw - 1);
	v += f * j->v_plane;
	m += f * j->m_plane;
	for (long p = p0; p < p1; p++) {
		int nv = panel_vectors(j->o, p);
		const float *panel = j->w + (g * j->panels + p) * j->c * NR;
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

static int winograd(ldm_pool *pool, const ldm_conv_shape *s, int algo, const float *w, const float *x, float *y, const float *bias,
	const float *sample_bias, long sample_stride, const float *residual, int act) {
	// A thread's own block has as many tiles as make its products efficient; a shared block is bounded by memory alone.
	enum { shared_block = 512 };
	int threads = pool_threads(pool);
	winograd_job j = winograd_start(pool, s, algo);
	long own_block = WINOGRAD_BLOCK * (j.frequencies > edge_max ? 1 : 2);
	j.x = x;
	j.w = w;
	j.y = y;
	j.e = (epilogue){bias, sample_bias, residual, sample_stride, (long)s->out_h * s->out_w, act};
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

// Packing.

typedef struct {
	const winograd_kind *kind;
	long c, o, panels, groups;
	const float *src;
	float *dst;
	ldm_counter next;
} winograd_pack_job;

// Rows of G for one axis with stride 1: powers of the point over the product of its distances to the others.
static void point_weights(int edge, int taps, transform_g g) {
	double p[edge_max] = {0};
	for (int i = 1; i < edge - 1; i++) p[i] = (i % 2 ? 1 : -1) * pairs_of[edge / 2 - 1][(i - 1) / 2];
	for (int i = 0; i < edge - 1; i++) {
		double d = 1;
		for (int k = 0; k < edge - 1; k++)
			if (k != i) d *= p[i] - p[k];
		g[i][0] = 1 / d;
		for (int k = 1; k < taps; k++) g[i][k] = g[i][k - 1] * p[i];
	}
	for (int k = 0; k < taps; k++) g[edge - 1][k] = k == taps - 1;
}

static void weight_transform(int m, int taps, int stride, transform_g g) {
	if (stride == 1) {
		point_weights(m + taps - 1, taps, g);
		return;
	}
	point_weights(m + 1, 2, g);
	for (int i = 0; i <= m; i++) {
		g[i][2] = g[i][1];
		g[i][1] = 0;
	}
	for (int k = 0; k < 3; k++) g[m + 1][k] = k == 1;
}

static void winograd_pack_task(void *arg, int tid, int threads) {
	winograd_pack_job *j = arg;
	const winograd_kind *kind = j->kind;
	(void)tid, (void)threads;
	transform_g gh, gw;
	weight_transform(kind->mh, kind->kh, kind->stride, gh);
	weight_transform(kind->mw, kind->kw, kind->stride, gw);
	int taps = kind->kh * kind->kw;
	for (long i; (i = take(&j->next)) < j->panels * j->groups;) {
		long p = i / j->groups, c0 = j->c * (i % j->groups) / j->groups, c1 = j->c * (i % j->groups + 1) / j->groups;
		int wide = panel_vectors(j->o, p) * VL;
		float *d = j->dst + p * j->c * NR;
		double src[kernel_max][NR];
		memset(src, 0, sizeof src);
		for (long c = c0; c < c1; c++) {
			for (int l = 0; l < wide && p * NR + l < j->o; l++) {
				const float *w = j->src + ((p * NR + l) * j->c + c) * taps;
				for (int k = 0; k < taps; k++) src[k][l] = w[k];
			}
			kind->pack(gh, gw, src, wide, d + c * wide, j->panels * j->c * NR);
		}
	}
}

static void winograd_pack(ldm_pool *pool, const ldm_conv_shape *s, int algo, const float *oihw, float *dst) {
	winograd_pack_job j = {.kind = winograd_kind_of(s, algo), .c = s->c, .o = s->o, .panels = panel_count(s->o), .src = oihw, .dst = dst};
	j.groups = div_up(s->c, 128);
	pool_run(pool, j.c * j.o * 512, winograd_pack_task, &j);
}

static long winograd_size(const ldm_conv_shape *s, int algo) {
	const winograd_kind *k = winograd_kind_of(s, algo);
	return panel_count(s->o) * NR * s->c * DISTINCT(k->kh, k->mh, k->stride) * DISTINCT(k->kw, k->mw, k->stride);
}

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
