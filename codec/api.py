"""The calls of the library: save, load, open, encode, decode, and the file-to-file calls the command line uses."""

from __future__ import annotations

import io
import mmap
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

import numpy as np

from .atomic import atomic_output
from .compose import Composition
from .decode import DataUnit, Stream, UnitRecord
from .decode import StoredTensor as _Stored
from .encode import EncodedTensor, check_exact, encode_model
from .errors import NnbitsError, ReasonCode
from .limits import DEFAULT_LIMITS, Limits
from .parallel import default_threads, largest_first_map
from .plan import Coding, EncodePlan, TensorPlan
from .quant.step import default_nonweight_qp, qp_range
from .types import Array, LazyTensor, Model, TensorInfo, from_numpy, to_numpy

__all__ = [
    "NncFile",
    "PackReport",
    "PackedTensor",
    "StoredTensor",
    "decode",
    "encode",
    "load",
    "open_file",
    "pack_model",
    "plan_exact",
    "plan_quantized",
    "save",
]

#: Elements from which on a block scan pays.
_LARGE_TENSOR: Final = 1 << 17

StrPath = str | PathLike[str]
Tensors = Mapping[str, Array] | Model


def plan_exact(model: Model) -> EncodePlan:
    """The plan that keeps every bit: floats raw, integers as they are."""
    return EncodePlan({t.info.name: _exact(t.info) for t in model})


def _exact(info: TensorInfo) -> TensorPlan:
    return TensorPlan("raw" if info.dtype.kind == "float" else "integer")


def plan_quantized(
    model: Model,
    *,
    qp: int,
    nonweight_qp: int | None = None,
    dependent: bool = True,
    qp_density: int = 2,
    scan_order: int = 0,
) -> EncodePlan:
    """Quantize float tensors; integers stay exact, and so do empty and non-finite tensors.

    Args:
        model: read once, to find values that cannot be quantized.
        qp: quantization parameter of weights (two or more dimensions): step size about 2^(qp / 2^qp_density).
        nonweight_qp: of all others, which are few and sensitive; by default a step of about 2^-18.75.
        dependent: trellis-coded quantization, else uniform.
        qp_density: QP steps per doubling of the step size, as a power of two, 0..7.
        scan_order: 0..4; block scan of large weights, whose entry points let one tensor be decoded in parallel, at a
            cost of about 0.3 % in size.

    Raises:
        NnbitsError: BAD_OPTION for values out of range.
    """
    if not 0 <= qp_density <= 7:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"qp_density {qp_density} lies outside 0..7", path="qp_density")
    low, high = qp_range(qp_density)
    for name, value in (("qp", qp), ("nonweight_qp", nonweight_qp)):
        if value is not None and not low <= value <= high:
            raise NnbitsError(ReasonCode.BAD_OPTION, f"{name} {value} lies outside {low}..{high}", path=name)
    if nonweight_qp is None:
        nonweight_qp = default_nonweight_qp(qp, qp_density)

    coding: Coding = "dependent" if dependent else "uniform"

    def plan(tensor: LazyTensor) -> TensorPlan:
        info = tensor.info
        if info.dtype.kind != "float" or info.size == 0 or not _finite(tensor):
            return _exact(info)
        if len(info.shape) < 2:
            return TensorPlan(coding, nonweight_qp)
        large = info.size >= _LARGE_TENSOR and info.shape[0] > 4 << scan_order
        return TensorPlan(coding, qp, scan_order=scan_order if large else 0)

    return EncodePlan({t.info.name: plan(t) for t in model}, qp_density=qp_density)


def _finite(tensor: LazyTensor) -> bool:
    from .convert import to_float32

    return bool(np.isfinite(to_float32(tensor.info.dtype, tensor.read())).all())


