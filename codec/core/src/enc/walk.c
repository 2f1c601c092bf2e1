#include "enc/walk.h"

nnb_status nnb_walk_init(nnb_walk *walk, const nnb_level_coding *coding, const nnb_source *source) {
  const nnb_status status = nnb_check_coding(coding);
  if (status != NNB_OK) return status;
  if (coding->temporal && source->base == NULL) return NNB_BASE_MISSING;
  const int hist = source->hist_dep_sig_prob_enabled_flag;
  const int row_flags = nnb_has_row_flags(coding);
  if (hist && !(row_flags && coding->parent)) return NNB_BAD_OPTION;
  if (source->row_skip_list != NULL && !row_flags) return NNB_BAD_OPTION;

  walk->levels = source->levels;
  walk->base = coding->temporal ? source->base : NULL;
  walk->history = hist ? source->history : NULL;
  walk->skip = source->row_skip_list;
  walk->scan = nnb_scan_of(coding);
  walk->unary_length = coding->unary_length;
  walk->codebook_size = coding->codebook_size;
  walk->codebook_zero_offset = coding->codebook_zero_offset;
  walk->dq = coding->dq;
  walk->general = walk->base != NULL || walk->history != NULL || coding->codebook_size != 0;
  walk->peer = 0;
  walk->prev = 0;
  walk->state = 0;
  walk->count = 0;
  walk->sampling = 0;
  walk->seen = 0;
  nnb_make_flag_lists(walk);
  return NNB_OK;
}

static int all_zero(const int32_t *levels, size_t count) {
  int32_t any = 0;
  for (size_t i = 0; i < count; i++) any |= levels[i];
  return any == 0;
}

size_t nnb_mark_zero_rows(const int32_t *levels, size_t height, size_t width, uint8_t *list) {
  size_t marked = 0;
  for (size_t row = 0; row < height; row++) {
    list[row] = (uint8_t)all_zero(levels + row * width, width);
    marked += list[row];
  }
  return marked;
}

static nnb_status walk_sampled(nnb_walk *walk, size_t at, size_t count) {
  for (size_t n; count > 0; at += n, count -= n, walk->seen += n) {
    const size_t full = walk->full_levels;
    const size_t sampled = walk->seen < full ? 0 : walk->seen - full;
    const size_t left = walk->seen < full ? full - walk->seen : walk->block_levels - sampled % walk->block_levels;
    n = count < left ? count : left;
    if (walk->seen == full) {
      const nnb_status status = nnb_flush_bins(walk);
      if (status != NNB_OK) return status;
      walk->start_sampling(walk->sink);
    }
    if (sampled / walk->block_levels % walk->sampling != 0) {
      nnb_pass_over(walk, at, n);
      continue;
    }
    const nnb_status status = nnb_binarize(walk, at, n);
    if (status != NNB_OK) return status;
  }
  return NNB_OK;
}

static nnb_status walk_positions(nnb_walk *walk, size_t at, size_t count) {
  /* A codebook with one entry: nothing is coded, and nothing else than 0 can be. */
  if (walk->codebook_size == 1) return all_zero(walk->levels + at, count) ? NNB_OK : NNB_BAD_TENSOR;
  return walk->sampling > 0 ? walk_sampled(walk, at, count) : nnb_binarize(walk, at, count);
}

static nnb_status walk_segment(nnb_walk *walk, size_t row, size_t column, size_t count) {
  const size_t at = row * walk->scan.width + column;
  if (walk->skip != NULL && walk->skip[row]) {
    if (!all_zero(walk->levels + at, count)) return NNB_BAD_TENSOR;
    /* The decoder skips the width of the tensor, see nnc-entropy 8.3. */
    if (walk->dq) walk->state = nnb_skip_state(walk->state, walk->scan.width);
    return NNB_OK;
  }
  return walk_positions(walk, at, count);
}

static nnb_status walk_plain(nnb_walk *walk) {
  const nnb_scan *scan = &walk->scan;
  if (walk->skip == NULL) return walk_positions(walk, 0, scan->height * scan->width);
  for (size_t row = 0; row < scan->height; row++) {
    const nnb_status status = walk_segment(walk, row, 0, scan->width);
    if (status != NNB_OK) return status;
  }
  return NNB_OK;
}

static nnb_status walk_block_row(nnb_walk *walk, size_t y0) {
  const nnb_scan *scan = &walk->scan;
  const size_t y1 = scan->height - y0 < scan->block ? scan->height : y0 + scan->block;
  for (size_t x0 = 0; x0 < scan->width; x0 += scan->block) {
    const size_t count = scan->width - x0 < scan->block ? scan->width - x0 : scan->block;
    for (size_t y = y0; y < y1; y++) {
      const nnb_status status = walk_segment(walk, y, x0, count);
      if (status != NNB_OK) return status;
    }
  }
  return NNB_OK;
}

nnb_status nnb_walk_tensor(nnb_walk *walk) {
  nnb_status status = NNB_OK;
  if (walk->scan.block == 0) status = walk_plain(walk);
  for (size_t j = 0; walk->scan.block > 0 && j < walk->scan.block_rows && status == NNB_OK; j++) {
    if (walk->scan.block_rows > 1) {
      status = nnb_flush_bins(walk);
      if (status == NNB_OK) status = walk->start_row(walk->sink, walk, j);
    }
    if (status == NNB_OK) status = walk_block_row(walk, j * walk->scan.block);
  }
  return status == NNB_OK ? nnb_flush_bins(walk) : status;
}
