"""Payloads of the parameter set, topology and quantization units, in the order of the specification."""

from __future__ import annotations

from typing import Any, Final

from construct import Rebuild, this

from ..limits import (
    MAX_DIMENSION,
    MAX_DIMENSIONS,
    MAX_NAME_BYTES,
    MAX_TOPOLOGY_BYTES,
    MAX_TOPOLOGY_ELEMENTS,
)
from .codes import AnyConstruct, byte_alignment, enum, flt, i, raw, reserved, rest, st, u, ue
from .enums import RepresentationType, TopologyStorageFormat
from .expr import Derived, text
from .tables import Array, If, Loop, Table, present_if

__all__ = [
    "layer_parameter_set_payload",
    "model_parameter_set_payload",
    "quantization_payload",
    "topology_elements_ids_list",
    "topology_payload",
]

_CLASSES: Final = 2**32 - 1  # class bitmasks have 32 bits

general_profile_idc = this._params.general_profile_idc
mps_topology_indexed_reference_flag = this._params.mps_topology_indexed_reference_flag


def entries_plus_one(name: str, width: int) -> AnyConstruct:
    """The count of a performance map: one more than its entries (5.3), so never 0."""
    count = Derived(f"entries of {name} + 1", lambda context: len(context[name]) + 1)
    return Rebuild(u(width, minimum=1), count)


sparsification_performance_map = Table(
    "sparsification_performance_map()",
    "5.3",
    "spm_count_thresholds" / entries_plus_one("sparsification_threshold", 8),
    Loop(
        this.spm_count_thresholds - 1,
        "sparsification_threshold" / flt(32),
        "non_zero_ratio" / flt(32),
        "spm_nn_accuracy" / flt(32),
        "spm_count_classes" / u(8),
        "spm_class_bitmask" / ue(7, maximum=_CLASSES),
        "spm_nn_class_accuracy" / Array(this.spm_count_classes, flt(32), limit=255),
        limit=254,
        min_bits=112,
    ),
)

pruning_performance_map = Table(
    "pruning_performance_map()",
    "5.3",
    "ppm_count_pruning_ratios" / entries_plus_one("pruning_ratio", 8),
    Loop(
        this.ppm_count_pruning_ratios - 1,
        "pruning_ratio" / flt(32),
        "ppm_nn_accuracy" / flt(32),
        "ppm_count_classes" / u(8),
        "ppm_class_bitmask" / ue(7, maximum=_CLASSES),
        "ppm_nn_class_accuracy" / Array(this.ppm_count_classes, flt(32), limit=255),
        limit=254,
        min_bits=80,
    ),
)

# The last array is bounded by the bit mask, not by upm_count_classes: so NNCodec reads it.
unification_performance_map = Table(
    "unification_performance_map()",
    "5.3",
    "upm_count_thresholds" / entries_plus_one("unification_threshold", 8),
    Loop(
        this.upm_count_thresholds - 1,
        "count_reshaped_tensor_dimension" / ue(1, limit=MAX_DIMENSIONS + 1),
        "reshaped_tensor_dimensions"
        / Array(this.count_reshaped_tensor_dimension - 1, ue(7, limit=MAX_DIMENSION), limit=MAX_DIMENSIONS),
        byte_alignment(),
        "count_super_block_dimension" / u(8),
        "super_block_dimensions" / Array(this.count_super_block_dimension - 1, u(8), limit=254),
        "count_block_dimension" / u(8),
        "block_dimensions" / Array(this.count_block_dimension - 1, u(8), limit=254),
        "unification_threshold" / flt(32),
        "upm_nn_accuracy" / flt(32),
        "upm_count_classes" / u(8),
        "upm_class_bitmask" / ue(7, maximum=_CLASSES),
        "upm_nn_class_accuracy" / Array(this.upm_class_bitmask, flt(32), limit=_CLASSES),
        limit=254,
        min_bits=99,
    ),
)

