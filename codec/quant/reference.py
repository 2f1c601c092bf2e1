"""Quantizers in plain Python and NumPy: the text of nnc-encoder-notes sections 2 and 3; the C core's test."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..entropy.coding import LevelCoding
from ..entropy.rate import RateModel
from ..entropy.scan import segments
from ..entropy.tables import NEXT
from .step import binary32_step_size, step_size

__all__ = ["dequantize", "quantize_dependent", "quantize_uniform", "quantize_weighed"]

Levels = NDArray[np.int32]
Values = NDArray[np.float32]

_LARGEST_UNIFORM = 2**31 - 1
_LARGEST_DEPENDENT = 2**31 - 3

#: Squared steps that a bit is worth at high rates, for uniform and dependent quantization.
_SLOPES = (math.log(2) / 6, 4 * 0.7 * math.log(2) / 6)


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
        while float(np.max(np.abs(scaled))) >= 2.0**31:  # binary32 may round the largest level up
            qp += 1
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
    coding = LevelCoding(height, width, dq=True, scan_order=scan_order)
    return _search(flat, coding, 1.0 / step_size(qp, qp_density), 1.0, None), qp


def _search(flat: Values, coding: LevelCoding, inv: float, weight: float, start: RateModel | None) -> Levels:
    """The trellis in coding order: least sum of ``weight`` times the squared error and, from ``start``, of the bits."""
    order: list[int] = []
    cost = [0.0] + [1e300] * 7
    rates = [start] * 8
    history: list[list[tuple[int, int]]] = []
    for segment in segments(coding):
        for at in range(segment.row * coding.width + segment.start, segment.row * coding.width + segment.stop):
            order.append(at)
            value = float(flat[at])
            sign = -1 if value < 0 else 1
            o = inv * value * sign
            m = max(1, int(o) - 1)
            candidate = {q % 4: (sign * ((q + 1) >> 1), weight * (o - q) ** 2) for q in range(m, m + 4)}
            zero = (0, weight * (o * o))
            reached: list[tuple[float, int, int] | None] = [None] * 8
            for state in range(8):
                t = state & 1
                rate = rates[state]
                for target, (k, distortion) in (
                    (NEXT[state][0], candidate[3 * t]),
                    (NEXT[state][0], zero),
                    (NEXT[state][1], candidate[2 - t]),
                ):
                    total = cost[state] + (distortion + (rate.bits(k, state) if rate else 0))
                    known = reached[target]
                    if known is None or total < known[0]:
                        reached[target] = (total, state, k)
            step = [r for r in reached if r is not None]
            cost = [r[0] for r in step]
            rates = [_after(rates[state], k, state) for _, state, k in step]
            history.append([(r[1], r[2]) for r in step])
        if segment.ends_block_row:
            rates = [start] * 8
    state = min(range(8), key=lambda s: (cost[s], s))
    levels = np.zeros(flat.size, np.int32)
    for at, step_back in zip(reversed(order), reversed(history), strict=True):
        state, k = step_back[state]
        levels[at] = 2 * k - ((k > 0) - (k < 0)) * (state & 1)
    return levels


def _after(rate: RateModel | None, k: int, state: int) -> RateModel | None:
    return rate.after(k, state) if rate else None


def quantize_weighed(
    x: Values,
    qp: int,
    qp_density: int,
    *,
    coding: LevelCoding,
    lambda_scale: float,
    initial_sets: NDArray[np.uint8] | None = None,
) -> tuple[Levels, int]:
    """Quantization that weighs the bits of the levels, as estimated by the entropy coder's model, against their error.

    Args:
        x: float32, ``coding.height * coding.width`` elements, row-major, finite.
        coding: geometry, scan order, unary length, and ``dq`` for the trellis; else the levels are decided one after
            the other.
        lambda_scale: weight of the bits, positive.
        initial_sets: uint8 per context, which the estimates start from; None is set 0 everywhere.

    Returns:
        int32 array L (flat, row-major) and the QP used.
    """
    flat = np.ascontiguousarray(x, np.float32).reshape(-1)
    scaled, qp = _guarded(flat, qp, qp_density, _LARGEST_DEPENDENT if coding.dq else _LARGEST_UNIFORM)
    product = lambda_scale * _SLOPES[coding.dq]
    weight = 32768.0 / product if product * 1e30 > 32768.0 else 1e30
    start = RateModel.start(coding, initial_sets)
    inv = 1.0 / step_size(qp, qp_density)
    if coding.dq:
        return _search(flat, coding, inv, weight, start), qp
    levels = np.zeros(flat.size, np.int32)
    rate = start
    for segment in segments(coding):
        for at in range(segment.row * coding.width + segment.start, segment.row * coding.width + segment.stop):
            o = abs(float(flat[at])) * inv
            magnitude = abs(float(scaled[at]))
            whole = math.floor(magnitude)
            r = whole + (magnitude - whole >= 0.5)
            sign = -1 if flat[at] < 0 else 1
            tried = sorted({0, max(r - 1, min(r, 1)), r})
            costs = [weight * ((o - v) * (o - v)) + rate.bits(sign * v, 0) for v in tried]
            levels[at] = sign * tried[costs.index(min(costs))]
            rate = rate.after(int(levels[at]), 0)
        if segment.ends_block_row:
            rate = start
    return levels, qp


def dequantize(levels: Levels, qp: int, qp_density: int, *, inplace: bool = False) -> Values:
    """fl32(step * fl32(L)) (nnc-entropy 9.3); ``inplace`` is accepted for the C core's sake.

    Raises:
        NnbitsError: VALUE_RANGE if the step is not a normal binary32 number.
    """
    with np.errstate(over="ignore"):
        return np.float32(binary32_step_size(qp, qp_density)) * levels.astype(np.float32)
