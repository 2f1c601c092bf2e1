"""The calls of the library: save, load, open, encode, decode, and the file-to-file calls the command line uses."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from .access_encoder import EncodedUnit
from .atomic import atomic_output
from .compose import Composition
from .convert import in_standard_profile, to_float32
from .decode import DataUnit, Stream
from .describe import StoredTensor
from .encode import EncodedTensor, check_exact, encode_model
from .errors import NnbitsError, ReasonCode
from .file import BaseTarget, NncFile, StreamTarget, open_file
from .forward import ForwardStream
from .limits import DEFAULT_LIMITS, Limits
from .parallel import default_threads, largest_first_map
from .plan import Coding, EncodePlan, Profile, TensorPlan
from .quant.step import default_nonweight_qp, qp_range
from .sparse import MapKind
from .types import Array, LazyTensor, Model, TensorInfo, from_numpy, to_numpy
from .values import Sections
from .writer import DEFAULT_MEMORY, write_extended

__all__ = [
    "NncFile",
    "PackReport",
    "PackedTensor",
    "StoredTensor",
    "decode",
    "encode",
    "encode_to",
    "load",
    "open_file",
    "pack_model",
    "plan_exact",
    "plan_quantized",
    "save",
    "stream",
    "with_profile",
]

#: Elements from which on a block scan pays.
_LARGE_TENSOR: Final = 1 << 17

StrPath = str | PathLike[str]
Tensors = Mapping[str, Array] | Model


def plan_exact(model: Model, *, profile: Profile = "extended") -> EncodePlan:
    """The plan that keeps every bit; in the standard profile floats are raw, and integers coded as they are."""
    return EncodePlan({t.info.name: _exact(t.info, profile) for t in model}, profile=profile)


def _exact(info: TensorInfo, profile: Profile) -> TensorPlan:
    if profile == "extended":
        return TensorPlan("lossless")
    return TensorPlan("raw" if info.dtype.kind == "float" else "integer")


def with_profile(plan: EncodePlan, profile: Profile) -> EncodePlan:
    """The same plan for a stream of another profile: what is exact stays exact."""
    if profile == plan.profile:
        return plan
    if profile == "standard":
        raise NnbitsError(
            ReasonCode.BAD_OPTION,
            "a plan for the extended profile cannot be executed in the standard one",
            path="profile",
        )
    exact = TensorPlan("lossless")
    tensors = {name: exact if how.qp is None else how for name, how in plan.tensors.items()}
    return replace(plan, tensors=tensors, profile=profile)


def plan_quantized(
    model: Model,
    *,
    qp: int,
    nonweight_qp: int | None = None,
    dependent: bool = True,
    qp_density: int = 2,
    scan_order: int = 0,
    profile: Profile = "extended",
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
        profile: kind of stream.

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
        if info.dtype.kind != "float" or not in_standard_profile(info.dtype) or info.size == 0 or not _finite(tensor):
            return _exact(info, profile)
        if len(info.shape) < 2:
            return TensorPlan(coding, nonweight_qp)
        large = info.size >= _LARGE_TENSOR and info.shape[0] > 4 << scan_order
        return TensorPlan(coding, qp, scan_order=scan_order if large else 0)

    return EncodePlan({t.info.name: plan(t) for t in model}, qp_density=qp_density, profile=profile)


def _finite(tensor: LazyTensor) -> bool:
    """Whether every value is finite in float32; piece by piece where the tensor can be read so."""
    info, step = tensor.info, 1 << 22
    if tensor.read_range is None or info.size <= step:
        return _all_finite(info, tensor.read())
    read = tensor.read_range
    return all(_all_finite(info, read(at, min(step, info.size - at))) for at in range(0, info.size, step))


def _all_finite(info: TensorInfo, stored: Array) -> bool:
    return bool(np.isfinite(to_float32(info.dtype, stored)).all())


@dataclass(frozen=True)
class SparseReport:
    """How sparse an exactly coded tensor is, and what that was good for.

    Attributes:
        nonzero: elements with a bit that is not zero.
        maps: names of the kinds of sparse maps of its parts, without those that have none.
        map_bytes: size of the maps.
        saved_bytes: of the elements that the maps leave out, before coding, less the maps.
    """

    nonzero: int
    maps: tuple[str, ...]
    map_bytes: int
    saved_bytes: int

    @classmethod
    def of(cls, sections: Sections, before: SparseReport | None) -> SparseReport | None:
        """Of a part, added to that of the parts before it; None if the elements were not counted."""
        if sections.nonzero is None:
            return before
        names = () if not sections.map_kind else (MapKind(sections.map_kind).name.lower().replace("_", "-"),)
        saved = sections.absent_bytes - len(sections.map_section)
        own = cls(sections.nonzero, names, len(sections.map_section), saved)
        if before is None:
            return own
        maps = tuple(sorted({*before.maps, *own.maps}))
        return cls(
            own.nonzero + before.nonzero, maps, own.map_bytes + before.map_bytes, own.saved_bytes + before.saved_bytes
        )


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
    sparse: SparseReport | None = None


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
    memory: int = DEFAULT_MEMORY,
    force: bool = False,
    on_tensor: Callable[[PackedTensor], None] | None = None,
) -> PackReport:
    """Write a model to an ``.nnc`` file; the file appears under its name only when it is complete.

    Args:
        model: from an adapter.
        path: output file.
        plan: how each tensor is coded.
        threads: tensors coded at the same time; default: processors. The bytes do not depend on it.
        memory: budget in the extended profile, bytes, see :func:`~nnbits.codec.writer.write_extended`.
        force: replace an existing file.
        on_tensor: called after each tensor.

    Raises:
        NnbitsError: FILE_EXISTS, FILE_IO, NOT_EXACT, BAD_OPTION, BAD_TENSOR.
    """
    check_exact(model, plan)
    with atomic_output(Path(path), force=force) as file:
        return encode_to(model, plan, file, threads=threads, memory=memory, on_tensor=on_tensor)


def encode_to(
    model: Model,
    plan: EncodePlan,
    file: BinaryIO,
    *,
    threads: int | None = None,
    memory: int = DEFAULT_MEMORY,
    on_tensor: Callable[[PackedTensor], None] | None = None,
) -> PackReport:
    """Like :func:`pack_model`, to an open file that need not be able to seek; the plan was checked.

    Raises:
        NnbitsError: BAD_TENSOR, NOT_EXACT, BAD_OPTION.
    """
    packed: dict[str, PackedTensor] = {}
    written = 0

    def write(data: bytes | memoryview) -> None:
        nonlocal written
        file.write(data)
        written += len(data)

    def add(info: TensorInfo, how: TensorPlan, size: int, note: str | None, sparse: SparseReport | None = None) -> None:
        packed[info.name] = PackedTensor(
            info.name, info.dtype.name, info.shape, how.coding, how.qp, info.nbytes, size, note, sparse
        )

    def done(unit: EncodedTensor) -> None:
        described = [(unit.info, unit.plan, unit.unit_bytes, unit.note)]
        described += [(info, how, 0, f"in the unit of {unit.info.name}") for info, how in unit.others]
        for info, how, size, note in described:
            add(info, how, size, note)
            if on_tensor:
                on_tensor(packed[info.name])

    def unit_done(unit: EncodedUnit) -> None:
        for piece in unit.pieces:
            before = packed.get(piece.info.name)
            size = piece.size + (before.unit_bytes if before else 0)
            sparse = before.sparse if before else None
            if piece.sections is not None:
                sparse = SparseReport.of(piece.sections, sparse)
            add(piece.info, piece.how, size, piece.note or (before.note if before else None), sparse)
            if on_tensor and piece.first + piece.count == piece.info.size:
                on_tensor(packed[piece.info.name])

    count = threads or default_threads()
    if plan.profile == "extended":
        write_extended(model, plan, write, threads=count, memory=memory, on_unit=unit_done)
    else:
        encode_model(model, plan, write, threads=count, on_tensor=done)
    return PackReport(tuple(packed.values()), sum(t.source_bytes for t in packed.values()), written)


def _model_of(tensors: Tensors, metadata: Mapping[str, str] | None) -> Model:
    if isinstance(tensors, Model):
        return tensors
    return Model([from_numpy(name, array) for name, array in tensors.items()], metadata or {})


def _plan_for(model: Model, plan: EncodePlan | None, qp: int | None, options: dict[str, Any]) -> EncodePlan:
    if plan is not None:
        if qp is not None:
            raise NnbitsError(ReasonCode.BAD_OPTION, "give either a plan or a qp", path="plan")
        return plan
    if qp is None:
        return plan_exact(model, profile=options["profile"])
    return plan_quantized(model, qp=qp, **options)


def encode(
    tensors: Tensors,
    *,
    plan: EncodePlan | None = None,
    qp: int | None = None,
    nonweight_qp: int | None = None,
    dependent: bool = True,
    qp_density: int = 2,
    scan_order: int = 0,
    profile: Profile = "extended",
    threads: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Encode tensors to a stream in memory; without ``plan`` and ``qp`` the result is exact.

    Args:
        tensors: arrays by name (any dtype of :data:`~nnbits.codec.types.DTYPES`), or a model.
        plan: how each tensor is coded; instead of the other quality options.
        qp: see :func:`plan_quantized`, as are ``nonweight_qp``, ``dependent``, ``qp_density`` and ``scan_order``.
        profile: kind of stream; a plan has its own.
        threads: tensors coded at the same time; the bytes do not depend on it.
        metadata: string metadata to carry along.

    Raises:
        NnbitsError: NOT_EXACT, BAD_OPTION, BAD_TENSOR.
    """
    model = _model_of(tensors, metadata)
    options = {
        "nonweight_qp": nonweight_qp,
        "dependent": dependent,
        "qp_density": qp_density,
        "scan_order": scan_order,
        "profile": profile,
    }
    chosen = _plan_for(model, plan, qp, options)
    check_exact(model, chosen)
    buffer = io.BytesIO()
    encode_to(model, chosen, buffer, threads=threads)
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
    profile: Profile = "extended",
    threads: int | None = None,
    metadata: Mapping[str, str] | None = None,
    force: bool = True,
) -> PackReport:
    """Like :func:`encode`, to a file that appears only when it is complete.

    Raises:
        NnbitsError: as :func:`encode`, and FILE_EXISTS (with ``force=False``), FILE_IO.
    """
    model = _model_of(tensors, metadata)
    options = {
        "nonweight_qp": nonweight_qp,
        "dependent": dependent,
        "qp_density": qp_density,
        "scan_order": scan_order,
        "profile": profile,
    }
    return pack_model(model, path, plan=_plan_for(model, plan, qp, options), threads=threads, force=force)


