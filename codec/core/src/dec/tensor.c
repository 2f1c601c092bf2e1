/* tensor_data() and the traversal of level_data() (nnc-entropy sections 1, 3.4, 6 and 7). */
#include "dec/automaton.h"
#include "dec/levels.h"

/* Truncation is looked for once that many bins or levels. */
enum { CHECK_EVERY = 4096 };

static nnb_status decode_row_skip_list(nnb_cabac *cabac, nnb_context *row, uint8_t *list, size_t height) {
  size_t done = 0;
  while (done < height) {
    const size_t end = height - done < CHECK_EVERY ? height : done + CHECK_EVERY;
    nnb_cabac e = *cabac;
    for (; done < end; done++) list[done] = (uint8_t)nnb_decode_bin(&e, row);
    *cabac = e;
    if (nnb_cabac_overrun(cabac)) return NNB_TRUNCATED;
  }
  return NNB_OK;
}

static void decode_initial_sets(nnb_cabac *cabac, const nnb_level_coding *coding, nnb_context *contexts, int hist) {
  nnb_set_run runs[NNB_SET_RUNS];
  nnb_set_runs(coding, hist, runs);
  nnb_context *const par = contexts + nnb_ctx_par(coding->unary_length);
  nnb_cabac e = *cabac;
  for (int i = 0; i < NNB_SET_RUNS; i++) {
    nnb_context *const c = contexts + runs[i].first;
    for (size_t j = 0; j < runs[i].present; j++) {
      const unsigned set = nnb_decode_bin(&e, par) ? 1 + nnb_decode_bypass(&e, 3) : 0;
      nnb_context_init(&c[j], set);
    }
  }
  *cabac = e;
}

nnb_status nnb_decode_head(nnb_cabac *cabac, const nnb_level_coding *coding, const nnb_tensor *tensor,
                           nnb_tensor_info *info) {
  const nnb_status checked = nnb_check_coding(coding);
  if (checked != NNB_OK) return checked;
  info->qp_value = 0;
  info->hist_dep_sig_prob_enabled_flag = 0;
  info->row_skip_enabled_flag = 0;

  if (coding->qp_bits > 0) {
    const uint32_t bits = nnb_decode_bypass(cabac, coding->qp_bits);
    const uint32_t half = 1u << (coding->qp_bits - 1);
    info->qp_value = (int32_t)bits - (bits & half ? (int32_t)(2 * half) : 0);
  }
  nnb_contexts_start(tensor->contexts, nnb_ctx_count(coding->unary_length));
  if (nnb_has_row_flags(coding)) {
    if (coding->parent) info->hist_dep_sig_prob_enabled_flag = (uint8_t)nnb_decode_bypass(cabac, 1);
    info->row_skip_enabled_flag = (uint8_t)nnb_decode_bypass(cabac, 1);
    if (info->row_skip_enabled_flag) {
      if (tensor->row_skip_list == NULL) return NNB_BUFFER_SIZE;
      nnb_context *const row = tensor->contexts + nnb_ctx_row(coding->unary_length);
      const nnb_status status = decode_row_skip_list(cabac, row, tensor->row_skip_list, (size_t)coding->height);
      if (status != NNB_OK) return status;
    }
  }
  decode_initial_sets(cabac, coding, tensor->contexts, info->hist_dep_sig_prob_enabled_flag);
  return nnb_cabac_overrun(cabac) ? NNB_TRUNCATED : NNB_OK;
}

/* All that stays the same over the segments of a tensor. */
typedef struct traversal {
  nnb_scan scan;
  nnb_decode_run_fn *decode;
  const uint8_t *skip; /* NULL without row skipping */
  int nothing_coded;   /* cs = 1 */
  nnb_cabac *cabac;
  const nnb_tensor *tensor;
#if NNB_WITH_AUTOMATON
  const nnb_automaton *automaton; /* NULL if it cannot be used */
  nnb_lane_fn *run_lane;
  int dense; /* whether the levels are such that the automaton is faster */
  size_t seen;
  uint64_t seen_from;
#endif
} traversal;

