"""2:4 sparsity as matrix units take it: half of the values, and two bits for each that say where it stands."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import NnbitsError, ReasonCode
from . import native
from .kinds import Pattern, matrix_shape
from .map import SparseMap

__all__ = ["pack_metadata", "semi_structured", "tile_metadata"]

Array = NDArray[Any]


def semi_structured(sparse_map: SparseMap, values: Array) -> tuple[Array, NDArray[np.uint8]]:
    """Values and places of a matrix with at most two elements in every four of a row.

    Args:
        sparse_map: of any kind; the matrix is the first dimension by the product of the others.
        values: packed, as the map says.

    Returns:
        The values ``[rows, columns / 2]``, two for each group, and uint8 of the same shape: their places 0..3 in the
        group, increasing. Groups with fewer elements are filled up with zeros at their first free places.

    Raises:
        NnbitsError: BAD_OPTION if a group has more than two elements, or the columns are no multiple of four.
    """
    rows, columns = matrix_shape(sparse_map.shape)
    shape = (rows, columns)
    words = native.fill_pattern(sparse_map.words, shape, Pattern(2, 4, 1, exact=True))
    if words is None:
        raise NnbitsError(
            ReasonCode.BAD_OPTION,
            f"a map of {rows} x {columns} elements is not 2:4",
            path="map",
            hint="Use compressed sparse rows, or the bit mask and the values.",
        )
    count = rows * columns // 2
    places = native.csr(words, 1, rows * columns, np.int64)[0] % 4
    if sparse_map.value_count != count:
        filled = np.zeros(count, values.dtype)
        taken = np.unpackbits(sparse_map.words, count=rows * columns, bitorder="little").view(np.bool_)
        filled[native.pack(words, rows * columns, taken, count)] = values
        values = filled
    return values.reshape(rows, -1), places.astype(np.uint8).reshape(rows, -1)


def pack_metadata(places: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Places ``[rows, columns / 2]`` at two bits each, first lowest: ``[rows, columns / 8]``.

    Raises:
        NnbitsError: BAD_OPTION if a row does not fill its last byte.
    """
    rows, half = places.shape
    if half % 4:
        raise NnbitsError(ReasonCode.BAD_OPTION, f"{half} places do not fill bytes", path="places")
    quads = places.reshape(rows, -1, 4) << np.array([0, 2, 4, 6], np.uint8)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(quads, axis=2)
    return packed


def tile_metadata(places: NDArray[np.uint8], itemsize: int) -> Array:
    """Metadata in the order of NVIDIA's sparse matrix units, which CUTLASS and PyTorch keep it in.

    Args:
        places: ``[rows, columns / 2]``.
        itemsize: bytes of one value: 1 (the metadata are then int32, of 8 groups each) or 2 (int16, of 4 groups).

    Returns:
        int16 or int32 ``[rows, columns / (16 * (3 - itemsize))]`` in the order of PyTorch's
        ``SparseSemiStructuredTensorCUTLASS``.

    Raises:
        NnbitsError: BAD_OPTION if rows and columns are not multiples of a tile: 32 x 32 for 2 bytes, 16 x 64 for 1.
    """
    if itemsize not in (1, 2):
        raise NnbitsError(ReasonCode.BAD_OPTION, f"2:4 metadata for elements of {itemsize} bytes", path="itemsize")
    rows, half = places.shape
    tile = 16 * itemsize, 64 // itemsize
    if rows % tile[0] or 2 * half % tile[1]:
        raise NnbitsError(
            ReasonCode.BAD_OPTION,
            f"{rows} x {2 * half} elements are no whole tiles of {tile[0]} x {tile[1]}",
            path="places",
        )
    meta = pack_metadata(places).view("<i2" if itemsize == 2 else "<i4")
    # Pairs of columns first, then rows; within a tile the row's bits change places with each other and the column's
    # lowest: for 2 bytes from 4 3 210 c to 210 4 c 3, for 1 byte from 3 210 c to 210 c 3.
    if itemsize == 2:
        tiled = meta.reshape(-1, 2, 2, 8, meta.shape[1] // 2, 2).transpose(4, 0, 3, 1, 5, 2)
    else:
        tiled = meta.reshape(-1, 2, 8, meta.shape[1] // 2, 2).transpose(3, 0, 2, 4, 1)
    return np.ascontiguousarray(tiled).reshape(meta.shape)
