"""The sections of access units: how the elements of a piece stand in the data unit (docs/format.md)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final

import numpy as np

from . import lossless
from .errors import NnbitsError, ReasonCode
from .plan import MapChoice, Speed
from .sparse import EncodedMap, MapKind, decode_map, encode_map
from .syntax import ValueCoding
from .types import Array, DType

__all__ = ["Sections", "decode_values", "encode_sections", "stored_bytes"]

_EMPTY: Final = memoryview(b"")
#: A map, which can be used without making the tensor dense, may cost this part more than exact coding of everything, if
#: half of the elements are zero.
_TOLERANCE: Final = 32
_FAST_GAIN: Final = 1 / 256  # what a coded map must save, of map and values, where decoding has to be fast
_NO_LIMIT: Final = 2**63
_CHECKED: Final = 2**21  # elements that are decoded at a time, to be compared
_MIN_ZEROS: Final = 16  # a map is tried if at least this part of the elements is zero: one in ...


@dataclass(frozen=True)
class Sections:
    """The sections of a piece.

    Attributes:
        coding: NOTHING, RAW or LOSSLESS.
        values: the section with the values, empty for NOTHING.
        map_kind: 0 without a sparse map.
        map_section: empty without one.
        value_count: elements that exist; None without a map.
        absent_bytes: of the raw elements that a map leaves out.
        nonzero: elements that are not zero; None where they were not counted.
    """

    coding: ValueCoding
    values: memoryview
    map_kind: int = 0
    map_section: memoryview = _EMPTY
    value_count: int | None = None
    absent_bytes: int = 0
    nonzero: int | None = None

    @property
    def size(self) -> int:
        """Bytes of both."""
        return len(self.values) + len(self.map_section)


def stored_bytes(dtype: DType, count: int) -> int:
    """Bytes of ``count`` raw elements."""
    return (count * dtype.bits + 7) // 8 if dtype.is_packed else count * dtype.itemsize


def encode_sections(
    stored: Array,
    dtype: DType,
    shape: Sequence[int],
    *,
    exact: bool = True,
    speed: Speed = "balanced",
    sparse_map: MapChoice = "size",
) -> Sections:
    """The shortest sections that hold the elements bit by bit, which was checked by decoding them.

    Sections that fail the check are replaced by the raw elements, with a RuntimeWarning.

    Args:
        stored: one-dimensional array of ``dtype.storage``.
        dtype: the element type.
        shape: of the piece.
        exact: False to leave them raw, without a map.
        speed: of exact coding.
        sparse_map: which map; one that is asked for by its kind may make the sections longer.

    Raises:
        NnbitsError: VALUE_RANGE for a bool that is neither 0 nor 1, RESERVED_BITS for bits behind the last packed
            element.
    """
    elements = np.ascontiguousarray(stored).view(np.uint8)
    raw = memoryview(elements.data)
    if not elements.any():
        return Sections(ValueCoding.NOTHING, _EMPTY, nonzero=0)
    _check_elements(elements, dtype, prod(shape))
    plain = Sections(ValueCoding.RAW, raw)
    if not exact:
        return plain
    made = _shortest(stored, raw, dtype, shape, speed, sparse_map)
    if _comes_back(made, raw, dtype, shape):
        return made
    warnings.warn(f"exact coding of {dtype.name} {tuple(shape)} failed its check and is left out: please report it",
                  RuntimeWarning, stacklevel=2)  # fmt: skip
    return replace(plain, nonzero=made.nonzero)


def _shortest(
    stored: Array, raw: memoryview, dtype: DType, shape: Sequence[int], speed: Speed, sparse_map: MapChoice
) -> Sections:
    coding, section = _shorter(stored, raw, dtype, shape, speed)
    nonzero = None
    if not dtype.is_packed:
        nonzero = int(np.count_nonzero(stored.view(_BITS.get(dtype.itemsize, dtype.storage))))
    dense = Sections(coding, section, nonzero=nonzero)
    if sparse_map == "none":
        return dense
    if sparse_map != "size":
        mapped = _with_map(stored, dtype, shape, speed, _NO_LIMIT, sparse_map)
        return dense if mapped is None else replace(mapped, nonzero=nonzero)
    if nonzero is not None and (stored.size - nonzero) * _MIN_ZEROS < stored.size:
        return dense
    most = len(section)
    if speed != "small" and nonzero is not None and 2 * nonzero <= stored.size:
        most += most // _TOLERANCE
    mapped = _with_map(stored, dtype, shape, speed, most, sparse_map)
    return dense if mapped is None else replace(mapped, nonzero=nonzero)


def _shorter(
    stored: Array, raw: memoryview, dtype: DType, shape: Sequence[int], speed: Speed
) -> tuple[ValueCoding, memoryview]:
    payload = lossless.encode_values(stored, dtype, row_length=prod(shape[1:]), speed=speed)
    return (ValueCoding.RAW, raw) if len(payload) >= len(raw) else (ValueCoding.LOSSLESS, memoryview(payload))


def _comes_back(made: Sections, raw: memoryview, dtype: DType, shape: Sequence[int]) -> bool:
    """Whether the elements that were coded are decoded: no checksum of a stream tells of a fault of its encoder."""
    count = prod(shape)
    try:
        if made.value_count is not None:
            values = decode_values(made.coding, made.values, dtype, made.value_count)
            sparse = decode_map(made.map_kind, made.map_section, shape, made.value_count)
            return _same(sparse.expand(values, bits=dtype.bits if dtype.is_packed else 8), raw)
        if made.coding is ValueCoding.RAW:
            return True  # they are what would be compared
        for first in range(0, count, _CHECKED):
            n = min(_CHECKED, count - first)
            found = decode_values(made.coding, made.values, dtype, count, first=first, n=n)
            if not _same(found, raw[stored_bytes(dtype, first) :][: found.nbytes]):
                return False
    except NnbitsError:
        return False
    return True


def _same(found: Array, raw: memoryview) -> bool:
    return found.nbytes == len(raw) and np.array_equal(found.view(np.uint8), np.frombuffer(raw, np.uint8))


def _with_map(
    stored: Array, dtype: DType, shape: Sequence[int], speed: Speed, most: int, sparse_map: MapChoice
) -> Sections | None:
    """The sections with a sparse map, None if they are not shorter than ``most`` or the elements do not fit it."""
    kind = None if sparse_map in ("size", "raw") else MapKind[sparse_map.upper()]
    found = encode_map(
        stored,
        shape,
        kind=kind,
        coded=False if sparse_map == "raw" else None,
        bits=dtype.bits if dtype.is_packed else 8,
        min_gain=_FAST_GAIN if speed == "fast" else 0.0,
    )
    if found is not None and kind is not None and found.value_count == prod(shape):
        return None  # there is nothing that the map could leave out
    if found is None or len(found.payload) >= most:
        return None
    sections = _mapped_sections(found, dtype, shape, speed)
    if sparse_map == "size" and found.kind in (MapKind.BITMASK, MapKind.TWO_LEVEL, MapKind.GAPS, MapKind.CODED):
        # Whole slices that are left with a few zeros in them may take less than a map of these, once they are coded.
        slices = encode_map(stored, shape, kind=MapKind.STRUCTURED, bits=dtype.bits if dtype.is_packed else 8)
        if slices is not None and slices.value_count not in (found.value_count, prod(shape)):
            other = _mapped_sections(slices, dtype, shape, speed)
            sections = other if other.size < sections.size else sections
    return sections if sections.size < most else None


def _mapped_sections(found: EncodedMap, dtype: DType, shape: Sequence[int], speed: Speed) -> Sections:
    values = found.values
    raw = memoryview(np.ascontiguousarray(values).view(np.uint8).data)
    coding, section = ValueCoding.NOTHING, _EMPTY
    if np.frombuffer(raw, np.uint8).any():
        coding, section = _shorter(values, raw, dtype, (found.value_count,), speed)
    absent = stored_bytes(dtype, prod(shape) - found.value_count)
    return Sections(coding, section, int(found.kind), memoryview(found.payload), found.value_count, absent)


#: Unsigned integers of each element size, for which negative zeros are none.
_BITS: Final[dict[int, np.dtype[Any]]] = {size: np.dtype(f"<u{size}") for size in (1, 2, 4, 8)}


def decode_values(
    coding: ValueCoding,
    section: memoryview,
    dtype: DType,
    count: int,
    *,
    first: int = 0,
    n: int | None = None,
    out: Array | None = None,
) -> Array:
    """The elements of a section, or some of them.

    Args:
        coding: NOTHING, RAW or LOSSLESS.
        section: its bytes; of the right length if they are raw.
        dtype: element type.
        count: number of elements.
        first: the first element that is wanted; for packed types at the beginning of a byte.
        n: how many; default: all that follow. For packed types whole bytes, but for the end of the section.
        out: receives them: contiguous, one-dimensional, of ``dtype.storage``.

    Returns:
        One-dimensional array of ``dtype.storage``, ``out`` if given; of ``stored_bytes`` bytes if the type is packed.

    Raises:
        NnbitsError: LOSSLESS_BLOCK, VALUE_RANGE for a bool that is neither 0 nor 1, RESERVED_BITS for bits behind the
            last element. The offset counts from the beginning of the section.
    """
    wanted = count - first if n is None else n
    size = stored_bytes(dtype, wanted) // dtype.itemsize
    if coding == ValueCoding.LOSSLESS:
        if wanted == count:
            stored = lossless.decode_values(section, dtype, count, out=out)
        else:
            stored = _into(lossless.decode_range(section, dtype, count, first, wanted), out)
    else:
        stored = np.empty(size, dtype.storage) if out is None else out
        start = stored_bytes(dtype, first)
        if coding == ValueCoding.NOTHING:
            stored.fill(0)
        else:
            stored.view(np.uint8)[:] = np.frombuffer(section, np.uint8, size * dtype.itemsize, start)
    _check_elements(stored.view(np.uint8), dtype, count if first + wanted == count else 0)
    return stored


def _check_elements(raw: Array, dtype: DType, count: int) -> None:
    """Refuse elements that no reader takes; ``count``: which the last bytes end, 0 if more elements follow."""
    if dtype.kind == "bool" and raw.size and raw.max() > 1:
        raise NnbitsError(ReasonCode.VALUE_RANGE, "a bool is neither 0 nor 1", path="values")
    if dtype.is_packed and raw.size and (used := count * dtype.bits % 8) and int(raw[-1]) >> used:
        raise NnbitsError(ReasonCode.RESERVED_BITS, "bits behind the last element are set", path="values")


def _into(stored: Array, out: Array | None) -> Array:
    if out is None:
        return stored
    out[:] = stored
    return out
