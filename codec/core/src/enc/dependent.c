/* Dependent quantization: the search forwards in coding order, then the best path backwards. */
#include "enc/guard.h"
#include "enc/order.h"
#include "enc/trellis.h"

size_t nnb_quantize_work_size(size_t height, size_t width) {
  if (height == 0 || width == 0 || width > SIZE_MAX / 8 / height) return SIZE_MAX;
  return 2 * height * width;
}

/* What both directions need. */
typedef struct trellis {
  const float *values;
  double inverse;
  nnb_trellis_fn *search;
  nnb_rate_model *rate;
  uint8_t *decisions;
  int32_t *levels;
  double costs[8];
  unsigned state;
} trellis;

static void search_segment(void *user, const nnb_segment *s) {
  trellis *const t = user;
  uint8_t *const decisions = t->decisions + 2 * s->before;
  if (t->rate == NULL) {
    t->search(t->values + s->at, s->count, t->inverse, t->costs, decisions);
    return;
  }
  if (s->starts_block_row) nnb_rate_restart(t->rate, 8);
  nnb_rate_search(t->rate, t->values + s->at, s->count, t->inverse, t->costs, decisions);
}

static void trace_segment(void *user, const nnb_segment *s) {
  trellis *const t = user;
  /* By state: its place, and its predecessors with even and odd index. */
  static const uint8_t place_of[8] = {0, 2, 1, 3, 4, 6, 5, 7};
  static const uint8_t from[8][2] = {{0, 4}, {2, 6}, {4, 0}, {6, 2}, {7, 3}, {5, 1}, {3, 7}, {1, 5}};
  const uint8_t *const decisions = t->decisions + 2 * s->before;
  unsigned state = t->state;
  for (size_t i = s->count; i-- > 0;) {
    const unsigned place = place_of[state];
    const unsigned odd = decisions[2 * i] >> place & 1u;
    const int32_t zero = decisions[2 * i + 1] >> place & (int32_t)(odd ^ 1);
    state = from[state][odd];
    const int32_t quantizer = (int32_t)(state & 1);
    const float x = t->values[s->at + i];
    const int32_t m = nnb_first_candidate(nnb_scaled(x, t->inverse));
    const int32_t wanted = (int32_t)(2 * odd) + quantizer * (3 - 4 * (int32_t)odd);
    const int32_t level = (m + ((wanted - m) & 3)) & (zero - 1); /* |L| is q, the multiple of the step */
    const int32_t sign = -(int32_t)(x < 0);                      /* not of the sign bit: that of -0 does not count */
    t->levels[s->at + i] = (level ^ sign) - sign;
  }
  t->state = state;
}

void nnb_search_dependent(const nnb_scan *scan, const float *values, float step, nnb_rate_model *rate,
                          uint8_t *decisions, int32_t *levels) {
  trellis t = {
      .values = values,
      .inverse = 1.0 / (double)step,
      .search = nnb_select_trellis(),
      .rate = rate,
      .decisions = decisions,
      .levels = levels,
      .costs = {0, 1e300, 1e300, 1e300, 1e300, 1e300, 1e300, 1e300},
  };
  nnb_each_segment(scan, search_segment, &t);
  for (unsigned s = 1; s < 8; s++) {
    if (t.costs[s] < t.costs[t.state]) t.state = s;
  }
  nnb_each_segment_backwards(scan, trace_segment, &t);
}

nnb_status nnb_quantize_dependent(const float *values, size_t height, size_t width, uint32_t scan_order, int32_t *qp,
                                  uint32_t qp_density, int32_t *levels, void *work, size_t work_size) {
  if (scan_order > NNB_MAX_SCAN_ORDER) return NNB_UNSUPPORTED_FEATURE;
  const size_t needed = nnb_quantize_work_size(height, width);
  if (needed == SIZE_MAX) return NNB_BAD_OPTION;
  if (work_size < needed) return NNB_BUFFER_SIZE;
  float step;
  const nnb_status status = nnb_guarded_step(values, height * width, qp, qp_density, &step);
  if (status != NNB_OK) return status;

  const nnb_level_coding coding = {.height = height, .width = width, .scan_order = (uint8_t)scan_order};
  const nnb_scan scan = nnb_scan_of(&coding);
  nnb_search_dependent(&scan, values, step, NULL, work, levels);
  return NNB_OK;
}
