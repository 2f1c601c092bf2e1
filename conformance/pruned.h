/* Tensors of the standard profile that pruning containers shorten, if the source description says so (docs/format.md).
 */
#ifndef NNB_PRUNED_H
#define NNB_PRUNED_H

#include "tensor_files.h"

/* What a stream says of it; all of it points into the stream but the shapes. */
typedef struct pruning {
  nnb_pruning_container *containers;
  size_t count;
  struct whole *shapes; /* by name, of tensors before they were pruned */
  size_t shape_count;
  struct item *items;
  size_t item_count;
  int applies;
} pruning;

void take_topology(pruning *p, const nnb_topology *tpl);

/*
 * Puts zeros where the masks say so. NNB_SPARSE_MAP if masks, dictionaries and shapes contradict each other,
 * NNB_METADATA for a tensor without shape or data unit of its own, NNB_DUPLICATE_NAME, NNB_MEMORY_BUDGET,
 * NNB_SHAPE_MISMATCH, with *offset, for a data unit that holds something else, NNB_UNSUPPORTED_FEATURE for containers
 * that nnbits does not write.
 */
nnb_status expand_pruned(pruning *p, tensor *tensors, size_t count, uint64_t budget, size_t *offset);

void forget_pruned(pruning *p);

#endif
