"""Units to tensors: the whole model, or one tensor at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from .compose import Composition, compositions, needs_composition
from .convert import from_float32, from_int32
from .entropy import native, reference
from .entropy.coding import DecodedLevels, EntryPoint, LevelCoding
from .entropy.reference import first_qp_value
from .errors import NnbitsError, ReasonCode
from .limits import DEFAULT_LIMITS, MAX_ELEMENTS, MAX_TOPOLOGY_BYTES, Limits
from .parts import Part, entry_points, parts_of, quantization
from .pruning import Pruned, read_pruning
from .quant import native as quant_native
from .quant import reference as quant_reference
from .quant.step import binary32_step_size, step_size
from .records import DataUnit, StoredTensor, UnitRecord
from .source import SourceDescription
from .stream import read_units
from .syntax import (
    CompressedDataUnit,
    IntegerCodebook,
    ModelParameterSet,
    ParameterSets,
    ParsedUnit,
    PayloadType,
    PruningTopologyContainer,
    StartUnit,
    SuppliedParameters,
    Topology,
    UnitType,
)
from .types import DTYPES, Array, DType, LazyTensor, Model, TensorInfo, shaped
from .update import UpdateStore

__all__ = ["NATIVE", "REFERENCE", "DataUnit", "Engine", "StoredTensor", "Stream", "UnitRecord"]

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


_UNIT_TYPES: Final = frozenset(UnitType)
_MAX_ARRAY_DIMENSIONS: Final = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32

_PRUNING_PATH: Final = "nnr_pruning_topology_container"
_INFLATED_PIECE: Final = 1 << 20
_CUT: Final = "The file is cut or damaged: fetch it again"


class PayloadDecoder(Protocol):
    """decode_payload of the C core or of the Python reference."""

    def __call__(
        self,
        payload: memoryview,
        codings: Sequence[LevelCoding],
        *,
        bases: Sequence[NDArray[np.int32] | None] | None = None,
        histories: Sequence[NDArray[np.bool_] | None] | None = None,
        entry_points: Sequence[Sequence[EntryPoint] | None] | None = None,
        threads: int = 1,
    ) -> list[DecodedLevels]: ...


class Dequantizer(Protocol):
    """dequantize of the C core or of the Python reference."""

    def __call__(
        self, levels: NDArray[np.int32], qp: int, qp_density: int, *, inplace: bool = False
    ) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Engine:
    """An implementation of the layers below."""

    decode_payload: PayloadDecoder
    dequantize: Dequantizer


def _in_order(
    payload: memoryview,
    codings: Sequence[LevelCoding],
    *,
    bases: Sequence[NDArray[np.int32] | None] | None = None,
    histories: Sequence[NDArray[np.bool_] | None] | None = None,
    entry_points: Sequence[Sequence[EntryPoint] | None] | None = None,
    threads: int = 1,
) -> list[DecodedLevels]:
    """decode_payload of the reference, which has no use for entry points."""
    return reference.decode_payload(payload, codings, bases=bases, histories=histories)


NATIVE: Final = Engine(native.decode_payload, quant_native.dequantize)
REFERENCE: Final = Engine(_in_order, quant_reference.dequantize)


class Stream:
    """A parsed standard stream over a buffer. Opening reads headers only; tensors are decoded on request.

    Args:
        data: the stream; must stay valid and unchanged while the object is used.
        supplied: out-of-band parameters by tensor name.
        limits: bounds on what decoding may cost.
        engine: the C core or the Python reference.
        source: to be used in place of what the topology unit says.

    Attributes:
        pruned: what the data units hold of the tensors that pruning containers shorten, by name.

    Raises:
        NnbitsError: codes 1xx..4xx with the unit and its offset.
    """

    def __init__(
        self,
        data: memoryview,
        *,
        supplied: Mapping[str, SuppliedParameters] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        engine: Engine = NATIVE,
        source: SourceDescription | None = None,
    ) -> None:
        self._data = data
        self._engine = engine
        self._limits = limits
        self._reference_list: tuple[str, ...] = ()
        self._pending: list[tuple[ParsedUnit, CompressedDataUnit]] = []
        self.general_profile_idc = 0
        self.mps = ModelParameterSet()
        self.topologies: list[Topology] = []
        self._source_is_given = source is not None
        self.source = source or SourceDescription()
        self.size = len(data)
        self.data_units: list[DataUnit] = []
        self._unit_of: dict[str, DataUnit] = {}
        units: list[UnitRecord] = []
        for unit, parameters in read_units(data, supplied=supplied, limits=limits):
            kind = unit.unit_type
            name = UnitType(kind).name.removeprefix("NNR_") if kind in _UNIT_TYPES else f"type {kind}"
            units.append(UnitRecord(unit.index, unit.offset, unit.size, kind, name, unit.size - unit.payload_offset))
            try:
                self._take(unit, parameters)
            except NnbitsError as error:
                raise _located(error, unit) from None
        if self._pending:
            raise _located(NnbitsError(ReasonCode.TRUNCATED, "the last part of split data is missing"), unit)
        self.units: Sequence[UnitRecord] = units
        if self.source.count is not None and len(self._unit_of) < self.source.count:
            raise NnbitsError(
                ReasonCode.TRUNCATED,
                f"the stream holds {len(self._unit_of)} of its {self.source.count} tensors",
                offset=self.size,
                hint=_CUT,
            )
        self.pruned = self._read_pruned()
        self.tensors: Mapping[str, StoredTensor] = {
            part.name: self._describe(part, unit) for unit in self.data_units for part in unit.parts
        }

    # ---- opening

    def _take(self, unit: ParsedUnit, parameters: ParameterSets) -> None:
        body = unit.body
        if self._pending and not isinstance(body, CompressedDataUnit):
            raise NnbitsError(ReasonCode.UNIT_ORDER, "another unit between the parts of split data")
        if isinstance(body, StartUnit):
            self.general_profile_idc = body.general_profile_idc
        elif isinstance(body, ModelParameterSet):
            self.mps = body
        elif isinstance(body, Topology):
            self._take_topology(body)
        elif isinstance(body, CompressedDataUnit):
            self._take_data(unit, body, parameters)

    def _take_topology(self, body: Topology) -> None:
        self.topologies.append(body)
        if body.topology_elem_id_list:
            self._reference_list = body.topology_elem_id_list
        if not self._source_is_given and (text := topology_text(body)):
            self.source = SourceDescription.from_text(text)

    def _read_pruned(self) -> Mapping[str, Pruned]:
        if not self.source.pruned:
            return {}
        pruned = read_pruning(self.pruning, self.source.shapes, max_bytes=self._limits.max_tensor_bytes)
        for name, item in pruned.items():
            data_unit = self._unit_of.get(name)
            if data_unit is None or len(data_unit.parts) != 1:
                raise NnbitsError(
                    ReasonCode.METADATA, f"tensor {name!r} is pruned but has no data unit", path=_PRUNING_PATH
                )
            if data_unit.parts[0].shape != item.dimensions:
                raise NnbitsError(
                    ReasonCode.SHAPE_MISMATCH,
                    f"tensor {name!r} has shape {data_unit.parts[0].shape}, its pruning leaves {item.dimensions}",
                    path=_PRUNING_PATH,
                    offset=data_unit.unit.offset,
                )
        return pruned

    def _take_data(self, unit: ParsedUnit, body: CompressedDataUnit, parameters: ParameterSets) -> None:
        counter = unit.header.partial_data_counter
        if self._pending:
            before = self._pending[-1]
            expected = (before[0].header.partial_data_counter or 0) - 1
            if counter != expected or before[1] != body:
                raise NnbitsError(
                    ReasonCode.UNIT_ORDER,
                    f"part {expected} of split data was expected, found {counter} or another header",
                    path="partial_data_counter",
                )
        self._pending.append((unit, body))
        if counter:
            return
        chunks = [(u.offset + u.payload_offset, u.offset + u.size) for u, _ in self._pending]
        self._pending.clear()
        names = self._names(body)
        data_unit = DataUnit(unit, body, parameters, parts_of(body, names, parameters), chunks)
        self._check(data_unit)
        self.data_units.append(data_unit)
        for part in data_unit.parts:
            if part.name in self._unit_of:
                raise NnbitsError(
                    ReasonCode.DUPLICATE_NAME, f"tensor {part.name!r} occurs twice", path="topology_elem_id"
                )
            self._unit_of[part.name] = data_unit

    def _names(self, body: CompressedDataUnit) -> tuple[str, ...]:
        if names := body.names:
            return names
        indices = body.topology_elem_id_index_list
        if not indices and body.topology_elem_id_index is not None:
            indices = (body.topology_elem_id_index,)
        for index in indices:
            if index >= len(self._reference_list):
                raise NnbitsError(
                    ReasonCode.VALUE_RANGE,
                    f"index {index} into a reference list of {len(self._reference_list)} names",
                    path="topology_elem_id_index",
                )
        return tuple(self._reference_list[index] for index in indices)

    def _check(self, data_unit: DataUnit) -> None:
        for part in data_unit.parts:
            if len(part.shape) > _MAX_ARRAY_DIMENSIONS:
                raise NnbitsError(
                    ReasonCode.UNSUPPORTED_FEATURE,
                    f"tensor {part.name!r} has {len(part.shape)} dimensions, a NumPy array at most "
                    f"{_MAX_ARRAY_DIMENSIONS}",
                    path="count_tensor_dimensions",
                )
            size = prod(part.shape)
            if size > MAX_ELEMENTS or size * 4 > self._limits.max_tensor_bytes:
                raise NnbitsError(
                    ReasonCode.MEMORY_BUDGET,
                    f"tensor {part.name!r} claims {size} elements",
                    path="tensor_dimensions",
                    hint="Raise Limits.max_tensor_bytes if that is right",
                )
            have = sum(stop - start for start, stop in data_unit.chunks)
            if part.coding is None and have != 4 * size:
                raise NnbitsError(
                    ReasonCode.SHAPE_MISMATCH,
                    f"{size} float32 values need {4 * size} bytes, the payload has {have}",
                    path="raw_float32_parameter",
                )
            if part.codebook and part.coding and part.coding.dq:
                raise NnbitsError(ReasonCode.VALUE_RANGE, "dq_flag is 1 with a codebook", path="dq_flag")

    def _describe(self, part: Part, data_unit: DataUnit) -> StoredTensor:
        unit, name = data_unit.unit, part.name
        integer = data_unit.payload_type == PayloadType.NNR_PT_INT
        dtype = DTYPES["int32" if integer else "float32"]
        if data_unit.body.nnr_decompressed_data_format is not None:
            dtype = DATA_FORMATS[data_unit.body.nnr_decompressed_data_format]
        dtype = DTYPES[self.source.dtypes.get(name, dtype.name)]
        if (dtype.kind == "float") == integer:
            raise NnbitsError(
                ReasonCode.METADATA,
                f"tensor {name!r} is coded as {_coding_name(part, integer)} but declared {dtype.name}",
                path=f"unit[{unit.index}].nnr_decompressed_data_format",
                offset=unit.offset,
            )
        shape = self.source.shapes.get(name, part.shape)
        if name not in self.pruned and prod(shape) != prod(part.shape):
            raise NnbitsError(
                ReasonCode.METADATA,
                f"tensor {name!r} has shape {part.shape} but is declared {shape}",
                path="topology_data.shapes",
                offset=unit.offset,
            )
        return StoredTensor(
            TensorInfo(name, dtype, shape),
            unit.index,
            _coding_name(part, integer),
            part.role.value,
            unit.size,
            sum(stop - start for start, stop in data_unit.chunks),
        )

    # ---- inspection

    @property
    def pruning(self) -> list[PruningTopologyContainer]:
        """The pruning containers of the stream's topology units. From the standard, no peer."""
        return [t.nnr_pruning_topology_container for t in self.topologies if t.nnr_pruning_topology_container]

    @property
    def is_update(self) -> bool:
        """Whether the stream says so, or a data unit names a parent: its tensors then change another model."""
        return self.source.update is not None or any(unit.body.parent_node_id_present_flag for unit in self.data_units)

    def check_complete(self) -> None:
        """Refuse a stream that stops behind its parameter sets: valid, but nobody packs a model without tensors so.

        Raises:
            NnbitsError: TRUNCATED.
        """
        if not self.data_units and not self.topologies:
            raise NnbitsError(
                ReasonCode.TRUNCATED, "the stream ends behind its parameter sets", offset=self.size, hint=_CUT
            )

    def data_unit(self, name: str) -> DataUnit:
        """The unit that carries a tensor.

        Raises:
            NnbitsError: NO_SUCH_TENSOR.
        """
        if name not in self._unit_of:
            raise NnbitsError(ReasonCode.NO_SUCH_TENSOR, f"the stream has no tensor {name!r}", path=name)
        return self._unit_of[name]

    def payload(self, data_unit: DataUnit) -> memoryview:
        """Payload of a unit, bytes; a copy only if the data is split."""
        pieces = [self._data[start:stop] for start, stop in data_unit.chunks]
        return pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))

    def entry_points(self, data_unit: DataUnit) -> list[tuple[EntryPoint, ...]]:
        """Entry points of each part, in coding order."""
        return entry_points(data_unit.body, data_unit.parts)

    def qp(self, name: str) -> int | None:
        """QP of a quantized tensor that comes first in its unit, from the first bits of the payload; else None."""
        data_unit = self.data_unit(name)
        part = data_unit.parts[0]
        in_force = quantization(data_unit.parameters)
        if part.name != name or part.coding is None or not part.coding.qp_bits or in_force is None:
            return None
        return first_qp_value(bytes(self.payload(data_unit)[:8]), part.coding.qp_bits) + in_force[1]

    def step(self, name: str) -> float | None:
        """Step size that goes with :meth:`qp`."""
        qp, in_force = self.qp(name), quantization(self.data_unit(name).parameters)
        return None if qp is None or in_force is None else step_size(qp, in_force[0])

    # ---- decoding

    def model(self) -> Model:
        """The stream as a model of lazy tensors, in stream order."""

        def lazy(stored: StoredTensor) -> LazyTensor:
            return LazyTensor(stored.info, lambda: self.read(stored.info.name))

        return Model([lazy(t) for t in self.tensors.values()], self.source.metadata, self.source.format)

    @property
    def needs_composition(self) -> bool:
        """Whether units carry factors or scaling vectors, of which :meth:`composed` makes the tensors that they are."""
        return any(map(needs_composition, self.data_units))

    def composed(self) -> Model:
        """The stream as a model whose weights are put together (nnc-entropy section 10), in stream order.

        Weights are multiplied by their local scaling vectors, which disappear, and factors G and H become their
        product. Batch-norm vectors and biases stay as they are. Where our encoder folded a norm, the tensors of the
        source are there again, with a norm that only adds a bias.

        Raises:
            NnbitsError: as :func:`~nnbits.codec.compose.compositions`.
        """
        tensors = []
        for item in self.compositions():
            if isinstance(item, Composition):
                tensors += item.tensors()
            else:
                infos = (self.tensors[part.name].info for part in item.parts)
                tensors += [LazyTensor(info, partial(self.read, info.name)) for info in infos]
        return Model(tensors, self.source.metadata, self.source.format)

    def compositions(self) -> list[DataUnit | Composition]:
        """What :meth:`composed` delivers, unit by unit: the unit itself where there is nothing to compose."""
        infos = {name: stored.info for name, stored in self.tensors.items()}
        return compositions(self.data_units, infos, self.source, self._float_values, self._limits)

    def _float_values(self, data_unit: DataUnit) -> dict[str, NDArray[np.float32]]:
        """The tensors of a quantized unit in float32, whatever their element types."""
        try:
            decoded = self.levels(data_unit)
            return {
                part.name: shaped(part.name, part.shape, self._values(part, item, data_unit.parameters))
                for part, item in zip(data_unit.parts, decoded, strict=True)
            }
        except NnbitsError as error:
            raise _located(error, data_unit.unit) from None

    def read(self, name: str) -> Array:
        """Decode one tensor (and, in a BLOCK, those that are coded with it); thread-safe.

        Returns:
            Array of the tensor's storage dtype and shape.

        Raises:
            NnbitsError: NO_SUCH_TENSOR, TRUNCATED, CABAC_END, LEVEL_RANGE, BASE_MISSING, with unit and offset.
        """
        return dict(self.decode_unit(self.data_unit(name)))[name]

    def decode_all(self, store: UpdateStore | None = None) -> Iterator[tuple[str, Array]]:
        """Decode every tensor in stream order, advancing ``store``."""
        for data_unit in self.data_units:
            yield from self.decode_unit(data_unit, store)

    def decode_unit(
        self, data_unit: DataUnit, store: UpdateStore | None = None, *, threads: int = 1
    ) -> list[tuple[str, Array]]:
        """Decode the tensors of one unit.

        Args:
            data_unit: one of :attr:`data_units`.
            store: earlier updates, which is advanced; needed by units with temporal contexts or history.
            threads: how many may work on it, where its tensors have entry points.

        Raises:
            NnbitsError: TRUNCATED, CABAC_END, LEVEL_RANGE, BASE_MISSING, BASE_MISMATCH, with unit and offset.
        """
        try:
            return self._decode_unit(data_unit, store, threads)
        except NnbitsError as error:
            raise _located(error, data_unit.unit) from None

    def levels(self, data_unit: DataUnit, store: UpdateStore | None = None, *, threads: int = 1) -> list[DecodedLevels]:
        """The integers of an arithmetic-coded unit, in coding order; ``store`` is used but not advanced."""
        points = self.entry_points(data_unit)
        codings = [part.coding for part in data_unit.parts if part.coding]
        if store is None:
            if any(coding.temporal for coding in codings):
                raise NnbitsError(
                    ReasonCode.BASE_MISSING,
                    "the unit is coded relative to an earlier version",
                    path="temporal_context_modeling_flag",
                    hint="Decode it with the updates before it",
                )
            decoded = self._engine.decode_payload(
                self.payload(data_unit), codings, entry_points=points, threads=threads
            )
            if any(d.hist_dep_sig_prob_enabled_flag for d in decoded):
                raise NnbitsError(
                    ReasonCode.BASE_MISSING,
                    "the unit is coded with the history of earlier updates",
                    path="hist_dep_sig_prob_enabled_flag",
                    hint="Decode it with the updates before it",
                )
            return decoded
        return self._engine.decode_payload(
            self.payload(data_unit),
            codings,
            bases=[store.base_of(part, data_unit.body) for part in data_unit.parts],
            histories=[store.history_of(part) for part in data_unit.parts],
            entry_points=points,
            threads=threads,
        )

    def _decode_unit(self, data_unit: DataUnit, store: UpdateStore | None, threads: int) -> list[tuple[str, Array]]:
        infos = [self.tensors[part.name].info for part in data_unit.parts]
        if data_unit.payload_type == PayloadType.NNR_PT_RAW_FLOAT:
            # A copy, not a view: the file may be closed while the tensor lives.
            raw = np.frombuffer(self.payload(data_unit), "<f4").copy()
            return [(i.name, self._whole(i, from_float32(i.dtype, raw))) for i in infos]
        decoded = self.levels(data_unit, store, threads=threads)
        if store is not None:
            kept = [d.levels.copy() for d in decoded]  # dequantization below works in place
            parent_signalling = bool(self.mps.mps_parent_signalling_enabled_flag)
            store.advance(
                data_unit.parts,
                kept,
                data_unit.body,
                self.payload(data_unit),
                parent_signalling=parent_signalling,
            )
        result = []
        for part, info, item in zip(data_unit.parts, infos, decoded, strict=True):
            if data_unit.payload_type == PayloadType.NNR_PT_INT:
                _check_range(item.levels, info.dtype)
                array = from_int32(info.dtype, item.levels)
            else:
                array = from_float32(info.dtype, self._values(part, item, data_unit.parameters))
            result.append((part.name, self._whole(info, array)))
        return result

    def _whole(self, info: TensorInfo, array: Array) -> Array:
        pruned = self.pruned.get(info.name)
        return shaped(info.name, info.shape, array) if pruned is None else pruned.expanded(info.name, array)

    def _values(self, part: Part, decoded: DecodedLevels, parameters: ParameterSets) -> NDArray[np.float32]:
        density, offset = quantization(parameters) or (0, 0)
        qp = decoded.qp_value + offset
        if part.codebook is None:
            return self._engine.dequantize(decoded.levels, qp, density, inplace=True)
        return _codebook_values(decoded.levels, part.codebook, binary32_step_size(qp, density))


