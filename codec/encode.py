"""Plan and tensors to units. The encoder decides nothing about quality: the plan does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .blocks import block_header, block_plans, block_values, check_blocks, describe_blocks
from .codebook import choose_codebook
from .compat import check_compat
from .convert import float32_is_exact, in_standard_profile, int32_is_exact, to_float32, to_int32
from .entropy.coding import LevelCoding, LevelsToCode
from .entropy.native import choose_initial_sets
from .errors import NnbitsError, ReasonCode
from .limits import MAX_NAME_BYTES
from .parallel import ordered_map
from .plan import BlockPlan, Coding, EncodePlan, TensorPlan
from .pruning import Pruned, find_pruned, pruning_units
from .quant.native import quantize_dependent, quantize_uniform, quantize_weighed
from .quant.step import qp_range
from .source import SourceDescription
from .syntax import (
    CompressedDataUnit,
    DecompressedDataFormat,
    IntegerCodebook,
    ModelParameterSet,
    ParameterSets,
    ParentNodeIdType,
    PayloadType,
    StartUnit,
    Topology,
    build_unit,
    build_unit_prefix,
)
from .types import DTYPES, Array, DType, LazyTensor, Model, TensorInfo
from .unit_encoder import CodedLevels, DataUnitEncoder

__all__ = [
    "EncodedTensor",
    "Node",
    "check_exact",
    "default_parameters",
    "describe_source",
    "encode_block",
    "encode_levels",
    "encode_model",
    "encode_tensor",
    "head_units",
    "levels_of",
    "modified",
    "plan_of",
    "quantize",
    "threshold32",
    "unit_header",
]

#: Source bytes of the tensors that are worked on or wait to be written.
_WINDOW_BYTES: Final = 1 << 28
_OVERHEAD_BYTES: Final = 4096

_PAYLOAD_TYPES: Final[dict[Coding, PayloadType]] = {
    "integer": PayloadType.NNR_PT_INT,
    "uniform": PayloadType.NNR_PT_FLOAT,
    "dependent": PayloadType.NNR_PT_FLOAT,
    "codebook": PayloadType.NNR_PT_FLOAT,
    "raw": PayloadType.NNR_PT_RAW_FLOAT,
}

#: nnr_decompressed_data_format that says an element type; the others need the source description.
_FORMATS: Final = {
    f.name.lower(): f
    for f in DecompressedDataFormat
    if f.name.lower() in DTYPES and not DTYPES[f.name.lower()].is_packed
}


@dataclass(frozen=True)
class Node:
    """Place of a unit in the parameter update tree (nnc-bitstream section 7); ``parent_device_id`` None is a root."""

    device_id: int
    parameter_id: int
    put_node_depth: int
    parent_device_id: int | None = None

    def place(self, header: CompressedDataUnit) -> CompressedDataUnit:
        """The header with the node's elements."""
        return replace(
            header,
            device_id=self.device_id,
            parameter_id=self.parameter_id,
            put_node_depth=self.put_node_depth,
            parent_node_id_type=None if self.parent_device_id is None else ParentNodeIdType.NODE_ID,
            parent_device_id=self.parent_device_id,
        )


@dataclass(frozen=True)
class EncodedTensor:
    """A finished data unit.

    Attributes:
        info: the source tensor; of a block its weight.
        plan: what was done; ``qp`` is the one used, which the overflow guard may have raised.
        prefix: unit size and header.
        payload: unit payload, bytes.
        note: what the user should know, or None.
        all_zero: whether all its levels are 0.
        others: of a block the other source tensors in it, with their plans.
    """

    info: TensorInfo
    plan: TensorPlan
    prefix: bytes
    payload: memoryview
    note: str | None = None
    all_zero: bool = False
    others: tuple[tuple[TensorInfo, TensorPlan], ...] = ()

    @property
    def unit_bytes(self) -> int:
        """Size of the unit."""
        return len(self.prefix) + len(self.payload)


