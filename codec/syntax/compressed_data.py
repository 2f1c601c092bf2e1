"""The header of compressed data units (nnc-bitstream 6.1)."""

from __future__ import annotations

from math import prod
from typing import Any, Final

from construct import Computed, Rebuild, this

from ..errors import ReasonCode
from ..limits import (
    MAX_CODEBOOK_SIZE,
    MAX_DIMENSION,
    MAX_DIMENSIONS,
    MAX_ELEMENTS,
    MAX_ENTRY_POINTS,
    MAX_LEVEL,
    MAX_NAME_BYTES,
    MIN_LEVEL,
)
from .codes import byte_alignment, enum, ie, raw, st, u, ue
from .enums import CompressedParameterTypes, DecompressedDataFormat, ParentNodeIdType, PayloadType
from .expr import Derived
from .payload import general_profile_idc, mps_topology_indexed_reference_flag, topology_elements_ids_list
from .tables import Array, Check, If, Loop, OutOfBand, Table, present_if
from .views import SUPPLIED_NAMES, SuppliedParameters

__all__ = ["DEFAULT_CABAC_UNARY_LENGTH_MINUS1", "compressed_data_unit_header", "integer_codebook"]

DEFAULT_CABAC_UNARY_LENGTH_MINUS1: Final = 9  #: when neither in the stream nor supplied (6.3)

_DC: Final = CompressedParameterTypes.NNR_CPT_DC
_LS: Final = CompressedParameterTypes.NNR_CPT_LS
_BN: Final = CompressedParameterTypes.NNR_CPT_BN
_BI: Final = CompressedParameterTypes.NNR_CPT_BI

payload_type = this.nnr_compressed_data_unit_payload_type


def _deltas(context: Any) -> tuple[list[int], list[int]]:
    return context["codebook_delta_left"], context["codebook_delta_right"]


def _codebook_size(context: Any) -> int:
    left, right = _deltas(context)
    return len(left) + len(right) + 1


def _codebook_centre_offset(context: Any) -> int:
    left, _ = _deltas(context)
    return len(left) - (_codebook_size(context) >> 1)


def _codebook_in_range(context: Any) -> bool:
    left, right = _deltas(context)
    zero: int = context["codebook_zero_value"]
    return zero - sum(left) - len(left) >= MIN_LEVEL and zero + sum(right) + len(right) <= MAX_LEVEL


integer_codebook = Table(
    "integer_codebook()",
    "6.1",
    "codebook_egk" / u(4),
    "codebook_size" / Rebuild(ue(2, minimum=1, limit=MAX_CODEBOOK_SIZE), Derived("entries", _codebook_size)),
    "codebook_centre_offset" / Rebuild(ie(2), Derived("from CbZeroOffset", _codebook_centre_offset)),
    "codebook_zero_value" / ie(7, minimum=MIN_LEVEL, maximum=MAX_LEVEL),
    "CbZeroOffset" / Computed((this.codebook_size >> 1) + this.codebook_centre_offset),
    Check(
        (this.CbZeroOffset >= 0) & (this.CbZeroOffset < this.codebook_size),
        ReasonCode.VALUE_RANGE,
        "CbZeroOffset lies outside the codebook",
        "codebook_centre_offset",
    ),
    "codebook_delta_left" / Array(this.CbZeroOffset, ue(this.codebook_egk), limit=MAX_CODEBOOK_SIZE),
    "codebook_delta_right"
    / Array(this.codebook_size - this.CbZeroOffset - 1, ue(this.codebook_egk), limit=MAX_CODEBOOK_SIZE),
    Check(
        Derived("the codebook's entries fit in int32", _codebook_in_range),
        ReasonCode.VALUE_RANGE,
        "an entry of the codebook is outside int32",
        "codebook_zero_value",
    ),
)

