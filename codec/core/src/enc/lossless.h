/* Inner loops and working state of the encoder of exactly coded values. */
#ifndef NNB_ENC_LOSSLESS_H
#define NNB_ENC_LOSSLESS_H

#include "common/lossless.h"
#include "nnb/nnb_lossless_enc.h"
#include "nnb/nnb_rans_enc.h"

#define NNB_ENC_CHUNK 1024u

/* What one look at the items shows. */
typedef struct nnb_survey {
  uint64_t least, greatest; /* magnitudes: items without their sign bit */
  size_t zeros;             /* items all of whose bits are zero */
  int equal;                /* all items are the same */
} nnb_survey;

void nnb_survey_items(const nnb_items *items, const void *values, size_t count, nnb_survey *survey);

/* Coding FLOAT: exponents with the mantissa bits above `shift`. */
void nnb_float_highs(const nnb_items *items, const void *values, size_t count, unsigned shift, uint16_t *highs);
/* These as symbols, less `base`, 0 those that are below it and at most 255 the others. Returns how many are 0. */
size_t nnb_float_symbols(const nnb_items *items, const void *values, size_t count, unsigned shift, uint32_t base,
                         uint8_t *symbols);
/* What remains: division.bytes planes, lowest first, and the packed field. */
void nnb_float_lows(const nnb_items *items, const void *values, size_t count, nnb_division division, uint8_t *field,
                    uint8_t *const *bytes);
#if NNB_X86_DISPATCH
/* The same for the first items, 32 at a time; return of how many. */
size_t nnb_float_symbols_avx2(const nnb_items *items, const void *values, size_t count, unsigned shift, uint32_t base,
                              uint8_t *symbols, size_t *zeros);
/* table[m]: the measure of bytes of magnitude m, m below 128; that of 128 is the last. */
size_t nnb_measure_bytes_avx2(const uint8_t *values, size_t count, const uint8_t *table, uint16_t *measures);
/* Appends each byte to those of symbols below `limit` or to the others, 16 at a time; returns how many. Behind both
 * ends 8 bytes are overwritten. */
size_t nnb_part_avx2(const uint8_t *symbols, const uint8_t *bytes, size_t count, unsigned limit, uint8_t **below,
                     uint8_t **others);
size_t nnb_float_lows_avx2(const nnb_items *items, const void *values, size_t count, nnb_division division,
                           uint8_t *field, uint8_t *const *bytes);
/* The same as nnb_narrow() for the first items of 4 bytes that are numbers of half the width; returns how many. */
size_t nnb_narrow_avx2(const void *values, size_t count, nnb_any16 *narrow);
#endif
void nnb_divide_bytes(const nnb_items *items, const void *values, size_t count, uint8_t *const *planes);
void nnb_delta(const nnb_items *items, const void *values, size_t count, void *out);
/* The bits of items that are not zero; `dense` receives these items and has room for one more. Returns how many. */
size_t nnb_compact(const nnb_items *items, const void *values, size_t count, uint8_t *mask, void *dense);
/* Whether all items are numbers of half the width; `narrow` receives them, as far as they are. */
int nnb_narrow(const nnb_items *items, const void *values, size_t count, void *narrow);
size_t nnb_unpack(unsigned bits, const uint8_t *packed, size_t bytes, uint8_t *elements);
/* Number of different items, at most `most` (256 or less), else 0; `table` receives them in ascending order, `indices`
 * their ranks. `work` has 1024 * 12 bytes. */
size_t nnb_find_table(const nnb_items *items, const void *values, size_t count, size_t most, uint8_t *table,
                      uint8_t *indices, void *work);
uint64_t nnb_item(const nnb_items *items, const void *values, size_t index);
#define NNB_SAMPLES 512u
/* Items that lie equally far apart. */
void nnb_sample_items(const nnb_items *items, const void *values, size_t count, uint64_t *samples);

/*
 * Whether a row looks like integers times scales: *length becomes the length of its runs (0: a scale a column), of
 * which `integers` are work for one row or column, in place.
 */
int nnb_probe_multiples(const nnb_items *items, const void *values, size_t count, size_t row_items, uint8_t *integers,
                        size_t *length);
/* The parts of coding MULTIPLES; 0 if some run is none. */
int nnb_find_multiples(const nnb_items *items, const void *values, size_t count, size_t row_items, size_t length,
                       nnb_any32 *scales, uint8_t *offsets, uint8_t *integers, size_t *scale_count);

/* Whether a sample says that items come back, if less often than those of a table. */
int nnb_probe_dictionary(const nnb_items *items, const void *values, size_t count);
/*
 * Number of different items, at most `most` (NNB_MAX_ENTRIES or less), else 0; `entries` receives them in ascending
 * order of magnitudes, all or each 256 of the same frequency, `indices` their places. `work` has 24 bytes for each item
 * and the alignment of 64-bit numbers.
 */
size_t nnb_find_dictionary(const nnb_items *items, const void *values, size_t count, size_t most, void *entries,
                           nnb_any16 *indices, void *work);

/* Contexts of items by the scales of their row and their column. */
typedef struct nnb_scales {
  uint8_t *rows, *columns;
  size_t row_count, column_count;
  uint8_t *contexts; /* of the items that are present */
} nnb_scales;

/*
 * Finds scales from a logarithm-like measure of each item that is present, below 2^15: `step` sixteenths of a measure's
 * unit make one step of a scale; no sum of two is greater than `most`. `mask` NULL: all `positions` are present. `sums`
 * is work for an entry a row and two a column. Returns 0 where there is no use in it.
 */
int nnb_find_scales(const uint16_t *measures, const uint8_t *mask, size_t positions, size_t row_items, unsigned step,
                    unsigned most, int64_t *sums, nnb_scales *scales);

/* Highs as measures: those more than `range` below the greatest say nothing about scale. */
void nnb_clamp_measures(const uint16_t *highs, size_t count, unsigned range, uint16_t *measures);

/* Symbols of highs (below 2^15) less their octaves, less `base`, below `widest`; `base` may be negative. Returns
 * how many escape. */
size_t nnb_scale_symbols(const uint16_t *highs, const uint8_t *contexts, size_t count, unsigned upper, unsigned widest,
                         int16_t *scaled, uint8_t *symbols, int32_t *base);

#endif