def check_exact(model: Model, plan: EncodePlan) -> None:
    """Make sure that the stream can carry what the plan wants carried exactly, before anything is written.

    In the standard profile float64 values must be float32 values; data units in both carry integers of int32 only.

    Raises:
        NnbitsError: NOT_EXACT with the tensor and its dtype; BAD_OPTION if the plan does not fit the model;
            BAD_TENSOR for a name or shape that cannot be written; UNSUPPORTED_FEATURE for what ``compat`` excludes.
    """
    infos: dict[str, TensorInfo] = {}
    for tensor in model:
        info = tensor.info
        infos[info.name] = info
        _check_name(info.name)
        how = plan_of(plan, info)
        if plan.profile == "extended" and how.coding in ("raw", "lossless"):
            continue
        if not in_standard_profile(info.dtype):
            raise _not_exact(info, plan, "it has no such element type")
        if how.coding == "raw" and info.dtype.name == "float64" and not float32_is_exact(info.dtype, tensor.read()):
            raise _not_exact(info, plan, "its values are not all float32 values")
        if how.coding == "integer" and not _surely_int32(info.dtype) and not int32_is_exact(info.dtype, tensor.read()):
            raise _not_exact(info, plan, "its values do not all fit in int32")
    if len(infos) != len(model.tensors):
        raise NnbitsError(ReasonCode.BAD_TENSOR, "two tensors have the same name")
    created = {name for block in plan.blocks for name in block.created}
    if unknown := set(plan.tensors) - infos.keys() - created:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"the plan names tensors that do not exist: {sorted(unknown)[:5]}")
    check_blocks(plan, infos)
    for name in created:
        _check_name(name)
    check_compat(model, plan)


def _surely_int32(dtype: DType) -> bool:
    return dtype.bits < 32 or dtype.name == "int32"


def _not_exact(info: TensorInfo, plan: EncodePlan, why: str) -> NnbitsError:
    carrier = "the standard profile" if plan.profile == "standard" else f"coding {plan_of(plan, info).coding!r}"
    return NnbitsError(
        ReasonCode.NOT_EXACT,
        f"{carrier} cannot carry tensor {info.name!r} of dtype {info.dtype.name} exactly: {why}",
        path=info.name,
        hint="Convert the tensor, or choose a quality (--qp) if it is a float tensor",
    )


def _check_name(name: str) -> None:
    problem = None
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        problem = "is not valid Unicode"
    else:
        if "\0" in name:
            problem = "contains a zero byte"
        elif size > MAX_NAME_BYTES:
            problem = f"is longer than {MAX_NAME_BYTES} bytes"
    if problem:
        raise NnbitsError(ReasonCode.BAD_TENSOR, f"tensor name {name[:80]!r} {problem}", path="topology_elem_id")


def plan_of(plan: EncodePlan, info: TensorInfo) -> TensorPlan:
    """The entry of a tensor, which has to fit it.

    Raises:
        NnbitsError: BAD_OPTION.
    """
    how = plan.tensors.get(info.name)
    if how is None:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"the plan has no entry for tensor {info.name!r}", path="plan.tensors")
    elements = plan.profile == "extended" and how.coding in ("raw", "lossless")
    if (how.coding == "lossless" and not elements) or (
        not elements and (how.coding == "integer") != (info.dtype.kind != "float")
    ):
        raise NnbitsError(
            ReasonCode.BAD_OPTION,
            f"the plan codes tensor {info.name!r} of dtype {info.dtype.name} as {how.coding}",
            path=f"plan.tensors[{info.name!r}].coding",
        )
    if how.zero_rows and (not info.shape or how.zero_rows[-1] >= info.shape[0]):
        raise NnbitsError(
            ReasonCode.BAD_OPTION,
            f"row {how.zero_rows[-1]} of tensor {info.name!r} of shape {info.shape}",
            path=f"plan.tensors[{info.name!r}].zero_rows",
        )
    if how.qp is not None:
        low, high = qp_range(plan.qp_density)
        if not low <= how.qp <= high:
            raise NnbitsError(
                ReasonCode.BAD_OPTION,
                f"QP {how.qp} of tensor {info.name!r} lies outside {low}..{high}",
                path=f"plan.tensors[{info.name!r}].qp",
            )
    return how


