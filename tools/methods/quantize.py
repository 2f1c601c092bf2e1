"""QPs from a bit depth, or from the sizes and spreads of layers (nnc-encoder-notes sections 6 and 7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from nnbits.codec.api import plan_exact
from nnbits.codec.convert import to_float32
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import QUANTIZED, EncodePlan, TensorPlan
from nnbits.codec.quant.step import nearest_qp, qp_range
from nnbits.codec.types import LazyTensor, Model

__all__ = ["MAX_BITS", "MIN_BITS", "plan_bits", "plan_opt_qp"]

MIN_BITS: Final = 2
MAX_BITS: Final = 32

_MIN_NONWEIGHT_BITS: Final = 8
_PERCENTILE: Final = 99.95

_SPREAD_SHARE: Final = 0.1
_LARGEST_SHARE: Final = 0.5
_SHARE_OF_LARGE: Final = 0.15


def plan_bits(model: Model, bits: int, *, qp_density: int = 2) -> EncodePlan:
    """Plan uniform quantization to ``bits`` bits for each tensor.

    The step of a tensor is the one nearest to its 99.95 percentile of magnitudes divided by the largest level: the few
    values beyond are clipped. The stream has only ``2**qp_density`` steps for each power of two, so a tensor may use a
    little less or more than the range of its levels. Tensors of fewer than two dimensions get at least 8 bits. Integer
    tensors, and float tensors that are empty or have infinite or NaN values, stay exact.

    Args:
        model: its tensors are read one at a time.
        bits: 2..32.
        qp_density: 0..7.

    Raises:
        NnbitsError: BAD_OPTION if an argument is out of range; what reading a tensor raises.
    """
    if not MIN_BITS <= bits <= MAX_BITS:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"bits must lie in {MIN_BITS}..{MAX_BITS}, not {bits}", path="bits")
    EncodePlan(qp_density=qp_density)  # refuses a wrong density before any tensor is read
    exact = plan_exact(model, profile="standard").tensors
    tensors = {t.info.name: _quantized(t, bits, qp_density) or exact[t.info.name] for t in model}
    return EncodePlan(tensors, qp_density=qp_density)


def _quantized(tensor: LazyTensor, bits: int, qp_density: int) -> TensorPlan | None:
    """The plan of one tensor, or None if it stays exact."""
    if tensor.info.dtype.kind != "float" or tensor.info.size == 0:
        return None
    values = to_float32(tensor.info.dtype, tensor.read())
    if not np.isfinite(values).all():
        return None
    if len(tensor.info.shape) < 2:
        bits = max(bits, _MIN_NONWEIGHT_BITS)
    qp = 0
    magnitudes = np.abs(values)
    peak = float(magnitudes.max(initial=0))
    if peak > 0:
        largest_level = (1 << bits) - 1 if values.min() >= 0 else (1 << (bits - 1)) - 1
        step = (float(np.percentile(magnitudes, _PERCENTILE)) or peak) / largest_level
        low, high = qp_range(qp_density)
        qp = min(max(nearest_qp(step, qp_density), low), high)
    return TensorPlan("uniform", qp, bitdepth=bits)


def plan_opt_qp(model: Model, base_plan: EncodePlan) -> EncodePlan:
    """Give large and narrow layers other QPs than the rest: with negative QPs, coarser steps.

    The share ``w = size / sum of sizes + 0.1 * (1 - std / largest std)`` of a weight (two or more dimensions), 0.15 if
    above 0.5, takes ``QP * w`` off its QP in the base plan.

    Args:
        model: weights are read one at a time.
        base_plan: sets the QPs; what it does not quantize stays as it is.

    Raises:
        NnbitsError: what reading a tensor raises.
    """
    weights = [
        t
        for t in model
        if len(t.info.shape) > 1 and (how := base_plan.tensors.get(t.info.name)) and how.coding in QUANTIZED
    ]
    total = sum(t.info.size for t in weights)
    spreads = [_spread(t) for t in weights]
    largest = max(spreads, default=0.0) or 1.0
    low, high = qp_range(base_plan.qp_density)
    tensors = dict(base_plan.tensors)
    for tensor, spread in zip(weights, spreads, strict=True):
        how = tensors[tensor.info.name]
        share = tensor.info.size / max(total, 1) + _SPREAD_SHARE * (1 - spread / largest)
        if share > _LARGEST_SHARE:
            share = _SHARE_OF_LARGE
        qp = round((how.qp or 0) * (1 - share))
        tensors[tensor.info.name] = replace(how, qp=min(max(qp, low), high))
    return replace(base_plan, tensors=tensors)


def _spread(tensor: LazyTensor) -> float:
    values = to_float32(tensor.info.dtype, tensor.read())
    return float(np.std(values, dtype=np.float64)) if values.size else 0.0
