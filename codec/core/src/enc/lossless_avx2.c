/* Inner loops of the encoder with AVX2. Coding FLOAT: 32 items of 2 or 4 bytes at a time; compilers shift 16-bit
 * numbers as 32-bit ones. */
#include "common/deps_simd.h"
#include "enc/lossless.h"

#if NNB_X86_DISPATCH

NNB_AVX2_INLINE __m256i load(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }

NNB_AVX2_INLINE void store(uint8_t *p, __m256i v) { _mm256_storeu_si256((__m256i *)(void *)p, v); }

NNB_AVX2_INLINE __m128i shift_by(unsigned bits) { return _mm_cvtsi32_si128((int)bits); }

NNB_AVX2_INLINE size_t count_zeros(__m256i bytes) {
  return (size_t)_mm_popcnt_u32((unsigned)_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, _mm256_setzero_si256())));
}

NNB_AVX2_INLINE size_t symbols_16(const uint8_t *v, size_t count, unsigned shift, uint32_t base, uint8_t *symbols,
                                  size_t *zeros) {
  const __m256i magnitude = _mm256_set1_epi16(0x7fff), less = _mm256_set1_epi16((short)base);
  const __m128i by = shift_by(shift);
  size_t i = 0, found = 0;
  for (; i + 32 <= count; i += 32, v += 64) {
    __m256i x[2];
    for (unsigned k = 0; k < 2; k++)
      x[k] = _mm256_subs_epu16(_mm256_srl_epi16(_mm256_and_si256(load(v + 32 * k), magnitude), by), less);
    const __m256i all = _mm256_packus_epi16(x[0], x[1]);
    found += count_zeros(all);
    store(symbols + i, _mm256_permute4x64_epi64(all, 0xD8));
  }
  *zeros = found;
  return i;
}

NNB_AVX2_INLINE size_t symbols_32(const uint8_t *v, size_t count, unsigned shift, uint32_t base, uint8_t *symbols,
                                  size_t *zeros) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff), less = _mm256_set1_epi16((short)base);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m128i by = shift_by(shift);
  size_t i = 0, found = 0;
  for (; i + 32 <= count; i += 32, v += 128) {
    __m256i x[4];
    for (unsigned k = 0; k < 4; k++) x[k] = _mm256_srl_epi32(_mm256_and_si256(load(v + 32 * k), magnitude), by);
    for (unsigned k = 0; k < 2; k++) x[k] = _mm256_subs_epu16(_mm256_packus_epi32(x[2 * k], x[2 * k + 1]), less);
    const __m256i all = _mm256_packus_epi16(x[0], x[1]);
    found += count_zeros(all);
    store(symbols + i, _mm256_permutevar8x32_epi32(all, order));
  }
  *zeros = found;
  return i;
}

NNB_AVX2 size_t nnb_float_symbols_avx2(const nnb_items *items, const void *values, size_t count, unsigned shift,
                                       uint32_t base, uint8_t *symbols, size_t *zeros) {
  *zeros = 0;
  if (items->bytes == 2) return symbols_16(values, count, shift, base, symbols, zeros);
  return items->bytes == 4 ? symbols_32(values, count, shift, base, symbols, zeros) : 0;
}

/* Shuffles find 16 values a time; magnitudes below these, which are negative then, find 0, and those above what all
 * parts up to theirs give together. */
NNB_AVX2 size_t nnb_measure_bytes_avx2(const uint8_t *values, size_t count, const uint8_t *table, uint16_t *measures) {
  __m256i part[8];
  for (unsigned k = 0; k < 8; k++) {
    uint8_t differences[16];
    for (unsigned i = 0; i < 16; i++) differences[i] = (uint8_t)(table[16 * k + i] ^ (k ? table[16 * k + i - 16] : 0));
    part[k] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)differences));
  }
  const __m256i sixteen = _mm256_set1_epi8(16), zero = _mm256_setzero_si256();
  size_t i = 0;
  for (; i + 32 <= count; i += 32) {
    __m256i magnitude = _mm256_min_epu8(_mm256_abs_epi8(load(values + i)), _mm256_set1_epi8(127)), found = zero;
    for (unsigned k = 0; k < 8; k++) {
      found = _mm256_xor_si256(found, _mm256_shuffle_epi8(part[k], magnitude));
      magnitude = _mm256_sub_epi8(magnitude, sixteen);
    }
    found = _mm256_permute4x64_epi64(found, 0xD8);
    store((uint8_t *)(measures + i), _mm256_unpacklo_epi8(found, zero));
    store((uint8_t *)(measures + i + 16), _mm256_unpackhi_epi8(found, zero));
  }
  return i;
}

