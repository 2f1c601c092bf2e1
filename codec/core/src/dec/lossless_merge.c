#include "dec/lossless.h"

#if NNB_X86_DISPATCH
#include <immintrin.h>
#endif

/* ---- packed fields ---- */

/* Reads 8 fields of `bits` bits from `left` bytes, of which `bits` are needed. */
NNB_INLINE uint64_t load_fields(const uint8_t *p, size_t left) {
  uint64_t word = 0;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  if (NNB_LIKELY(left >= 8)) {
    nnb_memcpy(&word, p, 8);
    return word;
  }
#endif
  for (size_t i = 0; i < 8 && i < left; i++) word |= (uint64_t)p[i] << (8 * i);
  return word;
}

NNB_INLINE void unpack_fields(const uint8_t *source, size_t bytes, unsigned bits, uint8_t *out, size_t count) {
  const uint8_t mask = (uint8_t)((1u << bits) - 1u);
  size_t at = 0;
  for (size_t i = 0; i < count; i += 8, at += bits) {
    const uint64_t word = load_fields(source + at, bytes - at);
    for (unsigned j = 0; j < 8; j++) out[i + j] = (uint8_t)(word >> (j * bits)) & mask;
  }
}

/* ---- coding FLOAT ---- */

/* 16-bit numbers are multiplied, since compilers shift them as 32-bit ones. */

#define MERGE(TYPE, SUFFIX)                                                                                            \
  NNB_INLINE void merge_##SUFFIX(const uint8_t *restrict symbols, const uint8_t *const *bytes,                         \
                                 const uint8_t *restrict field, const uint8_t *restrict contexts, unsigned byte_count, \
                                 int has_field, int scaled, unsigned shift, unsigned upper, TYPE base,                 \
                                 nnb_any_##SUFFIX *restrict out, size_t n) {                                           \
    const TYPE lower = (TYPE)((TYPE)((TYPE)1 << shift) - 1);                                                           \
    const TYPE magnitude = (TYPE)((TYPE) ~(TYPE)0 >> 1);                                                               \
    const unsigned top = 8 * sizeof(TYPE) - 1;                                                                         \
    const uint16_t to_shift = (uint16_t)(1u << (shift & 15)), to_top = (uint16_t)(1u << ((top - shift) & 15));         \
    const TYPE sign = (TYPE)~magnitude;                                                                                \
    const uint8_t *restrict const b0 = bytes[0], *restrict const b1 = bytes[1], *restrict const b2 = bytes[2],         \
                                  *restrict const b3 = bytes[3], *restrict const b4 = bytes[4],                        \
                                  *restrict const b5 = bytes[5];                                                       \
    for (size_t i = 0; i < n; i++) {                                                                                   \
      TYPE rest = 0;                                                                                                   \
      if (byte_count > 0) rest = b0[i];                                                                                \
      if (byte_count > 1) rest = (TYPE)(rest | (TYPE)((TYPE)b1[i] << 8));                                              \
      if (byte_count > 2) rest = (TYPE)(rest | (TYPE)((uint64_t)b2[i] << 16));                                         \
      if (byte_count > 3) rest = (TYPE)(rest | (TYPE)((uint64_t)b3[i] << 24));                                         \
      if (byte_count > 4) rest = (TYPE)(rest | (TYPE)((uint64_t)b4[i] << 32));                                         \
      if (byte_count > 5) rest = (TYPE)(rest | (TYPE)((uint64_t)b5[i] << 40));                                         \
      if (has_field) rest = (TYPE)(rest | (TYPE)((uint64_t)field[i] << (8 * byte_count)));                             \
      TYPE high = (TYPE)(symbols[i] + base);                                                                           \
      if (scaled) high = (TYPE)(high + (TYPE)((TYPE)(contexts[i] >> 2) << upper));                                     \
      if (sizeof(TYPE) == 2) {                                                                                         \
        rest = (TYPE)((TYPE)((TYPE)(rest * to_top) & sign) | (TYPE)(rest & lower));                                    \
        high = (TYPE)(high * to_shift);                                                                                \
      } else {                                                                                                         \
        rest = (TYPE)((TYPE)((TYPE)(rest >> shift) << top) | (TYPE)(rest & lower));                                    \
        high = (TYPE)(high << shift);                                                                                  \
      }                                                                                                                \
      out[i] = (TYPE)(rest | (TYPE)(high & magnitude));                                                                \
    }                                                                                                                  \
  }

