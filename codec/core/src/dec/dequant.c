/* Step sizes and dequantization (nnc-entropy section 9). */
#include "common/deps.h"
#include "nnb/nnb.h"

nnb_status nnb_step_size(int32_t qp, uint32_t qp_density, float *step) {
  if (qp_density > 7) return NNB_BAD_OPTION;
  const int32_t d = (int32_t)qp_density;
  const int32_t k = (int32_t)1 << d;
  const uint32_t m = (uint32_t)(k + (qp & (k - 1))); /* k .. 2k - 1: the leading one and d bits of fraction */
  const int32_t exponent = qp >> d;                  /* of the leading one */
  if (exponent < -126 || exponent > 127) return NNB_VALUE_RANGE;
  const uint32_t fraction = (m - (uint32_t)k) << (23 - d);
  const uint32_t bits = (uint32_t)(exponent + 127) << 23 | fraction;
  nnb_memcpy(step, &bits, sizeof bits);
  return NNB_OK;
}

void nnb_dequantize(const int32_t *levels, float *values, size_t count, float step) {
  const int32_t *restrict const from = levels;
  float *restrict const to = values;
  for (size_t i = 0; i < count; i++) to[i] = step * (float)from[i];
}

void nnb_dequantize_in_place(void *buffer, size_t count, float step) {
  unsigned char *const bytes = buffer;
  for (size_t i = 0; i < count; i++) {
    int32_t level;
    nnb_memcpy(&level, bytes + 4 * i, 4);
    const float value = step * (float)level;
    nnb_memcpy(bytes + 4 * i, &value, 4);
  }
}

nnb_status nnb_dequantize_codebook_in_place(void *buffer, size_t count, float step, const int32_t *codebook,
                                            size_t codebook_size, size_t zero_offset) {
  unsigned char *const bytes = buffer;
  for (size_t i = 0; i < count; i++) {
    int32_t level;
    nnb_memcpy(&level, bytes + 4 * i, 4);
    const int64_t index = (int64_t)level + (int64_t)zero_offset;
    if (index < 0 || (uint64_t)index >= codebook_size) return NNB_LEVEL_RANGE;
    /* 8 + 31 significant bits: exact in binary64, so that the conversion is the only rounding. */
    const float value = (float)((double)step * (double)codebook[index]);
    nnb_memcpy(bytes + 4 * i, &value, 4);
  }
  return NNB_OK;
}

nnb_status nnb_dequantize_codebook(const int32_t *levels, float *values, size_t count, float step,
                                   const int32_t *codebook, size_t codebook_size, size_t zero_offset) {
  if (count > 0) nnb_memcpy(values, levels, 4 * count);
  return nnb_dequantize_codebook_in_place(values, count, step, codebook, codebook_size, zero_offset);
}