def encode_model(
    model: Model,
    plan: EncodePlan,
    write: Callable[[bytes | memoryview], object],
    *,
    threads: int,
    on_tensor: Callable[[EncodedTensor], None] | None = None,
) -> None:
    """Write a standard stream unit by unit, never seeking back; the bytes do not depend on ``threads``.

    Args:
        model: tensors are read one by one, with a bounded number in memory.
        plan: one entry for every tensor.
        write: takes the next bytes of the stream.
        threads: tensors coded at the same time.
        on_tensor: called in the calling thread after each tensor was written.

    Raises:
        NnbitsError: BAD_OPTION, BAD_TENSOR, NOT_EXACT.
    """
    parameters = default_parameters(plan)
    mps = parameters.mps
    assert mps is not None  # noqa: S101 - default_parameters has one
    by_name = {tensor.info.name: tensor for tensor in model}
    block_of = {name: block for block in plan.blocks for name in block.members}
    source = describe_source(model, (t.info for t in model if t.info.name not in block_of))
    if plan.blocks:
        source = describe_blocks(source, plan.blocks, {name: tensor.info for name, tensor in by_name.items()})
    pruned: dict[str, Pruned] = {}
    if plan.pruning_container:
        for name, tensor in by_name.items():
            if name not in block_of and (item := _pruned(tensor, plan)):
                pruned[name] = item
        shapes = {**source.shapes, **{name: item.shape for name, item in pruned.items()}}
        source = replace(source, shapes=shapes, pruned=bool(pruned))
    for unit in head_units(mps, source, plan.general_profile_idc):
        write(unit)
    for container in pruning_units(pruned):
        write(build_unit(container, parameters=parameters))

    def encode(name: str) -> EncodedTensor:
        if name in block_of:
            return encode_block(block_of[name], by_name, plan, parameters)
        return _encode_single(by_name[name], plan, parameters, pruned.get(name))

    def weight(name: str) -> int:
        members = block_of[name].members if name in block_of else (name,)
        return sum(by_name[member].info.nbytes + _OVERHEAD_BYTES for member in members)

    heads = [name for name in by_name if name not in block_of or block_of[name].weight == name]
    window = max(_WINDOW_BYTES, threads * max(map(weight, heads), default=1))
    units = ordered_map(encode, heads, threads=threads, window=window, weight=weight)
    with closing(units):
        for coded in units:
            write(coded.prefix)
            write(coded.payload)
            if on_tensor:
                on_tensor(coded)


def default_parameters(plan: EncodePlan) -> ParameterSets:
    """The parameter sets that a stream of this plan begins with."""
    mps = ModelParameterSet(
        topology_carriage_flag=1,
        mps_quantization_method_flags=1,
        mps_qp_density=plan.qp_density,
        mps_quantization_parameter=0,
    )
    return ParameterSets(plan.general_profile_idc, mps)


def _encode_single(
    tensor: LazyTensor, plan: EncodePlan, parameters: ParameterSets, pruned: Pruned | None
) -> EncodedTensor:
    how = plan_of(plan, tensor.info)
    encoder = DataUnitEncoder(parameters, plan.set_choice, how.row_skipping)
    if pruned is None:
        return encode_tensor(tensor, how, plan.qp_density, encoder)
    info = TensorInfo(tensor.info.name, tensor.info.dtype, pruned.dimensions)
    rest = LazyTensor(info, lambda: pruned.packed(tensor.read().reshape(pruned.shape)))
    coded = encode_tensor(rest, replace(how, zero_rows=()), plan.qp_density, encoder)
    return replace(coded, info=tensor.info)


def _pruned(tensor: LazyTensor, plan: EncodePlan) -> Pruned | None:
    info, how = tensor.info, plan_of(plan, tensor.info)
    stored = np.ascontiguousarray(tensor.read())
    if how.coding == "raw":  # negative zeros are none
        zeros = stored.view(f"u{stored.itemsize}") == 0
    elif how.coding == "integer":
        zeros = stored == 0
    else:
        zeros = modified(to_float32(info.dtype, stored), how) == 0
    return find_pruned(info, zeros, raw=how.coding == "raw")


def encode_block(
    block: BlockPlan, model: Mapping[str, LazyTensor], plan: EncodePlan, parameters: ParameterSets
) -> EncodedTensor:
    """Read, quantize and code the tensors of a block into one unit.

    Args:
        model: its members by name.
        plan: has an entry for each of them.

    Raises:
        NnbitsError: BAD_TENSOR for values that cannot be quantized or folded.
    """
    try:
        members = {name: to_float32(model[name].info.dtype, model[name].read()) for name in block.members}
        values = block_values(block, members)
    except NnbitsError as error:
        if error.path is None:
            error.path = block.weight
        raise
    hows = block_plans(block, plan)
    coded: dict[str, CodedLevels] = {}
    all_zero = True
    notes = []
    for name, how in hows.items():
        encoder = DataUnitEncoder(parameters, plan.set_choice, how.row_skipping)
        info = TensorInfo(name, DTYPES["float32"], values[name].shape)
        try:
            levels, hows[name], note = levels_of(info, values[name], how, plan.qp_density)
            all_zero = all_zero and not levels.levels.any()
            coded[name] = _with_codebook(levels, info, hows[name], encoder)
        except NnbitsError as error:
            if error.path is None:
                error.path = name
            raise
        if note:
            notes.append(f"{name}: {note}")
    weight, how = model[block.weight].info, hows[block.weight_names[0]]
    codebooks = {name: item.codebook for name, item in coded.items() if item.codebook}
    encoder = DataUnitEncoder(parameters, plan.set_choice, how.row_skipping)
    prefix, payload = encoder.encode(block_header(block, weight.shape, how, codebooks), coded)
    others = tuple((model[name].info, hows.get(name, plan.tensors[name])) for name in block.members[1:])
    return EncodedTensor(weight, how, prefix, payload, "; ".join(notes) or None, all_zero, others)


