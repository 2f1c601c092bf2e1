#include "dec/sparse_expand.h"

#if NNB_X86_DISPATCH
#include <immintrin.h>

#define AVX2 NNB_TARGET("avx2,bmi,bmi2,popcnt")
#define AVX512 NNB_TARGET("avx512f,avx512bw,avx512vbmi2,bmi,bmi2,popcnt")
#define EVERY_BYTE UINT64_C(0x0101010101010101)

/* A load of 64 bytes at any value of the word stays in bounds. */
NNB_INLINE int has_room(const uint8_t *values, const uint8_t *end, size_t size) {
  return (size_t)(end - values) >= size + 64;
}

/* Eight 32-bit lanes. */
AVX2 NNB_INLINE void expand_lanes(unsigned mask, const uint8_t *values, uint8_t *dense) {
  const uint64_t bytes = _pdep_u64(mask, EVERY_BYTE) * 255;
  const uint64_t order = _pdep_u64(UINT64_C(0x0706050403020100), bytes);
  const __m256i from = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)order));
  const __m256i keep = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128((long long)bytes));
  const __m256i lanes = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i *)(const void *)values), from);
  _mm256_storeu_si256((__m256i *)(void *)dense, _mm256_and_si256(lanes, keep));
}

/* `each`: a bit in every place of the elements in 8 bytes; `ones`: an element of ones. */
AVX2 NNB_INLINE const uint8_t *expand_bytes(uint64_t word, unsigned item_size, uint64_t each, uint64_t ones,
                                            const uint8_t *values, uint8_t *dense) {
  const unsigned items = 8 / item_size;
  for (unsigned i = 0; i < 64; i += items, word >>= items, dense += 8) {
    const uint64_t mask = word & ((1u << items) - 1);
    uint64_t source;
    nnb_memcpy(&source, values, 8);
    source = _pdep_u64(source, _pdep_u64(mask, each) * ones);
    nnb_memcpy(dense, &source, 8);
    values += nnb_popcount(mask) * item_size;
  }
  return values;
}

AVX2 uint64_t nnb_sparse_expand_avx2(const uint8_t *words, uint64_t count, size_t item_size, const uint8_t **values,
                                     const uint8_t *end, uint8_t *dense) {
  const uint8_t *from = *values;
  uint64_t done = 0;
  for (; item_size < 16 && done < count; done++, dense += 64 * item_size) {
    uint64_t word;
    nnb_memcpy(&word, words + done * 8, 8);
    if (word == 0) {
      nnb_memset(dense, 0, 64 * item_size);
      continue;
    }
    if (!has_room(from, end, nnb_popcount(word) * item_size)) break;
    switch (item_size) {
      case 1:
        from = expand_bytes(word, 1, EVERY_BYTE, 0xFF, from, dense);
        break;
      case 2:
        from = expand_bytes(word, 2, UINT64_C(0x0001000100010001), 0xFFFF, from, dense);
        break;
      case 4:
        for (unsigned i = 0; i < 64; i += 8) {
          const unsigned mask = (unsigned)(word >> i) & 255;
          expand_lanes(mask, from, dense + 4 * i);
          from += nnb_popcount(mask) * 4;
        }
        break;
      default:
        for (unsigned i = 0; i < 64; i += 4) {
          const unsigned mask = (unsigned)(word >> i) & 15;
          expand_lanes((unsigned)_pdep_u64(mask, 0x55) * 3, from, dense + 8 * i);
          from += nnb_popcount(mask) * 8;
        }
    }
  }
  *values = from;
  return done;
}

AVX512 NNB_INLINE __m512i load(const uint8_t *p) { return _mm512_loadu_si512((const void *)p); }
AVX512 NNB_INLINE void store(uint8_t *p, __m512i v) { _mm512_storeu_si512((void *)p, v); }

AVX512 uint64_t nnb_sparse_expand_avx512(const uint8_t *words, uint64_t count, size_t item_size, const uint8_t **values,
                                         const uint8_t *end, uint8_t *dense) {
  const uint8_t *from = *values;
  uint64_t done = 0;
  for (; item_size < 16 && done < count; done++, dense += 64 * item_size) {
    uint64_t word;
    nnb_memcpy(&word, words + done * 8, 8);
    if (word == 0) {
      for (size_t i = 0; i < item_size; i++) store(dense + 64 * i, _mm512_setzero_si512());
      continue;
    }
    if (!has_room(from, end, nnb_popcount(word) * item_size)) break;
    switch (item_size) {
      case 1:
        store(dense, _mm512_maskz_expand_epi8(word, load(from)));
        from += nnb_popcount(word);
        break;
      case 2:
        for (unsigned i = 0; i < 64; i += 32) {
          const __mmask32 mask = (__mmask32)(word >> i);
          store(dense + 2 * i, _mm512_maskz_expand_epi16(mask, load(from)));
          from += nnb_popcount(mask) * 2;
        }
        break;
      case 4:
        for (unsigned i = 0; i < 64; i += 16) {
          const __mmask16 mask = (__mmask16)(word >> i);
          store(dense + 4 * i, _mm512_maskz_expand_epi32(mask, load(from)));
          from += nnb_popcount(mask) * 4;
        }
        break;
      default:
        for (unsigned i = 0; i < 64; i += 8) {
          const __mmask8 mask = (__mmask8)(word >> i);
          store(dense + 8 * i, _mm512_maskz_expand_epi64(mask, load(from)));
          from += nnb_popcount(mask) * 8;
        }
    }
  }
  *values = from;
  return done;
}

AVX512 uint32_t *nnb_sparse_columns_avx512(uint64_t word, uint32_t column, uint32_t *to) {
  const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (unsigned i = 0; i < 64; i += 16) {
    const __mmask16 mask = (__mmask16)(word >> i);
    const __m512i places = _mm512_add_epi32(first, _mm512_set1_epi32((int)(column + i)));
    store((uint8_t *)to, _mm512_maskz_compress_epi32(mask, places));
    to += nnb_popcount(mask);
  }
  return to;
}
#endif