decomposition_performance_map = Table(
    "decomposition_performance_map()",
    "5.3",
    "dpm_count_thresholds" / entries_plus_one("mse_threshold", 8),
    Loop(
        this.dpm_count_thresholds - 1,
        "mse_threshold" / flt(32),
        "dpm_nn_accuracy" / flt(32),
        "nn_reduction_ratio" / flt(32),
        "dpm_count_classes" / u(16),
        "dpm_nn_class_accuracy" / Array(this.dpm_count_classes, flt(32), limit=65535),
        limit=254,
        min_bits=112,
    ),
)

model_parameter_set_payload = Table(
    "nnr_model_parameter_set_unit_payload()",
    "5.1",
    "topology_carriage_flag" / u(1),
    "mps_sparsification_flag" / present_if("sparsification_performance_map"),
    "mps_pruning_flag" / present_if("pruning_performance_map"),
    "mps_unification_flag" / present_if("unification_performance_map"),
    "mps_decomposition_performance_map_flag" / present_if("decomposition_performance_map"),
    "mps_quantization_method_flags" / u(3),
    "mps_topology_indexed_reference_flag" / u(1),
    If(
        general_profile_idc == 1,
        "base_model_id_present_flag" / present_if("base_model_id"),
        "validation_set_performance_present_flag" / present_if("validation_set_performance"),
        "metric_type_performance_map_valid_flag" / u(1, absent=0),
        "mps_parent_signalling_enabled_flag" / u(1, absent=0),
        If(
            this.mps_parent_signalling_enabled_flag,
            "nnr_pre_flag" / u(1, absent=0),
            otherwise=("nnr_reserved_zero_1bit" / reserved(1),),
        ),
        "nnr_reserved_zero_2bits" / reserved(2),
        If(this.base_model_id_present_flag, "base_model_id" / st(limit=MAX_NAME_BYTES)),
        If(
            this.validation_set_performance_present_flag | this.metric_type_performance_map_valid_flag,
            "performance_metric_type" / st(limit=MAX_NAME_BYTES),
        ),
        otherwise=("nnr_reserved_zero_7bits" / reserved(7),),
    ),
    If(
        this.mps_quantization_method_flags & 3,
        "mps_qp_density" / u(3),
        "mps_quantization_parameter" / i(13),
    ),
    If(this.mps_sparsification_flag, "sparsification_performance_map" / sparsification_performance_map),
    If(this.mps_pruning_flag, "pruning_performance_map" / pruning_performance_map),
    If(this.mps_unification_flag, "unification_performance_map" / unification_performance_map),
    If(this.mps_decomposition_performance_map_flag, "decomposition_performance_map" / decomposition_performance_map),
    If(
        (general_profile_idc == 1) & this.validation_set_performance_present_flag,
        "validation_set_performance" / flt(32),
    ),
    byte_alignment(),
)

# From the standard, no peer: NNCodec aborts on every LPS.
layer_parameter_set_payload = Table(
    "nnr_layer_parameter_set_unit_payload()",
    "5.2",
    "nnr_reserved_zero_1_bits" / reserved(1),
    "lps_sparsification_flag" / present_if("sparsification_performance_map"),
    "lps_pruning_flag" / present_if("pruning_performance_map"),
    "lps_unification_flag" / present_if("unification_performance_map"),
    "lps_quantization_method_flags" / u(3),
    "nnr_reserved_zero_1bit" / reserved(1),
    If(
        this.lps_quantization_method_flags & 3,
        "lps_qp_density" / u(3),
        "lps_quantization_parameter" / i(13),
    ),
    If(this.lps_sparsification_flag, "sparsification_performance_map" / sparsification_performance_map),
    If(this.lps_pruning_flag, "pruning_performance_map" / pruning_performance_map),
    If(this.lps_unification_flag, "unification_performance_map" / unification_performance_map),
    byte_alignment(),
    peer=False,
)


