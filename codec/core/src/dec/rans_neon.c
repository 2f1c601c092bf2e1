/*
 * rANS decoding: from rows in registers, eight states to a register in halves, or from expanded tables, four states to
 * a register.
 */
#include "common/rans_neon.h"

#include "dec/rans.h"

#if NNB_NEON

/* Rows by field, 16-bit fields in halves. */
typedef struct row_fields {
  uint8_t split_half[2][NNB_RANS_NEON_ROWS];
  uint8_t alias[NNB_RANS_NEON_ROWS];
  uint8_t symbol[NNB_RANS_NEON_ROWS];
  uint8_t frequency_half[2][NNB_RANS_NEON_ROWS];
  uint8_t alias_rank_half[2][NNB_RANS_NEON_ROWS];
  uint8_t first_row[256]; /* by context */
} row_fields;

static void fill_fields(row_fields *fields, const nnb_rans_job *job) {
  const uint32_t bits = job->model->bucket_bits;
  nnb_memset(fields, 0, sizeof *fields);
  for (uint32_t i = 0; i < job->model->table_count << bits; i++) {
    const nnb_rans_row *const row = job->model->rows + i;
    /* The last slot of a bucket without alias is one of its alias, itself: so a split is at most 255 where slots are. */
    const int whole = row->split == NNB_RANS_SLOTS >> bits;
    const uint32_t split = whole ? row->split - 1u : row->split;
    fields->alias[i] = (uint8_t)((i >> bits << bits) + row->alias);
    fields->symbol[i] = row->symbol;
    for (uint32_t half = 0; half < 2; half++) {
      fields->split_half[half][i] = (uint8_t)(split >> 8 * half);
      fields->frequency_half[half][i] = (uint8_t)(row->frequency >> 8 * half);
      fields->alias_rank_half[half][i] = (uint8_t)(row->alias_rank >> 8 * half);
    }
  }
  for (uint32_t c = 0; c < 256 && job->contexts != NULL; c++) {
    fields->first_row[c] = (uint8_t)(job->context_map[c] << bits);
  }
}

/* For each set, the bytes of the next words that its lanes take; the others none. */
static void fill_word_orders(nnb_rans_orders *orders) {
  uint8_t counts[256];
  nnb_memset(orders->of[0], 255, sizeof orders->of[0]);
  counts[0] = 0;
  for (uint32_t lane = 0; lane < 8; lane++) {
    for (uint32_t rest = 0; rest < 1u << lane; rest++) {
      const uint32_t set = rest | 1u << lane;
      counts[set] = (uint8_t)(counts[rest] + 1);
      nnb_memcpy(orders->of[set], orders->of[rest], sizeof orders->of[set]);
      orders->of[set][lane] = (uint16_t)(0x0100 + 0x0202 * counts[rest]);
    }
  }
}

