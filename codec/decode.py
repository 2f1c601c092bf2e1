"""Units to tensors: the whole model, or one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np

from .convert import from_float32, from_int32
from .entropy import native
from .entropy.coding import DecodedLevels, EntryPoint, LevelCoding
from .entropy.reference import first_qp_value
from .errors import NnbitsError, ReasonCode
from .limits import DEFAULT_LIMITS, MAX_ELEMENTS, Limits
from .quant.native import dequantize
from .source import SourceDescription
from .stream import read_units
from .syntax import (
    CompressedDataUnit,
    ModelParameterSet,
    ParameterSets,
    ParsedUnit,
    StartUnit,
    SuppliedParameters,
    Topology,
)
from .types import DTYPES, Array, DType, LazyTensor, Model, TensorInfo

__all__ = ["StoredTensor", "Stream", "UnitRecord"]

PT_INT, PT_FLOAT, PT_RAW_FLOAT, PT_BLOCK = range(4)

UNIT_NAMES: Final = ("STR", "MPS", "LPS", "TPL", "QNT", "NDU", "AGG")

#: nnr_decompressed_data_format by number (nnc-bitstream 6.2); the sub-byte types are delivered as int8.
DATA_FORMATS: Final[Mapping[int, DType]] = {
    0: DTYPES["int32"],
    1: DTYPES["float32"],
    2: DTYPES["int8"],
    3: DTYPES["int8"],
    4: DTYPES["int8"],
    5: DTYPES["int8"],
    6: DTYPES["int16"],
    7: DTYPES["int64"],
    8: DTYPES["float16"],
    9: DTYPES["float64"],
}


PayloadDecoder = Callable[[memoryview, Sequence[LevelCoding]], list[DecodedLevels]]


@dataclass(frozen=True)
class UnitRecord:
    """One unit of a stream, for listings."""

    index: int
    offset: int
    size: int
    unit_type: int
    type_name: str
    payload_bytes: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as it stands in a stream.

    Attributes:
        info: name, element type and shape that decoding delivers.
        unit: index of its data unit.
        coding: ``raw``, ``integer``, ``uniform``, ``dependent`` or ``codebook``.
        unit_bytes: size of the whole unit.
        payload_bytes: size of its payload.
    """

    info: TensorInfo
    unit: int
    coding: str
    unit_bytes: int
    payload_bytes: int


@dataclass(frozen=True)
class _Carrier:
    """A data unit with what is needed to decode it."""

    unit: ParsedUnit
    body: CompressedDataUnit
    parameters: ParameterSets
    shape: tuple[int, ...]


