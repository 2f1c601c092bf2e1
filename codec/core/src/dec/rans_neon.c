/*
 * rANS decoding, 64 symbols a round. What is to be known of a slot comes out of registers where these can hold the rows
 * of all tables, else out of expanded tables.
 *
 * The states are kept as upper and lower halves, eight to a register: then look-ups, multiplications and the
 * renormalization (upper half 0: lower half moves up, next word comes in below) all work on full registers.
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
    fields->alias[i] = (uint8_t)((i >> bits << bits) + row->alias);
    fields->symbol[i] = row->symbol;
    for (uint32_t half = 0; half < 2; half++) {
      fields->split_half[half][i] = (uint8_t)(row->split >> 8 * half);
      fields->frequency_half[half][i] = (uint8_t)(row->frequency >> 8 * half);
      fields->alias_rank_half[half][i] = (uint8_t)(row->alias_rank >> 8 * half);
    }
  }
  for (uint32_t c = 0; c < 256 && job->contexts != NULL; c++) {
    fields->first_row[c] = (uint8_t)(job->context_map[c] << bits);
  }
}

/* For each set, the bytes of the next words that its lanes take; the others none. */
static void fill_orders(nnb_rans_orders *orders) {
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

/* What is to be known of 16 slots. */
typedef struct found {
  uint16x8_t frequency[2];
  uint16x8_t rank[2];
  uint8x16_t symbol;
} found;

NNB_INLINE uint16x8_t as_words(uint8x16_t bytes) { return vreinterpretq_u16_u8(bytes); }

typedef struct row_masks {
  int16x8_t shift;
  uint8x16_t row;
  uint16x8_t offset;
} row_masks;

/*
 * Constants: `rows`, 32 or 64, and whether buckets are `wide`, of more than 256 slots. `first_row` is the constant NULL
 * without contexts.
 */
NNB_INLINE void find_in_rows(found *f, const row_fields *fields, const row_masks *masks, const uint16x8_t *low,
                             const uint8x16_t *first_row, int rows, int wide) {
  const uint8x16_t bucket = nnb_narrow(vshlq_u16(low[0], masks->shift), vshlq_u16(low[1], masks->shift));
  uint8x16_t row = vandq_u8(bucket, masks->row);
  if (first_row != NULL) row = vorrq_u8(row, *first_row);
  const uint16x8_t offset[2] = {vandq_u16(low[0], masks->offset), vandq_u16(low[1], masks->offset)};
  uint8x16_t other; /* A split of 256 seems to be 0: all is the alias, which is the bucket itself. */
  if (wide) {
    const uint8x16x2_t split = nnb_find_words(fields->split_half, row, rows);
    other = nnb_narrow(vcgeq_u16(offset[0], as_words(split.val[0])), vcgeq_u16(offset[1], as_words(split.val[1])));
  } else {
    other = vcgeq_u8(nnb_narrow(offset[0], offset[1]), nnb_find_bytes(fields->split_half[0], row, rows));
  }
  const uint8x16_t last = vbslq_u8(other, nnb_find_bytes(fields->alias, row, rows), row);
  const uint8x16x2_t alias_rank = nnb_find_words(fields->alias_rank_half, vornq_u8(row, other), rows);
  const uint8x16x2_t frequency = nnb_find_words(fields->frequency_half, last, rows);
  f->symbol = nnb_find_bytes(fields->symbol, last, rows);
  for (int h = 0; h < 2; h++) {
    f->frequency[h] = as_words(frequency.val[h]);
    f->rank[h] = vaddq_u16(offset[h], as_words(alias_rank.val[h]));
  }
}

NNB_INLINE uint16x8_t four_entries(const uint32_t *entries, const uint32_t *at) {
  const uint64_t lower = entries[at[0]] | (uint64_t)entries[at[1]] << 32;
  const uint64_t upper = entries[at[2]] | (uint64_t)entries[at[3]] << 32;
  return vreinterpretq_u16_u64(vcombine_u64(vcreate_u64(lower), vcreate_u64(upper)));
}

NNB_INLINE void load_entries(found *f, const uint32_t *entries, const uint32_t *at) {
  uint16x8_t lower[2];
  for (int h = 0; h < 2; h++) {
    const uint16x8_t first = four_entries(entries, at + 8 * h), second = four_entries(entries, at + 8 * h + 4);
    const uint16x8_t upper = vuzp2q_u16(first, second);
    lower[h] = vuzp1q_u16(first, second);
    const uint16x8_t less_one = vsliq_n_u16(vshrq_n_u16(lower[h], 8), upper, 8);
    f->frequency[h] = vaddq_u16(vandq_u16(less_one, vdupq_n_u16(NNB_RANS_SLOTS - 1)), vdupq_n_u16(1));
    f->rank[h] = vshrq_n_u16(upper, 4);
  }
  f->symbol = nnb_narrow(lower[0], lower[1]);
}

/* Numbers of the entries of 16 slots. */
NNB_INLINE void place_entries(uint32_t *at, const uint16x8_t *low, uint8x16_t table) {
  const uint16x8_t tables[2] = {vmovl_u8(vget_low_u8(table)), vmovl_high_u8(table)};
  for (int h = 0; h < 2; h++) {
    const uint16x8_t slot = vandq_u16(low[h], vdupq_n_u16(NNB_RANS_SLOTS - 1));
    const uint32x4_t first = vshll_n_u16(vget_low_u16(tables[h]), NNB_RANS_BITS);
    const uint32x4_t second = vshll_high_n_u16(tables[h], NNB_RANS_BITS);
    vst1q_u32(at + 8 * h, vaddw_u16(first, vget_low_u16(slot)));
    vst1q_u32(at + 8 * h + 4, vaddw_high_u16(second, slot));
  }
}

/* New halves of eight states; returns which of them have no upper half and thus take a word as their lower one. */
NNB_INLINE uint16x8_t advance(uint16x8_t *low, uint16x8_t *high, uint16x8_t frequency, uint16x8_t rank) {
  const uint16x8_t quotient = vsliq_n_u16(vshrq_n_u16(*low, NNB_RANS_BITS), *high, 16 - NNB_RANS_BITS);
  const uint32x4_t y0 = vmlal_u16(vmovl_u16(vget_low_u16(rank)), vget_low_u16(frequency), vget_low_u16(quotient));
  const uint32x4_t y1 = vmlal_high_u16(vmovl_high_u16(rank), frequency, quotient);
  const uint16x8_t lower = vuzp1q_u16(vreinterpretq_u16_u32(y0), vreinterpretq_u16_u32(y1));
  const uint16x8_t carry = vuzp2q_u16(vreinterpretq_u16_u32(y0), vreinterpretq_u16_u32(y1));
  const uint16x8_t upper = vmlaq_u16(carry, frequency, vshrq_n_u16(*high, NNB_RANS_BITS));
  const uint16x8_t empty = vceqzq_u16(upper);
  *low = lower;
  *high = vorrq_u16(upper, vandq_u16(lower, empty));
  return empty;
}

/* `rows`: as above, or 0, which loads `entries`. */
NNB_INLINE void decode_rounds(nnb_rans_job *job, const uint32_t *entries, int rows, int wide, int with_contexts) {
  row_fields fields;
  nnb_rans_orders orders;
  nnb_rans_lanes x;
  const uint32_t bucket_bits = job->model->bucket_bits;
  const row_masks row_of = {vdupq_n_s16((int16_t)((int)bucket_bits - NNB_RANS_BITS)),
                            vdupq_n_u8((uint8_t)((1u << bucket_bits) - 1)),
                            vdupq_n_u16((uint16_t)((NNB_RANS_SLOTS >> bucket_bits) - 1))};
  const uint8_t *const map = rows ? fields.first_row : job->context_map;
  const uint8_t *const contexts = job->contexts;
  const uint8_t *const end = job->end;
  const uint8_t *next = job->next;
  uint8_t *const symbols = job->symbols;
  const size_t count = job->count;
  size_t i = job->done;
  if (rows) fill_fields(&fields, job);
  fill_orders(&orders);
  nnb_rans_load_lanes(&x, job->states);
  while (count - i >= NNB_RANS_MAX_STATES && (size_t)(end - next) >= 2 * NNB_RANS_MAX_STATES) {
    uint8x16_t of_context[4];
    uint8x16_t masks[4];
    uint32_t at[NNB_RANS_MAX_STATES];
    for (int k = 0; k < 4; k++) of_context[k] = vdupq_n_u8(0);
    if (with_contexts) nnb_find_any_bytes(map, contexts + i, of_context);
    for (int k = 0; k < 4 && !rows; k++) place_entries(at + 16 * k, x.low + 2 * k, of_context[k]);
    for (int k = 0; k < 4; k++) {
      found f;
      if (rows) {
        find_in_rows(&f, &fields, &row_of, x.low + 2 * k, with_contexts ? &of_context[k] : NULL, rows, wide);
      } else {
        load_entries(&f, entries, at + 16 * k);
      }
      vst1q_u8(symbols + i + 16 * k, f.symbol);
      const uint16x8_t empty = advance(&x.low[2 * k], &x.high[2 * k], f.frequency[0], f.rank[0]);
      masks[k] = nnb_narrow(empty, advance(&x.low[2 * k + 1], &x.high[2 * k + 1], f.frequency[1], f.rank[1]));
    }
    const nnb_rans_sets sets = nnb_rans_sets_of(masks);
    for (int g = 0; g < 8; g++) {
      const uint8x16_t order = vreinterpretq_u8_u16(vld1q_u16(orders.of[sets.lanes >> 8 * g & 255]));
      const uint8x16_t words = vld1q_u8(next + (sets.ends << 8 >> 8 * g & 255));
      x.low[g] = as_words(vqtbx1q_u8(vreinterpretq_u8_u16(x.low[g]), words, order));
    }
    next += sets.ends >> 56;
    i += NNB_RANS_MAX_STATES;
  }
  job->next = next;
  job->done = i;
  nnb_rans_store_lanes(job->states, &x);
}

#define NNB_RANS_DECODER(name, rows, wide, with_contexts)                     \
  NNB_NOINLINE static void name(nnb_rans_job *job, const uint32_t *entries) { \
    decode_rounds(job, entries, rows, wide, with_contexts);                   \
  }
NNB_RANS_DECODER(decode_32, 32, 0, 0)
NNB_RANS_DECODER(decode_64, 64, 0, 0)
NNB_RANS_DECODER(decode_wide, 32, 1, 0)
NNB_RANS_DECODER(decode_expanded, 0, 0, 0)
NNB_RANS_DECODER(decode_32_contexts, 32, 0, 1)
NNB_RANS_DECODER(decode_64_contexts, 64, 0, 1)
NNB_RANS_DECODER(decode_wide_contexts, 64, 1, 1)
NNB_RANS_DECODER(decode_expanded_contexts, 0, 0, 1)

void nnb_rans_decode_neon(nnb_rans_job *job, const uint32_t *entries) {
  static void (*const decoders[2][4])(nnb_rans_job *, const uint32_t *) = {
      {decode_32, decode_64, decode_wide, decode_expanded},
      {decode_32_contexts, decode_64_contexts, decode_wide_contexts, decode_expanded_contexts}};
  const uint32_t rows = job->model->table_count << job->model->bucket_bits;
  const int wide = NNB_RANS_SLOTS >> job->model->bucket_bits > 256;
  decoders[job->contexts != NULL][entries != NULL ? 3 : wide ? 2 : rows > 32](job, entries);
}

#else
typedef int nnb_rans_no_neon; /* a translation unit is never empty */
#endif
