#include "enc/lossless.h"

#if NNB_X86_DISPATCH
#include <immintrin.h>
#endif

typedef nnb_any16 nnb_any_16;
typedef nnb_any32 nnb_any_32;
typedef nnb_any64 nnb_any_64;

uint64_t nnb_item(const nnb_items *items, const void *values, size_t index) {
  switch (items->bytes) {
    case 1:
      return ((const uint8_t *)values)[index];
    case 2:
      return ((const nnb_any16 *)values)[index];
    case 4:
      return ((const nnb_any32 *)values)[index];
    default:
      return ((const nnb_any64 *)values)[index];
  }
}

void nnb_sample_items(const nnb_items *items, const void *values, size_t count, uint64_t *samples) {
  const size_t stride = count / NNB_SAMPLES;
  if (items->bytes == 2)
    for (size_t i = 0; i < NNB_SAMPLES; i++) samples[i] = ((const nnb_any16 *)values)[i * stride];
  else if (items->bytes == 4)
    for (size_t i = 0; i < NNB_SAMPLES; i++) samples[i] = ((const nnb_any32 *)values)[i * stride];
  else
    for (size_t i = 0; i < NNB_SAMPLES; i++) samples[i] = nnb_item(items, values, i * stride);
}

#define SURVEY(TYPE, ANY)                                                         \
  NNB_INLINE void survey_##TYPE(const ANY *v, size_t count, nnb_survey *survey) { \
    const TYPE magnitude = (TYPE)((TYPE) ~(TYPE)0 >> 1), first = v[0];            \
    TYPE least = magnitude, greatest = 0, differ = 0;                             \
    size_t zeros = 0;                                                             \
    for (size_t at = 0; at < count;) {                                            \
      const size_t end = count - at < 4096 ? count : at + 4096;                   \
      TYPE found = 0;                                                             \
      for (; at < end; at++) {                                                    \
        const TYPE m = (TYPE)(v[at] & magnitude);                                 \
        least = m < least ? m : least;                                            \
        greatest = m > greatest ? m : greatest;                                   \
        differ = (TYPE)(differ | (TYPE)(v[at] ^ first));                          \
        found = (TYPE)(found + (v[at] == 0));                                     \
      }                                                                           \
      zeros += found;                                                             \
    }                                                                             \
    survey->least = least;                                                        \
    survey->greatest = greatest;                                                  \
    survey->zeros = zeros;                                                        \
    survey->equal = differ == 0;                                                  \
  }
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
SURVEY(u16, nnb_any16)
SURVEY(u32, nnb_any32)
SURVEY(u64, nnb_any64)

NNB_INLINE void survey_bytes(const uint8_t *v, size_t count, nnb_survey *survey) {
  uint8_t differ = 0;
  size_t zeros = 0;
  for (size_t at = 0; at < count;) {
    const size_t end = count - at < 192 ? count : at + 192;
    uint8_t found = 0;
    for (; at < end; at++) {
      differ |= (uint8_t)(v[at] ^ v[0]);
      found = (uint8_t)(found + (v[at] == 0));
    }
    zeros += found;
  }
  *survey = (nnb_survey){0, 127, zeros, differ == 0};
}

NNB_INLINE void survey_all(const nnb_items *items, const void *values, size_t count, nnb_survey *survey) {
  switch (items->bytes) {
    case 1:
      survey_bytes(values, count, survey);
      break;
    case 2:
      survey_u16(values, count, survey);
      break;
    case 4:
      survey_u32(values, count, survey);
      break;
    default:
      survey_u64(values, count, survey);
  }
}

#if NNB_X86_DISPATCH
NNB_TARGET_AVX512
static void survey_avx512(const nnb_items *items, const void *values, size_t count, nnb_survey *survey) {
  survey_all(items, values, count, survey);
}

NNB_TARGET("avx2,bmi2")
static void survey_avx2(const nnb_items *items, const void *values, size_t count, nnb_survey *survey) {
  survey_all(items, values, count, survey);
}
#endif

void nnb_survey_items(const nnb_items *items, const void *values, size_t count, nnb_survey *survey) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_avx512_vbmi2()) {
    survey_avx512(items, values, count, survey);
    return;
  }
  if (nnb_cpu_has_bmi2()) {
    survey_avx2(items, values, count, survey);
    return;
  }