/* Constants: `rows`, 32 or 64, and whether buckets are `wide`, of more than 256 slots. */
NNB_INLINE void decode_rows(nnb_rans_job *job, int rows, int wide, int with_contexts) {
  row_fields fields;
  nnb_rans_orders orders;
  nnb_rans_lanes x;
  const uint32_t bucket_bits = job->model->bucket_bits;
  const int16x8_t shift = vdupq_n_s16((int16_t)((int)bucket_bits - NNB_RANS_BITS));
  const uint8x16_t row_mask = vdupq_n_u8((uint8_t)((1u << bucket_bits) - 1));
  const uint16x8_t offset_mask = vdupq_n_u16((uint16_t)((NNB_RANS_SLOTS >> bucket_bits) - 1));
  const uint8_t *next = job->next;
  size_t i = job->done;
  fill_fields(&fields, job);
  fill_word_orders(&orders);
  nnb_rans_load_lanes(&x, job->states);
  while (job->count - i >= NNB_RANS_MAX_STATES && (size_t)(job->end - next) >= 2 * NNB_RANS_MAX_STATES) {
    uint8x16_t first_row[4];
    uint8x16_t masks[4];
    for (int k = 0; k < 4; k++) first_row[k] = vdupq_n_u8(0);
    if (with_contexts) nnb_find_any_bytes(fields.first_row, job->contexts + i, first_row);
    for (int k = 0; k < 4; k++) {
      const uint16x8_t *const low = x.low + 2 * k;
      uint8x16_t row = vandq_u8(nnb_narrow(vshlq_u16(low[0], shift), vshlq_u16(low[1], shift)), row_mask);
      if (with_contexts) row = vorrq_u8(row, first_row[k]);
      const uint16x8_t offset[2] = {vandq_u16(low[0], offset_mask), vandq_u16(low[1], offset_mask)};
      uint8x16_t other;
      if (wide) {
        const uint8x16x2_t split = nnb_find_words(fields.split_half, row, rows);
        other = nnb_narrow(vcgeq_u16(offset[0], vreinterpretq_u16_u8(split.val[0])),
                           vcgeq_u16(offset[1], vreinterpretq_u16_u8(split.val[1])));
      } else {
        other = vcgeq_u8(nnb_narrow(offset[0], offset[1]), nnb_find_bytes(fields.split_half[0], row, rows));
      }
      const uint8x16_t last = vbslq_u8(other, nnb_find_bytes(fields.alias, row, rows), row);
      const uint8x16x2_t alias_rank = nnb_find_words(fields.alias_rank_half, vornq_u8(row, other), rows);
      const uint8x16x2_t frequency = nnb_find_words(fields.frequency_half, last, rows);
      uint16x8_t empty[2];
      vst1q_u8(job->symbols + i + 16 * k, nnb_find_bytes(fields.symbol, last, rows));
      for (int h = 0; h < 2; h++) {
        const int g = 2 * k + h;
        const uint16x8_t f = vreinterpretq_u16_u8(frequency.val[h]);
        const uint16x8_t rank = vaddq_u16(offset[h], vreinterpretq_u16_u8(alias_rank.val[h]));
        const uint16x8_t quotient = vsliq_n_u16(vshrq_n_u16(low[h], NNB_RANS_BITS), x.high[g], 16 - NNB_RANS_BITS);
        const uint32x4_t y0 = vmlal_u16(vmovl_u16(vget_low_u16(rank)), vget_low_u16(f), vget_low_u16(quotient));
        const uint32x4_t y1 = vmlal_high_u16(vmovl_high_u16(rank), f, quotient);
        const uint16x8_t upper = vuzp2q_u16(vreinterpretq_u16_u32(y0), vreinterpretq_u16_u32(y1));
        x.low[g] = vuzp1q_u16(vreinterpretq_u16_u32(y0), vreinterpretq_u16_u32(y1));
        x.high[g] = vmlaq_u16(upper, f, vshrq_n_u16(x.high[g], NNB_RANS_BITS));
        empty[h] = vceqzq_u16(x.high[g]);
        x.high[g] = vorrq_u16(x.high[g], vandq_u16(x.low[g], empty[h]));
      }
      masks[k] = nnb_narrow(empty[0], empty[1]);
    }
    const nnb_rans_sets sets = nnb_rans_sets_of(masks);
    for (int g = 0; g < 8; g++) {
      const uint8x16_t order = vreinterpretq_u8_u16(vld1q_u16(orders.of[sets.lanes >> 8 * g & 255]));
      const uint8x16_t words = vld1q_u8(next + (sets.ends << 8 >> 8 * g & 255));
      x.low[g] = vreinterpretq_u16_u8(vqtbx1q_u8(vreinterpretq_u8_u16(x.low[g]), words, order));
    }
    next += sets.ends >> 56;
    i += NNB_RANS_MAX_STATES;
  }
  job->next = next;
  job->done = i;
  nnb_rans_store_lanes(job->states, &x);
}

#define NNB_RANS_DECODER(name, rows, wide, with_contexts) \
  NNB_NOINLINE static void name(nnb_rans_job *job) { decode_rows(job, rows, wide, with_contexts); }
NNB_RANS_DECODER(decode_32, 32, 0, 0)
NNB_RANS_DECODER(decode_64, 64, 0, 0)
NNB_RANS_DECODER(decode_wide, 32, 1, 0)
NNB_RANS_DECODER(decode_32_contexts, 32, 0, 1)
NNB_RANS_DECODER(decode_64_contexts, 64, 0, 1)
NNB_RANS_DECODER(decode_wide_contexts, 64, 1, 1)

void nnb_rans_decode_neon(nnb_rans_job *job) {
  static void (*const decoders[2][3])(nnb_rans_job *) = {
      {decode_32, decode_64, decode_wide}, {decode_32_contexts, decode_64_contexts, decode_wide_contexts}};
  const int wide = NNB_RANS_SLOTS >> job->model->bucket_bits > 256;
  decoders[job->contexts != NULL][wide ? 2 : job->model->table_count << job->model->bucket_bits > 32](job);
}

#define LANES 4u
#define GROUPS (NNB_RANS_MAX_STATES / LANES)

