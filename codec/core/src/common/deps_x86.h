/* Vector instructions of x86 processors; only where NNB_X86_DISPATCH. */
#ifndef NNB_DEPS_X86_H
#define NNB_DEPS_X86_H

#include "common/deps.h"

#if NNB_X86_DISPATCH
#include <immintrin.h>

#define NNB_AVX512 NNB_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,bmi,bmi2,popcnt")
#define NNB_AVX512_INLINE static inline __attribute__((always_inline)) NNB_AVX512
#endif

#endif