class Stream:
    """A parsed standard stream over a buffer. Opening reads headers only; tensors are decoded on request.

    Args:
        data: the stream; must stay valid and unchanged while the object is used.
        supplied: out-of-band parameters by tensor name.
        limits: bounds on what decoding may cost.
        decode_payload: the C core's, or the Python reference's.

    Raises:
        NnbitsError: codes 1xx..4xx with the unit and its offset.
    """

    def __init__(
        self,
        data: memoryview,
        *,
        supplied: Mapping[str, SuppliedParameters] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        decode_payload: PayloadDecoder = native.decode_payload,
    ) -> None:
        self._data = data
        self._decode_payload = decode_payload
        self._limits = limits
        self._carriers: dict[str, _Carrier] = {}
        self.general_profile_idc = 0
        self.qp_density = 0
        self.source = SourceDescription()
        self.size = len(data)
        units: list[UnitRecord] = []
        for unit, parameters in read_units(data, supplied=supplied, limits=limits):
            kind = unit.unit_type
            name = UNIT_NAMES[kind] if kind < len(UNIT_NAMES) else str(kind)
            units.append(UnitRecord(unit.index, unit.offset, unit.size, kind, name, unit.size - unit.payload_offset))
            self._take(unit, parameters)
        self.units: Sequence[UnitRecord] = units
        if self.source.count is not None and len(self._carriers) < self.source.count:
            raise NnbitsError(
                ReasonCode.TRUNCATED,
                f"the stream holds {len(self._carriers)} of its {self.source.count} tensors",
                offset=self.size,
                hint="The file is cut or damaged: fetch it again",
            )
        self.tensors: Mapping[str, StoredTensor] = {n: self._describe(n, c) for n, c in self._carriers.items()}

    def _take(self, unit: ParsedUnit, parameters: ParameterSets) -> None:
        body = unit.body
        path = f"unit[{unit.index}]"
        if isinstance(body, StartUnit):
            self.general_profile_idc = body.general_profile_idc
        elif isinstance(body, ModelParameterSet):
            self.qp_density = body.mps_qp_density or 0
        elif isinstance(body, Topology):
            if isinstance(body.topology_data, str):
                self.source = SourceDescription.from_text(body.topology_data)
        elif isinstance(body, CompressedDataUnit):
            carrier = self._carry(unit, body, parameters)
            name = body.topology_elem_id
            if name in self._carriers:
                raise NnbitsError(
                    ReasonCode.DUPLICATE_NAME, f"tensor {name!r} occurs twice", path=path, offset=unit.offset
                )
            self._carriers[name] = carrier
        elif unit.unit_type in (2, 4, 6):
            raise NnbitsError(
                ReasonCode.UNSUPPORTED_UNIT,
                f"units of type {UNIT_NAMES[unit.unit_type]} are not decoded",
                path=path,
                offset=unit.offset,
            )

    def _carry(self, unit: ParsedUnit, body: CompressedDataUnit, parameters: ParameterSets) -> _Carrier:
        path = f"unit[{unit.index}]"
        payload_type = body.nnr_compressed_data_unit_payload_type
        unsupported = None
        if unit.header.partial_data_counter is not None:
            unsupported = "partial data"
        elif payload_type == PT_BLOCK:
            unsupported = "payload type BLOCK"
        elif body.compressed_parameter_types:
            unsupported = "decomposed or scaled parameters"
        elif body.temporal_context_modeling_flag:
            unsupported = "temporal context modelling"
        elif body.codebook_present_flag:
            unsupported = "codebooks"
        if unsupported:
            raise NnbitsError(
                ReasonCode.UNSUPPORTED_FEATURE, f"{unsupported} is not decoded", path=path, offset=unit.offset
            )
        if body.tensor_dimensions is None:
            raise NnbitsError(
                ReasonCode.SHAPE_MISSING,
                f"tensor {body.topology_elem_id!r} has no dimensions in the stream",
                path=f"{path}.tensor_dimensions",
                offset=unit.offset,
                hint="Supply them from the model description",
            )
        shape = tuple(body.tensor_dimensions)
        size = prod(shape)
        if size > MAX_ELEMENTS or size * 4 > self._limits.max_tensor_bytes:
            raise NnbitsError(
                ReasonCode.MEMORY_BUDGET,
                f"tensor {body.topology_elem_id!r} claims {size} elements",
                path=f"{path}.tensor_dimensions",
                offset=unit.offset,
                hint="Raise Limits.max_tensor_bytes if that is right",
            )
        payload = unit.size - unit.payload_offset
        if payload_type == PT_RAW_FLOAT and payload != 4 * size:
            raise NnbitsError(
                ReasonCode.SHAPE_MISMATCH,
                f"{size} float32 values need {4 * size} bytes, the payload has {payload}",
                path=f"{path}.raw_float32_parameter",
                offset=unit.offset,
            )
        if payload_type == PT_FLOAT and not _has_qp(parameters):
            raise NnbitsError(
                ReasonCode.QP_MISSING,
                "a quantized tensor without mps_qp_density",
                path=f"{path}.qp_value",
                offset=unit.offset,
            )
        return _Carrier(unit, body, parameters, shape)

    def _describe(self, name: str, carrier: _Carrier) -> StoredTensor:
        body, unit = carrier.body, carrier.unit
        payload_type = body.nnr_compressed_data_unit_payload_type
        coding = {PT_INT: "integer", PT_RAW_FLOAT: "raw"}.get(payload_type, "dependent" if body.dq_flag else "uniform")
        integer = payload_type == PT_INT
        dtype = DTYPES["int32" if integer else "float32"]
        if body.nnr_decompressed_data_format is not None:
            dtype = DATA_FORMATS[body.nnr_decompressed_data_format]
        if name in self.source.dtypes:
            dtype = DTYPES[self.source.dtypes[name]]
        if (dtype.kind == "float") == integer:
            raise NnbitsError(
                ReasonCode.METADATA,
                f"tensor {name!r} is coded as {coding} but declared {dtype.name}",
                path=f"unit[{unit.index}].nnr_decompressed_data_format",
                offset=unit.offset,
            )
        shape = self.source.shapes.get(name, carrier.shape)
        if prod(shape) != prod(carrier.shape):
            raise NnbitsError(
                ReasonCode.METADATA,
                f"tensor {name!r} has shape {carrier.shape} but is declared {shape}",
                path="topology_data.shapes",
                offset=unit.offset,
            )
        return StoredTensor(
            TensorInfo(name, dtype, shape), unit.index, coding, unit.size, unit.size - unit.payload_offset
        )

    def model(self) -> Model:
        """The stream as a model of lazy tensors, in stream order."""
        tensors = [LazyTensor(t.info, lambda name=n: self.read(name)) for n, t in self.tensors.items()]  # type: ignore[misc]
        return Model(tensors, self.source.metadata, self.source.format)

    def read(self, name: str) -> Array:
        """Decode one tensor; thread-safe.

        Returns:
            Array of the tensor's storage dtype and shape.

        Raises:
            NnbitsError: NO_SUCH_TENSOR, TRUNCATED, CABAC_END, LEVEL_RANGE, with unit and offset.
        """
        if name not in self._carriers:
            raise NnbitsError(ReasonCode.NO_SUCH_TENSOR, f"the stream has no tensor {name!r}", path=name)
        carrier, info = self._carriers[name], self.tensors[name].info
        try:
            return self._decode(carrier, info.dtype).reshape(info.shape)
        except NnbitsError as error:
            raise NnbitsError(
                error.code,
                f"tensor {name!r}: {error.message}",
                path=f"unit[{carrier.unit.index}].{error.path}",
                offset=carrier.unit.offset,
                hint=error.hint,
            ) from None

    def qp(self, name: str) -> int | None:
        """QP of a quantized tensor, read from the first bits of its payload; None for others."""
        carrier = self._carriers[name]
        if carrier.body.nnr_compressed_data_unit_payload_type != PT_FLOAT:
            return None
        density, offset = _quantization(carrier.parameters)
        return first_qp_value(bytes(self._payload(carrier)[:8]), 6 + density) + offset

    def payload(self, name: str) -> memoryview:
        """Payload bytes of a tensor's data unit."""
        return self._payload(self._carriers[name])

    def coding(self, name: str) -> LevelCoding | None:
        """What the entropy layer is told of a tensor; None for raw values."""
        return _coding_of(self._carriers[name])

    def entry_points(self, name: str) -> tuple[EntryPoint, ...]:
        """Entry points of a tensor's block rows, without the first."""
        return tuple(self._carriers[name].body.cabac_entry_points)

    def _decode(self, carrier: _Carrier, dtype: DType) -> Array:
        payload = self._payload(carrier)
        coding = _coding_of(carrier)
        if coding is None:
            # Not a view: the file may be closed while the tensor lives.
            return from_float32(dtype, np.frombuffer(payload, "<f4").copy())
        decoded = self._decode_payload(payload, [coding])[0]
        if carrier.body.nnr_compressed_data_unit_payload_type == PT_INT:
            _check_range(decoded.levels, dtype)
            return from_int32(dtype, decoded.levels)
        density, offset = _quantization(carrier.parameters)
        return from_float32(dtype, dequantize(decoded.levels, decoded.qp_value + offset, density, inplace=True))

    def _payload(self, carrier: _Carrier) -> memoryview:
        start = carrier.unit.offset + carrier.unit.payload_offset
        return self._data[start : carrier.unit.offset + carrier.unit.size]


