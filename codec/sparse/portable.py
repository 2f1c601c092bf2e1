"""The same functions as in ``native``, with NumPy and the reference only.

``words`` is a mask of bits, least significant first, in uint8 of whole 64-bit words.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import NnbitsError, ReasonCode
from . import reference
from .kinds import WORD, MapKind, Pattern

__all__ = [
    "csr",
    "decode",
    "decode_keeps",
    "encode",
    "encode_keeps",
    "encode_pattern",
    "expand",
    "fill_pattern",
    "group_range",
    "indptr",
    "keeps_words",
    "nonzero",
    "pack",
    "read_pattern",
]

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Words = NDArray[np.uint8]
Payload = bytes | memoryview


def to_words(mask: Mask) -> Words:
    """The words of a flat mask."""
    words = np.zeros(-(-mask.size // WORD) * 8, np.uint8)
    words[: (mask.size + 7) // 8] = np.packbits(mask, bitorder="little")
    return words


def to_mask(words: Words, count: int) -> Mask:
    """The flat mask of the first ``count`` bits."""
    return np.unpackbits(words, count=count, bitorder="little").view(np.bool_)


def encode(kind: MapKind, words: Words, shape: Sequence[int], ones: int, coded: bool) -> bytes:
    """Section of kind 1, 2, 3 or 6."""
    return reference.encode(kind, to_mask(words, prod(shape)), shape, coded)


def decode(kind: int, payload: Payload, shape: Sequence[int], value_count: int) -> Words:
    """Words of a section of any kind.

    Raises:
        NnbitsError: SPARSE_MAP.
    """
    return to_words(reference.decode(kind, payload, shape, value_count))


def encode_pattern(words: Words, shape: Sequence[int], pattern: Pattern, coded: bool) -> bytes:
    """Section of kind 4 for words that have the pattern."""
    return reference.encode_pattern(to_mask(words, prod(shape)), shape, pattern, coded)


def read_pattern(payload: Payload) -> Pattern:
    """The pattern of a section that was decoded."""
    _, n, m, axis, exact = bytes(payload[:5])
    return Pattern(n, m, axis, bool(exact))


def encode_keeps(keeps: Sequence[Mask | None], shape: Sequence[int], coded: bool) -> bytes:
    """Section of kind 5."""
    return reference.encode_keeps(keeps, coded)


def decode_keeps(payload: Payload, shape: Sequence[int]) -> tuple[Mask | None, ...]:
    """What a section of kind 5 keeps."""
    return tuple(reference.decode_keeps(np.frombuffer(payload, np.uint8), shape))


def keeps_words(keeps: Sequence[Mask | None], shape: Sequence[int]) -> Words:
    """Words of the mask that has what is kept along every dimension."""
    return to_words(reference.keeps_mask(keeps, shape))


def group_range(words: Words, shape: Sequence[int], m: int, axis: int, limit: int) -> tuple[int, int]:
    """The most and the fewest elements that exist in a group of ``m`` along an axis; there is at least one group.

    If a group has more than ``limit``, the most is ``limit + 1`` and the fewest is anything.
    """
    counts = np.count_nonzero(reference.groups(to_mask(words, prod(shape)), shape, m, axis), axis=1)
    return min(int(counts.max()), limit + 1), int(counts.min())


def fill_pattern(words: Words, shape: Sequence[int], pattern: Pattern) -> Words | None:
    """The words, with the first free places of short groups taken if the pattern is exact; None if it does not fit."""
    p = pattern
    if not 0 <= p.axis < len(shape) or not 1 <= p.n < p.m <= 32 or shape[p.axis] % p.m:
        return None
    rows = reference.groups(to_mask(words, prod(shape)), shape, p.m, p.axis)
    missing = p.n - np.count_nonzero(rows, axis=1)
    if (missing < 0).any():
        return None
    if not p.exact or not missing.any():
        return words
    free = ~rows
    rows = rows | (free & (np.cumsum(free, axis=1) <= missing[:, None]))
    return to_words(reference.ungroup(rows, shape, p.m, p.axis))


def nonzero(flat: Array) -> tuple[Words, int]:
    """Words of the elements whose bits are not all zero, and their number."""
    bits = flat.view(np.uint8 if flat.itemsize == 1 else np.dtype(f"u{min(flat.itemsize, 8)}"))
    mask = bits != 0
    if flat.itemsize == 16:
        mask = mask[0::2] | mask[1::2]
    return to_words(mask), int(np.count_nonzero(mask))


def pack(words: Words, count: int, flat: Array, value_count: int) -> Array:
    """The elements that exist."""
    return flat[to_mask(words, count)]


def check_out(out: Array | None, count: int, dtype: np.dtype[Any]) -> Array:
    """``out`` flat, or a new array.

    Raises:
        NnbitsError: BUFFER_SIZE.
    """
    if out is None:
        return np.empty(count, dtype)
    if out.size != count or out.dtype != dtype or not out.flags.c_contiguous or not out.flags.writeable:
        raise NnbitsError(
            ReasonCode.BUFFER_SIZE, f"out: not a writable contiguous array of {count} {dtype}", path="out"
        )
    return out.reshape(-1)


def expand(words: Words, count: int, values: Array, out: Array | None) -> Array:
    """The dense elements: the values where the bits are, zeros elsewhere."""
    dense = check_out(out, count, values.dtype)
    raw = dense.view(np.uint8).reshape(count, dense.itemsize)
    raw[:] = 0
    raw[to_mask(words, count)] = np.ascontiguousarray(values).view(np.uint8).reshape(-1, dense.itemsize)
    return dense


def indptr(words: Words, rows: int, columns: int) -> NDArray[np.int64]:
    """Number of ones in front of each row, and in all: int64 ``[rows + 1]``."""
    starts = np.zeros(rows + 1, np.int64)
    counts = np.count_nonzero(to_mask(words, rows * columns).reshape(rows, columns), axis=1)
    np.cumsum(counts, out=starts[1:])
    return starts


def csr(words: Words, rows: int, columns: int, dtype: type[np.signedinteger[Any]]) -> tuple[Array, Array]:
    """Columns of the ones, and the starts of the rows."""
    places = np.flatnonzero(to_mask(words, rows * columns))
    return (places % columns if columns else places).astype(dtype), indptr(words, rows, columns).astype(dtype)
