/* Probability model and context layout (nnc-entropy sections 3 and 4), shared by decoder and encoder. */
#ifndef NNB_MODEL_H
#define NNB_MODEL_H

#include "common/deps.h"
#include "common/tables_gen.h"
#include "nnb/nnb.h"

/* First index of each group of context variables; the later ones depend on U. */
enum {
  NNB_CTX_SIG = 0,
  NNB_CTX_SIG_T = 24,
  NNB_CTX_SIG_H = 40,
  NNB_CTX_SGN = 48,
  NNB_CTX_SGN_T = 51,
  NNB_CTX_GTX = 53,
  NNB_CTX_FIXED = 53
};

NNB_INLINE size_t nnb_ctx_gtx_t(uint32_t u) { return NNB_CTX_FIXED + 2 * (size_t)u; }
NNB_INLINE size_t nnb_ctx_rem(uint32_t u) { return NNB_CTX_FIXED + 4 * (size_t)u; }
NNB_INLINE size_t nnb_ctx_par(uint32_t u) { return 87 + 4 * (size_t)u; }
NNB_INLINE size_t nnb_ctx_row(uint32_t u) { return 89 + 4 * (size_t)u; }
NNB_INLINE size_t nnb_ctx_count(uint32_t u) { return 90 + 4 * (size_t)u; }

/*
 * The state of a context in one word. From the lowest bit: p + 4096 in 13 bits, whose top bit is the more probable bin
 * and the top six what RLPS depends on; the initial set in 5; b + 2048 in 12, a + 128 in the 8 of NNB_A_SHIFT. The
 * number of the rates stands above both, so that one shift of the word, or of its lower half, gives the index of the
 * increment. Estimates never leave their bits (nnc-entropy 3.3).
 */
enum { NNB_P_BITS = 13, NNB_B_SHIFT = 18, NNB_A_SHIFT = 54, NNB_STATE_PROBABLE_BIN = 1 << (NNB_P_BITS - 1) };

NNB_INLINE uint64_t nnb_state_of(uint32_t rate, uint32_t a, uint32_t b, uint32_t set) {
  const uint32_t upper = rate << 30 | a << (NNB_A_SHIFT - 32);
  const uint32_t lower = rate << 30 | b << NNB_B_SHIFT | set << NNB_P_BITS | (16 * a + b);
  return (uint64_t)upper << 32 | lower;
}

NNB_INLINE uint32_t nnb_state_a(uint64_t state) { return (uint32_t)(state >> NNB_A_SHIFT) & 255; }

NNB_INLINE uint32_t nnb_state_b(uint64_t state) { return (uint32_t)state >> NNB_B_SHIFT & 4095; }

NNB_INLINE uint32_t nnb_state_set(uint64_t state) { return (uint32_t)state >> NNB_P_BITS & 15; }

NNB_INLINE uint32_t nnb_state_probable_bin(uint64_t state) { return (uint32_t)state >> (NNB_P_BITS - 1) & 1; }

/* Where the eight values of RLPS stand. */
NNB_INLINE size_t nnb_state_row(uint64_t state) { return (size_t)((uint32_t)state >> 4) & 0x1F8; }

/* Increments, by bin, rate and estimate: a and p move together, b and p do. */
#if NNB_WINDOW_BITS == 64
typedef uint64_t nnb_step;
#define NNB_A_STEP(d) (uint64_t)(d) * (((uint64_t)1 << NNB_A_SHIFT) + 16)
#define NNB_B_STEP(d) (uint64_t)(d) * (((uint64_t)1 << NNB_B_SHIFT) + 1)
#else
typedef int16_t nnb_step;
#define NNB_A_STEP(d) d
#define NNB_B_STEP(d) d
#endif
static const struct nnb_steps {
  nnb_step a[32 * NNB_RATE_COUNT];
  nnb_step b[32 * NNB_RATE_COUNT];
  uint64_t less; /* With bin 0 the index comes from the estimate less one, since -x >> n rounds up. */
} nnb_steps[2] = {
    {{NNB_A_STEPS_0(NNB_A_STEP)}, {NNB_B_STEPS_0(NNB_B_STEP)}, (uint64_t)1 << NNB_A_SHIFT | 1u << NNB_B_SHIFT},
    {{NNB_A_STEPS_1(NNB_A_STEP)}, {NNB_B_STEPS_1(NNB_B_STEP)}, 0},
};

