/*
 * Estimated bits of levels, for quantizers that weigh them against the squared error (nnc-encoder-notes section 3).
 *
 * The estimates are those of the contexts that plain coding uses: no temporal reference, history or codebook.
 */
#ifndef NNB_RATE_H
#define NNB_RATE_H

#include "common/model.h"

/* The state of one context on the way of one path. */
typedef struct nnb_estimate {
  uint64_t state; /* as in nnb_context */
} nnb_estimate;

typedef struct nnb_rate_model {
  double weight;               /* 1/32768 bit a squared step */
  const uint8_t *initial_sets; /* of all contexts; NULL is set 0 */
  uint32_t unary_length;
  size_t count;            /* estimates of a path */
  nnb_estimate *estimates; /* of one path (uniform), or of the eight states and of those that follow */
  uint8_t prev[8];         /* by state: class of the last level, 0 zero, 1 negative, 2 positive */
} nnb_rate_model;

/* Starts all paths as at the start of a block row. */
void nnb_rate_restart(nnb_rate_model *model, size_t paths);

/* As nnb_trellis_fn, with the bits added to the distortions. */
void nnb_rate_search(nnb_rate_model *model, const float *values, size_t count, double inverse, double costs[8],
                     uint8_t *decisions);

#endif
