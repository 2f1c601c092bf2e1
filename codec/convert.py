"""Exact conversions between element types and the carriers of the standard profile (float32, int32)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .limits import MAX_LEVEL, MIN_LEVEL
from .types import Array, DType

__all__ = [
    "float32_is_exact",
    "from_float32",
    "from_int32",
    "in_standard_profile",
    "int32_is_exact",
    "to_float32",
    "to_int32",
]


def in_standard_profile(dtype: DType) -> bool:
    """Whether the type has a carrier at all: not packed, not complex, not of 8 floating-point bits."""
    return not dtype.is_packed and dtype.kind != "complex" and not (dtype.kind == "float" and dtype.bits == 8)


def to_float32(dtype: DType, stored: Array) -> NDArray[np.float32]:
    """Values as float32; NaN payloads of 16-bit types are kept in the upper mantissa bits.

    Args:
        dtype: a floating-point type.
        stored: array of ``dtype.storage``.
    """
    if dtype.name == "float32":
        return stored
    if dtype.name == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        wide = stored.astype(np.float32)
    if dtype.name == "float16":
        # Hardware conversion quiets signalling NaNs, so their bits are moved by hand.
        nan = np.isnan(wide)
        if nan.any():
            bits = stored.view(np.uint16)[nan].astype(np.uint32)
            wide.view(np.uint32)[nan] = (bits & 0x8000) << 16 | 0x7F800000 | (bits & 0x3FF) << 13
    return wide


def from_float32(dtype: DType, values: NDArray[np.float32]) -> Array:
    """Nearest values of ``dtype`` (ties to even) in its storage; undoes :func:`to_float32` where that is exact."""
    if dtype.name == "float32":
        return values
    if dtype.name == "bfloat16":
        bits = values.view(np.uint32)
        rounded = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
        nan = (bits & 0x7FFFFFFF) > 0x7F800000
        if nan.any():
            kept = bits >> 16
            rounded = np.where(nan, kept | np.where(kept & 0x7F, 0, 0x40), rounded)
        return rounded.astype(np.uint16)
    with np.errstate(over="ignore", invalid="ignore"):
        stored = values.astype(dtype.storage)
    if dtype.name == "float16":
        nan = np.isnan(values)
        if nan.any():
            bits = values.view(np.uint32)[nan]
            payload = bits >> 13 & 0x3FF
            payload |= np.where(payload, 0, 0x200).astype(np.uint32)
            stored.view(np.uint16)[nan] = (bits >> 16 & 0x8000 | 0x7C00 | payload).astype(np.uint16)
    return stored


def float32_is_exact(dtype: DType, stored: Array) -> bool:
    """Whether every element survives the way through float32 bit for bit."""
    if dtype.name != "float64":
        return True
    back = from_float32(dtype, to_float32(dtype, stored))
    return bool(np.array_equal(back.view(np.uint64), stored.view(np.uint64)))


def to_int32(stored: Array) -> NDArray[np.int32]:
    """Values of an integer or bool type as int32; only valid if :func:`int32_is_exact`."""
    return stored.astype(np.int32)


def from_int32(dtype: DType, values: NDArray[np.int32]) -> Array:
    """Values of ``dtype`` in its storage; :func:`int32_fits` tells whether they can be."""
    return values.astype(dtype.storage)


def int32_is_exact(dtype: DType, stored: Array) -> bool:
    """Whether every value lies in the range of int32."""
    if dtype.kind == "bool" or dtype.bits < 32 or dtype.name == "int32" or stored.size == 0:
        return True
    return bool(int(stored.min()) >= MIN_LEVEL and int(stored.max()) <= MAX_LEVEL)