def topology_elements_ids_list(indexed: Any) -> Table:
    """topology_elements_ids_list( indexed ) of section 6.1."""
    column = Derived(
        "number of names - 2",
        lambda context: max(len(context["topology_elem_id_list"]), len(context["topology_elem_id_index_list"])) - 2,
    )
    count = this.count_topology_elements_minus2 + 2
    return Table(
        f"topology_elements_ids_list( {text(indexed)} )",
        "6.1",
        "count_topology_elements_minus2" / Rebuild(ue(7, limit=MAX_TOPOLOGY_ELEMENTS - 2), column),
        If(
            indexed,
            "topology_elem_id_index_list" / Array(count, ue(7), limit=MAX_TOPOLOGY_ELEMENTS),
            byte_alignment(),
            otherwise=(
                byte_alignment(),
                "topology_elem_id_list" / Array(count, st(limit=MAX_NAME_BYTES), limit=MAX_TOPOLOGY_ELEMENTS),
            ),
        ),
    )


bit_mask = Table(
    "bit_mask()",
    "10.2",
    "count_bits" / u(32),
    "bit_mask_value" / raw(this.count_bits),
    byte_alignment(),
    peer=False,
)

# From the standard, no peer. The text says "byte aligned from here" after the identifiers, which is taken as
# byte_alignment() after indices; strings end on a byte boundary anyway.
pruning_topology_container = Table(
    "nnr_pruning_topology_container()",
    "10.2",
    "nnr_rep_type" / enum(2, RepresentationType),
    "prune_flag" / u(1),
    "order_flag" / u(1),
    "sparse_flag" / u(1),
    "nnr_reserved_zero_3bits" / reserved(3),
    If(
        this.prune_flag,
        If(
            this.nnr_rep_type == RepresentationType.NNR_TPL_BMSK,
            "bit_mask" / bit_mask,
            otherwise=(
                "count_ids" / Rebuild(u(8), Derived("number of entries of count_dims", lambda c: len(c["count_dims"]))),
                If(
                    mps_topology_indexed_reference_flag,
                    "element_id_index" / Array(this.count_ids, ue(7), limit=255),
                    byte_alignment(),
                    otherwise=("element_id" / Array(this.count_ids, st(limit=MAX_NAME_BYTES), limit=255),),
                ),
                Loop(
                    this.count_ids,
                    "count_dims" / ue(1, limit=MAX_DIMENSIONS),
                    "dim" / Array(this.count_dims, ue(7, limit=MAX_DIMENSION), limit=MAX_DIMENSIONS),
                    byte_alignment(),
                    limit=255,
                    min_bits=8,
                ),
            ),
        ),
    ),
    If(this.sparse_flag, "sparse_bit_mask" / bit_mask),
    peer=False,
)

_header = this._.nnr_unit_header

# NNCodec reads topology_data as st(v) whatever the compression format; only raw data can be a string, so
# compressed data is taken as the published text has it: bytes up to the end of the unit.
topology_payload = Table(
    "nnr_topology_unit_payload()",
    "5.4",
    If(
        _header.topology_storage_format == TopologyStorageFormat.NNR_TPL_PRUN,
        "nnr_pruning_topology_container" / pruning_topology_container,
        otherwise=(
            If(
                _header.topology_storage_format == TopologyStorageFormat.NNR_TPL_REFLIST,
                topology_elements_ids_list(0),
                otherwise=(
                    If(
                        _header.topology_compression_format == 0,
                        "topology_data" / st(limit=MAX_TOPOLOGY_BYTES),
                        otherwise=("topology_data" / rest(limit=MAX_TOPOLOGY_BYTES),),
                    ),
                ),
            ),
        ),
    ),
)

# From the standard, no peer.
quantization_payload = Table(
    "nnr_quantization_unit_payload()",
    "5.5",
    If(
        _header.quantization_compression_format == 0,
        "quantization_data" / st(limit=MAX_TOPOLOGY_BYTES),
        otherwise=("quantization_data" / rest(limit=MAX_TOPOLOGY_BYTES),),
    ),
    peer=False,
)
