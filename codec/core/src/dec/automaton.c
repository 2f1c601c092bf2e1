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

static void link_node(nnb_automaton *automaton, nnb_context *contexts, uint32_t from, uint32_t bin, uint32_t to,
                      uint32_t context) {
  nnb_node *const node = &automaton->nodes[from];
  node->next[bin] = &automaton->nodes[to];
  node->context[bin] = contexts + context;
  node->next[2] = node->next[0];
  node->context[2] = node->context[0];
}

/* p7 of the context that stops the automaton; others are below 64. */
enum { STOP = 64 };

static void build_zero_and_sign(nnb_automaton *automaton, nnb_context *contexts, uint32_t state, uint32_t even) {
  for (uint32_t prev = 0; prev < 3; prev++) {
    const uint32_t sig = sig_node(state, prev);
    const uint32_t sign = sign_node(state, prev);
    link_node(automaton, contexts, sig, 0, sig_node(even, 0), sig_context(even, 0));
    link_node(automaton, contexts, sig, 1, sign, NNB_CTX_SGN + prev);
    automaton->nodes[sig].level = 0;
    automaton->nodes[sig].ends = 1;
    for (uint32_t negative = 0; negative < 2; negative++) {
      link_node(automaton, contexts, sign, negative, greater_node(0, state, negative), greater_context(0, negative));
    }
    automaton->nodes[sign].level = 0;
    automaton->nodes[sign].ends = 0;
  }
}

void nnb_automaton_build(nnb_automaton *automaton, nnb_context *contexts, uint32_t unary_length, int dq) {
  nnb_context_init(&automaton->stop, 0);
  automaton->stop.p7 = STOP;
  for (uint32_t state = 0; state < (dq ? 8u : 1u); state++) {
    build_zero_and_sign(automaton, contexts, state, dq ? next_state(state, 0) : 0);
    for (uint32_t j = 0; j < unary_length; j++) {
      for (uint32_t negative = 0; negative < 2; negative++) {
        const uint32_t from = greater_node(j, state, negative);
        const uint32_t after = dq ? next_state(state, (j + 1) & 1) : 0;
        const uint32_t prev = 2 - negative;
        link_node(automaton, contexts, from, 0, sig_node(after, prev), sig_context(after, prev));
        link_node(automaton, contexts, from, 1, greater_node(j + 1, state, negative), greater_context(j + 1, negative));
        if (j + 1 == unary_length) automaton->nodes[from].context[1] = &automaton->stop;
        const int32_t magnitude = dq ? 2 * ((int32_t)j + 1) - (int32_t)(state & 1) : (int32_t)j + 1;
        automaton->nodes[from].level = negative ? -magnitude : magnitude;
        automaton->nodes[from].ends = 1;
      }
    }
  }
}

/*
 * A bin of the automaton: node, context and p7 move on to the next ones; returns the bin. It is the innermost loop of
 * decoding: on x86-64 the five choices hang on one comparison.
 */
NNB_INLINE uint32_t step(nnb_cabac *e, const nnb_node **node, nnb_context **context, size_t *p7) {
  const nnb_node *const from = *node;
  const size_t probable = *p7 >> 5;
  const nnb_window rl = nnb_range_lps(e->range, *p7);
  const nnb_window rm = e->range - rl;
  const nnb_node *next = from->next[probable + 1];
  nnb_context *next_context = from->context[probable + 1];
  size_t next_p7 = next_context->p7;
  const size_t probable_p7 = from->context[probable]->p7;
  nnb_window range = rl;
  nnb_window window = e->window;
  uint32_t bin = (uint32_t)probable;
#if NNB_X86_ASM
  __asm__(
      "sub %[rm], %[window]\n\t"
      "cmovb %[rm], %[range]\n\t"
      "cmovb %[old_window], %[window]\n\t"
      "cmovb %[probable_p7], %[next_p7]\n\t"
      "cmovb %[probable_context], %[next_context]\n\t"
      "cmovb %[probable_node], %[next]\n\t"
      "sbb $-1, %[bin]" /* the carry is 1 for the more probable bin */
      : [window] "+&r"(window), [range] "+&r"(range), [next_p7] "+&r"(next_p7), [next_context] "+&r"(next_context),
        [next] "+&r"(next), [bin] "+&r"(bin)
      : [rm] "r"(rm), [old_window] "rm"(e->window), [probable_p7] "r"(probable_p7),
        [probable_context] "rm"(from->context[probable]), [probable_node] "rm"(from->next[probable])
      : "cc");
#else
  const uint32_t lps = window >= rm;
  range = lps ? rl : rm;
  window -= lps ? rm : 0;
  next_p7 = lps ? next_p7 : probable_p7;
  next_context = lps ? next_context : from->context[probable];
  next = lps ? next : from->next[probable];
  bin += lps;
#endif
  e->window = window;
  nnb_renormalize(e, range);
  *node = next;
  *context = next_context;
  *p7 = next_p7;
  return bin & 1;
}