tensor_dimensions_list = Table(
    "tensor_dimensions_list()",
    "6.1",
    "count_tensor_dimensions"
    / Rebuild(
        ue(1, limit=MAX_DIMENSIONS, absent=0),
        Derived("number of dimensions", lambda context: len(context["tensor_dimensions"])),
    ),
    "tensor_dimensions" / Array(this.count_tensor_dimensions, ue(7, limit=MAX_DIMENSION), limit=MAX_DIMENSIONS),
)


def _rows_minus_1(rows: int, scan_order: int) -> int:
    block = 4 << scan_order
    return max(((rows + block - 1) >> (2 + scan_order)) - 1, 0)


def _block_rows_minus_1(context: Any) -> int:
    """numBlockRowsMinus1 of 6.1."""
    scan_order = context["scan_order"]
    rows: tuple[int, ...]
    if context["compressed_parameter_types"] & _DC:
        g, h = context["g_number_of_rows"], context["decomposition_rank"]
        if context["nnr_compressed_data_unit_payload_type"] == PayloadType.NNR_PT_BLOCK:
            rows = (g, h)
        else:
            # Factors in units of their own are told apart by the suffix of their name (section 6.4).
            rows = (h,) if (context["topology_elem_id"] or "").endswith("_H") else (g,)
    else:
        rows = (context["tensor_dimensions"][0],)
    return sum(_rows_minus_1(n, scan_order) for n in rows)


cabac_entry_point_list = Table(
    "cabac_entry_point_list()",
    "6.1",
    "numBlockRowsMinus1" / Computed(Derived("section 6.1", _block_rows_minus_1)),
    Loop(
        this.numBlockRowsMinus1,
        "cabac_offset_list" / u(8),
        If(this.dq_flag, "dq_state_list" / u(3)),
        If(this._index == 0, "bit_offset_delta1" / ue(11), otherwise=("bit_offset_delta2" / ie(7),)),
        limit=MAX_ENTRY_POINTS,
        min_bits=16,
    ),
)


def _supplied(context: Any) -> SuppliedParameters | None:
    """The entry of the outside table for this unit: its (first) name is the key (6.3)."""
    table = context["_params"]["supplied"]
    if not table:
        return None
    names = context["topology_elem_id_list"]
    name = names[0] if names else context["topology_elem_id"]
    found: SuppliedParameters | None = table.get(name)
    if found is None and name is not None and name.endswith("_G") and context["compressed_parameter_types"] & _DC:
        found = table.get(name[:-2])
    return found


def _is_transmitted(name: str, context: Any) -> bool:
    if name == "tensor_dimensions":
        return bool(context["tensor_dimensions_flag"])
    if name == "cabac_unary_length_minus1":
        return bool(context["cabac_unary_length_flag"])
    return context[name] is not None


def _come_into_force(obj: Any, stream: Any, context: Any, path: str) -> None:
    """Replace transmitted or absent values by supplied ones; what was replaced is kept for writing it again."""
    supplied = _supplied(context)
    transmitted: dict[str, Any] = {}
    for name in SUPPLIED_NAMES:
        value = getattr(supplied, name) if supplied is not None else None
        if value is None:
            continue
        if name == "compressed_parameter_types" and not context["input_parameters_present_flag"]:
            continue
        old = context[name]
        old = tuple(old) if isinstance(old, list) else old
        if old != value:
            if _is_transmitted(name, context):
                transmitted[name] = old
            obj[name] = context[name] = value
    obj["transmitted"] = SuppliedParameters(**transmitted) if transmitted else None
    if context["cabac_unary_length_minus1"] is None:
        obj["cabac_unary_length_minus1"] = context["cabac_unary_length_minus1"] = DEFAULT_CABAC_UNARY_LENGTH_MINUS1
    if not context["tensor_dimensions_flag"] and (supplied is None or supplied.tensor_dimensions is None):
        hint = "the tensor's dimensions are not in the stream and must be supplied"
        raise stream.error(ReasonCode.SHAPE_MISSING, hint, f"{path}.tensor_dimensions")
    obj["count_tensor_dimensions"] = context["count_tensor_dimensions"] = len(context["tensor_dimensions"])
    if context["compressed_parameter_types"] & _DC:
        for name in ("decomposition_rank", "g_number_of_rows"):
            if context[name] is None:
                raise stream.error(ReasonCode.SHAPE_MISSING, "the value must be supplied", f"{path}.{name}")


