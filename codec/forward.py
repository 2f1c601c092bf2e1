"""Extended streams read from front to back, without seeking; the index is checked when it comes."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from .access import AccessUnit, decode_pieces, parse_access_unit, tensor_info
from .attachments import attachment_part
from .decode import Stream
from .errors import NnbitsError, ReasonCode
from .head import Head, parse_head
from .index import Index
from .integrity import sha256
from .limits import DEFAULT_LIMITS, MAX_METADATA_BYTES, MAX_TOPOLOGY_BYTES, Limits
from .reader import CUT_HINT, check_relation, index_content, read_end, stored_index
from .syntax import (
    END_UNIT_BYTES,
    AccessUnitHeader,
    AccessUnitRelation,
    AttachmentUnit,
    EndUnit,
    ExtensionKind,
    IndexUnit,
    Piece,
    UnitType,
    is_extension,
    parse_unit,
    peek_unit_size,
)
from .types import Array, TensorInfo, shaped

__all__ = ["ForwardStream", "Listed"]

_CHUNK_BYTES: Final = 1 << 20
_HEAD_BYTES: Final = MAX_TOPOLOGY_BYTES + MAX_METADATA_BYTES + (1 << 20)


@dataclass(frozen=True)
class Listed:
    """An access unit or attachment unit that was read: what the index has to say of it."""

    offset: int
    size: int
    number: int
    digest: bytes


@dataclass
class _Tensor:
    """A tensor of which pieces came: (first element, number of elements, access unit) of each, in order."""

    info: TensorInfo
    pieces: list[tuple[int, int, int]] = field(default_factory=list)
    stored: Array | None = None
    decoded: int = 0


class ForwardStream:
    """A stream of either profile, read once from front to back.

    Iterating gives tensors as they become complete: what they are, and arrays of their storage dtype and stored shape.
    A tensor of a later state comes again. Whoever needs the whole model goes on to the end, where it is checked that
    nothing is missing. A standard stream is read into memory first.

    Args:
        file: an object with ``read``, such as a pipe.
        limits: bounds on what decoding may cost.

    Attributes:
        head: None before it was read, and in the standard profile.
        digest: model digest of the last complete state, None before its end.
        access_units: by au_number.
        end_offset: of the last end unit.
    """

    def __init__(self, file: Any, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self._file = file
        self._limits = limits
        self._offset = 0
        self._index = 0
        self.head: Head | None = None
        self.digest: bytes | None = None
        self.end_offset = 0
        self.access_units: list[Listed] = []
        self._parts: list[Listed] = []
        self._tensors: dict[str, _Tensor] = {}
        self._replaced: set[str] = set()
        self._state: tuple[int, int, Index] | None = None
        self._complete = False

    def __iter__(self) -> Iterator[tuple[TensorInfo, Array]]:
        data = self.read_head()
        if self.head is None:
            stream = Stream(memoryview(data + self._rest()), limits=self._limits)
            stream.check_complete()
            for lazy in stream.composed() if stream.needs_composition else stream.model():
                yield lazy.info, lazy.read()
            return
        if self.head.metadata.update is not None:
            raise NnbitsError(
                ReasonCode.BASE_MISSING,
                f"the stream is an update of the model {self.head.metadata.update.base}",
                path="update.base",
                hint="Apply it to its base: nnbits apply, or nnbits.open with base=",
            )
        for unit in self.read_access_units():
            yield from self._tensors_of(unit)

    # ---- units

    def _read(self, size: int, what: str) -> bytes:
        """Exactly ``size`` bytes, which are allocated as they arrive."""
        parts = []
        left = size
        while left:
            part = self._file.read(min(left, _CHUNK_BYTES))
            if not part:
                raise NnbitsError(
                    ReasonCode.TRUNCATED,
                    f"the stream ends inside {what}",
                    path=f"unit[{self._index}]",
                    offset=self._offset + size - left,
                    hint=CUT_HINT,
                )
            parts.append(bytes(part))
            left -= len(part)
        self._offset += size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _rest(self) -> bytes:
        parts = []
        while part := self._file.read(_CHUNK_BYTES):
            parts.append(bytes(part))
        return b"".join(parts)

    def _next(self) -> bytes | None:
        """The bytes of the next unit, None at the end of the stream."""
        if self._index >= self._limits.max_units:
            raise NnbitsError(ReasonCode.LIMIT, f"more than {self._limits.max_units} units", offset=self._offset)
        first = self._file.read(1)
        if not first:
            return None
        offset = self._offset
        self._offset += 1
        start = bytes(first) + self._read(3 if first[0] & 0x80 else 1, "a unit")
        size_bytes, size = peek_unit_size(memoryview(start), index=self._index, offset=offset)
        if size > self._limits.max_access_unit_bytes:
            raise NnbitsError(
                ReasonCode.MEMORY_BUDGET,
                f"a unit of {size} bytes",
                path=f"unit[{self._index}]",
                offset=offset,
                hint="Raise Limits.max_access_unit_bytes if that is right",
            )
        data = start + self._read(size - size_bytes, "a unit")
        self._index += 1
        return data

    def read_head(self) -> bytes:
        """Read up to the metadata unit, or in a standard stream up to the first data unit.

        Returns:
            What was read.

        Raises:
            NnbitsError: codes 1xx..4xx with place.
        """
        data = bytearray()
        while True:
            unit = self._next()
            if unit is None:
                break
            data += unit
            if len(data) > _HEAD_BYTES:
                raise NnbitsError(ReasonCode.LIMIT, f"a head of more than {_HEAD_BYTES} bytes", offset=0)
            kind = unit[4 if unit[0] & 0x80 else 2] >> 2
            if is_extension(memoryview(unit)) or kind in (UnitType.NNR_NDU, UnitType.NNR_AGG):
                self.head = parse_head(memoryview(bytes(data)))
                break
        return bytes(data)

    def read_access_units(self) -> Iterator[AccessUnit]:
        """The access units behind the head, checked, with everything else between them.

        Raises:
            NnbitsError: codes 1xx..4xx with place; TRUNCATED if the stream does not end in an end unit.
        """
        assert self.head is not None  # noqa: S101 - the caller has read it
        while True:
            offset = self._offset
            data = self._next()
            if data is None:
                break
            self._complete = False
            kind = data[4 if data[0] & 0x80 else 2] >> 2
            if kind < UnitType.NNR_EXT:
                raise self._bad(f"a unit of type {kind} outside an access unit", offset)
            unit = parse_unit(memoryview(data), index=self._index - 1, offset=offset, parameters=self.head.parameters)
            body = unit.body
            if self._state is not None and not isinstance(body, EndUnit):
                raise self._bad("a unit between index and end", offset)
            if not is_extension(memoryview(data)):
                continue  # somebody else's
            if isinstance(body, AccessUnitHeader):
                yield self._access_unit(data, body, offset)
            elif isinstance(body, AttachmentUnit):
                attachment_part(memoryview(data), unit)
                self._parts.append(Listed(offset, len(data), len(self._parts), sha256(data)))
            elif isinstance(body, IndexUnit):
                content = index_content(memoryview(data), unit, body, self._limits)
                self._state = offset, len(data), Index.from_bytes(content, end=offset)
                self._check_index(self._state[2], offset)
            elif isinstance(body, EndUnit):
                self._end(data, offset)
            else:
                name = ExtensionKind(body.ext_kind).name.lower().replace("_", " ")  # type: ignore[union-attr]
                raise self._bad(f"a unit of kind {name} in the wrong place", offset)
        if not self._complete:
            raise NnbitsError(
                ReasonCode.TRUNCATED,
                "the stream does not end in an end unit",
                path="end",
                offset=self._offset,
                hint=CUT_HINT,
            )

    def _bad(self, message: str, offset: int, code: ReasonCode = ReasonCode.UNIT_ORDER) -> NnbitsError:
        return NnbitsError(code, message, path=f"unit[{self._index - 1}]", offset=offset)

    def _access_unit(self, first: bytes, header: AccessUnitHeader, offset: int) -> AccessUnit:
        assert self.head is not None  # noqa: S101
        left = header.au_bytes - len(first)
        if header.au_bytes > self._limits.max_access_unit_bytes:
            raise self._bad(f"an access unit of {header.au_bytes} bytes", offset, ReasonCode.MEMORY_BUDGET)
        if left < 0:
            raise self._bad("au_bytes is less than the header has", offset, ReasonCode.ACCESS_UNIT)
        data = first + self._read(left, "an access unit")
        unit = parse_access_unit(memoryview(data), offset=offset, head=self.head, limits=self._limits)
        if header.au_number != len(self.access_units):
            raise self._bad(
                f"access unit {header.au_number} where {len(self.access_units)} was expected",
                offset,
                ReasonCode.ACCESS_UNIT,
            )
        update = self.head.metadata.update
        if update is not None:
            check_relation(unit, update)
        elif header.au_relation == AccessUnitRelation.REPLACES and header.base_digest != self.digest:
            raise self._bad("the access unit replaces one of another model", offset, ReasonCode.BASE_MISMATCH)
        self.access_units.append(Listed(offset, len(data), header.au_number, sha256(data)))
        self._index += len(unit.units) - 1
        for piece in unit.pieces:
            self._list(piece, unit)
        return unit

    def _list(self, piece: Piece, unit: AccessUnit) -> None:
        info = tensor_info(piece)
        tensor = self._tensors.get(piece.name)
        assert self.head is not None  # noqa: S101
        new_state = unit.header.au_relation == AccessUnitRelation.REPLACES and self.head.metadata.update is None
        replaces = new_state and piece.name not in self._replaced
        if tensor is None or replaces:
            tensor = self._tensors[piece.name] = _Tensor(info)
            if replaces:
                self._replaced.add(piece.name)
        elif tensor.info != info:
            raise self._bad(f"parts of {piece.name!r} disagree", unit.offset, ReasonCode.ACCESS_UNIT)
        pieces, entry = tensor.pieces, (piece.first, piece.count, unit.header.au_number)
        at = bisect(pieces, entry)
        before, after = (pieces[at - 1] if at else None), (pieces[at] if at < len(pieces) else None)
        overlaps = (before and before[0] + before[1] > piece.first) or (after and piece.first + piece.count > after[0])
        if overlaps or (pieces and not piece.count):
            raise self._bad(f"tensor {piece.name!r} comes twice", unit.offset, ReasonCode.DUPLICATE_NAME)
        pieces.insert(at, entry)

    def _tensors_of(self, unit: AccessUnit) -> Iterator[tuple[TensorInfo, Array]]:
        assert self.head is not None  # noqa: S101
        for piece, stored in decode_pieces(unit, self.head, limits=self._limits):
            tensor = self._tensors[piece.name]
            info = tensor.info
            if piece.count == info.size:
                yield info, shaped(info.name, info.stored_shape, stored)
                continue
            if tensor.stored is None:
                tensor.stored = np.empty(info.nbytes // info.dtype.itemsize, info.dtype.storage)
            at = stored_index(info, piece.first)
            tensor.stored[at : at + len(stored)] = stored
            tensor.decoded += piece.count
            if tensor.decoded == info.size:
                whole, tensor.stored = tensor.stored, None
                yield info, shaped(info.name, info.stored_shape, whole)

    # ---- index and end

    def _check_index(self, index: Index, offset: int) -> None:
        """The index has to say what came before it."""
        problem = None
        assert self.head is not None  # noqa: S101
        if index.head != self.head.data:
            problem = "has another head"
        numbers = index.au_number.tolist()
        for unit in range(len(numbers)):
            if numbers[unit] >= len(self.access_units):
                problem = f"lists access unit {numbers[unit]}, which is not there"
                break
            listed = self.access_units[numbers[unit]]
            found = (int(index.au_offset[unit]), int(index.au_bytes[unit]), index.au_sha256[unit].tobytes())
            if found != (listed.offset, listed.size, listed.digest):
                problem = f"lists another access unit {numbers[unit]}"
        parts = zip(index.part_offset.tolist(), index.part_bytes.tolist(), map(bytes, index.part_sha256), strict=True)
        if list(parts) != [(p.offset, p.size, p.digest) for p in self._parts]:
            problem = "lists other attachments"
        if problem is None:
            problem = self._compare_tensors(index, numbers)
        if problem is not None:
            raise NnbitsError(
                ReasonCode.INDEX, f"the index {problem}", path=f"unit[{self._index - 1}].index_zstd", offset=offset
            )

    def _compare_tensors(self, index: Index, numbers: list[int]) -> str | None:
        listed = {info.name: info for info in index.tensors}
        if listed != {name: tensor.info for name, tensor in self._tensors.items()}:
            return "lists other tensors"
        for number, info in enumerate(index.tensors):
            pieces = [
                (int(index.piece_first[p]), int(index.piece_elements[p]), numbers[int(index.piece_au[p])])
                for p in index.pieces_of(number)
            ]
            if pieces != self._tensors[info.name].pieces:
                return f"finds tensor {info.name!r} elsewhere"
        return None

    def _end(self, data: bytes, offset: int) -> None:
        end = read_end(memoryview(data), offset) if len(data) == END_UNIT_BYTES else None
        if end is None:
            raise NnbitsError(ReasonCode.CHECKSUM, "the end unit is damaged", path="end.end_crc32c", offset=offset)
        if self._state is None:
            raise self._bad("an end unit without an index before it", offset)
        found = (end.index_offset, end.index_bytes, end.au_count, end.previous_end)
        if found != (*self._state[:2], len(self.access_units), self.end_offset):
            raise NnbitsError(ReasonCode.INDEX, "the end unit describes another stream", path="end", offset=offset)
        if sha256(self._state[2].content) != end.model_digest:
            raise NnbitsError(
                ReasonCode.DIGEST, "the index does not have the model digest", path="end.model_digest", offset=offset
            )
        self.digest, self.end_offset = end.model_digest, offset
        self._state = None
        self._replaced.clear()
        self._complete = True
