/* Inner loops of the decoder with AVX2. Coding FLOAT: 32 items of 2 or 4 bytes at a time. */
#include "common/deps_simd.h"
#include "dec/lossless.h"

#if NNB_X86_DISPATCH

NNB_AVX2_INLINE __m128i load(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }

NNB_AVX2_INLINE void store(uint8_t *p, __m256i v) { _mm256_storeu_si256((__m256i *)(void *)p, v); }

NNB_AVX2_INLINE __m256i load_words(const uint8_t *p) { return _mm256_cvtepu8_epi16(load(p)); }

/* 16 packed fields: the two bytes that have a field are brought to a word of their own, and shifted there by a
 * multiplication. */
typedef struct unpacking {
  __m256i places, factors;
  __m128i down;
} unpacking;

NNB_AVX2_INLINE unpacking unpacking_of(unsigned bits) {
  uint8_t places[32];
  uint16_t factors[16];
  for (unsigned i = 0; i < 16; i++) {
    const unsigned first = i * bits;
    places[2 * i] = (uint8_t)(first / 8);
    places[2 * i + 1] = (uint8_t)(first / 8 + 1);
    factors[i] = (uint16_t)(1u << (16 - bits - first % 8));
  }
  return (unpacking){_mm256_loadu_si256((const __m256i *)(const void *)places),
                     _mm256_loadu_si256((const __m256i *)(const void *)factors), _mm_cvtsi32_si128((int)(16 - bits))};
}

NNB_AVX2_INLINE __m256i unpack(const unpacking *u, const uint8_t *from) {
  const __m256i pairs = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load(from)), u->places);
  return _mm256_srl_epi16(_mm256_mullo_epi16(pairs, u->factors), u->down);
}

/* How many items have their fields where 16 bytes can be read from the place of each 16 of them. */
NNB_AVX2_INLINE size_t readable(size_t count, unsigned bits) {
  if (bits == 0) return count & ~(size_t)31;
  const size_t size = (count * bits + 7) / 8, last = 2 * (size_t)bits + 16;
  const size_t groups = size < last ? 0 : (size - last) / (4 * (size_t)bits) + 1;
  return (groups < count / 32 ? groups : count / 32) * 32;
}

/* Items, or the upper halves of items of 4 bytes; the lower ones are the first two planes. */
NNB_AVX2_INLINE size_t merge(const nnb_float_planes *p, size_t count, unsigned item_bytes, unsigned bits, int scaled,
                             uint8_t *out) {
  const unsigned shift = p->division.shift - (item_bytes == 4 ? 16u : 0u), wide = item_bytes == 4 ? 2 : 0;
  const int has_byte = p->division.bytes > wide;
  const __m256i lower = _mm256_set1_epi16((short)((1u << shift) - 1u)), sign = _mm256_set1_epi16((short)0x8000);
  const __m256i magnitude = _mm256_set1_epi16(0x7fff), base = _mm256_set1_epi16((short)p->base);
  const __m128i up = _mm_cvtsi32_si128((int)shift), to_top = _mm_cvtsi32_si128((int)(15 - shift));
  const __m128i octave = _mm_cvtsi32_si128((int)p->upper);
  const uint8_t *const symbols = p->symbols.data, *const byte = has_byte ? p->bytes[wide].data : NULL;
  const uint8_t *const low = wide ? p->bytes[0].data : NULL, *const middle = wide ? p->bytes[1].data : NULL;
  const unpacking u = unpacking_of(bits ? bits : 1);
  const size_t whole = readable(count, bits);
  for (size_t i = 0; i < whole; i += 16) {
    __m256i rest = _mm256_setzero_si256();
    if (bits) rest = unpack(&u, p->field + i / 8 * bits);
    if (bits && has_byte) rest = _mm256_slli_epi16(rest, 8);
    if (has_byte) rest = _mm256_or_si256(rest, load_words(byte + i));
    __m256i high = _mm256_add_epi16(load_words(symbols + i), base);
    if (scaled) {
      const __m256i scale = _mm256_srli_epi16(load_words(p->contexts + i), 2);
      high = _mm256_add_epi16(high, _mm256_sll_epi16(scale, octave));
    }
    high = _mm256_and_si256(_mm256_sll_epi16(high, up), magnitude);
    rest = _mm256_or_si256(_mm256_and_si256(_mm256_sll_epi16(rest, to_top), sign), _mm256_and_si256(rest, lower));
    const __m256i items = _mm256_or_si256(high, rest);
    if (!wide) {
      store(out + 2 * i, items);
      continue;
    }
    const __m256i lows = _mm256_or_si256(load_words(low + i), _mm256_slli_epi16(load_words(middle + i), 8));
    const __m256i even = _mm256_unpacklo_epi16(lows, items), odd = _mm256_unpackhi_epi16(lows, items);
    store(out + 4 * i, _mm256_permute2x128_si256(even, odd, 0x20));
    store(out + 4 * i + 32, _mm256_permute2x128_si256(even, odd, 0x31));
  }
  return whole;
}

