#include "dec/automaton.h"

#if NNB_WITH_AUTOMATON

/* Order of the nodes: sig_flag by state and prev, sign_flag likewise, then greater flags by number, state and sign, and
 * at the end the remainder by state and sign. */
static uint32_t sig_node(uint32_t state, uint32_t prev) { return 3 * state + prev; }

static uint32_t sign_node(uint32_t state, uint32_t prev) { return 24 + 3 * state + prev; }

static uint32_t greater_node(uint32_t j, uint32_t state, uint32_t negative) {
  return 48 + 16 * j + 2 * state + negative;
}

static uint32_t next_state(uint32_t state, uint32_t odd) {
  return (uint32_t)(NNB_NEXT_STATES >> (8 * state + 4 * odd)) & 7;
}

static uint32_t sig_context(uint32_t state, uint32_t prev) { return NNB_CTX_SIG + 3 * state + prev; }

static uint32_t greater_context(uint32_t j, uint32_t negative) { return NNB_CTX_GTX + 2 * j + negative; }

static size_t node_at(uint32_t number) { return number * sizeof(nnb_node); }

static size_t context_at(uint32_t number) { return number * sizeof(nnb_context); }

static void link_node(nnb_automaton *automaton, uint32_t from, uint32_t bin, uint32_t to, uint32_t context) {
  nnb_node *const node = &automaton->nodes[from];
  node->next[bin] = (uint16_t)node_at(to);
  node->context[bin] = (uint16_t)context_at(context);
  node->next[2] = node->next[0];
  node->context[2] = node->context[0];
}

/* p7 of the context that stops the automaton; others are below 64. */
enum { STOP = 64 };

/* It stands for the context of a remainder, where no bin has one of that number. */
static uint32_t stop_context(uint32_t unary_length) { return 84 + 4 * unary_length; }

void nnb_automaton_prepare(nnb_context *contexts, uint32_t unary_length) {
  contexts[stop_context(unary_length)].p7 = STOP;
}

static void build_zero_and_sign(nnb_automaton *automaton, uint32_t state, uint32_t even) {
  for (uint32_t prev = 0; prev < 3; prev++) {
    const uint32_t sig = sig_node(state, prev);
    const uint32_t sign = sign_node(state, prev);
    link_node(automaton, sig, 0, sig_node(even, 0), sig_context(even, 0));
    link_node(automaton, sig, 1, sign, NNB_CTX_SGN + prev);
    automaton->nodes[sig].level = 0;
    automaton->nodes[sig].ends = 1;
    for (uint32_t negative = 0; negative < 2; negative++) {
      link_node(automaton, sign, negative, greater_node(0, state, negative), greater_context(0, negative));
    }
    automaton->nodes[sign].level = 0;
    automaton->nodes[sign].ends = 0;
  }
}

void nnb_automaton_build(nnb_automaton *automaton, uint32_t unary_length, int dq) {
  for (uint32_t state = 0; state < (dq ? 8u : 1u); state++) {
    build_zero_and_sign(automaton, state, dq ? next_state(state, 0) : 0);
    for (uint32_t j = 0; j < unary_length; j++) {
      for (uint32_t negative = 0; negative < 2; negative++) {
        const uint32_t from = greater_node(j, state, negative);
        const uint32_t after = dq ? next_state(state, (j + 1) & 1) : 0;
        const uint32_t prev = 2 - negative;
        link_node(automaton, from, 0, sig_node(after, prev), sig_context(after, prev));
        const uint32_t context = j + 1 == unary_length ? stop_context(unary_length) : greater_context(j + 1, negative);
        link_node(automaton, from, 1, greater_node(j + 1, state, negative), context);
        const int32_t magnitude = dq ? 2 * ((int32_t)j + 1) - (int32_t)(state & 1) : (int32_t)j + 1;
        automaton->nodes[from].level = (int16_t)(negative ? -magnitude : magnitude);
        automaton->nodes[from].ends = 1;
      }
    }
  }
}

