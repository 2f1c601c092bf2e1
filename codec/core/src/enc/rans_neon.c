/*
 * rANS encoding, 64 symbols a round, states in halves as in the decoder.
 *
 * What is to be known of a symbol comes out of registers where the tables have few symbols that differ in their lowest
 * bits, which takes the place of a list of symbols. Else it is loaded, as the slots always are.
 */
#include "common/rans_neon.h"

#include "enc/rans.h"

#if NNB_NEON

#define MAX_ROWS 64u
#define MAX_TABLES 16u /* whose slots have numbers of 16 bits, and symbols offsets */
#define SYMBOL_SHIFT 4

_Static_assert(sizeof(nnb_rans_symbol) == 1 << SYMBOL_SHIFT && offsetof(nnb_rans_symbol, frequency) == 8 &&
                   offsetof(nnb_rans_symbol, first) == 10 && offsetof(nnb_rans_symbol, inverse) == 12,
               "symbols are read whole");

/* Rows: table << row_bits | lowest bits of the symbol. */
typedef struct row_fields {
  uint32_t row_bits;
  uint8_t symbol[MAX_ROWS];
  uint8_t frequency_half[2][MAX_ROWS];
  uint8_t first_half[2][MAX_ROWS]; /* place of the symbol's slots in the list of all slots */
  uint8_t inverse_part[4][MAX_ROWS];
  uint8_t first_row[256]; /* by context */
} row_fields;

/* Each set's lanes, still in order, to the upper end. */
static void fill_orders(nnb_rans_orders *orders) {
  uint8_t counts[256];
  nnb_memset(orders->of[0], 0, sizeof orders->of[0]);
  counts[0] = 0;
  for (uint32_t lane = 8; lane-- > 0;) {
    for (uint32_t rest = 0; rest < 256; rest += 2u << lane) {
      const uint32_t set = rest | 1u << lane;
      counts[set] = (uint8_t)(counts[rest] + 1);
      nnb_memcpy(orders->of[set], orders->of[rest], sizeof orders->of[set]);
      orders->of[set][8 - counts[set]] = (uint16_t)(0x0100 + 0x0202 * lane);
    }
  }
}

static void fill_row(row_fields *fields, uint32_t row, uint32_t s, const nnb_rans_symbol *symbol, uint32_t first) {
  uint8_t inverse[4];
  nnb_memcpy(inverse, &symbol->inverse, sizeof inverse);
  fields->symbol[row] = (uint8_t)s;
  for (uint32_t half = 0; half < 2; half++) {
    fields->frequency_half[half][row] = (uint8_t)(symbol->frequency >> 8 * half);
    fields->first_half[half][row] = (uint8_t)(first >> 8 * half);
  }
  for (uint32_t k = 0; k < 4; k++) fields->inverse_part[k][row] = inverse[k];
}

/* Returns 0 if two symbols of a table have the same row. */
static int fill_rows(row_fields *fields, const nnb_rans_enc_job *job, uint32_t row_bits) {
  const nnb_rans_symbol none = {.frequency = 1, .inverse = NNB_RANS_INVERSE(1)};
  const uint32_t rows = 1u << row_bits;
  fields->row_bits = row_bits;
  for (uint32_t t = 0; t < job->table_count; t++) {
    uint64_t taken = 0;
    for (uint32_t r = 0; r < rows; r++) fill_row(fields, t * rows + r, r ^ 1u, &none, 0); /* no symbol has that */
    for (uint32_t s = 0; s < 256; s++) {
      const nnb_rans_symbol *const symbol = job->table_symbols + 256 * (size_t)t + s;
      const uint32_t row = s & (rows - 1);
      if (symbol->frequency == 0) continue;
      if (taken >> row & 1u) return 0;
      taken |= UINT64_C(1) << row;
      fill_row(fields, t * rows + row, s, symbol, symbol->first + (t << NNB_RANS_BITS));
    }
  }
  for (uint32_t c = 0; c < 256 && job->contexts != NULL; c++) {
    fields->first_row[c] = (uint8_t)(job->context_map[c] << row_bits);
  }
  return 1;
}

/* x / frequency, or one less; the quotient is below 2^20. */
NNB_INLINE uint32x4_t divide(uint16x8_t x, uint8x16_t inverse) {
  const float32x4_t dividend = vcvtq_f32_u32(vreinterpretq_u32_u16(x));
  return vcvtq_u32_f32(vmulq_f32(dividend, vreinterpretq_f32_u8(inverse)));
}

