/*
 * nnbits decoder of exactly coded values: one block of items (docs/lossless.md).
 *
 * An item is 1, 2, 4 or 8 bytes in the machine's byte order: an element, half of a complex element, or one byte of a
 * packed type. The caller owns all memory; nothing here allocates, keeps state or calls a C library.
 *
 *   work_size = nnb_lossless_work_size(&items, block_items);
 *   nnb_lossless_decode_block(&items, code, size, row_items, out, count, work, work_size);
 */
#ifndef NNB_LOSSLESS_H
#define NNB_LOSSLESS_H

#include <stddef.h>
#include <stdint.h>

#include "nnb/nnb_rans.h"
#include "nnb/nnb_status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define NNB_LOSSLESS_MAX_BLOCK 1048576u /* items of a block */

/* What the items are. */
typedef struct nnb_items {
  uint8_t bytes;         /* of an item: 1, 2, 4, 8 */
  uint8_t mantissa_bits; /* of items of 2, 4, 8 bytes that are binary floating point numbers, else 0 */
  uint8_t packed_bits;   /* of an element, if the items are the bytes of packed elements of 3, 5, 6 or 7 bits, else 0 */
} nnb_items;

/* Bytes of work that decoding a block of so many items may need; 0 if `items` or the number is not possible. */
size_t nnb_lossless_work_size(const nnb_items *items, size_t block_items);

/*
 * Decodes a block of `count` items (1..NNB_LOSSLESS_MAX_BLOCK) into `out`, which needs no alignment, as `work` does.
 * `row_items` is the row length that the payload's header states. NNB_LOSSLESS_BLOCK: the code is not what an encoder
 * writes for `count` items; NNB_UNSUPPORTED_FEATURE: a block that is compressed with zstd, which the caller has to undo
 * first; NNB_BUFFER_SIZE: work; NNB_BAD_OPTION: items, count or row_items.
 */
nnb_status nnb_lossless_decode_block(const nnb_items *items, const uint8_t *code, size_t size, size_t row_items,
                                     void *out, size_t count, void *work, size_t work_size);

/*
 * Decodes `count` items in blocks of `block_items`, of which the last may be shorter, that lie one after the other and
 * end with the code. `sizes`: of each block, 4 bytes, little endian; NULL for one block alone. `*decoded` receives the
 * number of blocks before the one that is refused. Work is that of the longest block.
 */
nnb_status nnb_lossless_decode_blocks(const nnb_items *items, const uint8_t *code, size_t size, const uint8_t *sizes,
                                      size_t row_items, size_t block_items, void *out, size_t count, void *work,
                                      size_t work_size, size_t *decoded);

#ifdef __cplusplus
}
#endif

#endif