def describe_source(model: Model, carried: Iterable[TensorInfo]) -> SourceDescription:
    """What the stream of these tensors has to say about its source."""
    infos = list(carried)
    return SourceDescription(
        len(infos),
        model.source_format,
        model.metadata,
        {i.name: i.dtype.name for i in infos if i.dtype.name not in _FORMATS},
        {i.name: i.shape for i in infos if not i.shape},
    )


def head_units(mps: ModelParameterSet, source: SourceDescription, general_profile_idc: int) -> list[bytes]:
    """Start unit, model parameter set and topology unit."""
    before = ParameterSets(general_profile_idc)
    return [
        build_unit(StartUnit(general_profile_idc), parameters=before),
        build_unit(mps, parameters=before),
        build_unit(Topology(topology_data=source.to_text()), parameters=ParameterSets(general_profile_idc, mps)),
    ]


def quantize(values: NDArray[np.float32], plan: TensorPlan, qp_density: int) -> tuple[NDArray[np.int32], int]:
    """Levels of a float32 tensor under a uniform or dependent plan.

    Returns:
        int32 array L (flat, row-major) and the QP used.

    Raises:
        NnbitsError: BAD_TENSOR if a value is not finite or too large for every QP.
    """
    assert plan.qp is not None  # noqa: S101 - TensorPlan checks it
    if values.size == 0:
        return np.empty(0, np.int32), plan.qp
    if not np.isfinite(values).all():
        raise NnbitsError(
            ReasonCode.BAD_TENSOR, "infinite or NaN values cannot be quantized", hint="Keep this tensor exact"
        )
    values = modified(values, plan)
    height, width = _matrix(values.shape)
    coding = LevelCoding(
        height,
        width,
        dq=plan.coding == "dependent",
        unary_length=plan.cabac_unary_length_minus1 + 1,
        scan_order=plan.scan_order,
    )
    if coding.dq:
        levels, qp = quantize_dependent(
            values, plan.qp, qp_density, height=height, width=width, scan_order=plan.scan_order
        )
    else:
        levels, qp = quantize_uniform(values, plan.qp, qp_density)
    if plan.lambda_scale:
        # The estimates start from the sets that will be chosen, or nearly.
        sets = choose_initial_sets(LevelsToCode(coding, levels), "cost")
        levels, qp = quantize_weighed(
            values, qp, qp_density, coding=coding, lambda_scale=plan.lambda_scale, initial_sets=sets
        )
    if qp > qp_range(qp_density)[1]:
        raise NnbitsError(ReasonCode.BAD_TENSOR, "values are too large to be quantized", hint="Keep this tensor exact")
    if plan.bitdepth is not None:
        signed = levels.size > 0 and int(levels.min()) < 0
        high = (1 << (plan.bitdepth - signed)) - 1
        np.clip(levels, -high - 1 if signed else 0, min(high, 2**31 - 1), out=levels)
    return levels, qp


def modified(values: NDArray[np.float32], plan: TensorPlan) -> NDArray[np.float32]:
    """The values with what the plan sets to zero; the array itself if that is nothing."""
    if plan.threshold is not None:
        values = np.where(np.abs(values) < threshold32(plan.threshold), np.float32(0), values)
    if plan.zero_rows:
        values = values.copy()
        values[list(plan.zero_rows)] = 0
    return values


def threshold32(threshold: float) -> np.float32:
    """The smallest binary32 that is not below a threshold: to binary32 values it compares as the threshold does."""
    with np.errstate(over="ignore"):
        limit = np.float32(threshold)
    return limit if float(limit) >= threshold else np.nextafter(limit, np.float32(np.inf))


def _matrix(shape: Sequence[int]) -> tuple[int, int]:
    """Height and width of nnc-entropy section 1."""
    return shape[0] if shape else 1, prod(shape[1:])


