"""The index of an extended stream: which tensors there are and where they lie; its columns are NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from .errors import NnbitsError, ReasonCode
from .limits import MAX_DIMENSION, MAX_ELEMENTS, MAX_NAME_BYTES
from .types import DTYPES, ElementType, TensorInfo

__all__ = ["Index", "IndexBuilder"]

U64 = NDArray[np.uint64]
_DTYPE_OF: Final = {dtype.number: dtype for dtype in DTYPES.values()}
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
        infos = _infos(name_end, element_type, dimension_count, names, sizes)
        tensor, unit, first, elements = (_small(column, "piece") for column in columns)
        _check_pieces(tensor, unit, first, elements, [info.size for info in infos], units)
        return Index(
            self.content,
            head,
            au_offset,
            au_bytes,
            au_number,
            au_sha256,
            infos,
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


def _infos(
    name_end: U64, element_type: NDArray[np.uint8], dimension_count: NDArray[np.uint8], names: bytes, sizes: U64
) -> tuple[TensorInfo, ...]:
    ends = [0, *map(int, name_end)]
    if ends[-1] != len(names) or any(b < a for a, b in pairwise(ends)):
        _refuse("the names do not add up", "name_end")
    if int(dimension_count.sum(dtype=np.uint64)) != len(sizes):
        _refuse("the dimensions do not add up", "dimension_count")
    if sizes.size and int(sizes.max()) > MAX_DIMENSION:
        _refuse("a dimension is too large", "dimensions", ReasonCode.LIMIT)
    infos = []
    at = 0
    dimensions = sizes.tolist()
    for i, (number, count) in enumerate(zip(element_type.tolist(), dimension_count.tolist(), strict=True)):
        raw = names[ends[i] : ends[i + 1]]
        if number not in _NUMBERS:
            _refuse(f"element type {number} is not defined", f"element_type[{i}]", ReasonCode.UNKNOWN_VALUE)
        if len(raw) > MAX_NAME_BYTES:
            _refuse(f"a name of {len(raw)} bytes", f"names[{i}]", ReasonCode.LIMIT)
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            _refuse("a name is not UTF-8", f"names[{i}]", ReasonCode.BAD_STRING)
        info = TensorInfo(name, _DTYPE_OF[ElementType(number)], tuple(dimensions[at : at + count]))
        if info.size > MAX_ELEMENTS:
            _refuse(f"tensor {name!r} has {info.size} elements", f"dimensions[{i}]", ReasonCode.LIMIT)
        infos.append(info)
        at += count
    if len({info.name for info in infos}) != len(infos):
        _refuse("two tensors have the same name", "names", ReasonCode.DUPLICATE_NAME)
    return tuple(infos)


_NUMBERS: Final = frozenset(map(int, ElementType))


def _check_pieces(
    tensor: NDArray[np.int64],
    unit: NDArray[np.int64],
    first: NDArray[np.int64],
    elements: NDArray[np.int64],
    sizes: list[int],
    units: int,
) -> None:
    """Each tensor is covered exactly once, in order."""
    if unit.size and int(unit.max()) >= units:
        _refuse("a piece lies in an access unit that is not listed", "piece_au")
    if np.unique(unit).size != units:
        _refuse("an access unit holds no piece", "piece_au")
    new = np.ones(len(tensor), np.bool_)
    new[1:] = tensor[1:] != tensor[:-1]
    if not np.array_equal(tensor[new], np.arange(len(sizes))):
        _refuse("the pieces are not in the order of the tensors", "piece_tensor")
    ends = first + elements
    begins = np.where(new, 0, np.append(0, ends[:-1])[: len(ends)])
    last = np.append(new[1:], True)[: len(new)]
    if not np.array_equal(first, begins) or not np.array_equal(ends[last], np.array(sizes, np.int64)):
        _refuse("the pieces of a tensor do not cover it exactly once", "piece_first")
    if (elements[~(new & last)] == 0).any():
        _refuse("a part without elements", "piece_elements")


def _refuse(message: str, column: str, code: ReasonCode = ReasonCode.INDEX) -> NoReturn:
    raise NnbitsError(code, f"the index is not usable: {message}", path=f"index.{column}")
