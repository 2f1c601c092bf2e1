/* Expansion by what the processor can do; all levels give the same result. */
#ifndef NNB_DEC_SPARSE_EXPAND_H
#define NNB_DEC_SPARSE_EXPAND_H

#include "common/sparse.h"

typedef enum { NNB_SIMD_NONE, NNB_SIMD_AVX2, NNB_SIMD_AVX512 } nnb_simd;

/* The best level of this processor for sparse maps. */
NNB_INLINE nnb_simd nnb_sparse_simd(void) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) {
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi2") ? NNB_SIMD_AVX512
                                                                                       : NNB_SIMD_AVX2;
  }
#endif
  return NNB_SIMD_NONE;
}

/* nnb_sparse_expand() without its checks. */
void nnb_sparse_expand_with(nnb_simd simd, const uint8_t *words, uint64_t elements, size_t item_size,
                            const uint8_t *values, uint64_t value_count, uint8_t *dense);

/* nnb_sparse_csr()'s columns. */
void nnb_sparse_columns_with(nnb_simd simd, const uint8_t *words, uint64_t rows, uint64_t columns, size_t index_size,
                             void *column_indices, uint64_t value_count);

#if NNB_X86_DISPATCH
/* As many whole words as can be expanded without reading behind the values. Returns how many; *values advances. */
uint64_t nnb_sparse_expand_avx2(const uint8_t *words, uint64_t count, size_t item_size, const uint8_t **values,
                                const uint8_t *end, uint8_t *dense);
uint64_t nnb_sparse_expand_avx512(const uint8_t *words, uint64_t count, size_t item_size, const uint8_t **values,
                                  const uint8_t *end, uint8_t *dense);
/* Columns of a word's bits, with room for 16 more behind them. */
uint32_t *nnb_sparse_columns_avx512(uint64_t word, uint32_t column, uint32_t *to);
#endif

#endif