#if NNB_WITH_AUTOMATON
/* A few thousand levels tell how the next ones will be. From this many bits a level on the automaton is faster. */
enum { DENSE_NUMERATOR = 9, DENSE_DENOMINATOR = 8 };

static void look_at_density(traversal *t, size_t count) {
  t->seen += count;
  if (t->seen < CHECK_EVERY) return;
  const uint64_t position = nnb_cabac_position(t->cabac);
  t->dense = (position - t->seen_from) * DENSE_DENOMINATOR > (uint64_t)t->seen * DENSE_NUMERATOR;
  t->seen = 0;
  t->seen_from = position;
}

static nnb_status decode_dense(const traversal *t, nnb_run *run, int32_t *levels, size_t count) {
  nnb_lane lane = {.cabac = *t->cabac, .levels = levels, .end = levels + count};
  nnb_lane_start(&lane, run);
  const nnb_status status = t->run_lane(t->automaton, &lane);
  *t->cabac = lane.cabac;
  nnb_lane_leave(&lane, run);
  return status;
}
#endif

static nnb_status decode_run(traversal *t, nnb_run *run, int32_t *levels, size_t count) {
#if NNB_WITH_AUTOMATON
  if (t->automaton != NULL) {
    const nnb_status status = t->dense ? decode_dense(t, run, levels, count) : t->decode(t->cabac, run, levels, count);
    look_at_density(t, count);
    return status;
  }
#endif
  return t->decode(t->cabac, run, levels, count);
}

static nnb_status decode_positions(traversal *t, nnb_run *run, size_t at, size_t count) {
  if (t->nothing_coded) {
    nnb_memset(t->tensor->levels + at, 0, 4 * count);
    run->prev = 0;
    run->state = nnb_skip_state(run->state, count);
    return NNB_OK;
  }
  while (count > 0) {
    const size_t n = count < CHECK_EVERY ? count : CHECK_EVERY;
    if (run->base != NULL) run->base = t->tensor->base + at;
    if (run->history != NULL) run->history = t->tensor->history + at;
    const nnb_status status = decode_run(t, run, t->tensor->levels + at, n);
    if (nnb_cabac_overrun(t->cabac)) return NNB_TRUNCATED;
    if (status != NNB_OK) return status;
    at += n;
    count -= n;
  }
  return NNB_OK;
}

static nnb_status decode_segment(traversal *t, nnb_run *run, size_t row, size_t column, size_t count) {
  const size_t at = row * t->scan.width + column;
  if (t->skip != NULL && t->skip[row]) {
    nnb_memset(t->tensor->levels + at, 0, 4 * count);
    run->state = nnb_skip_state(run->state, t->scan.width); /* the width of the tensor, see nnc-entropy 8.3 */
    return NNB_OK;
  }
  return decode_positions(t, run, at, count);
}

static nnb_status decode_plain(traversal *t, nnb_run *run) {
  const nnb_scan *scan = &t->scan;
  if (t->skip == NULL) return decode_positions(t, run, 0, scan->height * scan->width);
  for (size_t row = 0; row < scan->height; row++) {
    const nnb_status status = decode_segment(t, run, row, 0, scan->width);
    if (status != NNB_OK) return status;
  }
  return NNB_OK;
}

static nnb_status decode_block_row(traversal *t, nnb_run *run, size_t y0) {
  const nnb_scan *scan = &t->scan;
  const size_t y1 = scan->height - y0 < scan->block ? scan->height : y0 + scan->block;
  for (size_t x0 = 0; x0 < scan->width; x0 += scan->block) {
    const size_t count = scan->width - x0 < scan->block ? scan->width - x0 : scan->block;
    for (size_t y = y0; y < y1; y++) {
      const nnb_status status = decode_segment(t, run, y, x0, count);
      if (status != NNB_OK) return status;
    }
  }
  return NNB_OK;
}