NNB_INLINE const nnb_node *node_of(const nnb_automaton *automaton, size_t at) {
  return (const nnb_node *)(const void *)((const char *)automaton->nodes + at);
}

NNB_INLINE nnb_context *context_of(nnb_context *contexts, size_t at) {
  return (nnb_context *)(void *)((char *)contexts + at);
}

/*
 * A bin of the automaton, with all that follows from it. It is the innermost loop of decoding: on x86-64 the five
 * choices hang on one comparison.
 */
NNB_INLINE void step(const nnb_automaton *automaton, nnb_lane *p) {
  nnb_context *const contexts = p->contexts;
  const nnb_node *const from = node_of(automaton, p->node);
  const size_t used = p->context;
  const size_t probable = p->p7 >> 5;
  const nnb_window rl = nnb_range_lps(p->cabac.range, p->p7);
  const nnb_window rm = p->cabac.range - rl;
  size_t next = from->next[probable + 1];
  const size_t probable_next = from->next[probable];
  size_t context = from->context[probable + 1];
  const size_t probable_context = from->context[probable];
  size_t p7 = context_of(contexts, context)->p7;
  const size_t probable_p7 = context_of(contexts, probable_context)->p7;
  nnb_window range = rl;
  nnb_window window = p->cabac.window;
  uint32_t bin = (uint32_t)probable;
#if NNB_X86_ASM
  __asm__(
      "sub %[rm], %[window]\n\t"
      "cmovb %[rm], %[range]\n\t"
      "cmovb %[old_window], %[window]\n\t"
      "cmovb %[probable_p7], %[p7]\n\t"
      "cmovb %[probable_context], %[context]\n\t"
      "cmovb %[probable_next], %[next]\n\t"
      "sbb $-1, %[bin]" /* the carry is 1 for the more probable bin */
      : [window] "+&r"(window), [range] "+&r"(range), [p7] "+&r"(p7), [context] "+&r"(context), [next] "+&r"(next),
        [bin] "+&r"(bin)
      : [rm] "r"(rm), [old_window] "rm"(p->cabac.window), [probable_p7] "r"(probable_p7),
        [probable_context] "r"(probable_context), [probable_next] "r"(probable_next)
      : "cc");
#else
  const uint32_t lps = window >= rm;
  range = lps ? rl : rm;
  window -= lps ? rm : 0;
  p7 = lps ? p7 : probable_p7;
  context = lps ? context : probable_context;
  next = lps ? next : probable_next;
  bin += lps;
#endif
  bin &= 1;
  p->cabac.window = window;
  nnb_renormalize(&p->cabac, range);
  nnb_context_update(context_of(contexts, used), bin);
  if (NNB_UNLIKELY(context == used)) { /* p7 was taken before the update */
    p7 = context_of(contexts, context)->p7;
    NNB_KEEP_BRANCH(p7);
  }
  *p->levels = from->level;
  p->levels += from->ends & ~bin;
  p->node = next;
  p->context = context;
  p->p7 = p7;
}

NNB_INLINE void start_level(nnb_lane *p, uint32_t state, uint32_t prev) {
  p->node = node_at(sig_node(state, prev));
  p->context = context_at(sig_context(state, prev));
  p->p7 = context_of(p->contexts, p->context)->p7;
}

void nnb_lane_start(nnb_lane *lane, const nnb_run *run) {
  lane->contexts = run->contexts;
  lane->unary_length = run->unary_length;
  start_level(lane, run->state, run->prev);
}

void nnb_lane_leave(const nnb_lane *lane, nnb_run *run) {
  const uint32_t index = (uint32_t)(lane->node / sizeof(nnb_node));
  run->state = index / 3;
  run->prev = index % 3;
}