typedef nnb_any16 nnb_any_16;
typedef nnb_any32 nnb_any_32;
typedef nnb_any64 nnb_any_64;
MERGE(uint16_t, 16)
MERGE(uint32_t, 32)
MERGE(uint64_t, 64)

NNB_INLINE void merge_chunk(const nnb_items *items, const nnb_float_planes *p, const uint8_t *symbols,
                            const uint8_t *const *bytes, const uint8_t *field, const uint8_t *contexts, int scaled,
                            void *out, size_t n) {
  const unsigned shift = p->division.shift, count = p->division.bytes;
  if (items->bytes == 2) {
#define CASE(b, f) merge_16(symbols, bytes, field, contexts, b, f, scaled, shift, p->upper, (uint16_t)p->base, out, n)
    if (count == 0)
      CASE(0, 1);
    else if (field == NULL)
      CASE(1, 0);
    else
      CASE(1, 1);
#undef CASE
  } else if (items->bytes == 4) {
#define CASE(b, f) merge_32(symbols, bytes, field, contexts, b, f, scaled, shift, p->upper, p->base, out, n)
    if (count == 2)
      CASE(2, 1);
    else
      CASE(3, 0);
#undef CASE
  } else {
#define CASE(b, f) merge_64(symbols, bytes, field, contexts, b, f, scaled, shift, p->upper, p->base, out, n)
    if (count == 5)
      CASE(5, 1);
    else if (field == NULL)
      CASE(6, 0);
    else
      CASE(6, 1);
#undef CASE
  }
}

typedef void unpacker(const uint8_t *source, size_t bytes, unsigned bits, uint8_t *out, size_t count);

NNB_INLINE void unpack_portable(const uint8_t *source, size_t bytes, unsigned bits, uint8_t *out, size_t count) {
  switch (bits) {
#define CASE(b)                                  \
  case b:                                        \
    unpack_fields(source, bytes, b, out, count); \
    break;
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) default : unpack_fields(source, bytes, 7, out, count);
#undef CASE
  }
}

NNB_INLINE void merge_all(const nnb_items *items, const nnb_float_planes *p, void *out, size_t count,
                          unpacker *unpack) {
  const unsigned bits = p->division.field;
  const size_t field_bytes = (count * bits + 7) / 8;
  uint8_t field[NNB_CHUNK + 64];
  if (bits && p->field == NULL) nnb_memset(field, (int)(p->field_constant & ((1u << bits) - 1u)), sizeof field);
  for (size_t at = 0; at < count; at += NNB_CHUNK) {
    const size_t n = count - at < NNB_CHUNK ? count - at : NNB_CHUNK;
    const uint8_t *bytes[6] = {0};
    for (unsigned j = 0; j < p->division.bytes; j++) bytes[j] = p->bytes[j].data + (p->bytes[j].constant ? 0 : at);
    if (bits && p->field != NULL) {
      const size_t first = at / 8 * bits;
      const uint8_t *const source = p->field + first;
      unpack(source, field_bytes - first, bits, field, n);
    }
    const uint8_t *const symbols = p->symbols.data + (p->symbols.constant ? 0 : at);
    void *const target = (uint8_t *)out + at * items->bytes;
    if (p->contexts != NULL)
      merge_chunk(items, p, symbols, bytes, bits ? field : NULL, p->contexts + at, 1, target, n);
    else
      merge_chunk(items, p, symbols, bytes, bits ? field : NULL, NULL, 0, target, n);
  }
}

static void merge_portable(const nnb_items *items, const nnb_float_planes *planes, void *out, size_t count) {
  merge_all(items, planes, out, count, unpack_portable);
}