def _write_transmitted(obj: Any, stream: Any, context: Any, path: str) -> None:
    """Before writing: put the values that were replaced back into their elements."""
    transmitted: SuppliedParameters | None = obj.get("transmitted")
    context["_in_force"] = {name: obj[name] for name in SUPPLIED_NAMES}
    if transmitted is not None:
        for name in SUPPLIED_NAMES:
            value = getattr(transmitted, name)
            if value is not None:
                obj[name] = context[name] = value


def _come_back_into_force(obj: Any, stream: Any, context: Any, path: str) -> None:
    """While writing: the same values as in reading. The caller's values count where nothing is written."""
    in_force = context["_in_force"]
    supplied = _supplied(context)
    for name in SUPPLIED_NAMES:
        given = in_force[name]
        outside = getattr(supplied, name) if supplied is not None else None
        if name == "compressed_parameter_types" and not context["input_parameters_present_flag"]:
            outside = None
        if outside is not None and given != outside:
            message = f"{given!r} is given, but {outside!r} is supplied from outside"
            raise stream.error(ReasonCode.BAD_OPTION, message, f"{path}.{name}")
        obj[name] = context[name] = given
    context["count_tensor_dimensions"] = len(context["tensor_dimensions"])
    if context["compressed_parameter_types"] & _DC:
        for name in ("decomposition_rank", "g_number_of_rows"):
            if context[name] is None:
                raise stream.error(ReasonCode.BAD_OPTION, "the element has no value", f"{path}.{name}")


def _dimensions_in_range(context: Any) -> bool:
    # A dimension of 0 must not hide the others: readers that multiply step by step would disagree.
    dimensions = context["tensor_dimensions"]
    return all(n <= MAX_DIMENSION for n in dimensions) and prod(max(n, 1) for n in dimensions) <= MAX_ELEMENTS


def _tensors_of_block(context: Any) -> int:
    """How many names a BLOCK has (6.4)."""
    types = context["compressed_parameter_types"]
    return 1 + bool(types & _DC) + bool(types & _LS) + 4 * bool(types & _BN) + bool(types & _BI)


_FLOAT_OR_BLOCK: Final = (payload_type == PayloadType.NNR_PT_FLOAT) | (payload_type == PayloadType.NNR_PT_BLOCK)