uint32_t nnb_cabac_offset(const nnb_cabac *cabac) { return (uint32_t)(cabac->window >> NNB_V_SHIFT); }

/* "R = 256". V must be below the new range, which holds in every code string that an encoder made. */
static nnb_status restart_range(nnb_cabac *cabac) {
  cabac->range = NNB_SCALED(256);
  return cabac->window < cabac->range ? NNB_OK : NNB_CABAC_END;
}

nnb_status nnb_decode_block_rows(nnb_cabac *cabac, const nnb_level_coding *coding, const nnb_tensor *tensor,
                                 const nnb_tensor_info *info, uint64_t first, uint64_t last, uint8_t *dq_state) {
  const nnb_status checked = nnb_check_coding(coding);
  if (checked != NNB_OK) return checked;
  const nnb_scan scan = nnb_scan_of(coding);
  if (first > last || last > scan.block_rows || *dq_state > 7) return NNB_BAD_OPTION;
  if (coding->temporal && tensor->base == NULL) return NNB_BASE_MISSING;
  if (info->row_skip_enabled_flag && tensor->row_skip_list == NULL) return NNB_BUFFER_SIZE;

  const int hist = info->hist_dep_sig_prob_enabled_flag && tensor->history != NULL;
  const int general = coding->temporal || hist || coding->codebook_size != 0;
  traversal t = {
      .scan = scan,
      .decode = nnb_select_decode_run(coding->dq, general),
      .skip = info->row_skip_enabled_flag ? tensor->row_skip_list : NULL,
      .nothing_coded = coding->codebook_size == 1,
      .cabac = cabac,
      .tensor = tensor,
  };
  nnb_run run = {
      .contexts = tensor->contexts,
      .unary_length = coding->unary_length,
      .prev = 0,
      .state = coding->dq ? *dq_state : 0,
      .temporal = coding->temporal,
      .hist = hist,
      .codebook_size = coding->codebook_size,
      .codebook_zero_offset = coding->codebook_zero_offset,
      .base = coding->temporal ? tensor->base : NULL,
      .history = hist ? tensor->history : NULL,
  };

#if NNB_WITH_AUTOMATON
  nnb_automaton automaton;
  if (!general && coding->unary_length <= NNB_AUTOMATON_MAX_UNARY && scan.height * scan.width >= 2 * CHECK_EVERY) {
    nnb_automaton_build(&automaton, coding->unary_length, coding->dq);
    t.automaton = &automaton;
    t.run_lane = nnb_select_lane(coding->dq);
    t.seen_from = nnb_cabac_position(cabac);
  }
#endif

  uint64_t position = nnb_cabac_position(cabac);
  for (uint64_t j = first; j < last; j++) {
    nnb_contexts_reset(tensor->contexts, nnb_ctx_count(coding->unary_length));
#if NNB_WITH_AUTOMATON
    nnb_automaton_prepare(tensor->contexts, coding->unary_length);
#endif
    run.prev = 0;
    if (scan.block_rows > 1) {
      const nnb_status status = restart_range(cabac);
      if (status != NNB_OK) return status;
    }
    if (tensor->entry_points != NULL && j > 0) {
      nnb_entry_point *const entry = &tensor->entry_points[j - 1];
      const uint64_t here = nnb_cabac_position(cabac);
      if (j > first) entry->bit_offset = here - position;
      position = here;
      entry->cabac_offset = (uint16_t)nnb_cabac_offset(cabac);
      entry->dq_state = (uint8_t)run.state;
    }
    const nnb_status status =
        scan.block > 0 ? decode_block_row(&t, &run, (size_t)j * scan.block) : decode_plain(&t, &run);
    if (status != NNB_OK) return status;
  }
  *dq_state = (uint8_t)run.state;
  return NNB_OK;
}

