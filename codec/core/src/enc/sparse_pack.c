#include "common/sparse.h"
#include "nnb/nnb_sparse_enc.h"

#if NNB_X86_DISPATCH
#include <immintrin.h>
#endif

NNB_INLINE uint64_t nonzero_word(const uint8_t *dense, unsigned count, size_t item_size) {
  uint64_t word = 0;
  for (unsigned i = 0; i < count; i++, dense += item_size) {
    uint64_t value = 0;
    if (item_size == 16) {
      uint64_t half;
      nnb_memcpy(&half, dense + 8, 8);
      nnb_memcpy(&value, dense, 8);
      value |= half;
    } else {
      nnb_memcpy(&value, dense, item_size);
    }
    word |= (uint64_t)(value != 0) << i;
  }
  return word;
}

NNB_INLINE void pack_word(uint64_t word, size_t item_size, const uint8_t *dense, uint8_t **values) {
  for (; word != 0; word &= word - 1, *values += item_size) {
    nnb_memcpy(*values, dense + nnb_lowest_bit(word) * item_size, item_size);
  }
}

static uint64_t nonzero_of_size(const uint8_t *dense, unsigned count, size_t item_size) {
  switch (item_size) { /* constants, for the compiler */
    case 1:
      return nonzero_word(dense, count, 1);
    case 2:
      return nonzero_word(dense, count, 2);
    case 4:
      return nonzero_word(dense, count, 4);
    case 8:
      return nonzero_word(dense, count, 8);
    default:
      return nonzero_word(dense, count, 16);
  }
}

static void pack_of_size(uint64_t word, size_t item_size, const uint8_t *dense, uint8_t **values) {
  switch (item_size) {
    case 1:
      pack_word(word, 1, dense, values);
      break;
    case 2:
      pack_word(word, 2, dense, values);
      break;
    case 4:
      pack_word(word, 4, dense, values);
      break;
    case 8:
      pack_word(word, 8, dense, values);
      break;
    default:
      pack_word(word, 16, dense, values);
  }
}

#if NNB_X86_DISPATCH
#define AVX512 NNB_TARGET("avx512f,avx512bw,avx512vbmi2,bmi,bmi2,popcnt")

static int has_avx512(void) {
  return nnb_cpu_has_bmi2() && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi2");
}

AVX512 NNB_INLINE __m512i load(const uint8_t *p) { return _mm512_loadu_si512((const void *)p); }
AVX512 NNB_INLINE void store(uint8_t *p, __m512i v) { _mm512_storeu_si512((void *)p, v); }

/* 64 elements of 1, 2, 4 or 8 bytes. */
AVX512 static uint64_t nonzero_avx512(const uint8_t *dense, size_t item_size) {
  uint64_t word = 0;
  for (unsigned i = 0, step = (unsigned)(64 / item_size); i < 64; i += step, dense += 64) {
    const __m512i v = load(dense);
    uint64_t bits;
    switch (item_size) {
      case 1:
        bits = _mm512_test_epi8_mask(v, v);
        break;
      case 2:
        bits = _mm512_test_epi16_mask(v, v);
        break;
      case 4:
        bits = _mm512_test_epi32_mask(v, v);
        break;
      default:
        bits = _mm512_test_epi64_mask(v, v);
    }
    word |= bits << i;
  }
  return word;
}

/* Writes up to 64 bytes behind the values. */
AVX512 static uint8_t *pack_avx512(uint64_t word, size_t item_size, const uint8_t *dense, uint8_t *values) {
  for (unsigned i = 0, step = (unsigned)(64 / item_size); i < 64; i += step, dense += 64) {
    const uint64_t bits = word >> i;
    __m512i v = load(dense);
    unsigned count;
    switch (item_size) {
      case 1:
        v = _mm512_maskz_compress_epi8(bits, v);
        count = nnb_popcount(bits);
        break;
      case 2:
        v = _mm512_maskz_compress_epi16((__mmask32)bits, v);
        count = nnb_popcount(bits & 0xFFFFFFFFu);
        break;
      case 4:
        v = _mm512_maskz_compress_epi32((__mmask16)bits, v);
        count = nnb_popcount(bits & 0xFFFF);
        break;
      default:
        v = _mm512_maskz_compress_epi64((__mmask8)bits, v);
        count = nnb_popcount(bits & 0xFF);
    }
    store(values, v);
    values += count * item_size;
  }
  return values;
}
#endif

uint64_t nnb_sparse_nonzero(const void *dense, uint64_t elements, size_t item_size, uint8_t *words) {
  uint64_t count = 0;
#if NNB_X86_DISPATCH
  const int fast = item_size < 16 && has_avx512();
#endif
  for (uint64_t i = 0; i < elements; i += 64, words += 8) {
    const uint8_t *const from = (const uint8_t *)dense + i * item_size;
    const unsigned n = elements - i < 64 ? (unsigned)(elements - i) : 64;
    uint64_t word;
#if NNB_X86_DISPATCH
    if (fast && n == 64) {
      word = nonzero_avx512(from, item_size);
    } else
#endif
    {
      word = nonzero_of_size(from, n, item_size);
    }
    nnb_store_le64(words, word);
    count += nnb_popcount(word);
  }
  return count;
}

void nnb_sparse_pack(const uint8_t *words, uint64_t elements, size_t item_size, const void *dense, void *values) {
  uint8_t *to = values;
#if NNB_X86_DISPATCH
  const int fast = item_size < 16 && has_avx512();
  const uint8_t *const end = to + nnb_sparse_count(words, elements) * item_size;
#endif
  for (uint64_t i = 0; i < elements; i += 64, words += 8) {
    const uint8_t *const from = (const uint8_t *)dense + i * item_size;
    const uint64_t word = nnb_load_le64(words);
    if (word == 0) continue;
#if NNB_X86_DISPATCH
    if (fast && elements - i >= 64 && (size_t)(end - to) >= nnb_popcount(word) * item_size + 64) {
      to = pack_avx512(word, item_size, from, to);
      continue;
    }
#endif
    pack_of_size(word, item_size, from, &to);
  }
}
