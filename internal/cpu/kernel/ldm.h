// The C side of the kernels, as seen from Go. Element types are float unless said; strides are in floats.
#ifndef LDM_H
#define LDM_H

typedef struct ldm_pool ldm_pool;

typedef struct {
	int n, h, w, c, out_h, out_w, o, kh, kw, stride, pad_top, pad_left, upsample, ldy;
} ldm_conv_shape;

typedef struct {
	long rows, in, out, rows_per_sample, ldx, ldy;
} ldm_linear_shape;

typedef struct {
	long n, tq, tk, heads, d;
	float scale;
	long q_row, q_head, k_row, k_head, v_row, v_head, o_row, o_head, q_sample, k_sample, v_sample, o_sample;
} ldm_attention_shape;

typedef struct {
	long n, hw, c, groups, scale_stride;
	double eps;
	int silu;
} ldm_group_norm_shape;

typedef struct {
	int n, h, w, c, out_h, out_w, k, stride, pad, ldy;
} ldm_window_shape;

// Where the pixels of a result go: pixel (y, x) to pixel (y step + top, x step + left) of images of h x w.
typedef struct {
	int h, w, step, top, left;
} ldm_spread;

// The factors of a step of Adam.
typedef struct {
	float keep, rest1, beta2, rest2, size, root, eps, rest_ema;
} ldm_adam;

int ldm_runnable(int isa);
ldm_pool *ldm_pool_new(int threads, int isa); // NULL when memory or threads are lacking
void ldm_pool_free(ldm_pool *p);
double ldm_peak(ldm_pool *p);

// algo is 0 for direct, otherwise the height and width of the output tiles of a Winograd kind, height << 4 | width. Sizes are in floats;
// dst must be zeroed. Growing the scratch memory returns 0, or -1 when there is no memory; a kernel whose scratch memory cannot be had
// returns -1 too.
long ldm_conv_size(ldm_pool *p, const ldm_conv_shape *s, int algo, int bf);
void ldm_conv_pack(ldm_pool *p, const ldm_conv_shape *s, int algo, int bf, const float *oihw, float *dst);
int ldm_conv_reserve(ldm_pool *p, const ldm_conv_shape *s, int algo, int bf);
int ldm_conv(ldm_pool *p, const ldm_conv_shape *s, int algo, int bf, const float *w, const float *x, float *y, const float *bias,
	const float *sample_bias, long sample_stride, const float *residual, int act);

// A direct convolution whose pixels are spread.
int ldm_conv_spread(ldm_pool *p, const ldm_conv_shape *s, const ldm_spread *t, const float *w, const float *x, float *y);

int ldm_conv_grad_weight(ldm_pool *p, const ldm_conv_shape *s, const float *x, const float *dy, float *dw);
int ldm_linear_grad_weight(ldm_pool *p, const ldm_linear_shape *s, const float *x, const float *dy, float *dw);

long ldm_linear_size(ldm_pool *p, long in, long out, int geglu, int bf);
void ldm_linear_pack(ldm_pool *p, long in, long out, int geglu, int bf, const float *part, long first, long rows, float *dst);
int ldm_linear_reserve(ldm_pool *p, const ldm_linear_shape *s, int geglu, int bf);
int ldm_linear(ldm_pool *p, const ldm_linear_shape *s, int geglu, int bf, const float *w, const float *x, float *y, const float *bias,
	const float *sample_bias, long sample_stride, const float *residual, int act);

int ldm_attention_reserve(ldm_pool *p, const ldm_attention_shape *s, int bf);
int ldm_attention(ldm_pool *p, const ldm_attention_shape *s, int bf, const float *q, const float *k, const float *v, float *o);

// Kernels (o,c,9) to (c,o,9), each backwards.
void ldm_turn_3x3(ldm_pool *p, long o, long c, const float *x, float *y);

// Gradients. dx may be dy; parts that are NULL are left out.
int ldm_attention_grad(ldm_pool *p, const ldm_attention_shape *s, const float *q, const float *k, const float *v, const float *dy, float *dq,
	float *dk, float *dv);
int ldm_group_norm_grad(ldm_pool *p, const ldm_group_norm_shape *s, const float *x, const float *gamma, const float *beta, const float *dy,
	float *dx, float *dgamma, float *dbeta);
int ldm_layer_norm_grad(ldm_pool *p, long rows, long c, double eps, const float *x, const float *gamma, const float *dy, float *dx,
	float *dgamma, float *dbeta);
int ldm_column_sums(ldm_pool *p, long n, long rows, long c, long ld, const float *x, float *y);
int ldm_total(ldm_pool *p, int kind, long n, const float *a, const float *b, double *y); // kind 0: of a*b, 1: of (a-b)^2
// op: 0 SiLU, 1 GELU, 2 ReLU, 4 leaky ReLU with slope f; 5 leaky ReLU itself, of x
void ldm_slopes(ldm_pool *p, int op, float f, long n, const float *x, const float *dy, float *dx);
void ldm_geglu_grad(ldm_pool *p, long rows, long c, const float *x, const float *dy, float *dx);
void ldm_adam_step(ldm_pool *p, const ldm_adam *c, long n, float *w, const float *g, float *m, float *v, float *ema);

// moments, when not NULL, are used in place of the statistics of x: (n, 2 groups), means and then variances.
int ldm_group_norm(ldm_pool *p, const ldm_group_norm_shape *s, const float *x, const float *gamma, const float *beta,
	const float *moments, const float *scale_shift, float *y);
// The moments of x, w pixels wide, over one window for each sample: top, left, bottom, right, none empty.
int ldm_group_moments(ldm_pool *p, const ldm_group_norm_shape *s, long w, const long *windows, const float *x, float *y);
void ldm_layer_norm(ldm_pool *p, long rows, long c, double eps, const float *x, const float *gamma, const float *beta, float *y);
int ldm_code_index(ldm_pool *p, long rows, long c, long v, const float *z, const float *codebook, float *idx);

void ldm_activate(ldm_pool *p, int act, long n, const float *x, float *y);
void ldm_scale(ldm_pool *p, float f, long n, const float *x, float *y);
void ldm_add(ldm_pool *p, long n, const float *a, const float *b, float *y);
void ldm_geglu(ldm_pool *p, long rows, long c, const float *x, float *y);
// y[r] = x[r] + v[r / div % mod] and y[r] = v[r / div % mod], rows of c
void ldm_add_rows(ldm_pool *p, long rows, long c, const float *x, const float *v, long ldv, long div, long mod, float *y);
void ldm_copy_rows(ldm_pool *p, long rows, long c, const float *v, long ldv, long div, float *y, long ldy);
void ldm_modulate(ldm_pool *p, long rows, long c, const float *x, const float *s, long lds, long div, float *y);
void ldm_upsample2(ldm_pool *p, long n, long h, long w, long c, const float *x, float *y);
void ldm_avg_pool2(ldm_pool *p, long n, long h, long w, long c, const float *x, float *y);
// The largest values, or the means, of square windows; what lies in the padding does not count.
void ldm_pool_windows(ldm_pool *p, const ldm_window_shape *s, int average, int relu, const float *x, float *y);
void ldm_pixel_mean(ldm_pool *p, long n, long hw, long c, const float *x, float *y);
void ldm_transpose(ldm_pool *p, long n, long rows, long cols, const float *x, float *y);
void ldm_quantize(ldm_pool *p, long rows, long c, const float *z, const float *codebook, const float *idx, float *y);
void ldm_gaussian_sample(ldm_pool *p, long rows, long c, const float *moments, const float *noise, float *y);

#endif
