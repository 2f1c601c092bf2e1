/* Tensors that pruning containers shorten (nnc-bitstream 10.2, docs/format.md). */
#include "common/deps.h"
#include "nnb/nnb_unit.h"

static int is_pruned(const nnb_bit_mask *mask, uint64_t bit) { return mask->bits[bit / 8] >> (7 - bit % 8) & 1; }

nnb_status nnb_pruning_expand(const nnb_bit_mask *mask, uint64_t first, uint64_t count, size_t item_bytes,
                              const uint8_t *kept, uint64_t kept_count, uint8_t *out) {
  if (first > mask->count_bits || count > mask->count_bits - first) return NNB_SPARSE_MAP;
  uint64_t left = kept_count;
  for (uint64_t i = 0; i < count; i++) {
    if (is_pruned(mask, first + i)) continue;
    if (left == 0) return NNB_SPARSE_MAP;
    left--;
  }
  if (left > 0) return NNB_SPARSE_MAP;
  if (item_bytes == 0) return NNB_OK;
  for (uint64_t i = 0; i < count; i++, out += item_bytes) {
    if (is_pruned(mask, first + i)) {
      nnb_memset(out, 0, item_bytes);
    } else {
      nnb_memcpy(out, kept, item_bytes);
      kept += item_bytes;
    }
  }
  return NNB_OK;
}
