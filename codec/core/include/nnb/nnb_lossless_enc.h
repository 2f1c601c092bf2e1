/* nnbits encoder of exactly coded values: one block of items (docs/lossless.md). */
#ifndef NNB_LOSSLESS_ENC_H
#define NNB_LOSSLESS_ENC_H

#include "nnb/nnb_lossless.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum nnb_lossless_speed {
  NNB_LOSSLESS_FAST = 0,
  NNB_LOSSLESS_BALANCED = 1,
  NNB_LOSSLESS_SMALL = 2
} nnb_lossless_speed;

/* How nnb_lossless_encode_block() chooses. */
typedef struct nnb_lossless_choice {
  uint8_t speed; /* nnb_lossless_speed */
  uint8_t force; /* 0, or a coding (enum of docs/lossless.md) + 1 that is used wherever it can represent the items */
  uint8_t planes_raw; /* all planes constant or raw: what a general compressor can work on */
} nnb_lossless_choice;

/* Capacity that nnb_lossless_encode_block() needs for a block of `count` items. */
size_t nnb_lossless_bound(const nnb_items *items, size_t count);

/*
 * Whether strings may come back in the items, as far as it is seen at once: not where they are floating point numbers
 * of 4 bytes and more of which a sample is almost all different.
 */
int nnb_lossless_may_repeat(const nnb_items *items, const void *values, size_t count);

/* Bytes of work for blocks of so many items; 0 if `items` or the number is not possible. */
size_t nnb_lossless_encode_work_size(const nnb_items *items, size_t block_items);

/*
 * Codes a block of `count` items. `row_items` is the length of the rows, which the block begins at the start of one.
 * NNB_BUFFER_SIZE: work or capacity; NNB_BAD_OPTION: items, count, row_items or choice.
 */
nnb_status nnb_lossless_encode_block(const nnb_items *items, const nnb_lossless_choice *choice, const void *values,
                                     size_t row_items, size_t count, void *work, size_t work_size, uint8_t *out,
                                     size_t capacity, size_t *size);

/*
 * Codes `count` items in blocks of `block_items`, of which the last may be shorter, one after the other, as far as
 * there is the capacity that nnb_lossless_bound() wants for the next; `*encoded` receives how many, sizes[i] the bytes
 * of block i.
 */
nnb_status nnb_lossless_encode_blocks(const nnb_items *items, const nnb_lossless_choice *choice, const void *values,
                                      size_t row_items, size_t block_items, size_t count, void *work, size_t work_size,
                                      uint8_t *out, size_t capacity, uint32_t *sizes, size_t *encoded);

#ifdef __cplusplus
}
#endif

#endif
