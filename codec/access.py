"""Access units: bytes to pieces of tensors (docs/format.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from .compose import Composition
from .convert import in_standard_profile
from .decode import NATIVE, Engine, Stream
from .errors import NnbitsError, ReasonCode
from .head import Head
from .integrity import check_crc32c, crc32c
from .limits import DEFAULT_LIMITS, MAX_ELEMENTS, Limits
from .source import SourceDescription
from .sparse import SparseMap, decode_map
from .syntax import (
    AccessUnitData,
    AccessUnitHeader,
    AccessUnitRelation,
    ParsedUnit,
    Piece,
    UnitType,
    ValueCoding,
    is_extension,
    parse_unit,
    peek_unit_size,
)
from .syntax.native import read_access_unit_part
from .types import DTYPES, Array, DType, LazyTensor, TensorInfo
from .values import decode_values, stored_bytes

__all__ = [
    "AccessUnit",
    "StoredPiece",
    "decode_piece",
    "decode_pieces",
    "decode_sparse",
    "describe_pieces",
    "dtype_of",
    "parse_access_unit",
    "single_data_units",
    "tensor_info",
    "value_shape",
]

_CRC_END: Final = 1 + 4 + 1 + 1 + 4  # unit header, signature, kind, version and au_crc32c behind the size
_DTYPE_OF: Final = {dtype.number: dtype for dtype in DTYPES.values()}


@dataclass(frozen=True)
class AccessUnit:
    """An access unit whose bytes were checked.

    Attributes:
        header: its header.
        offset: of its first byte in the stream.
        size: bytes.
        maps, values: sections of each piece in the data unit; empty where there is none.
        value_offsets: where the sections with values begin in the stream.
        data_units: the bytes of all its NDUs.
        data_units_offset: where they begin in the stream.
        units: its units.
    """

    header: AccessUnitHeader
    offset: int
    size: int
    maps: Sequence[memoryview]
    values: Sequence[memoryview]
    value_offsets: Sequence[int]
    data_units: memoryview
    data_units_offset: int
    units: Sequence[ParsedUnit]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Its pieces, in order."""
        return self.header.pieces

    @property
    def label(self) -> str:
        """For the paths of errors."""
        return f"access_unit[{self.header.au_number}]"


def dtype_of(piece: Piece) -> DType:
    """Element type of a piece."""
    return _DTYPE_OF[piece.element_type]


def tensor_info(piece: Piece) -> TensorInfo:
    """The whole tensor that a piece belongs to."""
    return TensorInfo(piece.name, dtype_of(piece), piece.dimensions)


def value_shape(piece: Piece) -> tuple[int, ...]:
    """Shape of the elements that are stored: of the piece, or with a sparse map one dimension."""
    return piece.shape if piece.value_count is None else (piece.value_count,)


def parse_access_unit(data: memoryview, *, offset: int, head: Head, limits: Limits = DEFAULT_LIMITS) -> AccessUnit:
    """Read an access unit and check its checksum and that everything in it adds up; values are not decoded.

    Args:
        data: its bytes, exactly.
        offset: of its first byte in the stream.
        head: of the stream.
        limits: bounds on the size of a piece.

    Raises:
        NnbitsError: codes 1xx..4xx; CHECKSUM for damaged bytes, ACCESS_UNIT for units or pieces that do not fit.
    """
    reader = _UnitReader(data, offset, head)
    first = reader.next()
    header = first.body
    if not isinstance(header, AccessUnitHeader):
        raise _bad("it does not begin with a header", "unit[0]", offset)
    label = f"access_unit[{header.au_number}]"
    payload = f"{label}.unit[0].nnr_unit_payload"
    if header.au_bytes != len(data):
        raise _bad(f"it has {len(data)} bytes, au_bytes is {header.au_bytes}", f"{payload}.au_bytes", offset)
    covered = peek_unit_size(data[:4], index=0, offset=offset)[0] + _CRC_END
    check_crc32c(header.au_crc32c, crc32c(data[covered:]), f"{payload}.au_crc32c", offset)
    try:
        _check_pieces(header.pieces, limits)
        return _with_sections(reader, header, first)
    except NnbitsError as error:
        error.path = f"{label}.{error.path}" if error.path else label
        error.offset = offset if error.offset is None else error.offset
        raise