/* Packs fields of `bits` bits: pairs, fours and eights of them are joined by multiplications and shifts. */
typedef struct packing {
  __m256i pairs, fours, places;
  __m128i up;
} packing;

NNB_AVX2_INLINE packing packing_of(unsigned bits) {
  uint8_t places[16];
  for (unsigned i = 0; i < 16; i++) places[i] = (uint8_t)(i < 2 * bits ? i / bits * 8 + i % bits : 0x80);
  const __m128i lane = _mm_loadu_si128((const __m128i *)(const void *)places);
  return (packing){_mm256_set1_epi16((short)(1u | 1u << (8 + bits))),
                   _mm256_set1_epi32((int)(1u | 1u << (16 + 2 * bits))), _mm256_broadcastsi128_si256(lane),
                   shift_by(4 * bits)};
}

/* 4 * bits bytes; writes beyond these up to 16 behind 2 * bits. */
NNB_AVX2_INLINE void pack(const packing *p, __m256i fields, unsigned bits, uint8_t *out) {
  const __m256i four = _mm256_madd_epi16(_mm256_maddubs_epi16(p->pairs, fields), p->fours);
  const __m256i upper = _mm256_sll_epi64(_mm256_srli_epi64(four, 32), p->up);
  const __m256i lower = _mm256_blend_epi32(four, _mm256_setzero_si256(), 0xAA);
  const __m256i packed = _mm256_shuffle_epi8(_mm256_or_si256(lower, upper), p->places);
  _mm_storeu_si128((__m128i *)(void *)out, _mm256_castsi256_si128(packed));
  _mm_storeu_si128((__m128i *)(void *)(out + 2 * bits), _mm256_extracti128_si256(packed, 1));
}

/* How many of `count` items can be packed 32 at a time without writing beyond the field. */
NNB_AVX2_INLINE size_t packable(size_t count, unsigned bits) {
  const size_t size = (count * bits + 7) / 8, last = 2 * (size_t)bits + 16;
  if (bits == 0) return count & ~(size_t)31;
  const size_t groups = size < last ? 0 : (size - last) / (4 * (size_t)bits) + 1;
  return (groups < count / 32 ? groups : count / 32) * 32;
}

NNB_AVX2_INLINE size_t lows_16(const uint8_t *v, size_t count, nnb_division d, uint8_t *field, uint8_t *const *bytes) {
  const __m256i bit = _mm256_set1_epi16((short)(1u << d.shift)), low = _mm256_set1_epi16(255);
  const __m256i lower = _mm256_set1_epi16((short)((1u << d.shift) - 1u));
  const __m128i down = shift_by(15 - d.shift);
  const packing p = packing_of(d.field ? d.field : 1);
  const size_t whole = packable(count, d.field);
  for (size_t i = 0; i < whole; i += 32, v += 64) {
    __m256i rest[2];
    for (unsigned k = 0; k < 2; k++) {
      const __m256i x = load(v + 32 * k);
      rest[k] = _mm256_or_si256(_mm256_and_si256(x, lower), _mm256_and_si256(_mm256_srl_epi16(x, down), bit));
    }
    if (d.bytes) {
      const __m256i some = _mm256_packus_epi16(_mm256_and_si256(rest[0], low), _mm256_and_si256(rest[1], low));
      store(bytes[0] + i, _mm256_permute4x64_epi64(some, 0xD8));
      for (unsigned k = 0; k < 2; k++) rest[k] = _mm256_srli_epi16(rest[k], 8);
    }
    if (d.field) {
      const __m256i fields = _mm256_permute4x64_epi64(_mm256_packus_epi16(rest[0], rest[1]), 0xD8);
      pack(&p, fields, d.field, field + i / 8 * d.field);
    }
  }
  return whole;
}