def _inflated(data: bytes) -> Iterator[bytes]:
    """The content of a deflate stream in small pieces, so that its size is known before it is held; up to the bound."""
    inflater = zlib.decompressobj()
    done = 0
    try:
        while not inflater.eof and done <= MAX_TOPOLOGY_BYTES:
            piece = inflater.decompress(data, _INFLATED_PIECE)
            if not piece and not inflater.eof:
                raise zlib.error("it is cut off")
            yield piece
            done += len(piece)
            data = inflater.unconsumed_tail
    except zlib.error as error:
        raise NnbitsError(ReasonCode.METADATA, f"topology_data: {error}", path="topology_data") from None
    if inflater.unused_data:
        raise NnbitsError(ReasonCode.METADATA, "topology_data: bytes behind its end", path="topology_data")


def topology_text(body: Topology) -> str:
    """topology_data as text, inflated if it is compressed; empty if it is binary.

    Raises:
        NnbitsError: METADATA for damaged compressed data, LIMIT if it inflates above its bound.
    """
    data = body.topology_data
    if data is None or isinstance(data, str):
        return data or ""
    if body.topology_compression_format == 1:
        if sum(map(len, _inflated(data))) > MAX_TOPOLOGY_BYTES:
            raise NnbitsError(
                ReasonCode.LIMIT, f"topology_data inflates above {MAX_TOPOLOGY_BYTES} bytes", path="topology_data"
            )
        data = b"".join(_inflated(data))
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ""


