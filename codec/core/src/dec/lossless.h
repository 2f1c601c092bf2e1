/* Inner loops of the decoder of exactly coded values. */
#ifndef NNB_DEC_LOSSLESS_H
#define NNB_DEC_LOSSLESS_H

#include "common/lossless.h"

#define NNB_CHUNK 1024u /* items that the loops take at a time; a constant plane has so many bytes */

/* Bytes of a plane, one for each item, or NNB_CHUNK equal ones. */
typedef struct nnb_plane {
  const uint8_t *data;
  int constant;
} nnb_plane;

/* Coding FLOAT, without what escaped. */
typedef struct nnb_float_planes {
  nnb_division division;
  nnb_plane symbols;
  nnb_plane bytes[6];      /* lowest first */
  const uint8_t *field;    /* division.field bits an item, packed; NULL if constant */
  uint8_t field_constant;  /* then */
  const uint8_t *contexts; /* octave * 4 + quarter, or NULL */
  unsigned upper;
  uint32_t base;
} nnb_float_planes;

void nnb_merge_float(const nnb_items *items, const nnb_float_planes *planes, void *out, size_t count);
#if NNB_X86_DISPATCH
/* The same for the first items, which are 32 at a time; returns how many these are. */
size_t nnb_merge_float_avx2(const nnb_items *items, const nnb_float_planes *planes, void *out, size_t count);
size_t nnb_widen_avx2(const nnb_any16 *narrow, nnb_any32 *out, size_t count); /* returns how many it did */
#endif
size_t nnb_count_below(const uint8_t *symbols, size_t count, unsigned limit); /* not 0 */
/* Bytes of upper halves, two each, and of lower ones; returns whether all lower halves are below 16. */
int nnb_join_halves(const uint8_t *upper, const uint8_t *lower, size_t count, uint8_t *out);
/* The next byte of `below` for each symbol below `limit` (not 0), of `others` for each other; behind the bytes of both,
 * 8 more may be read. */
void nnb_spread(const uint8_t *symbols, size_t count, unsigned limit, const uint8_t *below, const uint8_t *others,
                uint8_t *out);
#if NNB_X86_DISPATCH
/* The same for the first symbols, `done` of them. */
size_t nnb_count_below_avx2(const uint8_t *symbols, size_t count, unsigned limit, size_t *done);
/* The same for the first symbols, 16 at a time; returns how many these are. */
size_t nnb_spread_avx2(const uint8_t *symbols, size_t count, unsigned limit, const uint8_t **below,
                       const uint8_t **others, uint8_t *out);
#endif
void nnb_merge_bytes(const nnb_items *items, const nnb_plane *planes, void *out, size_t count);
void nnb_undo_delta(const nnb_items *items, void *out, size_t count);
void nnb_apply_table(const nnb_items *items, const uint8_t *table, const uint8_t *indices, void *out, size_t count);
/* Returns whether all indices are below `entries`; others are not followed. Of items of 2 bytes `out` may be the
 * indices. */
int nnb_look_up(const nnb_items *items, const void *dictionary, size_t entries, const void *indices, void *out,
                size_t count);
void nnb_fill(const nnb_items *items, const uint8_t *value, void *out, size_t count);
void nnb_widen(const nnb_items *items, const void *narrow, void *out, size_t count);
void nnb_pack(unsigned bits, const uint8_t *elements, uint8_t *out, size_t bytes);
size_t nnb_count_bits(const uint8_t *mask, size_t bits);
/* values has as many items as mask has ones, and 64 bytes more that may be read. */
void nnb_expand(const nnb_items *items, const uint8_t *mask, const void *values, void *out, size_t count);
/* contexts[i] of the items whose mask bit is one move to the front. */
void nnb_compress_contexts(const uint8_t *mask, uint8_t *contexts, size_t count);
void nnb_add_scales(const uint8_t *rows, const uint8_t *columns, size_t row_items, uint8_t *contexts, size_t count);

#endif