/* The remainder after U flags, if that is where the automaton stopped. */
NNB_INLINE nnb_status end_with_remainder(nnb_lane *p, const int dq) {
  if (NNB_LIKELY(p->p7 != STOP)) return NNB_OK;
  const uint32_t at = (uint32_t)(p->node / sizeof(nnb_node)) - greater_node(p->unary_length, 0, 0);
  const uint32_t negative = at & 1;
  const uint32_t state = at >> 1;
  const uint64_t v = nnb_decode_remainder(&p->cabac, p->contexts, p->unary_length, UINT64_MAX);
  const uint64_t magnitude = dq ? 2 * v - (state & 1) : v;
  start_level(p, dq ? next_state(state, (uint32_t)v & 1) : 0, 2 - negative);
  if (magnitude > (uint64_t)INT32_MAX + negative) return NNB_LEVEL_RANGE;
  *p->levels++ = nnb_signed_level((uint32_t)magnitude, negative);
  return NNB_OK;
}

NNB_INLINE nnb_status run_lane(const nnb_automaton *automaton, nnb_lane *lane, const int dq) {
  nnb_lane p = *lane;
  nnb_status status = NNB_OK;
  while (p.levels < p.end && status == NNB_OK) {
    /* No bin ends more than one level. */
    for (size_t bins = (size_t)(p.end - p.levels); bins > 0; bins--) {
      step(automaton, &p);
      if (NNB_UNLIKELY(p.p7 == STOP)) break;
    }
    status = end_with_remainder(&p, dq);
  }
  *lane = p;
  return status;
}

NNB_INLINE nnb_status run_pair(const nnb_automaton *automaton, nnb_lane lanes[2], const int dq) {
  nnb_lane p = lanes[0];
  nnb_lane q = lanes[1];
  nnb_status status = NNB_OK;
  while (p.levels < p.enough && q.levels < q.enough && status == NNB_OK) {
    const size_t bins_p = (size_t)(p.end - p.levels);
    const size_t bins_q = (size_t)(q.end - q.levels);
    for (size_t bins = bins_p < bins_q ? bins_p : bins_q; bins > 0; bins--) {
      step(automaton, &p);
      step(automaton, &q);
      if (NNB_UNLIKELY((p.p7 | q.p7) >= STOP)) break;
    }
    status = end_with_remainder(&p, dq);
    if (status == NNB_OK) status = end_with_remainder(&q, dq);
  }
  lanes[0] = p;
  lanes[1] = q;
  return status;
}

#define NNB_LANE_VARIANTS(suffix, attributes)                                                            \
  attributes static nnb_status lane_uniform##suffix(const nnb_automaton *automaton, nnb_lane *lane) {    \
    return run_lane(automaton, lane, 0);                                                                 \
  }                                                                                                      \
  attributes static nnb_status lane_dq##suffix(const nnb_automaton *automaton, nnb_lane *lane) {         \
    return run_lane(automaton, lane, 1);                                                                 \
  }                                                                                                      \
  attributes static nnb_status pair_uniform##suffix(const nnb_automaton *automaton, nnb_lane lanes[2]) { \
    return run_pair(automaton, lanes, 0);                                                                \
  }                                                                                                      \
  attributes static nnb_status pair_dq##suffix(const nnb_automaton *automaton, nnb_lane lanes[2]) {      \
    return run_pair(automaton, lanes, 1);                                                                \
  }

NNB_LANE_VARIANTS(_portable, )
#if NNB_X86_DISPATCH
NNB_LANE_VARIANTS(_bmi2, NNB_TARGET("bmi,bmi2,lzcnt"))
#endif

nnb_lane_fn *nnb_select_lane(int dq) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) return dq ? lane_dq_bmi2 : lane_uniform_bmi2;
#endif
  return dq ? lane_dq_portable : lane_uniform_portable;
}

nnb_lane_pair_fn *nnb_select_lane_pair(int dq) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) return dq ? pair_dq_bmi2 : pair_uniform_bmi2;
#endif
  return dq ? pair_dq_portable : pair_uniform_portable;
}

#endif