/* update() of nnc-entropy 3.3. */
NNB_INLINE uint64_t nnb_state_after(uint64_t state, uint32_t bin) {
  const struct nnb_steps *const steps = &nnb_steps[bin];
  const uint64_t from = state - steps->less;
  const nnb_step a = steps->a[from >> (NNB_A_SHIFT + 3)];
  const nnb_step b = steps->b[(uint32_t)from >> (NNB_B_SHIFT + 7)];
#if NNB_WINDOW_BITS == 64
  return state + a + b;
#else
  const uint32_t upper = (uint32_t)(state >> 32) + ((uint32_t)a << (NNB_A_SHIFT - 32));
  const uint32_t lower = (uint32_t)state + 16 * (uint32_t)a + (uint32_t)b * ((1u << NNB_B_SHIFT) + 1);
  return (uint64_t)upper << 32 | lower;
#endif
}

NNB_INLINE void nnb_context_update(nnb_context *c, uint32_t bin) { c->state = nnb_state_after(c->state, bin); }

/* (Re)starts a context with an initial set. */
NNB_INLINE void nnb_context_init(nnb_context *c, uint32_t set) {
  c->state = nnb_state_of(nnb_set_rate[set], nnb_set_a[set], nnb_set_b[set], set);
}

/* "Reset" of nnc-entropy 3.4. */
NNB_INLINE void nnb_contexts_reset(nnb_context *contexts, size_t count) {
  for (size_t i = 0; i < count; i++) nnb_context_init(&contexts[i], nnb_state_set(contexts[i].state));
}

NNB_INLINE void nnb_contexts_start(nnb_context *contexts, size_t count) {
  for (size_t i = 0; i < count; i++) nnb_context_init(&contexts[i], 0);
}

/* Geometry of level_data(). */
typedef struct nnb_scan {
  size_t height;
  size_t width;
  size_t block;      /* B, 0 for a plain scan */
  size_t block_rows; /* 1 for a plain scan */
} nnb_scan;

NNB_INLINE nnb_scan nnb_scan_of(const nnb_level_coding *coding) {
  nnb_scan scan = {(size_t)coding->height, (size_t)coding->width, 0, 1};
  if (coding->scan_order > 0 && coding->height > 1 && coding->width > 1) {
    scan.block = (size_t)4 << coding->scan_order;
    scan.block_rows = (scan.height - 1) / scan.block + 1;
  }
  return scan;
}

/* State after `width` even level indices (nnc-entropy 8.3); the cycles of the even column have length 1, 2 or 4. */
NNB_INLINE uint32_t nnb_skip_state(uint32_t state, size_t width) {
  for (size_t i = 0; i < (width & 3); i++) state = (uint32_t)(NNB_NEXT_STATES >> (8 * state)) & 7;
  return state;
}

/* What estimation_parameters() assigns, in its order: each item is a run of contexts, present or not. */
typedef struct nnb_set_run {
  size_t first;
  size_t count;
  size_t present; /* how many of them, from the first, are present */
} nnb_set_run;

enum { NNB_SET_RUNS = 7 };

NNB_INLINE void nnb_set_runs(const nnb_level_coding *coding, int hist, nnb_set_run runs[NNB_SET_RUNS]) {
  const uint32_t cs = coding->codebook_size;
  const uint32_t cz = coding->codebook_zero_offset;
  const size_t u = coding->unary_length;
  const int sig = cs != 1;
  const int sgn = cs == 0 || (cs != 1 && cz != 0 && cz != cs - 1);
  uint64_t m = 0;
  if (cs != 0) m = cz > cs - 1 - cz ? cz : cs - 1 - cz;

  runs[0].first = NNB_CTX_SIG;
  runs[0].count = coding->dq ? 24 : 3;
  runs[1].first = NNB_CTX_SIG_T;
  runs[1].count = coding->temporal ? (coding->dq ? 16 : 2) : 0;
  runs[2].first = NNB_CTX_SIG_H;
  runs[2].count = hist ? (coding->dq ? 8 : 1) : 0;
  for (int i = 0; i < 3; i++) runs[i].present = sig ? runs[i].count : 0;
  runs[3].first = NNB_CTX_SGN;
  runs[3].count = coding->temporal ? 5 : 3;
  runs[3].present = sgn ? runs[3].count : 0;
  runs[4].first = NNB_CTX_GTX;
  runs[4].count = 2 * u;
  runs[4].present = cs == 0 || 2 * m > runs[4].count ? runs[4].count : (size_t)(2 * m);
  runs[5].first = nnb_ctx_gtx_t(coding->unary_length);
  runs[5].count = coding->temporal ? 2 * u : 0;
  /* M = 0 only with cs = 1, where nothing is present. */
  runs[5].present =
      cs == 0 || (m > 0 && 2 * (m - 1) > runs[5].count) ? runs[5].count : (size_t)(m > 0 ? 2 * (m - 1) : 0);
  runs[6].first = nnb_ctx_rem(coding->unary_length);
  runs[6].count = 31;
  runs[6].present = 31;
  if (cs != 0) {
    size_t present = 0;
    while (present < 31 && (uint64_t)u + ((uint64_t)2 << present) < m + 2) present++;
    runs[6].present = present;
  }
}

#endif
