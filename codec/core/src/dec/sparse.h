/* Parts of the reader of sparse maps. */
#ifndef NNB_DEC_SPARSE_H
#define NNB_DEC_SPARSE_H

#include "common/sparse.h"

/* All: words are zero before; the caller compares the number of bits set with what it should be. */
nnb_status nnb_sparse_read_gaps(const uint8_t *data, size_t size, int coded, uint64_t elements, uint64_t value_count,
                                uint8_t *words);
nnb_status nnb_sparse_read_pattern(const uint8_t *section, size_t size, const nnb_sparse_piece *piece, uint8_t *words,
                                   void *work);
nnb_status nnb_sparse_read_structured(const uint8_t *section, size_t size, const nnb_sparse_piece *piece,
                                      uint8_t *words, void *work);

#endif