#if NNB_X86_DISPATCH
/* What nnb_merge_float_avx2() leaves. */
NNB_TARGET("avx2,bmi2")
NNB_INLINE void unpack_bmi2(const uint8_t *source, size_t bytes, unsigned bits, uint8_t *out, size_t count) {
  const uint64_t all = UINT64_C(0x0101010101010101) * ((1u << bits) - 1u);
  for (size_t i = 0, at = 0; i < count; i += 8, at += bits) {
    const uint64_t fields = _pdep_u64(load_fields(source + at, bytes - at), all);
    nnb_memcpy(out + i, &fields, 8);
  }
}

NNB_TARGET("avx2,bmi2")
static void merge_avx2(const nnb_items *items, const nnb_float_planes *planes, void *out, size_t count) {
  merge_all(items, planes, out, count, unpack_bmi2);
}

/* 64 fields at a time; out has room for whole groups of 64. */
NNB_TARGET_AVX512 NNB_INLINE void unpack_avx512(const uint8_t *source, size_t bytes, unsigned bits, uint8_t *out,
                                                size_t count) {
  uint8_t spread[64], shifts[64];
  for (unsigned i = 0; i < 64; i++) {
    spread[i] = (uint8_t)((i / 8 * bits + i % 8) & 63u);
    shifts[i] = (uint8_t)(i % 8 * bits);
  }
  const __m512i places = _mm512_loadu_si512(spread), moves = _mm512_loadu_si512(shifts);
  const __m512i mask = _mm512_set1_epi8((char)((1u << bits) - 1u));
  for (size_t i = 0, at = 0; i < count; i += 64, at += 8 * (size_t)bits) {
    const size_t left = bytes - at;
    const __mmask64 there = left >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << left) - 1;
    const __m512i words = _mm512_permutexvar_epi8(places, _mm512_maskz_loadu_epi8(there, source + at));
    _mm512_storeu_si512(out + i, _mm512_and_si512(_mm512_multishift_epi64_epi8(moves, words), mask));
  }
}

NNB_TARGET_AVX512
static void merge_avx512(const nnb_items *items, const nnb_float_planes *planes, void *out, size_t count) {
  merge_all(items, planes, out, count, unpack_avx512);
}
#endif

void nnb_merge_float(const nnb_items *items, const nnb_float_planes *planes, void *out, size_t count) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_avx512_vbmi2()) {
    merge_avx512(items, planes, out, count);
    return;
  }
  if (nnb_cpu_has_bmi2()) {
    nnb_float_planes rest = *planes;
    const size_t done = nnb_merge_float_avx2(items, planes, out, count);
    if (done) {
      rest.symbols.data += done;
      for (unsigned i = 0; i < rest.division.bytes; i++) rest.bytes[i].data += done;
      if (rest.division.field) rest.field += done / 8 * rest.division.field;
      if (rest.contexts != NULL) rest.contexts += done;
    }
    merge_avx2(items, &rest, (uint8_t *)out + done * items->bytes, count - done);
    return;
  }
#endif
  merge_portable(items, planes, out, count);
}

/* ---- coding BYTES ---- */

size_t nnb_count_below(const uint8_t *symbols, size_t count, unsigned limit) {
  size_t found = 0, at = 0;
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) found = nnb_count_below_avx2(symbols, count, limit, &at);
#endif
  for (; at < count; at += 255) { /* as many as a byte counts */
    const size_t n = count - at < 255 ? count - at : 255;
    uint8_t some = 0;
    for (size_t i = 0; i < n; i++) some = (uint8_t)(some + (symbols[at + i] < (uint8_t)limit));
    found += some;
  }
  return found;
}

int nnb_join_halves(const uint8_t *upper, const uint8_t *lower, size_t count, uint8_t *out) {
  unsigned all = 0;
  for (size_t i = 0; i < count / 2; i++) {
    const unsigned low = lower[2 * i], high = lower[2 * i + 1];
    all |= low | high;
    out[2 * i] = (uint8_t)(low | (unsigned)upper[i] << 4);
    out[2 * i + 1] = (uint8_t)(high | (upper[i] & 0xf0u));
  }
  if (count % 2) {
    all |= lower[count - 1];
    out[count - 1] = (uint8_t)(lower[count - 1] | (unsigned)upper[count / 2] << 4);
  }
  return all < 16;
}

