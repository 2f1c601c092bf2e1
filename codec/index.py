"""The index of an extended stream: which tensors there are and where they lie; its columns are NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from .errors import NnbitsError, ReasonCode
from .limits import MAX_DIMENSION, MAX_ELEMENTS, MAX_NAME_BYTES
from .types import DTYPES, TensorInfo

__all__ = ["Index", "IndexBuilder"]

U64 = NDArray[np.uint64]
_DTYPE_OF: Final = {int(dtype.number): dtype for dtype in DTYPES.values()}
_EXACT: Final = 2.0**62  # products that are estimated below are exact in 64 bits
_COUNTS: Final = 6


@dataclass(frozen=True)
class Index:
    """The current state of a stream.

    Attributes:
        content: the bytes it was read from.
        head: copy of the head.
        au_offset, au_bytes, au_number: of the access units, uint64.
        au_sha256: uint8, one row of 32 for each of them.
        tensors: in order.
        tensor_bytes: of their elements, int64.
        piece_tensor, piece_au, piece_first, piece_elements: of the pieces, int64; ordered by tensor and first element.
        part_offset, part_bytes: of the attachment units, uint64.
        part_sha256: uint8, one row of 32 for each of them.
    """

    content: bytes
    head: bytes
    au_offset: U64
    au_bytes: U64
    au_number: U64
    au_sha256: NDArray[np.uint8]
    tensors: tuple[TensorInfo, ...]
    tensor_bytes: NDArray[np.int64]
    piece_tensor: NDArray[np.int64]
    piece_au: NDArray[np.int64]
    piece_first: NDArray[np.int64]
    piece_elements: NDArray[np.int64]
    part_offset: U64
    part_bytes: U64
    part_sha256: NDArray[np.uint8]

    @cached_property
    def tensor_of(self) -> dict[str, int]:
        """Number of each tensor by name."""
        return {info.name: i for i, info in enumerate(self.tensors)}

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.searchsorted(self.piece_tensor, np.arange(len(self.tensors) + 1))

    @cached_property
    def _by_unit(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        order = np.argsort(self.piece_au, kind="stable")
        return order, np.searchsorted(self.piece_au[order], np.arange(len(self.au_offset) + 1))

    @property
    def au_count(self) -> int:
        """Access units of the file up to the index, replaced ones included."""
        return int(self.au_number.max()) + 1 if self.au_number.size else 0

    def pieces_of(self, tensor: int) -> range:
        """Numbers of a tensor's pieces."""
        return range(int(self._starts[tensor]), int(self._starts[tensor + 1]))

    def pieces_in(self, unit: int) -> list[int]:
        """Numbers of the pieces in an access unit."""
        order, starts = self._by_unit
        numbers: list[int] = order[starts[unit] : starts[unit + 1]].tolist()
        return numbers

    @classmethod
    def from_bytes(cls, content: bytes, *, end: int) -> Index:
        """Read and check the content of an index unit.

        Args:
            content: after decompression.
            end: offset of the index unit, before which everything lies.

        Raises:
            NnbitsError: INDEX if columns contradict each other or the file, UNKNOWN_VALUE, LIMIT, BAD_STRING.
        """
        return _Reader(content, end).read()


class IndexBuilder:
    """Collects what a writer puts into the stream."""

    def __init__(self, head: bytes, infos: Sequence[TensorInfo]) -> None:
        self.head = head
        self.infos = infos
        self.units: list[tuple[int, int, int, bytes]] = []
        self.pieces: list[tuple[int, int, int, int]] = []
        self.parts: list[tuple[int, int, bytes]] = []
        self._tensor_of = {info.name: i for i, info in enumerate(infos)}

    @property
    def au_count(self) -> int:
        """Access units of the file so far, by the numbers they have."""
        return max((number for _, _, number, _ in self.units), default=-1) + 1

    def add_unit(
        self, offset: int, size: int, number: int, digest: bytes, pieces: Iterable[tuple[str, int, int]]
    ) -> None:
        """An access unit with its pieces: name, first element, number of elements."""
        unit = len(self.units)
        self.units.append((offset, size, number, digest))
        self.pieces += [(self._tensor_of[name], first, unit, count) for name, first, count in pieces]

    def add_part(self, offset: int, size: int, digest: bytes) -> None:
        """An attachment unit."""
        self.parts.append((offset, size, digest))

    def to_bytes(self) -> bytes:
        """The content of the index unit."""
        names = [info.name.encode("utf-8") for info in self.infos]
        dimensions = [n for info in self.infos for n in info.shape]
        pieces = sorted(self.pieces)
        counts = (len(self.units), len(names), len(pieces), sum(map(len, names)), len(dimensions), len(self.parts))
        columns = [
            _u64(counts),
            _u64([len(self.head)]),
            self.head,
            *(_u64([unit[i] for unit in self.units]) for i in range(3)),
            b"".join(unit[3] for unit in self.units),
            _u64(np.cumsum([len(name) for name in names], dtype=np.uint64)),
            bytes(info.dtype.number for info in self.infos),
            bytes(len(info.shape) for info in self.infos),
            b"".join(names),
            _u64(dimensions),
            *(_u64([piece[i] for piece in pieces]) for i in (0, 2, 1, 3)),
            *(_u64([part[i] for part in self.parts]) for i in range(2)),
            b"".join(part[2] for part in self.parts),
        ]
        return b"".join(columns)


