/* The elements of pieces. */
#ifndef NNB_DEC_PIECE_H
#define NNB_DEC_PIECE_H

#include "common/deps.h"
#include "nnb/nnb_access.h"

/* Work for the elements that a data unit carries. */
nnb_status nnb_coded_work_size(const nnb_access_piece *found, uint64_t *size);

/* The value_count elements that a data unit carries, in the element type of the piece. */
nnb_status nnb_coded_values(const nnb_access_piece *found, uint8_t *out, uint8_t *work);

/* Converts binary32 numbers, rounding to nearest, ties to even; `from` as they lie in memory. */
void nnb_store_floats(uint32_t element_type, const uint8_t *from, uint64_t count, uint8_t *out);

/* Converts integers; NNB_LEVEL_RANGE if one does not fit. */
nnb_status nnb_store_integers(uint32_t element_type, const int32_t *from, uint64_t count, uint8_t *out);

#endif
