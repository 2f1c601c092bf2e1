"""Low-rank decomposition of weights: ranks by the energy of singular values (nnc-bitstream 6.4)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnbits.codec.convert import to_float32
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.parallel import default_threads, ordered_map
from nnbits.codec.plan import QUANTIZED, BlockPlan, EncodePlan, TensorPlan
from nnbits.codec.quant.step import nearest_qp, qp_range, step_size
from nnbits.codec.types import LazyTensor, Model
from nnbits.tools.methods._blocks import merged

__all__ = ["plan_low_rank", "rank_for_energy"]


def rank_for_energy(singular_values: NDArray[np.floating[Any]], energy: float) -> int:
    """The smallest rank whose singular values have at least the share ``energy`` of the sum of squares; at least 1."""
    squares = np.cumsum(np.square(singular_values, dtype=np.float64))
    if not squares.size or squares[-1] <= 0:
        return 1
    return int(min(np.searchsorted(squares, energy * squares[-1]) + 1, squares.size))


def plan_low_rank(
    model: Model,
    base_plan: EncodePlan,
    *,
    energy: float | None = None,
    ranks: Mapping[str, int] | None = None,
    threads: int | None = None,
) -> EncodePlan:
    """Send weights as products of two factors.

    The factors get QPs at which the error of their product is about that of the weight at its own QP; on top of
    it comes what the rank cuts off.

    Args:
        model: weights are read one at a time.
        base_plan: has an entry for each tensor. A weight with a block keeps its other vectors.
        energy: keep this share of each weight's sum of squares, 0..1; only where fewer numbers are left. Either this
            or ``ranks``.
        ranks: rank by name of the weight.
        threads: weights decomposed at the same time; default: processors.

    Raises:
        NnbitsError: BAD_OPTION if an argument is out of range, or a weight is not quantized or modified.
    """
    if (energy is None) == (ranks is None):
        raise NnbitsError(ReasonCode.BAD_OPTION, "give either an energy or ranks", path="energy")
    if energy is not None and not 0 < energy <= 1:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"energy must lie in 0..1, not {energy}", path="energy")
    weights = {t.info.name: t for t in model if _is_matrix(t)}
    if unknown := set(ranks or ()) - weights.keys():
        raise NnbitsError(ReasonCode.BAD_OPTION, f"no weights: {sorted(unknown)[:5]}", path="ranks")
    todo = [t for name, t in weights.items() if (_able(base_plan, name) if ranks is None else name in ranks)]
    vectors = {name for block in base_plan.blocks for name in block.members[1:]}
    todo = [t for t in todo if t.info.name not in vectors]
    for tensor in todo:
        if not _able(base_plan, tensor.info.name):
            raise NnbitsError(
                ReasonCode.BAD_OPTION, f"weight {tensor.info.name!r} is exact or modified", path="plan.tensors"
            )
    known = {block.weight: block for block in base_plan.blocks}
    blocks: list[BlockPlan] = []
    tensors: dict[str, TensorPlan] = {}
    propose = partial(_factors, plan=base_plan, energy=energy, ranks=ranks or {})
    for tensor, found in zip(todo, ordered_map(propose, todo, threads=threads or default_threads()), strict=True):
        if found is None:
            continue
        name = tensor.info.name
        block = replace(known.get(name) or BlockPlan(name, rank=1), rank=found[0])
        blocks.append(block)
        tensors.update(zip(block.weight_names, found[1:], strict=True))
    return merged(base_plan, blocks, tensors)


def _is_matrix(tensor: LazyTensor) -> bool:
    return tensor.info.dtype.kind == "float" and len(tensor.info.shape) > 1 and tensor.info.size > 0


def _able(plan: EncodePlan, name: str) -> bool:
    how = plan.tensors.get(name)
    return how is not None and how.coding in QUANTIZED and how.threshold is None and not how.zero_rows


def _factors(
    tensor: LazyTensor, *, plan: EncodePlan, energy: float | None, ranks: Mapping[str, int]
) -> tuple[int, TensorPlan, TensorPlan] | None:
    """Rank and plans of G and H, or None where factors would be no fewer numbers."""
    values = to_float32(tensor.info.dtype, tensor.read())
    if not np.isfinite(values).all():
        return None
    matrix = values.reshape(values.shape[0], -1).astype(np.float64)
    rows, columns = matrix.shape
    singular = np.linalg.svd(matrix, compute_uv=False)
    if energy is None:
        rank = ranks[tensor.info.name]
    else:
        rank = rank_for_energy(singular, energy)
        if rank * (rows + columns) >= rows * columns:
            return None
    how = plan.tensors[tensor.info.name]
    # An error of G spreads over a row of the product with the power of a column of H, and the other way round;
    # both factors have the power sum(s), and each may make half of the error.
    power = float(singular[:rank].sum()) or 1.0
    step = step_size(how.qp or 0, plan.qp_density)
    low, high = qp_range(plan.qp_density)

    def factor(size: int) -> TensorPlan:
        qp = nearest_qp(step * math.sqrt(size / (2 * power)), plan.qp_density)
        return replace(how, qp=min(max(qp, low), high), scan_order=0, bitdepth=None)

    return rank, factor(columns), factor(rows)
