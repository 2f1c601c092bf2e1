/* level() and the loop over a run of positions (nnc-entropy sections 4 to 6). */
#ifndef NNB_LEVELS_H
#define NNB_LEVELS_H

#include "dec/engine.h"

/*
 * The remainder of magnitude(), after U flags of 1: returns the magnitude. It may exceed max, the largest that there
 * is, since the suffix can.
 */
NNB_INLINE uint64_t nnb_decode_remainder(nnb_cabac *e, nnb_context *contexts, uint32_t unary_length, uint64_t max) {
  nnb_context *const prefix = contexts + nnb_ctx_rem(unary_length);
  uint64_t v = 1 + (uint64_t)unary_length;
  uint32_t r = 0;
  uint32_t g;
  do {
    g = nnb_decode_bin(e, prefix + r);
    v += (uint64_t)g << r;
    r += g;
  } while (g && r < 31 && max >= v + ((uint64_t)1 << r));
  return v + nnb_decode_bypass(e, r);
}

/* The level of a magnitude up to 2^31 - 1, or 2^31 if negative. */
NNB_INLINE int32_t nnb_signed_level(uint32_t magnitude, uint32_t negative) {
  return (int32_t)((magnitude ^ (0u - negative)) + negative);
}

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

/* Whether there is a second body for the plain cases, which have neither codebook nor base nor history; small devices
 * have just the one. */
#if NNB_WINDOW_BITS == 64 && __STDC_HOSTED__
#define NNB_WITH_PLAIN_RUN 1
nnb_decode_run_fn *nnb_select_plain_run(int dq);
#else
#define NNB_WITH_PLAIN_RUN 0
#endif

#endif
