/* Topology and quantization payloads and lists of names (nnc-bitstream 5.4, 5.5, 6.1 and 10.2). */
#include "dec/unit.h"

static nnb_list names(nnb_bits *s, uint32_t count, uint32_t limit, const nnb_unit *unit,
                      nnb_string *first NNB_NAME_PARAMETER) {
  count = nnb_bounded(s, count, limit, 8);
  const nnb_list list = nnb_list_here(s, unit->size, count);
  for (uint32_t j = 0; j < count && nnb_ok(s); j++) {
    NNB_AT(s, 1, j);
    const nnb_string string = nnb_read_st(s, NNB_MAX_NAME_BYTES NNB_SAME_NAME);
    if (j == 0) *first = string;
  }
  NNB_LEVEL(s, 0);
  return list;
}

static nnb_list indices(nnb_bits *s, uint32_t count, uint32_t limit, const nnb_unit *unit NNB_NAME_PARAMETER) {
  count = nnb_bounded(s, count, limit, 8);
  const nnb_list list = nnb_list_here(s, unit->size, count);
  for (uint32_t j = 0; j < count && nnb_ok(s); j++) {
    NNB_AT(s, 1, j);
    nnb_read_ue(s, 7 NNB_SAME_NAME);
  }
  NNB_LEVEL(s, 0);
  return list;
}

#define NAMES(s, count, limit, unit, first, name) names(s, count, limit, unit, first NNB_NAMED(name))
#define INDICES(s, count, limit, unit, name) indices(s, count, limit, unit NNB_NAMED(name))

nnb_list nnb_topology_elements_ids_list(nnb_bits *s, int indexed, const nnb_unit *unit, nnb_string *first) {
  const uint32_t count =
      2 + (uint32_t)NNB_UE_LIMIT(s, 7, NNB_MAX_TOPOLOGY_ELEMENTS - 2, "count_topology_elements_minus2");
  if (!indexed) {
    nnb_read_alignment(s);
    return NAMES(s, count, NNB_MAX_TOPOLOGY_ELEMENTS, unit, first, "topology_elem_id_list");
  }
  const nnb_list list = INDICES(s, count, NNB_MAX_TOPOLOGY_ELEMENTS, unit, "topology_elem_id_index_list");
  nnb_read_alignment(s);
  return list;
}

static nnb_bit_mask bit_mask(nnb_bits *s) {
  const uint32_t count = (uint32_t)NNB_U(s, 32, "count_bits");
  const nnb_bit_mask mask = {s->data + (size_t)(s->position >> 3), count}; /* always on a byte boundary */
  nnb_read_raw(s, count NNB_NAMED("bit_mask_value"));
  nnb_read_alignment(s);
  return mask;
}

static void pruning_dictionary(nnb_bits *s, const nnb_unit *unit, nnb_pruning_container *container) {
  const uint32_t count = NNB_U8(s, 8, "count_ids");
  nnb_string first;
  if (container->indexed) {
    container->element_ids = INDICES(s, count, 255, unit, "element_id_index");
    nnb_read_alignment(s);
  } else {
    container->element_ids = NAMES(s, count, 255, unit, &first, "element_id");
  }
  const uint32_t entries = nnb_bounded(s, count, 255, 8);
  container->dims = nnb_list_here(s, unit->size, entries);
  for (uint32_t j = 0; j < entries && nnb_ok(s); j++) {
    NNB_AT(s, 1, j);
    const uint32_t dims = nnb_bounded(s, NNB_UE_LIMIT(s, 1, NNB_MAX_DIMENSIONS, "count_dims"), NNB_MAX_DIMENSIONS, 8);
    for (uint32_t k = 0; k < dims; k++) {
      NNB_AT(s, 2, k);
      NNB_UE_LIMIT(s, 7, NNB_MAX_DIMENSION, "dim");
    }
    NNB_LEVEL(s, 1);
    nnb_read_alignment(s);
  }
  NNB_LEVEL(s, 0);
}

/* From the standard, no peer. */
static void pruning_topology_container(nnb_bits *s, const nnb_parameters *parameters, const nnb_unit *unit,
                                       nnb_pruning_container *container) {
  NNB_GROUP(s, "nnr_unit_payload.nnr_pruning_topology_container.");
  container->nnr_rep_type = NNB_ENUM(s, 2, NNB_NNR_TPL_DICT, "nnr_rep_type");
  container->prune_flag = NNB_FLAG(s, "prune_flag");
  container->order_flag = NNB_FLAG(s, "order_flag");
  container->sparse_flag = NNB_FLAG(s, "sparse_flag");
  NNB_RESERVED(s, 3, "nnr_reserved_zero_3bits");
  container->indexed = parameters->mps_topology_indexed_reference_flag;
  if (container->prune_flag && container->nnr_rep_type == NNB_NNR_TPL_BMSK) {
    NNB_GROUP(s, "nnr_unit_payload.nnr_pruning_topology_container.bit_mask.");
    container->bit_mask = bit_mask(s);
  } else if (container->prune_flag) {
    pruning_dictionary(s, unit, container);
  }
  if (container->sparse_flag) {
    NNB_GROUP(s, "nnr_unit_payload.nnr_pruning_topology_container.sparse_bit_mask.");
    container->sparse_bit_mask = bit_mask(s);
  }
}

void nnb_topology_payload(nnb_bits *s, const nnb_parameters *parameters, const nnb_unit *unit, nnb_topology *tpl) {
  nnb_string first;
  if (tpl->topology_storage_format == NNB_NNR_TPL_PRUN) {
    pruning_topology_container(s, parameters, unit, &tpl->nnr_pruning_topology_container);
  } else if (tpl->topology_storage_format == NNB_NNR_TPL_REFLIST) {
    tpl->topology_elem_id_list = nnb_topology_elements_ids_list(s, 0, unit, &first);
  } else if (tpl->topology_compression_format == 0) {
    tpl->topology_data = NNB_ST(s, NNB_MAX_TOPOLOGY_BYTES, "topology_data");
  } else {
    tpl->topology_data = NNB_REST(s, NNB_MAX_TOPOLOGY_BYTES, "topology_data");
  }
}

/* From the standard, no peer. */
void nnb_quantization_payload(nnb_bits *s, nnb_quantization *qnt) {
  if (qnt->quantization_compression_format == 0) {
    qnt->quantization_data = NNB_ST(s, NNB_MAX_TOPOLOGY_BYTES, "quantization_data");
  } else {
    qnt->quantization_data = NNB_REST(s, NNB_MAX_TOPOLOGY_BYTES, "quantization_data");
  }
}
