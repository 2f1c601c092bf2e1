"""Extension units as frozen dataclasses with the names of docs/format.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, ClassVar, Final

from ..limits import MAX_SHARED_NAME_BYTES
from ..types import ElementType
from .enums import AccessUnitRelation, ExtensionKind, UnitType, ValueCoding
from .extension import EXT_SIGNATURE, EXT_VERSION

__all__ = [
    "EXTENSION_VIEWS",
    "AccessUnitData",
    "AccessUnitHeader",
    "AttachmentUnit",
    "EndUnit",
    "Extension",
    "IndexUnit",
    "MetadataUnit",
    "Piece",
]

Ints = tuple[int, ...]


class Extension:
    """What all extension units have in common."""

    nnr_unit_type: ClassVar[int] = UnitType.NNR_EXT
    ext_kind: ClassVar[ExtensionKind]
    has_payload: ClassVar[bool] = True

    @classmethod
    def signature(cls) -> dict[str, int]:
        """The elements at the start of every extension unit."""
        return {"ext_signature": EXT_SIGNATURE, "ext_kind": cls.ext_kind, "ext_version": EXT_VERSION}


@dataclass(frozen=True)
class MetadataUnit(Extension):
    """Kind 1; the payload is metadata_zstd."""

    ext_kind: ClassVar[ExtensionKind] = ExtensionKind.METADATA

    head_crc32c: int
    metadata_crc32c: int
    metadata_size: int


@dataclass(frozen=True)
class Piece:
    """A tensor in an access unit, or a part of one.

    Attributes:
        name: of the tensor.
        dimensions: of the whole tensor.
        first_element, element_count: in row-major order; None if the piece is the whole tensor.
        map_bytes, value_count: None without a map.
        value_bytes: None for values that do not stand in the data unit.
    """

    name: str
    element_type: ElementType
    dimensions: Ints
    first_element: int | None = None
    element_count: int | None = None
    map_kind: int = 0
    map_bytes: int | None = None
    value_count: int | None = None
    value_coding: ValueCoding = ValueCoding.NOTHING
    value_bytes: int | None = None

    @property
    def size(self) -> int:
        """Elements of the tensor."""
        return prod(self.dimensions)

    @property
    def first(self) -> int:
        """First element of the piece."""
        return self.first_element or 0

    @property
    def count(self) -> int:
        """Elements of the piece."""
        return self.size if self.element_count is None else self.element_count

    @property
    def shape(self) -> Ints:
        """Shape of the piece: of the tensor, of whole rows of it, or one dimension."""
        if self.element_count is None:
            return self.dimensions
        row = prod(self.dimensions[1:])
        if row and not self.first % row and not self.element_count % row:
            return (self.element_count // row, *self.dimensions[1:])
        return (self.element_count,)

    @property
    def unit_name(self) -> str:
        """Name of the piece's NDU."""
        return self.name if self.first_element is None else f"{self.name}@{self.first_element}"


