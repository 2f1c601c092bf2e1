#include "dec/lossless.h"

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

#define MERGE(TYPE, SUFFIX)                                                                                          \
  NNB_INLINE void merge_##SUFFIX(const uint8_t *symbols, const uint8_t *const *bytes, const uint8_t *field,          \
                                 const uint8_t *contexts, unsigned byte_count, int has_field, int scaled,            \
                                 unsigned shift, unsigned upper, TYPE base, nnb_any_##SUFFIX *out, size_t n) {       \
    const TYPE lower = (TYPE)((TYPE)((TYPE)1 << shift) - 1);                                                         \
    for (size_t i = 0; i < n; i++) {                                                                                 \
      TYPE rest = 0;                                                                                                 \
      for (unsigned j = 0; j < byte_count; j++) rest = (TYPE)(rest | (TYPE)((TYPE)bytes[j][i] << (8 * j)));          \
      if (has_field) rest = (TYPE)(rest | (TYPE)((TYPE)field[i] << (8 * byte_count)));                               \
      TYPE high = (TYPE)(symbols[i] + base);                                                                         \
      if (scaled) high = (TYPE)(high + (TYPE)((TYPE)(contexts[i] >> 2) << upper));                                   \
      out[i] = (TYPE)((TYPE)((TYPE)(rest >> shift) << (8 * sizeof(TYPE) - 1)) |                                      \
                      (TYPE)((TYPE)((TYPE)(high << shift)) & (TYPE)((TYPE) ~(TYPE)0 >> 1)) | (TYPE)(rest & lower));  \
    }                                                                                                                \
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
    if (count == 0) CASE(0, 1);
    else if (field == NULL) CASE(1, 0);
    else CASE(1, 1);
#undef CASE
  } else if (items->bytes == 4) {
#define CASE(b, f) merge_32(symbols, bytes, field, contexts, b, f, scaled, shift, p->upper, p->base, out, n)
    if (count == 2) CASE(2, 1);
    else CASE(3, 0);
#undef CASE
  } else {
#define CASE(b, f) merge_64(symbols, bytes, field, contexts, b, f, scaled, shift, p->upper, p->base, out, n)
    if (count == 5) CASE(5, 1);
    else if (field == NULL) CASE(6, 0);
    else CASE(6, 1);
#undef CASE
  }
}

NNB_INLINE void merge_all(const nnb_items *items, const nnb_float_planes *p, void *out, size_t count) {
  const unsigned bits = p->division.field;
  const size_t field_bytes = (count * bits + 7) / 8;
  uint8_t field[NNB_CHUNK + 8];
  if (bits && p->field == NULL) nnb_memset(field, p->field_constant & ((1u << bits) - 1u), sizeof field);
  for (size_t at = 0; at < count; at += NNB_CHUNK) {
    const size_t n = count - at < NNB_CHUNK ? count - at : NNB_CHUNK;
    const uint8_t *bytes[6] = {0};
    for (unsigned j = 0; j < p->division.bytes; j++) bytes[j] = p->bytes[j].data + (p->bytes[j].constant ? 0 : at);
    if (bits && p->field != NULL) {
      const size_t first = at / 8 * bits;
      const uint8_t *const source = p->field + first;
      switch (bits) {
#define CASE(b) \
  case b: unpack_fields(source, field_bytes - first, b, field, n); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) default : unpack_fields(source, field_bytes - first, 7, field, n);
#undef CASE
      }
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
  merge_all(items, planes, out, count);
}

#if NNB_X86_DISPATCH
NNB_TARGET("avx2,bmi2")
static void merge_avx2(const nnb_items *items, const nnb_float_planes *planes, void *out, size_t count) {
  merge_all(items, planes, out, count);
}
#endif

void nnb_merge_float(const nnb_items *items, const nnb_float_planes *planes, void *out, size_t count) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) {
    merge_avx2(items, planes, out, count);
    return;
  }
#endif
  merge_portable(items, planes, out, count);
}

/* ---- coding BYTES ---- */

