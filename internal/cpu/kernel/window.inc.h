// Kernels over windows of pixels.

typedef struct {
	long n, h, w, c, oh, ow, k, stride, pad, ldy;
	int average, relu;
	const float *x;
	float *y;
	ldm_counter next;
} window_job;

// One vector of the pooling of the pixels y0..y1, x0..x1 of an image; n is how many channels are left. NaN is larger than any number.
static INLINE vf window_v(const window_job *j, const float *image, long y0, long y1, long x0, long x1, long i, long n) {
	vf acc = load_n(image + (y0 * j->w + x0) * j->c + i, n);
	for (long y = y0; y < y1; y++)
		for (long x = x0 + (y == y0); x < x1; x++) {
			vf v = load_n(image + (y * j->w + x) * j->c + i, n);
			if (j->average)
				acc += v;
			else
				acc = choose((vi)(v > acc) | (vi)(v != v), v, acc);
		}
	if (j->average) acc /= (float)((y1 - y0) * (x1 - x0));
	return j->relu ? relu_v(acc) : acc;
}

static void window_task(void *arg, int tid, int threads) {
	window_job *j = arg;
	(void)tid, (void)threads;
	long whole = j->c / VL * VL;
	for (long r; (r = take(&j->next)) < j->n * j->oh;) {
		const float *image = j->x + r / j->oh * j->h * j->w * j->c;
		long y = r % j->oh * j->stride - j->pad, y0 = max_long(y, 0), y1 = min_long(y + j->k, j->h);
		for (long o = 0; o < j->ow; o++) {
			long x = o * j->stride - j->pad, x0 = max_long(x, 0), x1 = min_long(x + j->k, j->w);
			float *out = j->y + (r * j->ow + o) * j->ldy;
			for (long i = 0; i < whole; i += VL) store(out + i, window_v(j, image, y0, y1, x0, x1, i, VL));
			if (whole < j->c) store_n(out + whole, window_v(j, image, y0, y1, x0, x1, whole, j->c - whole), j->c - whole);
		}
	}
}

static void pool_windows(ldm_pool *pool, const ldm_window_shape *s, int average, int relu, const float *x, float *y) {
	window_job j = {.n = s->n, .h = s->h, .w = s->w, .c = s->c, .oh = s->out_h, .ow = s->out_w, .k = s->k, .stride = s->stride, .pad = s->pad,
		.ldy = s->ldy, .average = average, .relu = relu, .x = x, .y = y};
	pool_run(pool, (long)s->n * s->out_h * s->out_w * s->c * s->k * s->k, window_task, &j);
}

// Means of all pixels, with compensated sums (Kahan 1965): their error does not grow with the number of pixels.

typedef struct {
	long n, hw, c, across;
	const float *x;
	float *y;
	ldm_counter next;
} mean_job;

static INLINE vf mean_v(const float *x, long hw, long c, long n) {
	vf sum = {0}, lost = {0};
	for (long p = 0; p < hw; p++) {
		vf v = load_n(x + p * c, n) - lost, t = sum + v;
		lost = (t - sum) - v;
		sum = t;
	}
	return sum / (float)hw;
}

static void mean_task(void *arg, int tid, int threads) {
	mean_job *j = arg;
	(void)tid, (void)threads;
	for (long t; (t = take(&j->next)) < j->n * j->across;) {
		long n = t / j->across, i = t % j->across * VL, left = j->c - i;
		const float *x = j->x + n * j->hw * j->c + i;
		float *y = j->y + n * j->c + i;
		if (left >= VL)
			store(y, mean_v(x, j->hw, j->c, VL));
		else
			store_n(y, mean_v(x, j->hw, j->c, left), left);
	}
}

static void pixel_mean(ldm_pool *pool, long n, long hw, long c, const float *x, float *y) {
	mean_job j = {.n = n, .hw = hw, .c = c, .across = div_up(c, VL), .x = x, .y = y};
	pool_run(pool, n * hw * c * 4, mean_task, &j);
}
