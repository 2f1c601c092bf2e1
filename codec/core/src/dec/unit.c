/* The NNR unit: size, header and payload (nnc-bitstream sections 3, 4 and 10.1). */
#include "dec/unit.h"

nnb_status nnb_peek_unit_size(const uint8_t *data, size_t size, size_t *size_bytes, size_t *unit_size) {
  if (size < 1) return NNB_TRUNCATED;
  const size_t bytes = data[0] & 0x80 ? 4 : 2;
  if (size < bytes) return NNB_TRUNCATED;
  size_t value = data[0] & 0x7F;
  for (size_t i = 1; i < bytes; i++) value = value << 8 | data[i];
  *size_bytes = bytes;
  *unit_size = value;
  return value > bytes ? NNB_OK : NNB_UNIT_SIZE;
}

static void layer_parameter_set_unit_header(nnb_bits *s, nnb_layer_parameter_set *lps) {
  lps->lps_self_contained_flag = NNB_FLAG(s, "lps_self_contained_flag");
  NNB_RESERVED(s, 7, "nnr_reserved_zero_7bits");
}

static void topology_unit_header(nnb_bits *s, nnb_topology *tpl) {
  tpl->topology_storage_format = NNB_U8(s, 8, "topology_storage_format");
  tpl->topology_compression_format = NNB_U8(s, 8, "topology_compression_format");
}

static void quantization_unit_header(nnb_bits *s, nnb_quantization *qnt) {
  qnt->quantization_storage_format = NNB_U8(s, 8, "quantization_storage_format");
  qnt->quantization_compression_format = NNB_U8(s, 8, "quantization_compression_format");
}

static void aggregate_unit_header(nnb_bits *s, const nnb_parameters *parameters, const nnb_unit *unit,
                                  nnb_aggregate *agg) {
  agg->nnr_aggregate_unit_type = NNB_U8(s, 8, "nnr_aggregate_unit_type");
  agg->entry_points_present_flag = NNB_FLAG(s, "entry_points_present_flag");
  NNB_RESERVED(s, 7, "nnr_reserved_zero_7bits");
  agg->unit_count = 2 + (uint32_t)NNB_U(s, 16, "num_of_nnr_units_minus2");
  if (agg->entry_points_present_flag) {
    const uint32_t count = nnb_bounded(s, agg->unit_count, UINT32_MAX, 40);
    agg->entry_points = nnb_list_here(s, unit->size, count);
    for (uint32_t i = 0; i < count; i++) {
      NNB_AT(s, 1, i);
      NNB_U(s, 6, "nnr_unit_type_list");
      NNB_U(s, 34, "nnr_unit_entry_point");
    }
    NNB_LEVEL(s, 0);
  }
  agg->unification = parameters->mps_unification_flag || parameters->lps_unification_flag;
  const uint32_t count = nnb_bounded(s, agg->unit_count, UINT32_MAX, 8);
  agg->units = nnb_list_here(s, unit->size, count);
  for (uint32_t i = 0; i < count && nnb_ok(s); i++) {
    NNB_AT(s, 1, i);
    NNB_U(s, 5, "quant_bitdepth");
    if (agg->unification) {
      NNB_U(s, 1, "ctu_scan_order");
      NNB_RESERVED(s, 2, "nnr_reserved_zero_2bits");
    } else {
      NNB_RESERVED(s, 3, "nnr_reserved_zero_3bits");
    }
  }
  NNB_LEVEL(s, 0);
}

static void unit_header(nnb_bits *s, const nnb_parameters *parameters, nnb_unit *unit) {
  NNB_GROUP(s, "nnr_unit_header.");
  unit->nnr_unit_type = NNB_U8(s, 6, "nnr_unit_type");
  unit->independently_decodable_flag = NNB_FLAG(s, "independently_decodable_flag");
  unit->partial_data_counter_present_flag = NNB_FLAG(s, "partial_data_counter_present_flag");
  if (unit->partial_data_counter_present_flag) unit->partial_data_counter = NNB_U8(s, 8, "partial_data_counter");
  switch (unit->nnr_unit_type) {
    case NNB_NNR_STR:
      unit->body.str.general_profile_idc = NNB_U8(s, 8, "general_profile_idc");
      break;
    case NNB_NNR_LPS:
      layer_parameter_set_unit_header(s, &unit->body.lps);
      break;
    case NNB_NNR_TPL:
      topology_unit_header(s, &unit->body.tpl);
      break;
    case NNB_NNR_QNT:
      quantization_unit_header(s, &unit->body.qnt);
      break;
    case NNB_NNR_NDU:
      nnb_compressed_data_unit_header(s, parameters, unit, &unit->body.ndu);
      break;
    case NNB_NNR_AGG:
      aggregate_unit_header(s, parameters, unit, &unit->body.agg);
      break;
    default:
      break;
  }
}

/* Units of type 32 that do not begin with the signature are somebody else's. */
static int is_extension(const uint8_t *data, size_t size) {
  const size_t start = data[0] & 0x80 ? 4 : 2;
  return size >= start + 5 && data[start] == (NNB_NNR_EXT << 2 | 2) && data[start + 1] == NNB_EXT_SIGNATURE >> 24 &&
         data[start + 2] == (NNB_EXT_SIGNATURE >> 16 & 0xFF) && data[start + 3] == (NNB_EXT_SIGNATURE >> 8 & 0xFF) &&
         data[start + 4] == (NNB_EXT_SIGNATURE & 0xFF);
}

