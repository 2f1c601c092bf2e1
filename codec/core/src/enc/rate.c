#define NNB_WITH_EST_BITS
#include "enc/rate.h"

#include "enc/guard.h"
#include "enc/order.h"
#include "enc/trellis.h"

/* A path keeps the estimates of these contexts, and after 2 U greater flags those of the remainder. */
enum { SIG = 0, SGN = 24, GTX = 27, REM_COUNT = 31, EST_ONE_BIT = 32768, PATHS = 16 };

static size_t estimate_count(uint32_t unary_length) { return GTX + 2 * (size_t)unary_length + REM_COUNT; }

static void start_run(const nnb_rate_model *model, size_t at, size_t context, size_t count) {
  for (size_t i = 0; i < count; i++) {
    const unsigned set = model->initial_sets != NULL ? model->initial_sets[context + i] : 0;
    const nnb_estimate e = {nnb_state_of(nnb_set_rate[set], nnb_set_a[set], nnb_set_b[set], set)};
    model->estimates[at + i] = e;
  }
}

void nnb_rate_restart(nnb_rate_model *model, size_t paths) {
  const size_t flags = 2 * (size_t)model->unary_length;
  start_run(model, SIG, NNB_CTX_SIG, SGN - SIG);
  start_run(model, SGN, NNB_CTX_SGN, GTX - SGN);
  start_run(model, GTX, NNB_CTX_GTX, flags);
  start_run(model, GTX + flags, nnb_ctx_rem(model->unary_length), REM_COUNT);
  for (size_t i = 1; i < paths; i++) {
    nnb_memcpy(model->estimates + i * model->count, model->estimates, model->count * sizeof(nnb_estimate));
  }
  nnb_memset(model->prev, 0, sizeof model->prev);
}

NNB_INLINE uint32_t bin_cost(const nnb_estimate *e, uint32_t bin) {
  const size_t estimate = (size_t)e->state & ((1u << NNB_P_BITS) - 1);
  return nnb_est_bits[2 * (estimate >> 3) + bin];
}

NNB_INLINE void follow(nnb_estimate *e, uint32_t bin) { e->state = nnb_state_after(e->state, bin); }

/* Bits of the remainder of a magnitude v > U; with `update` the estimates follow. */
static NNB_NOINLINE uint32_t remainder_cost(nnb_estimate *rem, uint32_t unary_length, uint32_t v, int update) {
  uint64_t first = 1 + (uint64_t)unary_length; /* smallest magnitude of the group of 2^r */
  uint32_t cost = 0;
  uint32_t r = 0;
  while (r < REM_COUNT && v >= first + ((uint64_t)1 << r)) {
    cost += bin_cost(&rem[r], 1);
    if (update) follow(&rem[r], 1);
    first += (uint64_t)1 << r;
    r++;
  }
  if (r < REM_COUNT) {
    cost += bin_cost(&rem[r], 0);
    if (update) follow(&rem[r], 0);
  }
  return cost + r * EST_ONE_BIT;
}

/* Bits of the magnitudes v and v + 1, v > 0, after the sign. */
NNB_INLINE void magnitude_costs(nnb_estimate *path, uint32_t unary_length, uint32_t negative, uint32_t v,
                                uint32_t costs[2]) {
  const nnb_estimate *flag = path + GTX + negative;
  nnb_estimate *const rem = path + GTX + 2 * (size_t)unary_length;
  uint32_t before = 0;
  for (uint32_t j = 1; j < v && j <= unary_length; j++, flag += 2) before += bin_cost(flag, 1);
  if (NNB_UNLIKELY(v > unary_length)) {
    costs[0] = before + remainder_cost(rem, unary_length, v, 0);
    costs[1] = before + remainder_cost(rem, unary_length, v + 1, 0);
    return;
  }
  costs[0] = before + bin_cost(flag, 0);
  before += bin_cost(flag, 1);
  costs[1] = before + (v < unary_length ? bin_cost(flag + 2, 0) : remainder_cost(rem, unary_length, v + 1, 0));
}

/* The estimates follow a level, of which `sig` is the first context. */
NNB_INLINE void follow_level(nnb_estimate *path, uint32_t unary_length, size_t sig, uint32_t prev, uint32_t negative,
                             uint32_t v) {
  follow(&path[SIG + sig], v != 0);
  if (v == 0) return;
  follow(&path[SGN + prev], negative);
  nnb_estimate *flag = path + GTX + negative;
  for (uint32_t j = 1; j < v && j <= unary_length; j++, flag += 2) follow(flag, 1);
  if (v <= unary_length) {
    follow(flag, 0);
  } else {
    (void)remainder_cost(path + GTX + 2 * (size_t)unary_length, unary_length, v, 1);
  }
}

