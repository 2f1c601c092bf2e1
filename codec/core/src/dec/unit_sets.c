/* Parameter sets and performance maps (nnc-bitstream 5.1 to 5.3). */
#include "dec/unit.h"

/* The count of a map is one more than its entries; each has at least `bits` bits. */
static uint32_t map_entries(nnb_bits *s, uint32_t bits NNB_NAME_PARAMETER) {
  const uint32_t count = nnb_read_u_range(s, 8, 1, 255, NNB_VALUE_RANGE NNB_SAME_NAME);
  return nnb_bounded(s, count > 0 ? count - 1 : 0, UINT32_MAX, bits);
}

/* Class bitmasks have 32 bits. */
static uint32_t class_bitmask(nnb_bits *s NNB_NAME_PARAMETER) {
  return (uint32_t)nnb_read_ue_range(s, 7, 0, UINT32_MAX, NNB_VALUE_RANGE NNB_SAME_NAME);
}

#define MAP_ENTRIES(s, bits, name) map_entries(s, bits NNB_NAMED(name))
#define CLASS_BITMASK(s, name) class_bitmask(s NNB_NAMED(name))

static void sparsification_performance_map(nnb_bits *s) {
  const uint32_t entries = MAP_ENTRIES(s, 112, "spm_count_thresholds");
  for (uint32_t i = 0; i < entries && nnb_ok(s); i++) {
    NNB_AT(s, 1, i);
    NNB_FLT(s, "sparsification_threshold");
    NNB_FLT(s, "non_zero_ratio");
    NNB_FLT(s, "spm_nn_accuracy");
    const uint32_t classes = NNB_U8(s, 8, "spm_count_classes");
    CLASS_BITMASK(s, "spm_class_bitmask");
    NNB_FLTS(s, classes, 2, "spm_nn_class_accuracy");
  }
  NNB_LEVEL(s, 0);
}

static void pruning_performance_map(nnb_bits *s) {
  const uint32_t entries = MAP_ENTRIES(s, 80, "ppm_count_pruning_ratios");
  for (uint32_t i = 0; i < entries && nnb_ok(s); i++) {
    NNB_AT(s, 1, i);
    NNB_FLT(s, "pruning_ratio");
    NNB_FLT(s, "ppm_nn_accuracy");
    const uint32_t classes = NNB_U8(s, 8, "ppm_count_classes");
    CLASS_BITMASK(s, "ppm_class_bitmask");
    NNB_FLTS(s, classes, 2, "ppm_nn_class_accuracy");
  }
  NNB_LEVEL(s, 0);
}

/* The counts of the three lists of dimensions are one more than their entries; 0 means none, too. */
static uint32_t map_dimensions(nnb_bits *s, uint32_t count) {
  return nnb_bounded(s, count > 0 ? count - 1 : 0, 255, 8);
}

static void unification_performance_map(nnb_bits *s) {
  const uint32_t entries = MAP_ENTRIES(s, 99, "upm_count_thresholds");
  for (uint32_t i = 0; i < entries && nnb_ok(s); i++) {
    NNB_AT(s, 1, i);
    uint32_t count =
        map_dimensions(s, (uint32_t)NNB_UE_LIMIT(s, 1, NNB_MAX_DIMENSIONS + 1, "count_reshaped_tensor_dimension"));
    for (uint32_t j = 0; j < count; j++) {
      NNB_AT(s, 2, j);
      NNB_UE_LIMIT(s, 7, NNB_MAX_DIMENSION, "reshaped_tensor_dimensions");
    }
    NNB_LEVEL(s, 1);
    nnb_read_alignment(s);
    count = map_dimensions(s, NNB_U8(s, 8, "count_super_block_dimension"));
    for (uint32_t j = 0; j < count; j++) {
      NNB_AT(s, 2, j);
      NNB_U(s, 8, "super_block_dimensions");
    }
    NNB_LEVEL(s, 1);
    count = map_dimensions(s, NNB_U8(s, 8, "count_block_dimension"));
    for (uint32_t j = 0; j < count; j++) {
      NNB_AT(s, 2, j);
      NNB_U(s, 8, "block_dimensions");
    }
    NNB_LEVEL(s, 1);
    NNB_FLT(s, "unification_threshold");
    NNB_FLT(s, "upm_nn_accuracy");
    NNB_U(s, 8, "upm_count_classes");
    /* The bit mask counts, not upm_count_classes: so NNCodec reads it. */
    const uint32_t mask = CLASS_BITMASK(s, "upm_class_bitmask");
    NNB_FLTS(s, mask, 2, "upm_nn_class_accuracy");
  }
  NNB_LEVEL(s, 0);
}

static void decomposition_performance_map(nnb_bits *s) {
  const uint32_t entries = MAP_ENTRIES(s, 112, "dpm_count_thresholds");
  for (uint32_t i = 0; i < entries && nnb_ok(s); i++) {
    NNB_AT(s, 1, i);
    NNB_FLT(s, "mse_threshold");
    NNB_FLT(s, "dpm_nn_accuracy");
    NNB_FLT(s, "nn_reduction_ratio");
    const uint32_t classes = (uint32_t)NNB_U(s, 16, "dpm_count_classes");
    NNB_FLTS(s, classes, 2, "dpm_nn_class_accuracy");
  }
  NNB_LEVEL(s, 0);
}