/* What is to be known of 16 symbols. */
typedef struct found {
  uint16x8_t frequency[2];
  uint16x8_t first[2];
  uint8x16_t inverse[4];
} found;

NNB_INLINE uint16x8_t as_words(uint8x16_t bytes) { return vreinterpretq_u16_u8(bytes); }

NNB_INLINE void find_frequencies(found *f, const row_fields *fields, uint8x16_t row, int rows) {
  const uint8x16x2_t frequency = nnb_find_words(fields->frequency_half, row, rows);
  for (int h = 0; h < 2; h++) f->frequency[h] = as_words(frequency.val[h]);
}

NNB_INLINE void find_rest(found *f, const row_fields *fields, uint8x16_t row, int rows) {
  const uint8x16x2_t first = nnb_find_words(fields->first_half, row, rows);
  const uint8x16x2_t lower = nnb_find_words(fields->inverse_part, row, rows);
  const uint8x16x2_t upper = nnb_find_words(fields->inverse_part + 2, row, rows);
  for (int h = 0; h < 2; h++) {
    const uint16x8x2_t inverse = vzipq_u16(as_words(lower.val[h]), as_words(upper.val[h]));
    f->first[h] = as_words(first.val[h]);
    for (int k = 0; k < 2; k++) f->inverse[2 * h + k] = vreinterpretq_u8_u16(inverse.val[k]);
  }
}

/* Two symbols without their reciprocals. */
NNB_INLINE uint32x4_t load_two(const uint8_t *symbols, size_t a, size_t b) {
  return vreinterpretq_u32_u8(vcombine_u8(vld1_u8(symbols + a), vld1_u8(symbols + b)));
}

/* Offsets in bytes. */
NNB_INLINE void load_symbols(found *f, const nnb_rans_symbol *symbols, const uint16_t *offsets) {
  const uint8_t *const of = (const uint8_t *)&symbols->frequency;
  for (int h = 0; h < 2; h++) {
    uint32x4_t pairs[2];
    for (int k = 0; k < 2; k++) {
      const uint16_t *const at = offsets + 8 * h + 4 * k;
      const uint32x4_t lower = load_two(of, at[0], at[1]);
      const uint32x4_t upper = load_two(of, at[2], at[3]);
      pairs[k] = vuzp1q_u32(lower, upper);
      f->inverse[2 * h + k] = vreinterpretq_u8_u32(vuzp2q_u32(lower, upper));
    }
    f->frequency[h] = vuzp1q_u16(vreinterpretq_u16_u32(pairs[0]), vreinterpretq_u16_u32(pairs[1]));
    f->first[h] = vuzp2q_u16(vreinterpretq_u16_u32(pairs[0]), vreinterpretq_u16_u32(pairs[1]));
  }
}

/* Eight states, of which the full ones lose their lower half: leaves 4096 times the quotients, returns the ranks. */
NNB_INLINE uint16x8_t split(uint16x8_t *low, uint16x8_t *high, uint16x8_t full, uint16x8_t frequency,
                            const uint8x16_t *inverse) {
  const uint16x8_t x_low = vbslq_u16(full, *high, *low);
  const uint16x8_t x_high = vbicq_u16(*high, full);
  const uint32x4_t lower = divide(vzip1q_u16(x_low, x_high), inverse[0]);
  const uint32x4_t upper = divide(vzip2q_u16(x_low, x_high), inverse[1]);
  const uint16x8_t rough = vuzp1q_u16(vreinterpretq_u16_u32(lower), vreinterpretq_u16_u32(upper));
  const uint16x8_t rest = vmlsq_u16(x_low, rough, frequency);
  const int16x8_t small = vreinterpretq_s16_u16(vcgeq_u16(rest, frequency)); /* then -1 */
  const int32x4_t q0 = vsubw_s16(vreinterpretq_s32_u32(lower), vget_low_s16(small));
  const int32x4_t q1 = vsubw_high_s16(vreinterpretq_s32_u32(upper), small);
  const uint16x8_t y0 = vreinterpretq_u16_s32(vshlq_n_s32(q0, NNB_RANS_BITS));
  const uint16x8_t y1 = vreinterpretq_u16_s32(vshlq_n_s32(q1, NNB_RANS_BITS));
  *low = vuzp1q_u16(y0, y1);
  *high = vuzp2q_u16(y0, y1);
  return vminq_u16(rest, vsubq_u16(rest, frequency));
}