#endif
  survey_all(items, values, count, survey);
}

/* ---- coding FLOAT ---- */

#define HIGHS(TYPE, SUFFIX)                                                                                       \
  NNB_INLINE void highs_##SUFFIX(const nnb_any_##SUFFIX *restrict v, size_t n, unsigned shift, uint16_t *highs) { \
    for (size_t i = 0; i < n; i++) highs[i] = (uint16_t)((TYPE)(v[i] & (TYPE)((TYPE) ~(TYPE)0 >> 1)) >> shift);   \
  }                                                                                                               \
  NNB_INLINE void symbols_##SUFFIX(const nnb_any_##SUFFIX *restrict v, size_t n, unsigned shift, TYPE base,       \
                                   uint8_t *restrict symbols) {                                                   \
    for (size_t i = 0; i < n; i++) {                                                                              \
      const TYPE high = (TYPE)((TYPE)(v[i] & (TYPE)((TYPE) ~(TYPE)0 >> 1)) >> shift);                             \
      symbols[i] = (uint8_t)(high < base ? 0 : high - base);                                                      \
    }                                                                                                             \
  }
HIGHS(uint16_t, 16)
HIGHS(uint32_t, 32)
HIGHS(uint64_t, 64)

NNB_INLINE void find_highs(const nnb_items *items, const void *values, size_t count, unsigned shift, uint16_t *highs) {
  if (items->bytes == 2)
    highs_16(values, count, shift, highs);
  else if (items->bytes == 4)
    highs_32(values, count, shift, highs);
  else
    highs_64(values, count, shift, highs);
}

NNB_INLINE void find_symbols(const nnb_items *items, const void *values, size_t count, unsigned shift, uint32_t base,
                             uint8_t *symbols) {
  if (items->bytes == 2)
    symbols_16(values, count, shift, (uint16_t)base, symbols);
  else if (items->bytes == 4)
    symbols_32(values, count, shift, base, symbols);
  else
    symbols_64(values, count, shift, base, symbols);
}

NNB_INLINE size_t count_zeros(const uint8_t *symbols, size_t count) {
  size_t zeros = 0;
  for (size_t at = 0; at < count;) {
    const size_t end = count - at < 192 ? count : at + 192;
    uint8_t here = 0;
    for (; at < end; at++) here = (uint8_t)(here + (symbols[at] == 0));
    zeros += here;
  }
  return zeros;
}

/* 16-bit numbers are multiplied, since compilers shift them as 32-bit ones. */
#define DIVIDE(TYPE, SUFFIX)                                                                                         \
  NNB_INLINE void divide_##SUFFIX(const nnb_any_##SUFFIX *restrict v, size_t n, unsigned shift, unsigned byte_count, \
                                  int has_field, uint8_t *restrict field, uint8_t *const *bytes) {                   \
    const unsigned top = 8 * sizeof(TYPE) - 1;                                                                       \
    const TYPE bit = (TYPE)((TYPE)1 << shift), lower = (TYPE)(bit - 1);                                              \
    uint8_t *restrict const b0 = bytes[0], *restrict const b1 = bytes[1], *restrict const b2 = bytes[2],             \
                            *restrict const b3 = bytes[3], *restrict const b4 = bytes[4],                            \
                            *restrict const b5 = bytes[5];                                                           \
    for (size_t i = 0; i < n; i++) {                                                                                 \
      const TYPE x = v[i];                                                                                           \
      const TYPE sign = (TYPE)(x >> top);                                                                            \
      const TYPE rest = (TYPE)((x & lower) | (sizeof(TYPE) == 2 ? (TYPE)(sign * bit) : (TYPE)(sign << shift)));      \
      if (byte_count > 0) b0[i] = (uint8_t)rest;                                                                     \
      if (byte_count > 1) b1[i] = (uint8_t)(rest >> 8);                                                              \
      if (byte_count > 2) b2[i] = (uint8_t)((uint64_t)rest >> 16);                                                   \
      if (byte_count > 3) b3[i] = (uint8_t)((uint64_t)rest >> 24);                                                   \
      if (byte_count > 4) b4[i] = (uint8_t)((uint64_t)rest >> 32);                                                   \
      if (byte_count > 5) b5[i] = (uint8_t)((uint64_t)rest >> 40);                                                   \
      if (has_field) field[i] = (uint8_t)((uint64_t)rest >> (8 * byte_count));                                       \
    }                                                                                                                \
  }
