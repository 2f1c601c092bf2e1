"""Streams made of the access units of other streams; what is coded stays as it is coded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from .access import AccessUnit, decode_piece, single_data_units, tensor_info
from .access_encoder import (
    EncodedPiece,
    EncodedUnit,
    PiecePlan,
    Slice,
    UnitPlan,
    encode_unit,
    finish_header,
    plan_units,
)
from .atomic import atomic_output
from .encode import check_exact, default_parameters
from .errors import NnbitsError, ReasonCode
from .head import Head, Metadata, write_head
from .index import IndexBuilder
from .integrity import sha256
from .plan import EncodePlan, TensorPlan
from .reader import ExtendedStream
from .source import SourceDescription
from .syntax import AccessUnitData, AccessUnitHeader, ValueCoding, build_unit, build_unit_prefix
from .types import Array, Attachment, LazyTensor, Model, TensorInfo
from .writer import DEFAULT_MEMORY, StateWriter, encoded_units

__all__ = ["MergeReport", "merge_streams"]

_EXACT: Final = TensorPlan("lossless")


@dataclass(frozen=True)
class MergeReport:
    """What a new stream was made of.

    Attributes:
        copied: pieces of tensors that were taken over as they were coded.
        coded_again: names of tensors that were decoded and coded exactly, in parts at least.
        size: bytes of the new stream.
        digest: its model digest.
    """

    copied: int
    coded_again: tuple[str, ...]
    size: int
    digest: bytes


def merge_streams(
    path: Path,
    tensors: Sequence[TensorInfo],
    streams: Sequence[tuple[ExtendedStream, Collection[str]]],
    others: Iterable[LazyTensor] = (),
    *,
    metadata: Mapping[str, str] | None = None,
    source_format: str | None = None,
    attachments: Sequence[Attachment] = (),
    threads: int = 1,
    memory: int = DEFAULT_MEMORY,
    force: bool = False,
    on_tensor: Callable[[TensorInfo], None] | None = None,
) -> MergeReport:
    """Write a stream of the extended profile with tensors of other ones, which are not decoded where possible.

    Quantized tensors of a stream with other parameters than those of the first one, and of blocks of which only a part
    is wanted, are decoded and coded exactly.

    Args:
        path: the new stream; it appears when it is complete.
        tensors: everything that it will hold, in order.
        streams: where tensors come from, and the names of those that are taken from each.
        others: tensors that come from elsewhere; coded exactly.
        metadata, source_format, attachments: of the new stream.
        threads: access units of ``others`` coded at the same time.
        memory: budget for these, bytes.
        force: replace an existing file.
        on_tensor: called after the last piece of each tensor.

    Raises:
        NnbitsError: DUPLICATE_NAME; NO_SUCH_TENSOR if ``tensors`` does not agree with what is given; FILE_EXISTS,
            FILE_IO; BASE_MISSING for an update; codes 1xx..4xx of the streams.
    """
    for stream, _ in streams:
        if stream.update is not None:
            raise NnbitsError(
                ReasonCode.BASE_MISSING, f"a stream is an update of the model {stream.update.base}", path="streams"
            )
    rest = list(others)
    given = [name for _, names in streams for name in names] + [tensor.info.name for tensor in rest]
    if len(set(given)) != len(given) or len({info.name for info in tensors}) != len(tensors):
        raise NnbitsError(ReasonCode.DUPLICATE_NAME, "a tensor is given twice", path="tensors")
    if set(given) != {info.name for info in tensors}:
        raise NnbitsError(ReasonCode.NO_SUCH_TENSOR, "the tensors are not those that are given", path="tensors")
    plan = EncodePlan({tensor.info.name: _EXACT for tensor in rest}, profile="extended")
    check_exact(Model(rest), plan)
    order = [name for stream, names in streams for name in _in_units(stream, names)]
    order += [tensor.info.name for tensor in rest]
    wanted = [info.name for info in tensors]
    described = Metadata(source_format, metadata or {}, {}, () if order == wanted else wanted)
    head = _head(streams, plan, described)
    left = {info.name: info.size for info in tensors}
    copied = 0
    again: dict[str, None] = {}
    with atomic_output(path, force=force) as file:
        writer = StateWriter(file.write, head.parameters, IndexBuilder(head.data, tensors), 0)
        writer.put(head.data)
        for attachment in attachments:
            writer.attachment(attachment)

        def put(unit: EncodedUnit) -> None:
            writer.access_unit(unit)
            for piece in unit.pieces:
                left[piece.info.name] -= piece.count
                if on_tensor and not left[piece.info.name]:
                    on_tensor(piece.info)

        for stream, names in streams:
            for unit in _units(stream, names, head, writer.builder, again):
                copied += len(unit.pieces)
                put(unit)
        made = encoded_units(
            plan_units(rest, plan),
            plan,
            head.parameters,
            threads=threads,
            memory=memory,
            first_number=writer.builder.au_count,
        )
        for unit in made:
            put(unit)
        digest = writer.finish(0)
        return MergeReport(copied, tuple(again), writer.offset, digest)


def _in_units(stream: ExtendedStream, names: Collection[str]) -> list[str]:
    """The names in the order of the first access units of the tensors."""
    wanted, index = set(names), stream.index
    found: dict[str, None] = {}
    for unit in range(len(index.au_offset)):
        for piece in index.pieces_in(unit):
            name = index.tensors[int(index.piece_tensor[piece])].name
            if name in wanted:
                found[name] = None
    return list(found)


def _head(streams: Sequence[tuple[ExtendedStream, Collection[str]]], plan: EncodePlan, metadata: Metadata) -> Head:
    """With the parameters of the first stream, so that its data units can be taken over."""
    if streams:
        first = streams[0][0].head
        return write_head(first.mps, first.general_profile_idc, first.description, metadata)
    mps = default_parameters(plan).mps
    if mps is None:
        raise NnbitsError(ReasonCode.INTERNAL, "no parameter set")
    return write_head(mps, plan.general_profile_idc, SourceDescription(), metadata)


def _units(
    stream: ExtendedStream, names: Collection[str], head: Head, builder: IndexBuilder, again: dict[str, None]
) -> Iterator[EncodedUnit]:
    wanted, index = set(names), stream.index
    same_head = stream.head.standard == head.standard
    for number in range(len(index.au_offset)):
        live = {
            (info.name, int(index.piece_first[p]))
            for p in index.pieces_in(number)
            if (info := index.tensors[int(index.piece_tensor[p])]).name in wanted
        }
        if not live:
            continue
        unit = stream.access_unit(number)
        chosen = [j for j, piece in enumerate(unit.pieces) if (piece.name, piece.first) in live]
        yield from _taken(unit, chosen, stream.head, head, same_head, builder, again)


def _taken(
    unit: AccessUnit,
    chosen: Sequence[int],
    source: Head,
    head: Head,
    same_head: bool,
    builder: IndexBuilder,
    again: dict[str, None],
) -> Iterator[EncodedUnit]:
    coded = [j for j in chosen if unit.pieces[j].value_coding == ValueCoding.NDU]
    kept, data_units = list(chosen), [unit.data_units]
    if not coded:
        data_units = []
    elif not same_head or len(chosen) < len(unit.pieces):
        single = single_data_units(unit, source) if same_head else {}
        kept = [j for j in chosen if j not in coded or j in single]
        data_units = [single[j] for j in kept if j in single]
    if kept:
        count = unit.header.ndu_count if len(kept) == len(unit.pieces) else len(data_units)
        yield _copy(unit, kept, data_units, count, builder.au_count, head)
    missing = [j for j in chosen if j not in set(kept)]
    if missing:
        again.update((unit.pieces[j].name, None) for j in missing)
        yield _decoded(unit, missing, builder.au_count, source, head)


def _copy(
    unit: AccessUnit, chosen: Sequence[int], data_units: Sequence[memoryview], count: int, number: int, head: Head
) -> EncodedUnit:
    """An access unit of some pieces of another one, with the same bytes of values."""
    pieces = [unit.pieces[j] for j in chosen]
    sections = [section for j in chosen for section in (unit.maps[j], unit.values[j]) if len(section)]
    header = AccessUnitHeader.of(
        pieces, au_number=number, data_flag=int(bool(sections)), ndu_count=count if data_units else 0
    )
    body: list[bytes | memoryview] = []
    if sections:
        length = sum(map(len, sections))
        body = [build_unit_prefix(AccessUnitData(), parameters=head.parameters, payload_size=length), *sections]
    body += data_units
    chunks = [finish_header(build_unit(header, parameters=head.parameters), body), *body]
    report = [EncodedPiece(tensor_info(p), _EXACT, p.first, p.count, 0, None) for p in pieces]
    return EncodedUnit(chunks, sum(map(len, chunks)), number, sha256(b"".join(chunks)), report)


def _decoded(unit: AccessUnit, chosen: Sequence[int], number: int, source: Head, head: Head) -> EncodedUnit:
    """An access unit of some pieces of another one, their values coded exactly."""
    items = []
    for j in chosen:
        piece = unit.pieces[j]
        read = partial(_given, decode_piece(unit, j, source))
        tensor = LazyTensor(tensor_info(piece), read, read)
        items.append(PiecePlan(Slice(tensor, 1), tensor.info, _EXACT, piece.first_element, piece.element_count))
    return encode_unit(UnitPlan(items), number, EncodePlan(profile="extended"), head.parameters)


def _given(stored: Array, *_: int) -> Array:
    return stored
