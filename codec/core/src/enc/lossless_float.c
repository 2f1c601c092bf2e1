#include "enc/lossless_encoder.h"

/* Symbols that the alphabet may have before escapes or fewer mantissa bits are worth while. */
static unsigned few_symbols(const nnb_encoder *e, unsigned upper) {
  const int many = (e->choice->speed == NNB_LOSSLESS_SMALL && upper > 1) || e->present != NULL;
  return many ? NNB_FEW_SYMBOLS : NNB_FEWEST_SYMBOLS;
}

/* Mantissa bits for coding FLOAT: more where magnitudes are so close together that few symbols hold them. */
static unsigned choose_upper(const nnb_encoder *e, const nnb_items *items, const nnb_survey *survey, size_t count) {
  enum { ENOUGH = 16384 }; /* items for larger tables */
  if (items->bytes == 1 || e->choice->planes_raw || e->choice->speed == NNB_LOSSLESS_FAST) return 0;
  unsigned upper = e->choice->speed == NNB_LOSSLESS_BALANCED && e->present == NULL ? 1 : 2;
  while (count >= ENOUGH && upper < NNB_MAX_UPPER) {
    const unsigned shift = items->mantissa_bits - upper - 1u;
    if ((survey->greatest >> shift) - (survey->least >> shift) >= few_symbols(e, upper)) break;
    upper++;
  }
  return upper;
}

/* Symbols and contexts under scales of rows and columns; returns whether that is smaller than `plain` bytes,
 * by enough to be worth the time of decoding four tables. */
static int scale_symbols(nnb_encoder *e, size_t count, unsigned upper, unsigned widest, size_t plain, uint32_t *base,
                         size_t *escapes) {
  const size_t positions = e->present != NULL ? e->present_count : count;
  if (e->row_items >= positions && e->row_items > 4096) return 0;
  nnb_clamp_measures(e->highs, count, 16u << upper, e->measures);
  nnb_scales scales = {.rows = e->row_scales, .columns = e->column_scales, .contexts = e->contexts};
  if (!nnb_find_scales(e->measures, e->present, positions, e->row_items, 4u << upper, 255, e->sums, &scales)) return 0;
  int32_t first;
  const size_t escaped =
      nnb_scale_symbols(e->highs, e->contexts, count, upper, widest, (int16_t *)e->measures, e->symbols, &first);
  uint8_t map[256];
  nnb_make_map(map, NNB_SCALE_TABLES, 1);
  size_t size = nnb_estimate_plane(e, e->symbols, count, e->contexts, map, NNB_SCALE_TABLES) + 2 * escaped;
  size += scales.row_count * 5 / 8 + scales.column_count * 5 / 8;
  nnb_memcpy(e->scaled_frequencies, e->frequencies, NNB_SCALE_TABLES * 256 * sizeof *e->frequencies);
  *base = (uint32_t)first & 0xffffu;
  *escapes = escaped;
  return size + plain / 200 < plain;
}

/* Symbols of as few kinds as a few escapes allow, of which there are `escapes`; returns the base. */
static uint32_t find_symbols(nnb_encoder *e, const nnb_items *items, const void *values, size_t count, unsigned shift,
                             unsigned upper, const nnb_survey *survey, unsigned *widest, size_t *escapes) {
  const uint64_t greatest = survey->greatest >> shift, least = survey->least >> shift;
  for (*widest = few_symbols(e, upper);; *widest = *widest < NNB_FEW_SYMBOLS ? NNB_FEW_SYMBOLS : 256) {
    const uint64_t base = greatest - least < *widest ? least : greatest - *widest + 1;
    const size_t zeros = nnb_float_symbols(items, values, count, shift, (uint32_t)base, e->symbols);
    *escapes = base > least ? zeros : 0;
    if (*escapes <= count / 1024 || *widest == 256) return (uint32_t)base;
  }
}

/* Bytes of coding FLOAT with so many mantissa bits, if what is left of these has all its entropy. */
static size_t estimate_float(nnb_encoder *e, const nnb_items *items, const void *values, size_t count,
                             const nnb_survey *survey, unsigned upper) {
  unsigned widest;
  size_t escapes;
  find_symbols(e, items, values, count, nnb_divide(items, upper).shift, upper, survey, &widest, &escapes);
  return nnb_estimate_plane(e, e->symbols, count, NULL, NULL, 1) + 2 * escapes +
         count * (items->mantissa_bits - upper) / 8;
}

/* Whether the second mantissa bit saves enough to be worth the time of decoding twice as many symbols. */
static int second_bit_pays(nnb_encoder *e, const nnb_items *items, const void *values, size_t count,
                           const nnb_survey *survey) {
  const size_t one = estimate_float(e, items, values, count, survey, 1);
  return estimate_float(e, items, values, count, survey, 2) + one / 1000 < one;
}

static void write_escapes(nnb_encoder *e, const nnb_items *items, const void *values, size_t count, unsigned shift) {
  const uint64_t magnitude = ((uint64_t)1 << (8u * items->bytes - 1u)) - 1u;
  size_t found = 0;
  for (size_t at = nnb_find_zero(e->symbols, 0, count); at < count; at = nnb_find_zero(e->symbols, at + 1, count)) {
    const uint64_t high = (nnb_item(items, values, at) & magnitude) >> shift;
    e->bytes[0][found] = (uint8_t)high;
    e->bytes[1][found++] = (uint8_t)(high >> 8);
  }
  nnb_put_u32(e, found);
  nnb_write_plane(e, e->bytes[0], found);
  nnb_write_plane(e, e->bytes[1], found);
}