DIVIDE(uint16_t, 16)
DIVIDE(uint32_t, 32)
DIVIDE(uint64_t, 64)

NNB_INLINE void divide_chunk(const nnb_items *items, const void *values, size_t n, nnb_division d, uint8_t *field,
                             uint8_t *const *bytes) {
  if (items->bytes == 2) {
#define CASE(b, f) divide_16(values, n, d.shift, b, f, field, bytes)
    if (d.bytes == 0)
      CASE(0, 1);
    else if (d.field == 0)
      CASE(1, 0);
    else
      CASE(1, 1);
#undef CASE
  } else if (items->bytes == 4) {
#define CASE(b, f) divide_32(values, n, d.shift, b, f, field, bytes)
    if (d.bytes == 2)
      CASE(2, 1);
    else
      CASE(3, 0);
#undef CASE
  } else {
#define CASE(b, f) divide_64(values, n, d.shift, b, f, field, bytes)
    if (d.bytes == 5)
      CASE(5, 1);
    else if (d.field == 0)
      CASE(6, 0);
    else
      CASE(6, 1);
#undef CASE
  }
}

typedef void packer(const uint8_t *fields, size_t count, unsigned bits, uint8_t *out);

NNB_INLINE void pack_some(const uint8_t *fields, size_t count, unsigned bits, uint8_t *out) {
  for (size_t i = 0; i < count; i += 8) {
    uint64_t word = 0;
    for (unsigned j = 0; j < 8; j++) word |= (uint64_t)fields[i + j] << (j * bits);
    const size_t left = count - i, bytes = left >= 8 ? bits : (left * bits + 7) / 8;
    for (size_t j = 0; j < bytes; j++) *out++ = (uint8_t)(word >> (8 * j));
  }
}

/* fields has zeros up to a multiple of 8. */
NNB_INLINE void pack_portable(const uint8_t *fields, size_t count, unsigned bits, uint8_t *out) {
  switch (bits) {
#define CASE(b)                       \
  case b:                             \
    pack_some(fields, count, b, out); \
    break;
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) default : pack_some(fields, count, 7, out);
#undef CASE
  }
}

NNB_INLINE void divide_all(const nnb_items *items, const void *values, size_t count, nnb_division d, uint8_t *packed,
                           uint8_t *const *planes, packer *pack) {
  uint8_t field[NNB_ENC_CHUNK + 64];
  for (size_t at = 0; at < count; at += NNB_ENC_CHUNK) {
    const size_t n = count - at < NNB_ENC_CHUNK ? count - at : NNB_ENC_CHUNK;
    uint8_t *bytes[6] = {0};
    for (unsigned j = 0; j < d.bytes; j++) bytes[j] = planes[j] + at;
    divide_chunk(items, (const uint8_t *)values + at * items->bytes, n, d, field, bytes);
    if (d.field) {
      nnb_memset(field + n, 0, 64);
      pack(field, n, d.field, packed + at / 8 * d.field);
    }
  }
}

#if NNB_X86_DISPATCH
NNB_TARGET("avx2,bmi2") NNB_INLINE void pack_bmi2(const uint8_t *fields, size_t count, unsigned bits, uint8_t *out) {
  const uint64_t places = UINT64_C(0x0101010101010101) * ((1u << bits) - 1u);
  for (size_t i = 0, left = (count * bits + 7) / 8; i < count; i += 8) {
    uint64_t eight;
    nnb_memcpy(&eight, fields + i, 8);
    eight = _pext_u64(eight, places);
    const size_t n = left < bits ? left : bits;
    if (left >= 8)
      nnb_memcpy(out, &eight, 8);
    else
      for (size_t j = 0; j < n; j++) out[j] = (uint8_t)(eight >> (8 * j));
    out += n;
    left -= n;
  }
}

NNB_TARGET("avx2,bmi2")
static void divide_avx2(const nnb_items *items, const void *values, size_t count, nnb_division d, uint8_t *field,
                        uint8_t *const *bytes) {
  divide_all(items, values, count, d, field, bytes, pack_bmi2);
}

NNB_TARGET("avx2,bmi2")
static void highs_avx2(const nnb_items *items, const void *values, size_t count, unsigned shift, uint16_t *highs) {
  find_highs(items, values, count, shift, highs);
}

