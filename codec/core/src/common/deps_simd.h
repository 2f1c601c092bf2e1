/* Vector instructions; only where NNB_X86_DISPATCH or NNB_NEON. */
#ifndef NNB_DEPS_SIMD_H
#define NNB_DEPS_SIMD_H

#include "common/deps.h"

#if NNB_X86_DISPATCH
#include <immintrin.h>

#define NNB_AVX2 NNB_TARGET("avx2,bmi,bmi2,popcnt")
#define NNB_AVX2_INLINE static inline __attribute__((always_inline)) NNB_AVX2
#define NNB_AVX512 NNB_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,bmi,bmi2,popcnt")
#define NNB_AVX512_INLINE static inline __attribute__((always_inline)) NNB_AVX512
#endif

#if NNB_NEON
#include <arm_neon.h>
#endif

#endif
