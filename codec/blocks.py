"""BLOCK units to be written: a weight with the vectors of its layer, as it is or as factors (nnc-bitstream 6.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .errors import NnbitsError, ReasonCode
from .plan import QUANTIZED, BlockPlan, Coding, EncodePlan, TensorPlan
from .quant.step import qp_range
from .source import FoldedNorm, SourceDescription, folding_rules
from .syntax import CompressedDataUnit, CompressedParameterTypes, IntegerCodebook, PayloadType
from .types import TensorInfo

__all__ = [
    "block_header",
    "block_plans",
    "block_values",
    "check_blocks",
    "describe_blocks",
    "factorize",
    "fold_batch_norm",
]

Values = NDArray[np.float32]

#: The element type of block tensors that needs no entry in the source description.
_DEFAULT_DTYPE: Final = "float32"


def block_plans(block: BlockPlan, plan: EncodePlan) -> dict[str, TensorPlan]:
    """The plan of each tensor of the unit, by name in the order of the list.

    Scan order and unary length are those of the weight; factors are scanned row by row, because NNCodec cannot read
    others (nnc-bitstream section 9, trap 20).
    """
    weight = plan.tensors[block.weight]
    result = {}
    for name in block.coded:
        how = plan.tensors.get(name)
        if how is None:
            how = weight if name in block.weight_names else _created_vector(block, name, plan)
        scan_order = weight.scan_order if name == block.weight else 0
        unary = weight.cabac_unary_length_minus1
        result[name] = replace(how, scan_order=scan_order, cabac_unary_length_minus1=unary)
    return result


def _created_vector(block: BlockPlan, name: str, plan: EncodePlan) -> TensorPlan:
    """As gamma for the scaling, as beta for the bias; without limits that were meant for their values."""
    assert block.batch_norm is not None  # noqa: S101 - vectors are created by folding only
    stand_in = plan.tensors[block.batch_norm[1 if name == block.scaling_name else 0]]
    coding = _vector_coding(plan.tensors[block.weight])
    return replace(stand_in, coding=coding, bitdepth=None, threshold=None, zero_rows=())


def _vector_coding(weight: TensorPlan) -> Coding:
    return "dependent" if weight.coding == "dependent" else "uniform"


def check_blocks(plan: EncodePlan, infos: Mapping[str, TensorInfo]) -> None:
    """Make sure that the blocks of a plan fit each other and the model.

    Args:
        infos: the model's tensors; the plan has an entry for each.

    Raises:
        NnbitsError: BAD_OPTION with the tensor's name.
    """
    for index, block in enumerate(plan.blocks):
        try:
            _check_block(block, plan, infos)
        except NnbitsError as error:
            error.path = f"plan.blocks[{index}]"
            raise


def _check_block(block: BlockPlan, plan: EncodePlan, infos: Mapping[str, TensorInfo]) -> None:
    for name in block.members:
        if name not in infos:
            raise _bad(f"the block of {block.weight!r} names a tensor that does not exist: {name!r}")
        if infos[name].dtype.kind != "float" or plan.tensors[name].coding not in QUANTIZED:
            raise _bad(f"tensor {name!r} is in a block, but not quantized")
    for name in block.created:
        if name in infos:
            raise _bad(f"the block of {block.weight!r} needs the name {name!r}, which a tensor of the model has")
    shape = infos[block.weight].shape
    if prod(shape) == 0 or not shape:
        raise _bad(f"the weight {block.weight!r} of a block has no rows")
    for name in block.members[1:]:
        if infos[name].shape != shape[:1]:
            raise _bad(f"tensor {name!r} of shape {infos[name].shape} does not fit {shape[0]} rows of {block.weight!r}")
    weight = plan.tensors[block.weight]
    if block.rank is not None:
        if block.rank > min(shape[0], prod(shape[1:])) or len(shape) < 2:
            raise _bad(f"rank {block.rank} of the weight {block.weight!r} of shape {shape}")
        if weight.threshold is not None or weight.zero_rows:
            raise _bad(f"threshold or zero_rows of the weight {block.weight!r}, which is sent as factors")
    low, high = qp_range(plan.qp_density)
    for name, how in block_plans(block, plan).items():
        coding = weight.coding if name in block.weight_names else _vector_coding(weight)
        if how.coding != coding:
            raise _bad(f"tensor {name!r} is coded {how.coding} in a block whose weight is coded {weight.coding}")
        if how.qp is None or not low <= how.qp <= high:
            raise _bad(f"QP {how.qp} of tensor {name!r} lies outside {low}..{high}")


def _bad(message: str) -> NnbitsError:
    return NnbitsError(ReasonCode.BAD_OPTION, message)


def block_values(block: BlockPlan, model: Mapping[str, Values]) -> dict[str, Values]:
    """The values of each tensor of the unit, by name in the order of the list.

    Args:
        model: the block's members, float32 in their shapes.

    Raises:
        NnbitsError: BAD_TENSOR if a variance is negative.
    """
    values = {name: model[name] for name in block.members}
    if block.folds:
        scaling, bias = fold_batch_norm(block, model)
        values |= {f"{block.scaling_name}": scaling, f"{block.bias_name}": bias}
    if block.rank is not None:
        weight = model[block.weight]
        g, h = factorize(weight.reshape(weight.shape[0], -1), block.rank)
        values.update(zip(block.weight_names, (g, h), strict=True))
    return {name: values[name] for name in block.coded}


def fold_batch_norm(block: BlockPlan, model: Mapping[str, Values]) -> tuple[Values, Values]:
    """Scaling vector and bias that do what the layer and its batch norm did (nnc-encoder-notes section 8).

    Returns:
        float32 of one element a row; computed in binary64.

    Raises:
        NnbitsError: BAD_TENSOR if variance + epsilon is not positive.
    """
    beta, gamma, mean, variance = (model[name].astype(np.float64) for name in block.batch_norm or ())
    epsilon = block.fold_epsilon or 0.0
    if not (variance + epsilon > 0).all():
        raise NnbitsError(
            ReasonCode.BAD_TENSOR,
            "a variance is not positive: the norm cannot be folded",
            path=block.weight,
            hint="Leave this norm out of the plan's blocks",
        )
    factor = gamma / np.sqrt(variance + epsilon)
    bias = 0.0 if block.bias is None else model[block.bias].astype(np.float64)
    scaling = 1.0 if block.local_scaling is None else model[block.local_scaling].astype(np.float64)
    with np.errstate(over="ignore"):  # an infinite value is refused when it is quantized
        return (factor * scaling).astype(np.float32), ((bias - mean) * factor + beta).astype(np.float32)


def factorize(weight: Values, rank: int) -> tuple[Values, Values]:
    """G and H of the best approximation of a matrix by ``rank``: singular values shared evenly, signs fixed.

    Args:
        weight: (n, m).

    Returns:
        G (n, rank) whose largest element of each column is positive, and H (rank, m).

    Raises:
        NnbitsError: BAD_TENSOR if the matrix has values that are not finite.
    """
    if not np.isfinite(weight).all():
        raise NnbitsError(ReasonCode.BAD_TENSOR, "infinite or NaN values cannot be decomposed")
    u, s, vt = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    u, s, vt = u[:, :rank], s[:rank], vt[:rank]
    signs = np.where(u[np.abs(u).argmax(axis=0), np.arange(u.shape[1])] < 0, -1.0, 1.0)
    root = np.sqrt(s) * signs
    return (u * root).astype(np.float32), (root[:, None] * vt).astype(np.float32)


def block_header(
    block: BlockPlan, shape: tuple[int, ...], how: TensorPlan, codebooks: Mapping[str, IntegerCodebook]
) -> CompressedDataUnit:
    """The header of a BLOCK unit, without entry points.

    Args:
        shape: of the weight.
        how: the plan of the weight.
        codebooks: of the weight or its factors, by name, if they are codebook coded.
    """
    types = CompressedParameterTypes(0)
    for present, flag in (
        (block.rank is not None, CompressedParameterTypes.NNR_CPT_DC),
        (block.scaling_name is not None, CompressedParameterTypes.NNR_CPT_LS),
        (block.batch_norm is not None and not block.folds, CompressedParameterTypes.NNR_CPT_BN),
        (block.bias_name is not None, CompressedParameterTypes.NNR_CPT_BI),
    ):
        types |= flag if present else CompressedParameterTypes(0)
    books = [codebooks.get(name) for name in block.weight_names]
    return CompressedDataUnit(
        nnr_compressed_data_unit_payload_type=PayloadType.NNR_PT_BLOCK,
        topology_elem_id_list=block.coded,
        CbA=books[0],
        CbB=books[1] if len(books) > 1 else None,
        dq_flag=int(how.coding == "dependent"),
        compressed_parameter_types=int(types),
        decomposition_rank=block.rank,
        g_number_of_rows=None if block.rank is None else shape[0],
        tensor_dimensions=shape,
        cabac_unary_length_minus1=how.cabac_unary_length_minus1,
        scan_order=how.scan_order if block.rank is None else 0,
    )


def describe_blocks(
    source: SourceDescription, blocks: tuple[BlockPlan, ...], infos: Mapping[str, TensorInfo]
) -> SourceDescription:
    """The description of the other units, with what has to be said of blocks, whose headers name no element type."""
    dtypes = {name: infos[name].dtype.name for block in blocks for name in block.members}
    folded = {
        block.weight: FoldedNorm(
            block.batch_norm, block.fold_epsilon, block.bias is not None, block.local_scaling is not None
        )
        if block.batch_norm is not None and block.fold_epsilon is not None
        else None
        for block in blocks
        if block.scaling_name is not None
    }
    return replace(
        source,
        count=(source.count or 0) + sum(len(block.coded) for block in blocks),
        dtypes={**source.dtypes, **{name: dtype for name, dtype in dtypes.items() if dtype != _DEFAULT_DTYPE}},
        folded=folding_rules(folded),
    )