NNB_TARGET("avx2,bmi2")
static size_t count_zeros_avx2(const uint8_t *symbols, size_t count) { return count_zeros(symbols, count); }

NNB_TARGET_AVX512
static void symbols_avx512(const nnb_items *items, const void *values, size_t count, unsigned shift, uint32_t base,
                           uint8_t *symbols) {
  find_symbols(items, values, count, shift, base, symbols);
}

/* 64 fields at a time: pairs, fours and eights of them are joined by multiplications and shifts. */
NNB_TARGET_AVX512 NNB_INLINE void pack_avx512(const uint8_t *fields, size_t count, unsigned bits, uint8_t *out) {
  uint8_t gather[64];
  for (unsigned i = 0; i < 64; i++) gather[i] = (uint8_t)(i / bits < 8 ? i / bits * 8 + i % bits : 0);
  const __m512i places = _mm512_loadu_si512(gather);
  const __m512i pairs = _mm512_set1_epi16((short)(1u | 1u << (8 + bits)));
  const __m512i fours = _mm512_set1_epi32((int)(1u | 1u << (16 + 2 * bits)));
  const size_t bytes = (count * bits + 7) / 8;
  for (size_t i = 0, at = 0; i < count; i += 64, at += 8 * (size_t)bits) {
    const __m512i two = _mm512_maddubs_epi16(pairs, _mm512_loadu_si512(fields + i));
    const __m512i four = _mm512_madd_epi16(two, fours);
    const __m512i eight = _mm512_or_si512(_mm512_and_si512(four, _mm512_set1_epi64(0xffffffffLL)),
                                          _mm512_slli_epi64(_mm512_srli_epi64(four, 32), 4 * bits));
    const size_t n = bytes - at < 8 * (size_t)bits ? bytes - at : 8 * (size_t)bits;
    _mm512_mask_storeu_epi8(out + at, ((__mmask64)1 << n) - 1, _mm512_permutexvar_epi8(places, eight));
  }
}

NNB_TARGET_AVX512
static void divide_avx512(const nnb_items *items, const void *values, size_t count, nnb_division d, uint8_t *field,
                          uint8_t *const *bytes) {
  divide_all(items, values, count, d, field, bytes, pack_avx512);
}
#endif

void nnb_float_highs(const nnb_items *items, const void *values, size_t count, unsigned shift, uint16_t *highs) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) {
    highs_avx2(items, values, count, shift, highs);
    return;
  }
#endif
  find_highs(items, values, count, shift, highs);
}

size_t nnb_float_symbols(const nnb_items *items, const void *values, size_t count, unsigned shift, uint32_t base,
                         uint8_t *symbols) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_avx512_vbmi2()) {
    symbols_avx512(items, values, count, shift, base, symbols);
    return count_zeros_avx2(symbols, count);
  }
  if (nnb_cpu_has_bmi2()) {
    size_t zeros;
    const size_t done = nnb_float_symbols_avx2(items, values, count, shift, base, symbols, &zeros);
    find_symbols(items, (const uint8_t *)values + done * items->bytes, count - done, shift, base, symbols + done);
    return zeros + count_zeros_avx2(symbols + done, count - done);
  }
#endif
  find_symbols(items, values, count, shift, base, symbols);
  return count_zeros(symbols, count);
}

void nnb_float_lows(const nnb_items *items, const void *values, size_t count, nnb_division division, uint8_t *field,
                    uint8_t *const *bytes) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_avx512_vbmi2()) {
    divide_avx512(items, values, count, division, field, bytes);
    return;
  }
  if (nnb_cpu_has_bmi2()) {
    const size_t done = nnb_float_lows_avx2(items, values, count, division, field, bytes);
    uint8_t *rest[6] = {0};
    for (unsigned j = 0; j < division.bytes; j++) rest[j] = bytes[j] + done;
    divide_avx2(items, (const uint8_t *)values + done * items->bytes, count - done, division,
                division.field ? field + done / 8 * division.field : NULL, rest);
    return;
  }
#endif
  divide_all(items, values, count, division, field, bytes, pack_portable);
}

/* ---- the other codings ---- */

