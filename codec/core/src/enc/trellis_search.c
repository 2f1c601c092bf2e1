#include "enc/trellis.h"

#if NNB_X86_DISPATCH
#include <immintrin.h>
#endif

void nnb_trellis_portable(const float *values, size_t count, double inverse, double costs[8], uint8_t *decisions) {
  nnb_distortions d;
  double now[8];
  double next[8];
  for (int s = 0; s < 8; s++) now[s] = costs[s];
  while (count > 0) {
    const size_t n = count < NNB_TRELLIS_BATCH ? count : NNB_TRELLIS_BATCH;
    nnb_measure(values, n, inverse, &d);
    for (size_t i = 0; i < n; i++) {
      uint32_t odd_bits = 0;
      uint32_t zero_bits = 0;
      for (int place = 0; place < 8; place++) {
        const int t = place >> 2;
        const double other = now[nnb_even_from[place]] + d.by_class[3 * t][i];
        const double zero = now[nnb_even_from[place]] + d.zero[i];
        const double odd = now[nnb_odd_from[place]] + d.by_class[2 - t][i];
        const int takes_zero = zero < other;
        const double even = takes_zero ? zero : other;
        const int takes_odd = nnb_odd_first[place] ? !(even < odd) : odd < even;
        next[nnb_state_at[place]] = takes_odd ? odd : even;
        odd_bits |= (uint32_t)takes_odd << place;
        zero_bits |= (uint32_t)takes_zero << place;
      }
      for (int s = 0; s < 8; s++) now[s] = next[s];
      decisions[2 * i] = (uint8_t)odd_bits;
      decisions[2 * i + 1] = (uint8_t)zero_bits;
    }
    values += n;
    decisions += 2 * n;
    count -= n;
  }
  for (int s = 0; s < 8; s++) costs[s] = now[s];
}

#if NNB_X86_DISPATCH
NNB_TARGET("avx2")
static void trellis_avx2(const float *values, size_t count, double inverse, double costs[8], uint8_t *decisions) {
  nnb_distortions d;
  /* Costs of the states 0 4 1 5 and 2 6 3 7: what interleaving the new costs of places 0..3 and 4..7 gives. */
  __m256d p = _mm256_setr_pd(costs[0], costs[4], costs[1], costs[5]);
  __m256d q = _mm256_setr_pd(costs[2], costs[6], costs[3], costs[7]);
  while (count > 0) {
    const size_t n = count < NNB_TRELLIS_BATCH ? count : NNB_TRELLIS_BATCH;
    nnb_measure(values, n, inverse, &d);
    for (size_t i = 0; i < n; i++) {
      const __m256d low_even = _mm256_permute2f128_pd(p, q, 0x20); /* 0 4 2 6 */
      const __m256d low_odd = _mm256_permute_pd(low_even, 5);      /* 4 0 6 2 */
      const __m256d high_odd = _mm256_permute2f128_pd(q, p, 0x31); /* 3 7 1 5 */
      const __m256d high_even = _mm256_permute_pd(high_odd, 5);    /* 7 3 5 1 */
      const __m256d dz = _mm256_broadcast_sd(&d.zero[i]);

      const __m256d other0 = _mm256_add_pd(low_even, _mm256_broadcast_sd(&d.by_class[0][i]));
      const __m256d zero0 = _mm256_add_pd(low_even, dz);
      const __m256d odd0 = _mm256_add_pd(low_odd, _mm256_broadcast_sd(&d.by_class[2][i]));
      const __m256d even0 = _mm256_min_pd(zero0, other0);
      const __m256d less0 = _mm256_cmp_pd(odd0, even0, _CMP_LT_OQ);
      const __m256d most0 = _mm256_cmp_pd(odd0, even0, _CMP_LE_OQ);

      const __m256d other1 = _mm256_add_pd(high_even, _mm256_broadcast_sd(&d.by_class[3][i]));
      const __m256d zero1 = _mm256_add_pd(high_even, dz);
      const __m256d odd1 = _mm256_add_pd(high_odd, _mm256_broadcast_sd(&d.by_class[1][i]));
      const __m256d even1 = _mm256_min_pd(zero1, other1);
      const __m256d less1 = _mm256_cmp_pd(odd1, even1, _CMP_LT_OQ);
      const __m256d most1 = _mm256_cmp_pd(odd1, even1, _CMP_LE_OQ);

      const __m256d new0 = _mm256_min_pd(even0, odd0);
      const __m256d new1 = _mm256_min_pd(even1, odd1);
      p = _mm256_unpacklo_pd(new0, new1);
      q = _mm256_unpackhi_pd(new0, new1);

      const int odd_bits = _mm256_movemask_pd(_mm256_blend_pd(less0, most0, 10)) |
                           _mm256_movemask_pd(_mm256_blend_pd(less1, most1, 5)) << 4;
      const int zero_bits = _mm256_movemask_pd(_mm256_cmp_pd(zero0, other0, _CMP_LT_OQ)) |
                            _mm256_movemask_pd(_mm256_cmp_pd(zero1, other1, _CMP_LT_OQ)) << 4;
      decisions[2 * i] = (uint8_t)odd_bits;
      decisions[2 * i + 1] = (uint8_t)zero_bits;
    }
    values += n;
    decisions += 2 * n;
    count -= n;
  }
  double pairs[8];
  _mm256_storeu_pd(pairs, p);
  _mm256_storeu_pd(pairs + 4, q);
  static const uint8_t order[8] = {0, 4, 1, 5, 2, 6, 3, 7};
  for (int i = 0; i < 8; i++) costs[order[i]] = pairs[i];
}
#endif

nnb_trellis_fn *nnb_select_trellis(void) {
#if NNB_X86_DISPATCH
  if (__builtin_cpu_supports("avx2")) return trellis_avx2;
#endif
  return nnb_trellis_portable;
}