NNB_AVX2_INLINE size_t lows_32(const uint8_t *v, size_t count, nnb_division d, uint8_t *field, uint8_t *const *bytes) {
  const __m256i bit = _mm256_set1_epi32((int)(1u << d.shift));
  const __m256i lower = _mm256_set1_epi32((int)((1u << d.shift) - 1u));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i transposed =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const __m128i down = shift_by(31 - d.shift);
  const packing p = packing_of(d.field ? d.field : 1);
  const size_t whole = packable(count, d.field);
  for (size_t i = 0; i < whole; i += 32, v += 128) {
    __m256i rest[4];
    for (unsigned k = 0; k < 4; k++) {
      const __m256i x = load(v + 32 * k);
      const __m256i r = _mm256_or_si256(_mm256_and_si256(x, lower), _mm256_and_si256(_mm256_srl_epi32(x, down), bit));
      rest[k] = _mm256_shuffle_epi8(r, transposed);
    }
    const __m256i first[2] = {_mm256_unpacklo_epi32(rest[0], rest[1]), _mm256_unpacklo_epi32(rest[2], rest[3])};
    const __m256i last[2] = {_mm256_unpackhi_epi32(rest[0], rest[1]), _mm256_unpackhi_epi32(rest[2], rest[3])};
    store(bytes[0] + i, _mm256_permutevar8x32_epi32(_mm256_unpacklo_epi64(first[0], first[1]), order));
    store(bytes[1] + i, _mm256_permutevar8x32_epi32(_mm256_unpackhi_epi64(first[0], first[1]), order));
    const __m256i third = _mm256_permutevar8x32_epi32(_mm256_unpacklo_epi64(last[0], last[1]), order);
    if (d.field)
      pack(&p, third, d.field, field + i / 8 * d.field);
    else
      store(bytes[2] + i, third);
  }
  return whole;
}

NNB_AVX2 size_t nnb_float_lows_avx2(const nnb_items *items, const void *values, size_t count, nnb_division division,
                                    uint8_t *field, uint8_t *const *bytes) {
  if (items->bytes == 2) return lows_16(values, count, division, field, bytes);
  return items->bytes == 4 ? lows_32(values, count, division, field, bytes) : 0;
}

/* A number is one of half the width if it comes back; others, and those that are not numbers, are left. */
NNB_TARGET("avx2,bmi,bmi2,popcnt,f16c") size_t nnb_narrow_avx2(const void *values, size_t count, nnb_any16 *narrow) {
  const uint8_t *v = values;
  size_t i = 0;
  for (; i + 8 <= count; i += 8, v += 32) {
    const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)v);
    const __m128i half = _mm256_cvtps_ph(_mm256_castsi256_ps(x), _MM_FROUND_TO_NEAREST_INT);
    const __m256i same = _mm256_cmpeq_epi32(_mm256_castps_si256(_mm256_cvtph_ps(half)), x);
    if (_mm256_movemask_epi8(same) != -1) break;
    _mm_storeu_si128((__m128i *)(void *)(narrow + i), half);
  }
  return i;
}

/* Bytes at the places that a mask of bytes says; up to 8 more are overwritten. */
NNB_TARGET("avx2,bmi2,popcnt") NNB_INLINE void put(uint8_t **to, uint64_t eight, uint64_t mask) {
  const uint64_t found = _pext_u64(eight, mask);
  nnb_memcpy(*to, &found, 8);
  *to += (size_t)_mm_popcnt_u64(mask) / 8;
}

NNB_TARGET("avx2,bmi2,popcnt")
size_t nnb_part_avx2(const uint8_t *symbols, const uint8_t *bytes, size_t count, unsigned limit, uint8_t **below,
                     uint8_t **others) {
  const __m128i last = _mm_set1_epi8((char)(limit - 1));
  uint8_t *first = *below, *second = *others;
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m128i some = _mm_loadu_si128((const __m128i *)(const void *)(symbols + i));
    const __m128i is_below = _mm_cmpeq_epi8(_mm_min_epu8(some, last), some);
    const uint64_t masks[2] = {(uint64_t)_mm_cvtsi128_si64(is_below), (uint64_t)_mm_extract_epi64(is_below, 1)};
    uint64_t eight[2];
    nnb_memcpy(eight, bytes + i, sizeof eight);
    for (unsigned k = 0; k < 2; k++) {
      put(&first, eight[k], masks[k]);
      put(&second, eight[k], ~masks[k]);
    }
  }
  *below = first;
  *others = second;
  return i;
}

#else
typedef int nnb_lossless_no_avx2; /* a translation unit is never empty */
#endif