void nnb_spread(const uint8_t *symbols, size_t count, unsigned limit, const uint8_t *below, const uint8_t *others,
                uint8_t *out) {
  size_t i = 0;
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) i = nnb_spread_avx2(symbols, count, limit, &below, &others, out);
#endif
  for (; i < count; i++) {
    const int is_below = symbols[i] < limit;
    out[i] = *(is_below ? below : others);
    below += is_below;
    others += !is_below;
  }
}

void nnb_merge_bytes(const nnb_items *items, const nnb_plane *planes, void *out, size_t count) {
  for (size_t at = 0; at < count; at += NNB_CHUNK) {
    const size_t n = count - at < NNB_CHUNK ? count - at : NNB_CHUNK;
    const uint8_t *p[8] = {0};
    for (unsigned j = 0; j < items->bytes; j++) p[j] = planes[j].data + (planes[j].constant ? 0 : at);
    switch (items->bytes) {
      case 1:
        nnb_memcpy((uint8_t *)out + at, p[0], n);
        break;
      case 2:
        for (size_t i = 0; i < n; i++) ((nnb_any16 *)out)[at + i] = (uint16_t)(p[0][i] | p[1][i] << 8);
        break;
      case 4:
        for (size_t i = 0; i < n; i++)
          ((nnb_any32 *)out)[at + i] =
              p[0][i] | (uint32_t)p[1][i] << 8 | (uint32_t)p[2][i] << 16 | (uint32_t)p[3][i] << 24;
        break;
      default:
        for (size_t i = 0; i < n; i++) {
          uint64_t v = 0;
          for (unsigned j = 0; j < 8; j++) v |= (uint64_t)p[j][i] << (8 * j);
          ((nnb_any64 *)out)[at + i] = v;
        }
    }
  }
}

void nnb_undo_delta(const nnb_items *items, void *out, size_t count) {
  if (items->bytes == 1) {
    uint8_t last = 0, *const values = out;
    for (size_t i = 0; i < count; i++)
      values[i] = last = (uint8_t)(last + ((values[i] >> 1) ^ (0u - (values[i] & 1u))));
  } else if (items->bytes == 2) {
    uint16_t last = 0;
    nnb_any16 *const values = out;
    for (size_t i = 0; i < count; i++)
      values[i] = last = (uint16_t)(last + ((values[i] >> 1) ^ (0u - (values[i] & 1u))));
  } else if (items->bytes == 4) {
    uint32_t last = 0;
    nnb_any32 *const values = out;
    for (size_t i = 0; i < count; i++) values[i] = last = last + ((values[i] >> 1) ^ (0u - (values[i] & 1u)));
  } else {
    uint64_t last = 0;
    nnb_any64 *const values = out;
    for (size_t i = 0; i < count; i++) values[i] = last = last + ((values[i] >> 1) ^ ((uint64_t)0 - (values[i] & 1u)));
  }
}

/* ---- the other codings ---- */

void nnb_apply_table(const nnb_items *items, const uint8_t *table, const uint8_t *indices, void *out, size_t count) {
  if (items->bytes == 2) {
    const nnb_any16 *const values = (const nnb_any16 *)table;
    for (size_t i = 0; i < count; i++) ((nnb_any16 *)out)[i] = values[indices[i]];
  } else if (items->bytes == 4) {
    const nnb_any32 *const values = (const nnb_any32 *)table;
    for (size_t i = 0; i < count; i++) ((nnb_any32 *)out)[i] = values[indices[i]];
  } else {
    const nnb_any64 *const values = (const nnb_any64 *)table;
    for (size_t i = 0; i < count; i++) ((nnb_any64 *)out)[i] = values[indices[i]];
  }
}

int nnb_look_up(const nnb_items *items, const void *dictionary, size_t entries, const void *indices, void *out,
                size_t count) {
  const nnb_any16 *const index = indices;
  unsigned greatest = 0;
  for (size_t i = 0; i < count; i++) greatest = index[i] > greatest ? index[i] : greatest;
  if (greatest >= entries) return 0;
  if (items->bytes == 2)
    for (size_t i = 0; i < count; i++) ((nnb_any16 *)out)[i] = ((const nnb_any16 *)dictionary)[index[i]];
  else if (items->bytes == 4)
    for (size_t i = 0; i < count; i++) ((nnb_any32 *)out)[i] = ((const nnb_any32 *)dictionary)[index[i]];
  else
    for (size_t i = 0; i < count; i++) ((nnb_any64 *)out)[i] = ((const nnb_any64 *)dictionary)[index[i]];
  return 1;
}

