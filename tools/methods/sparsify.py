"""Sparsification before quantization: small values, and rows of small values (nnc-encoder-notes section 8)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nnbits.codec.convert import to_float32
from nnbits.codec.encode import threshold32
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import QUANTIZED, EncodePlan
from nnbits.codec.quant.step import step_size
from nnbits.codec.types import LazyTensor, Model

__all__ = ["plan_sparsify", "plan_structured"]

_FIRST_DELTA: Final = 0.25
#: Increments of delta, by how far the share of zeros is from the target at most.
_INCREMENTS: Final = ((0.05, 0.01), (0.1, 0.05), (0.3, 0.1), (1.0, 0.2))
_LARGEST_DELTA: Final = 100.0


def plan_sparsify(model: Model, base_plan: EncodePlan, target: float) -> EncodePlan:
    """Plan thresholds below which the values of weights (two or more dimensions) become zero.

    The threshold of a weight is ``max(|mean - delta * std|, |mean + delta * std|, step / 2)``; ``delta`` is the same
    for all and grows until the share of zeros in all of them reaches ``target``. Rows that the base plan zeroes count
    as zeros. Weights that are exact or sent as factors are left alone. Without need nothing changes.

    Args:
        model: the weights' magnitudes are kept in memory, 4 bytes each.
        base_plan: sets the QPs; thresholds that it has are replaced.
        target: share of zeros, 0..1.

    Raises:
        NnbitsError: BAD_OPTION if ``target`` is out of range or cannot be reached.
    """
    if not 0 <= target < 1:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"the target must lie in 0..1, not {target}", path="target")
    found = (_Weight.of(tensor, base_plan) for tensor in _weights(model, base_plan))
    weights = [weight for weight in found if weight is not None]
    total = sum(weight.magnitudes.size for weight in weights)
    if sum(np.count_nonzero(weight.magnitudes == 0) for weight in weights) >= target * total:
        return base_plan
    delta = _FIRST_DELTA
    while True:
        share = sum(weight.zeros(delta) for weight in weights) / total
        if share >= target:
            break
        delta += next(step for distance, step in _INCREMENTS if target - share <= distance)
        if delta > _LARGEST_DELTA:
            raise NnbitsError(ReasonCode.BAD_OPTION, f"only {share:.1%} of the weights become zero", path="target")
    tensors = dict(base_plan.tensors)
    for weight in weights:
        if (threshold := weight.threshold(delta)) > 0:
            tensors[weight.name] = replace(tensors[weight.name], threshold=threshold)
    return replace(base_plan, tensors=tensors)


def plan_structured(model: Model, base_plan: EncodePlan, factor: float) -> EncodePlan:
    """Plan to zero the rows (output channels) of weights whose mean magnitude is below ``factor`` times their average.

    With row skipping such rows cost almost nothing. A network keeps its shapes.

    Args:
        model: weights are read one at a time.
        base_plan: rows that it zeroes are replaced. Weights that are exact or sent as factors are left alone.
        factor: 0 zeroes nothing; NNCodec's federated interface takes 0.9.

    Raises:
        NnbitsError: BAD_OPTION if ``factor`` is negative.
    """
    if not factor >= 0:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"the factor must not be negative, as {factor} is", path="factor")
    tensors = dict(base_plan.tensors)
    for tensor in _weights(model, base_plan):
        values = to_float32(tensor.info.dtype, tensor.read())
        means = np.abs(values.reshape(values.shape[0], -1)).mean(axis=1, dtype=np.float64)
        rows = np.flatnonzero(means < factor * means.mean())
        tensors[tensor.info.name] = replace(tensors[tensor.info.name], zero_rows=tuple(rows.tolist()))
    return replace(base_plan, tensors=tensors)


def _weights(model: Model, plan: EncodePlan) -> list[LazyTensor]:
    factors = {block.weight for block in plan.blocks if block.rank is not None}
    return [
        tensor
        for tensor in model
        if len(tensor.info.shape) > 1
        and tensor.info.size
        and tensor.info.name not in factors
        and (how := plan.tensors.get(tensor.info.name)) is not None
        and how.coding in QUANTIZED
    ]


@dataclass(frozen=True)
class _Weight:
    """A weight's magnitudes in increasing order, and what its threshold follows from."""

    name: str
    magnitudes: NDArray[np.float32]
    mean: float
    spread: float
    least: float

    @classmethod
    def of(cls, tensor: LazyTensor, plan: EncodePlan) -> _Weight | None:
        """None if values are not finite, which encoding refuses."""
        how = plan.tensors[tensor.info.name]
        values = to_float32(tensor.info.dtype, tensor.read())
        if not np.isfinite(values).all():
            return None
        mean, spread = float(np.mean(values, dtype=np.float64)), float(np.std(values, dtype=np.float64))
        magnitudes = np.abs(values)
        magnitudes[list(how.zero_rows)] = 0
        least = step_size(how.qp or 0, plan.qp_density) / 2
        return cls(tensor.info.name, np.sort(magnitudes, axis=None), mean, spread, least)

    def threshold(self, delta: float) -> float:
        return max(abs(self.mean - delta * self.spread), abs(self.mean + delta * self.spread), self.least)

    def zeros(self, delta: float) -> int:
        return int(np.searchsorted(self.magnitudes, threshold32(self.threshold(delta))))
