"""Quantizers in plain Python and NumPy: the text of nnc-encoder-notes section 2; the C core's test."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..entropy.coding import LevelCoding
from ..entropy.scan import segments
from ..entropy.tables import NEXT
from .step import binary32_step_size, step_size

__all__ = ["dequantize", "quantize_dependent", "quantize_uniform"]

Levels = NDArray[np.int32]
Values = NDArray[np.float32]

_LARGEST_UNIFORM = 2**31 - 1
_LARGEST_DEPENDENT = 2**31 - 3


def quantize_uniform(x: Values, qp: int, qp_density: int) -> tuple[Levels, int]:
    """Scalar uniform quantization, rounding half away from zero.

    Args:
        x: float32, any shape, finite.

    Returns:
        int32 levels (flat) and the QP used, which is higher than ``qp`` if the levels would not fit.
    """
    flat = np.ascontiguousarray(x, np.float32).reshape(-1)
    scaled, qp = _guarded(flat, qp, qp_density, _LARGEST_UNIFORM)
    magnitude = np.abs(scaled).astype(np.float64)
    rounded = np.floor(magnitude)
    rounded += magnitude - rounded >= 0.5
    return np.copysign(rounded, scaled).astype(np.int64).astype(np.int32), qp


def _guarded(flat: Values, qp: int, qp_density: int, largest: int) -> tuple[Values, int]:
    """x / step in float32 and the QP, raised where a level would overflow (the notes' overflow guard)."""

    def scale(qp: int) -> Values:
        with np.errstate(over="ignore"):
            return flat * (np.float32(1) / np.float32(step_size(qp, qp_density)))

    scaled = scale(qp)
    peak = float(np.max(np.abs(scaled), initial=0))
    if math.floor(peak + 0.5) > largest:
        k = 1 << qp_density
        s = float(np.max(np.abs(flat))) / _LARGEST_DEPENDENT
        base = math.floor(math.log2(s)) * k
        qp = math.ceil(base + s * k / 2.0 ** (base // k) - k)
        scaled = scale(qp)
    return scaled, qp


def quantize_dependent(
    x: Values, qp: int, qp_density: int, *, height: int, width: int, scan_order: int = 0
) -> tuple[Levels, int]:
    """Trellis-coded quantization with eight states, least squared error, no rate term.

    Args:
        x: float32, ``height * width`` elements, row-major, finite.

    Returns:
        int32 array L (flat, row-major, after the expansion of nnc-entropy 8.2) and the QP used.
    """
    flat = np.ascontiguousarray(x, np.float32).reshape(-1)
    _, qp = _guarded(flat, qp, qp_density, _LARGEST_DEPENDENT)
    inv = 1.0 / step_size(qp, qp_density)
    coding = LevelCoding(height, width, dq=True, scan_order=scan_order)
    order = [at for s in segments(coding) for at in range(s.row * width + s.start, s.row * width + s.stop)]
    cost = [0.0] + [1e300] * 7
    history: list[list[tuple[int, int]]] = []
    for at in order:
        value = float(flat[at])
        sign = -1 if value < 0 else 1
        o = inv * value * sign
        m = max(1, int(o) - 1)
        candidate = {q % 4: (sign * ((q + 1) >> 1), (o - q) ** 2) for q in range(m, m + 4)}
        zero = (0, o * o)
        reached: list[tuple[float, int, int] | None] = [None] * 8
        for state in range(8):
            t = state & 1
            branches = ((NEXT[state][0], candidate[3 * t]), (NEXT[state][0], zero), (NEXT[state][1], candidate[2 - t]))
            for target, (k, distortion) in branches:
                total = cost[state] + distortion
                known = reached[target]
                if known is None or total < known[0]:
                    reached[target] = (total, state, k)
        step = [r for r in reached if r is not None]
        cost = [r[0] for r in step]
        history.append([(r[1], r[2]) for r in step])
    state = min(range(8), key=lambda s: (cost[s], s))
    levels = np.zeros(flat.size, np.int32)
    for at, step_back in zip(reversed(order), reversed(history), strict=True):
        state, k = step_back[state]
        levels[at] = 2 * k - ((k > 0) - (k < 0)) * (state & 1)
    return levels, qp


def dequantize(levels: Levels, qp: int, qp_density: int, *, inplace: bool = False) -> Values:
    """fl32(step * fl32(L)) (nnc-entropy 9.3); ``inplace`` is accepted for the C core's sake.

    Raises:
        NnbitsError: VALUE_RANGE if the step is not a normal binary32 number.
    """
    with np.errstate(over="ignore"):
        return np.float32(binary32_step_size(qp, qp_density)) * levels.astype(np.float32)
