/*
 * nnbits decoder: sparse maps (docs/sparse-maps.md), which say what elements of a pruned tensor exist.
 *
 * A map becomes `words`: a bit an element in row-major order, least significant first, in whole words of 8 bytes; bits
 * behind the last element are zero. The caller owns all memory and nothing here allocates.
 *
 *   nnb_sparse_sizes(kind, dimensions, count, &words_size, &work_size);
 *   nnb_sparse_decode(kind, section, section_size, dimensions, count, value_count, words, words_size, work, work_size);
 *   nnb_sparse_expand(words, elements, item_size, values, value_count, dense);
 */
#ifndef NNB_SPARSE_H
#define NNB_SPARSE_H

#include <stddef.h>
#include <stdint.h>

#include "nnb/nnb_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* map_kind */
enum {
  NNB_SPARSE_BITMASK = 1,
  NNB_SPARSE_TWO_LEVEL = 2,
  NNB_SPARSE_GAPS = 3,
  NNB_SPARSE_PATTERN = 4,
  NNB_SPARSE_STRUCTURED = 5,
  NNB_SPARSE_CODED = 6
};

#define NNB_SPARSE_MAX_DIMENSIONS 255
#define NNB_SPARSE_MAX_PATTERN 32

/* Bytes of words and work for a piece of that shape: an eighth of a byte an element, and at most 300 KiB (kind 2 takes
 * 1/512 byte an element more, kind 5 1/8 byte an index). NNB_LIMIT if the elements are too many for this machine,
 * NNB_UNSUPPORTED_FEATURE for an unknown kind. */
nnb_status nnb_sparse_sizes(uint32_t kind, const uint64_t *dimensions, size_t count_dimensions, size_t *words_size,
                            size_t *work_size);

/* Reads a map. `work` is aligned as malloc() does. NNB_SPARSE_MAP if the section is damaged or disagrees with the shape
 * or with value_count; NNB_BUFFER_SIZE if words or work are too small. After an error the words are undefined. */
nnb_status nnb_sparse_decode(uint32_t kind, const uint8_t *section, size_t size, const uint64_t *dimensions,
                             size_t count_dimensions, uint64_t value_count, uint8_t *words, size_t words_size,
                             void *work, size_t work_size);

/* What a section of kind 5 keeps: for each dimension whole words, all ones (but for the rest of the last) if it has no
 * mask. keeps_size is the sum over the dimensions d of (d + 63) / 64 * 8. */
nnb_status nnb_sparse_keeps(const uint8_t *section, size_t size, const uint64_t *dimensions, size_t count_dimensions,
                            uint8_t *keeps, size_t keeps_size, void *work, size_t work_size);

/* The dense elements: the values in order where bits are set, zeros elsewhere. item_size is 1, 2, 4, 8 or 16 bytes;
 * NNB_SPARSE_MAP if not exactly value_count bits are set. The buffers must not overlap and need no alignment. */
nnb_status nnb_sparse_expand(const uint8_t *words, uint64_t elements, size_t item_size, const void *values,
                             uint64_t value_count, void *dense);

/* Number of bits set. */
uint64_t nnb_sparse_count(const uint8_t *words, uint64_t elements);

/* Compressed sparse rows of rows * columns elements: row_starts (rows + 1 of them) and the columns of the bits set,
 * both of index_size 4 or 8 bytes; each may be NULL if not wanted. */
void nnb_sparse_csr(const uint8_t *words, uint64_t rows, uint64_t columns, size_t index_size, void *row_starts,
                    void *column_indices);

#ifdef __cplusplus
}
#endif

#endif
