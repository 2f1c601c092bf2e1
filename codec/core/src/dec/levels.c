/* level() as it reads in the specification (nnc-entropy sections 4 to 6). */
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
    if (!nnb_read_bin(&e, sig)) {
      nnb_context_update(sig, 0);
      levels[i] = 0;
      prev = 0;
      if (dq) state = (uint32_t)(NNB_NEXT_STATES >> (8 * state)) & 7;
      continue;
    }
    nnb_context_update(sig, 1);

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

    /* magnitude(); without a codebook there is no largest one */
    const uint64_t max = cs == 0 ? UINT64_MAX : negative ? cz : cs - 1 - cz;
    uint64_t v = 1;
    int more = !general || max > 1;
    for (uint32_t j = 0; more && j < u; j++) {
      nnb_context *c = contexts + NNB_CTX_GTX + 2 * j + negative;
      if (general && base != 0) c = contexts + nnb_ctx_gtx_t(u) + 2 * j + (abs_base >= j ? 0 : 1);
      if (!nnb_read_bin(&e, c)) {
        nnb_context_update(c, 0);
        more = 0;
        break;
      }
      nnb_context_update(c, 1);
      v++;
      more = !general || v != max;
    }
    if (NNB_UNLIKELY(more)) v = nnb_decode_remainder(&e, contexts, u, max);

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
    levels[i] = nnb_signed_level((uint32_t)magnitude, negative);
  }

  *cabac = e;
  run->prev = prev;
  run->state = state;
  return status;
}

static nnb_status run_uniform_general(nnb_cabac *cabac, nnb_run *run, int32_t *levels, size_t count) {
  return decode_run(cabac, run, levels, count, 0, 1);
}

static nnb_status run_dq_general(nnb_cabac *cabac, nnb_run *run, int32_t *levels, size_t count) {
  return decode_run(cabac, run, levels, count, 1, 1);
}

#if !NNB_WITH_PLAIN_RUN
static nnb_status run_uniform(nnb_cabac *cabac, nnb_run *run, int32_t *levels, size_t count) {
  return decode_run(cabac, run, levels, count, 0, 0);
}

static nnb_status run_dq(nnb_cabac *cabac, nnb_run *run, int32_t *levels, size_t count) {
  return decode_run(cabac, run, levels, count, 1, 0);
}
#endif

nnb_decode_run_fn *nnb_select_decode_run(int dq, int general) {
  if (general) return dq ? run_dq_general : run_uniform_general;
#if NNB_WITH_PLAIN_RUN
  return nnb_select_plain_run(dq);
#else
  return dq ? run_dq : run_uniform;
#endif
}
