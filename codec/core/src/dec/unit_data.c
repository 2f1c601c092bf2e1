/* The header of compressed data units (nnc-bitstream 6.1 and 6.3). */
#include "dec/unit.h"

static void element_ids(nnb_bits *s, const nnb_unit *unit, nnb_data_unit *ndu, nnb_string *first) {
  if (ndu->nnr_multiple_topology_elements_present_flag) {
    ndu->names = nnb_topology_elements_ids_list(s, ndu->indexed, unit, first);
    return;
  }
  ndu->names = nnb_list_here(s, unit->size, 1);
  if (!ndu->indexed) {
    *first = NNB_ST(s, NNB_MAX_NAME_BYTES, "topology_elem_id");
  } else {
    NNB_UE(s, 7, "topology_elem_id_index");
  }
}

static void parameter_id(nnb_bits *s, nnb_data_unit *ndu) {
  ndu->parameter_id = NNB_UE(s, 5, "parameter_id");
  ndu->put_node_depth = NNB_UE(s, 4, "put_node_depth");
}

static void parent_node_id(nnb_bits *s, nnb_data_unit *ndu) {
  ndu->parent_node_id_type = NNB_ENUM(s, 2, NNB_PARENT_NODE_ID_TYPE_SHA512, "parent_node_id_type");
  ndu->temporal_context_modeling_flag = NNB_FLAG(s, "temporal_context_modeling_flag");
  ndu->parent_node_payload_position = s->position;
  if (ndu->parent_node_id_type == NNB_PARENT_NODE_ID_TYPE_NODE_ID) {
    ndu->parent_device_id = NNB_UE(s, 1, "parent_device_id");
    if (!ndu->node_id_present_flag) parameter_id(s, ndu);
  } else if (ndu->parent_node_id_type == NNB_PARENT_NODE_ID_TYPE_SHA256) {
    nnb_read_raw(s, 256 NNB_NAMED("parent_node_payload_sha256"));
  } else {
    nnb_read_raw(s, 512 NNB_NAMED("parent_node_payload_sha512"));
  }
}

static void node_ids(nnb_bits *s, const nnb_parameters *parameters, nnb_data_unit *ndu) {
  ndu->node_id_present_flag = NNB_FLAG(s, "node_id_present_flag");
  if (ndu->node_id_present_flag) {
    ndu->device_id = NNB_UE(s, 1, "device_id");
    parameter_id(s, ndu);
  }
  if (parameters->mps_parent_signalling_enabled_flag) {
    ndu->parent_node_id_present_flag = NNB_FLAG(s, "parent_node_id_present_flag");
    if (ndu->parent_node_id_present_flag) parent_node_id(s, ndu);
  }
}

/* Reads `count` deltas and returns how far they lead, at most a little beyond the range of int32. */
static int64_t codebook_deltas(nnb_bits *s, uint32_t count, uint32_t order NNB_NAME_PARAMETER) {
  const int64_t enough = INT64_C(1) << 33;
  int64_t sum = 0;
  count = nnb_bounded(s, count, NNB_MAX_CODEBOOK_SIZE, 1);
  for (uint32_t j = 0; j < count && nnb_ok(s); j++) {
    NNB_AT(s, 1, j);
    const uint64_t delta = nnb_read_ue(s, order NNB_SAME_NAME);
    sum = delta >= (uint64_t)enough || sum >= enough ? enough : sum + (int64_t)delta + 1;
  }
  NNB_LEVEL(s, 0);
  return sum;
}

