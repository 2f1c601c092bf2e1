"""Bit-depth quantization: every value of a tensor in a given number of bits (nnc-encoder-notes section 6)."""

from __future__ import annotations

from typing import Final

import numpy as np

from nnbits.codec.api import plan_exact
from nnbits.codec.convert import to_float32
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import EncodePlan, TensorPlan
from nnbits.codec.quant.step import nearest_qp, qp_range
from nnbits.codec.types import LazyTensor, Model

__all__ = ["MAX_BITS", "MIN_BITS", "plan_bits"]

MIN_BITS: Final = 2
MAX_BITS: Final = 32

_MIN_NONWEIGHT_BITS: Final = 8
_PERCENTILE: Final = 99.95


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
    exact = plan_exact(model).tensors
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
