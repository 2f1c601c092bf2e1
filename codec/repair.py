"""What changes streams that are there: tensors replaced by appending, and what can be saved of a cut stream."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from .access import AccessUnit, decode_piece, parse_access_unit, tensor_info
from .access_encoder import (
    EncodedPiece,
    EncodedUnit,
    PiecePlan,
    Slice,
    UnitPlan,
    encode_unit,
    finish_header,
    plan_units,
)
from .atomic import atomic_output
from .attachments import attachment_part
from .encode import check_exact
from .errors import NnbitsError, ReasonCode
from .head import Head, parse_head
from .index import IndexBuilder
from .integrity import sha256
from .limits import DEFAULT_LIMITS, Limits
from .plan import EncodePlan, TensorPlan
from .ranges import FileSource
from .reader import ExtendedStream, read_state
from .syntax import (
    END_UNIT_BYTES,
    AccessUnitRelation,
    AttachmentUnit,
    ExtensionKind,
    Piece,
    build_unit,
    parse_unit,
    peek_unit_size,
)
from .types import Array, LazyTensor, Model, TensorInfo
from .writer import DEFAULT_MEMORY, StateWriter, encoded_units

__all__ = ["Recovery", "recover", "replace_tensors"]

_SEARCH_BYTES: Final = 1 << 24
_SIGNATURE: Final = b"\x82nnbX"


def replace_tensors(
    path: Path,
    tensors: Sequence[LazyTensor],
    plan: EncodePlan,
    *,
    threads: int = 1,
    memory: int = DEFAULT_MEMORY,
    limits: Limits = DEFAULT_LIMITS,
) -> bytes:
    """Append new versions of tensors to an extended stream, and an index that points to them.

    The new access units are made beside the file first. Then they are appended, and the end unit, which makes them
    count, comes after all else is on the disk. After an error the file is as it was; after a crash its old state is
    there in front of what was appended (:func:`recover`).

    Args:
        path: the stream.
        tensors: new versions; names that the stream does not have are added at its end.
        plan: of the extended profile, with an entry for each.
        threads: access units coded at the same time.
        memory: budget of the access units in work, bytes.
        limits: bounds on what reading the stream may cost.

    Returns:
        The new model digest.

    Raises:
        NnbitsError: FILE_FORMAT if it is no extended stream; FILE_NOT_FOUND, FILE_IO; the errors of encoding.
    """
    if plan.profile != "extended" or plan.blocks:
        raise NnbitsError(ReasonCode.BAD_OPTION, "replacing needs a plan of the extended profile, without blocks")
    check_exact(Model(tensors), plan)
    source = FileSource(path)
    try:
        stream = ExtendedStream.open(source, limits=limits)
        if stream is None:
            raise NnbitsError(
                ReasonCode.FILE_FORMAT,
                f"{path} does not end as an extended stream does",
                path=str(path),
                hint="Only streams of the extended profile can be changed; see nnbits recover for one that was cut",
            )
        if stream.update is not None:
            raise NnbitsError(
                ReasonCode.BAD_OPTION,
                f"{path} is an update, not a model",
                path=str(path),
                hint="Make another update: nnbits diff",
            )
        try:
            with tempfile.TemporaryFile(dir=Path(path).parent) as made:
                size, digest = _make_state(stream, tensors, plan, made.write, threads, memory)
                made.seek(0)
                _append(path, source.size, made, size)
        except OSError as error:
            raise NnbitsError(ReasonCode.FILE_IO, f"{path} could not be changed: {error}", path=str(path)) from error
        return digest
    finally:
        source.close()


def _make_state(
    stream: ExtendedStream,
    tensors: Sequence[LazyTensor],
    plan: EncodePlan,
    write: Any,
    threads: int,
    memory: int,
) -> tuple[int, bytes]:
    """Write what has to be appended; its size and the model digest."""
    index, state = stream.index, stream.state
    new = {tensor.info.name: tensor.info for tensor in tensors}
    infos = [new.get(info.name, info) for info in index.tensors]
    infos += [info for name, info in new.items() if name not in index.tensor_of]
    builder = IndexBuilder(stream.head.data, infos)
    for unit in range(len(index.au_offset)):
        kept = [
            (info.name, int(index.piece_first[p]), int(index.piece_elements[p]))
            for p in index.pieces_in(unit)
            if (info := index.tensors[int(index.piece_tensor[p])]).name not in new
        ]
        if kept:
            offset, size, number = (int(c[unit]) for c in (index.au_offset, index.au_bytes, index.au_number))
            builder.add_unit(offset, size, number, index.au_sha256[unit].tobytes(), kept)
    for part in range(len(index.part_offset)):
        offset, size = int(index.part_offset[part]), int(index.part_bytes[part])
        builder.add_part(offset, size, index.part_sha256[part].tobytes())
    parameters = stream.head.parameters
    writer = StateWriter(write, parameters, builder, stream.source.size)
    units = encoded_units(
        plan_units(tensors, plan),
        plan,
        parameters,
        threads=threads,
        memory=memory,
        first_number=state.end.au_count,
        base_digest=state.digest,
    )
    for encoded in units:
        writer.access_unit(encoded)
    model_digest = writer.finish(state.end_offset)
    return writer.offset - stream.source.size, model_digest


def _append(path: Path, size: int, made: Any, length: int) -> None:
    """Append; the end unit last, when all else is on the disk. After an error the file is cut to its old size."""
    with open(path, "r+b") as file:
        if file.seek(0, os.SEEK_END) != size:
            raise NnbitsError(ReasonCode.FILE_IO, f"{path} was changed while it was in use", path=str(path))
        try:
            left = length - END_UNIT_BYTES
            while left:
                chunk = made.read(min(left, 1 << 20))
                file.write(chunk)
                left -= len(chunk)
            _flush(file)
            file.write(made.read(END_UNIT_BYTES))
            _flush(file)
        except BaseException:
            file.truncate(size)
            raise


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


# ---- recovery


@dataclass(frozen=True)
class Recovery:
    """What was saved of a stream.

    Attributes:
        state: ``complete`` (nothing was wrong), ``earlier`` (the last complete state of a file that was being changed)
            or ``partial`` (the tensors of the complete access units).
        tensors: names of what was saved.
        lost: names of tensors of which only parts were there, or that the index lists beyond those saved.
        digest: model digest of the new stream.
    """

    state: str
    tensors: tuple[str, ...]
    lost: tuple[str, ...]
    digest: bytes


def recover(path: Path, target: Path, *, force: bool = False, limits: Limits = DEFAULT_LIMITS) -> Recovery:
    """Save what is complete in a cut or damaged extended stream.

    If the file holds a complete state whose access units are undamaged, that is copied. Else the undamaged access
    units are, those of tensors with missing parts left out.

    Args:
        path: the stream.
        target: the new stream.
        force: replace an existing file.

    Raises:
        NnbitsError: NOT_NNC or others if not even the head can be read, ACCESS_UNIT if there is no complete access
            unit; FILE_NOT_FOUND, FILE_EXISTS, FILE_IO.
    """
    source = FileSource(path)
    try:
        scan = _Scan(source, limits)
        for end_offset in scan.ends:
            saved = _copy_state(source, end_offset, target, force, limits)
            if saved is not None:
                return saved
        return _rebuild(scan, target, force)
    finally:
        source.close()


def _copy_state(source: FileSource, end_offset: int, target: Path, force: bool, limits: Limits) -> Recovery | None:
    try:
        state = read_state(source, end_offset, limits)
        if state is None:
            return None
        stream = ExtendedStream(source, state, limits=limits)
        for unit in range(len(stream.index.au_offset)):
            stream.access_unit(unit)
        head = source.read_range(0, len(state.head.data))
        for attachment in stream.attachments:
            attachment.read()
    except NnbitsError:
        return None
    if head != state.head.data:
        return None
    size = end_offset + END_UNIT_BYTES
    with atomic_output(target, force=force) as file:
        for start in range(0, size, _SEARCH_BYTES):
            file.write(source.read_range(start, min(_SEARCH_BYTES, size - start)))
    names = tuple(info.name for info in state.index.tensors)
    return Recovery("complete" if size == source.size else "earlier", names, (), state.digest)


class _Scan:
    """Everything of a damaged stream that can still be read, found by the signatures of the units.

    Attributes:
        head: from the beginning of the file, or from an index.
        ends: offsets of undamaged end units, last first.
        access_units: offset and pieces of the undamaged ones, in file order.
        parts: (offset, size) of the undamaged attachment units.
        listed: names in the last index that could be read.
    """

    def __init__(self, source: FileSource, limits: Limits) -> None:
        self.source = source
        self.limits = limits
        self.ends: list[int] = []
        self.access_units: list[tuple[int, tuple[Piece, ...]]] = []
        self.parts: list[tuple[int, int]] = []
        self.listed: tuple[str, ...] = ()
        starts = list(self._starts())
        self._find_ends(starts)
        self.head = self._head()
        end = 0
        for offset, kind in starts:
            if offset < end:
                continue
            if kind == ExtensionKind.ACCESS_UNIT_HEADER:
                unit = self.access_unit(offset)
                if unit is not None:
                    self.access_units.append((offset, unit.pieces))
                    end = offset + unit.size
            elif kind == ExtensionKind.ATTACHMENT:
                size = self._attachment(offset)
                if size:
                    self.parts.append((offset, size))
                    end = offset + size

    def _starts(self) -> Iterator[tuple[int, int]]:
        """Where extension units may begin, with their kinds."""
        overlap = 16
        for start in range(0, max(self.source.size, 1), _SEARCH_BYTES):
            size = min(_SEARCH_BYTES + overlap, self.source.size - start)
            data = bytes(self.source.read_range(start, size))
            at = data.find(_SIGNATURE)
            while 0 <= at < _SEARCH_BYTES:
                if at + 5 < len(data):
                    for size_bytes in (4, 2):
                        begin = start + at - size_bytes
                        if begin >= 0 and self._size(begin)[0] == size_bytes:
                            yield begin, data[at + 5]
                            break
                at = data.find(_SIGNATURE, at + 1)

    def _size(self, offset: int) -> tuple[int, int]:
        data = memoryview(self.source.read_range(offset, min(4, self.source.size - offset)))
        try:
            size_bytes, size = peek_unit_size(data, index=0, offset=offset)
        except NnbitsError:
            return 0, 0
        return (size_bytes, size) if size <= self.source.size - offset else (0, 0)

    def _find_ends(self, starts: Iterable[tuple[int, int]]) -> None:
        for offset, kind in starts:
            if kind == ExtensionKind.END and self._size(offset)[1] == END_UNIT_BYTES:
                self.ends.insert(0, offset)

    def _head(self) -> Head:
        for end_offset in self.ends:
            try:
                state = read_state(self.source, end_offset, self.limits)
            except NnbitsError:
                continue
            if state is not None:
                self.listed = tuple(info.name for info in state.index.tensors)
                return state.head
        size = min(self.source.size, 1 << 29)
        head = parse_head(memoryview(self.source.read_range(0, size)))
        if head is None:
            raise NnbitsError(
                ReasonCode.FILE_FORMAT,
                f"{self.source.name} is no stream of the extended profile",
                path=str(self.source.name),
                hint="Streams of the standard profile have no access units that could be recovered",
            )
        return head

    def access_unit(self, offset: int) -> AccessUnit | None:
        """The access unit at an offset, None if it is damaged."""
        size = self._size(offset)[1]
        if not size:
            return None
        try:
            data = memoryview(self.source.read_range(offset, size))
            header = parse_unit(data, index=0, offset=offset, parameters=self.head.parameters).body
            total = getattr(header, "au_bytes", 0)
            if total < size or total > min(self.source.size - offset, self.limits.max_access_unit_bytes):
                return None
            data = memoryview(self.source.read_range(offset, total))
            return parse_access_unit(data, offset=offset, head=self.head, limits=self.limits)
        except NnbitsError:
            return None

    def _attachment(self, offset: int) -> int:
        size = self._size(offset)[1]
        try:
            self.attachment(offset, size)
        except NnbitsError:
            return 0
        return size

    def attachment(self, offset: int, size: int) -> AttachmentUnit:
        """An undamaged attachment unit."""
        data = memoryview(self.source.read_range(offset, size))
        return attachment_part(data, parse_unit(data, index=0, offset=offset, parameters=self.head.parameters))[0]


def _rebuild(scan: _Scan, target: Path, force: bool) -> Recovery:
    """A new stream of the undamaged access units; the last version of a tensor counts."""
    if scan.head.metadata.update is not None:
        raise NnbitsError(
            ReasonCode.BASE_MISSING,
            f"{scan.source.name} is an update, of which a part leads to no model",
            path=str(scan.source.name),
            hint="Fetch it again, or make it again: nnbits diff",
        )
    chosen = {(piece.name, piece.first): offset for offset, pieces in scan.access_units for piece in pieces}
    infos: dict[str, TensorInfo] = {}
    held: dict[str, int] = {}
    for offset, pieces in scan.access_units:
        for piece in pieces:
            if chosen[piece.name, piece.first] == offset:
                infos[piece.name] = tensor_info(piece)
                held[piece.name] = held.get(piece.name, 0) + piece.count
    complete = {name for name, info in infos.items() if held[name] == info.size}
    if not complete:
        raise NnbitsError(
            ReasonCode.ACCESS_UNIT, "there is no complete tensor", path=str(scan.source.name), offset=scan.source.size
        )
    order = [name for name in dict.fromkeys([*scan.listed, *infos]) if name in complete]
    head = scan.head
    with atomic_output(target, force=force) as file:
        builder = IndexBuilder(head.data, [infos[name] for name in order])
        writer = StateWriter(file.write, head.parameters, builder, 0)
        writer.put(head.data)
        for offset, size in _complete_attachments(scan):
            data = bytes(scan.source.read_range(offset, size))
            builder.add_part(writer.offset, size, sha256(data))
            writer.put(data)
        for offset, pieces in scan.access_units:
            wanted = [j for j, p in enumerate(pieces) if p.name in complete and chosen[p.name, p.first] == offset]
            unit = scan.access_unit(offset) if wanted else None
            if unit is not None:
                whole = len(wanted) == len(pieces)
                writer.access_unit(
                    _renumbered(unit, builder.au_count, scan)
                    if whole
                    else _remade(unit, wanted, builder.au_count, head)
                )
        digest = writer.finish(0)
    return Recovery("partial", tuple(order), tuple(sorted({*scan.listed, *infos} - complete)), digest)


def _remade(unit: AccessUnit, wanted: Sequence[int], number: int, head: Head) -> EncodedUnit:
    """An access unit of some pieces of another one; their values are exactly what that one decodes to."""
    items = []
    for j in wanted:
        piece = unit.pieces[j]
        stored = decode_piece(unit, j, head)
        lazy = LazyTensor(tensor_info(piece), partial(_given, stored), partial(_given, stored))
        items.append(
            PiecePlan(Slice(lazy, 1), lazy.info, TensorPlan("lossless"), piece.first_element, piece.element_count)
        )
    return encode_unit(UnitPlan(items), number, EncodePlan(profile="extended"), head.parameters)


def _given(stored: Array, *_: int) -> Array:
    return stored


def _renumbered(unit: AccessUnit, number: int, scan: _Scan) -> EncodedUnit:
    """The access unit under a new number, standing alone."""
    header = replace(
        unit.header, au_number=number, au_relation=AccessUnitRelation.ALONE, base_digest=None, au_bytes=0, au_crc32c=0
    )
    body = bytes(scan.source.read_range(unit.offset, unit.size))[unit.units[0].size :]
    first = finish_header(build_unit(header, parameters=scan.head.parameters), [body])
    pieces = [EncodedPiece(tensor_info(p), TensorPlan("raw"), p.first, p.count, 0, None) for p in unit.pieces]
    return EncodedUnit([first, body], len(first) + len(body), number, sha256(first + body), pieces)


def _complete_attachments(scan: _Scan) -> Iterator[tuple[int, int]]:
    """The attachment units of files that are all there."""
    found: dict[bytes, list[tuple[int, int]]] = {}
    sizes: dict[bytes, int] = {}
    for offset, size in scan.parts:
        body = scan.attachment(offset, size)
        if body.part_offset == sizes.get(body.name, 0):
            found.setdefault(body.name, []).append((offset, size))
            sizes[body.name] = body.part_offset + body.part_size
            if sizes[body.name] == body.attachment_size:
                yield from found[body.name]
