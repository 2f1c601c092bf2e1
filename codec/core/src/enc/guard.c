#include "enc/guard.h"

/* Largest magnitude as bits of a binary32 number; these compare like the numbers. */
static int32_t peak_bits(const float *values, size_t count) {
  int32_t peak = 0;
  for (size_t i = 0; i < count; i++) {
    int32_t bits;
    nnb_memcpy(&bits, &values[i], 4);
    bits &= INT32_MAX;
    peak = bits > peak ? bits : peak;
  }
  return peak;
}

/* QP whose step is at least peak / (2^31 - 3). */
static int32_t raised_qp(float peak, uint32_t qp_density) {
  const double k = (double)(1u << qp_density);
  const double s = (double)peak / 2147483645.0;
  uint64_t bits;
  nnb_memcpy(&bits, &s, 8);
  const int32_t octave = (int32_t)(bits >> 52) - 1023;
  const uint64_t scale_bits = (uint64_t)(1023 - octave) << 52;
  double scale; /* 2^-octave */
  nnb_memcpy(&scale, &scale_bits, 8);
  const double exact = (double)octave * k + s * k * scale - k;
  const int32_t below = (int32_t)exact; /* truncated */
  return (double)below < exact ? below + 1 : below;
}

nnb_status nnb_guarded_step(const float *values, size_t count, int32_t *qp, uint32_t qp_density, float *step) {
  const int32_t bits = peak_bits(values, count);
  if (bits >= 0x7F800000) return NNB_BAD_TENSOR; /* infinite or NaN */
  float peak;
  nnb_memcpy(&peak, &bits, 4);

  nnb_status status = nnb_step_size(*qp, qp_density, step);
  if (status != NNB_OK) return status;
  if (peak * (1.0f / *step) < 2147483648.0f) return NNB_OK;
  *qp = raised_qp(peak, qp_density);
  for (;; *qp += 1) { /* once more if binary32 rounds the largest level up to 2^31 */
    status = nnb_step_size(*qp, qp_density, step);
    if (status != NNB_OK) return status;
    if (peak * (1.0f / *step) < 2147483648.0f) return NNB_OK;
  }
}