def _with_sections(reader: _UnitReader, header: AccessUnitHeader, first: ParsedUnit) -> AccessUnit:
    units = [first]
    sections = memoryview(b"")
    if header.data_flag:
        unit = reader.next()
        if not isinstance(unit.body, AccessUnitData):
            raise _bad("data_flag announces a data unit", "data_flag", unit.offset)
        units.append(unit)
        sections = reader.payload(unit)
    data_units_offset = reader.offset + reader.at
    maps, values, offsets = _cut(header.pieces, sections, units[-1].offset, data_units_offset - len(sections))
    for _ in range(header.ndu_count):
        unit = reader.next()
        if unit.unit_type != UnitType.NNR_NDU:
            raise _bad(f"ndu_count announces a data unit, found type {unit.unit_type}", "ndu_count", unit.offset)
        units.append(unit)
    if reader.at != len(reader.data):
        raise _bad("bytes are left behind its last unit", "au_bytes", reader.offset + reader.at)
    start = data_units_offset - reader.offset
    return AccessUnit(
        header,
        reader.offset,
        len(reader.data),
        maps,
        values,
        offsets,
        reader.data[start:],
        data_units_offset,
        tuple(units),
    )


class _UnitReader:
    """The units of an access unit, one after the other."""

    def __init__(self, data: memoryview, offset: int, head: Head) -> None:
        self.data = data
        self.offset = offset
        self.parameters = head.parameters
        self.at = 0
        self.index = 0

    def next(self) -> ParsedUnit:
        offset = self.offset + self.at
        _, size = peek_unit_size(self.data[self.at : self.at + 4], index=self.index, offset=offset)
        if size > len(self.data) - self.at:
            raise NnbitsError(
                ReasonCode.TRUNCATED,
                f"a unit of {size} bytes, but the access unit has {len(self.data) - self.at} left",
                path=f"unit[{self.index}]",
                offset=offset,
            )
        data = self.data[self.at : self.at + size]
        unit = read_access_unit_part(data, index=self.index, offset=offset) if is_extension(data) else None
        if unit is None:
            unit = parse_unit(data, index=self.index, offset=offset, parameters=self.parameters)
        self.at += size
        self.index += 1
        return unit

    def payload(self, unit: ParsedUnit) -> memoryview:
        """What follows the elements of the unit that was read last."""
        return self.data[self.at - unit.size + unit.payload_offset : self.at]


def _check_pieces(pieces: Sequence[Piece], limits: Limits) -> None:
    seen: set[str] = set()
    for j, piece in enumerate(pieces):
        try:
            _check_piece(piece, limits)
        except NnbitsError as error:
            error.path = f"{error.path}[{j}]"
            raise
        if piece.unit_name in seen:
            raise NnbitsError(ReasonCode.DUPLICATE_NAME, f"{piece.unit_name!r} occurs twice", path=f"name[{j}]")
        seen.add(piece.unit_name)


def _check_piece(piece: Piece, limits: Limits) -> None:
    dtype, size, count = dtype_of(piece), piece.size, piece.count
    if size > MAX_ELEMENTS:
        raise NnbitsError(ReasonCode.LIMIT, f"tensor {piece.name!r} has {size} elements", path="dimensions")
    if stored_bytes(dtype, size) > limits.max_tensor_bytes:
        raise NnbitsError(
            ReasonCode.MEMORY_BUDGET,
            f"tensor {piece.name!r} takes {stored_bytes(dtype, size)} bytes",
            path="dimensions",
            hint="Raise Limits.max_tensor_bytes if that is right",
        )
    if piece.first_element is not None:
        end = piece.first + count
        if not count or end > size:
            raise _bad(f"elements {piece.first} to {end} of {size}", "first_element")
        if dtype.is_packed and (piece.first * dtype.bits % 8 or (end < size and end * dtype.bits % 8)):
            raise _bad("a part of packed elements does not begin and end at whole bytes", "first_element")
    stored = count if piece.value_count is None else piece.value_count
    if stored > count:
        raise NnbitsError(ReasonCode.SPARSE_MAP, f"{stored} of {count} elements exist", path="value_count")
    if piece.value_coding == ValueCoding.RAW and piece.value_bytes != stored_bytes(dtype, stored):
        raise NnbitsError(
            ReasonCode.SHAPE_MISMATCH,
            f"{stored} raw elements take {stored_bytes(dtype, stored)} bytes, not {piece.value_bytes}",
            path="value_bytes",
        )
    if piece.value_coding == ValueCoding.NDU and not in_standard_profile(dtype):
        raise _bad(f"{dtype.name} elements in a data unit of the standard", "value_coding")


