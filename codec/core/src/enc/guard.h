/* Step size of a quantization, with the overflow guard (nnc-encoder-notes section 2). */
#ifndef NNB_GUARD_H
#define NNB_GUARD_H

#include "common/deps.h"
#include "nnb/nnb_enc.h"

/*
 * Finds the step size; raises *qp if a level would leave int32. The two quantizers' limits, 2^31 - 1 and 2^31 - 3, come
 * to the same: the largest binary32 number below 2^31 is 2^31 - 128.
 */
nnb_status nnb_guarded_step(const float *values, size_t count, int32_t *qp, uint32_t qp_density, float *step);

/* Rounds half away from zero. */
NNB_INLINE int32_t nnb_round_level(float scaled) {
  const int32_t whole = (int32_t)scaled;
  const float rest = scaled - (float)whole; /* exact */
  return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

#endif
