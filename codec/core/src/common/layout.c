/* What both sides have to know of a tensor before touching its levels. */
#include "common/model.h"

size_t nnb_context_count(uint32_t unary_length) {
  if (unary_length < 1 || unary_length > NNB_MAX_UNARY_LENGTH) return 0;
  return nnb_ctx_count(unary_length);
}

nnb_status nnb_check_coding(const nnb_level_coding *coding) {
  if (coding->unary_length < 1 || coding->unary_length > NNB_MAX_UNARY_LENGTH) return NNB_BAD_OPTION;
  if (coding->profile > 1 || coding->dq > 1 || coding->parent > 1 || coding->temporal > 1) return NNB_BAD_OPTION;
  if (coding->profile == 0 && (coding->temporal || coding->codebook_size != 0)) return NNB_BAD_OPTION;
  if (coding->scan_order > NNB_MAX_SCAN_ORDER) return NNB_UNSUPPORTED_FEATURE;
  if (coding->qp_bits > NNB_MAX_QP_BITS) return NNB_BAD_OPTION;
  if (coding->codebook_size > NNB_MAX_CODEBOOK_SIZE) return NNB_LIMIT;
  if (coding->codebook_size != 0 && coding->codebook_zero_offset >= coding->codebook_size) return NNB_BAD_OPTION;
  /* The levels, four bytes each, must be addressable. */
  if (coding->height > 0 && coding->width > (uint64_t)(PTRDIFF_MAX / 4) / coding->height) return NNB_LIMIT;
  return NNB_OK;
}

int nnb_has_row_flags(const nnb_level_coding *coding) {
  return coding->profile == 1 && coding->width > 1 && coding->height > 1 && coding->codebook_size != 1;
}

uint64_t nnb_block_row_count(const nnb_level_coding *coding) {
  if (coding->scan_order == 0 || coding->height <= 1 || coding->width <= 1) return 1;
  return (coding->height - 1) / ((uint64_t)4 << coding->scan_order) + 1;
}

void nnb_initial_sets(const nnb_context *contexts, size_t count, uint8_t *sets) {
  for (size_t i = 0; i < count; i++) sets[i] = (uint8_t)nnb_state_set(contexts[i].state);
}
