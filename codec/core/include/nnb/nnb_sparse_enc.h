/* nnbits encoder: sparse maps; see nnb_sparse.h for the words. */
#ifndef NNB_SPARSE_ENC_H
#define NNB_SPARSE_ENC_H

#include "nnb/nnb_sparse.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An N:M pattern along a dimension. */
typedef struct nnb_sparse_pattern {
  uint8_t n;
  uint8_t m;
  uint8_t axis;
  uint8_t exact; /* all groups have n elements, not fewer */
} nnb_sparse_pattern;

/* Sets the bits of the elements whose bytes are not all zero; returns how many. item_size is 1, 2, 4, 8 or 16. */
uint64_t nnb_sparse_nonzero(const void *dense, uint64_t elements, size_t item_size, uint8_t *words);

/* The elements whose bits are set, one after the other. */
void nnb_sparse_pack(const uint8_t *words, uint64_t elements, size_t item_size, const void *dense, void *values);

/* The most and the fewest elements in a group of m along the axis, whose size m divides; stops early, with *most ==
 * limit + 1, at a group of more than limit. */
nnb_status nnb_sparse_group_range(const uint8_t *words, const uint64_t *dimensions, size_t count_dimensions, uint32_t m,
                                  uint32_t axis, uint32_t limit, uint32_t *most, uint32_t *fewest);

/* Sets the first free bits of groups with fewer than n elements. NNB_BAD_OPTION if a group has more, or the pattern
 * does not suit the shape. */
nnb_status nnb_sparse_fill_pattern(uint8_t *words, const uint64_t *dimensions, size_t count_dimensions,
                                   const nnb_sparse_pattern *pattern);

/* Writes a section; *size becomes its length. `pattern` belongs to kind 4, `keeps` (as of nnb_sparse_keeps()) to kind
 * 5, which needs no words; both are NULL else. work as nnb_sparse_sizes() says for the kind. NNB_BUFFER_SIZE if
 * capacity (or work) is too small, NNB_BAD_OPTION if kind, form and words do not go together. */
nnb_status nnb_sparse_encode(uint32_t kind, int coded, const uint8_t *words, const uint64_t *dimensions,
                             size_t count_dimensions, const nnb_sparse_pattern *pattern, const uint8_t *keeps,
                             uint8_t *section, size_t capacity, size_t *size, void *work, size_t work_size);

#ifdef __cplusplus
}
#endif

#endif