static void integer_codebook(nnb_bits *s, const nnb_unit *unit, nnb_codebook *codebook) {
  codebook->codebook_egk = NNB_U8(s, 4, "codebook_egk");
  const uint32_t size =
      (uint32_t)nnb_read_ue_range(s, 2, 1, NNB_MAX_CODEBOOK_SIZE, NNB_LIMIT NNB_NAMED("codebook_size"));
  const int64_t centre = nnb_read_ie(s, 2 NNB_NAMED("codebook_centre_offset"));
  codebook->codebook_zero_value = nnb_read_ie32(s, 7 NNB_NAMED("codebook_zero_value"));
  codebook->codebook_size = size;
  const int64_t half = size >> 1;
  if (centre < -half || centre >= (int64_t)size - half) nnb_fail(s, NNB_VALUE_RANGE);
  if (!nnb_ok(s)) return;
  codebook->zero_offset = (uint32_t)(half + centre);
  codebook->deltas = nnb_list_here(s, unit->size, size - 1);

  const uint32_t order = codebook->codebook_egk;
  const int64_t zero = codebook->codebook_zero_value;
  const int64_t left = codebook_deltas(s, codebook->zero_offset, order NNB_NAMED("codebook_delta_left"));
  const int64_t right = codebook_deltas(s, size - codebook->zero_offset - 1, order NNB_NAMED("codebook_delta_right"));
  if (zero - left < INT32_MIN || zero + right > INT32_MAX) nnb_fail(s, NNB_VALUE_RANGE);
}

static void tensor_dimensions_list(nnb_bits *s, const nnb_unit *unit, nnb_data_unit *ndu) {
  const uint64_t listed = NNB_UE_LIMIT(s, 1, NNB_MAX_DIMENSIONS, "count_tensor_dimensions");
  const uint32_t count = nnb_bounded(s, listed, NNB_MAX_DIMENSIONS, 8);
  ndu->count_tensor_dimensions = count;
  ndu->tensor_dimensions = nnb_list_here(s, unit->size, count);
  for (uint32_t j = 0; j < count; j++) {
    NNB_AT(s, 1, j);
    NNB_UE_LIMIT(s, 7, NNB_MAX_DIMENSION, "tensor_dimensions");
  }
  NNB_LEVEL(s, 0);
}

static const nnb_supplied *find_supplied(const nnb_parameters *parameters, const uint8_t *name, size_t size) {
  for (size_t i = 0; i < parameters->supplied_count; i++) {
    const nnb_string key = parameters->supplied[i].name;
    size_t same = 0;
    while (key.size == size && same < size && key.data[same] == name[same]) same++;
    if (key.size == size && same == size) return &parameters->supplied[i];
  }
  return NULL;
}

/* The entry of the outside table for this unit; its (first) name is the key, for DC also without "_G". */
static const nnb_supplied *supplied_for(const nnb_parameters *parameters, const nnb_data_unit *ndu, nnb_string name) {
  if (name.data == NULL) return NULL;
  const nnb_supplied *const found = find_supplied(parameters, name.data, name.size);
  if (found != NULL || !nnb_is_decomposed(ndu) || !nnb_ends_with(name, 'G')) return found;
  return find_supplied(parameters, name.data, name.size - 2);
}

/* Values from outside replace transmitted or absent ones; then all have to be known. */
static void come_into_force(nnb_bits *s, const nnb_supplied *supplied, nnb_data_unit *ndu, int decomposition) {
  const uint32_t given = supplied != NULL ? supplied->given : 0;
  if (given & NNB_SUPPLIED_TENSOR_DIMENSIONS) {
    ndu->supplied_dimensions = supplied->tensor_dimensions;
    ndu->count_tensor_dimensions = supplied->count_tensor_dimensions;
  } else if (!ndu->tensor_dimensions_flag) {
    nnb_fail(s, NNB_SHAPE_MISSING);
  }
  if (given & NNB_SUPPLIED_CABAC_UNARY_LENGTH_MINUS1) {
    ndu->cabac_unary_length_minus1 = supplied->cabac_unary_length_minus1;
  } else if (!ndu->cabac_unary_length_flag) {
    ndu->cabac_unary_length_minus1 = NNB_DEFAULT_CABAC_UNARY_LENGTH_MINUS1;
  }
  if ((given & NNB_SUPPLIED_COMPRESSED_PARAMETER_TYPES) && ndu->input_parameters_present_flag) {
    ndu->compressed_parameter_types = supplied->compressed_parameter_types;
  }
  if (given & NNB_SUPPLIED_DECOMPOSITION_RANK) ndu->decomposition_rank = supplied->decomposition_rank;
  if (given & NNB_SUPPLIED_G_NUMBER_OF_ROWS) ndu->g_number_of_rows = supplied->g_number_of_rows;
  const uint32_t both = NNB_SUPPLIED_DECOMPOSITION_RANK | NNB_SUPPLIED_G_NUMBER_OF_ROWS;
  if (nnb_is_decomposed(ndu) && !decomposition && (given & both) != both) nnb_fail(s, NNB_SHAPE_MISSING);
}