def _cut(
    pieces: Sequence[Piece], sections: memoryview, offset: int, start: int
) -> tuple[list[memoryview], list[memoryview], list[int]]:
    """The sections of each piece, which fill the data unit exactly."""
    total = sum((piece.map_bytes or 0) + (piece.value_bytes or 0) for piece in pieces)
    if total != len(sections):
        raise _bad(f"the sections have {total} bytes, the data unit {len(sections)}", "value_bytes", offset)
    maps: list[memoryview] = []
    values: list[memoryview] = []
    offsets = []
    at = 0
    for piece in pieces:
        for length, target in ((piece.map_bytes or 0, maps), (piece.value_bytes or 0, values)):
            if target is values:
                offsets.append(start + at)
            target.append(sections[at : at + length])
            at += length
    return maps, values, offsets


def _bad(message: str, path: str, offset: int | None = None) -> NnbitsError:
    return NnbitsError(ReasonCode.ACCESS_UNIT, f"the access unit is not usable: {message}", path=path, offset=offset)


def decode_pieces(
    unit: AccessUnit,
    head: Head,
    numbers: Iterable[int] | None = None,
    *,
    changes: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    engine: Engine = NATIVE,
    out: Callable[[Piece], Array | None] = lambda piece: None,
) -> Iterator[tuple[Piece, Array]]:
    """All pieces of an access unit, or those with the given numbers, and their elements, see :func:`decode_piece`."""
    coded = _DataUnits(unit, head, limits, engine)
    for j in range(len(unit.pieces)) if numbers is None else numbers:
        yield unit.pieces[j], _decode(unit, j, coded, changes, out=out(unit.pieces[j]))


def decode_piece(
    unit: AccessUnit,
    number: int,
    head: Head,
    *,
    first: int = 0,
    n: int | None = None,
    out: Array | None = None,
    changes: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    engine: Engine = NATIVE,
) -> Array:
    """The elements of one piece, or some of them.

    Args:
        unit: from :func:`parse_access_unit`.
        number: of the piece in the access unit.
        head: of the stream.
        first: the first element of the piece that is wanted; of packed types at the beginning of a byte.
        n: how many; default: all that follow. Of packed types whole bytes, but for the end of the piece.
        out: receives them: contiguous, one-dimensional, of the storage dtype.
        changes: of an access unit of relation XOR deliver the bits that are to be XORed to those of the base.

    Returns:
        One-dimensional array of the element type's storage dtype, ``out`` if given; bytes if the type is packed.

    Raises:
        NnbitsError: codes 1xx..4xx with access unit and offset; BASE_MISSING for relation XOR without ``changes``.
    """
    return _decode(unit, number, _DataUnits(unit, head, limits, engine), changes, first, n, out)


