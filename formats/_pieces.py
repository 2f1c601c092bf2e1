"""Tensors fetched for writing, a little ahead and large ones in pieces, so that the memory for it is bounded."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Final, NamedTuple

import numpy as np

from nnbits.codec.access_encoder import PART_BYTES, part_elements
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.parallel import ordered_map
from nnbits.codec.types import LazyTensor
from nnbits.codec.values import stored_bytes

from ._input import Bytes
from .base import quote

__all__ = ["OVERHEAD_BYTES", "WINDOW_BYTES", "Piece", "fetch", "fetched", "pieces_of"]

WINDOW_BYTES: Final = 2**26  #: small tensors are fetched ahead up to this
OVERHEAD_BYTES: Final = 4096  #: of one fetched piece, generously


class Piece(NamedTuple):
    """Elements of a tensor."""

    tensor: LazyTensor
    first: int
    size: int

    @property
    def is_last(self) -> bool:
        """Whether the tensor ends with it."""
        return self.first + self.size == self.tensor.info.size

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return stored_bytes(self.tensor.info.dtype, self.size)


def pieces_of(tensor: LazyTensor) -> list[Piece]:
    """A tensor, or the parts that a large one is read in: those in which access units hold it."""
    info = tensor.info
    if tensor.read_range is None or info.nbytes <= PART_BYTES:
        return [Piece(tensor, 0, info.size)]
    step = part_elements(info, PART_BYTES)
    return [Piece(tensor, first, min(step, info.size - first)) for first in range(0, info.size, step)]


def fetch(piece: Piece) -> Bytes:
    """The elements as bytes.

    Raises:
        NnbitsError: BAD_TENSOR if they are not what the tensor announces; what its ``read`` raises.
    """
    tensor, first, size = piece
    info = tensor.info
    whole = size == info.size or tensor.read_range is None
    array = tensor.read() if whole or tensor.read_range is None else tensor.read_range(first, size)
    shape = info.stored_shape if whole else (piece.nbytes // info.dtype.itemsize,)
    if array.shape != shape or array.dtype != info.dtype.storage:
        raise NnbitsError(
            ReasonCode.BAD_TENSOR,
            f"tensor {quote(info.name)} is {array.dtype} {array.shape}, announced as {info.dtype.storage} {shape}",
            path=quote(info.name),
        )
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def fetched(tensors: Iterable[LazyTensor], threads: int) -> Generator[tuple[Piece, Bytes], None, None]:
    """All pieces of tensors in order.

    Memory: about ``threads`` times the largest piece, or ``WINDOW_BYTES`` if that is more.

    Raises:
        NnbitsError: as :func:`fetch`.
    """
    pieces = [piece for tensor in tensors for piece in pieces_of(tensor)]
    largest = max((piece.nbytes for piece in pieces), default=0) + OVERHEAD_BYTES
    results = ordered_map(
        fetch,
        pieces,
        threads=threads,
        window=max(WINDOW_BYTES, threads * largest),
        weight=lambda piece: piece.nbytes + OVERHEAD_BYTES,
    )
    with closing(results) as arrays:
        for piece in pieces:
            yield piece, next(arrays)