/* Height and width. A dimension of 0 must not hide the others from the bound. */
static void measure(nnb_bits *s, nnb_data_unit *ndu) {
  nnb_bits dims =
      nnb_bits_at(ndu->tensor_dimensions.data, ndu->tensor_dimensions.size, ndu->tensor_dimensions.position);
  uint64_t product = 1;
  ndu->height = 1;
  ndu->width = 1;
  if (!nnb_ok(s)) return;
  for (uint32_t j = 0; j < ndu->count_tensor_dimensions; j++) {
    const uint64_t n = ndu->supplied_dimensions != NULL ? ndu->supplied_dimensions[j] : NNB_UE(&dims, 7, "");
    const uint64_t factor = n > 0 ? n : 1;
    if (n > NNB_MAX_DIMENSION || factor > NNB_MAX_ELEMENTS / product) {
      nnb_fail(s, NNB_LIMIT);
      return;
    }
    product *= factor;
    if (j == 0) {
      ndu->height = n;
    } else {
      ndu->width *= n;
    }
  }
}

static uint32_t tensors_of_block(const nnb_data_unit *ndu) {
  const uint32_t types = ndu->compressed_parameter_types;
  return 1u + !!(types & NNB_NNR_CPT_DC) + !!(types & NNB_NNR_CPT_LS) + (types & NNB_NNR_CPT_BN ? 4u : 0u) +
         !!(types & NNB_NNR_CPT_BI);
}

static uint64_t rows_minus1(uint64_t rows, uint32_t scan_order) {
  return rows > 0 ? (rows - 1) >> (2 + scan_order) : 0;
}

static uint64_t block_rows_minus1(const nnb_data_unit *ndu, nnb_string name) {
  const uint32_t scan = ndu->scan_order;
  if (!nnb_is_decomposed(ndu)) return rows_minus1(ndu->height, scan);
  const uint64_t g = rows_minus1(ndu->g_number_of_rows, scan);
  const uint64_t h = rows_minus1(ndu->decomposition_rank, scan);
  if (nnb_is_block(ndu)) return g + h;
  /* Factors in units of their own are told apart by the suffix of their name (6.4). */
  return nnb_ends_with(name, 'H') ? h : g;
}

static void cabac_entry_point_list(nnb_bits *s, const nnb_unit *unit, nnb_data_unit *ndu, nnb_string name) {
  const uint32_t count = nnb_bounded(s, block_rows_minus1(ndu, name), NNB_MAX_ENTRY_POINTS, 16);
  ndu->entry_points = nnb_list_here(s, unit->size, count);
  for (uint32_t j = 0; j < count && nnb_ok(s); j++) {
    NNB_AT(s, 1, j);
    NNB_U(s, 8, "cabac_offset_list");
    if (ndu->dq_flag) NNB_U(s, 3, "dq_state_list");
    if (j == 0) {
      NNB_UE(s, 11, "bit_offset_delta1");
    } else {
      nnb_read_ie(s, 7 NNB_NAMED("bit_offset_delta2"));
    }
  }
  NNB_LEVEL(s, 0);
}

