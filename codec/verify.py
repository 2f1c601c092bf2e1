"""Checks everything in a stream that can be checked, and tells what is wrong with which tensors."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from .access import decode_pieces
from .errors import NnbitsError, ReasonCode
from .file import open_standard
from .forward import ForwardStream
from .integrity import sha256
from .limits import DEFAULT_LIMITS, Limits
from .parallel import ordered_map
from .plan import Profile
from .reader import ExtendedStream

__all__ = ["Problem", "Verification", "verify"]

_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Problem:
    """Something that is wrong: the error, and the tensors or attachments that it concerns."""

    error: NnbitsError
    tensors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """What was checked.

    Attributes:
        profile: of the stream.
        digest: model digest, hexadecimal; None in the standard profile, or if it cannot be told.
        tensors, access_units: how many there are.
        problems: empty if everything is right.
    """

    profile: Profile
    digest: str | None
    tensors: int
    access_units: int
    problems: tuple[Problem, ...]


def verify(
    source: Any,
    *,
    threads: int = 1,
    decode: bool = True,
    limits: Limits = DEFAULT_LIMITS,
    on_bytes: Callable[[int, int], None] | None = None,
) -> Verification:
    """Check a stream: structure, checksums, SHA-256 of access units and attachments, the model digest, and values.

    It is read by its index, and if nothing is wrong once more from front to back.

    Args:
        source: a :class:`~nnbits.codec.ranges.RangeSource`.
        threads: access units checked at the same time.
        decode: decode all values too; else only checksums are compared.
        limits: bounds on what it may cost.
        on_bytes: called with the bytes checked and all bytes.

    Returns:
        The findings; damaged streams are no exception.

    Raises:
        NnbitsError: FILE_IO.
    """
    try:
        stream = ExtendedStream.open(source, limits=limits)
        if stream is None:
            return _standard(source, limits)
    except NnbitsError as error:
        if error.code >= ReasonCode.NOT_EXACT:
            raise
        return Verification("extended", None, 0, 0, (Problem(error),))
    problems = _head_and_attachments(stream)
    index = stream.index

    def check(number: int) -> Problem | None:
        offset, size = int(index.au_offset[number]), int(index.au_bytes[number])
        try:
            data = memoryview(source.read_range(offset, size))
            unit = stream.parse(number, data)
            if sha256(data) != index.au_sha256[number].tobytes():
                raise NnbitsError(
                    ReasonCode.DIGEST, "the SHA-256 is not that of the index", path=unit.label, offset=offset
                )
            if decode:
                for _ in decode_pieces(unit, stream.head, changes=True, limits=limits):
                    pass
        except NnbitsError as error:
            if error.code >= ReasonCode.NOT_EXACT:
                raise
            names = {index.tensors[int(index.piece_tensor[p])].name: None for p in index.pieces_in(number)}
            return Problem(error, tuple(names))
        return None

    done = 0
    for number, problem in enumerate(ordered_map(check, range(len(index.au_offset)), threads=threads)):
        if problem is not None:
            problems.append(problem)
        done += int(index.au_bytes[number])
        if on_bytes is not None:
            on_bytes(done, source.size)
    if not problems:
        problems += _in_order(stream, decode, limits)
    return Verification("extended", stream.digest.hex(), len(index.tensors), len(index.au_offset), tuple(problems))


def _in_order(stream: ExtendedStream, decode: bool, limits: Limits) -> list[Problem]:
    """What only shows to who reads all units in order: numbers, relations, and what the states before the last hold."""
    listed = set(stream.index.au_offset.tolist())
    forward = ForwardStream(io.BufferedReader(_Sequential(stream.source), _READ_BYTES), limits=limits)
    names: dict[str, None] = {}
    try:
        forward.read_head()
        for unit in forward.read_access_units():
            if decode and unit.offset not in listed:
                names = {piece.name: None for piece in unit.pieces}
                for _ in decode_pieces(unit, stream.head, changes=True, limits=limits):
                    pass
                names = {}
    except NnbitsError as error:
        if error.code >= ReasonCode.NOT_EXACT:
            raise
        return [Problem(error, tuple(names))]
    return []


class _Sequential(io.RawIOBase):
    """A source read from front to back."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes, as many as fit."""
        view = memoryview(buffer).cast("B")
        size: int = min(len(view), self._source.size - self._at)
        view[:size] = self._source.read_range(self._at, size)
        self._at += size
        return size


def _head_and_attachments(stream: ExtendedStream) -> list[Problem]:
    problems = []
    source, index = stream.source, stream.index
    if bytes(source.read_range(0, len(index.head))) != index.head:
        other = NnbitsError(ReasonCode.INDEX, "the head is not that of the index", path="index.head", offset=0)
        problems.append(Problem(other))
    try:
        attachments = stream.attachments
    except NnbitsError as error:
        return [*problems, Problem(error)]
    for attachment in attachments:
        try:
            attachment.read()
        except NnbitsError as error:
            problems.append(Problem(error, (attachment.name,)))
    for part in range(len(index.part_offset)):
        offset, size = int(index.part_offset[part]), int(index.part_bytes[part])
        if sha256(source.read_range(offset, size)) != index.part_sha256[part].tobytes():
            other = NnbitsError(
                ReasonCode.DIGEST, "the SHA-256 is not that of the index", path="index.part_sha256", offset=offset
            )
            problems.append(Problem(other))
    return problems


def _standard(source: Any, limits: Limits) -> Verification:
    problems: list[Problem] = []
    try:
        stream = open_standard(memoryview(source.read_range(0, source.size)), limits=limits)
    except NnbitsError as error:
        return Verification("standard", None, 0, 0, (Problem(error),))
    if not stream.is_update:
        for unit in stream.data_units:
            try:
                stream.decode_unit(unit)
            except NnbitsError as error:
                problems.append(Problem(error, tuple(part.name for part in unit.parts)))
    return Verification("standard", None, len(stream.tensors), 0, tuple(problems))