/* For each set of lanes, the bytes of the next words that each of them takes, and how many bytes these are. */
typedef struct word_orders {
  uint8_t of[16][16];
  uint8_t sizes[16];
} word_orders;

static void fill_orders(word_orders *orders) {
  for (uint32_t set = 0; set < 16; set++) {
    uint8_t next = 0;
    for (uint32_t lane = 0; lane < LANES; lane++) {
      const int takes = set >> lane & 1u;
      for (uint32_t byte = 0; byte < 4; byte++) {
        orders->of[set][4 * lane + byte] = takes && byte < 2 ? next++ : 255; /* 255 gives zero */
      }
    }
    orders->sizes[set] = next;
  }
}

NNB_INLINE void decode_expanded(nnb_rans_job *job, const uint32_t *entries, const uint8_t *contexts) {
  static const uint32_t lane_bits[4] = {1, 2, 4, 8};
  word_orders orders;
  uint32_t first_entry[256];
  uint32x4_t x[GROUPS];
  const uint32x4_t bits = vld1q_u32(lane_bits);
  const uint32x4_t slot_mask = vdupq_n_u32(NNB_RANS_SLOTS - 1);
  const uint8_t *const end = job->end;
  const uint8_t *next = job->next;
  const size_t count = job->count;
  uint8_t *const symbols = job->symbols;
  size_t i = job->done;
  fill_orders(&orders);
  for (uint32_t c = 0; c < 256 && contexts != NULL; c++) {
    first_entry[c] = (uint32_t)job->context_map[c] << NNB_RANS_BITS;
  }
  for (uint32_t g = 0; g < GROUPS; g++) x[g] = vld1q_u32(job->states + LANES * g);
  while (count - i >= NNB_RANS_MAX_STATES && (size_t)(end - next) >= 2 * NNB_RANS_MAX_STATES) {
    for (uint32_t g = 0; g < GROUPS; g += 4) {
      uint32x4_t entry[4];
      uint16x4_t lower[4]; /* halves of the entries */
      for (uint32_t k = 0; k < 4; k++) {
        uint32_t index[LANES];
        vst1q_u32(index, vandq_u32(x[g + k], slot_mask));
        for (uint32_t j = 0; j < LANES && contexts != NULL; j++) {
          index[j] += first_entry[contexts[i + LANES * (g + k) + j]];
        }
        entry[k] = vdupq_n_u32(entries[index[0]]);
        entry[k] = vld1q_lane_u32(entries + index[1], entry[k], 1);
        entry[k] = vld1q_lane_u32(entries + index[2], entry[k], 2);
        entry[k] = vld1q_lane_u32(entries + index[3], entry[k], 3);
      }
      for (uint32_t k = 0; k < 4; k++) {
        const uint32x4_t frequency = vaddq_u32(vandq_u32(vshrq_n_u32(entry[k], 8), slot_mask), vdupq_n_u32(1));
        const uint32x4_t rank = vshrq_n_u32(entry[k], 20);
        const uint32x4_t y = vmlaq_u32(rank, frequency, vshrq_n_u32(x[g + k], NNB_RANS_BITS));
        const uint32x4_t low = vcltq_u32(y, vdupq_n_u32(NNB_RANS_LOW));
        const uint32_t set = vaddvq_u32(vandq_u32(low, bits));
        const uint8x16_t words = vcombine_u8(vld1_u8(next), vdup_n_u8(0));
        const uint32x4_t filling = vreinterpretq_u32_u8(vqtbl1q_u8(words, vld1q_u8(orders.of[set])));
        x[g + k] = vorrq_u32(vbslq_u32(low, vshlq_n_u32(y, 16), y), filling);
        next += orders.sizes[set];
        lower[k] = vmovn_u32(entry[k]);
      }
      const uint8x8_t first = vmovn_u16(vcombine_u16(lower[0], lower[1]));
      const uint8x8_t second = vmovn_u16(vcombine_u16(lower[2], lower[3]));
      vst1q_u8(symbols + i + LANES * g, vcombine_u8(first, second));
    }
    i += NNB_RANS_MAX_STATES;
  }
  job->next = next;
  job->done = i;
  for (uint32_t g = 0; g < GROUPS; g++) vst1q_u32(job->states + LANES * g, x[g]);
}

void nnb_rans_decode_neon_expanded(nnb_rans_job *job, const uint32_t *entries) {
  if (job->contexts == NULL) {
    decode_expanded(job, entries, NULL);
  } else {
    decode_expanded(job, entries, job->contexts);
  }
}

#else
typedef int nnb_rans_no_neon; /* a translation unit is never empty */
#endif
