/* level() and the loop over a run of positions (nnc-entropy sections 4 to 6). */
#ifndef NNB_LEVELS_H
#define NNB_LEVELS_H

#include "dec/engine.h"

/* What decoding a run needs besides the engine; all pointers stand at the first position of the run. */
typedef struct nnb_run {
  nnb_context *contexts;
  uint32_t unary_length;
  uint32_t prev;  /* class of the last level index: 0 zero, 1 negative, 2 positive */
  uint32_t state; /* of the dependent quantizer */
  /* The rest is for the general case only. */
  int temporal;
  int hist;
  uint32_t codebook_size;
  uint32_t codebook_zero_offset;
  const int32_t *base;
  const uint8_t *history;
} nnb_run;

/* Decodes `count` positions; the engine and prev and state of the run move on. */
typedef nnb_status nnb_decode_run_fn(nnb_cabac *cabac, nnb_run *run, int32_t *levels, size_t count);

nnb_decode_run_fn *nnb_select_decode_run(int dq, int general);

#endif
