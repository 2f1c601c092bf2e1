/* Uniform quantization (nnc-encoder-notes section 2). */
#include "enc/guard.h"

nnb_status nnb_quantize_uniform(const float *values, size_t count, int32_t *qp, uint32_t qp_density, int32_t *levels) {
  float step;
  const nnb_status status = nnb_guarded_step(values, count, qp, qp_density, &step);
  if (status != NNB_OK) return status;
  const float inverse = 1.0f / step;
  for (size_t i = 0; i < count; i++) levels[i] = nnb_round_level(values[i] * inverse);
  return NNB_OK;
}
