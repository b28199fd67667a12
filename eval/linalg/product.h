#ifndef LDM_LINALG_PRODUCT_H
#define LDM_LINALG_PRODUCT_H
#include <stddef.h>

// 1 where this processor can run the functions below.
int ldm_linalg_runnable(void);

// c (m x n, rows ldc apart) += alpha * a * b, where element i, p of a is a[i*ars + p*acs] and so on. pack is scratch memory
// of ldm_linalg_scratch() bytes.
void ldm_linalg_product(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, double alpha, const double *a, ptrdiff_t ars, ptrdiff_t acs,
	const double *b, ptrdiff_t brs, ptrdiff_t bcs, double *c, ptrdiff_t ldc, double *pack);
size_t ldm_linalg_scratch(void);

// c -= tau v (v' c), and c -= tau (c v) v', for c of m x n with rows ldc apart; w holds n doubles.
void ldm_linalg_reflect_rows(ptrdiff_t m, ptrdiff_t n, const double *v, double tau, double *c, ptrdiff_t ldc, double *w);
void ldm_linalg_reflect_columns(ptrdiff_t m, ptrdiff_t n, const double *v, double tau, double *c, ptrdiff_t ldc);
#endif