@dataclass(frozen=True)
class PackedTensor:
    """What packing made of one tensor. ``note`` says what the user should know, or is None.

    The size of a block's unit is that of its weight; the tensors that travel with it have none of their own.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    coding: Coding
    qp: int | None
    source_bytes: int
    unit_bytes: int
    note: str | None


@dataclass(frozen=True)
class PackReport:
    """Outcome of packing a model: tensors in stream order, sizes in bytes."""

    tensors: tuple[PackedTensor, ...]
    source_bytes: int
    stream_bytes: int


def pack_model(
    model: Model,
    path: StrPath,
    *,
    plan: EncodePlan,
    threads: int | None = None,
    force: bool = False,
    on_tensor: Callable[[PackedTensor], None] | None = None,
) -> PackReport:
    """Write a model to an ``.nnc`` file; the file appears under its name only when it is complete.

    Args:
        model: from an adapter.
        path: output file.
        plan: how each tensor is coded.
        threads: tensors coded at the same time; default: processors. The bytes do not depend on it.
        force: replace an existing file.
        on_tensor: called after each tensor.

    Raises:
        NnbitsError: FILE_EXISTS, FILE_IO, NOT_EXACT, BAD_OPTION, BAD_TENSOR.
    """
    check_exact(model, plan)
    with atomic_output(Path(path), force=force) as file:
        return _encode_to(model, plan, file, threads, on_tensor)


def _encode_to(
    model: Model,
    plan: EncodePlan,
    file: BinaryIO,
    threads: int | None,
    on_tensor: Callable[[PackedTensor], None] | None = None,
) -> PackReport:
    packed: list[PackedTensor] = []
    written = 0

    def write(data: bytes | memoryview) -> None:
        nonlocal written
        file.write(data)
        written += len(data)

    def done(unit: EncodedTensor) -> None:
        described = [(unit.info, unit.plan, unit.unit_bytes, unit.note)]
        described += [(info, how, 0, f"in the unit of {unit.info.name}") for info, how in unit.others]
        for info, how, size, note in described:
            packed.append(
                PackedTensor(info.name, info.dtype.name, info.shape, how.coding, how.qp, info.nbytes, size, note)
            )
            if on_tensor:
                on_tensor(packed[-1])

    encode_model(model, plan, write, threads=threads or default_threads(), on_tensor=done)
    return PackReport(tuple(packed), sum(t.source_bytes for t in packed), written)


def _model_of(tensors: Tensors, metadata: Mapping[str, str] | None) -> Model:
    if isinstance(tensors, Model):
        return tensors
    return Model([from_numpy(name, array) for name, array in tensors.items()], metadata or {})


def _plan_for(model: Model, plan: EncodePlan | None, qp: int | None, options: dict[str, Any]) -> EncodePlan:
    if plan is not None:
        if qp is not None:
            raise NnbitsError(ReasonCode.BAD_OPTION, "give either a plan or a qp", path="plan")
        return plan
    return plan_exact(model) if qp is None else plan_quantized(model, qp=qp, **options)


def encode(
    tensors: Tensors,
    *,
    plan: EncodePlan | None = None,
    qp: int | None = None,
    nonweight_qp: int | None = None,
    dependent: bool = True,
    qp_density: int = 2,
    scan_order: int = 0,
    threads: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Encode tensors to a stream in memory; without ``plan`` and ``qp`` the result is exact.

    Args:
        tensors: arrays by name (any dtype of :data:`~nnbits.codec.types.DTYPES`), or a model.
        plan: how each tensor is coded; instead of the other quality options.
        qp: see :func:`plan_quantized`, as are ``nonweight_qp``, ``dependent``, ``qp_density`` and ``scan_order``.
        threads: tensors coded at the same time; the bytes do not depend on it.
        metadata: string metadata to carry along.

    Raises:
        NnbitsError: NOT_EXACT, BAD_OPTION, BAD_TENSOR.
    """
    model = _model_of(tensors, metadata)
    options = {"nonweight_qp": nonweight_qp, "dependent": dependent, "qp_density": qp_density, "scan_order": scan_order}
    chosen = _plan_for(model, plan, qp, options)
    check_exact(model, chosen)
    buffer = io.BytesIO()
    _encode_to(model, chosen, buffer, threads)
    return buffer.getvalue()


def save(
    tensors: Tensors,
    path: StrPath,
    *,
    plan: EncodePlan | None = None,
    qp: int | None = None,
    nonweight_qp: int | None = None,
    dependent: bool = True,
    qp_density: int = 2,
    scan_order: int = 0,
    threads: int | None = None,
    metadata: Mapping[str, str] | None = None,
    force: bool = True,
) -> PackReport:
    """Like :func:`encode`, to a file that appears only when it is complete.

    Raises:
        NnbitsError: as :func:`encode`, and FILE_EXISTS (with ``force=False``), FILE_IO.
    """
    model = _model_of(tensors, metadata)
    options = {"nonweight_qp": nonweight_qp, "dependent": dependent, "qp_density": qp_density, "scan_order": scan_order}
    return pack_model(model, path, plan=_plan_for(model, plan, qp, options), threads=threads, force=force)


def decode(data: bytes | bytearray | memoryview, *, threads: int | None = None) -> dict[str, Array]:
    """Decode a whole stream.

    Returns:
        Arrays by name, in stream order, in their original dtype and shape.

    Raises:
        NnbitsError: codes 1xx..4xx with the unit and its byte offset.
    """
    stream = Stream(memoryview(data).cast("B"))
    stream.check_complete()
    return _decode_all(stream, threads)


def load(path: StrPath, *, threads: int | None = None) -> dict[str, Array]:
    """Like :func:`decode`, from a file.

    Raises:
        NnbitsError: as :func:`decode`, and FILE_NOT_FOUND, FILE_IO.
    """
    with open_file(path) as file:
        return _decode_all(file.stream, threads)


#: Elements of a tensor from which on several threads may work on it.
_WORTH_THREADS: Final = 1 << 18


