/* tensor_data() and the traversal of level_data() (nnc-entropy sections 1, 3.4, 6 and 7). */
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
} traversal;

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
    const nnb_status status = t->decode(t->cabac, run, t->tensor->levels + at, n);
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

  uint64_t position = nnb_cabac_position(cabac);
  for (uint64_t j = first; j < last; j++) {
    nnb_contexts_reset(tensor->contexts, nnb_ctx_count(coding->unary_length));
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

nnb_status nnb_decode_tensor(nnb_cabac *cabac, const nnb_level_coding *coding, const nnb_tensor *tensor,
                             nnb_tensor_info *info) {
  const nnb_status status = nnb_decode_head(cabac, coding, tensor, info);
  if (status != NNB_OK) return status;
  uint8_t state = 0;
  return nnb_decode_block_rows(cabac, coding, tensor, info, 0, nnb_block_row_count(coding), &state);
}