void nnb_merge_bytes(const nnb_items *items, const nnb_plane *planes, void *out, size_t count) {
  for (size_t at = 0; at < count; at += NNB_CHUNK) {
    const size_t n = count - at < NNB_CHUNK ? count - at : NNB_CHUNK;
    const uint8_t *p[8] = {0};
    for (unsigned j = 0; j < items->bytes; j++) p[j] = planes[j].data + (planes[j].constant ? 0 : at);
    switch (items->bytes) {
      case 1: nnb_memcpy((uint8_t *)out + at, p[0], n); break;
      case 2:
        for (size_t i = 0; i < n; i++) ((nnb_any16 *)out)[at + i] = (uint16_t)(p[0][i] | p[1][i] << 8);
        break;
      case 4:
        for (size_t i = 0; i < n; i++)
          ((nnb_any32 *)out)[at + i] = p[0][i] | (uint32_t)p[1][i] << 8 | (uint32_t)p[2][i] << 16 | (uint32_t)p[3][i] << 24;
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
    for (size_t i = 0; i < count; i++) values[i] = last = (uint8_t)(last + ((values[i] >> 1) ^ (0u - (values[i] & 1u))));
  } else if (items->bytes == 2) {
    uint16_t last = 0;
    nnb_any16 *const values = out;
    for (size_t i = 0; i < count; i++) values[i] = last = (uint16_t)(last + ((values[i] >> 1) ^ (0u - (values[i] & 1u))));
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

void nnb_fill(const nnb_items *items, const uint8_t *value, void *out, size_t count) {
  uint64_t v = 0;
  for (unsigned j = 0; j < items->bytes; j++) v |= (uint64_t)value[j] << (8 * j);
  if (items->bytes == 1) nnb_memset(out, (int)v, count);
  else if (items->bytes == 2) for (size_t i = 0; i < count; i++) ((nnb_any16 *)out)[i] = (uint16_t)v;
  else if (items->bytes == 4) for (size_t i = 0; i < count; i++) ((nnb_any32 *)out)[i] = (uint32_t)v;
  else for (size_t i = 0; i < count; i++) ((nnb_any64 *)out)[i] = v;
}

void nnb_widen(const nnb_items *items, const void *narrow, void *out, size_t count) {
  if (items->bytes == 4)
    for (size_t i = 0; i < count; i++) ((nnb_any32 *)out)[i] = nnb_widen16(((const nnb_any16 *)narrow)[i]);
  else
    for (size_t i = 0; i < count; i++) ((nnb_any64 *)out)[i] = nnb_widen32(((const nnb_any32 *)narrow)[i]);
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

NNB_INLINE unsigned popcount8(uint8_t v) {
  unsigned x = v - (v >> 1 & 0x55u);
  x = (x & 0x33u) + (x >> 2 & 0x33u);
  return (x + (x >> 4)) & 0xfu;
}

size_t nnb_count_bits(const uint8_t *mask, size_t bits) {
  size_t count = 0;
  for (size_t i = 0; i < bits / 8; i++) count += popcount8(mask[i]);
  if (bits % 8) count += popcount8((uint8_t)(mask[bits / 8] & ((1u << bits % 8) - 1u)));
  return count;
}

#define EXPAND(ANY)                                                   \
  {                                                                   \
    const ANY *from = values;                                         \
    ANY *const to = out;                                              \
    for (size_t i = 0; i < count; i++) {                              \
      const unsigned bit = mask[i / 8] >> (i % 8) & 1u;               \
      to[i] = (ANY)(*from & (ANY)(0 - (ANY)bit));                     \
      from += bit;                                                    \
    }                                                                 \
  }

void nnb_expand(const nnb_items *items, const uint8_t *mask, const void *values, void *out, size_t count) {
  switch (items->bytes) {
    case 1: EXPAND(uint8_t) break;
    case 2: EXPAND(nnb_any16) break;
    case 4: EXPAND(nnb_any32) break;
    default: EXPAND(nnb_any64)
  }
}

void nnb_compress_contexts(const uint8_t *mask, uint8_t *contexts, size_t count) {
  size_t kept = 0;
  for (size_t i = 0; i < count; i++) {
    contexts[kept] = contexts[i];
    kept += mask[i / 8] >> (i % 8) & 1u;
  }
}

void nnb_add_scales(const uint8_t *rows, const uint8_t *columns, size_t row_items, uint8_t *contexts, size_t count) {
  for (size_t at = 0, row = 0; at < count; at += row_items, row++) {
    const size_t n = count - at < row_items ? count - at : row_items;
    const uint8_t scale = rows[row];
    for (size_t i = 0; i < n; i++) contexts[at + i] = (uint8_t)(scale + columns[i]);
  }
}
