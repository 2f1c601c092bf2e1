/* The tensors of a data unit (nnc-bitstream 6.4). */
#include "dec/unit.h"

uint32_t nnb_part_count(const nnb_unit *unit) { return unit->body.ndu.names.count; }

/* Indices must lie in the reference list. */
static nnb_status check_indices(const nnb_data_unit *ndu, const nnb_parameters *parameters) {
  if (!ndu->indexed) return NNB_OK;
  nnb_list list = ndu->names;
  uint64_t index;
  while (nnb_list_index(&list, &index)) {
    if (index >= parameters->reference_list.count) return NNB_VALUE_RANGE;
  }
  return NNB_OK;
}

/* NNB_ROLE_TENSOR if the name has no suffix of a factor. */
static nnb_role factor_of(const nnb_unit *unit, const nnb_parameters *parameters, uint32_t number) {
  nnb_string name;
  if (nnb_unit_name(unit, parameters, number, &name) != NNB_OK) return NNB_ROLE_TENSOR;
  if (nnb_ends_with(name, 'G')) return NNB_ROLE_G;
  return nnb_ends_with(name, 'H') ? NNB_ROLE_H : NNB_ROLE_TENSOR;
}

/*
 * Role and name of tensor `number` of a BLOCK. Coding order: LS, BI, BN, weight or G and H; order of the names: weight
 * or G and H, LS, BN, BI.
 */
static void place_in_block(const nnb_data_unit *ndu, uint32_t number, nnb_part *part) {
  const uint32_t types = ndu->compressed_parameter_types;
  const uint32_t weights = nnb_is_decomposed(ndu) ? 2 : 1;
  const uint32_t scaling = types & NNB_NNR_CPT_LS ? 1 : 0;
  const uint32_t bias = types & NNB_NNR_CPT_BI ? 1 : 0;
  const uint32_t norm = types & NNB_NNR_CPT_BN ? 4 : 0;
  if (number < scaling) {
    part->role = NNB_ROLE_LOCAL_SCALING;
    part->name = weights;
    return;
  }
  number -= scaling;
  if (number < bias) {
    part->role = NNB_ROLE_BIAS;
    part->name = weights + scaling + norm;
    return;
  }
  number -= bias;
  if (number < norm) {
    part->role = (nnb_role)(NNB_ROLE_BN_BETA + number);
    part->name = weights + scaling + number;
    return;
  }
  part->name = number - norm;
  part->role = weights == 1 ? NNB_ROLE_TENSOR : part->name == 0 ? NNB_ROLE_G : NNB_ROLE_H;
}

static nnb_status place(const nnb_unit *unit, const nnb_parameters *parameters, uint32_t number, nnb_part *part) {
  const nnb_data_unit *const ndu = &unit->body.ndu;
  if (number >= ndu->names.count) return NNB_BAD_OPTION;
  const nnb_status status = check_indices(ndu, parameters);
  if (status != NNB_OK) return status;
  if (nnb_is_block(ndu)) {
    place_in_block(ndu, number, part);
    if (!nnb_is_decomposed(ndu)) return NNB_OK;
    return factor_of(unit, parameters, 0) == NNB_ROLE_G && factor_of(unit, parameters, 1) == NNB_ROLE_H
               ? NNB_OK
               : NNB_VALUE_RANGE;
  }
  part->role = nnb_is_decomposed(ndu) ? factor_of(unit, parameters, 0) : NNB_ROLE_TENSOR;
  return nnb_is_decomposed(ndu) && part->role == NNB_ROLE_TENSOR ? NNB_VALUE_RANGE : NNB_OK;
}

