/*
 * The plain cases of level() where speed counts: no codebook, no base, no history.
 *
 * A bin waits for the range that the one before it left: a look-up, a subtraction, a shift. Everything else can go on
 * beside that as long as the processor knows which bins come next, so all bins but the sign are guessed (a branch on
 * "more probable", which is mostly right), and what follows a level of either parity is fetched while its magnitude is
 * decoded. A sign cannot be guessed: its two outcomes meet again in conditional moves.
 */
#include "dec/levels.h"

#if NNB_WITH_PLAIN_RUN

/* A bin that is not the outcome of conditional moves. The update is left to the caller, who knows the bin there. */
NNB_INLINE int guess_bin(nnb_cabac *e, uint64_t state, const nnb_window *row) {
  nnb_window range = e->range - nnb_range_lps(row, e->range);
  if (NNB_LIKELY(e->window < range)) {
    NNB_KEEP_BRANCH(range);
    nnb_renormalize(e, range);
    return (state & NNB_STATE_PROBABLE_BIN) != 0;
  }
  e->window -= range;
  range = e->range - range;
  NNB_KEEP_BRANCH(range);
  nnb_renormalize(e, range);
  return (state & NNB_STATE_PROBABLE_BIN) == 0;
}

/* A bin without a branch; *row becomes the row of the context that follows, after[bin]. */
NNB_INLINE uint32_t choose_bin(nnb_cabac *e, uint64_t state, const nnb_context after[2], const nnb_window **row) {
  const uint32_t probable = nnb_state_probable_bin(state);
  const nnb_window *const row_mps = nnb_rlps_row(after[probable].state);
  const nnb_window *row_lps = nnb_rlps_row(after[1 - probable].state);
  nnb_window range = nnb_range_lps(nnb_rlps_row(state), e->range);
  const nnb_window rm = e->range - range;
  nnb_window window = e->window;
  uint32_t bin = probable;
#if NNB_X86_ASM
  __asm__(
      "sub %[rm], %[window]\n\t"
      "cmovb %[rm], %[range]\n\t"
      "cmovb %[old_window], %[window]\n\t"
      "cmovb %[row_mps], %[row_lps]\n\t"
      "sbb $-1, %[bin]" /* the carry is 1 for the more probable bin */
      : [window] "+&r"(window), [range] "+&r"(range), [row_lps] "+&r"(row_lps), [bin] "+&r"(bin)
      : [rm] "r"(rm), [old_window] "rm"(e->window), [row_mps] "rm"(row_mps)
      : "cc");
  bin &= 1;
#else
  const uint32_t lps = window >= rm;
  range = lps ? range : rm;
  window -= lps ? rm : 0;
  row_lps = lps ? row_lps : row_mps;
  bin ^= lps;
#endif
  e->window = window;
  nnb_renormalize(e, range);
  *row = row_lps;
  return bin;
}

/* As nnb_decode_remainder(). */
NNB_INLINE uint64_t guess_remainder(nnb_cabac *e, nnb_context *c, uint32_t unary_length) {
  uint64_t v = 1 + (uint64_t)unary_length;
  uint32_t r = 0;
  while (r < 31) {
    const uint64_t state = c->state;
    if (!guess_bin(e, state, nnb_rlps_row(state))) {
      c->state = nnb_state_after(state, 0);
      break;
    }
    c++->state = nnb_state_after(state, 1);
    v += (uint64_t)1 << r++;
  }
  return v + nnb_decode_bypass(e, r);
}

