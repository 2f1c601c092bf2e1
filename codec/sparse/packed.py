"""Elements of fewer than 8 bits, which share bytes: least significant bits first, the rest of the last byte zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import NnbitsError, ReasonCode

__all__ = ["pack_elements", "unpack_elements"]

Bytes = NDArray[np.uint8]


def unpack_elements(stored: Bytes, count: int, bits: int) -> Bytes:
    """One element a byte.

    Raises:
        NnbitsError: BAD_TENSOR if the stored bytes are not those of ``count`` elements.
    """
    if not 1 <= bits < 8 or stored.dtype != np.uint8 or stored.size != (count * bits + 7) // 8:
        raise NnbitsError(
            ReasonCode.BAD_TENSOR, f"{stored.size} elements of {stored.dtype} for {count} of {bits} bits", path="values"
        )
    planes = np.unpackbits(stored, count=count * bits, bitorder="little").reshape(count, bits)
    return np.packbits(planes, axis=1, bitorder="little").reshape(-1)


def pack_elements(elements: Bytes, bits: int) -> Bytes:
    """The reverse."""
    planes = np.unpackbits(elements[:, None], axis=1, count=bits, bitorder="little")
    return np.packbits(planes.reshape(-1), bitorder="little")