/* Costs of what can follow each state: an even index other than 0, index 0, an odd index. */
typedef struct branches {
  double even[8];
  double zero[8];
  double odd[8];
} branches;

/* Multiples of the step that quantizer t can take, and their distortions. */
typedef struct candidates {
  uint32_t even[2];
  uint32_t odd[2];
  double even_distortion[2];
  double odd_distortion[2];
  double zero_distortion;
} candidates;

NNB_INLINE candidates candidates_of(double scaled, double weight) {
  candidates c;
  const int32_t m = nnb_first_candidate(scaled);
  for (int32_t t = 0; t < 2; t++) {
    const int32_t even = m + ((3 * t - m) & 3);
    const int32_t odd = m + ((2 - t - m) & 3);
    const double even_off = scaled - (double)even;
    const double odd_off = scaled - (double)odd;
    c.even[t] = ((uint32_t)even + 1) >> 1;
    c.odd[t] = ((uint32_t)odd + 1) >> 1;
    c.even_distortion[t] = weight * (even_off * even_off);
    c.odd_distortion[t] = weight * (odd_off * odd_off);
  }
  c.zero_distortion = weight * (scaled * scaled);
  return c;
}

NNB_INLINE void add_rates(nnb_rate_model *model, const candidates *c, uint32_t negative, const double costs[8],
                          branches *b) {
  for (uint32_t s = 0; s < 8; s++) {
    const uint32_t t = s & 1;
    nnb_estimate *const path = model->estimates + s * model->count;
    const nnb_estimate *const sig = &path[SIG + 3 * s + model->prev[s]];
    const uint32_t lower = c->even[t] < c->odd[t] ? c->even[t] : c->odd[t];
    const uint32_t shown = bin_cost(sig, 1) + bin_cost(&path[SGN + model->prev[s]], negative);
    uint32_t bits[2];
    magnitude_costs(path, model->unary_length, negative, lower, bits);
    b->even[s] = costs[s] + (c->even_distortion[t] + (double)(shown + bits[c->even[t] - lower]));
    b->zero[s] = costs[s] + (c->zero_distortion + (double)bin_cost(sig, 0));
    b->odd[s] = costs[s] + (c->odd_distortion[t] + (double)(shown + bits[c->odd[t] - lower]));
  }
}

void nnb_rate_search(nnb_rate_model *model, const float *values, size_t count, double inverse, double costs[8],
                     uint8_t *decisions) {
  const uint32_t unary_length = model->unary_length;
  const size_t path_size = model->count * sizeof(nnb_estimate);
  nnb_estimate *now = model->estimates;
  nnb_estimate *next = model->estimates + 8 * model->count;
  for (size_t i = 0; i < count; i++) {
    const uint32_t negative = values[i] < 0;
    const candidates c = candidates_of(nnb_scaled(values[i], inverse), model->weight);
    branches b;
    nnb_rate_model here = *model;
    here.estimates = now;
    add_rates(&here, &c, negative, costs, &b);
    uint32_t odd_bits = 0;
    uint32_t zero_bits = 0;
    for (uint32_t place = 0; place < 8; place++) {
      const uint32_t even_from = nnb_even_from[place];
      const uint32_t odd_from = nnb_odd_from[place];
      const uint32_t target = nnb_state_at[place];
      const int takes_zero = b.zero[even_from] < b.even[even_from];
      const double even = takes_zero ? b.zero[even_from] : b.even[even_from];
      const double odd = b.odd[odd_from];
      const int takes_odd = nnb_odd_first[place] ? !(even < odd) : odd < even;
      const uint32_t from = takes_odd ? odd_from : even_from;
      const uint32_t v = takes_odd ? c.odd[from & 1] : takes_zero ? 0 : c.even[from & 1];
      const uint32_t prev = here.prev[from];
      nnb_estimate *const path = next + target * model->count;
      nnb_memcpy(path, now + from * model->count, path_size);
      follow_level(path, unary_length, 3 * (size_t)from + prev, prev, negative, v);
      costs[target] = takes_odd ? odd : even;
      model->prev[target] = (uint8_t)(v == 0 ? 0 : 2 - negative);
      odd_bits |= (uint32_t)takes_odd << place;
      zero_bits |= (uint32_t)takes_zero << place;
    }
    decisions[2 * i] = (uint8_t)odd_bits;
    decisions[2 * i + 1] = (uint8_t)zero_bits;
    nnb_estimate *const done = now;
    now = next;
    next = done;
  }
  if (now != model->estimates) nnb_memcpy(model->estimates, now, 8 * path_size);
}