compressed_data_unit_header = Table(
    "nnr_compressed_data_unit_header()",
    "6.1",
    "nnr_compressed_data_unit_payload_type" / enum(5, PayloadType),
    "nnr_multiple_topology_elements_present_flag" / present_if("topology_elem_id_list", "topology_elem_id_index_list"),
    "nnr_decompressed_data_format_present_flag" / present_if("nnr_decompressed_data_format"),
    "input_parameters_present_flag" / u(1),
    OutOfBand(lambda *_: None, _write_transmitted),
    Check(
        (payload_type != PayloadType.NNR_PT_BLOCK) | this.nnr_multiple_topology_elements_present_flag,
        ReasonCode.VALUE_RANGE,
        "a BLOCK names several topology elements",
        "nnr_multiple_topology_elements_present_flag",
    ),
    Check(
        (payload_type == PayloadType.NNR_PT_BLOCK) | (this.nnr_multiple_topology_elements_present_flag == 0),
        ReasonCode.UNSUPPORTED_FEATURE,
        "a tensor split over several topology elements (topology_tensor_dimension_mapping) is not supported",
        "nnr_multiple_topology_elements_present_flag",
    ),
    If(
        this.nnr_multiple_topology_elements_present_flag,
        topology_elements_ids_list(mps_topology_indexed_reference_flag),
        otherwise=(
            If(
                mps_topology_indexed_reference_flag == 0,
                "topology_elem_id" / st(limit=MAX_NAME_BYTES),
                otherwise=("topology_elem_id_index" / ue(7),),
            ),
        ),
    ),
    If(
        general_profile_idc == 1,
        "node_id_present_flag" / present_if("device_id"),
        If(
            this.node_id_present_flag,
            "device_id" / ue(1),
            "parameter_id" / ue(5),
            "put_node_depth" / ue(4),
        ),
        If(
            this._params.mps_parent_signalling_enabled_flag,
            "parent_node_id_present_flag" / present_if("parent_node_id_type"),
            If(
                this.parent_node_id_present_flag,
                "parent_node_id_type" / enum(2, ParentNodeIdType),
                "temporal_context_modeling_flag" / u(1, absent=0),
                If(
                    this.parent_node_id_type == ParentNodeIdType.NODE_ID,
                    "parent_device_id" / ue(1),
                    If(
                        this.node_id_present_flag == 0,
                        "parameter_id" / ue(5),
                        "put_node_depth" / ue(4),
                    ),
                ),
                If(
                    this.parent_node_id_type == ParentNodeIdType.SHA256,
                    "parent_node_payload_sha256" / raw(256),
                ),
                If(
                    this.parent_node_id_type == ParentNodeIdType.SHA512,
                    "parent_node_payload_sha512" / raw(512),
                ),
            ),
        ),
    ),
    If(
        _FLOAT_OR_BLOCK,
        "codebook_present_flag" / present_if("CbA"),
        If(this.codebook_present_flag, "CbA" / integer_codebook),
    ),
    If(_FLOAT_OR_BLOCK | (payload_type == PayloadType.NNR_PT_INT), "dq_flag" / u(1, absent=0)),
    If(
        this.nnr_decompressed_data_format_present_flag,
        "nnr_decompressed_data_format" / enum(7, DecompressedDataFormat),
    ),
    If(
        this.input_parameters_present_flag,
        "tensor_dimensions_flag" / u(1, absent=0),
        "cabac_unary_length_flag" / u(1, absent=0),
        "compressed_parameter_types" / u(4, absent=0),
        If(
            this.compressed_parameter_types & _DC,
            "decomposition_rank" / ue(3, limit=MAX_DIMENSION),
            "g_number_of_rows" / ue(3, limit=MAX_DIMENSION),
        ),
        If(this.tensor_dimensions_flag, tensor_dimensions_list),
        If(this.cabac_unary_length_flag, "cabac_unary_length_minus1" / u(8)),
    ),
    OutOfBand(
        _come_into_force,
        _come_back_into_force,
        "values supplied from outside come into force (6.3); tensor_dimensions must be known now, "
        "cabac_unary_length_minus1 is 9 unless known",
    ),
    Check(
        Derived("dimensions and their product are within the limits", _dimensions_in_range),
        ReasonCode.LIMIT,
        "the tensor has too many elements",
        "tensor_dimensions",
    ),
    If(
        payload_type == PayloadType.NNR_PT_BLOCK,
        Check(
            this.count_topology_elements_minus2 + 2 == Derived("number of tensors", _tensors_of_block),
            ReasonCode.VALUE_RANGE,
            "the number of names differs from the number of tensors that compressed_parameter_types gives",
            "count_topology_elements_minus2",
        ),
    ),
    If(
        (payload_type == PayloadType.NNR_PT_BLOCK)
        & ((this.compressed_parameter_types & _DC) != 0)
        & this.codebook_present_flag,
        "CbB" / integer_codebook,
    ),
    If(
        this.count_tensor_dimensions > 1,
        If(general_profile_idc == 1, "first_tensor_dimension_shift" / ue(1, absent=0)),
        "scan_order" / u(4, absent=0),
        If(this.scan_order > 0, cabac_entry_point_list),
    ),
    byte_alignment(),
)