static void performance_maps(nnb_bits *s, int sparsification, int pruning, int unification, int decomposition) {
  if (sparsification) {
    NNB_GROUP(s, "nnr_unit_payload.sparsification_performance_map.");
    sparsification_performance_map(s);
  }
  if (pruning) {
    NNB_GROUP(s, "nnr_unit_payload.pruning_performance_map.");
    pruning_performance_map(s);
  }
  if (unification) {
    NNB_GROUP(s, "nnr_unit_payload.unification_performance_map.");
    unification_performance_map(s);
  }
  if (decomposition) {
    NNB_GROUP(s, "nnr_unit_payload.decomposition_performance_map.");
    decomposition_performance_map(s);
  }
  NNB_GROUP(s, "nnr_unit_payload.");
}

static void profile_1_flags(nnb_bits *s, nnb_model_parameter_set *mps) {
  const int base_model_id = NNB_FLAG(s, "base_model_id_present_flag");
  mps->validation_set_performance_present_flag = NNB_FLAG(s, "validation_set_performance_present_flag");
  mps->metric_type_performance_map_valid_flag = NNB_FLAG(s, "metric_type_performance_map_valid_flag");
  mps->mps_parent_signalling_enabled_flag = NNB_FLAG(s, "mps_parent_signalling_enabled_flag");
  if (mps->mps_parent_signalling_enabled_flag) {
    mps->nnr_pre_flag = NNB_FLAG(s, "nnr_pre_flag");
  } else {
    NNB_RESERVED(s, 1, "nnr_reserved_zero_1bit");
  }
  NNB_RESERVED(s, 2, "nnr_reserved_zero_2bits");
  if (base_model_id) mps->base_model_id = NNB_ST(s, NNB_MAX_NAME_BYTES, "base_model_id");
  if (mps->validation_set_performance_present_flag || mps->metric_type_performance_map_valid_flag) {
    mps->performance_metric_type = NNB_ST(s, NNB_MAX_NAME_BYTES, "performance_metric_type");
  }
}

void nnb_model_parameter_set_payload(nnb_bits *s, const nnb_parameters *parameters, nnb_model_parameter_set *mps) {
  mps->topology_carriage_flag = NNB_FLAG(s, "topology_carriage_flag");
  mps->mps_sparsification_flag = NNB_FLAG(s, "mps_sparsification_flag");
  mps->mps_pruning_flag = NNB_FLAG(s, "mps_pruning_flag");
  mps->mps_unification_flag = NNB_FLAG(s, "mps_unification_flag");
  mps->mps_decomposition_performance_map_flag = NNB_FLAG(s, "mps_decomposition_performance_map_flag");
  mps->mps_quantization_method_flags = NNB_U8(s, 3, "mps_quantization_method_flags");
  mps->mps_topology_indexed_reference_flag = NNB_FLAG(s, "mps_topology_indexed_reference_flag");
  if (parameters->general_profile_idc == 1) {
    profile_1_flags(s, mps);
  } else {
    NNB_RESERVED(s, 7, "nnr_reserved_zero_7bits");
  }
  if (mps->mps_quantization_method_flags & 3) {
    mps->quantization.present = 1;
    mps->quantization.qp_density = NNB_U8(s, 3, "mps_qp_density");
    mps->quantization.quantization_parameter = (int16_t)NNB_I(s, 13, "mps_quantization_parameter");
  }
  performance_maps(s, mps->mps_sparsification_flag, mps->mps_pruning_flag, mps->mps_unification_flag,
                   mps->mps_decomposition_performance_map_flag);
  if (mps->validation_set_performance_present_flag) {
    mps->validation_set_performance = NNB_FLT(s, "validation_set_performance");
  }
  nnb_read_alignment(s);
}

/* From the standard, no peer. */
void nnb_layer_parameter_set_payload(nnb_bits *s, nnb_layer_parameter_set *lps) {
  NNB_RESERVED(s, 1, "nnr_reserved_zero_1_bits");
  lps->lps_sparsification_flag = NNB_FLAG(s, "lps_sparsification_flag");
  lps->lps_pruning_flag = NNB_FLAG(s, "lps_pruning_flag");
  lps->lps_unification_flag = NNB_FLAG(s, "lps_unification_flag");
  lps->lps_quantization_method_flags = NNB_U8(s, 3, "lps_quantization_method_flags");
  NNB_RESERVED(s, 1, "nnr_reserved_zero_1bit");
  if (lps->lps_quantization_method_flags & 3) {
    lps->quantization.present = 1;
    lps->quantization.qp_density = NNB_U8(s, 3, "lps_qp_density");
    lps->quantization.quantization_parameter = (int16_t)NNB_I(s, 13, "lps_quantization_parameter");
  }
  performance_maps(s, lps->lps_sparsification_flag, lps->lps_pruning_flag, lps->lps_unification_flag, 0);
  nnb_read_alignment(s);
}