void nnb_fill(const nnb_items *items, const uint8_t *value, void *out, size_t count) {
  uint64_t v = 0;
  for (unsigned j = 0; j < items->bytes; j++) v |= (uint64_t)value[j] << (8 * j);
  if (items->bytes == 1)
    nnb_memset(out, (int)v, count);
  else if (items->bytes == 2)
    for (size_t i = 0; i < count; i++) ((nnb_any16 *)out)[i] = (uint16_t)v;
  else if (items->bytes == 4)
    for (size_t i = 0; i < count; i++) ((nnb_any32 *)out)[i] = (uint32_t)v;
  else
    for (size_t i = 0; i < count; i++) ((nnb_any64 *)out)[i] = v;
}

void nnb_widen(const nnb_items *items, const void *narrow, void *out, size_t count) {
  size_t i = 0;
#if NNB_X86_DISPATCH
  if (items->bytes == 4 && nnb_cpu_has_bmi2()) i = nnb_widen_avx2(narrow, out, count);
#endif
  if (items->bytes == 4)
    for (; i < count; i++) ((nnb_any32 *)out)[i] = nnb_widen16(((const nnb_any16 *)narrow)[i]);
  else
    for (; i < count; i++) ((nnb_any64 *)out)[i] = nnb_widen32(((const nnb_any32 *)narrow)[i]);
}

void nnb_pack(unsigned bits, const uint8_t *elements, uint8_t *out, size_t bytes) {
  uint32_t window = 0;
  unsigned have = 0;
  for (size_t i = 0; i < bytes; i++) {
    while (have < 8) {
      window |= (uint32_t)*elements++ << have;
      have += bits;
    }
    out[i] = (uint8_t)window;
    window >>= 8;
    have -= 8;
  }
}

NNB_INLINE size_t count_ones(uint64_t x) {
  x -= x >> 1 & UINT64_C(0x5555555555555555);
  x = (x & UINT64_C(0x3333333333333333)) + (x >> 2 & UINT64_C(0x3333333333333333));
  x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
  return (size_t)(x * UINT64_C(0x0101010101010101) >> 56);
}

size_t nnb_count_bits(const uint8_t *mask, size_t bits) {
  size_t count = 0, i = 0;
  for (; i + 8 <= bits / 8; i += 8) {
    uint64_t word;
    nnb_memcpy(&word, mask + i, 8);
    count += count_ones(word);
  }
  for (; i < bits / 8; i++) count += count_ones(mask[i]);
  if (bits % 8) count += count_ones(mask[bits / 8] & ((1u << bits % 8) - 1u));
  return count;
}

#define EXPAND(ANY)                                               \
  {                                                               \
    const ANY *from = values;                                     \
    ANY *const to = out;                                          \
    for (size_t i = 0; i < count; i++) {                          \
      const unsigned bit = (unsigned)mask[i / 8] >> (i % 8) & 1u; \
      to[i] = (ANY)(*from & (ANY)(0 - (ANY)bit));                 \
      from += bit;                                                \
    }                                                             \
  }

static void expand_portable(const nnb_items *items, const uint8_t *mask, const void *values, void *out, size_t count) {
  switch (items->bytes) {
    case 1:
      EXPAND(uint8_t) break;
    case 2:
      EXPAND(nnb_any16) break;
    case 4:
      EXPAND(nnb_any32) break;
    default:
      EXPAND(nnb_any64)
  }
}

