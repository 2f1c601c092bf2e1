"""Tensors and plan to access units: what goes into which unit, and the bytes of one unit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import gcd, prod
from threading import Lock
from typing import Final

import numpy as np

from .encode import encode_block, encode_tensor, plan_of
from .errors import NnbitsError, ReasonCode
from .integrity import crc32c, sha256
from .plan import BlockPlan, EncodePlan, TensorPlan
from .syntax import (
    AccessUnitData,
    AccessUnitHeader,
    AccessUnitRelation,
    ParameterSets,
    Piece,
    ValueCoding,
    build_unit,
    build_unit_prefix,
    peek_unit_size,
)
from .types import Array, LazyTensor, TensorInfo
from .unit_encoder import DataUnitEncoder
from .values import Sections, encode_sections, stored_bytes

__all__ = [
    "GROUP_BYTES",
    "PART_BYTES",
    "BlockPieces",
    "EncodedPiece",
    "EncodedUnit",
    "PiecePlan",
    "Slice",
    "UnitPlan",
    "encode_unit",
    "finish_header",
    "part_elements",
    "plan_units",
]

PART_BYTES: Final = 1 << 22  #: larger tensors are split, bytes of their elements
GROUP_BYTES: Final = 1 << 18  #: consecutive small tensors share an access unit up to this
_GROUP_PIECES: Final = 1 << 12
_OVERHEAD_BYTES: Final = 4096


class Slice:
    """Reads parts of a tensor; one that can only be read as a whole is kept until its last part was taken."""

    def __init__(self, tensor: LazyTensor, parts: int) -> None:
        self.tensor = tensor
        self._left = parts
        self._lock = Lock()
        self._whole: Array | None = None

    @property
    def reads_whole(self) -> bool:
        """Whether the first part takes memory for the whole tensor."""
        return self.tensor.read_range is None

    def read(self, first: int, count: int) -> Array:
        """Elements as a one-dimensional array of the storage dtype."""
        info = self.tensor.info
        if self.tensor.read_range is not None and self._left != 0 and (first, count) != (0, info.size):
            return self._checked(self.tensor.read_range(first, count).reshape(-1), count)
        with self._lock:
            if self._whole is None:
                self._whole = self._checked(np.ascontiguousarray(self.tensor.read()).reshape(-1), info.size)
            whole = self._whole
            self._left -= 1
            if not self._left:
                self._whole = None
        start = first * info.dtype.bits // 8 if info.dtype.is_packed else first
        length = stored_bytes(info.dtype, count) // info.dtype.itemsize
        return whole[start : start + length]

    def _checked(self, stored: Array, count: int) -> Array:
        info = self.tensor.info
        if stored.dtype != info.dtype.storage or stored.nbytes != stored_bytes(info.dtype, count):
            raise NnbitsError(
                ReasonCode.BAD_TENSOR,
                f"tensor {info.name!r} gave {stored.size} {stored.dtype}, announced as {info.dtype.name} {info.shape}",
                path=info.name,
            )
        return stored


@dataclass(frozen=True)
class PiecePlan:
    """A tensor or a part of one, and how it is coded. ``first`` and ``count`` are None for a whole tensor."""

    source: Slice
    info: TensorInfo
    how: TensorPlan
    first: int | None = None
    count: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return self.info.nbytes if self.count is None else stored_bytes(self.info.dtype, self.count)

    @property
    def work_bytes(self) -> int:
        """Memory that reading it takes."""
        return _OVERHEAD_BYTES + (self.info.nbytes if self.source.reads_whole else self.nbytes)

    def piece(self) -> Piece:
        """The piece, without how its values stand in the unit."""
        return Piece(self.info.name, self.info.dtype.number, self.info.shape, self.first, self.count)

    def read(self) -> Array:
        """Its elements, one-dimensional."""
        return self.source.read(self.first or 0, self.info.size if self.count is None else self.count)


@dataclass(frozen=True)
class BlockPieces:
    """The members of a block, which one data unit carries."""

    block: BlockPlan
    pieces: Sequence[PiecePlan]

    @property
    def nbytes(self) -> int:
        """Bytes of their elements."""
        return sum(piece.nbytes for piece in self.pieces)

    @property
    def work_bytes(self) -> int:
        """Memory that reading them takes."""
        return sum(piece.work_bytes for piece in self.pieces)


@dataclass(frozen=True)
class UnitPlan:
    """What goes into one access unit, in order."""

    items: Sequence[PiecePlan | BlockPieces]

    @property
    def work_bytes(self) -> int:
        """Memory that encoding it takes, about: elements, what is made of them, and the result."""
        return sum(3 * item.work_bytes for item in self.items)


@dataclass(frozen=True)
class EncodedPiece:
    """What was made of a piece: its plan as followed, its bytes in the unit, a note or None, its sections if it has."""

    info: TensorInfo
    how: TensorPlan
    first: int
    count: int
    size: int
    note: str | None
    sections: Sections | None = None


@dataclass(frozen=True)
class EncodedUnit:
    """A finished access unit: its bytes in order, its SHA-256, and what is in it."""

    chunks: Sequence[bytes | memoryview]
    size: int
    number: int
    digest: bytes
    pieces: Sequence[EncodedPiece]


def plan_units(
    tensors: Iterable[LazyTensor],
    plan: EncodePlan,
    *,
    part_bytes: int = PART_BYTES,
    group_bytes: int = GROUP_BYTES,
) -> Iterator[UnitPlan]:
    """What goes into which access unit: blocks together, small tensors together, large ones in parts.

    Args:
        tensors: of the model, in order.
        plan: has an entry for each.
        part_bytes: tensors above it are split.
        group_bytes: consecutive tensors share an access unit up to it.
    """
    group: list[PiecePlan | BlockPieces] = []
    held = 0
    for item in _items(tensors, plan):
        large = item.nbytes > group_bytes
        if group and (large or held + item.nbytes > group_bytes or len(group) == _GROUP_PIECES):
            yield UnitPlan(group)
            group, held = [], 0
        if isinstance(item, PiecePlan) and item.nbytes > part_bytes:
            yield from _parts(item, part_bytes)
        elif large:
            yield UnitPlan([item])
        else:
            group.append(item)
            held += item.nbytes
    if group:
        yield UnitPlan(group)


def _items(tensors: Iterable[LazyTensor], plan: EncodePlan) -> Iterator[PiecePlan | BlockPieces]:
    """Whole tensors, and blocks in the place of their weights."""
    by_name = {tensor.info.name: tensor for tensor in tensors}
    block_of = {name: block for block in plan.blocks for name in block.members}
    for name, tensor in by_name.items():
        block = block_of.get(name)
        if block is None:
            yield _whole(tensor, plan)
        elif block.weight == name:
            yield BlockPieces(block, [_whole(by_name[member], plan) for member in block.members])


def _whole(tensor: LazyTensor, plan: EncodePlan) -> PiecePlan:
    return PiecePlan(Slice(tensor, 1), tensor.info, plan_of(plan, tensor.info))


def _parts(piece: PiecePlan, part_bytes: int) -> Iterator[UnitPlan]:
    info, how = piece.info, piece.how
    step = part_elements(info, part_bytes)
    source = Slice(piece.source.tensor, -(-info.size // step))
    row = prod(info.shape[1:])
    for first in range(0, info.size, step):
        count = min(step, info.size - first)
        own = how
        if how.zero_rows:
            rows = range(first // row, (first + count) // row)
            own = replace(how, zero_rows=tuple(r - rows.start for r in how.zero_rows if r in rows))
        yield UnitPlan([PiecePlan(source, info, own, first, count)])


def part_elements(info: TensorInfo, part_bytes: int) -> int:
    """Elements of each part but the last: whole rows if one fits, and whole bytes; parts are about equal."""
    bits = info.dtype.bits if info.dtype.is_packed else 8 * info.dtype.itemsize
    unit = 8 // gcd(bits, 8)  # elements that fill whole bytes
    row = prod(info.shape[1:])
    if row * bits <= 8 * part_bytes:
        rows = unit // gcd(row, unit)
        unit = row * rows
    most = max(8 * part_bytes // (unit * bits), 1)
    units = -(-info.size // unit)
    parts = -(-units // most)
    return unit * -(-units // parts)


def encode_unit(
    unit: UnitPlan,
    number: int,
    plan: EncodePlan,
    parameters: ParameterSets,
    *,
    base_digest: bytes | None = None,
    xor: bool = False,
) -> EncodedUnit:
    """Read, code and put together one access unit; with ``base_digest`` it replaces tensors of that state.

    With ``xor`` its elements are to be XORed to those of that model.

    Raises:
        NnbitsError: BAD_TENSOR, NOT_EXACT, LIMIT, and what reading the tensors raises.
    """
    pieces: list[Piece] = []
    sections: list[memoryview] = []
    data_units: list[bytes | memoryview] = []
    report: list[EncodedPiece] = []
    for item in unit.items:
        if isinstance(item, BlockPieces):
            pieces += [replace(member.piece(), value_coding=ValueCoding.NDU) for member in item.pieces]
            report += _encode_block(item, plan, parameters, data_units)
        else:
            piece, made = _encode_piece(item, plan, parameters, sections, data_units)
            pieces.append(piece)
            report.append(made)
    header = AccessUnitHeader.of(
        pieces,
        au_number=number,
        au_relation=_relation(base_digest, xor),
        base_digest=base_digest,
        data_flag=int(bool(sections)),
        ndu_count=len(data_units) // 2,
    )
    body: list[bytes | memoryview] = []
    if sections:
        length = sum(map(len, sections))
        body = [build_unit_prefix(AccessUnitData(), parameters=parameters, payload_size=length), *sections]
    body += data_units
    chunks = [finish_header(build_unit(header, parameters=parameters), body), *body]
    return EncodedUnit(chunks, sum(map(len, chunks)), number, _digest(chunks), report)


def _relation(base_digest: bytes | None, xor: bool) -> AccessUnitRelation:
    if base_digest is None:
        return AccessUnitRelation.ALONE
    return AccessUnitRelation.XOR if xor else AccessUnitRelation.REPLACES


def _encode_piece(
    planned: PiecePlan,
    plan: EncodePlan,
    parameters: ParameterSets,
    sections: list[memoryview],
    data_units: list[bytes | memoryview],
) -> tuple[Piece, EncodedPiece]:
    piece, how, info = planned.piece(), planned.how, planned.info
    stored = planned.read()
    if how.coding in ("raw", "lossless"):
        try:
            made = encode_sections(
                stored,
                info.dtype,
                piece.shape,
                exact=how.coding == "lossless",
                speed=plan.speed,
                sparse_map=plan.sparse_map,
            )
        except NnbitsError as error:
            error.path = info.name
            raise
        sections += [section for section in (made.map_section, made.values) if len(section)]
        return _stored_piece(piece, made), EncodedPiece(info, how, piece.first, piece.count, made.size, None, made)
    own = TensorInfo(piece.unit_name, info.dtype, piece.shape)
    tensor = LazyTensor(own, lambda: stored.reshape(piece.shape))
    encoded = encode_tensor(
        tensor, how, plan.qp_density, DataUnitEncoder(parameters, plan.set_choice, how.row_skipping)
    )
    data_units += [encoded.prefix, encoded.payload]
    report = EncodedPiece(info, encoded.plan, piece.first, piece.count, encoded.unit_bytes, encoded.note)
    return replace(piece, value_coding=ValueCoding.NDU), report


def _stored_piece(piece: Piece, made: Sections) -> Piece:
    mapped = made.value_count is not None
    return replace(
        piece,
        map_kind=made.map_kind,
        map_bytes=len(made.map_section) if mapped else None,
        value_count=made.value_count,
        value_coding=made.coding,
        value_bytes=None if made.coding == ValueCoding.NOTHING else len(made.values),
    )


def _encode_block(
    item: BlockPieces, plan: EncodePlan, parameters: ParameterSets, data_units: list[bytes | memoryview]
) -> list[EncodedPiece]:
    def lazy(piece: PiecePlan) -> LazyTensor:
        return LazyTensor(piece.info, lambda: piece.read().reshape(piece.info.shape))

    encoded = encode_block(item.block, {p.info.name: lazy(p) for p in item.pieces}, plan, parameters)
    data_units += [encoded.prefix, encoded.payload]
    report = [EncodedPiece(encoded.info, encoded.plan, 0, encoded.info.size, encoded.unit_bytes, encoded.note)]
    note = f"in the unit of {encoded.info.name}"
    return report + [EncodedPiece(info, how, 0, info.size, 0, note) for info, how in encoded.others]


def finish_header(header: bytes, body: Sequence[bytes | memoryview]) -> bytes:
    """The header unit with au_bytes and au_crc32c, which do not change its own length."""
    unit = bytearray(header)
    at = peek_unit_size(memoryview(unit)[:4], index=0, offset=0)[0] + 7  # unit header, signature, kind, version
    unit[at + 4 : at + 9] = (len(unit) + sum(map(len, body))).to_bytes(5, "big")
    crc = crc32c(memoryview(unit)[at + 4 :])
    for chunk in body:
        crc = crc32c(chunk, crc)
    unit[at : at + 4] = crc.to_bytes(4, "big")
    return bytes(unit)


def _digest(chunks: Sequence[bytes | memoryview]) -> bytes:
    if len(chunks) == 1:
        return sha256(chunks[0])
    import hashlib

    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()
