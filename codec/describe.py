"""What is in a stream, for listings: units, and how each tensor is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from .access import describe_pieces
from .decode import Stream
from .errors import NnbitsError, ReasonCode
from .reader import ExtendedStream
from .records import UnitRecord
from .syntax import Extension, ExtensionKind, ParsedUnit, UnitType, parse_unit, peek_unit_size
from .types import TensorInfo

__all__ = ["StoredTensor", "describe"]

_KINDS: Final[Mapping[ExtensionKind, str]] = {
    ExtensionKind.METADATA: "metadata",
    ExtensionKind.ACCESS_UNIT_HEADER: "AU header",
    ExtensionKind.ACCESS_UNIT_DATA: "AU data",
    ExtensionKind.INDEX: "index",
    ExtensionKind.END: "end",
    ExtensionKind.ATTACHMENT: "attachment",
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as it stands in a stream.

    Attributes:
        info: what it is.
        unit: index of its data unit; in the extended profile of the header of its first access unit.
        coding: ``raw``, ``integer``, ``uniform``, ``dependent``, ``codebook``, ``lossless``, or ``zero`` for nothing.
        qp, step: of a quantized tensor.
        unit_bytes: of its data unit, or of its sections and data units in all its access units.
        payload_bytes: of these without headers.
    """

    info: TensorInfo
    unit: int
    coding: str
    qp: int | None
    step: float | None
    unit_bytes: int
    payload_bytes: int


def describe(stream: Stream | ExtendedStream) -> tuple[tuple[UnitRecord, ...], Mapping[str, StoredTensor]]:
    """All units in stream order, and how each tensor is stored. Access units are read as a whole, and checked.

    Raises:
        NnbitsError: codes 1xx..4xx with place.
    """
    if isinstance(stream, Stream):
        return tuple(stream.units), {name: _of_standard(stream, name) for name in stream.tensors}
    units = tuple(_units(stream))
    unit_at = {unit.offset: unit.index for unit in units}
    found: dict[str, StoredTensor] = {}
    for number in range(len(stream.index.au_offset)):
        access_unit, listed = stream.access_unit(number), stream.listed(number)
        for stored in describe_pieces(access_unit, stream.head):
            name = stored.piece.name
            if (name, stored.piece.first) not in listed:
                continue
            info = stream.tensors[stream.tensor(name)]
            if name in found:
                before = found[name]
                size = before.unit_bytes + stored.size
                coding = stored.coding if before.coding == "zero" else before.coding
                found[name] = replace(before, coding=coding, unit_bytes=size, payload_bytes=size)
            else:
                unit = unit_at[access_unit.offset]
                size = stored.size
                found[name] = StoredTensor(info, unit, stored.coding, stored.qp, stored.step, size, size)
    return units, {info.name: found[info.name] for info in stream.tensors}


def _of_standard(stream: Stream, name: str) -> StoredTensor:
    stored = stream.tensors[name]
    qp, step = stream.qp(name), stream.step(name)
    return StoredTensor(stored.info, stored.unit, stored.coding, qp, step, stored.unit_bytes, stored.payload_bytes)


def _units(stream: ExtendedStream) -> Iterator[UnitRecord]:
    offset = index = 0
    while offset < stream.source.size:
        if index >= stream.limits.max_units:
            raise NnbitsError(ReasonCode.LIMIT, f"more than {stream.limits.max_units} units", offset=offset)
        start = memoryview(stream.source.read_range(offset, min(4, stream.source.size - offset)))
        _, size = peek_unit_size(start, index=index, offset=offset)
        if size > stream.source.size - offset:
            raise NnbitsError(ReasonCode.TRUNCATED, "a unit is cut", path=f"unit[{index}]", offset=offset)
        data = memoryview(stream.source.read_range(offset, size))
        yield _record(parse_unit(data, index=index, offset=offset, parameters=stream.head.parameters))
        offset += size
        index += 1


def _record(unit: ParsedUnit) -> UnitRecord:
    kind = unit.unit_type
    name = f"type {kind}"
    if isinstance(unit.body, Extension):
        name = _KINDS[unit.body.ext_kind]
    elif kind < UnitType.NNR_EXT and kind in frozenset(UnitType):
        name = UnitType(kind).name.removeprefix("NNR_")
    return UnitRecord(unit.index, unit.offset, unit.size, kind, name, unit.size - unit.payload_offset)
