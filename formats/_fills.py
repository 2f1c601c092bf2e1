"""How the bytes of a hole of a template become tensors, and tensors the bytes: small named transforms, exact both ways.

A fill is None (the bytes are one tensor's stored elements), or a list whose first item names the transform and whose
others are its arguments; all JSON values, so that it can travel with the model.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.types import DTYPES, Array, LazyTensor, TensorInfo

from . import _blocks
from ._input import Bytes

__all__ = [
    "Fill",
    "check_fill",
    "decode_varints",
    "encode_varints",
    "inflate",
    "merge",
    "plain",
    "raw_deflate",
    "split",
]

Fill = list[Any] | None


@dataclass(frozen=True)
class _Transform:
    """``split`` makes tensor ``index`` (stored elements) from the bytes, ``merge`` the bytes from all tensors."""

    split: Callable[[list[Any], Bytes, Sequence[TensorInfo], int], Array]
    merge: Callable[[list[Any], Sequence[Array], Sequence[TensorInfo]], Bytes]
    arguments: Callable[[list[Any]], bool]


def split(fill: Fill, raw: Bytes, infos: Sequence[TensorInfo], index: int) -> Array:
    """Tensor ``index`` of a hole: shape ``infos[index].stored_shape``, its storage dtype.

    Raises:
        NnbitsError: BAD_TENSOR if the bytes do not make such tensors.
    """
    if fill is None:
        return _stored(raw, infos[index])
    return _TRANSFORMS[fill[0]].split(fill[1:], raw, infos, index)


def merge(fill: Fill, arrays: Sequence[Array], infos: Sequence[TensorInfo]) -> Bytes:
    """The bytes of a hole from its tensors.

    Raises:
        NnbitsError: BAD_TENSOR if the tensors do not fit together.
    """
    if fill is None:
        return _bytes(arrays[0])
    return _TRANSFORMS[fill[0]].merge(fill[1:], arrays, infos)


def check_fill(fill: object) -> bool:
    """Whether it is a fill that this module knows, with possible arguments."""
    if fill is None:
        return True
    if not (isinstance(fill, list) and fill and isinstance(fill[0], str) and fill[0] in _TRANSFORMS):
        return False
    return _TRANSFORMS[fill[0]].arguments(fill[1:])


def plain(fill: Fill, tensors: Sequence[LazyTensor]) -> Sequence[LazyTensor]:
    """The tensors of a hole as the format's own library shows them; those without such a view as they are.

    Raises:
        NnbitsError: what the ``read`` of a tensor raises.
    """
    if fill is None:
        return tensors
    if fill[0] == "as" or (fill[0] == "varint" and len(fill) > 1):
        (tensor,) = tensors
        info = TensorInfo(tensor.info.name, DTYPES[fill[1]], tuple(fill[2]) if fill[0] == "as" else tensor.info.shape)
        if info.nbytes != tensor.info.nbytes:
            raise NnbitsError(ReasonCode.METADATA, f"{info} has another size than {tensor.info}", path=info.name)
        ranged, bits = None, tensor.info.dtype.bits
        if tensor.read_range is not None and not 8 % bits:
            ranged = partial(_as_range, tensor.read_range, bits, info)
        return (LazyTensor(info, lambda: _stored(_bytes(tensor.read()), info), ranged),)
    if fill[0] == "blocks":
        return _blocks.plain(fill[1], tensors)
    return tensors


def _as_range(read: Callable[[int, int], Array], bits: int, info: TensorInfo, first: int, count: int) -> Array:
    """Elements of ``info`` from a tensor with the same bytes, of elements of ``bits`` bits that fill bytes."""
    start, stop = first * info.dtype.bits // 8, -(-(first + count) * info.dtype.bits // 8)
    return _bytes(read(start * 8 // bits, (stop - start) * 8 // bits)).view(info.dtype.storage)


def _bytes(array: Array) -> Bytes:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _stored(raw: Bytes, info: TensorInfo) -> Array:
    if raw.size != info.nbytes:
        raise NnbitsError(
            ReasonCode.BAD_TENSOR, f"{info.name!r} needs {info.nbytes} bytes, there are {raw.size}", path=info.name
        )
    return raw.view(info.dtype.storage).reshape(info.stored_shape)


# --- swap: other byte order ------------------------------------------------------------------------------------------


def _swap(width: int, raw: Bytes) -> Bytes:
    return np.ascontiguousarray(raw.reshape(-1, width)[:, ::-1]).reshape(-1)


# --- fortran: first dimension fastest --------------------------------------------------------------------------------


def _fortran_split(_: list[Any], raw: Bytes, infos: Sequence[TensorInfo], index: int) -> Array:
    info = infos[index]
    turned = raw.view(info.dtype.storage).reshape(info.shape[::-1])
    return np.ascontiguousarray(turned.transpose())


def _fortran_merge(_: list[Any], arrays: Sequence[Array], infos: Sequence[TensorInfo]) -> Bytes:
    return _bytes(arrays[0].reshape(infos[0].shape).transpose())


# --- permute: dimensions in another order -----------------------------------------------------------------------------


def _permute_split(order: list[Any], raw: Bytes, infos: Sequence[TensorInfo], index: int) -> Array:
    info = infos[index]
    stored = raw.view(info.dtype.storage).reshape([info.shape[axis] for axis in order])
    return np.ascontiguousarray(stored.transpose(np.argsort(order)))


def _permute_merge(order: list[Any], arrays: Sequence[Array], infos: Sequence[TensorInfo]) -> Bytes:
    return _bytes(arrays[0].reshape(infos[0].shape).transpose(order))


# --- varint: packed numbers of protocol buffers ----------------------------------------------------------------------


def decode_varints(raw: Bytes) -> Array:
    """Values of consecutive base-128 numbers, uint64, one dimension.

    Raises:
        NnbitsError: BAD_TENSOR if the last one is cut, or one has more than 64 bits.
    """
    if not raw.size:
        return np.zeros(0, np.uint64)
    (last,) = np.nonzero(raw < 0x80)
    if not last.size or last[-1] != raw.size - 1:
        raise NnbitsError(ReasonCode.BAD_TENSOR, "the last number of a packed field is cut")
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if int(lengths.max()) > 10:
        raise NnbitsError(ReasonCode.BAD_TENSOR, "a number of a packed field has more than 64 bits")
    values = np.zeros(last.size, np.uint64)
    for place in range(int(lengths.max())):
        there = lengths > place
        part = raw[first[there] + place].astype(np.uint64) & np.uint64(0x7F)
        values[there] |= part << np.uint64(7 * place)
    return values


def encode_varints(values: Array) -> Bytes:
    """The shortest base-128 numbers of uint64 values."""
    values = values.reshape(-1)
    lengths = np.ones(values.size, np.int64)
    for place in range(1, 10):
        lengths += values >> np.uint64(7 * place) != 0
    ends = np.cumsum(lengths)
    raw = np.empty(int(ends[-1]) if ends.size else 0, np.uint8)
    first = ends - lengths
    for place in range(int(lengths.max(initial=0))):
        there = lengths > place
        part = (values[there] >> np.uint64(7 * place)).astype(np.uint8) & np.uint8(0x7F)
        raw[first[there] + place] = part | np.where(lengths[there] > place + 1, 0x80, 0).astype(np.uint8)
    return raw


def _varint_split(_: list[Any], raw: Bytes, infos: Sequence[TensorInfo], index: int) -> Array:
    info = infos[index]
    values = decode_varints(raw)
    if values.size != info.size:
        raise NnbitsError(
            ReasonCode.BAD_TENSOR, f"{info.name!r:.100} needs {info.size} numbers, there are {values.size}"
        )
    return values.astype(f"u{info.dtype.itemsize}").view(info.dtype.storage).reshape(info.shape)


def _varint_merge(_: list[Any], arrays: Sequence[Array], infos: Sequence[TensorInfo]) -> Bytes:
    array = np.ascontiguousarray(arrays[0]).reshape(-1)
    if infos[0].dtype.kind == "int":
        return encode_varints(array.astype(np.int64).view(np.uint64))
    return encode_varints(array.view(f"u{array.itemsize}").astype(np.uint64))


# --- deflate: a compressed member of a zip file ----------------------------------------------------------------------


def raw_deflate(data: Bytes, level: int, memory: int) -> Bytes:
    """The deflate stream that zlib makes, without header."""
    coder = zlib.compressobj(level, zlib.DEFLATED, -15, memory)
    return np.frombuffer(coder.compress(data.data) + coder.flush(), np.uint8)


def inflate(raw: Bytes, size: int) -> Bytes:
    """The ``size`` bytes of a deflate stream.

    Raises:
        NnbitsError: BAD_TENSOR if it is damaged, or gives more or fewer.
    """
    try:
        data = zlib.decompressobj(-15).decompress(raw.data, size + 1)
    except (zlib.error, MemoryError) as error:
        raise NnbitsError(ReasonCode.BAD_TENSOR, f"a compressed member is damaged: {error}") from error
    if len(data) != size:
        raise NnbitsError(ReasonCode.BAD_TENSOR, f"a compressed member has not the {size} bytes announced")
    return np.frombuffer(data, np.uint8)


def _deflate_split(arguments: list[Any], raw: Bytes, infos: Sequence[TensorInfo], index: int) -> Array:
    _, _, prefix, inner = arguments
    skip = len(base64.b64decode(prefix))
    data = inflate(raw, skip + sum(info.nbytes for info in infos))
    return split(inner, data[skip:].copy(), infos, index)


def _deflate_merge(arguments: list[Any], arrays: Sequence[Array], infos: Sequence[TensorInfo]) -> Bytes:
    level, memory, prefix, inner = arguments
    data = np.concatenate([np.frombuffer(base64.b64decode(prefix), np.uint8), merge(inner, arrays, infos)])
    return raw_deflate(data, level, memory)


def _deflate_arguments(arguments: list[Any]) -> bool:
    if len(arguments) != 4:
        return False
    level, memory, prefix, inner = arguments
    return (
        type(level) is int
        and 0 <= level <= 9
        and type(memory) is int
        and 1 <= memory <= 9
        and isinstance(prefix, str)
        and prefix.isascii()
        and not (isinstance(inner, list) and inner[:1] == ["deflate"])
        and check_fill(inner)
    )


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 2**48 for size in value)


_TRANSFORMS: Final = {
    "as": _Transform(
        lambda _, raw, infos, index: _stored(raw, infos[index]),
        lambda _, arrays, infos: _bytes(arrays[0]),
        lambda a: len(a) == 2 and isinstance(a[0], str) and a[0] in DTYPES and _is_shape(a[1]),
    ),
    "swap": _Transform(
        lambda a, raw, infos, index: _stored(_swap(a[0], raw), infos[index]),
        lambda a, arrays, infos: _swap(a[0], _bytes(arrays[0])),
        lambda a: len(a) == 1 and type(a[0]) is int and a[0] in (2, 4, 8),
    ),
    "fortran": _Transform(_fortran_split, _fortran_merge, lambda a: not a),
    "permute": _Transform(
        lambda a, raw, infos, index: _permute_split(a[0], raw, infos, index),
        lambda a, arrays, infos: _permute_merge(a[0], arrays, infos),
        lambda a: (
            len(a) == 1 and isinstance(a[0], list) and sorted(a[0], key=repr) == sorted(range(len(a[0])), key=repr)
        ),
    ),
    "varint": _Transform(
        _varint_split, _varint_merge, lambda a: not a or (len(a) == 1 and isinstance(a[0], str) and a[0] in DTYPES)
    ),
    "deflate": _Transform(_deflate_split, _deflate_merge, _deflate_arguments),
    "blocks": _Transform(
        lambda a, raw, infos, index: _blocks.split(a[0], raw, infos, index),
        lambda a, arrays, infos: _blocks.merge(a[0], arrays, infos),
        lambda a: len(a) == 1 and isinstance(a[0], str) and a[0] in _blocks.BLOCKS,
    ),
}