#if NNB_WITH_AUTOMATON
/* Levels go to a buffer before they go to their places, so that a lane is not bound to the short segments of the scan.
 */
enum { PAIR_BUFFER = 1024, PAIR_ENOUGH = 64 };

/* Two lanes pay from this many bits a level on. */
enum { PAIR_NUMERATOR = 3, PAIR_DENOMINATOR = 4 };

typedef struct pair_work {
  nnb_automaton automaton;
  int32_t levels[2][PAIR_BUFFER];
  nnb_context contexts[]; /* two times as many as the tensor has */
} pair_work;

/* One of the halves. */
typedef struct half {
  nnb_run run;
  int32_t *buffer;
  uint64_t row; /* of blocks */
  uint64_t last;
  int started; /* the block row */
  /* Where the first level of the buffer belongs: the rows of the block row, the columns of the block, the place. */
  size_t y0, y1;
  size_t x0, x1;
  size_t y, x;
  size_t left; /* levels from there to the next skipped row or the end of the block row */
} half;

/* All that both halves share. */
typedef struct pairing {
  nnb_scan scan;
  const uint8_t *skip;
  const nnb_tensor *tensor;
  size_t context_count;
} pairing;

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static void enter_block(const pairing *c, half *h, size_t x0) {
  h->x0 = x0;
  h->x1 = x0 + smaller(c->scan.width - x0, c->scan.block);
  h->y = h->y0;
  h->x = x0;
}

static nnb_status enter_block_row(const pairing *c, half *h, nnb_lane *lane) {
  nnb_contexts_reset(h->run.contexts, c->context_count);
  nnb_automaton_prepare(h->run.contexts, h->run.unary_length);
  h->run.prev = 0;
  h->started = 1;
  h->y0 = (size_t)h->row * c->scan.block;
  h->y1 = h->y0 + smaller(c->scan.height - h->y0, c->scan.block);
  enter_block(c, h, 0);
  return restart_range(&lane->cabac);
}

static void leave_segment(const pairing *c, half *h) {
  h->x = h->x0;
  if (++h->y < h->y1) return;
  if (h->x1 < c->scan.width) {
    enter_block(c, h, h->x1);
  } else {
    h->started = 0;
    h->row++;
  }
}

/* Levels from the start of a segment on that nothing interrupts. */
static size_t run_length(const pairing *c, const half *h) {
  if (c->skip == NULL) return (h->y1 - h->y0) * c->scan.width; /* the segment is the first one of its block row */
  size_t y = h->y;
  while (y < h->y1 && !c->skip[y]) y++;
  return (y - h->y) * (h->x1 - h->x0);
}

static void give_buffer(const half *h, nnb_lane *lane) {
  lane->levels = h->buffer;
  lane->end = h->buffer + smaller(h->left, PAIR_BUFFER);
  lane->enough = h->left > PAIR_BUFFER ? lane->end - PAIR_ENOUGH : lane->end;
}

/* Goes on to the next level that is coded; if there is none, left stays 0. */
static nnb_status start_run(const pairing *c, half *h, nnb_lane *lane) {
  while (h->row < h->last && h->left == 0) {
    if (!h->started) {
      const nnb_status status = enter_block_row(c, h, lane);
      if (status != NNB_OK) return status;
    }
    if (c->skip != NULL && c->skip[h->y]) {
      nnb_memset(c->tensor->levels + h->y * c->scan.width + h->x0, 0, 4 * (h->x1 - h->x0));
      h->run.state = nnb_skip_state(h->run.state, c->scan.width);
      leave_segment(c, h);
    } else {
      h->left = run_length(c, h);
    }
  }
  nnb_lane_start(lane, &h->run);
  give_buffer(h, lane);
  return NNB_OK;
}