/* The greedy decision: as rounded, one less, or zero. */
static void decide_uniform(nnb_rate_model *model, const float *values, size_t count, float step, int32_t *levels) {
  nnb_estimate *const path = model->estimates;
  const float inverse = 1.0f / step;
  const double exact = 1.0 / (double)step;
  for (size_t i = 0; i < count; i++) {
    const uint32_t negative = values[i] < 0;
    const int32_t rounded = nnb_round_level(values[i] * inverse);
    const uint32_t r = (uint32_t)(rounded < 0 ? -rounded : rounded);
    const uint32_t prev = model->prev[0];
    uint32_t v = 0;
    if (r > 0) {
      const uint32_t lower = r > 1 ? r - 1 : 1;
      const uint32_t shown = bin_cost(&path[SIG + prev], 1) + bin_cost(&path[SGN + prev], negative);
      const double scaled = nnb_scaled(values[i], exact);
      uint32_t bits[2];
      magnitude_costs(path, model->unary_length, negative, lower, bits);
      double least = model->weight * (scaled * scaled) + (double)bin_cost(&path[SIG + prev], 0);
      for (uint32_t k = lower; k <= r; k++) {
        const double off = scaled - (double)k;
        const double cost = model->weight * (off * off) + (double)(shown + bits[k - lower]);
        if (cost < least) {
          least = cost;
          v = k;
        }
      }
    }
    follow_level(path, model->unary_length, prev, prev, negative, v);
    model->prev[0] = (uint8_t)(v == 0 ? 0 : 2 - negative);
    levels[i] = negative ? -(int32_t)v : (int32_t)v;
  }
}

typedef struct uniform {
  nnb_rate_model model;
  const float *values;
  int32_t *levels;
  float step;
} uniform;

static void decide_segment(void *user, const nnb_segment *s) {
  uniform *const u = user;
  if (s->starts_block_row) nnb_rate_restart(&u->model, 1);
  decide_uniform(&u->model, u->values + s->at, s->count, u->step, u->levels + s->at);
}

/* A weight above this leaves the rate no say, and keeps sums finite. */
static double weight_of(double lambda_scale, int dq) {
  const double slope = dq ? 0.32346868426130776 : 0.11552453009332421; /* 4 * 0.7 * ln 2 / 6, ln 2 / 6 */
  const double most = 1e30;
  const double product = lambda_scale * slope;
  return product * most > 32768.0 ? 32768.0 / product : most;
}

size_t nnb_weighed_work_size(const nnb_level_coding *coding) {
  const size_t paths = (coding->dq ? PATHS : 1) * estimate_count(coding->unary_length) * sizeof(nnb_estimate);
  const size_t decisions = coding->dq ? nnb_quantize_work_size((size_t)coding->height, (size_t)coding->width) : 0;
  return decisions == SIZE_MAX ? SIZE_MAX : _Alignof(nnb_estimate) + paths + decisions;
}

nnb_status nnb_quantize_weighed(const float *values, const nnb_level_coding *coding, double lambda_scale,
                                const uint8_t *initial_sets, int32_t *qp, uint32_t qp_density, int32_t *levels,
                                void *work, size_t work_size) {
  nnb_status status = nnb_check_coding(coding);
  if (status != NNB_OK) return status;
  if (!(lambda_scale > 0 && lambda_scale < 1e30)) return NNB_BAD_OPTION;
  const size_t needed = nnb_weighed_work_size(coding);
  if (needed == SIZE_MAX) return NNB_BAD_OPTION;
  if (work_size < needed) return NNB_BUFFER_SIZE;
  const size_t size = (size_t)coding->height * (size_t)coding->width;
  float step;
  status = nnb_guarded_step(values, size, qp, qp_density, &step);
  if (status != NNB_OK) return status;

  const size_t misaligned = (size_t)((uintptr_t)work % _Alignof(nnb_estimate));
  uniform u = {
      .model = {.weight = weight_of(lambda_scale, coding->dq),
                .initial_sets = initial_sets,
                .unary_length = coding->unary_length,
                .count = estimate_count(coding->unary_length)},
      .values = values,
      .levels = levels,
      .step = step,
  };
  u.model.estimates =
      (nnb_estimate *)(void *)((uint8_t *)work + (misaligned ? _Alignof(nnb_estimate) - misaligned : 0));
  const nnb_scan scan = nnb_scan_of(coding);
  if (coding->dq) {
    uint8_t *const decisions = (uint8_t *)(u.model.estimates + PATHS * u.model.count);
    nnb_search_dependent(&scan, values, step, &u.model, decisions, levels);
  } else {
    nnb_each_segment(&scan, decide_segment, &u);
  }
  return NNB_OK;
}
