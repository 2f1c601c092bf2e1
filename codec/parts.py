"""The tensors of a data unit: names, shapes and what the entropy layer is told of each (nnc-bitstream 6.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod

from .entropy.coding import EntryPoint, LevelCoding
from .errors import NnbitsError, ReasonCode
from .syntax import CompressedDataUnit, CompressedParameterTypes, IntegerCodebook, ParameterSets, PayloadType

__all__ = ["Part", "Role", "entry_points", "parts_of", "quantization"]

_DC = CompressedParameterTypes.NNR_CPT_DC
_LS = CompressedParameterTypes.NNR_CPT_LS
_BN = CompressedParameterTypes.NNR_CPT_BN
_BI = CompressedParameterTypes.NNR_CPT_BI


_MAX_SCAN_ORDER = 4  # blocks of 64 x 64


class Role(Enum):
    """What a tensor of a unit is."""

    TENSOR = "tensor"
    G = "G"
    H = "H"
    LOCAL_SCALING = "local scaling"
    BIAS = "bias"
    BN_BETA = "batch-norm beta"
    BN_GAMMA = "batch-norm gamma"
    BN_MEAN = "batch-norm mean"
    BN_VARIANCE = "batch-norm variance"


@dataclass(frozen=True)
class Part:
    """One tensor of a data unit.

    Attributes:
        name: topology element id.
        role: what it is in its unit.
        shape: dimensions.
        coding: for the entropy layer; None for raw values.
        codebook: CbA or CbB if it is codebook coded.
    """

    name: str
    role: Role
    shape: tuple[int, ...]
    coding: LevelCoding | None
    codebook: IntegerCodebook | None = None


def quantization(parameters: ParameterSets) -> tuple[int, int] | None:
    """qp_density and quantization parameter in force (LPS before MPS), or None if none was transmitted."""
    lps, mps = parameters.lps, parameters.mps
    if lps is not None and lps.lps_qp_density is not None:
        return lps.lps_qp_density, lps.lps_quantization_parameter or 0
    if mps is not None and mps.mps_qp_density is not None:
        return mps.mps_qp_density, mps.mps_quantization_parameter or 0
    return None


def parts_of(body: CompressedDataUnit, names: Sequence[str], parameters: ParameterSets) -> list[Part]:
    """The tensors of a unit in coding order.

    Args:
        body: the unit header.
        names: its tensors' names in the order of the id list.
        parameters: in force for the unit.

    Raises:
        NnbitsError: VALUE_RANGE if the names do not fit the parameter types, SHAPE_MISMATCH for impossible factors.
    """
    payload_type = body.nnr_compressed_data_unit_payload_type
    types = body.compressed_parameter_types
    if payload_type != PayloadType.NNR_PT_BLOCK:
        if len(names) != 1:
            raise NnbitsError(
                ReasonCode.UNSUPPORTED_FEATURE,
                "several topology elements outside a BLOCK (tensor split)",
                path="topology_elem_id_list",
            )
        role, shape = Role.TENSOR, body.tensor_dimensions
        if types & _DC:
            role = _factor(names[0])
            shape = _factor_shape(body, role)
        return [_part(names[0], role, shape, body, parameters, body.CbA)]
    weight_roles = [Role.G, Role.H] if types & _DC else [Role.TENSOR]
    scaling = [Role.LOCAL_SCALING] if types & _LS else []
    norm = [Role.BN_BETA, Role.BN_GAMMA, Role.BN_MEAN, Role.BN_VARIANCE] if types & _BN else []
    bias = [Role.BIAS] if types & _BI else []
    listed = weight_roles + scaling + norm + bias
    if len(names) != len(listed):
        raise NnbitsError(
            ReasonCode.VALUE_RANGE,
            f"a BLOCK of {len(listed)} tensors has {len(names)} names",
            path="count_topology_elements_minus2",
        )
    name_of = dict(zip(listed, names, strict=True))
    if types & _DC and (_factor(name_of[Role.G]), _factor(name_of[Role.H])) != (Role.G, Role.H):
        raise NnbitsError(ReasonCode.VALUE_RANGE, "factors must be named _G and _H", path="topology_elem_id_list")
    if types & _DC:
        _factor_shape(body, Role.H)  # before anything that can be wrong with one part
    parts = []
    for role in scaling + bias + norm + weight_roles:
        if role in (Role.G, Role.H):
            shape, codebook = _factor_shape(body, role), body.CbA if role is Role.G else body.CbB
        elif role is Role.TENSOR:
            shape, codebook = body.tensor_dimensions, body.CbA
        else:
            shape, codebook = body.tensor_dimensions[:1], None
        parts.append(_part(name_of[role], role, shape, body, parameters, codebook))
    return parts


def _factor(name: str) -> Role:
    if name.endswith("_G"):
        return Role.G
    if name.endswith("_H"):
        return Role.H
    raise NnbitsError(ReasonCode.VALUE_RANGE, f"factor {name!r} must be named _G or _H", path="topology_elem_id")


def _factor_shape(body: CompressedDataUnit, role: Role) -> tuple[int, int]:
    rank, rows = body.decomposition_rank, body.g_number_of_rows
    if rank is None or rows is None:
        raise NnbitsError(ReasonCode.SHAPE_MISSING, "decomposition without rank or rows", path="decomposition_rank")
    if role is Role.G:
        return rows, rank
    size = prod(body.tensor_dimensions)
    if rows == 0 or size % rows:
        raise NnbitsError(
            ReasonCode.SHAPE_MISMATCH, f"{rows} rows of G do not divide {size} elements", path="g_number_of_rows"
        )
    return rank, size // rows


def _part(
    name: str,
    role: Role,
    shape: tuple[int, ...],
    body: CompressedDataUnit,
    parameters: ParameterSets,
    codebook: IntegerCodebook | None,
) -> Part:
    payload_type = body.nnr_compressed_data_unit_payload_type
    if payload_type == PayloadType.NNR_PT_RAW_FLOAT:
        return Part(name, role, shape, None)
    if body.scan_order > _MAX_SCAN_ORDER:
        raise NnbitsError(
            ReasonCode.UNSUPPORTED_FEATURE, f"scan_order {body.scan_order} is not defined", path="scan_order"
        )
    integer = payload_type == PayloadType.NNR_PT_INT
    profile = 1 if parameters.general_profile_idc == 1 else 0
    in_force = quantization(parameters)
    if in_force is None and not integer:
        raise NnbitsError(
            ReasonCode.QP_MISSING, "a quantized tensor without quantization parameters in force", path="qp_value"
        )
    limited = codebook is not None and profile == 1
    coding = LevelCoding(
        height=shape[0] if shape else 1,
        width=prod(shape[1:]),
        profile=profile,
        dq=bool(body.dq_flag) and not integer,
        unary_length=body.cabac_unary_length_minus1 + 1,
        scan_order=body.scan_order,
        qp_bits=0 if integer or in_force is None else 6 + in_force[0],
        parent=bool(body.parent_node_id_present_flag),
        temporal=profile == 1 and bool(body.temporal_context_modeling_flag),
        codebook_size=codebook.codebook_size if codebook and limited else 0,
        codebook_zero_offset=codebook.CbZeroOffset if codebook and limited else 0,
    )
    return Part(name, role, shape, coding, codebook)


def entry_points(body: CompressedDataUnit, parts: Sequence[Part]) -> list[tuple[EntryPoint, ...]]:
    """The entry points of each part's block rows but the first; empty where the scan has no blocks.

    The header lists them for G and H in one list; for tensors of height or width 1 it lists ones that mean nothing
    (nnc-bitstream 6.1).
    """
    listed = [EntryPoint(*point) for point in body.cabac_entry_points]
    result: list[tuple[EntryPoint, ...]] = []
    at = 0
    for part in parts:
        carries = body.scan_order and part.role in (Role.TENSOR, Role.G, Role.H)
        count = -(-part.shape[0] // (4 << body.scan_order)) - 1 if carries and part.shape else 0
        own = tuple(listed[at : at + count])
        at += max(count, 0)
        result.append(own if part.coding is not None and part.coding.block else ())
    return result
