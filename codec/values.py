"""The value sections of access units: how the elements of a piece stand in the data unit (docs/format.md)."""

from __future__ import annotations

from typing import Final

import numpy as np

from .errors import NnbitsError, ReasonCode
from .syntax import ValueCoding
from .types import Array, DType

__all__ = ["decode_values", "encode_values", "stored_bytes"]

_EMPTY: Final = memoryview(b"")


def stored_bytes(dtype: DType, count: int) -> int:
    """Bytes of ``count`` raw elements."""
    return (count * dtype.bits + 7) // 8 if dtype.is_packed else count * dtype.itemsize


def encode_values(
    stored: Array, dtype: DType, *, exact: bool = True, row_length: int = 0
) -> tuple[ValueCoding, memoryview]:
    """The shortest section that holds the elements bit by bit.

    Args:
        stored: array of ``dtype.storage``, any shape.
        dtype: its element type.
        exact: False to leave them raw.
        row_length: elements of a row, 0 if there are none; a hint.

    Returns:
        NOTHING, RAW or LOSSLESS, and the bytes of the section.
    """
    raw = memoryview(np.ascontiguousarray(stored).reshape(-1).view(np.uint8).data)
    if not np.frombuffer(raw, np.uint8).any():
        return ValueCoding.NOTHING, _EMPTY
    return ValueCoding.RAW, raw


def decode_values(coding: ValueCoding, section: memoryview, dtype: DType, count: int) -> Array:
    """Inverse of :func:`encode_values`.

    Args:
        coding: NOTHING, RAW or LOSSLESS.
        section: its bytes; of the right length if they are raw.
        dtype: element type.
        count: number of elements.

    Returns:
        A new one-dimensional array of ``dtype.storage``; of ``stored_bytes`` bytes if the type is packed.

    Raises:
        NnbitsError: VALUE_RANGE for a bool that is neither 0 nor 1, RESERVED_BITS for bits behind the last element.
    """
    if coding == ValueCoding.NOTHING:
        return np.zeros(stored_bytes(dtype, count) // dtype.itemsize, dtype.storage)
    raw = np.frombuffer(section, np.uint8).copy()
    if dtype.kind == "bool" and raw.size and raw.max() > 1:
        raise NnbitsError(ReasonCode.VALUE_RANGE, "a bool is neither 0 nor 1", path="values")
    if dtype.is_packed and (used := count * dtype.bits % 8) and int(raw[-1]) >> used:
        raise NnbitsError(ReasonCode.RESERVED_BITS, "bits behind the last element are set", path="values")
    return raw.view(dtype.storage)