def _u64(values: Any) -> bytes:
    return np.asarray(values, "<u8").tobytes()


class _Reader:
    def __init__(self, content: bytes, end: int) -> None:
        self.content = content
        self.end = end
        self.at = 0

    def read(self) -> Index:
        units, tensors, pieces, name_bytes, dimensions, parts = map(int, self._u64("counts", _COUNTS))
        (head_size,) = map(int, self._u64("head_size", 1))
        head = self._bytes("head", head_size).tobytes()
        au_offset, au_bytes, au_number = (self._u64(f"au_{n}", units) for n in ("offset", "bytes", "number"))
        au_sha256 = self._bytes("au_sha256", 32 * units).reshape(units, 32)
        name_end = self._u64("name_end", tensors)
        element_type = self._bytes("element_type", tensors)
        dimension_count = self._bytes("dimension_count", tensors)
        names = self._bytes("names", name_bytes).tobytes()
        sizes = self._u64("dimensions", dimensions)
        columns = [self._u64(f"piece_{n}", pieces) for n in ("tensor", "au", "first", "elements")]
        part_offset, part_bytes = (self._u64(f"part_{n}", parts) for n in ("offset", "bytes"))
        part_sha256 = self._bytes("part_sha256", 32 * parts).reshape(parts, 32)
        if self.at != len(self.content):
            _refuse(f"{len(self.content) - self.at} bytes are left after the last column", "index_size")
        self._check_places(au_offset, au_bytes, head_size, "au")
        self._check_places(part_offset, part_bytes, head_size, "part")
        counts = _elements(dimension_count, sizes)
        infos = _infos(name_end, element_type, dimension_count, names, sizes)
        tensor, unit, first, elements = (_small(column, "piece") for column in columns)
        _check_pieces(tensor, unit, first, elements, counts, units)
        return Index(
            self.content,
            head,
            au_offset,
            au_bytes,
            au_number,
            au_sha256,
            infos,
            (counts * _BITS[element_type] + 7) // 8,
            tensor,
            unit,
            first,
            elements,
            part_offset,
            part_bytes,
            part_sha256,
        )

    def _bytes(self, name: str, count: int) -> NDArray[np.uint8]:
        if count > len(self.content) - self.at:
            _refuse(f"{count} bytes are needed, {len(self.content) - self.at} are left", name)
        column = np.frombuffer(self.content, np.uint8, count, self.at)
        self.at += count
        return column

    def _u64(self, name: str, count: int) -> U64:
        column: U64 = np.frombuffer(self._bytes(name, 8 * count).tobytes(), "<u8")
        return column

    def _check_places(self, offset: U64, size: U64, start: int, name: str) -> None:
        """Increasing, without overlap, behind the head and before the index."""
        limit = np.uint64(self.end)
        if (size > limit).any() or (offset > limit - size).any():
            _refuse("something lies behind the index", f"{name}_offset")
        if (np.append(offset, limit) < np.append(np.uint64(start), offset + size)).any():
            _refuse("units overlap or are out of order", f"{name}_offset")


def _small(column: U64, name: str) -> NDArray[np.int64]:
    if column.size and int(column.max()) > MAX_ELEMENTS:
        _refuse("a value is impossibly large", name)
    return column.astype(np.int64)