static nnb_status shape(const nnb_data_unit *ndu, nnb_part *part) {
  const uint64_t size = ndu->height * ndu->width;
  const uint64_t rows = ndu->g_number_of_rows;
  uint64_t width = 1;
  const int divides = rows != 0 && size % rows == 0;
  /* In a block the other parts wait for H, as it is all of them that are read. */
  if (nnb_is_decomposed(ndu) && (nnb_is_block(ndu) || part->role == NNB_ROLE_H) && !divides) return NNB_SHAPE_MISMATCH;
  part->coding.height = ndu->height;
  switch (part->role) {
    case NNB_ROLE_G:
      part->coding.height = rows;
      width = ndu->decomposition_rank;
      break;
    case NNB_ROLE_H:
      part->coding.height = ndu->decomposition_rank;
      width = size / rows;
      break;
    case NNB_ROLE_TENSOR:
      width = ndu->width;
      break;
    default:
      break;
  }
  part->coding.width = width;
  return NNB_OK;
}

static const nnb_codebook *codebook_of(const nnb_data_unit *ndu, nnb_role role) {
  const nnb_codebook *const codebook = role == NNB_ROLE_H && nnb_is_block(ndu) ? &ndu->CbB : &ndu->CbA;
  return role <= NNB_ROLE_H && codebook->codebook_size > 0 ? codebook : NULL;
}

static uint64_t rows_minus1(const nnb_data_unit *ndu, uint64_t rows) {
  return rows > 0 ? (rows - 1) >> (2 + ndu->scan_order) : 0;
}

/* The header lists entry points for G and H in one list, and for height or width 1 ones that mean nothing. */
static void find_entry_points(const nnb_data_unit *ndu, nnb_part *part) {
  if (part->role > NNB_ROLE_H || nnb_block_row_count(&part->coding) == 1) return;
  const int second = part->role == NNB_ROLE_H && nnb_is_block(ndu);
  part->first_entry_point = second ? (uint32_t)rows_minus1(ndu, ndu->g_number_of_rows) : 0;
  part->entry_point_count = (uint32_t)rows_minus1(ndu, part->coding.height);
}

nnb_status nnb_part_get(const nnb_unit *unit, const nnb_parameters *parameters, uint32_t number, nnb_part *part) {
  const nnb_data_unit *const ndu = &unit->body.ndu;
  const uint32_t type = ndu->nnr_compressed_data_unit_payload_type;
  nnb_memset(part, 0, sizeof *part);
  nnb_status status = place(unit, parameters, number, part);
  if (status == NNB_OK) status = shape(ndu, part);
  if (status != NNB_OK || type == NNB_NNR_PT_RAW_FLOAT) return status;
  if (ndu->scan_order > NNB_MAX_SCAN_ORDER) return NNB_UNSUPPORTED_FEATURE;

  const nnb_quantization_parameters *const in_force =
      parameters->lps_quantization.present ? &parameters->lps_quantization : &parameters->mps_quantization;
  const int profile_1 = parameters->general_profile_idc == 1;
  nnb_level_coding *const coding = &part->coding;
  part->arithmetic = 1;
  part->integer = type == NNB_NNR_PT_INT;
  part->codebook = codebook_of(ndu, part->role);
  if (!part->integer) {
    if (!in_force->present) return NNB_QP_MISSING;
    if (part->codebook != NULL && ndu->dq_flag) return NNB_VALUE_RANGE;
    part->qp_density = in_force->qp_density;
    part->qp = in_force->quantization_parameter;
    coding->qp_bits = (uint8_t)(6 + in_force->qp_density);
    coding->dq = ndu->dq_flag;
  }
  coding->unary_length = (uint16_t)(ndu->cabac_unary_length_minus1 + 1);
  coding->profile = (uint8_t)profile_1;
  coding->scan_order = ndu->scan_order;
  coding->parent = ndu->parent_node_id_present_flag;
  coding->temporal = profile_1 && ndu->temporal_context_modeling_flag;
  if (profile_1 && part->codebook != NULL) {
    coding->codebook_size = part->codebook->codebook_size;
    coding->codebook_zero_offset = part->codebook->zero_offset;
  }
  find_entry_points(ndu, part);
  return NNB_OK;
}
