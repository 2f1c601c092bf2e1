/* The traversal of level_data() in encoder direction (nnc-entropy sections 6 and 7), over any sink of bins. */
#ifndef NNB_WALK_H
#define NNB_WALK_H

#include "common/model.h"
#include "nnb/nnb_enc.h"

/* Where the walk is, and what stays the same over it. All pointers stand at the first element of the tensor. */
typedef struct nnb_walk {
  const int32_t *levels;
  const int32_t *base;    /* NULL without temporal contexts */
  const uint8_t *history; /* NULL without history */
  const uint8_t *skip;    /* NULL without row skipping */
  nnb_scan scan;
  uint32_t unary_length;
  uint32_t codebook_size;
  uint32_t codebook_zero_offset;
  int dq;
  int general;  /* base, history or a codebook is there */
  int peer;     /* binarize L instead of K (nnc-encoder-notes section 4) */
  uint32_t prev; /* class of the last level: 0 zero, 1 negative, 2 positive */
  uint32_t state;
} nnb_walk;

/* Consumes the positions at .. at + count - 1. */
typedef nnb_status nnb_walk_run_fn(void *sink, nnb_walk *walk, size_t at, size_t count);

/* Called before each block row, if there are several. */
typedef nnb_status nnb_walk_block_row_fn(void *sink, nnb_walk *walk, size_t block_row);

nnb_status nnb_walk_init(nnb_walk *walk, const nnb_level_coding *coding, const nnb_source *source);

nnb_status nnb_walk_tensor(nnb_walk *walk, void *sink, nnb_walk_run_fn *run, nnb_walk_block_row_fn *block_row);

#endif