def _elements(dimension_count: NDArray[np.uint8], sizes: U64) -> NDArray[np.int64]:
    """Elements of each tensor."""
    if int(dimension_count.sum(dtype=np.uint64)) != len(sizes):
        _refuse("the dimensions do not add up", "dimension_count")
    if sizes.size and int(sizes.max()) > MAX_DIMENSION:
        _refuse("a dimension is too large", "dimensions", ReasonCode.LIMIT)
    ends = np.cumsum(dimension_count, dtype=np.int64)
    counts = np.ones(len(ends), np.int64)
    some = dimension_count > 0
    if some.any():
        starts = (ends - dimension_count)[some]
        with np.errstate(over="ignore", invalid="ignore"):
            counts[some] = np.multiply.reduceat(sizes.astype(np.int64), starts)
            estimate = np.ones(len(ends))
            estimate[some] = np.multiply.reduceat(sizes.astype(np.float64), starts)
        for tensor in np.flatnonzero(~(estimate < _EXACT)).tolist():
            own = sizes[ends[tensor] - dimension_count[tensor] : ends[tensor]]
            counts[tensor] = min(prod(own.tolist()), MAX_ELEMENTS + 1)
    if counts.size and int(counts.max()) > MAX_ELEMENTS:
        tensor = int(counts.argmax())
        _refuse(f"tensor {tensor} has too many elements", f"dimensions[{tensor}]", ReasonCode.LIMIT)
    return counts


def _infos(
    name_end: U64,
    element_type: NDArray[np.uint8],
    dimension_count: NDArray[np.uint8],
    names: bytes,
    sizes: U64,
) -> tuple[TensorInfo, ...]:
    lengths = np.diff(name_end.astype(np.int64), prepend=0)
    last, most = (int(name_end[-1]), int(name_end.max())) if name_end.size else (0, 0)
    if most > len(names) or last != len(names) or (lengths < 0).any():
        _refuse("the names do not add up", "name_end")
    if (lengths > MAX_NAME_BYTES).any():
        i = int((lengths > MAX_NAME_BYTES).argmax())
        _refuse(f"a name of {lengths[i]} bytes", f"names[{i}]", ReasonCode.LIMIT)
    if not _BITS[element_type].all():
        i = int((_BITS[element_type] == 0).argmax())
        _refuse(f"element type {element_type[i]} is not defined", f"element_type[{i}]", ReasonCode.UNKNOWN_VALUE)
    ends = [0, *name_end.tolist()]
    if names.isascii():
        text = names.decode("ascii")
        strings = [text[a:b] for a, b in pairwise(ends)]
    else:
        strings = [_name(names[a:b], i) for i, (a, b) in enumerate(pairwise(ends))]
    if len(set(strings)) != len(strings):
        _refuse("two tensors have the same name", "names", ReasonCode.DUPLICATE_NAME)
    dimensions = sizes.tolist()
    infos = []
    at = 0
    for name, number, count in zip(strings, element_type.tolist(), dimension_count.tolist(), strict=True):
        infos.append(TensorInfo(name, _DTYPE_OF[number], tuple(dimensions[at : at + count])))
        at += count
    return tuple(infos)


def _name(raw: bytes, i: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        _refuse("a name is not UTF-8", f"names[{i}]", ReasonCode.BAD_STRING)


#: Bits that an element takes where it is stored, by the number of its type; 0 for numbers that are none.
_BITS: Final = np.zeros(256, np.int64)
for _number, _dtype in _DTYPE_OF.items():
    _BITS[_number] = _dtype.bits if _dtype.is_packed else 8 * _dtype.itemsize


def _check_pieces(
    tensor: NDArray[np.int64],
    unit: NDArray[np.int64],
    first: NDArray[np.int64],
    elements: NDArray[np.int64],
    sizes: NDArray[np.int64],
    units: int,
) -> None:
    """Each tensor is covered exactly once, in order."""
    if unit.size and int(unit.max()) >= units:
        _refuse("a piece lies in an access unit that is not listed", "piece_au")
    if np.count_nonzero(np.bincount(unit, minlength=units)) != units:
        _refuse("an access unit holds no piece", "piece_au")
    new = np.ones(len(tensor), np.bool_)
    new[1:] = tensor[1:] != tensor[:-1]
    if not np.array_equal(tensor[new], np.arange(len(sizes))):
        _refuse("the pieces are not in the order of the tensors", "piece_tensor")
    ends = first + elements
    begins = np.where(new, 0, np.append(0, ends[:-1])[: len(ends)])
    last = np.append(new[1:], True)[: len(new)]
    if not np.array_equal(first, begins) or not np.array_equal(ends[last], sizes):
        _refuse("the pieces of a tensor do not cover it exactly once", "piece_first")
    if (elements[~(new & last)] == 0).any():
        _refuse("a part without elements", "piece_elements")


def _refuse(message: str, column: str, code: ReasonCode = ReasonCode.INDEX) -> NoReturn:
    raise NnbitsError(code, f"the index is not usable: {message}", path=f"index.{column}")
