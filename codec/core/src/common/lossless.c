#include "common/lossless.h"

#include "common/deps_simd.h"

NNB_INLINE size_t find_zero_from(const uint8_t *data, size_t at, size_t count) {
  for (; count - at >= 8; at += 8) {
    uint64_t eight;
    nnb_memcpy(&eight, data + at, 8);
    if ((eight - UINT64_C(0x0101010101010101)) & ~eight & UINT64_C(0x8080808080808080)) break;
  }
  while (at < count && data[at] != 0) at++;
  return at;
}

#if NNB_X86_DISPATCH
NNB_TARGET("avx2,bmi2")
static size_t find_zero_avx2(const uint8_t *data, size_t at, size_t count) {
  for (; count - at >= 128; at += 128) {
    const __m256i *const p = (const __m256i *)(const void *)(data + at);
    const __m256i least = _mm256_min_epu8(_mm256_min_epu8(_mm256_loadu_si256(p), _mm256_loadu_si256(p + 1)),
                                          _mm256_min_epu8(_mm256_loadu_si256(p + 2), _mm256_loadu_si256(p + 3)));
    if (_mm256_movemask_epi8(_mm256_cmpeq_epi8(least, _mm256_setzero_si256()))) break;
  }
  return find_zero_from(data, at, count);
}
#endif

size_t nnb_find_zero(const uint8_t *data, size_t at, size_t count) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) return find_zero_avx2(data, at, count);
#endif
  return find_zero_from(data, at, count);
}
