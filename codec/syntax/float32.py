"""IEEE 754 binary32 bit patterns <-> Python floats, exact for every pattern."""

from __future__ import annotations

import struct
from math import isnan
from typing import Final

__all__ = ["float32_bits", "float32_value"]

_EXPONENT: Final = 0x7F800000
_MANTISSA: Final = 0x007FFFFF


def float32_value(bits: int) -> float:
    """The value of a bit pattern; NaNs keep sign and payload in the float's own pattern."""
    if bits & _EXPONENT == _EXPONENT and bits & _MANTISSA:
        # The hardware conversion would set the quiet bit of a signalling NaN, so widen it by hand.
        wide = (bits >> 31) << 63 | 0x7FF << 52 | (bits & _MANTISSA) << 29
        value: float = struct.unpack("<d", wide.to_bytes(8, "little"))[0]
    else:
        value = struct.unpack("<f", bits.to_bytes(4, "little"))[0]
    return value


def float32_bits(value: float) -> int:
    """The bit pattern of ``value`` rounded to binary32.

    Raises:
        OverflowError: a finite value is too large.
    """
    if isnan(value):
        wide = int.from_bytes(struct.pack("<d", value), "little")
        mantissa = (wide >> 29) & _MANTISSA
        return (wide >> 63) << 31 | _EXPONENT | (mantissa or 1 << 22)
    return int.from_bytes(struct.pack("<f", value), "little")
