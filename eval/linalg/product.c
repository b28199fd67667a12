//go:build cgo && linux

// The matrix product after Goto and van de Geijn: packed panels that fit the caches around one register block. Every element
// is a chain of fused multiply-adds over at most DEPTH terms in order, then one product with alpha and one sum.
#include "product.h"

#if defined(__x86_64__)
#pragma GCC target("avx2,fma")
int ldm_linalg_runnable(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#elif defined(__aarch64__)
int ldm_linalg_runnable(void) { return 1; }
#else
int ldm_linalg_runnable(void) { return 0; }
#endif

typedef double vec __attribute__((vector_size(32), aligned(8)));

enum { MR = 6, NR = 8, DEPTH = 256, ROWS = 96, COLUMNS = 2048 };

size_t ldm_linalg_scratch(void) { return sizeof(double) * (size_t)DEPTH * (ROWS + COLUMNS); }

// Packs rows x k of a source into strips of `strip` rows, k after k, the last strip filled up with zeros.
static void pack(ptrdiff_t rows, ptrdiff_t k, ptrdiff_t strip, const double *s, ptrdiff_t rs, ptrdiff_t ks, double *d) {
	for (ptrdiff_t r = 0; r < rows; r += strip) {
		ptrdiff_t n = rows - r < strip ? rows - r : strip;
		const double *p = s + r * rs;
		if (n == strip && rs == 1) {
			for (ptrdiff_t q = 0; q < k; q++, d += strip)
				for (ptrdiff_t i = 0; i < strip; i++) d[i] = p[q * ks + i];
			continue;
		}
		for (ptrdiff_t q = 0; q < k; q++, d += strip) {
			ptrdiff_t i = 0;
			for (; i < n; i++) d[i] = p[i * rs + q * ks];
			for (; i < strip; i++) d[i] = 0;
		}
	}
}

static void block(ptrdiff_t k, const double *restrict a, const double *restrict b, double *restrict out) {
	vec c[MR][2];
	for (int i = 0; i < MR; i++) c[i][0] = c[i][1] = (vec){0};
	for (ptrdiff_t p = 0; p < k; p++, a += MR, b += NR) {
		vec b0 = *(const vec *)b, b1 = *(const vec *)(b + 4);
#pragma GCC unroll 6
		for (int i = 0; i < MR; i++) {
			vec x = {a[i], a[i], a[i], a[i]};
			c[i][0] += x * b0; // contracted to a fused multiply-add
			c[i][1] += x * b1;
		}
	}
	for (int i = 0; i < MR; i++) {
		*(vec *)(out + i * NR) = c[i][0];
		*(vec *)(out + i * NR + 4) = c[i][1];
	}
}

// Without contraction: alpha * v is rounded, as it is in Go.
__attribute__((optimize("fp-contract=off"), noinline)) static void add(double *restrict c, ptrdiff_t ldc, ptrdiff_t m, ptrdiff_t n,
	double alpha, const double *restrict t) {
	if (m == MR && n == NR) {
		vec x = {alpha, alpha, alpha, alpha};
		for (int i = 0; i < MR; i++, c += ldc, t += NR) {
			*(vec *)c += x * *(const vec *)t;
			*(vec *)(c + 4) += x * *(const vec *)(t + 4);
		}
		return;
	}
	for (ptrdiff_t i = 0; i < m; i++)
		for (ptrdiff_t j = 0; j < n; j++) c[i * ldc + j] += alpha * t[i * NR + j];
}

void ldm_linalg_product(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, double alpha, const double *a, ptrdiff_t ars, ptrdiff_t acs,
	const double *b, ptrdiff_t brs, ptrdiff_t bcs, double *c, ptrdiff_t ldc, double *scratch) {
	double *pa = scratch, *pb = scratch + DEPTH * ROWS, t[MR * NR];
	for (ptrdiff_t j0 = 0; j0 < n; j0 += COLUMNS) {
		ptrdiff_t nn = n - j0 < COLUMNS ? n - j0 : COLUMNS;
		for (ptrdiff_t p = 0; p < k; p += DEPTH) {
			ptrdiff_t kk = k - p < DEPTH ? k - p : DEPTH;
			pack(nn, kk, NR, b + p * brs + j0 * bcs, bcs, brs, pb);
			for (ptrdiff_t i0 = 0; i0 < m; i0 += ROWS) {
				ptrdiff_t mm = m - i0 < ROWS ? m - i0 : ROWS;
				pack(mm, kk, MR, a + i0 * ars + p * acs, ars, acs, pa);
				for (ptrdiff_t j = 0; j < nn; j += NR)
					for (ptrdiff_t i = 0; i < mm; i += MR) {
						block(kk, pa + i * kk, pb + j * kk, t);
						add(c + (i0 + i) * ldc + j0 + j, ldc, mm - i < MR ? mm - i : MR, nn - j < NR ? nn - j : NR, alpha, t);
					}
			}
		}
	}
}

void ldm_linalg_reflect_rows(ptrdiff_t m, ptrdiff_t n, const double *v, double tau, double *c, ptrdiff_t ldc, double *w) {
	for (ptrdiff_t j = 0; j < n; j++) w[j] = 0;
	for (ptrdiff_t i = 0; i < m; i++)
		for (ptrdiff_t j = 0; j < n; j++) w[j] += v[i] * c[i * ldc + j];
	for (ptrdiff_t i = 0; i < m; i++) {
		double x = tau * v[i];
		for (ptrdiff_t j = 0; j < n; j++) c[i * ldc + j] -= x * w[j];
	}
}

void ldm_linalg_reflect_columns(ptrdiff_t m, ptrdiff_t n, const double *v, double tau, double *c, ptrdiff_t ldc) {
	for (ptrdiff_t i = 0; i < m; i++) {
		double *r = c + i * ldc, dot = 0;
		vec s = {0};
		ptrdiff_t j = 0;
		for (; j + 4 <= n; j += 4) s += *(const vec *)(v + j) * *(const vec *)(r + j);
		for (; j < n; j++) dot += v[j] * r[j];
		dot = (dot + (s[0] + s[1]) + (s[2] + s[3])) * tau;
		for (j = 0; j < n; j++) r[j] -= dot * v[j];
	}
}