@dataclass(frozen=True)
class AccessUnitHeader(Extension):
    """Kind 2. The elements of the pieces are columns; :attr:`pieces` puts them together.

    Attributes:
        base_digest: 32 bytes if au_relation > 0.
        first_element, ...: of the pieces that have them, in order.
    """

    ext_kind: ClassVar[ExtensionKind] = ExtensionKind.ACCESS_UNIT_HEADER
    has_payload: ClassVar[bool] = False

    au_crc32c: int
    au_bytes: int
    au_number: int
    au_relation: AccessUnitRelation = AccessUnitRelation.ALONE
    base_digest: bytes | None = None
    data_flag: int = 0
    ndu_count: int = 0
    name_shared: Ints = ()
    name_length: Ints = ()
    name: tuple[bytes, ...] = ()
    element_type: tuple[ElementType, ...] = ()
    count_dimensions: Ints = ()
    dimensions: tuple[Ints, ...] = ()
    part_flag: Ints = ()
    first_element: Ints = ()
    element_count: Ints = ()
    map_kind: Ints = ()
    map_bytes: Ints = ()
    value_count: Ints = ()
    value_coding: tuple[ValueCoding, ...] = ()
    value_bytes: Ints = ()

    @property
    def piece_count_minus1(self) -> int:
        """Pieces - 1."""
        return len(self.name) - 1

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The pieces, in order."""
        return tuple(self._pieces())

    def _pieces(self) -> Iterator[Piece]:
        firsts, counts = iter(self.first_element), iter(self.element_count)
        map_bytes, value_counts, value_bytes = iter(self.map_bytes), iter(self.value_count), iter(self.value_bytes)
        name = b""
        for j, end in enumerate(self.name):
            name = name[: self.name_shared[j]] + end
            part, mapped, coding = self.part_flag[j], self.map_kind[j] > 0, self.value_coding[j]
            yield Piece(
                name.decode("utf-8"),
                self.element_type[j],
                self.dimensions[j],
                next(firsts) if part else None,
                next(counts) if part else None,
                self.map_kind[j],
                next(map_bytes) if mapped else None,
                next(value_counts) if mapped else None,
                coding,
                next(value_bytes) if coding in (ValueCoding.RAW, ValueCoding.LOSSLESS) else None,
            )

    @classmethod
    def of(
        cls,
        pieces: Sequence[Piece],
        *,
        au_number: int,
        au_relation: AccessUnitRelation = AccessUnitRelation.ALONE,
        base_digest: bytes | None = None,
        data_flag: int,
        ndu_count: int,
        au_crc32c: int = 0,
        au_bytes: int = 0,
    ) -> AccessUnitHeader:
        """The header for these pieces."""
        names = [piece.name.encode("utf-8") for piece in pieces]
        shared = [_common(a, b) for a, b in zip([b"", *names], names, strict=False)]
        ends = [name[n:] for name, n in zip(names, shared, strict=True)]
        header = cls(
            au_crc32c,
            au_bytes,
            au_number,
            au_relation,
            base_digest,
            data_flag,
            ndu_count,
            tuple(shared),
            tuple(map(len, ends)),
            tuple(ends),
            tuple(piece.element_type for piece in pieces),
            tuple(len(piece.dimensions) for piece in pieces),
            tuple(piece.dimensions for piece in pieces),
            tuple(int(piece.first_element is not None) for piece in pieces),
            tuple(piece.first_element for piece in pieces if piece.first_element is not None),
            tuple(piece.element_count for piece in pieces if piece.element_count is not None),
            tuple(piece.map_kind for piece in pieces),
            tuple(piece.map_bytes for piece in pieces if piece.map_bytes is not None),
            tuple(piece.value_count for piece in pieces if piece.value_count is not None),
            tuple(piece.value_coding for piece in pieces),
            tuple(piece.value_bytes for piece in pieces if piece.value_bytes is not None),
        )
        header.__dict__["pieces"] = tuple(pieces)  # what the cached property would put together again
        return header


def _common(before: bytes, name: bytes) -> int:
    """How many bytes at the start are equal."""
    length = min(len(before), len(name), MAX_SHARED_NAME_BYTES)
    return next((i for i in range(length) if before[i] != name[i]), length)


@dataclass(frozen=True)
class AccessUnitData(Extension):
    """Kind 3; the payload is the sections."""

    ext_kind: ClassVar[ExtensionKind] = ExtensionKind.ACCESS_UNIT_DATA


@dataclass(frozen=True)
class IndexUnit(Extension):
    """Kind 4; the payload is index_zstd."""

    ext_kind: ClassVar[ExtensionKind] = ExtensionKind.INDEX

    index_crc32c: int
    index_size: int


@dataclass(frozen=True)
class EndUnit(Extension):
    """Kind 5, of END_UNIT_BYTES bytes."""

    ext_kind: ClassVar[ExtensionKind] = ExtensionKind.END
    has_payload: ClassVar[bool] = False

    index_offset: int
    index_bytes: int
    previous_end: int
    model_digest: bytes
    end_crc32c: int
    au_count: int = 0
    reserved_zero: bytes = bytes(17)


@dataclass(frozen=True)
class AttachmentUnit(Extension):
    """Kind 6; the payload is attachment_zstd."""

    ext_kind: ClassVar[ExtensionKind] = ExtensionKind.ATTACHMENT

    attachment_crc32c: int
    name_length: int
    name: bytes
    attachment_size: int
    part_offset: int
    part_size: int


EXTENSION_VIEWS: Final[Mapping[int, type[Any]]] = {
    view.ext_kind: view for view in (MetadataUnit, AccessUnitHeader, AccessUnitData, IndexUnit, EndUnit, AttachmentUnit)
}
