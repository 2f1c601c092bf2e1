"""Writes extended streams, never seeking back (docs/format.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing

from .access_encoder import EncodedUnit, UnitPlan, encode_unit, plan_units
from .blocks import describe_blocks
from .encode import default_parameters
from .errors import NnbitsError, ReasonCode
from .head import Head, Metadata, compress, write_head
from .index import IndexBuilder
from .integrity import crc32c, sha256
from .limits import MAX_ATTACHMENT_PART_BYTES, MAX_INDEX_BYTES, MAX_NAME_BYTES
from .parallel import ordered_map
from .plan import EncodePlan
from .source import SourceDescription
from .syntax import (
    AttachmentUnit,
    EndUnit,
    IndexUnit,
    ParameterSets,
    build_unit,
    build_unit_prefix,
)
from .types import Attachment, Model

__all__ = ["DEFAULT_MEMORY", "StateWriter", "encoded_units", "write_extended"]

DEFAULT_MEMORY = 1 << 28  #: what the access units that are worked on or wait to be written may take, bytes

Write = Callable[[bytes | memoryview], object]


class StateWriter:
    """The units of one state of a stream: access units and attachments, then index and end."""

    def __init__(self, write: Write, parameters: ParameterSets, builder: IndexBuilder, offset: int) -> None:
        self._write = write
        self._parameters = parameters
        self.builder = builder
        self.offset = offset

    def put(self, data: bytes | memoryview) -> None:
        """Write bytes and count them."""
        self._write(data)
        self.offset += len(data)

    def access_unit(self, unit: EncodedUnit) -> None:
        """Write an access unit."""
        pieces = ((piece.info.name, piece.first, piece.count) for piece in unit.pieces)
        self.builder.add_unit(self.offset, unit.size, unit.number, unit.digest, pieces)
        for chunk in unit.chunks:
            self.put(chunk)

    def attachment(self, attachment: Attachment) -> None:
        """Write the units of an attachment."""
        name = attachment.name.encode("utf-8")
        if len(name) > MAX_NAME_BYTES:
            raise NnbitsError(ReasonCode.LIMIT, "the name of an attachment is too long", path="attachments")
        content = memoryview(attachment.read())
        if len(content) != attachment.size:
            raise NnbitsError(
                ReasonCode.BAD_OPTION,
                f"attachment {attachment.name!r} has {len(content)} bytes, announced are {attachment.size}",
                path="attachments",
            )
        for start in range(0, max(len(content), 1), MAX_ATTACHMENT_PART_BYTES):
            part = content[start : start + MAX_ATTACHMENT_PART_BYTES]
            unit = _attachment_unit(name, len(content), start, part, self._parameters)
            self.builder.add_part(self.offset, len(unit), sha256(unit))
            self.put(unit)

    def finish(self, previous_end: int) -> bytes:
        """Write index and end, and return the model digest."""
        content = self.builder.to_bytes()
        if len(content) > MAX_INDEX_BYTES:
            raise NnbitsError(ReasonCode.LIMIT, f"the index has {len(content)} bytes", path="index_size")
        frame = compress(content, level=9)
        covered = len(content).to_bytes(8, "big")
        unit = IndexUnit(crc32c(frame, crc32c(covered)), len(content))
        prefix = build_unit_prefix(unit, parameters=self._parameters, payload_size=len(frame))
        offset, size, digest = self.offset, len(prefix) + len(frame), sha256(content)
        self.put(prefix)
        self.put(frame)
        self.put(end_unit(offset, size, previous_end, digest, self.builder.au_count, self._parameters))
        return digest


def end_unit(
    index_offset: int, index_bytes: int, previous_end: int, digest: bytes, au_count: int, parameters: ParameterSets
) -> bytes:
    """The last unit of a state."""
    unit = build_unit(
        EndUnit(index_offset, index_bytes, previous_end, digest, 0, au_count), parameters=parameters, long_size=True
    )
    return unit[:-4] + crc32c(unit[:-4]).to_bytes(4, "big")


def _attachment_unit(name: bytes, size: int, start: int, part: memoryview, parameters: ParameterSets) -> bytes:
    frame = compress(bytes(part), level=9)
    unit = build_unit(AttachmentUnit(0, len(name), name, size, start, len(part)), parameters=parameters, payload=frame)
    at = (4 if unit[0] & 0x80 else 2) + 7  # unit header, signature, kind, version
    return unit[:at] + crc32c(unit[at + 4 :]).to_bytes(4, "big") + unit[at + 4 :]


def write_extended(
    model: Model,
    plan: EncodePlan,
    write: Write,
    *,
    threads: int,
    memory: int = DEFAULT_MEMORY,
    on_unit: Callable[[EncodedUnit], None] | None = None,
) -> bytes:
    """Write an extended stream; the bytes do not depend on ``threads`` or ``memory``.

    Args:
        model: tensors are read in parts where they can be.
        plan: one entry for every tensor.
        write: takes the next bytes of the stream.
        threads: access units coded at the same time.
        memory: budget for the access units in work, bytes; a single one that needs more runs alone.
        on_unit: called in the calling thread after each access unit was written.

    Returns:
        The model digest, 32 bytes.

    Raises:
        NnbitsError: BAD_OPTION, BAD_TENSOR, NOT_EXACT, LIMIT.
    """
    infos = [tensor.info for tensor in model]
    parameters = default_parameters(plan)
    head = _head(model, plan, parameters)
    writer = StateWriter(write, parameters, IndexBuilder(head.data, infos), 0)
    writer.put(head.data)
    for attachment in model.attachments:
        writer.attachment(attachment)
    for unit in encoded_units(plan_units(model, plan), plan, parameters, threads=threads, memory=memory):
        writer.access_unit(unit)
        if on_unit:
            on_unit(unit)
    return writer.finish(0)


def encoded_units(
    units: Iterable[UnitPlan],
    plan: EncodePlan,
    parameters: ParameterSets,
    *,
    threads: int,
    memory: int,
    first_number: int = 0,
    base_digest: bytes | None = None,
) -> Iterable[EncodedUnit]:
    """The access units in order, coded on several threads, few at a time."""
    results = ordered_map(
        lambda item: encode_unit(item[1], item[0], plan, parameters, base_digest=base_digest),
        enumerate(units, first_number),
        threads=threads,
        window=max(memory, 1),
        weight=lambda item: item[1].work_bytes,
    )
    with closing(results):
        yield from results


def _head(model: Model, plan: EncodePlan, parameters: ParameterSets) -> Head:
    infos = {tensor.info.name: tensor.info for tensor in model}
    description = SourceDescription()
    if plan.blocks:
        described = describe_blocks(SourceDescription(), plan.blocks, infos)
        description = SourceDescription(folded=described.folded)
    metadata = Metadata(model.source_format, model.metadata, model.source, _order(list(infos), plan))
    if parameters.mps is None:
        raise NnbitsError(ReasonCode.INTERNAL, "no parameter set")
    return write_head(parameters.mps, plan.general_profile_idc, description, metadata)


def _order(names: Sequence[str], plan: EncodePlan) -> Sequence[str]:
    """The names in the order of the source, unless the stream has them in the same order."""
    block_of = {name: block for block in plan.blocks for name in block.members}
    written = [
        member
        for name in names
        if name not in block_of or block_of[name].weight == name
        for member in (block_of[name].members if name in block_of else (name,))
    ]
    return () if written == list(names) else names