def _codebook_values(indices: NDArray[np.int32], codebook: IntegerCodebook, step: float) -> NDArray[np.float32]:
    """step * C[L + CbZeroOffset], the exact product rounded once (nnc-entropy 9.4)."""
    low, high = -codebook.CbZeroOffset, codebook.codebook_size - 1 - codebook.CbZeroOffset
    if indices.size and (int(indices.min()) < low or int(indices.max()) > high):
        raise NnbitsError(ReasonCode.LEVEL_RANGE, "an index lies outside the codebook", path="cabac_data")
    with np.errstate(over="ignore"):
        table = (step * np.array(codebook.entries, np.float64)).astype(np.float32)
    values: NDArray[np.float32] = table[indices + codebook.CbZeroOffset]
    return values


def _coding_name(part: Part, integer: bool) -> str:
    if part.coding is None:
        return "raw"
    if integer:
        return "integer"
    return "codebook" if part.codebook else "dependent" if part.coding.dq else "uniform"


def _check_range(levels: Array, dtype: DType) -> None:
    if dtype.name == "int32" or levels.size == 0:
        return
    low, high = (0, 1) if dtype.kind == "bool" else (np.iinfo(dtype.storage).min, np.iinfo(dtype.storage).max)
    if int(levels.min()) < low or int(levels.max()) > high:
        raise NnbitsError(
            ReasonCode.LEVEL_RANGE, f"a value does not fit the declared element type {dtype.name}", path="cabac_data"
        )


def _located(error: NnbitsError, unit: ParsedUnit) -> NnbitsError:
    """The error with the unit's index and offset, if it has none yet."""
    if error.offset is not None:
        return error
    path = f"unit[{unit.index}]" + (f".{error.path}" if error.path else "")
    return NnbitsError(error.code, error.message, path=path, offset=unit.offset, hint=error.hint)
