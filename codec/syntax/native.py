"""The C parser: the verdicts of :func:`~nnbits.codec.stream.read_units` and the traces of the declaration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from .._core import ffi, lib
from ..errors import NnbitsError, ReasonCode
from ..limits import MAX_NAME_BYTES
from .enums import AccessUnitRelation, ElementType, ExtensionKind, UnitType, ValueCoding
from .extension_views import AccessUnitData, AccessUnitHeader, Piece
from .float32 import float32_value
from .trace import TraceRecord, TraceValue
from .unit_io import ParsedUnit
from .views import SUPPLIED_NAMES, SuppliedParameters, UnitHeader

__all__ = ["NativeStream", "parse_verdict", "read_access_unit_part", "trace_stream"]

_GIVEN: Final = {name: getattr(lib, f"NNB_SUPPLIED_{name.upper()}") for name in SUPPLIED_NAMES}


class NativeStream:
    """The units of a stream as the C parser reads them.

    Args:
        data: the stream.
        supplied: values from outside the bitstream by tensor name.
        on_element: receives each element.

    Attributes:
        c: the ``nnb_stream``.

    Raises:
        NnbitsError: BAD_OPTION for supplied values that no element can have.
    """

    def __init__(
        self,
        data: bytes,
        supplied: Mapping[str, SuppliedParameters] | None = None,
        on_element: Callable[[TraceRecord], None] | None = None,
    ) -> None:
        self.c = ffi.new("nnb_stream *")
        self._data = data
        self._handle = None
        buffer = ffi.from_buffer("uint8_t[]", data)
        self._keep = [buffer]
        self._status = lib.nnb_stream_open(self.c, buffer, len(data))
        if supplied:
            try:
                table = ffi.new("nnb_supplied[]", [self._supplied(*item) for item in supplied.items()])
            except OverflowError as error:
                raise NnbitsError(ReasonCode.BAD_OPTION, f"a supplied value is out of range: {error}") from error
            self._keep.append(table)
            self.c.parameters.supplied = table
            self.c.parameters.supplied_count = len(table)
        if on_element is not None:
            self._handle = ffi.new_handle(lambda record: on_element(_record(record, data)))
            self.c.trace.function = lib.nnb_on_element
            self.c.trace.user = self._handle

    def __iter__(self) -> Iterator[Any]:
        """The units; each ``nnb_unit *`` is valid until the next one.

        Raises:
            NnbitsError: as the Python reader.
        """
        unit = ffi.new("nnb_unit *")
        while True:
            status = self._status or lib.nnb_stream_next(self.c, unit)
            if status:
                code = ReasonCode(status)
                raise NnbitsError(code, code.name.lower().replace("_", " "), offset=self.c.offset)
            if not unit.size:
                return
            yield unit

    def _supplied(self, name: str, values: SuppliedParameters) -> dict[str, Any]:
        given = {key: getattr(values, key) for key in SUPPLIED_NAMES if getattr(values, key) is not None}
        key = ffi.from_buffer("uint8_t[]", name.encode())
        self._keep.append(key)
        flags = sum(_GIVEN[item] for item in given)
        if "tensor_dimensions" in given:
            dimensions = given["tensor_dimensions"]
            given["tensor_dimensions"] = ffi.new("uint64_t[]", list(dimensions))
            given["count_tensor_dimensions"] = len(dimensions)
            self._keep.append(given["tensor_dimensions"])
        return {"name": {"data": key, "size": len(key)}, "given": flags, **given}


@ffi.def_extern()  # type: ignore[untyped-decorator]
def nnb_on_element(user: Any, record: Any) -> None:
    """What C calls for each element; ``user`` is the handle of a Python function."""
    ffi.from_handle(user)(record)


def _record(record: Any, data: bytes) -> TraceRecord:
    index = "".join(f"[{record.index[k]}]" for k in range(record.depth))
    path = f"unit[{record.unit}].{_text(record.group)}{_text(record.name)}{index}"
    return TraceRecord(path, record.position, record.width, _value(record, data))


def _text(constant: Any) -> str:
    text: bytes = ffi.string(constant)
    return text.decode()


def _value(record: Any, data: bytes) -> TraceValue:
    value: int = record.value
    if record.kind == lib.NNB_TRACE_SIGNED:
        return value - (value >> 63 << 64)
    if record.kind == lib.NNB_TRACE_FLOAT:
        return float32_value(value)
    if record.kind == lib.NNB_TRACE_STRING:
        first = record.position >> 3
        return data[first : first + (record.width >> 3) - 1].decode()
    if record.kind == lib.NNB_TRACE_BITS:
        return _bits(data, record.position, record.width)
    return value


def _bits(data: bytes, position: int, width: int) -> bytes:
    """``width`` bits from ``position``, left-justified."""
    end = position + width
    last, size = (end + 7) >> 3, (width + 7) >> 3
    bits = (int.from_bytes(data[position >> 3 : last], "big") >> (8 * last - end)) & ((1 << width) - 1)
    return (bits << (8 * size - width)).to_bytes(size, "big")


def trace_stream(data: bytes, supplied: Mapping[str, SuppliedParameters] | None = None) -> list[str]:
    """The lines of :class:`~nnbits.codec.syntax.Trace` for a whole stream, up to its end or its first error.

    Args:
        data: the stream.
        supplied: values from outside the bitstream by tensor name.

    Raises:
        NnbitsError: BAD_OPTION for supplied values that no element can have.
    """
    records: list[TraceRecord] = []
    _verdict(NativeStream(data, supplied, records.append))
    return list(map(str, records))


def parse_verdict(data: bytes, supplied: Mapping[str, SuppliedParameters] | None = None) -> ReasonCode | None:
    """The code that reading the units of a stream raises, None if it has no error; payloads are not touched.

    Args:
        data: the stream.
        supplied: values from outside the bitstream by tensor name.

    Raises:
        NnbitsError: BAD_OPTION for supplied values that no element can have.
    """
    return _verdict(NativeStream(data, supplied))


def _verdict(stream: NativeStream) -> ReasonCode | None:
    try:
        for _ in stream:
            pass
    except NnbitsError as error:
        return error.code
    return None


def read_access_unit_part(data: memoryview, *, index: int, offset: int) -> ParsedUnit | None:
    """The header or data unit of an access unit, read by the C parser, which takes a tenth of the time.

    Args:
        data: exactly the bytes of the unit.
        index: its number.
        offset: its byte offset in the stream.

    Returns:
        What :func:`~nnbits.codec.syntax.parse_unit` returns, but that the columns of a header are those that
        ``AccessUnitHeader.of`` makes of its pieces; None for other units and for those with an error, which
        ``parse_unit`` then tells with its place.
    """
    parameters, unit = ffi.new("nnb_parameters *"), ffi.new("nnb_unit *")
    lib.nnb_parameters_start(parameters)
    if lib.nnb_parse_unit(ffi.from_buffer("uint8_t[]", data), len(data), index, offset, parameters, ffi.NULL, unit):
        return None
    kind = unit.body.ext.ext_kind if unit.nnr_unit_type == UnitType.NNR_EXT else 0
    body: AccessUnitHeader | AccessUnitData
    if kind == ExtensionKind.ACCESS_UNIT_HEADER:
        body = _access_unit_header(data, unit.body.ext)
    elif kind == ExtensionKind.ACCESS_UNIT_DATA:
        body = AccessUnitData()
    else:
        return None
    header = UnitHeader(UnitType.NNR_EXT, unit.independently_decodable_flag)
    flag = unit.nnr_unit_size_flag
    return ParsedUnit(
        index, offset, len(data), UnitType.NNR_EXT, header, body, unit.payload_offset, nnr_unit_size_flag=flag
    )


_ELEMENT_TYPES: Final = {int(number): number for number in ElementType}
_VALUE_CODINGS: Final = tuple(ValueCoding)
_IN_DATA_UNIT: Final = (ValueCoding.RAW, ValueCoding.LOSSLESS)


def _access_unit_header(data: memoryview, ext: Any) -> AccessUnitHeader:
    relation = AccessUnitRelation(ext.au_relation)
    digest = None if relation == AccessUnitRelation.ALONE else _bits(bytes(data), ext.digest_position, 256)
    header = AccessUnitHeader.of(
        tuple(_pieces(ext)),
        au_number=ext.au_number,
        au_relation=relation,
        base_digest=digest,
        data_flag=ext.data_flag,
        ndu_count=ext.ndu_count,
        au_crc32c=ext.crc32c,
        au_bytes=ext.au_bytes,
    )
    return header


def _pieces(ext: Any) -> Iterator[Piece]:
    pieces, piece = ffi.addressof(ext, "pieces"), ffi.new("nnb_piece *")
    name, dimension = ffi.new("uint8_t[]", MAX_NAME_BYTES), ffi.new("uint64_t *")
    dimensions = ffi.addressof(piece, "dimensions")
    while lib.nnb_next_piece(pieces, piece, name, MAX_NAME_BYTES):
        sizes = []
        for _ in range(piece.count_dimensions):
            lib.nnb_list_dimension(dimensions, dimension)
            sizes.append(dimension[0])
        part, mapped, coding = piece.part_flag, piece.map_kind > 0, _VALUE_CODINGS[piece.value_coding]
        yield Piece(
            str(ffi.buffer(name, piece.name_length), "utf-8"),
            _ELEMENT_TYPES[piece.element_type],
            tuple(sizes),
            piece.first_element if part else None,
            piece.element_count if part else None,
            piece.map_kind,
            piece.map_bytes if mapped else None,
            piece.value_count if mapped else None,
            coding,
            piece.value_bytes if coding in _IN_DATA_UNIT else None,
        )
