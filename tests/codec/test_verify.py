"""nnbits verify refuses what reading from front to back refuses."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

import nnbits
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.index import Index, IndexBuilder
from nnbits.codec.integrity import sha256
from nnbits.codec.ranges import BytesSource
from nnbits.codec.reader import ExtendedStream
from nnbits.codec.types import Attachment
from nnbits.codec.verify import verify
from nnbits.codec.writer import StateWriter
from nnbits.conformance.cases.pieces import AccessUnit, parameters, raw, stream

INVALID = Path(__file__).resolve().parents[2] / "conformance" / "streams" / "invalid"
NOTES = Attachment("notes", 5, lambda: b"hello")


def codes(data: bytes) -> list[ReasonCode]:
    return [problem.error.code for problem in verify(BytesSource(data)).problems]


def read_forward(data: bytes) -> ReasonCode | None:
    try:
        for _ in nnbits.stream(io.BytesIO(data)):
            pass
    except NnbitsError as error:
        return error.code
    return None


@pytest.mark.parametrize("name", ["extended-number", "extended-replaces-nothing"])
def test_what_the_index_does_not_show(name: str) -> None:
    data = (INVALID / f"{name}.nnc").read_bytes()
    code = read_forward(data)
    assert code is not None
    assert codes(data) == [code]


def later_state(data: bytes, kept: bool, *files: Attachment, number: int = 1) -> bytes:
    """A second state with a tensor more, and other attachments or those of the first."""
    opened = ExtendedStream.open(BytesSource(data))
    assert opened is not None
    index: Index = opened.index
    unit = AccessUnit([raw("later")], bytes(4)).encoded(number)
    builder = IndexBuilder(index.head, [*index.tensors, unit.pieces[0].info])
    held = [(index.tensors[0].name, 0, 4)]
    place = int(index.au_offset[0]), int(index.au_bytes[0])
    builder.add_unit(*place, 0, index.au_sha256[0].tobytes(), held)
    for part in range(len(index.part_offset) if kept else 0):
        at, size = int(index.part_offset[part]), int(index.part_bytes[part])
        builder.add_part(at, size, sha256(data[at : at + size]))
    chunks = [data]
    writer = StateWriter(lambda chunk: chunks.append(bytes(chunk)), parameters(), builder, len(data))
    for file in files:
        writer.attachment(file)
    writer.access_unit(unit)
    writer.finish(opened.state.end_offset)
    return b"".join(chunks)


def test_attachments_that_a_later_state_drops_or_replaces() -> None:
    data = stream(AccessUnit([raw()], bytes(4)), attachments=[NOTES])
    more = Attachment("more", 5, lambda: b"world")
    for good in (data, later_state(data, True), later_state(data, True, more)):
        assert read_forward(good) is None
        assert codes(good) == []
    for bad in (later_state(data, False), later_state(data, False, NOTES)):
        assert read_forward(bad) is ReasonCode.INDEX
        assert codes(bad) == [ReasonCode.INDEX]
    gap = later_state(data, True, number=7)
    assert read_forward(gap) is ReasonCode.ACCESS_UNIT
    assert codes(gap) == [ReasonCode.ACCESS_UNIT]
