/*
 * Search of the dependent quantizer (nnc-encoder-notes section 2).
 *
 * The eight states are kept in the order 0 2 1 3 4 6 5 7 ("places"): places 0..3 are entered from even states, 4..7
 * from odd ones. Every state has one predecessor with an even and one with an odd level index. A decision is two bytes,
 * bit = place: the first tells whether the odd branch won, the second whether index 0 beat the other even candidate.
 */
#ifndef NNB_TRELLIS_H
#define NNB_TRELLIS_H

#include "enc/rate.h"

enum { NNB_TRELLIS_BATCH = 64 };

/* By place: the predecessors with even and with odd level index, and whether the odd one comes first and wins ties. */
static const uint8_t nnb_even_from[8] = {0, 4, 2, 6, 7, 3, 5, 1};
static const uint8_t nnb_odd_from[8] = {4, 0, 6, 2, 3, 7, 1, 5};
static const uint8_t nnb_odd_first[8] = {0, 1, 0, 1, 1, 0, 1, 0};
static const uint8_t nnb_state_at[8] = {0, 2, 1, 3, 4, 6, 5, 7};

/* Distortions of a batch: of the four candidates by class q mod 4, and of zero. */
typedef struct nnb_distortions {
  double by_class[4][NNB_TRELLIS_BATCH];
  double zero[NNB_TRELLIS_BATCH];
} nnb_distortions;

NNB_INLINE int32_t nnb_float_bits(float x) {
  int32_t bits;
  nnb_memcpy(&bits, &x, 4);
  return bits;
}

/* |x| / step. The sign bit goes without a branch, which would be mispredicted every other time. */
NNB_INLINE double nnb_scaled(float x, double inverse) {
  const int32_t bits = nnb_float_bits(x) & INT32_MAX;
  float magnitude;
  nnb_memcpy(&magnitude, &bits, 4);
  return (double)magnitude * inverse;
}

/* First candidate; the others are the next three. */
NNB_INLINE int32_t nnb_first_candidate(double scaled) {
  const int32_t m = (int32_t)scaled - 1;
  return m > 1 ? m : 1;
}

NNB_INLINE void nnb_measure(const float *values, size_t count, double inverse, nnb_distortions *d) {
  for (size_t i = 0; i < count; i++) {
    const double scaled = nnb_scaled(values[i], inverse);
    const int32_t m = nnb_first_candidate(scaled);
    for (int32_t c = 0; c < 4; c++) {
      const double off = scaled - (double)(m + ((c - m) & 3));
      d->by_class[c][i] = off * off;
    }
    d->zero[i] = scaled * scaled;
  }
}

/* Moves the costs of the eight states (by state number) over `count` values and writes their decisions. */
typedef void nnb_trellis_fn(const float *values, size_t count, double inverse, double costs[8], uint8_t *decisions);

void nnb_trellis_portable(const float *values, size_t count, double inverse, double costs[8], uint8_t *decisions);

/* The fastest for this processor; all give the same results. */
nnb_trellis_fn *nnb_select_trellis(void);

/*
 * The whole search, and the levels L of the best path. `rate` is NULL for least squared error; `decisions` are two
 * bytes a value.
 */
void nnb_search_dependent(const nnb_scan *scan, const float *values, float step, nnb_rate_model *rate,
                          uint8_t *decisions, int32_t *levels);

#endif