/* Takes the levels of the buffer to their places. */
static nnb_status flush(const pairing *c, half *h, nnb_lane *lane) {
  const int32_t *from = h->buffer;
  while (from < lane->levels) {
    const size_t n = smaller((size_t)(lane->levels - from), h->x1 - h->x);
    nnb_memcpy(c->tensor->levels + h->y * c->scan.width + h->x, from, 4 * n);
    from += n;
    h->x += n;
    h->left -= n;
    if (h->x == h->x1) leave_segment(c, h);
  }
  if (nnb_cabac_overrun(&lane->cabac)) return NNB_TRUNCATED;
  if (h->left > 0) {
    give_buffer(h, lane);
    return NNB_OK;
  }
  nnb_lane_leave(lane, &h->run);
  return start_run(c, h, lane);
}

static nnb_status decode_halves(const pairing *c, const nnb_automaton *automaton, half halves[2], nnb_lane lanes[2],
                                int dq) {
  nnb_lane_pair_fn *const run_pair = nnb_select_lane_pair(dq);
  nnb_lane_fn *const run_lane = nnb_select_lane(dq);
  nnb_status status = start_run(c, &halves[0], &lanes[0]);
  if (status == NNB_OK) status = start_run(c, &halves[1], &lanes[1]);
  while (status == NNB_OK && halves[0].left > 0 && halves[1].left > 0) {
    status = run_pair(automaton, lanes);
    if (status == NNB_OK) status = flush(c, &halves[0], &lanes[0]);
    if (status == NNB_OK) status = flush(c, &halves[1], &lanes[1]);
  }
  for (int i = 0; i < 2; i++) {
    while (status == NNB_OK && halves[i].left > 0) {
      status = run_lane(automaton, &lanes[i]);
      if (status == NNB_OK) status = flush(c, &halves[i], &lanes[i]);
    }
  }
  return status;
}

/* Where the second half begins, so that both have about as many bits; 0 if that makes no sense. */
static uint64_t choose_middle(const pairing *c, const nnb_cabac *cabac, const nnb_entry_point *entry_points,
                              uint64_t first, uint64_t last, uint64_t *position) {
  const uint64_t start = nnb_cabac_position(cabac);
  const uint64_t limit = 8 * (uint64_t)cabac->size;
  uint64_t end = start; /* of the last block row but one, the last border that is known */
  for (uint64_t j = first + 1; j < last; j++) {
    if (end > limit || entry_points[j - 1].bit_offset > limit - end) return 0;
    end += entry_points[j - 1].bit_offset;
  }
  const uint64_t bits_of_row = (end - start) / (last - first - 1);
  const uint64_t levels_of_row = (uint64_t)c->scan.block * c->scan.width;
  if (bits_of_row * PAIR_DENOMINATOR < levels_of_row * PAIR_NUMERATOR) return 0;

  const uint64_t half = start + (end - start + bits_of_row) / 2;
  uint64_t middle = first + 1;
  uint64_t at = start + entry_points[first].bit_offset;
  while (middle + 1 < last && at + entry_points[middle].bit_offset / 2 < half) at += entry_points[middle++].bit_offset;
  *position = at;
  return middle;
}

