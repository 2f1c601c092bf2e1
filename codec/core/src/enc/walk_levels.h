/*
 * level() in encoder direction (nnc-entropy section 5) for a run of positions.
 *
 * To be included once, with three macros defined:
 *   NNB_SINK                              type that takes the bins
 *   NNB_SINK_BIN(sink, index, bin)        context bin
 *   NNB_SINK_BYPASS(sink, value, count)   bypass bins
 */
#include "enc/walk.h"

NNB_INLINE nnb_status nnb_walk_levels(NNB_SINK *sink, nnb_walk *walk, size_t at, size_t count, const int dq,
                                      const int general, const int peer) {
  const uint32_t u = walk->unary_length;
  const uint32_t cs = general && !peer ? walk->codebook_size : 0;
  const uint32_t cz = walk->codebook_zero_offset;
  const int sign_coded = cs == 0 || (cz != 0 && cz != cs - 1);
  const size_t gtx_t = nnb_ctx_gtx_t(u);
  const size_t rem = nnb_ctx_rem(u);
  uint32_t prev = walk->prev;
  uint32_t state = walk->state;

  for (size_t i = at; i < at + count; i++) {
    const int32_t level = walk->levels[i];
    const uint32_t negative = (uint32_t)level >> 31;
    const uint32_t abs_level = ((uint32_t)level ^ (0u - negative)) + negative;
    const int32_t base = general && walk->base != NULL ? walk->base[i] : 0;
    const uint32_t abs_base = base < 0 ? 0u - (uint32_t)base : (uint32_t)base;

    size_t sig = NNB_CTX_SIG + 3 * state + prev;
    if (general) {
      if (walk->history != NULL && walk->history[i]) {
        sig = NNB_CTX_SIG_H + state;
      } else if (base != 0) {
        sig = NNB_CTX_SIG_T + 2 * state + (abs_base > 1);
      }
    }
    uint32_t v = abs_level;
    if (dq) {
      const uint32_t k = (abs_level + (state & 1)) >> 1;
      if (level != 0 && ((abs_level + state) & 1)) return NNB_BAD_TENSOR;
      state = (uint32_t)(NNB_NEXT_STATES >> (8 * state + 4 * (k & 1))) & 7;
      if (!peer) v = k;
    }
    NNB_SINK_BIN(sink, sig, (uint32_t)(v != 0));
    if (v == 0) {
      prev = 0;
      continue;
    }

    const uint64_t max = cs == 0 ? UINT64_MAX : negative ? cz : cs - 1 - cz;
    if (general && v > max) return NNB_BAD_TENSOR;
    if (sign_coded) NNB_SINK_BIN(sink, base != 0 ? NNB_CTX_SGN_T + (size_t)(base > 0) : NNB_CTX_SGN + prev, negative);
    prev = 2 - negative;
    if (general && max <= 1) continue;

    uint32_t j = 0;
    uint32_t g;
    do {
      g = v > j + 1;
      size_t gtx = NNB_CTX_GTX + 2 * (size_t)j + negative;
      if (general && base != 0) gtx = gtx_t + 2 * (size_t)j + (abs_base >= j ? 0 : 1);
      NNB_SINK_BIN(sink, gtx, g);
      j += g;
    } while (g && j < u && (!general || 1 + (uint64_t)j != max));
    if (NNB_LIKELY(!g) || (general && 1 + (uint64_t)j == max)) continue;

    uint64_t first = 1 + (uint64_t)u; /* smallest magnitude of the group of 2^r */
    uint32_t r = 0;
    while (r < 31 && v >= first + ((uint64_t)1 << r) && (!general || max >= first + ((uint64_t)1 << r))) {
      NNB_SINK_BIN(sink, rem + r, 1u);
      first += (uint64_t)1 << r;
      r++;
    }
    if (r < 31 && (!general || max >= first + ((uint64_t)1 << r))) NNB_SINK_BIN(sink, rem + r, 0u);
    NNB_SINK_BYPASS(sink, (uint32_t)(v - first), r);
  }
  walk->prev = prev;
  walk->state = state;
  return NNB_OK;
}