/* The remainder after U flags, which begins with node `at` of the last sixteen. */
NNB_INLINE nnb_status end_with_remainder(nnb_cabac *e, nnb_run *run, uint32_t at, const int dq, int32_t *level) {
  const uint32_t negative = at & 1;
  const uint32_t state = at >> 1;
  const uint64_t v = nnb_decode_remainder(e, run->contexts, run->unary_length, UINT64_MAX);
  const uint64_t magnitude = dq ? 2 * v - (state & 1) : v;
  run->prev = 2 - negative;
  run->state = dq ? next_state(state, (uint32_t)v & 1) : 0;
  if (magnitude > (uint64_t)INT32_MAX + negative) return NNB_LEVEL_RANGE;
  *level = nnb_signed_level((uint32_t)magnitude, negative);
  return NNB_OK;
}

NNB_INLINE nnb_status automaton_run(const nnb_automaton *automaton, nnb_cabac *cabac, nnb_run *run, int32_t *levels,
                                    size_t count, const int dq) {
  nnb_cabac e = *cabac;
  const nnb_node *node = &automaton->nodes[sig_node(run->state, run->prev)];
  nnb_context *context = run->contexts + sig_context(run->state, run->prev);
  size_t p7 = context->p7;
  int32_t *const end = levels + count;
  nnb_status status = NNB_OK;

  while (levels < end && status == NNB_OK) {
    /* No bin ends more than one level. */
    for (size_t bins = (size_t)(end - levels); bins > 0; bins--) {
      const nnb_node *const from = node;
      nnb_context *const used = context;
      const uint32_t bin = step(&e, &node, &context, &p7);
      nnb_context_update(used, bin);
      if (NNB_UNLIKELY(context == used)) { /* p7 was taken before the update */
        p7 = context->p7;
        NNB_KEEP_BRANCH(p7);
      }
      *levels = from->level;
      levels += from->ends & ~bin;
      if (NNB_UNLIKELY(p7 == STOP)) break;
    }
    if (p7 == STOP) {
      const uint32_t at = (uint32_t)(node - &automaton->nodes[greater_node(run->unary_length, 0, 0)]);
      status = end_with_remainder(&e, run, at, dq, levels++);
      node = &automaton->nodes[sig_node(run->state, run->prev)];
      context = run->contexts + sig_context(run->state, run->prev);
      p7 = context->p7;
    }
  }
  *cabac = e;
  const uint32_t index = (uint32_t)(node - automaton->nodes);
  run->state = index / 3;
  run->prev = index % 3;
  return status;
}

#define NNB_AUTOMATON_VARIANTS(suffix, attributes)                                                                     \
  attributes static nnb_status run_uniform##suffix(const nnb_automaton *automaton, nnb_cabac *cabac, nnb_run *run,     \
                                                   int32_t *levels, size_t count) {                                    \
    return automaton_run(automaton, cabac, run, levels, count, 0);                                                     \
  }                                                                                                                    \
  attributes static nnb_status run_dq##suffix(const nnb_automaton *automaton, nnb_cabac *cabac, nnb_run *run,          \
                                              int32_t *levels, size_t count) {                                         \
    return automaton_run(automaton, cabac, run, levels, count, 1);                                                     \
  }

NNB_AUTOMATON_VARIANTS(_portable, )
#if NNB_X86_DISPATCH
NNB_AUTOMATON_VARIANTS(_bmi2, NNB_TARGET("bmi,bmi2,lzcnt"))
#endif

nnb_automaton_run_fn *nnb_select_automaton_run(int dq) {
#if NNB_X86_DISPATCH
  if (nnb_cpu_has_bmi2()) return dq ? run_dq_bmi2 : run_uniform_bmi2;
#endif
  return dq ? run_dq_portable : run_uniform_portable;
}

#endif
