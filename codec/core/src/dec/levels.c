#include "dec/levels.h"

/*
 * One body for all cases; dq and general are constants where it is inlined, so that the plain cases carry nothing of
 * codebooks, temporal contexts and history. Engine and state live in locals, which the compiler keeps in registers.
 */
NNB_INLINE nnb_status decode_run(nnb_cabac *cabac, nnb_run *run, int32_t *levels, size_t count, const int dq,
                                 const int general) {
  nnb_cabac e = *cabac;
  nnb_context *const contexts = run->contexts;
  const uint32_t u = run->unary_length;
  const uint32_t cs = general ? run->codebook_size : 0;
  const uint32_t cz = run->codebook_zero_offset;
  const int sign_coded = cs == 0 || (cz != 0 && cz != cs - 1);
  nnb_context *const rem = contexts + nnb_ctx_rem(u);
  uint32_t prev = run->prev;
  uint32_t state = run->state;
  nnb_status status = NNB_OK;

  for (size_t i = 0; i < count; i++) {
    const int32_t base = general && run->temporal ? run->base[i] : 0;
    const uint32_t abs_base = base < 0 ? 0u - (uint32_t)base : (uint32_t)base;

    nnb_context *sig = contexts + NNB_CTX_SIG + 3 * state + prev;
    if (general) {
      if (run->hist && run->history[i]) {
        sig = contexts + NNB_CTX_SIG_H + state;
      } else if (base != 0) {
        sig = contexts + NNB_CTX_SIG_T + 2 * state + (abs_base > 1);
      }
    }
    if (!nnb_decode_bin(&e, sig)) {
      levels[i] = 0;
      prev = 0;
      if (dq) state = (uint32_t)(NNB_NEXT_STATES >> (8 * state)) & 7;
      continue;
    }

    uint32_t negative;
    if (!general) {
      negative = nnb_decode_bin(&e, contexts + NNB_CTX_SGN + prev);
    } else if (!sign_coded) {
      negative = cz != 0;
    } else if (base != 0) {
      negative = nnb_decode_bin(&e, contexts + NNB_CTX_SGN_T + (base > 0));
    } else {
      negative = nnb_decode_bin(&e, contexts + NNB_CTX_SGN + prev);
    }

    /* magnitude(): max is unlimited in the plain cases */
    const uint64_t max = cs == 0 ? UINT64_MAX : negative ? cz : cs - 1 - cz;
    uint64_t v = 1;
    int open = !general || max > 1;
    if (open) {
      nnb_context *gtx = contexts + NNB_CTX_GTX + negative;
      uint32_t j = 0;
      uint32_t g;
      do {
        nnb_context *c = gtx + 2 * j;
        if (general && base != 0) c = contexts + nnb_ctx_gtx_t(u) + 2 * j + (abs_base >= j ? 0 : 1);
        g = nnb_decode_bin(&e, c);
        j += g;
      } while (g && j < u && (!general || 1 + j != max));
      v = 1 + (uint64_t)j;
      open = g && (!general || v != max);
    }
    if (NNB_UNLIKELY(open)) {
      uint32_t r = 0;
      uint32_t g;
      do {
        g = nnb_decode_bin(&e, rem + r);
        v += (uint64_t)g << r;
        r += g;
      } while (g && r < 31 && (!general || max >= v + ((uint64_t)1 << r)));
      v += nnb_decode_bypass(&e, r);
    }

    const uint32_t odd = (uint32_t)v & 1;
    uint64_t magnitude = v;
    if (dq) {
      magnitude = 2 * v - (state & 1);
      state = (uint32_t)(NNB_NEXT_STATES >> (8 * state + 4 * odd)) & 7;
    }
    if (NNB_UNLIKELY(magnitude > (uint64_t)INT32_MAX + negative || v > max)) {
      status = NNB_LEVEL_RANGE;
      break;
    }
    prev = 2 - negative;
    levels[i] = (int32_t)(((uint32_t)magnitude ^ (0u - negative)) + negative);
  }

  *cabac = e;
  run->prev = prev;
  run->state = state;
  return status;
}

#define NNB_RUN_VARIANTS(suffix, attributes)                                                                \
  attributes static nnb_status run_uniform##suffix(nnb_cabac *cabac, nnb_run *run, int32_t *levels, size_t count) { \
    return decode_run(cabac, run, levels, count, 0, 0);                                                     \
  }                                                                                                         \
  attributes static nnb_status run_dq##suffix(nnb_cabac *cabac, nnb_run *run, int32_t *levels, size_t count) { \
    return decode_run(cabac, run, levels, count, 1, 0);                                                     \
  }

NNB_RUN_VARIANTS(_portable, )

static nnb_status run_uniform_general(nnb_cabac *cabac, nnb_run *run, int32_t *levels, size_t count) {
  return decode_run(cabac, run, levels, count, 0, 1);
}

static nnb_status run_dq_general(nnb_cabac *cabac, nnb_run *run, int32_t *levels, size_t count) {
  return decode_run(cabac, run, levels, count, 1, 1);
}

nnb_decode_run_fn *nnb_select_decode_run(int dq, int general) {
  if (general) return dq ? run_dq_general : run_uniform_general;
  return dq ? run_dq_portable : run_uniform_portable;
}
