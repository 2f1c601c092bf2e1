/*
 * The traversal of level_data() in encoder direction (nnc-entropy sections 5 to 7). It turns levels into a list of
 * bins, which two sinks take: the arithmetic encoder and the choice of initial sets.
 */
#ifndef NNB_WALK_H
#define NNB_WALK_H

#include "common/model.h"
#include "nnb/nnb_enc.h"

/*
 * A context bin is 2 * index + bin. Bypass bins are three numbers: NNB_BYPASS + how many, then the upper and the lower
 * half of their value.
 */
enum { NNB_BYPASS = 0x8000, NNB_BINS = 2048, NNB_BINS_OF_LEVEL = 2 + NNB_MAX_UNARY_LENGTH + 31 + 3 };

/* Takes the bins in the list. */
typedef nnb_status nnb_take_bins_fn(void *sink, const uint16_t *bins, size_t count);

/* Up to this unary length the greater flags of a level are copied from a prepared list. */
enum { NNB_FLAGS_TOGETHER = 16 };

typedef struct nnb_walk nnb_walk;

/* Called before each block row, if there are several, with all bins before it taken. */
typedef nnb_status nnb_start_row_fn(void *sink, nnb_walk *walk, size_t block_row);

struct nnb_walk {
  /* All pointers stand at the first element of the tensor. */
  const int32_t *levels;
  const int32_t *base;    /* NULL without temporal contexts */
  const uint8_t *history; /* NULL without history */
  const uint8_t *skip;    /* NULL without row skipping */
  nnb_scan scan;
  uint32_t unary_length;
  uint32_t codebook_size;
  uint32_t codebook_zero_offset;
  int dq;
  int general;   /* base, history or a codebook is there */
  int peer;      /* binarize L instead of K (nnc-encoder-notes section 4) */
  uint32_t prev; /* class of the last level: 0 zero, 1 negative, 2 positive */
  uint32_t state;
  void *sink;
  nnb_take_bins_fn *take_bins;
  nnb_start_row_fn *start_row;
  /* After full_levels levels only every sampling-th block of levels is binarized; 0 is all of them. */
  uint32_t sampling;
  size_t full_levels;
  size_t block_levels;
  size_t seen; /* levels, if sampling */
  void (*start_sampling)(void *sink);
  uint16_t flags[2 * (NNB_FLAGS_TOGETHER + 2)][NNB_FLAGS_TOGETHER]; /* bins by magnitude and sign */
  size_t count;                                                     /* of bins in the list */
  uint16_t bins[NNB_BINS + NNB_BINS_OF_LEVEL];
};

/* Checks what the caller gave. */
nnb_status nnb_walk_init(nnb_walk *walk, const nnb_level_coding *coding, const nnb_source *source);

/* Needs sink, take_bins and start_row. */
nnb_status nnb_walk_tensor(nnb_walk *walk);

/* Appends the bins of the levels at .. at + count - 1 to the list, and lets them be taken when it is full. */
nnb_status nnb_binarize(nnb_walk *walk, size_t at, size_t count);

/* Moves prev and state over the same levels without making bins of them. */
void nnb_pass_over(nnb_walk *walk, size_t at, size_t count);

void nnb_make_flag_lists(nnb_walk *walk);

nnb_status nnb_flush_bins(nnb_walk *walk);

#endif
