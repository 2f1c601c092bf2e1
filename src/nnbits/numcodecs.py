"""A codec for numcodecs and zarr: exact coding of arrays of numbers, made for weights.

Importing :mod:`numcodecs` is enough: the package registers the codec under the id ``nnbits``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_contiguous_ndarray_like, ndarray_copy

from .codec.errors import NnbitsError, ReasonCode
from .codec.lossless import Speed, decode_values, encode_values
from .codec.types import DTYPES, Array

__all__ = ["NNBits"]

_COUNT_BYTES = 8


class NNBits(Codec):  # type: ignore[misc]
    """Exact coding of one chunk.

    Args:
        dtype: name of the element type, e.g. ``float32`` or ``bfloat16``; None to take that of the array given, which
            zarr keeps and passes to :meth:`decode` as the array to fill.
        row_length: elements of a row, 0 if that is unknown; a hint that makes rows of unequal scale smaller.
        speed: ``fast``, ``balanced`` or ``small``.

    Raises:
        NnbitsError: BAD_OPTION for an unknown element type.
    """

    codec_id: ClassVar[str] = "nnbits"

    def __init__(self, dtype: str | None = None, row_length: int = 0, speed: Speed = "balanced") -> None:
        if dtype is not None and dtype not in DTYPES:
            raise NnbitsError(ReasonCode.BAD_OPTION, f"{dtype!r} is no element type", path="dtype")
        self.dtype = dtype
        self.row_length = row_length
        self.speed = speed

    def encode(self, buf: Any) -> bytes:
        """The chunk as bytes: number of its bytes, element type, payload (docs/lossless.md)."""
        array = ensure_contiguous_ndarray_like(buf, flatten=False)
        name = self.dtype or array.dtype.name
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        dtype = DTYPES.get(name, DTYPES["uint8"])
        if raw.size % dtype.itemsize or array.dtype.byteorder == ">" or dtype.kind == "bool":
            dtype = DTYPES["uint8"]
        payload = encode_values(raw.view(dtype.storage), dtype, row_length=self.row_length, speed=self.speed)
        return raw.size.to_bytes(_COUNT_BYTES, "little") + bytes([dtype.number]) + payload

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The bytes of the chunk again; into ``out`` if that is given.

        Raises:
            NnbitsError: TRUNCATED, UNKNOWN_VALUE, LOSSLESS_BLOCK, SHAPE_MISMATCH if ``out`` has another size.
        """
        data = memoryview(ensure_contiguous_ndarray_like(buf)).cast("B")
        if len(data) < _COUNT_BYTES + 1:
            raise NnbitsError(ReasonCode.TRUNCATED, "the chunk is shorter than its header", offset=len(data))
        size = int.from_bytes(data[:_COUNT_BYTES], "little")
        dtype = next((d for d in DTYPES.values() if d.number == data[_COUNT_BYTES]), None)
        if dtype is None or dtype.is_packed:
            raise NnbitsError(ReasonCode.UNKNOWN_VALUE, "the chunk has an unknown element type", offset=_COUNT_BYTES)
        if size % dtype.itemsize:
            raise NnbitsError(ReasonCode.SHAPE_MISMATCH, "the chunk is not made of whole elements", offset=0)
        if out is not None:
            target: Array = ensure_contiguous_ndarray_like(out).view(np.uint8).reshape(-1)
            if target.size != size:
                raise NnbitsError(ReasonCode.SHAPE_MISMATCH, f"{size} bytes do not fit in {target.size}", path="out")
        values = decode_values(data[_COUNT_BYTES + 1 :], dtype, size // dtype.itemsize)
        return ndarray_copy(values.view(np.uint8), out) if out is not None else values.view(np.uint8).data
