"""Sparse maps made: the kind is chosen by the bytes of map and values together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import NnbitsError, ReasonCode
from . import native
from .kinds import MAX_PATTERN, MapKind, Pattern, element_count
from .packed import pack_elements, unpack_elements

__all__ = ["EncodedMap", "encode_map"]

Array = NDArray[Any]
Mask = NDArray[np.bool_]

#: A pattern is looked at if at least this part of the places that it grants is taken.
MIN_FILL: Final = 0.8


@dataclass(frozen=True, eq=False)
class EncodedMap:
    """A map and the values that it leaves.

    Attributes:
        kind: map_kind.
        payload: the map's section.
        value_count: number of elements that exist.
        values: those elements, one-dimensional, of the dtype given; bytes if the elements are packed.
        coded: whether the map is entropy coded.
        pattern: of kind PATTERN.
    """

    kind: MapKind
    payload: bytes
    value_count: int
    values: Array
    coded: bool
    pattern: Pattern | None = None


@dataclass(frozen=True)
class _Candidate:
    """A map without its values."""

    kind: MapKind
    payload: bytes
    value_count: int
    coded: bool
    words: NDArray[np.uint8]
    pattern: Pattern | None = None

    def cost(self, bits: int) -> int:
        """Bytes of map and values."""
        return len(self.payload) + (self.value_count * bits + 7) // 8


def encode_map(
    stored: Array,
    shape: Sequence[int],
    *,
    kind: int | None = None,
    coded: bool | None = None,
    pattern: Pattern | None = None,
    bits: int = 8,
    min_gain: float = 0.0,
) -> EncodedMap | None:
    """Separates the elements that are not zero from a map of where they are.

    An element exists if any of its bits is set, so that negative zeros and NaN payloads are kept; patterns and kept
    slices may have some that are zero, too. Exact: :meth:`SparseMap.expand` gives the same bits.

    Args:
        stored: the elements in row-major order, any dtype of 1, 2, 4, 8 or 16 bytes; or packed.
        shape: of the piece.
        kind: one of :class:`MapKind`; None chooses the smallest.
        coded: True only entropy-coded maps, False only raw ones; None what is smaller.
        pattern: for kind PATTERN, else it is looked for.
        bits: width of packed elements if less than 8; ``stored`` are then the bytes.
        min_gain: the part of map and values that an entropy-coded map must save against a raw one, which is read at
            memory speed, to be chosen without being asked for.

    Returns:
        None if no map makes the piece smaller, or if the elements do not have the structure of the kind asked for.

    Raises:
        NnbitsError: BAD_TENSOR if ``stored`` is not of that shape, BAD_OPTION for an unknown kind, or one that has no
            such form.
    """
    count = element_count(shape)
    flat = np.ascontiguousarray(stored).reshape(-1)
    if bits < 8:
        flat = unpack_elements(flat, count, bits)
    if flat.size != count or flat.itemsize not in (1, 2, 4, 8, 16):
        raise NnbitsError(
            ReasonCode.BAD_TENSOR, f"{flat.size} elements of {flat.dtype} for shape {tuple(shape)}", path="stored"
        )
    wanted = _wanted(kind, coded, pattern)
    words, ones = native.nonzero(flat)
    width = bits if bits < 8 else flat.itemsize * 8
    if kind is None and (not count or ones == count):
        return None
    best = None
    for candidate in _candidates(words, ones, tuple(shape), wanted, coded, pattern):
        cost = candidate.cost(width)
        if candidate.coded and coded is None:
            cost += int(cost * min_gain)
        if best is None or cost < best[0]:
            best = cost, candidate
    if best is None or (kind is None and best[1].cost(width) >= (count * width + 7) // 8):
        return None
    chosen = best[1]
    values = native.pack(chosen.words, count, flat, chosen.value_count)
    if bits < 8:
        values = pack_elements(values, bits)
    return EncodedMap(chosen.kind, chosen.payload, chosen.value_count, values, chosen.coded, chosen.pattern)


def _wanted(kind: int | None, coded: bool | None, pattern: Pattern | None) -> tuple[MapKind, ...]:
    if kind is not None and kind not in tuple(MapKind):
        raise NnbitsError(ReasonCode.BAD_OPTION, f"sparse map of kind {kind}", path="kind")
    if (kind == MapKind.BITMASK and coded) or (kind == MapKind.CODED and coded is False):
        raise NnbitsError(
            ReasonCode.BAD_OPTION,
            "kind 1 is always raw, kind 6 always entropy coded",
            path="coded",
            hint="The coded form of a bit mask is kind 6.",
        )
    if pattern is not None and kind != MapKind.PATTERN:
        raise NnbitsError(ReasonCode.BAD_OPTION, "a pattern without kind PATTERN", path="pattern")
    return tuple(MapKind) if kind is None else (MapKind(kind),)


def _candidates(
    words: NDArray[np.uint8],
    ones: int,
    shape: tuple[int, ...],
    wanted: tuple[MapKind, ...],
    coded: bool | None,
    pattern: Pattern | None,
) -> Iterator[_Candidate]:
    """The maps to choose from, those that are simpler to read first."""
    count = prod(shape)
    forms = [form for form in (False, True) if coded is None or coded is form]
    for kind in wanted:
        if kind == MapKind.STRUCTURED:
            yield from _structured(words, shape, forms, forced=len(wanted) == 1)
        elif kind == MapKind.PATTERN:
            yield from _patterns(words, ones, shape, forms, [pattern] if pattern else None)
        else:
            for form in forms:
                if len(wanted) > 1 and kind == MapKind.GAPS and ones > count // 8:
                    continue  # hopeless, and slow
                if form == (kind == MapKind.CODED) or kind in (MapKind.TWO_LEVEL, MapKind.GAPS):
                    yield _Candidate(kind, native.encode(kind, words, shape, ones, form), ones, form, words)


def _structured(
    words: NDArray[np.uint8], shape: tuple[int, ...], forms: list[bool], *, forced: bool
) -> Iterator[_Candidate]:
    mask = np.unpackbits(words, count=prod(shape), bitorder="little").view(np.bool_).reshape(shape)
    keeps: list[Mask | None] = []
    for axis in range(len(shape)):
        others = tuple(i for i in range(len(shape)) if i != axis)
        keep: Mask = np.any(mask, axis=others, keepdims=True).reshape(-1)
        keeps.append(None if keep.all() else keep)
    if not forced and all(keep is None for keep in keeps):
        return
    sizes = [d if keep is None else int(np.count_nonzero(keep)) for d, keep in zip(shape, keeps, strict=True)]
    kept = native.keeps_words(keeps, shape)
    for form in forms:
        yield _Candidate(MapKind.STRUCTURED, native.encode_keeps(keeps, shape, form), prod(sizes), form, kept)


def _patterns(
    words: NDArray[np.uint8],
    ones: int,
    shape: tuple[int, ...],
    forms: list[bool],
    given: list[Pattern] | None,
) -> Iterator[_Candidate]:
    for pattern in _find_patterns(words, ones, shape) if given is None else given:
        filled = native.fill_pattern(words, shape, pattern)
        if filled is None:
            continue
        value_count = prod(shape) // pattern.m * pattern.n if pattern.exact else ones
        for form in forms:
            payload = native.encode_pattern(filled, shape, pattern, form)
            yield _Candidate(MapKind.PATTERN, payload, value_count, form, filled, pattern)


def _find_patterns(words: NDArray[np.uint8], ones: int, shape: tuple[int, ...]) -> Iterator[Pattern]:
    """The smallest groups along each axis that pruning uses, the last and the second, if there are any."""
    count = prod(shape)
    if not ones:
        return
    for axis in {len(shape) - 1, min(1, len(shape) - 1)} - {-1}:
        m = 2
        while m <= MAX_PATTERN and shape[axis] % m == 0:
            limit = min(m - 1, int(ones / (MIN_FILL * (count // m))))
            largest, smallest = native.group_range(words, shape, m, axis, limit)
            if largest <= limit:
                yield Pattern(largest, m, axis, exact=True)
                if smallest < largest:
                    yield Pattern(largest, m, axis, exact=False)
                break
            m *= 2
