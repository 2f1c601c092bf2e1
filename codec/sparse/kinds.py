"""Kinds of sparse maps, and how the elements of a piece are laid out for them (docs/sparse-maps.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import Final, NoReturn

from ..errors import NnbitsError, ReasonCode
from ..limits import MAX_DIMENSIONS, MAX_ELEMENTS

__all__ = ["MapKind", "Pattern", "matrix_shape", "refuse", "segment_width"]

WORD: Final = 64  #: elements of a word of a two-level map
MAX_PATTERN: Final = 32  #: elements of a group of an N:M pattern
RAW: Final = 0  #: map_form
CODED: Final = 1  #: map_form

MIN_SEGMENT: Final = 64
SMALL_SEGMENT: Final = 1024
MAX_SEGMENT: Final = 65535
LONG_SEGMENT: Final = 16384


class MapKind(IntEnum):
    """``map_kind``: how a section says which elements exist."""

    BITMASK = 1  #: one bit an element
    TWO_LEVEL = 2  #: one bit a word of 64 elements, then the words that are not zero
    GAPS = 3  #: how many elements are absent before each that exists
    PATTERN = 4  #: N of M: groups of M elements along an axis with N, or at most N, that exist
    STRUCTURED = 5  #: indices kept along each dimension
    CODED = 6  #: the bit mask, arithmetically coded


@dataclass(frozen=True)
class Pattern:
    """An N:M pattern.

    Attributes:
        n: elements of a group that exist, 1 <= n < m.
        m: elements of a group, at most 32; divides the dimension ``axis``.
        axis: dimension along which the groups lie.
        exact: every group has n elements, not fewer.
    """

    n: int
    m: int
    axis: int
    exact: bool


def refuse(message: str) -> NoReturn:
    """Raises SPARSE_MAP."""
    raise NnbitsError(ReasonCode.SPARSE_MAP, message, path="map", hint="The stream is damaged or of another writer.")


def element_count(shape: Sequence[int]) -> int:
    """Elements of a piece.

    Raises:
        NnbitsError: SHAPE_MISMATCH, LIMIT.
    """
    if len(shape) > MAX_DIMENSIONS or any(d < 0 for d in shape):
        raise NnbitsError(ReasonCode.SHAPE_MISMATCH, f"no shape: {tuple(shape)}")
    count = prod(shape)
    if count > MAX_ELEMENTS:
        raise NnbitsError(ReasonCode.LIMIT, f"{count} elements, more than {MAX_ELEMENTS}")
    return count


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a piece: the first dimension and the product of the others; a vector is one row."""
    return (shape[0], prod(shape[1:])) if len(shape) > 1 else (1, prod(shape))


def segment_width(columns: int) -> int:
    """Elements that share a count in a coded map: those of a row, of several short rows, or of a part of long ones."""
    if columns > MAX_SEGMENT:
        return LONG_SEGMENT
    if columns >= MIN_SEGMENT:
        return columns
    return columns * (SMALL_SEGMENT // columns) if columns else SMALL_SEGMENT
