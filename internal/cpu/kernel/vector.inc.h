// The vocabulary of the vector code. The including target defines
//   VL    lanes of a float vector
//   MR    rows of the product tile; its columns are two vectors
//   BF16  0 none, 1 emulated, 2 the AVX512_BF16 instruction
#include "pool.h"
#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define NR (2 * VL)
#define INLINE inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 32")

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef float vf_mem __attribute__((vector_size(VL * 4), aligned(4), may_alias)); // anywhere in memory
typedef int32_t vi_mem __attribute__((vector_size(VL * 4), aligned(4), may_alias));

static INLINE vf load(const float *p) { return *(const vf_mem *)p; }
static INLINE void store(float *p, vf v) { *(vf_mem *)p = v; }
static INLINE vf splat(float x) { return x - (vf){0}; }

// The first n lanes; the others read as zero and are not written.
#if VL == 16 && defined(__AVX512F__)
static INLINE __mmask16 first_lanes(long n) {
	return _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(n), (__m512i)(vi){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15});
}
static INLINE vf load_n(const float *p, long n) { return n >= VL ? load(p) : (vf)_mm512_maskz_loadu_ps(first_lanes(n), p); }
static INLINE void store_n(float *p, vf v, long n) {
	if (n >= VL) store(p, v);
	else _mm512_mask_storeu_ps(p, first_lanes(n), (__m512)v);
}
#else
static INLINE vf load_n(const float *p, long n) {
	if (n >= VL) return load(p);
#if VL == 8 && defined(__AVX2__)
	return (vf)_mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), (__m256i)(vi){0, 1, 2, 3, 4, 5, 6, 7}));
#else
	vf v = {0};
	for (long i = 0; i < n; i++) ((float *)&v)[i] = p[i];
	return v;
#endif
}

static INLINE void store_n(float *p, vf v, long n) {
	if (n >= VL) {
		store(p, v);
		return;
	}
	for (long i = 0; i < n; i++) p[i] = ((float *)&v)[i];
}
#endif

static INLINE vf choose(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }

// The larger and the smaller; the second operand when either is NaN.
#if VL == 16 && defined(__AVX512F__)
static INLINE vf vmax(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
static INLINE vf vmin(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#elif VL == 8 && defined(__AVX2__)
static INLINE vf vmax(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
static INLINE vf vmin(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
#elif VL == 4 && defined(__SSE2__)
static INLINE vf vmax(vf a, vf b) { return (vf)_mm_max_ps((__m128)a, (__m128)b); }
static INLINE vf vmin(vf a, vf b) { return (vf)_mm_min_ps((__m128)a, (__m128)b); }
#else
static INLINE vf vmax(vf a, vf b) { return choose(a > b, a, b); }
static INLINE vf vmin(vf a, vf b) { return choose(a < b, a, b); }
#endif

// Lane i gets the value of lane i xor w.
#if VL == 16
#define SWAP_8(v) __builtin_shuffle(v, (vi){8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7})
#define SWAP_4(v) __builtin_shuffle(v, (vi){4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11})
#define SWAP_2(v) __builtin_shuffle(v, (vi){2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13})
#define SWAP_1(v) __builtin_shuffle(v, (vi){1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14})
#elif VL == 8
#define SWAP_4(v) __builtin_shuffle(v, (vi){4, 5, 6, 7, 0, 1, 2, 3})
#define SWAP_2(v) __builtin_shuffle(v, (vi){2, 3, 0, 1, 6, 7, 4, 5})
#define SWAP_1(v) __builtin_shuffle(v, (vi){1, 0, 3, 2, 5, 4, 7, 6})
#else
#define SWAP_2(v) __builtin_shuffle(v, (vi){2, 3, 0, 1})
#define SWAP_1(v) __builtin_shuffle(v, (vi){1, 0, 3, 2})
#endif

static INLINE float sum_lanes(vf v) {
#if VL == 16
	v += SWAP_8(v);
#endif
#if VL >= 8
	v += SWAP_4(v);
#endif
	v += SWAP_2(v);
	v += SWAP_1(v);
	return v[0];
}

static INLINE float max_lanes(vf v) {
#if VL == 16
	v = vmax(v, SWAP_8(v));
#endif
#if VL >= 8
	v = vmax(v, SWAP_4(v));
#endif
	v = vmax(v, SWAP_2(v));
	v = vmax(v, SWAP_1(v));
	return v[0];
}

// d[c][r] = s[r][c] for r < rows and c < cols.
static INLINE void transpose_small(const float *s, long lds, long rows, long cols, float *d, long ldd) {
	for (long c = 0; c < cols; c++)
		for (long r = 0; r < rows; r++) d[c * ldd + r] = s[r * lds + c];
}

#if VL >= 8
// The same for 8 x 8.
static INLINE void transpose_8x8(const float *s, long lds, float *d, long ldd) {
	__m256 r[8], t[8];
	UNROLL for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(s + i * lds);
	UNROLL for (int i = 0; i < 4; i++) {
		t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
		t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
	}
	UNROLL for (int i = 0; i < 2; i++) UNROLL for (int k = 0; k < 2; k++) {
		r[4 * i + 2 * k] = _mm256_shuffle_ps(t[4 * i + k], t[4 * i + 2 + k], 0x44);
		r[4 * i + 2 * k + 1] = _mm256_shuffle_ps(t[4 * i + k], t[4 * i + 2 + k], 0xee);
	}
	UNROLL for (int i = 0; i < 4; i++) {
		_mm256_storeu_ps(d + i * ldd, _mm256_permute2f128_ps(r[i], r[4 + i], 0x20));
		_mm256_storeu_ps(d + (4 + i) * ldd, _mm256_permute2f128_ps(r[i], r[4 + i], 0x31));
	}
}
#endif

static INLINE void transpose_block(const float *s, long lds, long rows, long cols, float *d, long ldd) {
#if VL >= 8
	long r8 = rows & ~7L, c8 = cols & ~7L;
	for (long r = 0; r < r8; r += 8)
		for (long c = 0; c < c8; c += 8) transpose_8x8(s + r * lds + c, lds, d + c * ldd + r, ldd);
	transpose_small(s + c8, lds, r8, cols - c8, d + c8 * ldd, ldd);
	transpose_small(s + r8 * lds, lds, rows - r8, cols, d + r8, ldd);
#else
	transpose_small(s, lds, rows, cols, d, ldd);
#endif
}

// 2^z: z is split into the nearest integer, which goes to the exponent, and a rest for which a polynomial serves (the Taylor
// polynomial of degree 7, error below 1e-8 for |rest| <= 1/2). Below -126 the result is 2^-126, from 128 on infinity.
static INLINE vf exp2_v(vf z) {
	z = vmax(splat(-126.0f), vmin(splat(128.0f), z));
	const vf magic = splat(12582912.0f); // 1.5 * 2^23: adding it rounds to an integer
	vf m = z + magic, f = z - (m - magic);
	vf p = splat(1.525273380405984e-5f);
	p = p * f + 1.540353039338161e-4f;
	p = p * f + 1.333355814642844e-3f;
	p = p * f + 9.618129107628477e-3f;
	p = p * f + 5.550410866482158e-2f;
	p = p * f + 2.402265069591007e-1f;
	p = p * f + 6.931471805599453e-1f;
	p = p * f + 1.0f;
	vi n = (vi)m - 0x4b400000; // the integer
	return p * (vf)((n + 127) << 23);
}

// e^x: the product with log2(e) is split in two, so that its rounding does not grow with x.
static INLINE vf exp_v(vf x) {
	x = vmax(splat(-87.3f), vmin(splat(88.8f), x));
	const vf magic = splat(12582912.0f);
	vf m = x * 1.44269504088896341f + magic, n = m - magic;
	vf f = x - n * 0.693359375f;
	f = f + n * 2.12194440054690583e-4f; // ln 2 = 0.693359375 - 0.000212...
	vf p = splat(1.98412698e-4f);
	p = p * f + 1.38888889e-3f;
	p = p * f + 8.33333333e-3f;
	p = p * f + 4.16666667e-2f;
	p = p * f + 1.66666667e-1f;
	p = p * f + 0.5f;
	p = p * f + 1.0f;
	p = p * f + 1.0f;
	return p * (vf)(((vi)m - 0x4b400000 + 127) << 23);
}

static INLINE vf silu_v(vf x) { return x / (exp_v(-x) + 1.0f); }

// Phi(x) and e^(-x^2/2): Phi from erfc(z) = e^(-z^2) t P(t), t = 1 / (1 + 0.3 z), z = |x| / sqrt(2). P is a minimax fit of the scaled
// complementary error function over z in 0..9.4.
static INLINE vf normal_v(vf x, vf *e) {
	vf z = (vf)((vi)x & 0x7fffffff) * 0.70710678118654752f;
	vf t = 1.0f / (z * 0.3f + 1.0f);
	vf p = splat(-0.1294069365862437f);
	p = p * t + 0.4849536117445006f;
	p = p * t - 0.5109040954525351f;
	p = p * t + 0.5459881668252886f;
	p = p * t - 0.09331753256846768f;
	p = p * t + 0.21428520311071886f;
	p = p * t + 0.14852673884961662f;
	p = p * t + 0.1706847087628789f;
	p = p * t + 0.16919011591186342f;
	*e = exp_v(-z * z);
	vf q = 0.5f * p * t * *e; // Phi(-|x|)
	return choose(x < 0.0f, q, 1.0f - q);
}

static INLINE vf gelu_v(vf x) {
	vf e;
	return x * normal_v(x, &e);
}

static INLINE vf relu_v(vf x) { return choose(x < 0.0f, splat(0.0f), x); } // NaN stays NaN

enum { act_none, act_silu, act_gelu, act_relu };

static INLINE vf act_v(int act, vf x) {
	if (act == act_silu) return silu_v(x);
	if (act == act_gelu) return gelu_v(x);
	if (act == act_relu) return relu_v(x);
	return x;
}

#if BF16
// Each lane rounded to the nearest bf16 (ties to even), in the upper half of the lane.
static INLINE vi round_bf16(vf x) {
	vu u = (vu)x;
	vu r = (u + 0x7fff + ((u >> 16) & 1)) & 0xffff0000;
	vi nan = (vi)(x != x);
	return (vi)((r & ~(vu)nan) | (0x7fc00000 & (vu)nan));
}

// Pairs (lo, hi) of bf16, one pair a lane.
static INLINE vi pair_bf16(vf lo, vf hi) { return (vi)((vu)round_bf16(lo) >> 16) | round_bf16(hi); }

static INLINE uint32_t round_bf16_1(float x) {
	uint32_t u;
	memcpy(&u, &x, 4);
	return x != x ? 0x7fc0 : (u + 0x7fff + ((u >> 16) & 1)) >> 16;
}

static INLINE vf dot_bf16(vf acc, vi a, vi b) {
#if BF16 == 2
	return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
#else
	acc += (vf)(a & (int32_t)0xffff0000) * (vf)(b & (int32_t)0xffff0000);
	return acc + (vf)(a << 16) * (vf)(b << 16);
#endif
}
#endif