/* Whether a sample of what remains of the items says that there is nothing to gain. */
static int lows_look_random(const nnb_encoder *e, const nnb_items *items, const void *values, size_t count,
                            nnb_division division) {
  enum { RUN = 128, RUNS = 64 };
  if (e->choice->planes_raw) return 1;
  if (count < 2 * RUN * RUNS) return 0;
  const size_t stride = (count - RUN) / RUNS * items->bytes, run = (size_t)RUN * items->bytes;
  uint8_t *const sample = (uint8_t *)e->sums;
  for (size_t i = 0; i < RUNS; i++) nnb_memcpy(sample + i * run, (const uint8_t *)values + i * stride, run);
  nnb_float_lows(items, sample, RUN * RUNS, division, e->field, e->bytes);
  if (division.field && !nnb_is_even(e->field, 1, (size_t)RUN * RUNS / 8 * division.field, 0)) return 0;
  for (unsigned i = 0; i < division.bytes; i++)
    if (!nnb_is_even(e->bytes[i], 1, (size_t)RUN * RUNS, 0)) return 0;
  return 1;
}

static void write_raw_lows(nnb_encoder *e, const nnb_items *items, const void *values, size_t count,
                           nnb_division division) {
  const size_t sizes[2] = {count, (count * division.field + 7) / 8};
  uint8_t *planes[8] = {0};
  for (unsigned i = division.field ? 0 : 1; i <= division.bytes; i++) { /* the field is the first */
    nnb_put_u8(e, NNB_PLANE_RAW);
    planes[i] = nnb_claim(e, sizes[i == 0]);
  }
  if (!e->failed) nnb_float_lows(items, values, count, division, planes[0], planes + 1);
}

/* Returns whether lowest bytes were written in halves. */
static int write_lows(nnb_encoder *e, const nnb_items *items, const void *values, size_t count, nnb_division division,
                      unsigned upper, uint32_t base) {
  if (lows_look_random(e, items, values, count, division)) {
    write_raw_lows(e, items, values, count, division);
    return 0;
  }
  nnb_float_lows(items, values, count, division, e->field, e->bytes);
  if (division.field) {
    const size_t size = (count * division.field + 7) / 8;
    if (e->field[0] != 0 && nnb_all_equal(e->field, size)) {
      nnb_put_u8(e, NNB_PLANE_RAW);
      nnb_put_bytes(e, e->field, size);
    } else {
      nnb_write_plane(e, e->field, size);
    }
  }
  const int halved = division.bytes && nnb_write_halves(e, count, upper, base);
  for (unsigned i = (unsigned)halved; i < division.bytes; i++) nnb_write_plane(e, e->bytes[i], count);
  return halved;
}

void nnb_write_float(nnb_encoder *e, const nnb_items *items, const void *values, size_t count,
                     const nnb_survey *survey) {
  unsigned upper = choose_upper(e, items, survey, count);
  const int small = e->choice->speed == NNB_LOSSLESS_SMALL && !e->choice->planes_raw && count >= 1024;
  if (small && upper == 2 && e->present == NULL && !second_bit_pays(e, items, values, count, survey)) upper = 1;
  const nnb_division division = nnb_divide(items, upper);
  unsigned widest;
  size_t escapes;
  uint32_t base = find_symbols(e, items, values, count, division.shift, upper, survey, &widest, &escapes);
  int scaled = 0;
  if (small) {
    const size_t plain = nnb_estimate_plane(e, e->symbols, count, NULL, NULL, 1) + 2 * escapes, plain_escapes = escapes;
    uint32_t scaled_base = base;
    nnb_float_highs(items, values, count, division.shift, e->highs);
    scaled = scale_symbols(e, count, upper, widest, plain, &scaled_base, &escapes);
    if (scaled) {
      base = scaled_base;
    } else {
      escapes = plain_escapes;
      nnb_float_symbols(items, values, count, division.shift, base, e->symbols);
    }
  }
  nnb_put_u8(e, NNB_CODING_FLOAT);
  nnb_put_u8(e, upper);
  const size_t flags = e->used;
  nnb_put_u8(e, (escapes ? NNB_FLOAT_ESCAPES : 0u) | (scaled ? NNB_FLOAT_SCALED : 0u));
  nnb_put_u8(e, base & 255u);
  nnb_put_u8(e, base >> 8 & 255u);
  if (scaled) {
    const size_t positions = e->present != NULL ? e->present_count : count;
    nnb_write_plane(e, e->row_scales, (positions + e->row_items - 1) / e->row_items);
    nnb_write_plane(e, e->column_scales, positions < e->row_items ? positions : e->row_items);
    nnb_write_scaled_plane(e, e->symbols, count, NNB_SCALE_TABLES, 1);
  } else {
    nnb_write_plane(e, e->symbols, count);
  }
  if (write_lows(e, items, values, count, division, upper, base) && !e->failed) e->out[flags] |= NNB_FLOAT_HALVED;
  if (escapes) write_escapes(e, items, values, count, division.shift);
}
