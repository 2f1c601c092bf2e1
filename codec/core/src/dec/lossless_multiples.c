/* Coding MULTIPLES of docs/lossless.md: integers times the scale of their run, as dequantized weights are. */
#include "dec/lossless.h"

/* Those of a run; `step` is 0 if they have one scale, 1 if each has its own. */
#define MULTIPLY(NAME, ANY, CONVERT)                                                                     \
  NNB_INLINE void NAME(const nnb_any32 *restrict scales, const uint8_t *restrict offsets, unsigned step, \
                       const uint8_t *restrict integers, ANY *restrict out, size_t n) {                  \
    const float scale = nnb_float_of(scales[0]);                                                         \
    const uint8_t offset = offsets[0];                                                                   \
    for (size_t i = 0; i < n; i++) {                                                                     \
      const float s = step ? nnb_float_of(scales[i]) : scale;                                            \
      const uint8_t o = step ? offsets[i] : offset;                                                      \
      out[i] = CONVERT(nnb_product(s, nnb_integer(integers[i], o)));                                     \
    }                                                                                                    \
  }
MULTIPLY(multiply_32, nnb_any32, (uint32_t))
MULTIPLY(multiply_b16, nnb_any16, nnb_to_bfloat16)
MULTIPLY(multiply_16, nnb_any16, nnb_to_binary16)

NNB_INLINE void multiply_all(const nnb_items *items, const nnb_multiples *m, void *out, size_t count) {
  const size_t length = m->run ? m->run : m->scale_count;
  const unsigned step = m->run == 0;
  for (size_t at = 0, k = 0; at < count; at += length, k += !step) {
    const size_t n = count - at < length ? count - at : length;
    if (items->bytes == 4)
      multiply_32(m->scales + k, m->offsets + k, step, m->integers + at, (nnb_any32 *)out + at, n);
    else if (items->mantissa_bits == 7)
      multiply_b16(m->scales + k, m->offsets + k, step, m->integers + at, (nnb_any16 *)out + at, n);
    else
      multiply_16(m->scales + k, m->offsets + k, step, m->integers + at, (nnb_any16 *)out + at, n);
  }
}

#if NNB_X86_DISPATCH
NNB_TARGET_AVX512
static void multiply_avx512(const nnb_items *items, const nnb_multiples *m, void *out, size_t count) {
  multiply_all(items, m, out, count);
}

NNB_TARGET("avx2,bmi2")
static void multiply_avx2(const nnb_items *items, const nnb_multiples *m, void *out, size_t count) {
  multiply_all(items, m, out, count);
}
#endif

int nnb_scales_valid(const nnb_items *items, const nnb_any32 *scales, size_t count) {
  const uint32_t least = 1u << 23, most = (items->mantissa_bits == 10 ? 134u : 245u) << 23 | 0x7fffffu;
  uint32_t wrong = 0;
  for (size_t i = 0; i < count; i++) wrong |= (uint32_t)(scales[i] < least) | (uint32_t)(scales[i] > most);
  return !wrong;
}

void nnb_multiply(const nnb_items *items, const nnb_multiples *multiples, void *out, size_t count) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_avx512_vbmi2()) {
    multiply_avx512(items, multiples, out, count);
    return;
  }
  if (nnb_cpu_has_bmi2()) {
    multiply_avx2(items, multiples, out, count);
    return;
  }
#endif
  multiply_all(items, multiples, out, count);
}