def decode(data: bytes | bytearray | memoryview, *, threads: int | None = None) -> dict[str, Array]:
    """Decode a whole stream.

    Returns:
        Arrays by name, in the order of the model, in their original dtype and shape.

    Raises:
        NnbitsError: codes 1xx..4xx with the unit and its byte offset.
    """
    with open_file(data) as file:
        return _decode_file(file, threads)


def load(path: StreamTarget, *, threads: int | None = None, base: BaseTarget | None = None) -> dict[str, Array]:
    """Like :func:`decode`, from whatever :func:`open_file` takes, which also says what ``base`` is.

    Raises:
        NnbitsError: as :func:`decode`, and FILE_NOT_FOUND, FILE_IO.
    """
    with open_file(path, base=base) as file:
        return _decode_file(file, threads)


def _decode_file(file: NncFile, threads: int | None) -> dict[str, Array]:
    if file.extended is None:
        return _decode_all(file.stream, threads)
    if file.extended.update is not None:
        file.extended.check_base()
        names = largest_first_map(
            lambda name: (name, file[name]),
            list(file),
            threads=threads or default_threads(),
            size=lambda name: file.info(name).nbytes,
        )
        return dict(names)
    decoded = dict(file.extended.decode_all(threads=threads or default_threads()))
    arrays = {info.name: (info, stored) for info, stored in decoded.items()}
    return {name: to_numpy(*arrays[name]) for name in file}


def stream(file: Any, *, limits: Limits = DEFAULT_LIMITS) -> Iterator[tuple[str, Array]]:
    """Decode a stream from front to back, without seeking: tensors as they become complete.

    That nothing is missing is known when the iteration ends. A tensor that a later state of the stream replaces comes
    again. A stream of the standard profile is read as a whole first.

    Args:
        file: an object with ``read``, such as a pipe or a response of a server.
        limits: bounds on what decoding may cost.

    Yields:
        Names and arrays in their original dtype and shape.

    Raises:
        NnbitsError: codes 1xx..4xx with place.
    """
    for info, stored in ForwardStream(file, limits=limits):
        yield info.name, to_numpy(info, stored)


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