def _decode(
    unit: AccessUnit,
    number: int,
    coded: _DataUnits,
    changes: bool,
    first: int = 0,
    n: int | None = None,
    out: Array | None = None,
) -> Array:
    piece = unit.pieces[number]
    dtype = dtype_of(piece)
    wanted = piece.count - first if n is None else n
    try:
        _check_alone(unit, changes)
        if piece.map_kind:
            whole = wanted == piece.count
            values = _values(unit, number, coded)
            sparse, bits = decode_piece_map(unit, number), dtype.bits if dtype.is_packed else 8
            dense = sparse.expand(values, out if whole else None, bits=bits)
        elif piece.value_coding == ValueCoding.NDU:
            whole, dense = wanted == piece.count and out is None, coded.read(piece)
        else:
            return _values(unit, number, coded, first, wanted, out)
    except NnbitsError as error:
        raise _placed(error, unit, number) from None
    if whole:
        return dense
    at = first * dtype.bits // 8 if dtype.is_packed else first
    part = dense[at : at + stored_bytes(dtype, wanted) // dtype.itemsize]
    if out is None:
        return part.copy()
    out[:] = part
    return out


def _check_alone(unit: AccessUnit, changes: bool) -> None:
    if unit.header.au_relation == AccessUnitRelation.XOR and not changes:
        raise NnbitsError(
            ReasonCode.BASE_MISSING,
            "the access unit changes the tensors of another model",
            path="au_relation",
            hint="Apply it to its base: nnbits apply, or nnbits.open with base=",
        )


def _placed(error: NnbitsError, unit: AccessUnit, number: int) -> NnbitsError:
    error.path = f"{unit.label}.{error.path or 'values'}"
    error.message += f" (tensor {unit.pieces[number].name!r})"
    error.offset = unit.offset if error.offset is None else error.offset
    return error


@dataclass(frozen=True)
class StoredPiece:
    """How a piece stands in its access unit.

    Attributes:
        coding: ``zero``, ``raw``, ``lossless``, or that of its data unit: ``integer``, ``uniform``, ...
        qp, step: of a quantized piece.
        size: bytes of its sections, or of its data unit if it comes first in it.
    """

    piece: Piece
    coding: str
    qp: int | None
    step: float | None
    size: int


_CODINGS: Final = {ValueCoding.NOTHING: "zero", ValueCoding.RAW: "raw", ValueCoding.LOSSLESS: "lossless"}


def describe_pieces(unit: AccessUnit, head: Head) -> Iterator[StoredPiece]:
    """How each piece of an access unit is stored.

    Raises:
        NnbitsError: what the headers of the data units raise.
    """
    coded = _DataUnits(unit, head, DEFAULT_LIMITS, NATIVE)
    for piece in unit.pieces:
        if piece.value_coding != ValueCoding.NDU:
            size = (piece.map_bytes or 0) + (piece.value_bytes or 0)
            yield StoredPiece(piece, _CODINGS[piece.value_coding], None, None, size)
            continue
        stream, name = coded.stream, piece.unit_name
        stored = stream.tensors.get(name) or next(iter(stream.tensors.values()))
        first = stream.data_unit(stored.info.name).parts[0].name == stored.info.name
        size = (piece.map_bytes or 0) + (stored.unit_bytes if first else 0)
        yield StoredPiece(piece, stored.coding, stream.qp(stored.info.name), stream.step(stored.info.name), size)


def single_data_units(unit: AccessUnit, head: Head) -> dict[int, memoryview]:
    """Bytes of the data units that carry one piece and nothing else, by the number of the piece.

    Raises:
        NnbitsError: what the headers of the data units raise.
    """
    stream = _DataUnits(unit, head, DEFAULT_LIMITS, NATIVE).stream
    start, shift = unit.data_units_offset, unit.data_units_offset - len(head.standard)
    by_offset = {u.offset: unit.data_units[u.offset - start :][: u.size] for u in unit.units if u.offset >= start}
    found = {}
    for number, piece in enumerate(unit.pieces):
        if piece.value_coding == ValueCoding.NDU and piece.unit_name in stream.tensors:
            stored = stream.tensors[piece.unit_name]
            if len(stream.data_unit(piece.unit_name).parts) == 1:
                found[number] = by_offset[stream.units[stored.unit].offset + shift]
    return found


def _values(
    unit: AccessUnit,
    number: int,
    coded: _DataUnits,
    first: int = 0,
    n: int | None = None,
    out: Array | None = None,
) -> Array:
    piece = unit.pieces[number]
    if piece.value_coding == ValueCoding.NDU:
        return coded.read(piece)
    count = piece.count if piece.value_count is None else piece.value_count
    section, dtype = unit.values[number], dtype_of(piece)
    try:
        return decode_values(piece.value_coding, section, dtype, count, first=first, n=n, out=out)
    except NnbitsError as error:
        error.offset = (error.offset or 0) + unit.value_offsets[number]
        raise


def decode_piece_map(unit: AccessUnit, number: int) -> SparseMap:
    """The sparse map of a piece that has one.

    Raises:
        NnbitsError: SPARSE_MAP, UNSUPPORTED_FEATURE.
    """
    piece = unit.pieces[number]
    try:
        return decode_map(piece.map_kind, unit.maps[number], piece.shape, piece.value_count or 0)
    except NnbitsError as error:
        error.path = f"map[{number}]"
        error.offset = unit.value_offsets[number] - len(unit.maps[number])
        raise


def decode_sparse(
    unit: AccessUnit, number: int, head: Head, *, limits: Limits = DEFAULT_LIMITS
) -> tuple[SparseMap | None, Array]:
    """Map and values of a piece, without making it dense; None if it has no map.

    Raises:
        NnbitsError: as :func:`decode_piece`.
    """
    try:
        _check_alone(unit, False)
        values = _values(unit, number, _DataUnits(unit, head, limits, NATIVE))
        return (decode_piece_map(unit, number) if unit.pieces[number].map_kind else None), values
    except NnbitsError as error:
        raise _placed(error, unit, number) from None


class _DataUnits:
    """The NDUs of an access unit, decoded as the stream of the standard that they are with the head before them."""

    def __init__(self, unit: AccessUnit, head: Head, limits: Limits, engine: Engine) -> None:
        self._unit = unit
        self._head = head
        self._limits = limits
        self._engine = engine

    def read(self, piece: Piece) -> Array:
        """The elements of a piece, one-dimensional."""
        with self._placed():
            return self.tensors[piece.unit_name].read().reshape(-1)

    @contextmanager
    def _placed(self) -> Iterator[None]:
        """Errors know their offset in the stream made of the head and these units."""
        try:
            yield
        except NnbitsError as error:
            if error.offset is not None and error.path is not None and error.path.startswith("unit["):
                error.offset += self._unit.data_units_offset - len(self._head.standard)
            else:
                error.offset = None  # of what stands in no unit: that of the access unit
            raise

    @cached_property
    def infos(self) -> dict[str, TensorInfo]:
        """What the pieces say of them."""
        coded = (piece for piece in self._unit.pieces if piece.value_coding == ValueCoding.NDU)
        return {p.unit_name: TensorInfo(p.unit_name, dtype_of(p), value_shape(p)) for p in coded}

    @cached_property
    def stream(self) -> Stream:
        """The stream."""
        description = SourceDescription(
            count=0,
            dtypes={name: info.dtype.name for name, info in self.infos.items()},
            shapes={name: info.shape for name, info in self.infos.items()},
            folded=self._head.description.folded,
        )
        data = memoryview(self._head.standard + bytes(self._unit.data_units))
        return Stream(data, limits=self._limits, engine=self._engine, source=description)

    @cached_property
    def tensors(self) -> dict[str, LazyTensor]:
        """The tensors by the names of their data units."""
        model = self.stream.composed() if self.stream.needs_composition else self.stream.model()
        tensors = {tensor.info.name: tensor for tensor in model}
        if tensors.keys() != self.infos.keys():
            raise _bad("the data units carry other tensors than the header says", "value_coding", self._unit.offset)
        for name, tensor in tensors.items():
            if tensor.info != self.infos[name]:
                raise NnbitsError(
                    ReasonCode.SHAPE_MISMATCH,
                    f"{name!r} is {tensor.info.dtype.name} {tensor.info.shape} in its data unit",
                    path="dimensions",
                    offset=self._unit.offset,
                )
        places = self._places()
        order = [places[piece.unit_name] for piece in self._unit.pieces if piece.unit_name in tensors]
        if list(dict.fromkeys(order)) != sorted(set(order)):
            raise _bad("the data units are not in the order of the pieces", "value_coding", self._unit.offset)
        return tensors

    def _places(self) -> dict[str, int]:
        """For each tensor the number of the unit that carries it."""
        units = self.stream.compositions() if self.stream.needs_composition else self.stream.data_units
        return {
            item.name: number
            for number, unit in enumerate(units)
            for item in (unit.infos if isinstance(unit, Composition) else unit.parts)
        }