def _has_qp(parameters: ParameterSets) -> bool:
    return parameters.mps is not None and parameters.mps.mps_qp_density is not None


def _quantization(parameters: ParameterSets) -> tuple[int, int]:
    """mps_qp_density and mps_quantization_parameter in force, 0 where not transmitted."""
    mps = parameters.mps
    return (mps.mps_qp_density or 0, mps.mps_quantization_parameter or 0) if mps else (0, 0)


def _coding_of(carrier: _Carrier) -> LevelCoding | None:
    body = carrier.body
    payload_type = body.nnr_compressed_data_unit_payload_type
    if payload_type == PT_RAW_FLOAT:
        return None
    integer = payload_type == PT_INT
    return LevelCoding(
        height=carrier.shape[0] if carrier.shape else 1,
        width=prod(carrier.shape[1:]),
        profile=carrier.parameters.general_profile_idc,
        dq=bool(body.dq_flag) and not integer,
        unary_length=body.cabac_unary_length_minus1 + 1,
        scan_order=body.scan_order,
        qp_bits=0 if integer else 6 + _quantization(carrier.parameters)[0],
        parent=bool(body.parent_node_id_present_flag),
    )


def _check_range(levels: Array, dtype: DType) -> None:
    if dtype.name == "int32" or levels.size == 0:
        return
    low, high = (0, 1) if dtype.kind == "bool" else (np.iinfo(dtype.storage).min, np.iinfo(dtype.storage).max)
    if int(levels.min()) < low or int(levels.max()) > high:
        raise NnbitsError(
            ReasonCode.LEVEL_RANGE, f"a value does not fit the declared element type {dtype.name}", path="cabac_data"
        )