NNB_INLINE nnb_status plain_run(nnb_cabac *cabac, nnb_run *run, int32_t *levels, size_t count, const int dq) {
  nnb_cabac e = *cabac;
  nnb_context *const contexts = run->contexts;
  const uint32_t u = run->unary_length;
  uint32_t prev = run->prev;
  uint32_t state = run->state;
  nnb_status status = NNB_OK;
  const nnb_window *sig_row = nnb_rlps_row(contexts[NNB_CTX_SIG + 3 * state + prev].state);

  for (int32_t *const end = levels + count; levels < end; levels++) {
    const uint32_t next = dq ? (uint32_t)(NNB_NEXT_STATES >> (8 * state)) : 0;
    const uint32_t next_even = next & 7;
    const uint32_t next_odd = next >> 4 & 7;
    nnb_context *c = contexts + NNB_CTX_SIG + 3 * state + prev;
    uint64_t old = c->state;
    if (!guess_bin(&e, old, sig_row)) {
      c->state = nnb_state_after(old, 0);
      *levels = 0;
      prev = 0;
      state = next_even;
      sig_row = nnb_rlps_row(contexts[NNB_CTX_SIG + 3 * state].state);
      continue;
    }
    c->state = nnb_state_after(old, 1);

    const nnb_window *row;
    c = contexts + NNB_CTX_SGN + prev;
    old = c->state;
    const uint32_t negative = choose_bin(&e, old, contexts + NNB_CTX_GTX, &row);
    c->state = nnb_state_after(old, negative);
    prev = 2 - negative;
    const nnb_window *row_even = nnb_rlps_row(contexts[NNB_CTX_SIG + 3 * next_even + prev].state);
    const nnb_window *row_odd = nnb_rlps_row(contexts[NNB_CTX_SIG + 3 * next_odd + prev].state);
    NNB_KEEP_BRANCH(row_even); /* now, not when they are needed */
    NNB_KEEP_BRANCH(row_odd);

    /* Two flags at a time, since the first one ends odd magnitudes and the second one even ones. */
    nnb_context *const first = contexts + NNB_CTX_GTX + negative;
    nnb_context *const last = first + 2 * u;
    const uint32_t quantizer = state & 1;
    uint64_t v;
    c = first;
    for (;;) {
      old = c->state;
      if (!guess_bin(&e, old, row)) {
        sig_row = row_odd;
        state = next_odd;
        break;
      }
      c->state = nnb_state_after(old, 1);
      c += 2;
      if (NNB_UNLIKELY(c == last)) goto remainder;
      old = c->state;
      if (!guess_bin(&e, old, nnb_rlps_row(old))) {
        sig_row = row_even;
        state = next_even;
        break;
      }
      c->state = nnb_state_after(old, 1);
      c += 2;
      if (NNB_UNLIKELY(c == last)) goto remainder;
      row = nnb_rlps_row(c->state);
    }
    c->state = nnb_state_after(old, 0);
    v = 1 + ((uint64_t)(c - first) >> 1);
    *levels = nnb_signed_level((uint32_t)(dq ? 2 * v - quantizer : v), negative);
    continue;

  remainder:
    v = guess_remainder(&e, contexts + nnb_ctx_rem(u), u);
    sig_row = v & 1 ? row_odd : row_even;
    state = v & 1 ? next_odd : next_even;
    if (dq) v = 2 * v - quantizer;
    if (v > (uint64_t)INT32_MAX + negative) {
      status = NNB_LEVEL_RANGE;
      break;
    }
    *levels = nnb_signed_level((uint32_t)v, negative);
  }

  *cabac = e;
  run->prev = prev;
  run->state = state;
  return status;
}

#define NNB_PLAIN_VARIANTS(suffix, attributes)                                                                        \
  attributes static nnb_status plain_uniform##suffix(nnb_cabac *cabac, nnb_run *run, int32_t *levels, size_t count) { \
    return plain_run(cabac, run, levels, count, 0);                                                                   \
  }                                                                                                                   \
  attributes static nnb_status plain_dq##suffix(nnb_cabac *cabac, nnb_run *run, int32_t *levels, size_t count) {      \
    return plain_run(cabac, run, levels, count, 1);                                                                   \
  }

NNB_PLAIN_VARIANTS(_portable, )
#if NNB_X86_DISPATCH
NNB_PLAIN_VARIANTS(_bmi2, NNB_TARGET("bmi,bmi2,lzcnt"))
#endif

nnb_decode_run_fn *nnb_select_plain_run(int dq) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) return dq ? plain_dq_bmi2 : plain_uniform_bmi2;
#endif
  return dq ? plain_dq_portable : plain_uniform_portable;
}

#endif
