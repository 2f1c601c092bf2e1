"""The C core's quantizers behind typed functions; the same signatures as the Python reference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core import ffi, lib
from ..entropy.coding import LevelCoding
from ..entropy.native import c_coding, check, pointer, typed
from ..errors import NnbitsError, ReasonCode

__all__ = ["dequantize", "quantize_dependent", "quantize_uniform", "quantize_weighed"]

Levels = NDArray[np.int32]
Values = NDArray[np.float32]


def _values(x: Values) -> Values:
    if x.dtype != np.float32:
        raise NnbitsError(ReasonCode.BAD_TENSOR, f"values: dtype {x.dtype}, not float32")
    return np.ascontiguousarray(x).reshape(-1)


def _int32(value: int, what: str) -> Any:
    try:
        return ffi.new("int32_t *", value)
    except OverflowError as error:
        raise NnbitsError(ReasonCode.VALUE_RANGE, f"{what} {value}") from error


def _density(qp_density: int) -> int:
    if not 0 <= qp_density <= 7:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"qp_density {qp_density} is not in 0..7")
    return qp_density


def quantize_uniform(x: Values, qp: int, qp_density: int) -> tuple[Levels, int]:
    """Scalar uniform quantization, rounding half away from zero (nnc-encoder-notes section 2).

    Args:
        x: float32, any shape, finite.
        qp: quantization parameter.
        qp_density: 0..7.

    Returns:
        int32 levels (flat) and the QP used, which is higher than ``qp`` if the levels would not fit.

    Raises:
        NnbitsError: BAD_TENSOR for infinite values and NaN, VALUE_RANGE if the step is not a normal binary32 number.
    """
    flat = _values(x)
    levels = np.empty(flat.size, np.int32)
    used = _int32(qp, "QP")
    check(
        lib.nnb_quantize_uniform(
            pointer("float *", flat), flat.size, used, _density(qp_density), pointer("int32_t *", levels)
        ),
        "uniform quantization",
    )
    return levels, used[0]


def quantize_dependent(
    x: Values, qp: int, qp_density: int, *, height: int, width: int, scan_order: int = 0
) -> tuple[Levels, int]:
    """Trellis-coded quantization with eight states, least squared error, no rate term (nnc-encoder-notes section 2).

    Args:
        x: float32, ``height * width`` elements, row-major, finite.
        qp: quantization parameter.
        qp_density: 0..7.
        height: first dimension.
        width: product of the others.
        scan_order: the search runs in this coding order.

    Returns:
        int32 array L (flat, row-major, after the expansion of nnc-entropy 8.2) and the QP used.

    Raises:
        NnbitsError: as :func:`quantize_uniform`.
    """
    flat = _values(x)
    if height < 1 or width < 1 or flat.size != height * width:
        raise NnbitsError(ReasonCode.SHAPE_MISMATCH, f"{flat.size} values for {height} x {width}")
    if not 0 <= scan_order <= 4:
        raise NnbitsError(ReasonCode.UNSUPPORTED_FEATURE, f"scan_order {scan_order}")
    levels = np.empty(flat.size, np.int32)
    work = np.empty(lib.nnb_quantize_work_size(height, width), np.uint8)
    used = _int32(qp, "QP")
    check(
        lib.nnb_quantize_dependent(
            pointer("float *", flat),
            height,
            width,
            scan_order,
            used,
            _density(qp_density),
            pointer("int32_t *", levels),
            pointer("void *", work),
            work.size,
        ),
        "dependent quantization",
    )
    return levels, used[0]


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

    Uniform: greedily, in coding order. Dependent: a trellis in which every state has its own copy of the model
    (nnc-encoder-notes section 3).

    Args:
        x: float32, ``coding.height * coding.width`` elements, row-major, finite.
        qp: quantization parameter.
        qp_density: 0..7.
        coding: geometry, scan order and unary length, and ``dq`` for dependent quantization; contexts are those of
            plain coding whatever it says.
        lambda_scale: weight of the bits, positive.
        initial_sets: uint8 per context, which the estimates start from; None is set 0 everywhere.

    Returns:
        int32 array L (flat, row-major) and the QP used.

    Raises:
        NnbitsError: as :func:`quantize_uniform`; BAD_OPTION for a ``lambda_scale`` that is not positive or above 1e30.
    """
    flat = _values(x)
    if flat.size != coding.height * coding.width:
        raise NnbitsError(ReasonCode.SHAPE_MISMATCH, f"{flat.size} values for {coding.height} x {coding.width}")
    sets = typed(initial_sets, np.uint8, coding.context_count, "initial sets")
    if sets is not None and int(sets.max()) > 8:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"initial set {int(sets.max())} is not in 0..8")
    c = c_coding(coding)
    levels = np.empty(flat.size, np.int32)
    if flat.size == 0:
        return levels, qp
    work = np.empty(lib.nnb_weighed_work_size(c), np.uint8)
    used = _int32(qp, "QP")
    check(
        lib.nnb_quantize_weighed(
            pointer("float *", flat),
            c,
            lambda_scale,
            pointer("uint8_t *", sets),
            used,
            _density(qp_density),
            pointer("int32_t *", levels),
            pointer("void *", work),
            work.size,
        ),
        "weighed quantization",
    )
    return levels, used[0]


def dequantize(
    levels: Levels,
    qp: int,
    qp_density: int,
    *,
    inplace: bool = False,
    codebook: NDArray[np.int32] | None = None,
    zero_offset: int = 0,
) -> Values:
    """Values of levels (nnc-entropy section 9).

    Args:
        levels: int32, any shape.
        qp: quantization parameter of the tensor.
        qp_density: 0..7.
        inplace: the memory of ``levels`` becomes that of the result.
        codebook: entries that the levels select; without it ``fl32(step * fl32(L))``.
        zero_offset: CbZeroOffset.

    Returns:
        float32, in the shape of ``levels``.

    Raises:
        NnbitsError: LEVEL_RANGE for a level outside the codebook, VALUE_RANGE if the step is not a normal binary32
            number.
    """
    step = ffi.new("float *")
    check(lib.nnb_step_size(_int32(qp, "QP")[0], _density(qp_density), step), f"step size of QP {qp}")
    if levels.dtype != np.int32:
        raise NnbitsError(ReasonCode.BAD_TENSOR, f"levels: dtype {levels.dtype}, not int32")
    entries = None if codebook is None else typed(codebook, np.int32, codebook.size, "codebook")
    if zero_offset < 0:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"zero offset {zero_offset}")
    if inplace:
        if not levels.flags.c_contiguous or not levels.flags.writeable:
            raise NnbitsError(ReasonCode.BUFFER_SIZE, "levels: not a writable contiguous array")
        buffer = pointer("void *", levels)
        if entries is None:
            lib.nnb_dequantize_in_place(buffer, levels.size, step[0])
        else:
            status = lib.nnb_dequantize_codebook_in_place(
                buffer, levels.size, step[0], pointer("int32_t *", entries), entries.size, zero_offset
            )
            check(status, "codebook")
        return levels.view(np.float32)
    source = np.ascontiguousarray(levels)
    values = np.empty(levels.shape, np.float32)
    given, made = pointer("int32_t *", source), pointer("float *", values)
    if entries is None:
        lib.nnb_dequantize(given, made, source.size, step[0])
    else:
        status = lib.nnb_dequantize_codebook(
            given, made, source.size, step[0], pointer("int32_t *", entries), entries.size, zero_offset
        )
        check(status, "codebook")
    return values
