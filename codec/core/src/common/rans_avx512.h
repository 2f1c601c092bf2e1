/* What the rANS coder's AVX-512 paths share: look-ups in tables that lie in registers. */
#ifndef NNB_COMMON_RANS_AVX512_H
#define NNB_COMMON_RANS_AVX512_H

#include "common/deps_simd.h"
#include "common/rans.h"

#if NNB_X86_DISPATCH

/* A table of 16-bit values by row, at most 64. */
typedef struct nnb_words {
  __m512i part[2];
} nnb_words;

/* A table of bytes by row. */
typedef struct nnb_bytes {
  __m512i part[4];
} nnb_bytes;

/* States 0..31 or 32..63, in halves. */
typedef struct nnb_rans_lanes {
  __m512i low;
  __m512i high;
} nnb_rans_lanes;

NNB_AVX512_INLINE nnb_words nnb_load_words(const uint16_t *values) {
  return (nnb_words){{_mm512_loadu_si512(values), _mm512_loadu_si512(values + 32)}};
}

NNB_AVX512_INLINE nnb_bytes nnb_load_bytes(const uint8_t *values) {
  return (nnb_bytes){{_mm512_loadu_si512(values), _mm512_loadu_si512(values + 64), _mm512_loadu_si512(values + 128),
                      _mm512_loadu_si512(values + 192)}};
}

/* `rows`, here and below, is a constant: 32, 64, 128 or 256. */
NNB_AVX512_INLINE __m512i nnb_find_words(const nnb_words *table, __m512i row, int rows) {
  return rows <= 32 ? _mm512_permutexvar_epi16(row, table->part[0])
                    : _mm512_permutex2var_epi16(table->part[0], row, table->part[1]);
}

NNB_AVX512_INLINE __m512i nnb_find_bytes(const nnb_bytes *table, __m512i row, int rows) {
  if (rows <= 64) return _mm512_permutexvar_epi8(row, table->part[0]);
  const __m512i lower = _mm512_permutex2var_epi8(table->part[0], row, table->part[1]);
  if (rows <= 128) return lower;
  const __m512i upper = _mm512_permutex2var_epi8(table->part[2], row, table->part[3]);
  return _mm512_mask_mov_epi8(lower, _mm512_movepi8_mask(row), upper);
}

NNB_AVX512_INLINE nnb_rans_lanes nnb_rans_load_lanes(const uint32_t *states) {
  const __m512i lower = _mm512_loadu_si512(states);
  const __m512i upper = _mm512_loadu_si512(states + 16);
  const __m512i even = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28, 26, 24,
                                        22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i odd = _mm512_add_epi16(even, _mm512_set1_epi16(1));
  return (nnb_rans_lanes){_mm512_permutex2var_epi16(lower, even, upper), _mm512_permutex2var_epi16(lower, odd, upper)};
}

NNB_AVX512_INLINE void nnb_rans_store_lanes(uint32_t *states, nnb_rans_lanes lanes) {
  uint16_t low[32];
  uint16_t high[32];
  _mm512_storeu_si512(low, lanes.low);
  _mm512_storeu_si512(high, lanes.high);
  for (int i = 0; i < 32; i++) states[i] = (uint32_t)high[i] << 16 | low[i];
}

#endif

#endif