def _decode_all(stream: Stream, threads: int | None) -> dict[str, Array]:
    if stream.is_update:
        raise NnbitsError(
            ReasonCode.BASE_MISSING,
            "the stream is an update of another model, not a model",
            path="parent_node_id_present_flag",
            hint="Apply it to its base: nnbits apply, or nnbits.UpdateChain",
        )

    def size(item: DataUnit | Composition) -> int:
        if isinstance(item, Composition):
            return sum(info.size for info in item.infos)
        return sum(stream.tensors[part.name].info.size for part in item.parts)

    items = stream.compositions()
    count = threads or default_threads()
    share = max(sum(map(size, items)) // count, _WORTH_THREADS)

    def read(item: DataUnit | Composition) -> list[tuple[str, Array]]:
        if isinstance(item, Composition):
            return [(info.name, to_numpy(info, array)) for info, array in item.read_all()]
        # What is more than one thread's share would run last, alone.
        decoded = stream.decode_unit(item, threads=count if size(item) > share else 1)
        return [(name, to_numpy(stream.tensors[name].info, array)) for name, array in decoded]

    decoded = largest_first_map(read, items, threads=count, size=size)
    return {name: array for item in decoded for name, array in item}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of an open file, see :class:`nnbits.codec.decode.StoredTensor`; with its quantizer's step."""

    info: TensorInfo
    unit: int
    coding: str
    qp: int | None
    step: float | None
    unit_bytes: int
    payload_bytes: int


class NncFile(Mapping[str, Array]):
    """An open ``.nnc`` file: a mapping of tensor names to arrays that are decoded when asked for.

    The tensors are the model's: weights that travel as factors or with a scaling vector are put together, and norms
    that were folded are there. :attr:`tensors` lists what the stream holds.

    Reading is thread-safe; close it, or use it in a ``with`` statement.
    """

    def __init__(self, path: StrPath, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self.path = Path(fspath(path))
        self._map, self._view = _map_file(self.path)
        # An error's traceback may hold slices of the map, so it is then left to the garbage collector to close it.
        self.stream = Stream(self._view, limits=limits)
        self.stream.check_complete()

    def __enter__(self) -> NncFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; arrays already decoded stay valid."""
        with suppress(BufferError):
            self._view.release()
        if self._map is not None:
            # Slices may live on in another thread or in the traceback of an error: then the collector closes the map.
            with suppress(BufferError):
                self._map.close()

    @cached_property
    def _composed(self) -> dict[str, LazyTensor]:
        """The model's tensors where they are not simply those of the stream, else nothing."""
        composed = self.stream.needs_composition and not self.stream.is_update
        return {tensor.info.name: tensor for tensor in self.stream.composed()} if composed else {}

    def __getitem__(self, name: str) -> Array:
        info = self.info(name)
        return to_numpy(info, self._composed[name].read() if self._composed else self.stream.read(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._composed or self.stream.tensors)

    def __len__(self) -> int:
        return len(self._composed or self.stream.tensors)

    def __contains__(self, name: object) -> bool:
        return name in (self._composed or self.stream.tensors)

    def info(self, name: str) -> TensorInfo:
        """Name, dtype and shape without decoding.

        Raises:
            NnbitsError: NO_SUCH_TENSOR.
        """
        if name not in self:
            raise NnbitsError(ReasonCode.NO_SUCH_TENSOR, f"the stream has no tensor {name!r}", path=name)
        return self._composed[name].info if self._composed else self.stream.tensors[name].info

    @property
    def general_profile_idc(self) -> int:
        """Of the start unit: 0 for edition 1, 1 for edition 2."""
        return self.stream.general_profile_idc

    @property
    def metadata(self) -> Mapping[str, str]:
        """The source file's string metadata."""
        return self.stream.source.metadata

    @property
    def source_format(self) -> str | None:
        """Name of the adapter that read the source file, or None."""
        return self.stream.source.format

    @property
    def size(self) -> int:
        """Bytes of the stream."""
        return self.stream.size

    @property
    def units(self) -> tuple[UnitRecord, ...]:
        """All units in stream order."""
        return tuple(self.stream.units)

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """How each tensor is stored, in stream order, with factors and scaling vectors under names of their own."""
        return {name: self._describe(t) for name, t in self.stream.tensors.items()}

    def _describe(self, stored: _Stored) -> StoredTensor:
        qp, step = self.stream.qp(stored.info.name), self.stream.step(stored.info.name)
        return StoredTensor(stored.info, stored.unit, stored.coding, qp, step, stored.unit_bytes, stored.payload_bytes)

    def model(self) -> Model:
        """The file as a model of lazy tensors, for an adapter's ``write``."""
        if self._composed:
            return Model(list(self._composed.values()), self.metadata, self.source_format)
        return self.stream.model()


def _map_file(path: Path) -> tuple[mmap.mmap | None, memoryview]:
    try:
        with path.open("rb") as file:
            if file.seek(0, io.SEEK_END) == 0:
                return None, memoryview(b"")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise NnbitsError(ReasonCode.FILE_NOT_FOUND, f"no such file: {path}", path=str(path)) from None
    except (OSError, ValueError) as error:
        raise NnbitsError(ReasonCode.FILE_IO, f"cannot read {path}: {error}", path=str(path)) from error
    return mapped, memoryview(mapped)


def open_file(path: StrPath, *, limits: Limits = DEFAULT_LIMITS) -> NncFile:
    """Open a stream; only headers are read. Exported as ``nnbits.open``.

    Raises:
        NnbitsError: FILE_NOT_FOUND, FILE_IO, and codes 1xx..4xx with the unit and its byte offset.
    """
    return NncFile(path, limits=limits)
