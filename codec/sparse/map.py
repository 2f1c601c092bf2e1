"""Sparse maps decoded: which elements of a piece exist, and what can be done with their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import NnbitsError, ReasonCode
from . import native
from .kinds import MapKind, Pattern, element_count, matrix_shape, refuse
from .packed import pack_elements, unpack_elements

__all__ = ["SparseMap", "decode_map", "join_csr", "join_maps"]

Array = NDArray[Any]
Csr = tuple[Array, Array, Array]


@dataclass(frozen=True, eq=False)
class SparseMap:
    """Which elements of a piece exist. Values are given packed: those of the existing elements in row-major order.

    Attributes:
        shape: of the piece. Its matrix has the first dimension as rows and the product of the others as columns; a
            vector is one row.
        value_count: number of elements that exist. All others are zero; those that exist may be.
        words: uint8, a bit an element, least significant first, whole words of 64 bits.
        kind: as stored; None if made otherwise.
        pattern: of kind PATTERN.
        keeps: of kind STRUCTURED: for each dimension bool ``[dimension]``, or None where everything is kept.
    """

    shape: tuple[int, ...]
    value_count: int
    words: NDArray[np.uint8]
    kind: MapKind | None = None
    pattern: Pattern | None = None
    keeps: tuple[NDArray[np.bool_] | None, ...] | None = None

    @property
    def size(self) -> int:
        """Number of elements of the piece."""
        return prod(self.shape)

    @property
    def is_structured(self) -> bool:
        """Whether whole slices exist or not, so that the values are a dense array of :attr:`kept_shape`."""
        return self.keeps is not None

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Shape of the values of a structured map.

        Raises:
            NnbitsError: BAD_OPTION if the map is of another kind.
        """
        if self.keeps is None:
            raise NnbitsError(ReasonCode.BAD_OPTION, f"a map of kind {self.kind} has no kept shape", path="map")
        pairs = zip(self.shape, self.keeps, strict=True)
        return tuple(d if keep is None else int(np.count_nonzero(keep)) for d, keep in pairs)

    def bitmask(self) -> NDArray[np.uint8]:
        """One bit an element, least significant first, ``(size + 7) // 8`` bytes; do not write to it."""
        return self.words[: (self.size + 7) // 8]

    def mask(self) -> NDArray[np.bool_]:
        """Bool array of the piece's shape."""
        return np.unpackbits(self.words, count=self.size, bitorder="little").view(np.bool_).reshape(self.shape)

    def expand(self, values: Array, out: Array | None = None, *, bits: int = 8) -> Array:
        """The dense elements.

        Args:
            values: ``value_count`` elements; with ``bits`` < 8 the bytes that they are packed in.
            out: receives them: contiguous, of the values' dtype, of the size of the piece.
            bits: width of packed elements.

        Returns:
            One-dimensional array of ``size`` elements, ``out`` if given.

        Raises:
            NnbitsError: BAD_TENSOR for the wrong values, BUFFER_SIZE for a wrong ``out``.
        """
        values = self._values(values, bits)
        if bits < 8:
            dense = pack_elements(native.expand(self.words, self.size, values, None), bits)
            if out is None:
                return dense
            if out.size != dense.size or out.dtype != np.uint8 or not out.flags.writeable:
                raise NnbitsError(ReasonCode.BUFFER_SIZE, f"out: not {dense.size} writable bytes", path="out")
            out.reshape(-1)[:] = dense
            return out
        return native.expand(self.words, self.size, values, out)

    def row_counts(self) -> NDArray[np.int64]:
        """Existing elements of each row, int64 ``[rows]``."""
        return np.diff(self._indptr())

    def indices(self) -> Array:
        """Positions of the existing elements in row-major order, int32 or, from 2^31 elements, int64."""
        return native.csr(self.words, 1, self.size, _index_dtype(self.size))[0]

    def to_csr(self, values: Array) -> Csr:
        """The matrix in compressed sparse rows.

        Args:
            values: ``value_count`` elements.

        Returns:
            ``(data, indices, indptr)``: the values themselves, columns int32[value_count], row starts int32[rows + 1];
            int64 if a dimension or the number of values does not fit.

        Raises:
            NnbitsError: BAD_TENSOR.
        """
        rows, columns = matrix_shape(self.shape)
        dtype = _index_dtype(max(rows, columns, self.value_count))
        return (self._values(values, 8), *native.csr(self.words, rows, columns, dtype))

    def _indptr(self) -> NDArray[np.int64]:
        rows, columns = matrix_shape(self.shape)
        return native.indptr(self.words, rows, columns)

    def _values(self, values: Array, bits: int) -> Array:
        values = np.asarray(values).reshape(-1)
        if bits < 8:
            values = unpack_elements(values, self.value_count, bits)
        if values.size != self.value_count:
            raise NnbitsError(
                ReasonCode.BAD_TENSOR, f"{values.size} values for {self.value_count} elements", path="values"
            )
        return values


def _index_dtype(largest: int) -> type[np.signedinteger[Any]]:
    return np.int32 if largest < 2**31 else np.int64


def decode_map(kind: int, payload: bytes | memoryview, shape: Sequence[int], value_count: int) -> SparseMap:
    """Reads the map of a piece.

    Memory: one bit an element, and at most 300 KiB to work with (and what nnb_sparse_sizes() says for kinds 2 and 5).

    Args:
        kind: map_kind.
        payload: the map's section.
        shape: of the piece.
        value_count: as its header says.

    Raises:
        NnbitsError: SPARSE_MAP if the section is damaged or disagrees with shape or count; UNSUPPORTED_FEATURE for an
            unknown kind.
    """
    shape = tuple(shape)
    count = element_count(shape)
    if kind not in tuple(MapKind):
        raise NnbitsError(
            ReasonCode.UNSUPPORTED_FEATURE, f"sparse map of kind {kind}", path="map_kind", hint="Use a newer nnbits."
        )
    if not 0 <= value_count <= count:
        refuse(f"{value_count} of {count} elements exist")
    kind = MapKind(kind)
    words = native.decode(kind, payload, shape, value_count)
    return SparseMap(
        shape,
        value_count,
        words,
        kind,
        native.read_pattern(payload) if kind == MapKind.PATTERN else None,
        native.decode_keeps(payload, shape) if kind == MapKind.STRUCTURED else None,
    )


def join_csr(parts: Sequence[Csr]) -> Csr:
    """Puts matrices in compressed sparse rows, of equally many columns, below each other.

    Args:
        parts: ``(data, indices, indptr)`` each, at least one.
    """
    data = np.concatenate([part[0] for part in parts])
    dtype = _index_dtype(max(data.size, *(np.iinfo(part[1].dtype).max // 2 for part in parts)))
    rows = sum(part[2].size - 1 for part in parts)
    indptr = np.zeros(rows + 1, dtype)
    row = 0
    for part in parts:
        size = part[2].size - 1
        indptr[row + 1 : row + size + 1] = part[2][1:].astype(dtype) + indptr[row]
        row += size
    return data, np.concatenate([part[1].astype(dtype, copy=False) for part in parts]), indptr


def join_maps(maps: Sequence[SparseMap], shape: Sequence[int]) -> SparseMap:
    """The map of a tensor from those of its parts in row-major order; the values are simply concatenated.

    Raises:
        NnbitsError: SHAPE_MISMATCH if the parts are not as large as the tensor.
    """
    count = element_count(shape)
    if sum(m.size for m in maps) != count:
        raise NnbitsError(ReasonCode.SHAPE_MISMATCH, f"the parts have not the {count} elements of {tuple(shape)}")
    words = np.zeros(-(-count // 64) * 8, np.uint8)
    at = 0
    for m in maps:
        byte, shift = divmod(at, 8)
        mask = m.bitmask()
        words[byte : byte + mask.size] |= mask << np.uint8(shift)
        if shift:
            tail = words[byte + 1 : byte + 1 + mask.size]
            tail |= (mask >> np.uint8(8 - shift))[: tail.size]
        at += m.size
    return SparseMap(tuple(shape), sum(m.value_count for m in maps), words)