void nnb_divide_bytes(const nnb_items *items, const void *values, size_t count, uint8_t *const *planes) {
  switch (items->bytes) {
    case 1:
      nnb_memcpy(planes[0], values, count);
      break;
    case 2:
      for (size_t i = 0; i < count; i++) {
        const unsigned v = ((const nnb_any16 *)values)[i];
        planes[0][i] = (uint8_t)v;
        planes[1][i] = (uint8_t)(v >> 8);
      }
      break;
    default:
      for (size_t i = 0; i < count; i++) {
        const uint64_t v = nnb_item(items, values, i);
        for (unsigned j = 0; j < items->bytes; j++) planes[j][i] = (uint8_t)(v >> (8 * j));
      }
  }
}

#define DELTA(TYPE, ANY, TOP)                                                           \
  {                                                                                     \
    TYPE last = 0;                                                                      \
    const ANY *const v = values;                                                        \
    ANY *const to = out;                                                                \
    for (size_t i = 0; i < count; i++) {                                                \
      const TYPE difference = (TYPE)(v[i] - last);                                      \
      to[i] = (TYPE)((TYPE)(difference << 1) ^ (TYPE)(0u - (TYPE)(difference >> TOP))); \
      last = v[i];                                                                      \
    }                                                                                   \
  }

void nnb_delta(const nnb_items *items, const void *values, size_t count, void *out) {
  switch (items->bytes) {
    case 1:
      DELTA(uint8_t, uint8_t, 7) break;
    case 2:
      DELTA(uint16_t, nnb_any16, 15) break;
    case 4:
      DELTA(uint32_t, nnb_any32, 31) break;
    default:
      DELTA(uint64_t, nnb_any64, 63)
  }
}

#define COMPACT(ANY)                                  \
  {                                                   \
    const ANY *const v = values;                      \
    ANY *const to = dense;                            \
    for (size_t i = 0; i < count; i += 8) {           \
      const size_t n = count - i < 8 ? count - i : 8; \
      unsigned bits = 0;                              \
      for (size_t j = 0; j < n; j++) {                \
        to[kept] = v[i + j];                          \
        kept += v[i + j] != 0;                        \
        bits |= (unsigned)(v[i + j] != 0) << j;       \
      }                                               \
      mask[i / 8] = (uint8_t)bits;                    \
    }                                                 \
  }

static size_t compact_portable(const nnb_items *items, const void *values, size_t count, uint8_t *mask, void *dense) {
  size_t kept = 0;
  switch (items->bytes) {
    case 1:
      COMPACT(uint8_t) break;
    case 2:
      COMPACT(nnb_any16) break;
    case 4:
      COMPACT(nnb_any32) break;
    default:
      COMPACT(nnb_any64)
  }
  return kept;
}

#if NNB_X86_DISPATCH
NNB_TARGET("avx2,bmi2")
static size_t compact_avx2(const nnb_items *items, const void *values, size_t count, uint8_t *mask, uint8_t **dense) {
  const uint8_t *from = values;
  uint8_t *to = *dense;
  size_t i = 0;
  if (items->bytes != 4) return 0;
  for (; i + 8 <= count; i += 8, from += 32) {
    const __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)from);
    const __m256i zero = _mm256_cmpeq_epi32(v, _mm256_setzero_si256());
    const unsigned bits = 255u ^ (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(zero));
    const uint64_t lanes = _pdep_u64(bits, UINT64_C(0x0101010101010101)) * 255u;
    const uint64_t order = _pext_u64(UINT64_C(0x0706050403020100), lanes);
    const __m256i places = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)order));
    mask[i / 8] = (uint8_t)bits;
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_permutevar8x32_epi32(v, places));
    to += 4 * (size_t)__builtin_popcount(bits);
  }
  *dense = to;
  return i;
}

