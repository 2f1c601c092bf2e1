/* The state of the encoder of exactly coded values, and what its parts write. */
#ifndef NNB_ENC_LOSSLESS_ENCODER_H
#define NNB_ENC_LOSSLESS_ENCODER_H

#include "enc/lossless.h"

#define NNB_ENC_TABLES NNB_BYTES_TABLES
/* Alphabets that AVX2 decodes fastest, and those that AVX-512 does. */
#define NNB_FEWEST_SYMBOLS 32u
#define NNB_FEW_SYMBOLS 64u

typedef struct nnb_encoder {
  const nnb_lossless_choice *choice;
  size_t row_items;
  uint8_t *out;
  size_t capacity, used;
  int failed; /* out is too small, or a part of the core refused what it should not */
  uint32_t *histograms;
  uint16_t *frequencies, *scaled_frequencies;
  uint8_t *rans_work;
  uint16_t *highs, *measures;
  uint8_t *symbols, *contexts, *field, *bytes[8];
  uint8_t *code; /* of rANS */
  size_t code_size;
  /* Items on their way through codings: they stay while what these contain is written. */
  uint8_t *map, *mask, *classes, *dense, *narrow, *delta;
  uint8_t *row_scales, *column_scales;
  int64_t *sums; /* work of one step, as are measures and highs */
  size_t sum_count;
  const uint8_t *present;
  size_t present_count;
} nnb_encoder;

NNB_INLINE uint8_t *nnb_claim(nnb_encoder *e, size_t size) {
  if (e->failed || e->capacity - e->used < size) {
    e->failed = 1;
    return NULL;
  }
  e->used += size;
  return e->out + e->used - size;
}

NNB_INLINE void nnb_put_u8(nnb_encoder *e, unsigned value) {
  uint8_t *const p = nnb_claim(e, 1);
  if (p != NULL) *p = (uint8_t)value;
}

NNB_INLINE void nnb_put_u32(nnb_encoder *e, size_t value) {
  uint8_t *const p = nnb_claim(e, 4);
  if (p != NULL) nnb_store_le32(p, (uint32_t)value);
}

NNB_INLINE void nnb_put_bytes(nnb_encoder *e, const uint8_t *data, size_t size) {
  uint8_t *const p = nnb_claim(e, size);
  if (p != NULL) nnb_memcpy(p, data, size);
}

/* Whether bytes are about equally frequent; the first `run`, a multiple of 8, of each `stride`. */
int nnb_is_even(const uint8_t *data, size_t runs, size_t run, size_t stride);
int nnb_all_equal(const uint8_t *data, size_t count);
/* Tables of contexts: context modulo `tables`, or the last table for greater ones. */
void nnb_make_map(uint8_t *map, unsigned tables, int modulo);
/* Size of the plane's code, SIZE_MAX if there is none; leaves histograms and frequencies behind. */
size_t nnb_estimate_plane(nnb_encoder *e, const uint8_t *data, size_t count, const uint8_t *contexts,
                          const uint8_t *map, unsigned tables);
/* Whether a sample says that there is nothing to gain. */
int nnb_looks_random(const uint8_t *data, size_t count);
/* A plane by the shortest method. */
void nnb_write_plane(nnb_encoder *e, const uint8_t *data, size_t count);
/* The same with contexts and scaled_frequencies. */
void nnb_write_scaled_plane(nnb_encoder *e, const uint8_t *data, size_t count, unsigned tables, int modulo);
/* What follows the number of a method by rANS: size, tables if they are to be stored, code. */
void nnb_write_code(nnb_encoder *e, const uint8_t *data, size_t count, const uint16_t *frequencies,
                    const uint8_t *contexts, const uint8_t *map, unsigned tables, int with_tables);
/* The plane of e->mask, of `count` items. */
void nnb_write_mask(nnb_encoder *e, size_t count);
/* e->bytes[0], in halves where that is shorter; returns 0 where it is not. Symbols with `upper` bits below the exponent
 * are in e->symbols. */
int nnb_write_halves(nnb_encoder *e, size_t count, unsigned upper, uint32_t base);
/* Coding FLOAT. */
void nnb_write_float(nnb_encoder *e, const nnb_items *items, const void *values, size_t count,
                     const nnb_survey *survey);

#endif
