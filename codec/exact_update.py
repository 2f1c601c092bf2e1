"""Exact updates in the extended profile: what changed between two models, and the model that a base becomes by it."""

from __future__ import annotations

from contextlib import closing
from typing import Final

import numpy as np

from .access_encoder import EncodedUnit, UnitPlan, encode_unit, plan_units
from .base import Base
from .encode import check_exact, default_parameters
from .errors import NnbitsError, ReasonCode
from .head import Metadata, UpdateOf, write_head
from .index import IndexBuilder
from .parallel import ordered_map
from .plan import EncodePlan, Speed, TensorPlan
from .reader import ExtendedStream
from .source import SourceDescription
from .types import Array, LazyTensor, Model, shaped
from .writer import DEFAULT_MEMORY, StateWriter, Write, encoded_units

__all__ = ["updated_model", "write_update"]

_EXACT: Final = TensorPlan("lossless")


def updated_model(stream: ExtendedStream) -> Model:
    """The model that the base of an update becomes; its tensors are decoded when they are read.

    Args:
        stream: an update with its base.

    Raises:
        NnbitsError: BASE_MISSING, BASE_MISMATCH; METADATA if the order names other tensors.
    """
    stream.check_base()
    if stream.update is None or stream.base is None:
        raise NnbitsError(ReasonCode.BAD_OPTION, "the stream is a model of its own, not an update", path="base")
    changed = {tensor.info.name: tensor for tensor in stream.model()}
    removed = set(stream.update.removed)
    tensors = {name: tensor for name, tensor in stream.base.tensors.items() if name not in removed} | changed
    if order := stream.update.order:
        if len(order) != len(tensors) or set(order) != tensors.keys():
            raise NnbitsError(
                ReasonCode.METADATA, "the order names other tensors than the model has", path="update.order"
            )
        tensors = {name: tensors[name] for name in order}
    metadata = stream.head.metadata
    return Model(list(tensors.values()), metadata.metadata, metadata.format, stream.attachments, metadata.source)


def write_update(
    base: Base,
    new: Model,
    write: Write,
    *,
    full: bool = False,
    speed: Speed = "balanced",
    threads: int = 1,
    memory: int = DEFAULT_MEMORY,
) -> bytes:
    """Write the update that leads from one model to another, bit by bit; unchanged tensors are not in it.

    Each access unit carries the XOR of the elements with those of the base, or the elements, whichever is shorter.

    Args:
        base: the model to start from.
        new: the model to reach, any types and shapes; with its attachments.
        write: takes the next bytes of the stream.
        full: never XOR.
        speed: of exact coding.
        threads: access units coded at the same time; the bytes do not depend on it.
        memory: budget for these, bytes.

    Returns:
        The model digest of the stream, 32 bytes.

    Raises:
        NnbitsError: BAD_TENSOR, LIMIT, and what reading the models raises.
    """
    changed = [tensor for tensor in new if not _is_same(base, tensor)]
    plan = EncodePlan({tensor.info.name: _EXACT for tensor in changed}, profile="extended", speed=speed)
    check_exact(Model(changed), plan)
    alike = [] if full else [tensor for tensor in changed if _is_alike(base, tensor)]
    others = [tensor for tensor in changed if full or not _is_alike(base, tensor)]
    parameters = default_parameters(plan)
    if parameters.mps is None:
        raise NnbitsError(ReasonCode.INTERNAL, "no parameter set")
    metadata = Metadata(new.source_format, new.metadata, new.source, update=_update_of(base, new))
    head = write_head(parameters.mps, plan.general_profile_idc, SourceDescription(), metadata)
    builder = IndexBuilder(head.data, [tensor.info for tensor in (*alike, *others)])
    writer = StateWriter(write, parameters, builder, 0)
    writer.put(head.data)
    for attachment in new.attachments:
        writer.attachment(attachment)

    def encode(item: tuple[int, tuple[UnitPlan, UnitPlan]]) -> EncodedUnit:
        number, (complete, difference) = item
        digest = base.digest
        made = encode_unit(difference, number, plan, parameters, base_digest=digest, xor=True)
        whole = encode_unit(complete, number, plan, parameters, base_digest=digest)
        return made if made.size < whole.size else whole

    pairs = zip(plan_units(alike, plan), plan_units([_xored(base, t) for t in alike], plan), strict=True)
    units = ordered_map(
        encode,
        enumerate(pairs),
        threads=threads,
        window=max(memory, 1),
        weight=lambda item: sum(unit.work_bytes for unit in item[1]),
    )
    with closing(units):
        for unit in units:
            writer.access_unit(unit)
    for unit in encoded_units(
        plan_units(others, plan),
        plan,
        parameters,
        threads=threads,
        memory=memory,
        first_number=builder.au_count,
        base_digest=base.digest,
    ):
        writer.access_unit(unit)
    return writer.finish(0)


def _update_of(base: Base, new: Model) -> UpdateOf:
    names = [tensor.info.name for tensor in new]
    removed = tuple(name for name in base.tensors if name not in set(names))
    kept = [name for name in base.tensors if name not in removed]
    grown = kept + [name for name in names if name not in base.tensors]
    return UpdateOf(base.digest.hex(), Base(new).digest.hex(), removed, () if grown == names else tuple(names))


def _is_alike(base: Base, tensor: LazyTensor) -> bool:
    """Whether the base has a tensor of this name, type and shape."""
    before = base.tensors.get(tensor.info.name)
    return before is not None and before.info == tensor.info


def _is_same(base: Base, tensor: LazyTensor) -> bool:
    if not _is_alike(base, tensor):
        return False
    return bool(np.array_equal(_bits(base.tensors[tensor.info.name].read()), _bits(tensor.read())))


def _bits(stored: Array) -> Array:
    bits: Array = np.ascontiguousarray(stored).reshape(-1).view(np.uint8)
    return bits


def _xored(base: Base, tensor: LazyTensor) -> LazyTensor:
    """The tensor XORed to that of the base."""
    info, before = tensor.info, base.tensors[tensor.info.name]

    def read() -> Array:
        bits = _bits(tensor.read()) ^ _bits(before.read())
        return shaped(info.name, info.stored_shape, bits.view(info.dtype.storage))

    own = tensor.read_range
    if own is None:
        return LazyTensor(info, read)

    def read_range(first: int, count: int) -> Array:
        bits = _bits(own(first, count)) ^ _bits(base.read_range(info, first, count))
        return bits.view(info.dtype.storage)

    return LazyTensor(info, read, read_range)
