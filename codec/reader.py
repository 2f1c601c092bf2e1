"""Random access to an extended stream: the end, the index, then only the access units that are asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from threading import Lock
from typing import Any, Final

import numpy as np

from .access import (
    AccessUnit,
    decode_piece,
    decode_pieces,
    decode_sparse,
    dtype_of,
    parse_access_unit,
    tensor_info,
)
from .attachments import read_attachments
from .base import Base, digest_text
from .errors import NnbitsError, ReasonCode
from .head import Head, UpdateOf, decompress, parse_head
from .index import Index
from .integrity import check_crc32c, crc32c, sha256
from .limits import DEFAULT_LIMITS, Limits
from .parallel import ordered_map
from .sparse import SparseMap, join_maps
from .syntax import (
    END_UNIT_BYTES,
    AccessUnitRelation,
    EndUnit,
    IndexUnit,
    ParameterSets,
    ParsedUnit,
    Piece,
    parse_unit,
)
from .types import Array, Attachment, LazyTensor, Model, TensorInfo, shaped
from .values import stored_bytes

__all__ = [
    "CUT_HINT",
    "ExtendedStream",
    "State",
    "check_range",
    "check_relation",
    "index_content",
    "read_end",
    "read_state",
    "row_range",
    "stored_index",
]

_TAIL_BYTES: Final = 1 << 16  # what is read first; usually holds the index
_CACHE_BYTES: Final = 1 << 24
_RUN_BYTES: Final = 1 << 24  # neighbouring access units are fetched together up to this
_THREAD_RUN_BYTES: Final = 1 << 22  # ... by one of several threads
_GAP_BYTES: Final = 1 << 14
CUT_HINT: Final = "The file is cut or damaged: fetch it again, or save what is complete with nnbits recover"


@dataclass(frozen=True)
class State:
    """A state of the stream: its end unit and where that is, its index, and its head."""

    end: EndUnit
    end_offset: int
    index: Index
    head: Head

    @property
    def digest(self) -> bytes:
        """The model digest."""
        return self.end.model_digest


def read_end(data: memoryview, offset: int) -> EndUnit | None:
    """An end unit, or None if the bytes are none or were damaged.

    Args:
        data: END_UNIT_BYTES bytes.
        offset: theirs in the stream.
    """
    try:
        body = parse_unit(data, index=0, offset=offset, parameters=ParameterSets()).body
    except NnbitsError:
        return None
    if not isinstance(body, EndUnit) or body.end_crc32c != crc32c(data[:-4]) or any(body.reserved_zero):
        return None
    return body


def read_state(
    source: Any, end_offset: int, limits: Limits, tail: tuple[int, memoryview] | None = None
) -> State | None:
    """The state that ends at ``end_offset``; None if there is no end unit.

    Args:
        source: a :class:`~nnbits.codec.ranges.RangeSource`.
        tail: bytes that are there already, with their offset.

    Raises:
        NnbitsError: CHECKSUM, DIGEST, INDEX, COMPRESSED_DATA, LIMIT, and the errors of the head.
    """

    def fetch(offset: int, size: int) -> memoryview:
        if tail is not None and offset >= tail[0] and offset + size <= tail[0] + len(tail[1]):
            return tail[1][offset - tail[0] : offset - tail[0] + size]
        return memoryview(source.read_range(offset, size))

    if end_offset < 0 or end_offset > source.size - END_UNIT_BYTES:
        return None
    end = read_end(fetch(end_offset, END_UNIT_BYTES), end_offset)
    if end is None:
        return None
    if end.index_offset + end.index_bytes != end_offset:
        raise NnbitsError(
            ReasonCode.INDEX, "the index does not stand before the end unit", path="end.index_offset", offset=end_offset
        )
    content = _index_content(fetch(end.index_offset, end.index_bytes), end.index_offset, limits)
    if sha256(content) != end.model_digest:
        raise NnbitsError(
            ReasonCode.DIGEST, "the index does not have the model digest", path="end.model_digest", offset=end_offset
        )
    try:
        index = Index.from_bytes(content, end=end.index_offset)
        if end.au_count != index.au_count:
            raise NnbitsError(ReasonCode.INDEX, "the end unit counts other access units", path="end.au_count")
        head = parse_head(memoryview(index.head))
        if head is None or len(head.data) != len(index.head):
            raise NnbitsError(ReasonCode.INDEX, "the head in the index is none", path="index.head")
    except NnbitsError as error:
        error.offset = end.index_offset if error.offset is None else error.offset
        raise
    return State(end, end_offset, index, head)


def index_content(data: memoryview, unit: ParsedUnit, body: IndexUnit, limits: Limits) -> bytes:
    """The decompressed content of an index unit.

    Raises:
        NnbitsError: CHECKSUM, COMPRESSED_DATA, MEMORY_BUDGET.
    """
    start = unit.payload_offset
    check_crc32c(body.index_crc32c, crc32c(data[start - 8 :]), "index.index_crc32c", unit.offset)
    if body.index_size > limits.max_index_bytes:
        raise NnbitsError(
            ReasonCode.MEMORY_BUDGET,
            f"the index takes {body.index_size} bytes",
            path="index.index_size",
            offset=unit.offset,
            hint="Raise Limits.max_index_bytes if that is right",
        )
    return decompress(data[start:], body.index_size, "index.index_zstd", unit.offset + start)


def _index_content(data: memoryview, offset: int, limits: Limits) -> bytes:
    unit = parse_unit(data, index=0, offset=offset, parameters=ParameterSets())
    if not isinstance(unit.body, IndexUnit):
        raise NnbitsError(ReasonCode.INDEX, "there is no index unit", path="end.index_offset", offset=offset)
    return index_content(data, unit, unit.body, limits)


class ExtendedStream:
    """An extended stream over a source with random access; thread-safe.

    Args:
        source: a :class:`~nnbits.codec.ranges.RangeSource`.
        state: which of its states; default: the last.
        limits: bounds on what decoding may cost.
        base: of an update, the model whose bits it changes; without it only what is complete can be read.
    """

    def __init__(self, source: Any, state: State, *, limits: Limits = DEFAULT_LIMITS, base: Base | None = None) -> None:
        self.source = source
        self.state = state
        self.index = state.index
        self.head = state.head
        self.limits = limits
        self.base = base
        self._cache: OrderedDict[int, AccessUnit] = OrderedDict()
        self._cached = 0
        self._lock = Lock()
        sizes = self.index.tensor_bytes
        if sizes.size and int(sizes.max()) > limits.max_tensor_bytes:
            info = self.index.tensors[int(sizes.argmax())]
            raise NnbitsError(
                ReasonCode.MEMORY_BUDGET,
                f"tensor {info.name!r} takes {info.nbytes} bytes",
                path="index.dimensions",
                hint="Raise Limits.max_tensor_bytes if that is right",
            )

    @classmethod
    def open(cls, source: Any, *, limits: Limits = DEFAULT_LIMITS, base: Base | None = None) -> ExtendedStream | None:
        """Open the last state; None if the source does not end in an end unit.

        Raises:
            NnbitsError: as :func:`read_state`.
        """
        start = max(0, source.size - _TAIL_BYTES)
        tail = memoryview(source.read_range(start, source.size - start))
        state = read_state(source, source.size - END_UNIT_BYTES, limits, (start, tail))
        return None if state is None else cls(source, state, limits=limits, base=base)

    @property
    def update(self) -> UpdateOf | None:
        """What the stream changes; None if it is a model."""
        return self.head.metadata.update

    def check_base(self) -> None:
        """Refuse another base than the one that the update was made for.

        Raises:
            NnbitsError: BASE_MISSING, BASE_MISMATCH.
        """
        if self.update is None:
            return
        if self.base is None:
            raise NnbitsError(
                ReasonCode.BASE_MISSING,
                f"the stream is an update; it applies to {digest_text(self.update.base)}",
                path="update.base",
                hint="Apply it to its base: nnbits apply, or nnbits.open with base=",
            )
        if self.base.digest != self.update.base_digest:
            raise NnbitsError(
                ReasonCode.BASE_MISMATCH,
                f"the update applies to the model {digest_text(self.update.base)}, "
                f"not to {digest_text(self.base.digest.hex())}",
                path="update.base",
                hint="Apply the updates in order, each to the model it was made for",
            )

    @property
    def digest(self) -> bytes:
        """The model digest, 32 bytes."""
        return self.state.digest

    @property
    def tensors(self) -> Sequence[TensorInfo]:
        """In the order of the source."""
        return self.index.tensors

    def tensor(self, name: str) -> int:
        """Number of a tensor.

        Raises:
            NnbitsError: NO_SUCH_TENSOR.
        """
        if name not in self.index.tensor_of:
            raise NnbitsError(ReasonCode.NO_SUCH_TENSOR, f"the stream has no tensor {name!r}", path=name)
        return self.index.tensor_of[name]

    # ---- access units

    def units_of(self, tensor: int) -> list[int]:
        """The access units that hold a tensor, in the order of its pieces."""
        return [int(self.index.piece_au[p]) for p in self.index.pieces_of(tensor)]

    def access_unit(self, number: int) -> AccessUnit:
        """An access unit, by its place in the index, checked; the last few stay in memory."""
        with self._lock:
            if number in self._cache:
                self._cache.move_to_end(number)
                return self._cache[number]
        (unit,) = self._fetch([number])
        return unit

    def _fetch(self, numbers: Sequence[int]) -> list[AccessUnit]:
        """Access units that lie next to each other, by one read."""
        start = int(self.index.au_offset[numbers[0]])
        last = numbers[-1]
        end = int(self.index.au_offset[last]) + int(self.index.au_bytes[last])
        data = memoryview(self.source.read_range(start, end - start))
        units = []
        for number in numbers:
            offset, size = int(self.index.au_offset[number]), int(self.index.au_bytes[number])
            unit = self.parse(number, data[offset - start : offset - start + size])
            units.append(unit)
            self._keep(number, unit)
        return units

    def parse(self, number: int, data: memoryview) -> AccessUnit:
        """Check an access unit, and that it is the one that the index lists.

        Raises:
            NnbitsError: codes 1xx..4xx, INDEX.
        """
        offset = int(self.index.au_offset[number])
        if len(data) > self.limits.max_access_unit_bytes:
            raise NnbitsError(
                ReasonCode.MEMORY_BUDGET, f"an access unit of {len(data)} bytes", path="index.au_bytes", offset=offset
            )
        unit = parse_access_unit(data, offset=offset, head=self.head, limits=self.limits)
        listed = [
            (self.index.tensors[int(self.index.piece_tensor[p])], int(self.index.piece_first[p]),
             int(self.index.piece_elements[p]))
            for p in self.index.pieces_in(number)
        ]  # fmt: skip
        held = {(piece.name, piece.first): piece for piece in unit.pieces}
        problem = None
        if unit.header.au_number != int(self.index.au_number[number]):
            problem = f"has number {unit.header.au_number}, the index says {int(self.index.au_number[number])}"
        for info, first, count in listed:
            piece = held.get((info.name, first))
            if piece is None:
                problem = f"does not hold {info.name!r} from element {first}, as the index says"
            elif (piece.dimensions, dtype_of(piece), piece.count) != (info.shape, info.dtype, count):
                problem = f"holds another {info.name!r} than the index says"
        if problem is not None:
            raise NnbitsError(ReasonCode.INDEX, f"the access unit {problem}", path=unit.label, offset=offset)
        check_relation(unit, self.update)
        return unit

    def listed(self, number: int) -> set[tuple[str, int]]:
        """The pieces, by name and first element, that an access unit holds and no later one has replaced."""
        index = self.index
        return {
            (self.tensors[int(index.piece_tensor[p])].name, int(index.piece_first[p])) for p in index.pieces_in(number)
        }

    def _keep(self, number: int, unit: AccessUnit) -> None:
        with self._lock:
            if number in self._cache or unit.size > _CACHE_BYTES:
                return
            self._cache[number] = unit
            self._cached += unit.size
            while self._cached > _CACHE_BYTES:
                _, dropped = self._cache.popitem(last=False)
                self._cached -= dropped.size

    def runs(self, numbers: Sequence[int], most: int = _RUN_BYTES) -> list[list[int]]:
        """Access units in stream order, in groups of up to ``most`` bytes that one read fetches."""
        result: list[list[int]] = []
        size = 0
        for number in sorted(set(numbers)):
            offset, length = int(self.index.au_offset[number]), int(self.index.au_bytes[number])
            if result:
                last = result[-1][-1]
                gap = offset - int(self.index.au_offset[last]) - int(self.index.au_bytes[last])
                if gap <= _GAP_BYTES and size + gap + length <= most:
                    result[-1].append(number)
                    size += gap + length
                    continue
            result.append([number])
            size = length
        return result

    # ---- tensors

    def read(self, name: str, *, threads: int = 1) -> Array:
        """Decode one tensor: array of its storage dtype and stored shape.

        Raises:
            NnbitsError: NO_SUCH_TENSOR, and codes 1xx..4xx with access unit and offset.
        """
        info = self.tensors[self.tensor(name)]
        return shaped(name, info.stored_shape, self.read_range(name, 0, info.size, threads=threads))

    def read_range(self, name: str, first: int, count: int, *, threads: int = 1) -> Array:
        """Elements of a tensor, one-dimensional, as of :class:`~nnbits.codec.types.LazyTensor`.

        Raises:
            NnbitsError: NO_SUCH_TENSOR; BAD_OPTION for elements that do not exist, or packed ones that do not begin and
                end at whole bytes; and codes 1xx..4xx with access unit and offset.
        """
        tensor = self.tensor(name)
        info = self.tensors[tensor]
        check_range(info, first, count)
        pieces = [
            p
            for p in self.index.pieces_of(tensor)
            if int(self.index.piece_first[p]) < first + count
            and int(self.index.piece_first[p]) + int(self.index.piece_elements[p]) > first
        ] or list(self.index.pieces_of(tensor))[:1]
        wanted = {int(self.index.piece_au[p]) for p in pieces}
        if len(pieces) == 1:
            begin = int(self.index.piece_first[pieces[0]])
            return self._elements(self.access_unit(wanted.pop()), info, begin, first, count)
        result = np.empty(stored_bytes(info.dtype, count) // info.dtype.itemsize, info.dtype.storage)

        def copy(unit: AccessUnit) -> None:
            for piece in unit.pieces:
                if piece.name != name:
                    continue
                low, high = max(piece.first, first), min(piece.first + piece.count, first + count)
                if low < high:
                    at = stored_index(info, low - first)
                    size = stored_bytes(info.dtype, high - low) // info.dtype.itemsize
                    self._elements(unit, info, piece.first, low, high - low, result[at : at + size])

        runs = self.runs(sorted(wanted))
        copied = ordered_map(copy, self._units(runs[0]), threads=threads) if len(runs) == 1 else None
        for _ in copied or self._mapped(copy, sorted(wanted), threads):
            pass
        return result

    def read_into(self, targets: Mapping[str, Array], *, threads: int = 1) -> None:
        """Decode tensors into memory that is there, each access unit once, without another copy of them.

        Args:
            targets: by name of the tensor, one-dimensional, contiguous and writable: its stored array, flat. After an
                error their contents are undefined.
            threads: access units that are decoded at the same time.

        Raises:
            NnbitsError: NO_SUCH_TENSOR; BAD_OPTION for memory of another size or type; as :meth:`read`.
        """
        units: set[int] = set()
        for name, target in targets.items():
            info = self.tensors[self.tensor(name)]
            if target.dtype != info.dtype.storage or target.shape != (info.nbytes // info.dtype.itemsize,):
                raise NnbitsError(
                    ReasonCode.BAD_OPTION, f"{name!r} does not fit in {target.dtype} {target.shape}", path=name
                )
            units.update(self.units_of(self.tensor(name)))
        buffers: list[bytearray] = []

        def decode(run: list[int]) -> None:
            buffer = buffers.pop() if buffers else bytearray()
            start = int(self.index.au_offset[run[0]])
            size = int(self.index.au_offset[run[-1]]) + int(self.index.au_bytes[run[-1]]) - start
            if hasattr(self.source, "read_into"):
                if len(buffer) < size:
                    buffer = bytearray(size + size // 4)
                data = memoryview(buffer)[:size]
                self.source.read_into(start, data)
            else:
                data = memoryview(self.source.read_range(start, size))
            for number in run:
                offset = int(self.index.au_offset[number]) - start
                self._decode_into(number, data[offset : offset + int(self.index.au_bytes[number])], targets)
            buffers.append(buffer)

        for _ in ordered_map(decode, self.runs(sorted(units), _THREAD_RUN_BYTES), threads=threads):
            pass

    def _decode_into(self, number: int, data: memoryview, targets: Mapping[str, Array]) -> None:
        unit = self.parse(number, data)
        listed = self.listed(number)
        wanted = [j for j, p in enumerate(unit.pieces) if p.name in targets and (p.name, p.first) in listed]

        def place(piece: Piece) -> Array:
            at, dtype = stored_index(tensor_info(piece), piece.first), dtype_of(piece)
            return targets[piece.name][at : at + stored_bytes(dtype, piece.count) // dtype.itemsize]

        changes = self.base is not None
        for piece, stored in decode_pieces(unit, self.head, wanted, changes=changes, limits=self.limits, out=place):
            self._with_base(unit, tensor_info(piece), piece.first, piece.count, stored)

    def read_sparse(self, name: str, *, threads: int = 1) -> tuple[SparseMap, Array]:
        """Which elements of a tensor exist, and their values, without making it dense.

        Where the tensor or a part of it has no sparse map, all its elements exist.

        Returns:
            The map of the whole tensor, and a one-dimensional array of the values of its storage dtype; see
            :class:`~nnbits.codec.sparse.SparseMap` for what can be made of them.

        Raises:
            NnbitsError: NO_SUCH_TENSOR; UNSUPPORTED_FEATURE for packed types; as for :meth:`read`.
        """
        info = self.tensors[self.tensor(name)]
        if info.dtype.is_packed:
            raise NnbitsError(ReasonCode.UNSUPPORTED_FEATURE, f"values of packed {info.dtype.name} elements", path=name)

        def part(unit: AccessUnit) -> list[tuple[int, SparseMap, Array]]:
            listed = self.listed(place[unit.header.au_number])
            found = []
            for j, piece in enumerate(unit.pieces):
                if piece.name == name and (name, piece.first) in listed:
                    sparse, values = decode_sparse(unit, j, self.head, limits=self.limits)
                    found.append((piece.first, sparse or _everything(piece), values))
            return found

        place = {number: unit for unit, number in enumerate(self.index.au_number.tolist())}
        parts = [item for found in self._mapped(part, self.units_of(self.tensor(name)), threads) for item in found]
        parts.sort(key=lambda item: item[0])
        if len(parts) == 1 and parts[0][1].shape == info.shape:
            return parts[0][1], parts[0][2]
        return join_maps([item[1] for item in parts], info.shape), np.concatenate([item[2] for item in parts])

    def _mapped(self, function: Any, numbers: Sequence[int], threads: int) -> Iterator[Any]:
        """A function of access units over threads, in stream order, neighbours fetched together."""

        def work(run: list[int]) -> list[Any]:
            return [function(unit) for unit in self._units(run)]

        runs = self.runs(numbers, _RUN_BYTES if threads == 1 else _THREAD_RUN_BYTES)
        results = ordered_map(work, runs, threads=threads)
        with closing(results):
            for result in results:
                yield from result

    def _units(self, run: list[int]) -> list[AccessUnit]:
        with self._lock:
            cached = [self._cache.get(number) for number in run]
        found = [unit for unit in cached if unit is not None]
        return found if len(found) == len(run) else self._fetch(run)

    def _elements(
        self, unit: AccessUnit, info: TensorInfo, begin: int, first: int, count: int, out: Array | None = None
    ) -> Array:
        """Elements of the piece of a tensor that begins at ``begin``; an update's with those of the base."""
        number = next((j for j, p in enumerate(unit.pieces) if (p.name, p.first) == (info.name, begin)), None)
        if number is None:
            raise NnbitsError(ReasonCode.INTERNAL, f"{info.name!r} is not in the access unit", path=unit.label)
        changes = self.base is not None
        stored = decode_piece(
            unit, number, self.head, first=first - begin, n=count, out=out, changes=changes, limits=self.limits
        )
        return self._with_base(unit, info, first, count, stored)

    def _with_base(self, unit: AccessUnit, info: TensorInfo, first: int, count: int, stored: Array) -> Array:
        """Elements as decoded, XORed to those of the base if that is what they are for; in place."""
        if unit.header.au_relation == AccessUnitRelation.XOR and self.base is not None:
            bits = stored.view(np.uint8)
            bits ^= np.ascontiguousarray(self.base.read_range(info, first, count)).view(np.uint8)
        return stored

    def decode_all(self, *, threads: int = 1) -> Iterator[tuple[TensorInfo, Array]]:
        """All tensors as they become complete, in the order of their last access units."""
        index = self.index
        left = {t: len(index.pieces_of(t)) for t in range(len(self.tensors))}
        partial_arrays: dict[int, Array] = {}

        place = {number: unit for unit, number in enumerate(index.au_number.tolist())}

        def decode(unit: AccessUnit) -> list[tuple[str, int, Array]]:
            listed = self.listed(place[unit.header.au_number])
            wanted = [j for j, piece in enumerate(unit.pieces) if (piece.name, piece.first) in listed]
            decoded = decode_pieces(unit, self.head, wanted, changes=self.base is not None, limits=self.limits)
            return [
                (piece.name, piece.first, self._with_base(unit, tensor_info(piece), piece.first, piece.count, stored))
                for piece, stored in decoded
            ]

        for decoded in self._mapped(decode, range(len(index.au_offset)), threads):
            for name, first, stored in decoded:
                tensor = self.tensor(name)
                info = self.tensors[tensor]
                left[tensor] -= 1
                if len(index.pieces_of(tensor)) == 1:
                    yield info, shaped(name, info.stored_shape, stored)
                    continue
                if tensor not in partial_arrays:
                    partial_arrays[tensor] = np.empty(info.nbytes // info.dtype.itemsize, info.dtype.storage)
                at = stored_index(info, first)
                partial_arrays[tensor][at : at + len(stored)] = stored
                if not left[tensor]:
                    yield info, shaped(name, info.stored_shape, partial_arrays.pop(tensor))

    # ---- the model

    def model(self) -> Model:
        """The stream as a model of lazy tensors, in the order of the source."""
        metadata = self.head.metadata

        def lazy(info: TensorInfo) -> LazyTensor:
            return LazyTensor(info, partial(self.read, info.name), partial(self.read_range, info.name))

        return Model(
            [lazy(info) for info in self.tensors],
            metadata.metadata,
            metadata.format,
            self.attachments,
            metadata.source,
        )

    @cached_property
    def attachments(self) -> tuple[Attachment, ...]:
        """The attached files, in the order of the stream; only their first units are read.

        Raises:
            NnbitsError: INDEX if their parts do not fit together; CHECKSUM and others of the units.
        """
        return read_attachments(self.source, self.index, self.head.parameters)


def _everything(piece: Piece) -> SparseMap:
    words = np.zeros(-(-piece.count // 64) * 64, np.bool_)
    words[: piece.count] = True
    return SparseMap(piece.shape, piece.count, np.packbits(words, bitorder="little"))


def check_range(info: TensorInfo, first: int, count: int) -> None:
    """Refuse elements that a tensor does not have.

    Raises:
        NnbitsError: BAD_OPTION.
    """
    bits = info.dtype.bits if info.dtype.is_packed else 8
    whole = not first * bits % 8 and (first + count == info.size or not (first + count) * bits % 8)
    if first < 0 or count < 0 or first + count > info.size or not whole:
        raise NnbitsError(
            ReasonCode.BAD_OPTION,
            f"elements {first} to {first + count} of {info.name!r}, which has {info.size}",
            path=info.name,
        )


def stored_index(info: TensorInfo, element: int) -> int:
    """Where an element stands in the one-dimensional stored array."""
    return element * info.dtype.bits // 8 if info.dtype.is_packed else element


def check_relation(unit: AccessUnit, update: UpdateOf | None) -> None:
    """Refuse an access unit of an update that was made for another base than the update.

    Raises:
        NnbitsError: BASE_MISMATCH.
    """
    found = unit.header.base_digest
    if update is not None and found != update.base_digest:
        raise NnbitsError(
            ReasonCode.BASE_MISMATCH,
            f"the access unit changes {found.hex() if found else 'no'} model, the stream {update.base}",
            path=f"{unit.label}.base_digest",
            offset=unit.offset,
        )


def row_range(info: TensorInfo, start: int, stop: int) -> tuple[int, int]:
    """First element and number of elements of rows ``start`` to ``stop``."""
    row = prod(info.shape[1:])
    return start * row, max(stop - start, 0) * row
