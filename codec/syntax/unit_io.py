"""Reading and writing one unit."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any, Final

from construct import ConstructError, Container

from ..errors import NnbitsError, ReasonCode
from ..limits import MAX_UNIT_BYTES
from .bits import BitReader, BitWriter
from .enums import PayloadType, UnitType
from .extension import EXT_SIGNATURE
from .extension_views import EXTENSION_VIEWS, Extension
from .trace import Trace
from .units import SIZE_FIELD, UNIT, UNIT_TYPE_BITS
from .views import (
    AggregateUnit,
    Body,
    CompressedDataUnit,
    LayerParameterSet,
    ModelParameterSet,
    Quantization,
    StartUnit,
    SuppliedParameters,
    Topology,
    UnitHeader,
    UnknownUnit,
    from_container,
    to_container,
)

__all__ = [
    "ParameterSets",
    "ParsedUnit",
    "build_unit",
    "build_unit_prefix",
    "is_extension",
    "parse_unit",
    "peek_unit_size",
]

_SHORT_MAX: Final = 2**15 - 1
#: Unit header of type 32, independently decodable, without a counter; signature.
_EXTENSION_START: Final = bytes([UnitType.NNR_EXT << 2 | 2]) + EXT_SIGNATURE.to_bytes(4, "big")
_NOTHING: Final[Mapping[str, SuppliedParameters]] = MappingProxyType({})

_BODIES: Final[Mapping[int, type[Body]]] = {
    UnitType.NNR_STR: StartUnit,
    UnitType.NNR_MPS: ModelParameterSet,
    UnitType.NNR_LPS: LayerParameterSet,
    UnitType.NNR_TPL: Topology,
    UnitType.NNR_QNT: Quantization,
    UnitType.NNR_NDU: CompressedDataUnit,
    UnitType.NNR_AGG: AggregateUnit,
}

#: What a slip in the declaration, or an argument of a wrong type, would raise.
_FOREIGN_ERRORS: Final = (
    ConstructError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True)
class ParameterSets:
    """What is in force when a unit is read or written.

    Attributes:
        general_profile_idc: of the start unit; everything but 1 means the syntax of profile 0.
        mps: the model parameter set, None before it.
        supplied: values from outside the bitstream by tensor name (for a BLOCK its first name); they replace
            transmitted ones.
        lps: the layer parameter set in force, if any. From the standard, no peer.
    """

    general_profile_idc: int = 1
    mps: ModelParameterSet | None = None
    supplied: Mapping[str, SuppliedParameters] = dataclasses.field(default_factory=lambda: _NOTHING)
    lps: LayerParameterSet | None = None


@dataclass(frozen=True)
class ParsedUnit:
    """One unit.

    Attributes:
        index: its number in the stream.
        offset: byte offset in the stream.
        size: nnr_unit_size.
        unit_type: nnr_unit_type.
        header: the common part of the unit header.
        body: its elements.
        payload_offset: where the bytes begin that are not elements, relative to the unit: the payload of NDU, AGG and
            unknown units, compressed content and data sections of extension units; ``size`` for the others.
        nnr_unit_size_flag: 1 if the size field has 4 bytes.
    """

    index: int
    offset: int
    size: int
    unit_type: int
    header: UnitHeader
    body: Body
    payload_offset: int
    nnr_unit_size_flag: int


def peek_unit_size(data: memoryview, *, index: int, offset: int) -> tuple[int, int]:
    """The size of the size field (2 or 4 bytes) and nnr_unit_size.

    Args:
        data: what follows in the stream; 4 bytes are always enough.
        index: number of the unit, for errors.
        offset: its byte offset in the stream, for errors.

    Raises:
        NnbitsError: TRUNCATED if there are too few bytes, UNIT_SIZE if the size is smaller than any unit.
    """
    size_bytes = 4 if bytes(data[:1]) >= b"\x80" else 2
    if len(data) >= size_bytes:  # what the declaration would read, without its overhead
        size = int.from_bytes(data[:size_bytes], "big") & (1 << (8 * size_bytes - 1)) - 1
        if size > size_bytes:
            return size_bytes, size
    path = f"unit[{index}]"
    reader = BitReader(data, offset=offset)
    elements = SIZE_FIELD._parse(reader, _context(ParameterSets(), parsing=True), path)
    size_bytes = reader.position >> 3
    size = elements["nnr_unit_size"]
    if size < size_bytes + 1:
        message = f"a unit has at least {size_bytes + 1} bytes, not {size}"
        raise NnbitsError(ReasonCode.UNIT_SIZE, message, path=f"{path}.nnr_unit_size", offset=offset)
    return size_bytes, size


def parse_unit(
    data: memoryview, *, index: int, offset: int, parameters: ParameterSets, trace: Trace | None = None
) -> ParsedUnit:
    """Read a unit.

    Args:
        data: exactly the bytes of the unit.
        index: its number in the stream.
        offset: its byte offset in the stream.
        parameters: what is in force.
        trace: receives the elements.

    Raises:
        NnbitsError: any 1xx code but NOT_NNC, VALUE_RANGE, SHAPE_MISSING, UNIT_ORDER (NDU before an MPS),
            UNSUPPORTED_FEATURE, LIMIT.
    """
    path = f"unit[{index}]"
    _, size = peek_unit_size(data, index=index, offset=offset)
    if size != len(data):
        code = ReasonCode.TRUNCATED if size > len(data) else ReasonCode.UNIT_SIZE
        message = f"nnr_unit_size is {size}, but {len(data)} bytes are given"
        raise NnbitsError(code, message, path=f"{path}.nnr_unit_size", offset=offset)
    reader = BitReader(data, offset=offset, trace=trace)
    with _only_own_errors(path, offset):
        _require_mps(_peek_type(data), parameters, path, offset)
        extension = is_extension(data)
        unit = UNIT._parse(reader, _context(parameters, parsing=True, extension=extension), path)
        elements = unit["nnr_unit_header"] | unit["nnr_unit_payload"]
        unit_type: int = elements["nnr_unit_type"]
        header = from_container(UnitHeader, elements)
        kind = EXTENSION_VIEWS[elements["ext_kind"]] if extension else _BODIES.get(unit_type)
        body = UnknownUnit(unit_type) if kind is None else from_container(kind, elements)
    opaque = _has_payload(body)
    if reader.remaining and not opaque:
        message = f"{reader.remaining // 8} bytes are left after the last element"
        raise reader.error(ReasonCode.UNIT_SIZE, message, f"{path}.nnr_unit_payload")
    payload_offset = reader.position >> 3
    if isinstance(body, CompressedDataUnit):
        _check_payload_size(body, size - payload_offset, path, offset + payload_offset)
    return ParsedUnit(
        index, offset, size, unit_type, header, body, payload_offset, nnr_unit_size_flag=unit["nnr_unit_size_flag"]
    )


def build_unit(
    body: Body,
    *,
    parameters: ParameterSets,
    payload: bytes = b"",
    independently_decodable_flag: int = 1,
    partial_data_counter: int | None = None,
    long_size: bool = False,
    index: int = 0,
    offset: int = 0,
    trace: Trace | None = None,
) -> bytes:
    """A whole unit.

    Args:
        body: its elements.
        parameters: what is in force.
        payload: of NDU, AGG and unknown units.
        independently_decodable_flag: as in the header.
        partial_data_counter: None for no counter.
        long_size: take the 4-byte size field even where 2 bytes do.
        index: number of the unit, for errors and the trace.
        offset: its byte offset in the stream, for errors and the trace.
        trace: receives the elements.

    Raises:
        NnbitsError: VALUE_RANGE, UNKNOWN_VALUE or BAD_STRING for values that the codes cannot carry, BAD_OPTION for
            missing and contradictory ones, LIMIT, UNIT_ORDER.
    """
    prefix = build_unit_prefix(
        body,
        parameters=parameters,
        payload_size=len(payload),
        independently_decodable_flag=independently_decodable_flag,
        partial_data_counter=partial_data_counter,
        long_size=long_size,
        index=index,
        offset=offset,
        trace=trace,
    )
    return prefix + payload if payload else prefix


def build_unit_prefix(
    body: Body,
    *,
    parameters: ParameterSets,
    payload_size: int,
    independently_decodable_flag: int = 1,
    partial_data_counter: int | None = None,
    long_size: bool = False,
    index: int = 0,
    offset: int = 0,
    trace: Trace | None = None,
) -> bytes:
    """Everything of a unit that precedes a payload of ``payload_size`` bytes; see :func:`build_unit`."""
    path = f"unit[{index}]"
    with _only_own_errors(path, offset, wrong_type=ReasonCode.BAD_OPTION):
        if payload_size and not _has_payload(body):
            message = "units of this type have no payload of bytes"
            raise NnbitsError(ReasonCode.BAD_OPTION, message, path=path, offset=offset)
        _require_mps(body.nnr_unit_type, parameters, path, offset)
        if isinstance(body, CompressedDataUnit):
            _check_payload_size(body, payload_size, path, offset)
        common = UnitHeader(body.nnr_unit_type, independently_decodable_flag, partial_data_counter)
        elements = to_container(body) | to_container(common)
        extension = isinstance(body, Extension)
        if isinstance(body, Extension):
            elements |= body.signature()
        flag = int(long_size)
        # The size field has whole bytes, so the rest does not depend on it: write with any size, then put the true one.
        rest = _write(elements, flag, 0, parameters, index, offset, None, extension)[2 + 2 * flag :]
        flag = int(long_size or 2 + len(rest) + payload_size > _SHORT_MAX)
        size = 2 + 2 * flag + len(rest) + payload_size
        if size > MAX_UNIT_BYTES:
            message = f"the unit would have {size} bytes, more than {MAX_UNIT_BYTES}"
            raise NnbitsError(ReasonCode.LIMIT, message, path=f"{path}.nnr_unit_size", offset=offset)
        if trace is not None:
            return _write(elements, flag, size, parameters, index, offset, trace, extension)
        writer = BitWriter()
        field = {"nnr_unit_size_flag": flag, "nnr_unit_size": size}
        SIZE_FIELD._build(field, writer, _context(parameters, parsing=False), path)
        return writer.getvalue() + rest


def _write(
    elements: dict[str, Any],
    flag: int,
    size: int,
    parameters: ParameterSets,
    index: int,
    offset: int,
    trace: Trace | None,
    extension: bool,
) -> bytes:
    writer = BitWriter(offset=offset, trace=trace)
    unit = {
        "nnr_unit_size_flag": flag,
        "nnr_unit_size": size,
        # Writing may change the containers (values from outside, section 6.3).
        "nnr_unit_header": dict(elements),
        "nnr_unit_payload": dict(elements),
    }
    UNIT._build(unit, writer, _context(parameters, parsing=False, extension=extension), f"unit[{index}]")
    return writer.getvalue()


def is_extension(data: memoryview) -> bool:
    """Whether a unit is of type 32 and begins with our signature; its first 9 bytes are enough."""
    start = 4 if bytes(data[:1]) >= b"\x80" else 2
    return bytes(data[start : start + 5]) == _EXTENSION_START


def _has_payload(body: Body) -> bool:
    """Whether bytes that are not elements may follow the last element."""
    return isinstance(body, CompressedDataUnit | AggregateUnit | UnknownUnit) or (
        isinstance(body, Extension) and body.has_payload
    )


def _peek_type(data: memoryview) -> int:
    """nnr_unit_type of a unit whose size field was checked."""
    return data[4 if data[0] & 0x80 else 2] >> (8 - UNIT_TYPE_BITS)


def _require_mps(unit_type: int, parameters: ParameterSets, path: str, offset: int) -> None:
    if unit_type in (UnitType.NNR_NDU, UnitType.NNR_AGG) and parameters.mps is None:
        raise NnbitsError(ReasonCode.UNIT_ORDER, "the unit stands before the parameter set", path=path, offset=offset)


def _check_payload_size(body: CompressedDataUnit, size: int, path: str, offset: int) -> None:
    """raw_float32_parameter is raw32( product of tensor_dimensions ) (6.4), checked before any of it is touched."""
    if body.nnr_compressed_data_unit_payload_type != PayloadType.NNR_PT_RAW_FLOAT:
        return
    expected = 4 * prod(body.tensor_dimensions)
    if size != expected:
        message = f"the raw values take {expected} bytes, the payload has {size}"
        raise NnbitsError(
            ReasonCode.SHAPE_MISMATCH, message, path=f"{path}.nnr_unit_payload.raw_float32_parameter", offset=offset
        )


def _context(parameters: ParameterSets, *, parsing: bool, extension: bool = False) -> Any:
    """The root of construct's context: what the declaration calls ``this._params``."""
    mps, lps = parameters.mps, parameters.lps
    context = Container(
        general_profile_idc=parameters.general_profile_idc,
        mps_topology_indexed_reference_flag=0 if mps is None else mps.mps_topology_indexed_reference_flag,
        mps_parent_signalling_enabled_flag=0 if mps is None else mps.mps_parent_signalling_enabled_flag,
        unification_flag=int(
            (mps is not None and bool(mps.mps_unification_flag)) or (lps is not None and bool(lps.lps_unification_flag))
        ),
        supplied=parameters.supplied,
        extension=extension,
        _parsing=parsing,
    )
    context["_params"] = context
    return context


@contextmanager
def _only_own_errors(path: str, offset: int, wrong_type: ReasonCode = ReasonCode.INTERNAL) -> Iterator[None]:
    """The border behind which only NnbitsError exists; ``wrong_type`` is for objects of a wrong type."""
    try:
        yield
    except _FOREIGN_ERRORS as error:
        code = wrong_type if isinstance(error, TypeError | AttributeError) else ReasonCode.INTERNAL
        message = f"{type(error).__name__}: {error}"
        raise NnbitsError(code, message, path=path, offset=offset) from error