#if NNB_X86_DISPATCH
NNB_TARGET_AVX512
static size_t expand_avx512(const nnb_items *items, const uint8_t *mask, const void *values, void *out, size_t count,
                            const uint8_t **next) {
  const uint8_t *from = values;
  uint8_t *to = out;
  size_t i = 0;
  if (items->bytes == 4) {
    for (; i + 16 <= count; i += 16, to += 64) {
      const __mmask16 bits = (__mmask16)(mask[i / 8] | mask[i / 8 + 1] << 8);
      _mm512_storeu_si512(to, _mm512_maskz_expand_epi32(bits, _mm512_loadu_si512(from)));
      from += 4 * (size_t)__builtin_popcount(bits);
    }
  } else if (items->bytes == 2) {
    for (; i + 32 <= count; i += 32, to += 64) {
      uint32_t bits;
      nnb_memcpy(&bits, mask + i / 8, 4);
      _mm512_storeu_si512(to, _mm512_maskz_expand_epi16(bits, _mm512_loadu_si512(from)));
      from += 2 * (size_t)__builtin_popcount(bits);
    }
  }
  *next = from;
  return i;
}

/* For each set of eight items, twice the place of each among those that are there, or 128. */
static void fill_places(uint8_t places[256][8]) {
  for (unsigned set = 0; set < 256; set++) {
    uint8_t next = 0;
    for (unsigned i = 0; i < 8; i++) {
      places[set][i] = set >> i & 1u ? next : 128;
      next = (uint8_t)(next + (set >> i & 1u) * 2);
    }
  }
}

NNB_TARGET("avx2,bmi2,popcnt")
static size_t expand_avx2(const nnb_items *items, const uint8_t *mask, const void *values, void *out, size_t count,
                          const uint8_t **next) {
  uint8_t places[256][8];
  const uint8_t *from = values;
  uint8_t *to = out;
  size_t i = 0;
  *next = from;
  if (count < 4096 || (items->bytes != 2 && items->bytes != 4)) return 0;
  fill_places(places);
  if (items->bytes == 4) {
    for (; i + 8 <= count; i += 8, to += 32) {
      const __m128i place = _mm_loadl_epi64((const __m128i *)(const void *)places[mask[i / 8]]);
      const __m256i order = _mm256_srai_epi32(_mm256_cvtepi8_epi32(place), 1); /* below zero: not there */
      const __m256i eight = _mm256_loadu_si256((const __m256i *)(const void *)from);
      _mm256_storeu_si256((__m256i *)(void *)to,
                          _mm256_andnot_si256(_mm256_srai_epi32(order, 31), _mm256_permutevar8x32_epi32(eight, order)));
      from += 4 * (size_t)__builtin_popcount(mask[i / 8]);
    }
  } else {
    for (; i + 8 <= count; i += 8, to += 16) {
      const __m128i place = _mm_loadl_epi64((const __m128i *)(const void *)places[mask[i / 8]]);
      const __m128i order = _mm_unpacklo_epi8(place, _mm_or_si128(place, _mm_set1_epi8(1)));
      const __m128i eight = _mm_loadu_si128((const __m128i *)(const void *)from);
      _mm_storeu_si128((__m128i *)(void *)to, _mm_shuffle_epi8(eight, order));
      from += 2 * (size_t)__builtin_popcount(mask[i / 8]);
    }
  }
  *next = from;
  return i;
}
#endif

void nnb_expand(const nnb_items *items, const uint8_t *mask, const void *values, void *out, size_t count) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) {
    const uint8_t *rest;
    const size_t done =
        (nnb_cpu_has_avx512_vbmi2() ? expand_avx512 : expand_avx2)(items, mask, values, out, count, &rest);
    expand_portable(items, mask + done / 8, rest, (uint8_t *)out + done * items->bytes, count - done);
    return;
  }
#endif
  expand_portable(items, mask, values, out, count);
}

void nnb_compress_contexts(const uint8_t *mask, uint8_t *contexts, size_t count) {
  size_t kept = 0;
  for (size_t i = 0; i < count; i++) {
    contexts[kept] = contexts[i];
    kept += (size_t)mask[i / 8] >> (i % 8) & 1u;
  }
}

void nnb_add_scales(const uint8_t *rows, const uint8_t *columns, size_t row_items, uint8_t *contexts, size_t count) {
  for (size_t at = 0, row = 0; at < count; at += row_items, row++) {
    const size_t n = count - at < row_items ? count - at : row_items;
    const uint8_t scale = rows[row];
    for (size_t i = 0; i < n; i++) contexts[at + i] = (uint8_t)(scale + columns[i]);
  }
}