static void unit_payload(nnb_bits *s, const nnb_parameters *parameters, nnb_unit *unit) {
  NNB_GROUP(s, "nnr_unit_payload.");
  switch (unit->nnr_unit_type) {
    case NNB_NNR_MPS:
      nnb_model_parameter_set_payload(s, parameters, &unit->body.mps);
      break;
    case NNB_NNR_LPS:
      nnb_layer_parameter_set_payload(s, &unit->body.lps);
      break;
    case NNB_NNR_TPL:
      nnb_topology_payload(s, parameters, unit, &unit->body.tpl);
      break;
    case NNB_NNR_QNT:
      nnb_quantization_payload(s, &unit->body.qnt);
      break;
    case NNB_NNR_EXT:
      if (is_extension(unit->data, unit->size)) nnb_extension_unit_payload(s, &unit->body.ext);
      break;
    default:
      break;
  }
}

/* What is left after the elements: nothing, or a payload of bytes, whose size is known for raw values (6.4). */
static nnb_status check_rest(const nnb_unit *unit) {
  const size_t rest = unit->size - unit->payload_offset;
  if (unit->nnr_unit_type < NNB_NNR_NDU) return rest == 0 ? NNB_OK : NNB_UNIT_SIZE;
  if (unit->nnr_unit_type == NNB_NNR_EXT) {
    const uint32_t kind = unit->body.ext.ext_kind;
    const int complete = kind == NNB_EXTENSION_KIND_ACCESS_UNIT_HEADER || kind == NNB_EXTENSION_KIND_END;
    return complete && rest > 0 ? NNB_UNIT_SIZE : NNB_OK;
  }
  if (unit->nnr_unit_type != NNB_NNR_NDU) return NNB_OK;
  const nnb_data_unit *const ndu = &unit->body.ndu;
  if (ndu->nnr_compressed_data_unit_payload_type != NNB_NNR_PT_RAW_FLOAT) return NNB_OK;
  return rest == 4 * ndu->height * ndu->width ? NNB_OK : NNB_SHAPE_MISMATCH;
}

nnb_status nnb_parse_unit(const uint8_t *data, size_t size, uint32_t index, size_t offset,
                          const nnb_parameters *parameters, const nnb_trace *trace, nnb_unit *unit) {
  size_t size_bytes;
  size_t unit_size;
  const nnb_status status = nnb_peek_unit_size(data, size, &size_bytes, &unit_size);
  if (status != NNB_OK) return status;
  if (unit_size != size) return unit_size > size ? NNB_TRUNCATED : NNB_UNIT_SIZE;
  const uint32_t type = data[size_bytes] >> 2;
  if ((type == NNB_NNR_NDU || type == NNB_NNR_AGG) && !parameters->mps_present) return NNB_UNIT_ORDER;

  nnb_memset(unit, 0, sizeof *unit);
  unit->data = data;
  unit->size = size;
  unit->offset = offset;
  unit->index = index;
  nnb_bits bits = nnb_bits_at(data, size, 0);
  nnb_bits *const s = &bits;
#if NNB_TRACE
  s->trace = trace != NULL && trace->function != NULL ? trace : NULL;
  s->origin = 8 * (uint64_t)offset;
  s->record.unit = index;
#else
  (void)trace;
#endif
  NNB_GROUP(s, "");
  unit->nnr_unit_size_flag = NNB_FLAG(s, "nnr_unit_size_flag");
  NNB_U(s, unit->nnr_unit_size_flag ? 31 : 15, "nnr_unit_size");
  unit_header(s, parameters, unit);
  unit_payload(s, parameters, unit);
  if (!nnb_ok(s)) return s->status;
  unit->payload_offset = (size_t)(s->position >> 3);
  return check_rest(unit);
}

void nnb_parameters_start(nnb_parameters *parameters) {
  nnb_memset(parameters, 0, sizeof *parameters);
  parameters->general_profile_idc = 1;
}

void nnb_parameters_update(nnb_parameters *parameters, const nnb_unit *unit) {
  switch (unit->nnr_unit_type) {
    case NNB_NNR_STR:
      parameters->general_profile_idc = unit->body.str.general_profile_idc;
      break;
    case NNB_NNR_MPS:
      parameters->mps_present = 1;
      parameters->mps_unification_flag = unit->body.mps.mps_unification_flag;
      parameters->mps_topology_indexed_reference_flag = unit->body.mps.mps_topology_indexed_reference_flag;
      parameters->mps_parent_signalling_enabled_flag = unit->body.mps.mps_parent_signalling_enabled_flag;
      parameters->mps_quantization = unit->body.mps.quantization;
      break;
    case NNB_NNR_LPS:
      parameters->lps_unification_flag = unit->body.lps.lps_unification_flag;
      parameters->lps_quantization = unit->body.lps.quantization;
      break;
    case NNB_NNR_TPL:
      if (unit->body.tpl.topology_elem_id_list.count > 0) {
        parameters->reference_list = unit->body.tpl.topology_elem_id_list;
      }
      break;
    default:
      break;
  }
}
