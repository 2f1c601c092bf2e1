#include "dec/sparse_expand.h"

/* A word of up to 64 elements. */
NNB_INLINE const uint8_t *expand_word(uint64_t word, unsigned bits, size_t item_size, const uint8_t *values,
                                      uint8_t *dense) {
  if (word == ~UINT64_C(0)) {
    nnb_memcpy(dense, values, 64 * item_size);
    return values + 64 * item_size;
  }
  nnb_memset(dense, 0, bits * item_size);
  for (; word != 0; word &= word - 1, values += item_size) {
    nnb_memcpy(dense + nnb_lowest_bit(word) * item_size, values, item_size);
  }
  return values;
}

NNB_INLINE void expand_all(const uint8_t *words, uint64_t elements, size_t item_size, const uint8_t *values,
                           uint8_t *dense) {
  for (; elements >= 64; elements -= 64, words += 8, dense += 64 * item_size) {
    values = expand_word(nnb_load_le64(words), 64, item_size, values, dense);
  }
  if (elements != 0) expand_word(nnb_load_le64(words), (unsigned)elements, item_size, values, dense);
}

static void expand_portable(const uint8_t *words, uint64_t elements, size_t item_size, const uint8_t *values,
                            uint8_t *dense) {
  switch (item_size) { /* constants, for the compiler */
    case 1:
      expand_all(words, elements, 1, values, dense);
      break;
    case 2:
      expand_all(words, elements, 2, values, dense);
      break;
    case 4:
      expand_all(words, elements, 4, values, dense);
      break;
    case 8:
      expand_all(words, elements, 8, values, dense);
      break;
    default:
      expand_all(words, elements, 16, values, dense);
  }
}

void nnb_sparse_expand_with(nnb_simd simd, const uint8_t *words, uint64_t elements, size_t item_size,
                            const uint8_t *values, uint64_t value_count, uint8_t *dense) {
  uint64_t done = 0;
#if NNB_X86_DISPATCH
  const uint8_t *const end = values + value_count * item_size;
  if (simd == NNB_SIMD_AVX512) {
    done = nnb_sparse_expand_avx512(words, elements / 64, item_size, &values, end, dense);
  } else if (simd == NNB_SIMD_AVX2) {
    done = nnb_sparse_expand_avx2(words, elements / 64, item_size, &values, end, dense);
  }
#else
  (void)simd;
  (void)value_count;
#endif
  expand_portable(words + done * 8, elements - done * 64, item_size, values, dense + done * 64 * item_size);
}

nnb_status nnb_sparse_expand(const uint8_t *words, uint64_t elements, size_t item_size, const void *values,
                             uint64_t value_count, void *dense) {
  if (item_size == 0 || item_size > 16 || (item_size & (item_size - 1)) != 0) return NNB_BAD_TENSOR;
  if (elements > SIZE_MAX / item_size) return NNB_LIMIT;
  if (nnb_sparse_count(words, elements) != value_count) return NNB_SPARSE_MAP;
  if (elements % 64 != 0 && nnb_load_le64(words + elements / 64 * 8) >> (elements % 64) != 0) return NNB_SPARSE_MAP;
  nnb_sparse_expand_with(nnb_sparse_simd(), words, elements, item_size, values, value_count, dense);
  return NNB_OK;
}
