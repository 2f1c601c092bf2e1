"""The C core's sparse maps behind typed functions; the same signatures as ``portable``."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core import ffi, lib
from ..entropy.native import check, pointer
from ..errors import NnbitsError, ReasonCode
from .kinds import MapKind, Pattern
from .portable import check_out, read_pattern

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
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Words = NDArray[np.uint8]
Payload = bytes | memoryview


class _Piece:
    """Dimensions in C, and the buffers that a kind needs."""

    def __init__(self, kind: int, shape: Sequence[int]) -> None:
        self.count = len(shape)
        self.dimensions = ffi.new("uint64_t[]", list(shape) or 1)
        sizes = ffi.new("size_t[2]")
        status = lib.nnb_sparse_sizes(kind, self.dimensions, self.count, sizes, sizes + 1)
        check(status, f"sparse map of kind {kind} for shape {tuple(shape)}")
        self.words_size: int = sizes[0]
        self.work = np.empty(sizes[1], np.uint8)

    @property
    def shape(self) -> tuple[Any, int]:
        return self.dimensions, self.count

    @property
    def work_place(self) -> tuple[Any, int]:
        return pointer("void *", self.work), self.work.size


def _bytes(words: Bytes) -> Any:
    return pointer("uint8_t *", words)


def _refused(status: int, what: str) -> None:
    """Like ``check``, with path and hint for a damaged map."""
    if status == ReasonCode.SPARSE_MAP:
        raise NnbitsError(
            ReasonCode.SPARSE_MAP,
            f"{what} is damaged, or disagrees with its shape or count",
            path="map",
            hint="The stream is damaged or of another writer.",
        )
    check(status, what)


def decode(kind: int, payload: Payload, shape: Sequence[int], value_count: int) -> Words:
    """Words of a section of any kind.

    Raises:
        NnbitsError: SPARSE_MAP; LIMIT if this machine cannot hold the map.
    """
    data = np.frombuffer(payload, np.uint8)
    piece = _Piece(kind, shape)
    words = np.empty(piece.words_size, np.uint8)
    status = lib.nnb_sparse_decode(
        kind, _bytes(data), data.size, *piece.shape, value_count, _bytes(words), words.size, *piece.work_place
    )
    _refused(status, f"sparse map of kind {kind}")
    return words


def _keeps_size(shape: Sequence[int]) -> int:
    return sum(-(-d // 64) * 8 for d in shape)


def decode_keeps(payload: Payload, shape: Sequence[int]) -> tuple[Mask | None, ...]:
    """What a section of kind 5 keeps."""
    data = np.frombuffer(payload, np.uint8)
    piece = _Piece(MapKind.STRUCTURED, shape)
    keeps = np.empty(_keeps_size(shape), np.uint8)
    status = lib.nnb_sparse_keeps(_bytes(data), data.size, *piece.shape, _bytes(keeps), keeps.size, *piece.work_place)
    _refused(status, "structured map")
    masks: list[Mask | None] = []
    at = 0
    for axis, d in enumerate(shape):
        size = -(-d // 64) * 8
        flag = data[1 + axis // 8] >> (axis % 8) & 1
        bits = keeps[at : at + size]
        masks.append(np.unpackbits(bits, count=d, bitorder="little").view(np.bool_) if flag else None)
        at += size
    return tuple(masks)


def _encode(
    kind: int, coded: bool, words: Words | None, shape: Sequence[int], capacity: int, pattern: Any, keeps: Bytes | None
) -> bytes:
    piece = _Piece(kind, shape)
    size = ffi.new("size_t *")
    while True:
        section = np.empty(capacity, np.uint8)
        status = lib.nnb_sparse_encode(
            kind,
            coded,
            pointer("uint8_t *", words),
            *piece.shape,
            pattern,
            pointer("uint8_t *", keeps),
            _bytes(section),
            section.size,
            size,
            *piece.work_place,
        )
        if status != ReasonCode.BUFFER_SIZE:
            check(status, f"sparse map of kind {kind}")
            return section[: size[0]].tobytes()
        capacity *= 2


def encode(kind: MapKind, words: Words, shape: Sequence[int], ones: int, coded: bool) -> bytes:
    """Section of kind 1, 2, 3 or 6."""
    count = prod(shape)
    capacity = 64 + (2 * ones if kind == MapKind.GAPS else count // 8 + count // 64)
    return _encode(kind, coded, words, shape, capacity, ffi.NULL, None)


def _c_pattern(pattern: Pattern) -> Any:
    return ffi.new("nnb_sparse_pattern *", (pattern.n, pattern.m, pattern.axis, int(pattern.exact)))


def encode_pattern(words: Words, shape: Sequence[int], pattern: Pattern, coded: bool) -> bytes:
    """Section of kind 4 for words that have the pattern."""
    capacity = 64 + prod(shape) // 4
    return _encode(MapKind.PATTERN, coded, words, shape, capacity, _c_pattern(pattern), None)


def _packed_keeps(keeps: Sequence[Mask | None], shape: Sequence[int]) -> Bytes:
    packed = np.zeros(_keeps_size(shape) or 8, np.uint8)
    at = 0
    for keep, d in zip(keeps, shape, strict=True):
        bits = np.packbits(np.ones(d, np.bool_) if keep is None else keep, bitorder="little")
        packed[at : at + bits.size] = bits
        at += -(-d // 64) * 8
    return packed


def encode_keeps(keeps: Sequence[Mask | None], shape: Sequence[int], coded: bool) -> bytes:
    """Section of kind 5."""
    packed = _packed_keeps(keeps, shape)
    return _encode(MapKind.STRUCTURED, coded, None, shape, 64 + packed.size, ffi.NULL, packed)


def keeps_words(keeps: Sequence[Mask | None], shape: Sequence[int]) -> Words:
    """Words of the mask that has what is kept along every dimension."""
    count = prod(d if keep is None else int(np.count_nonzero(keep)) for keep, d in zip(keeps, shape, strict=True))
    return decode(MapKind.STRUCTURED, encode_keeps(keeps, shape, False), shape, count)


def group_range(words: Words, shape: Sequence[int], m: int, axis: int, limit: int) -> tuple[int, int]:
    """The most and the fewest elements that exist in a group of ``m`` along an axis; there is at least one group.

    If a group has more than ``limit``, the most is ``limit + 1`` and the fewest is anything.
    """
    piece = _Piece(MapKind.PATTERN, shape)
    found = ffi.new("uint32_t[2]")
    check(lib.nnb_sparse_group_range(_bytes(words), *piece.shape, m, axis, limit, found, found + 1), "groups")
    return found[0], found[1]


def fill_pattern(words: Words, shape: Sequence[int], pattern: Pattern) -> Words | None:
    """The words, with the first free places of short groups taken if the pattern is exact; None if it does not fit."""
    p = pattern
    if not 0 <= p.axis < len(shape) or not 1 <= p.n < p.m <= 32 or shape[p.axis] % p.m:
        return None
    filled = words.copy()
    piece = _Piece(MapKind.PATTERN, shape)
    status = lib.nnb_sparse_fill_pattern(_bytes(filled), *piece.shape, _c_pattern(pattern))
    if status == ReasonCode.BAD_OPTION:
        return None
    check(status, "pattern")
    return filled


def nonzero(flat: Array) -> tuple[Words, int]:
    """Words of the elements whose bits are not all zero, and their number."""
    words = np.empty(-(-flat.size // 64) * 8, np.uint8)
    ones = lib.nnb_sparse_nonzero(pointer("void *", flat), flat.size, flat.itemsize, _bytes(words))
    return words, ones


def pack(words: Words, count: int, flat: Array, value_count: int) -> Array:
    """The elements that exist."""
    values = np.empty(value_count, flat.dtype)
    lib.nnb_sparse_pack(_bytes(words), count, flat.itemsize, pointer("void *", flat), pointer("void *", values))
    return values


def expand(words: Words, count: int, values: Array, out: Array | None) -> Array:
    """The dense elements: the values where the bits are, zeros elsewhere."""
    dense = check_out(out, count, values.dtype)
    source = np.ascontiguousarray(values)
    status = lib.nnb_sparse_expand(
        _bytes(words), count, source.itemsize, pointer("void *", source), source.size, pointer("void *", dense)
    )
    check(status, "expansion of a sparse map")
    return dense


def indptr(words: Words, rows: int, columns: int) -> NDArray[np.int64]:
    """Number of ones in front of each row, and in all: int64 ``[rows + 1]``."""
    starts = np.empty(rows + 1, np.int64)
    lib.nnb_sparse_csr(_bytes(words), rows, columns, 8, pointer("void *", starts), ffi.NULL)
    return starts


def csr(words: Words, rows: int, columns: int, dtype: type[np.signedinteger[Any]]) -> tuple[Array, Array]:
    """Columns of the ones, and the starts of the rows."""
    starts = np.empty(rows + 1, dtype)
    size = starts.itemsize
    lib.nnb_sparse_csr(_bytes(words), rows, columns, size, pointer("void *", starts), ffi.NULL)
    places = np.empty(starts[-1], dtype)
    lib.nnb_sparse_csr(_bytes(words), rows, columns, size, ffi.NULL, pointer("void *", places))
    return places, starts