NNB_INLINE uint64_t four_slots(const uint16_t *slots, const uint16_t *at) {
  const uint64_t lower = slots[at[0]] | (uint32_t)slots[at[1]] << 16;
  const uint64_t upper = slots[at[2]] | (uint32_t)slots[at[3]] << 16;
  return lower | upper << 32;
}

/* `rows` is a constant: 32, 64, or 256, which loads. Returns whether every symbol has a frequency. */
NNB_INLINE int encode_rounds(nnb_rans_enc_job *job, const row_fields *fields, int rows, int with_contexts) {
  nnb_rans_orders orders;
  nnb_rans_lanes x;
  const uint8x16_t row_mask = vdupq_n_u8((uint8_t)(rows <= 64 ? (1u << fields->row_bits) - 1 : 255));
  const uint16x8_t one = vdupq_n_u16(1);
  const nnb_rans_symbol *const table_symbols = job->table_symbols;
  const uint16_t *const slots = job->slots;
  const uint8_t *const map = rows <= 64 ? fields->first_row : job->context_map;
  const uint8_t *const contexts = job->contexts;
  const uint8_t *const symbols = job->symbols;
  uint8x16_t right = vdupq_n_u8(255);
  uint16x8_t least = vdupq_n_u16(1); /* frequency */
  uint8_t *next = job->next;
  fill_orders(&orders);
  nnb_rans_load_lanes(&x, job->states);
  for (size_t i = job->left; i > 0;) {
    found f[4];
    uint16x8_t full[8];
    uint8x16_t of_context[4];
    uint8x16_t row[4];
    uint8x16_t masks[4];
    uint16_t at[NNB_RANS_MAX_STATES];
    i -= NNB_RANS_MAX_STATES;
    for (int k = 0; k < 4; k++) of_context[k] = vdupq_n_u8(0);
    if (with_contexts) nnb_find_any_bytes(map, contexts + i, of_context);
    for (int k = 0; k < 4 && rows > 64; k++) {
      const uint8x16_t s = vld1q_u8(symbols + i + 16 * k);
      const uint16x8_t lower = as_words(vzip1q_u8(s, of_context[k]));
      const uint16x8_t upper = as_words(vzip2q_u8(s, of_context[k]));
      vst1q_u16(at + 16 * k, vshlq_n_u16(lower, SYMBOL_SHIFT));
      vst1q_u16(at + 16 * k + 8, vshlq_n_u16(upper, SYMBOL_SHIFT));
    }
    for (int k = 0; k < 4; k++) {
      if (rows <= 64) {
        const uint8x16_t s = vld1q_u8(symbols + i + 16 * k);
        row[k] = vandq_u8(s, row_mask);
        if (with_contexts) row[k] = vorrq_u8(row[k], of_context[k]);
        right = vandq_u8(right, vceqq_u8(nnb_find_bytes(fields->symbol, row[k], rows), s));
        find_frequencies(&f[k], fields, row[k], rows);
      } else {
        load_symbols(&f[k], table_symbols, at + 16 * k);
        if (with_contexts) {
          const uint8x16_t first_slot = vshlq_n_u8(of_context[k], NNB_RANS_BITS - 8);
          f[k].first[0] = vaddq_u16(f[k].first[0], as_words(vzip1q_u8(vdupq_n_u8(0), first_slot)));
          f[k].first[1] = vaddq_u16(f[k].first[1], as_words(vzip2q_u8(vdupq_n_u8(0), first_slot)));
        }
        least = vminq_u16(least, vminq_u16(f[k].frequency[0], f[k].frequency[1]));
        f[k].frequency[0] = vmaxq_u16(f[k].frequency[0], one);
        f[k].frequency[1] = vmaxq_u16(f[k].frequency[1], one);
      }
      full[2 * k] = vcgeq_u16(vshrq_n_u16(x.high[2 * k], 4), f[k].frequency[0]);
      full[2 * k + 1] = vcgeq_u16(vshrq_n_u16(x.high[2 * k + 1], 4), f[k].frequency[1]);
      masks[k] = nnb_narrow(full[2 * k], full[2 * k + 1]);
    }
    const nnb_rans_sets sets = nnb_rans_sets_of(masks);
    next -= sets.ends >> 56;
    for (int g = 8; g-- > 0;) {
      const uint8x16_t order = vreinterpretq_u8_u16(vld1q_u16(orders.of[sets.lanes >> 8 * g & 255]));
      const uint8x16_t words = vqtbl1q_u8(vreinterpretq_u8_u16(x.low[g]), order);
      vst1q_u8(next + (sets.ends >> 8 * g & 255) - 16, words);
    }
    for (int k = 0; k < 4; k++) {
      const int a = 2 * k, b = 2 * k + 1;
      if (rows <= 64) find_rest(&f[k], fields, row[k], rows);
      const uint16x8_t rank0 = split(&x.low[a], &x.high[a], full[a], f[k].frequency[0], f[k].inverse);
      const uint16x8_t rank1 = split(&x.low[b], &x.high[b], full[b], f[k].frequency[1], f[k].inverse + 2);
      vst1q_u16(at + 16 * k, vaddq_u16(rank0, f[k].first[0]));
      vst1q_u16(at + 16 * k + 8, vaddq_u16(rank1, f[k].first[1]));
    }
    for (int g = 0; g < 8; g++) {
      const uint64x1_t lower = vcreate_u64(four_slots(slots, at + 8 * g));
      const uint64x1_t upper = vcreate_u64(four_slots(slots, at + 8 * g + 4));
      x.low[g] = vorrq_u16(x.low[g], vreinterpretq_u16_u64(vcombine_u64(lower, upper)));
    }
  }
  job->next = next;
  job->left = 0;
  nnb_rans_store_lanes(job->states, &x);
  return vminvq_u8(right) != 0 && vminvq_u16(least) != 0;
}

