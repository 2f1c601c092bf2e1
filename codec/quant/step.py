"""Quantization parameters and step sizes (nnc-entropy section 9)."""

from __future__ import annotations

import math

from ..errors import NnbitsError, ReasonCode

__all__ = ["binary32_step_size", "default_nonweight_qp", "nearest_qp", "qp_range", "step_size"]


def step_size(qp: int, qp_density: int) -> float:
    """Step of a QP: linear between powers of two, 2^qp_density steps per octave; exact in binary64 (section 9.2)."""
    k = 1 << qp_density
    return math.ldexp(k + (qp & (k - 1)), (qp >> qp_density) - qp_density)


def binary32_step_size(qp: int, qp_density: int) -> float:
    """The same for a decoder.

    Raises:
        NnbitsError: VALUE_RANGE unless it is a normal binary32 number.
    """
    if not -126 <= qp >> qp_density <= 127:
        raise NnbitsError(
            ReasonCode.VALUE_RANGE, f"the step size of QP {qp} is not a normal binary32 number", path="qp_value"
        )
    return step_size(qp, qp_density)


def qp_range(qp_density: int) -> tuple[int, int]:
    """Smallest and largest qp_value: it has 6 + qp_density bits (section 9.1)."""
    half = 1 << (5 + qp_density)
    return -half, half - 1


def default_nonweight_qp(qp: int, qp_density: int) -> int:
    """QP of tensors with fewer than two dimensions, which are few and sensitive (nnc-encoder-notes section 1).

    A step of about 2^-18.75 as NNCodec uses (QP -75 at density 2), or a quarter of the weights' step if that is finer.
    """
    fine = -(75 << qp_density) // 4
    return max(min(qp - (2 << qp_density), fine), qp_range(qp_density)[0])


def nearest_qp(step: float, qp_density: int) -> int:
    """QP whose step is nearest to ``step`` > 0, unclipped (nnc-encoder-notes section 6)."""
    k = 1 << qp_density
    octave = math.floor(math.log2(step))
    return _round_half_away(octave * k + step * k / 2.0**octave - k)


def _round_half_away(x: float) -> int:
    return math.floor(abs(x) + 0.5) * (1 if x >= 0 else -1)
