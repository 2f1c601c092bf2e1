"""The NNR unit: size, header and payload (nnc-bitstream sections 3, 4 and 10.1)."""

from __future__ import annotations

from typing import Any, Final

from construct import Rebuild, Switch, this

from ..limits import MAX_UNIT_BYTES
from .codes import reserved, u
from .compressed_data import compressed_data_unit_header
from .enums import UnitType
from .expr import Derived
from .extension import extension_unit_payload
from .payload import (
    layer_parameter_set_payload,
    model_parameter_set_payload,
    quantization_payload,
    topology_payload,
)
from .tables import Choose, If, Loop, Table, present_if

__all__ = ["SIZE_FIELD", "UNIT", "UNIT_HEADERS", "UNIT_PAYLOADS", "UNIT_TYPE_BITS"]

UNIT_TYPE_BITS: Final = 6

start_unit_header = Table("nnr_start_unit_header()", "4", "general_profile_idc" / u(8))

model_parameter_set_unit_header = Table("nnr_model_parameter_set_unit_header()", "4")

# From the standard, no peer.
layer_parameter_set_unit_header = Table(
    "nnr_layer_parameter_set_unit_header()",
    "4",
    "lps_self_contained_flag" / u(1),
    "nnr_reserved_zero_7bits" / reserved(7),
    peer=False,
)

topology_unit_header = Table(
    "nnr_topology_unit_header()",
    "4",
    "topology_storage_format" / u(8),
    "topology_compression_format" / u(8),
)

# From the standard, no peer.
quantization_unit_header = Table(
    "nnr_quantization_unit_header()",
    "4",
    "quantization_storage_format" / u(8),
    "quantization_compression_format" / u(8),
    peer=False,
)

# From the standard, no peer.
aggregate_unit_header = Table(
    "nnr_aggregate_unit_header()",
    "10.1",
    "nnr_aggregate_unit_type" / u(8),
    "entry_points_present_flag" / present_if("nnr_unit_entry_point"),
    "nnr_reserved_zero_7bits" / reserved(7),
    "num_of_nnr_units_minus2" / Rebuild(u(16), Derived("units - 2", lambda c: len(c["quant_bitdepth"]) - 2)),
    If(
        this.entry_points_present_flag,
        Loop(
            this.num_of_nnr_units_minus2 + 2,
            "nnr_unit_type_list" / u(UNIT_TYPE_BITS),
            "nnr_unit_entry_point" / u(34),
            limit=2**16 + 1,
            min_bits=40,
        ),
    ),
    Loop(
        this.num_of_nnr_units_minus2 + 2,
        "quant_bitdepth" / u(5),
        If(
            this._params.unification_flag,
            "ctu_scan_order" / u(1),
            "nnr_reserved_zero_2bits" / reserved(2),
            otherwise=("nnr_reserved_zero_3bits" / reserved(3),),
        ),
        limit=2**16 + 1,
        min_bits=8,
    ),
    peer=False,
)

UNIT_HEADERS: Final[dict[Any, Any]] = {
    UnitType.NNR_STR: start_unit_header,
    UnitType.NNR_MPS: model_parameter_set_unit_header,
    UnitType.NNR_LPS: layer_parameter_set_unit_header,
    UnitType.NNR_TPL: topology_unit_header,
    UnitType.NNR_QNT: quantization_unit_header,
    UnitType.NNR_NDU: compressed_data_unit_header,
    UnitType.NNR_AGG: aggregate_unit_header,
}

UNIT_PAYLOADS: Final[dict[Any, Any]] = {
    UnitType.NNR_MPS: model_parameter_set_payload,
    UnitType.NNR_LPS: layer_parameter_set_payload,
    UnitType.NNR_TPL: topology_payload,
    UnitType.NNR_QNT: quantization_payload,
    UnitType.NNR_EXT: extension_unit_payload,
}


def _payload_key(context: Any) -> int | None:
    """Units of type 32 that do not begin with the signature are somebody else's."""
    unit_type: int = context["nnr_unit_header"]["nnr_unit_type"]
    return None if unit_type == UnitType.NNR_EXT and not context["_params"]["extension"] else unit_type


unit_header = Table(
    "nnr_unit_header()",
    "3",
    "nnr_unit_type" / u(UNIT_TYPE_BITS),
    "independently_decodable_flag" / u(1),
    "partial_data_counter_present_flag" / present_if("partial_data_counter"),
    If(this.partial_data_counter_present_flag, "partial_data_counter" / u(8)),
    Choose(this.nnr_unit_type, UNIT_HEADERS),
)

NO_ELEMENTS: Final[Any] = Table("no elements", "6.4")

SIZE_FIELD: Final = Table(
    "nnr_unit_size()",
    "3",
    "nnr_unit_size_flag" / u(1),
    "nnr_unit_size" / u(15 + 16 * this.nnr_unit_size_flag, limit=MAX_UNIT_BYTES),
)

UNIT: Final = Table(
    "nnr_unit()",
    "3",
    SIZE_FIELD,
    "nnr_unit_header" / unit_header,
    "nnr_unit_payload"
    / Switch(
        Derived("nnr_unit_type", _payload_key),
        UNIT_PAYLOADS,
        default=NO_ELEMENTS,
    ),
)