#define NNB_RANS_ENCODER(name, rows, with_contexts)                               \
  NNB_NOINLINE static int name(nnb_rans_enc_job *job, const row_fields *fields) { \
    return encode_rounds(job, fields, rows, with_contexts);                       \
  }
NNB_RANS_ENCODER(encode_32, 32, 0)
NNB_RANS_ENCODER(encode_64, 64, 0)
NNB_RANS_ENCODER(encode_loading, 256, 0)
NNB_RANS_ENCODER(encode_32_contexts, 32, 1)
NNB_RANS_ENCODER(encode_64_contexts, 64, 1)
NNB_RANS_ENCODER(encode_loading_contexts, 256, 1)

nnb_status nnb_rans_encode_neon(nnb_rans_enc_job *job) {
  static int (*const encoders[2][3])(nnb_rans_enc_job *, const row_fields *) = {
      {encode_32, encode_64, encode_loading}, {encode_32_contexts, encode_64_contexts, encode_loading_contexts}};
  row_fields fields;
  uint32_t row_bits = job->bucket_bits;
  if (job->table_count > MAX_TABLES) return NNB_OK;
  while (job->table_count << row_bits <= MAX_ROWS && !fill_rows(&fields, job, row_bits)) row_bits++;
  const uint32_t rows = job->table_count << row_bits;
  const int kernel = (rows > 32) + (rows > 64);
  return encoders[job->contexts != NULL][kernel](job, &fields) ? NNB_OK : NNB_BAD_TENSOR;
}

/* The lower five bits of a symbol say which byte of a table has its bit, the upper three which bit that is. */
size_t nnb_rans_find_unmarked_neon(const uint8_t *symbols, size_t count, const uint8_t *marks) {
  uint8_t bits[32] = {0};
  for (uint32_t s = 0; s < 256; s++) bits[s & 31] |= (uint8_t)((marks[s] & 1u) << (s >> 5));
  const uint8x16x2_t table = {{vld1q_u8(bits), vld1q_u8(bits + 16)}};
  const uint8x16_t one = vdupq_n_u8(1);
  size_t i = 0;
  while (count - i >= 64) {
    uint8x16_t marked = vdupq_n_u8(255);
    for (int k = 0; k < 4; k++) {
      const uint8x16_t s = vld1q_u8(symbols + i + 16 * k);
      const uint8x16_t bit = vshlq_u8(one, vreinterpretq_s8_u8(vshrq_n_u8(s, 5)));
      marked = vandq_u8(marked, vtstq_u8(vqtbl2q_u8(table, vandq_u8(s, vdupq_n_u8(31))), bit));
    }
    if (vminvq_u8(marked) == 0) break;
    i += 64;
  }
  return i;
}

#else
typedef int nnb_rans_no_neon; /* a translation unit is never empty */
#endif