NNB_TARGET_AVX512
static size_t compact_avx512(const nnb_items *items, const void *values, size_t count, uint8_t *mask, uint8_t **dense) {
  const uint8_t *from = values;
  uint8_t *to = *dense;
  size_t i = 0;
  if (items->bytes == 4) {
    for (; i + 16 <= count; i += 16, from += 64) {
      const __m512i v = _mm512_loadu_si512(from);
      const __mmask16 bits = _mm512_test_epi32_mask(v, v);
      mask[i / 8] = (uint8_t)bits;
      mask[i / 8 + 1] = (uint8_t)(bits >> 8);
      const unsigned n = (unsigned)__builtin_popcount(bits);
      _mm512_mask_storeu_epi32(to, (__mmask16)((1u << n) - 1u), _mm512_maskz_compress_epi32(bits, v));
      to += 4 * (size_t)n;
    }
  } else if (items->bytes == 2) {
    for (; i + 32 <= count; i += 32, from += 64) {
      const __m512i v = _mm512_loadu_si512(from);
      const uint32_t bits = _mm512_test_epi16_mask(v, v);
      nnb_memcpy(mask + i / 8, &bits, 4);
      const unsigned n = (unsigned)__builtin_popcount(bits);
      _mm512_mask_storeu_epi16(to, (__mmask32)(((uint64_t)1 << n) - 1u), _mm512_maskz_compress_epi16(bits, v));
      to += 2 * (size_t)n;
    }
  }
  *dense = to;
  return i;
}
#endif

size_t nnb_compact(const nnb_items *items, const void *values, size_t count, uint8_t *mask, void *dense) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) {
    uint8_t *to = dense;
    const size_t done = nnb_cpu_has_avx512_vbmi2() ? compact_avx512(items, values, count, mask, &to)
                                                   : compact_avx2(items, values, count, mask, &to);
    const size_t kept = (size_t)(to - (uint8_t *)dense) / items->bytes;
    return kept +
           compact_portable(items, (const uint8_t *)values + done * items->bytes, count - done, mask + done / 8, to);
  }
#endif
  return compact_portable(items, values, count, mask, dense);
}

int nnb_narrow(const nnb_items *items, const void *values, size_t count, void *narrow) {
  if (items->bytes == 4) {
    const nnb_any32 *const v = values;
    nnb_any16 *const to = narrow;
    size_t i = 0;
#if NNB_X86_DISPATCH
    if (nnb_cpu_has_bmi2()) i = nnb_narrow_avx2(values, count, to);
#endif
    for (; i < count; i++) {
      uint16_t half;
      if (!nnb_narrow32(v[i], &half)) return 0;
      to[i] = half;
    }
  } else {
    const nnb_any64 *const v = values;
    nnb_any32 *const to = narrow;
    for (size_t i = 0; i < count; i++) {
      uint32_t single;
      if (!nnb_narrow64(v[i], &single)) return 0;
      to[i] = single;
    }
  }
  return 1;
}

size_t nnb_unpack(unsigned bits, const uint8_t *packed, size_t bytes, uint8_t *elements) {
  uint32_t window = 0;
  unsigned have = 0;
  size_t count = 0;
  for (size_t i = 0; i < bytes; i++) {
    window |= (uint32_t)packed[i] << have;
    have += 8;
    while (have >= bits) {
      elements[count++] = (uint8_t)(window & ((1u << bits) - 1u));
      window >>= bits;
      have -= bits;
    }
  }
  if (have) elements[count++] = (uint8_t)window;
  return count;
}

/* An open hash table of 1024 places, with the item of each and its number plus 1. */
size_t nnb_find_table(const nnb_items *items, const void *values, size_t count, size_t most, uint8_t *table,
                      uint8_t *indices, void *work) {
  uint64_t *const keys = work;
  uint16_t *const numbers = (uint16_t *)(void *)(keys + 1024);
  uint64_t sorted[256];
  uint8_t rank[256];
  size_t found = 0;
  nnb_memset(numbers, 0, 1024 * sizeof *numbers);
  for (size_t i = 0; i < count; i++) {
    const uint64_t item = nnb_item(items, values, i);
    uint32_t place = (uint32_t)(item * UINT64_C(0x9E3779B97F4A7C15) >> 54);
    while (numbers[place] != 0 && keys[place] != item) place = (place + 1) & 1023u;
    if (numbers[place] == 0) {
      if (found == most) return 0;
      keys[place] = item;
      sorted[found] = item;
      numbers[place] = (uint16_t)++found;
    }
    indices[i] = (uint8_t)(numbers[place] - 1);
  }
  for (size_t i = 0; i < found; i++) {
    unsigned smaller = 0;
    for (size_t j = 0; j < found; j++) smaller += sorted[j] < sorted[i];
    rank[i] = (uint8_t)smaller;
    for (unsigned j = 0; j < items->bytes; j++) table[smaller * items->bytes + j] = (uint8_t)(sorted[i] >> (8 * j));
  }
  for (size_t i = 0; i < count; i++) indices[i] = rank[indices[i]];
  return found;
}