/* Whether it could be done; if not, nothing but levels has changed. */
static int decode_paired(nnb_cabac *cabac, const nnb_level_coding *coding, const nnb_tensor *tensor,
                         const nnb_tensor_info *info, const nnb_entry_point *entry_points, uint64_t first,
                         uint64_t last, uint8_t *dq_state, pair_work *work) {
  const pairing c = {
      .scan = nnb_scan_of(coding),
      .skip = info->row_skip_enabled_flag ? tensor->row_skip_list : NULL,
      .tensor = tensor,
      .context_count = nnb_ctx_count(coding->unary_length),
  };
  uint64_t position;
  const uint64_t middle = choose_middle(&c, cabac, entry_points, first, last, &position);
  if (middle == 0) return 0;
  const nnb_entry_point entry = entry_points[middle - 1];
  nnb_lane lanes[2] = {{.cabac = *cabac}};
  if (nnb_cabac_enter(&lanes[1].cabac, cabac->data, cabac->size, position, entry.cabac_offset) != NNB_OK) return 0;
  if (coding->dq && entry.dq_state > 7) return 0;

  half halves[2];
  for (int i = 0; i < 2; i++) {
    nnb_context *const contexts = work->contexts + (i == 0 ? 0 : c.context_count);
    nnb_memcpy(contexts, tensor->contexts, c.context_count * sizeof *contexts);
    halves[i] = (half){
        .run = {.contexts = contexts, .unary_length = coding->unary_length},
        .buffer = work->levels[i],
        .row = i == 0 ? first : middle,
        .last = i == 0 ? middle : last,
    };
  }
  if (coding->dq) {
    halves[0].run.state = *dq_state;
    halves[1].run.state = entry.dq_state;
  }
  nnb_automaton_build(&work->automaton, coding->unary_length, coding->dq);
  if (decode_halves(&c, &work->automaton, halves, lanes, coding->dq) != NNB_OK) return 0;

  /* The first half must end in the state that the second one began with. */
  nnb_cabac *const end = &lanes[0].cabac;
  if (restart_range(end) != NNB_OK || nnb_cabac_position(end) != position) return 0;
  if (nnb_cabac_offset(end) != entry.cabac_offset) return 0;
  if (coding->dq && halves[0].run.state != entry.dq_state) return 0;
  *cabac = lanes[1].cabac;
  *dq_state = (uint8_t)halves[1].run.state;
  return 1;
}
#endif

/* Clang runs out of registers and makes branches of the choices of two lanes: slower than one lane. */
size_t nnb_paired_work_size(const nnb_level_coding *coding) {
#if NNB_WITH_AUTOMATON && !defined(__clang__)
  if (nnb_check_coding(coding) != NNB_OK || coding->temporal || coding->codebook_size != 0) return 0;
  if (coding->unary_length > NNB_AUTOMATON_MAX_UNARY || nnb_block_row_count(coding) < 2) return 0;
  return sizeof(pair_work) + 2 * nnb_ctx_count(coding->unary_length) * sizeof(nnb_context);
#else
  (void)coding;
  return 0;
#endif
}

nnb_status nnb_decode_block_rows_paired(nnb_cabac *cabac, const nnb_level_coding *coding, const nnb_tensor *tensor,
                                        const nnb_tensor_info *info, const nnb_entry_point *entry_points,
                                        uint64_t first, uint64_t last, uint8_t *dq_state, void *work,
                                        size_t work_size) {
#if NNB_WITH_AUTOMATON
  const size_t needed = nnb_paired_work_size(coding);
  const int skip_missing = info->row_skip_enabled_flag && tensor->row_skip_list == NULL;
  const int hist = info->hist_dep_sig_prob_enabled_flag && tensor->history != NULL;
  if (needed > 0 && work_size >= needed && entry_points != NULL && !hist && !skip_missing && *dq_state <= 7 &&
      last <= nnb_block_row_count(coding) && first < last && last - first >= 2 &&
      decode_paired(cabac, coding, tensor, info, entry_points, first, last, dq_state, work)) {
    return NNB_OK;
  }
#else
  (void)entry_points;
  (void)work;
  (void)work_size;
#endif
  return nnb_decode_block_rows(cabac, coding, tensor, info, first, last, dq_state);
}

nnb_status nnb_decode_tensor(nnb_cabac *cabac, const nnb_level_coding *coding, const nnb_tensor *tensor,
                             nnb_tensor_info *info) {
  const nnb_status status = nnb_decode_head(cabac, coding, tensor, info);
  if (status != NNB_OK) return status;
  uint8_t state = 0;
  return nnb_decode_block_rows(cabac, coding, tensor, info, 0, nnb_block_row_count(coding), &state);
}