NNB_AVX2 size_t nnb_merge_float_avx2(const nnb_items *items, const nnb_float_planes *p, void *out, size_t count) {
  const unsigned bits = p->division.field;
  int constant = p->symbols.constant | (bits && p->field == NULL);
  for (unsigned i = 0; i < p->division.bytes; i++) constant |= p->bytes[i].constant;
  if (constant || items->bytes == 8) return 0;
  if (items->bytes == 2)
    return p->contexts != NULL ? merge(p, count, 2, bits, 1, out) : merge(p, count, 2, bits, 0, out);
  return p->contexts != NULL ? merge(p, count, 4, bits, 1, out) : merge(p, count, 4, bits, 0, out);
}

NNB_TARGET("avx2,bmi,bmi2,popcnt,f16c") size_t nnb_widen_avx2(const nnb_any16 *narrow, nnb_any32 *out, size_t count) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fff), greatest = _mm256_set1_epi32(0x7bff);
  const __m256i special = _mm256_set1_epi32(0x7f800000);
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i half = load((const uint8_t *)(narrow + i));
    const __m256i number = _mm256_castps_si256(_mm256_cvtph_ps(half)), h = _mm256_cvtepu16_epi32(half);
    const __m256i not_finite = _mm256_cmpgt_epi32(_mm256_and_si256(h, magnitude), greatest);
    const __m256i sign = _mm256_slli_epi32(_mm256_andnot_si256(magnitude, h), 16);
    const __m256i payload = _mm256_slli_epi32(_mm256_and_si256(h, _mm256_set1_epi32(0x3ff)), 13);
    const __m256i exact = _mm256_or_si256(_mm256_or_si256(sign, special), payload);
    store((uint8_t *)(out + i), _mm256_blendv_epi8(number, exact, not_finite));
  }
  return i;
}

NNB_AVX2 size_t nnb_count_below_avx2(const uint8_t *symbols, size_t count, unsigned limit, size_t *done) {
  const __m256i last = _mm256_set1_epi8((char)(limit - 1));
  __m256i found = _mm256_setzero_si256();
  size_t i = 0;
  while (i + 32 <= count) {
    __m256i some = _mm256_setzero_si256();
    for (unsigned n = 0; n < 255 && i + 32 <= count; n++, i += 32) { /* as many as a byte counts */
      const __m256i s = _mm256_loadu_si256((const __m256i *)(const void *)(symbols + i));
      some = _mm256_sub_epi8(some, _mm256_cmpeq_epi8(_mm256_min_epu8(s, last), s));
    }
    found = _mm256_add_epi64(found, _mm256_sad_epu8(some, _mm256_setzero_si256()));
  }
  uint64_t parts[4];
  store((uint8_t *)parts, found);
  *done = i;
  return (size_t)(parts[0] + parts[1] + parts[2] + parts[3]);
}

/* The next bytes, at the places that a mask of bytes says. */
NNB_TARGET("avx2,bmi2,popcnt") NNB_INLINE uint64_t take(const uint8_t **from, uint64_t mask) {
  uint64_t eight;
  nnb_memcpy(&eight, *from, 8);
  *from += (size_t)_mm_popcnt_u64(mask) / 8;
  return _pdep_u64(eight, mask);
}

NNB_TARGET("avx2,bmi2,popcnt")
size_t nnb_spread_avx2(const uint8_t *symbols, size_t count, unsigned limit, const uint8_t **below,
                       const uint8_t **others, uint8_t *out) {
  const __m128i last = _mm_set1_epi8((char)(limit - 1));
  const uint8_t *first = *below, *second = *others;
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m128i some = _mm_loadu_si128((const __m128i *)(const void *)(symbols + i));
    const __m128i is_below = _mm_cmpeq_epi8(_mm_min_epu8(some, last), some);
    const uint64_t masks[2] = {(uint64_t)_mm_cvtsi128_si64(is_below), (uint64_t)_mm_extract_epi64(is_below, 1)};
    for (unsigned k = 0; k < 2; k++) {
      const uint64_t found = take(&first, masks[k]) | take(&second, ~masks[k]);
      nnb_memcpy(out + i + 8 * k, &found, 8);
    }
  }
  *below = first;
  *others = second;
  return i;
}

#else
typedef int nnb_lossless_no_avx2; /* a translation unit is never empty */
#endif
