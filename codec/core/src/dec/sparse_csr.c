#include "dec/sparse_expand.h"

NNB_INLINE void store_index(void *to, size_t i, size_t index_size, uint64_t value) {
  if (index_size == 4) {
    ((uint32_t *)to)[i] = (uint32_t)value;
  } else {
    ((uint64_t *)to)[i] = value;
  }
}

NNB_INLINE uint64_t count_bits(const uint8_t *words, uint64_t position, uint64_t bits) {
  uint64_t count = 0;
  for (; bits >= 64; bits -= 64, position += 64) count += nnb_popcount(nnb_get_bits(words, position, 64));
  return bits != 0 ? count + nnb_popcount(nnb_get_bits(words, position, (unsigned)bits)) : count;
}

NNB_INLINE void columns_portable(const uint8_t *words, uint64_t rows, uint64_t columns, size_t index_size, void *to) {
  size_t used = 0;
  for (uint64_t row = 0; row < rows; row++) {
    for (uint64_t column = 0; column < columns; column += 64) {
      const uint64_t left = columns - column;
      uint64_t word = nnb_get_bits(words, row * columns + column, left < 64 ? (unsigned)left : 64);
      for (; word != 0; word &= word - 1) store_index(to, used++, index_size, column + nnb_lowest_bit(word));
    }
  }
}

#if NNB_X86_DISPATCH
static void columns_avx512(const uint8_t *words, uint64_t rows, uint64_t columns, uint32_t *to, uint64_t value_count) {
  const uint32_t *const end = to + value_count;
  for (uint64_t row = 0; row < rows; row++) {
    for (uint64_t column = 0; column < columns; column += 64) {
      const uint64_t left = columns - column;
      uint64_t word = nnb_get_bits(words, row * columns + column, left < 64 ? (unsigned)left : 64);
      if (end - to >= 80) {
        to = nnb_sparse_columns_avx512(word, (uint32_t)column, to);
      } else {
        for (; word != 0; word &= word - 1) *to++ = (uint32_t)column + nnb_lowest_bit(word);
      }
    }
  }
}
#endif

void nnb_sparse_columns_with(nnb_simd simd, const uint8_t *words, uint64_t rows, uint64_t columns, size_t index_size,
                             void *column_indices, uint64_t value_count) {
#if NNB_X86_DISPATCH
  if (simd == NNB_SIMD_AVX512 && index_size == 4) {
    columns_avx512(words, rows, columns, column_indices, value_count);
    return;
  }
#else
  (void)simd;
  (void)value_count;
#endif
  if (index_size == 4) {
    columns_portable(words, rows, columns, 4, column_indices);
  } else {
    columns_portable(words, rows, columns, 8, column_indices);
  }
}

void nnb_sparse_csr(const uint8_t *words, uint64_t rows, uint64_t columns, size_t index_size, void *row_starts,
                    void *column_indices) {
  if (row_starts != NULL) {
    uint64_t start = 0;
    for (uint64_t row = 0; row < rows; row++) {
      store_index(row_starts, (size_t)row, index_size, start);
      start += count_bits(words, row * columns, columns);
    }
    store_index(row_starts, (size_t)rows, index_size, start);
  }
  if (column_indices != NULL) {
    nnb_sparse_columns_with(nnb_sparse_simd(), words, rows, columns, index_size, column_indices,
                            nnb_sparse_count(words, rows * columns));
  }
}