static void input_parameters(nnb_bits *s, const nnb_unit *unit, nnb_data_unit *ndu) {
  ndu->tensor_dimensions_flag = NNB_FLAG(s, "tensor_dimensions_flag");
  ndu->cabac_unary_length_flag = NNB_FLAG(s, "cabac_unary_length_flag");
  ndu->compressed_parameter_types = NNB_U8(s, 4, "compressed_parameter_types");
  if (nnb_is_decomposed(ndu)) {
    ndu->decomposition_rank = NNB_UE_LIMIT(s, 3, NNB_MAX_DIMENSION, "decomposition_rank");
    ndu->g_number_of_rows = NNB_UE_LIMIT(s, 3, NNB_MAX_DIMENSION, "g_number_of_rows");
  }
  if (ndu->tensor_dimensions_flag) tensor_dimensions_list(s, unit, ndu);
  if (ndu->cabac_unary_length_flag) ndu->cabac_unary_length_minus1 = NNB_U8(s, 8, "cabac_unary_length_minus1");
}

void nnb_compressed_data_unit_header(nnb_bits *s, const nnb_parameters *parameters, const nnb_unit *unit,
                                     nnb_data_unit *ndu) {
  nnb_string name = {NULL, 0};
  const int profile_1 = parameters->general_profile_idc == 1;
  ndu->nnr_compressed_data_unit_payload_type =
      NNB_ENUM(s, 5, NNB_NNR_PT_BLOCK, "nnr_compressed_data_unit_payload_type");
  ndu->nnr_multiple_topology_elements_present_flag = NNB_FLAG(s, "nnr_multiple_topology_elements_present_flag");
  ndu->nnr_decompressed_data_format_present_flag = NNB_FLAG(s, "nnr_decompressed_data_format_present_flag");
  ndu->input_parameters_present_flag = NNB_FLAG(s, "input_parameters_present_flag");
  const uint32_t type = ndu->nnr_compressed_data_unit_payload_type;
  const int block = nnb_is_block(ndu);
  if (block && !ndu->nnr_multiple_topology_elements_present_flag) nnb_fail(s, NNB_VALUE_RANGE);
  /* topology_tensor_dimension_mapping() */
  if (!block && ndu->nnr_multiple_topology_elements_present_flag) nnb_fail(s, NNB_UNSUPPORTED_FEATURE);

  ndu->indexed = parameters->mps_topology_indexed_reference_flag;
  element_ids(s, unit, ndu, &name);
  if (profile_1) node_ids(s, parameters, ndu);
  if (type == NNB_NNR_PT_FLOAT || block) {
    if (NNB_FLAG(s, "codebook_present_flag")) {
      NNB_GROUP(s, "nnr_unit_header.CbA.");
      integer_codebook(s, unit, &ndu->CbA);
      NNB_GROUP(s, "nnr_unit_header.");
    }
  }
  if (type != NNB_NNR_PT_RAW_FLOAT) ndu->dq_flag = NNB_FLAG(s, "dq_flag");
  if (ndu->nnr_decompressed_data_format_present_flag) {
    ndu->nnr_decompressed_data_format =
        NNB_ENUM(s, 7, NNB_DECOMPRESSED_DATA_FORMAT_FLOAT64, "nnr_decompressed_data_format");
  }
  if (ndu->input_parameters_present_flag) input_parameters(s, unit, ndu);
  const int decomposition = nnb_is_decomposed(ndu);
  come_into_force(s, supplied_for(parameters, ndu, name), ndu, decomposition);
  measure(s, ndu);
  if (block && ndu->names.count != tensors_of_block(ndu)) nnb_fail(s, NNB_VALUE_RANGE);
  if (block && nnb_is_decomposed(ndu) && ndu->CbA.codebook_size > 0) {
    NNB_GROUP(s, "nnr_unit_header.CbB.");
    integer_codebook(s, unit, &ndu->CbB);
    NNB_GROUP(s, "nnr_unit_header.");
  }
  if (ndu->count_tensor_dimensions > 1) {
    if (profile_1) ndu->first_tensor_dimension_shift = NNB_UE(s, 1, "first_tensor_dimension_shift");
    ndu->scan_order = NNB_U8(s, 4, "scan_order");
    if (ndu->scan_order > 0) cabac_entry_point_list(s, unit, ndu, name);
  }
  nnb_read_alignment(s);
}