def encode_tensor(
    tensor: LazyTensor, how: TensorPlan, qp_density: int, encoder: DataUnitEncoder, node: Node | None = None
) -> EncodedTensor:
    """Read, quantize and code one tensor into a unit of its own."""
    info = tensor.info
    try:
        stored = np.ascontiguousarray(tensor.read()).reshape(info.shape or (1,))
        if how.coding == "raw":
            body = unit_header(info, how, node)
            payload = _raw_payload(info.dtype, stored)
            prefix = build_unit_prefix(body, parameters=encoder.parameters, payload_size=len(payload))
            return EncodedTensor(info, how, prefix, payload)
        levels, how, note = levels_of(info, stored, how, qp_density)
        prefix, payload = encode_levels(info, levels, how, encoder, node)
        return EncodedTensor(info, how, prefix, payload, note, not levels.levels.any())
    except NnbitsError as error:
        if error.path is None:
            error.path = info.name
        raise


def encode_levels(
    info: TensorInfo, levels: CodedLevels, how: TensorPlan, encoder: DataUnitEncoder, node: Node | None = None
) -> tuple[bytes, memoryview]:
    """The unit of a tensor that is quantized already, by :func:`levels_of`: unit size and header, and payload."""
    coded = _with_codebook(levels, info, how, encoder, node)
    return encoder.encode(unit_header(info, how, node, coded.codebook), {info.name: coded})


def levels_of(
    info: TensorInfo, stored: Array, how: TensorPlan, qp_density: int
) -> tuple[CodedLevels, TensorPlan, str | None]:
    """The integers that a tensor is coded as, the plan that was really followed, and a note on the difference.

    Raises:
        NnbitsError: NOT_EXACT for integers outside int32, BAD_TENSOR for values that cannot be quantized.
    """
    height, width = _matrix(stored.shape)
    if height == 1 or width == 1 or stored.size == 0:
        how = replace(how, scan_order=0)
    if how.coding == "integer":
        if not int32_is_exact(info.dtype, stored):
            raise NnbitsError(ReasonCode.NOT_EXACT, "values do not fit in int32")
        return CodedLevels(to_int32(stored).reshape(-1)), how, None
    levels, qp = quantize(to_float32(info.dtype, stored), how, qp_density)
    note = None
    if qp != how.qp:
        note = f"QP raised from {how.qp} to {qp}: the levels would not fit in 32 bits"
        how = replace(how, qp=qp)
    return CodedLevels(levels, qp), how, note


def _with_codebook(
    levels: CodedLevels, info: TensorInfo, how: TensorPlan, encoder: DataUnitEncoder, node: Node | None = None
) -> CodedLevels:
    """The levels as indices into the codebook that codes shortest, if the plan asks for a codebook."""
    if how.coding != "codebook":
        return levels

    def coded(book: tuple[IntegerCodebook, NDArray[np.int32]]) -> int:
        tensors = {info.name: CodedLevels(book[1], levels.qp, book[0])}
        return encoder.payload_size(unit_header(info, how, node, book[0]), tensors)

    codebook, indices = choose_codebook(levels.levels, coded)
    return CodedLevels(indices, levels.qp, codebook)


def unit_header(
    info: TensorInfo, how: TensorPlan, node: Node | None = None, codebook: IntegerCodebook | None = None
) -> CompressedDataUnit:
    """The header of a unit with one tensor, without entry points."""
    header = CompressedDataUnit(
        nnr_compressed_data_unit_payload_type=_PAYLOAD_TYPES[how.coding],
        topology_elem_id=info.name,
        CbA=codebook,
        dq_flag=int(how.coding == "dependent"),
        nnr_decompressed_data_format=_data_format(info.dtype, how.coding),
        cabac_unary_length_flag=int(how.coding != "raw"),
        tensor_dimensions=info.shape or (1,),
        cabac_unary_length_minus1=how.cabac_unary_length_minus1,
        scan_order=0 if how.coding == "raw" else how.scan_order,
    )
    return node.place(header) if node else header


def _data_format(dtype: DType, coding: Coding) -> DecompressedDataFormat | None:
    """nnr_decompressed_data_format, left out where the default of the payload type says the same."""
    if dtype.name == ("int32" if coding == "integer" else "float32"):
        return None
    return _FORMATS.get(dtype.name)


def _raw_payload(dtype: DType, stored: Array) -> memoryview:
    if not float32_is_exact(dtype, stored):
        raise NnbitsError(ReasonCode.NOT_EXACT, "values are not float32 values")
    return memoryview(np.ascontiguousarray(to_float32(dtype, stored), "<f4").reshape(-1).view(np.uint8).data)
