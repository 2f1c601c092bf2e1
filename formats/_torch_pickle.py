"""The pickle of a state dict as ``torch.save`` makes it, without torch."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import TensorInfo

from .base import quote

__all__ = ["state_dict_pickle"]

_STORAGES: Final = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
    "complex128": "ComplexDoubleStorage",
}
#: Types of torch without a storage class of their own.
_NEWER: Final = frozenset(
    {
        "uint16",
        "uint32",
        "uint64",
        "complex32",
        "float8_e4m3fn",
        "float8_e5m2",
        "float8_e4m3fnuz",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
    }
)
_ORDERED_DICT: Final = b"ccollections\nOrderedDict\n)R"


def state_dict_pickle(infos: Sequence[TensorInfo]) -> bytes:
    """Protocol 2; tensor ``i`` is contiguous, its storage has the key ``str(i)``.

    Raises:
        NnbitsError: BAD_TENSOR if torch has no such element type.
    """
    parts = [b"\x80\x02", _ORDERED_DICT, b"("]
    for index, info in enumerate(infos):
        parts += [_text(info.name), _tensor(str(index), info)]
    parts.append(b"u.")
    return b"".join(parts)


def _tensor(key: str, info: TensorInfo) -> bytes:
    name = info.dtype.name
    strides = list(accumulate((max(size, 1) for size in info.shape[:0:-1]), lambda a, b: a * b, initial=1))[::-1]
    strides = strides[: len(info.shape)] if info.shape else []
    if name in _STORAGES:
        rebuild, storage, count, last = "_rebuild_tensor_v2", f"torch\n{_STORAGES[name]}", info.size, b""
    elif name in _NEWER:
        rebuild, storage, count = "_rebuild_tensor_v3", "torch.storage\nUntypedStorage", info.nbytes
        last = f"ctorch\n{name}\n".encode()
    else:
        raise NnbitsError(
            ReasonCode.BAD_TENSOR,
            f"tensor {quote(info.name)} has element type {name}, which a PyTorch file cannot hold",
            path=quote(info.name),
        )
    return b"".join(
        [
            f"ctorch._utils\n{rebuild}\n((".encode(),
            _text("storage"),
            f"c{storage}\n".encode(),
            _text(key),
            _text("cpu"),
            _integer(count),
            b"tQ",
            _integer(0),
            b"(" + b"".join(map(_integer, info.shape)) + b"t",
            b"(" + b"".join(map(_integer, strides)) + b"t",
            b"\x89",
            _ORDERED_DICT,
            last,
            b"tR",
        ]
    )


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return b"X" + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data
