"""The frame of a payload of exactly coded values: what its items are, and where its blocks lie (docs/lossless.md)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import gcd
from typing import Final, Literal, NamedTuple

import numpy as np

from ..errors import NnbitsError, ReasonCode
from ..types import DType

__all__ = [
    "HEAD_SIZE",
    "MAX_BLOCK_ITEMS",
    "BlockLayout",
    "Coding",
    "Items",
    "Speed",
    "choose_layout",
    "items_of",
    "read_frame",
    "read_head",
    "write_frame",
]

Speed = Literal["fast", "balanced", "small"]

MAX_BLOCK_ITEMS: Final = 2**20
_ZSTD_FLAG: Final = 1
_HEAD: Final = struct.Struct("<BII")
HEAD_SIZE: Final = _HEAD.size
_MANTISSA: Final = {"float16": 10, "complex32": 10, "bfloat16": 7, "float32": 23, "complex64": 23, "float64": 52}


class Coding(IntEnum):
    """First byte of a block and of what it contains. Never reused."""

    SPLIT = 0
    MASK = 1
    NARROW = 2
    TABLE = 3
    FLOAT = 4
    BYTES = 5
    UNPACKED = 6
    CONSTANT = 7
    RAW = 8
    ZSTD = 9
    MULTIPLES = 10
    DICTIONARY = 11


@dataclass(frozen=True)
class Items:
    """What is coded: elements, halves of complex elements, or the bytes of packed elements.

    Attributes:
        count: number of items.
        itemsize: bytes of one.
        mantissa_bits: of items that are floating point numbers of at least 16 bits, else 0.
        packed_bits: of an element, if items are bytes of packed elements of 3, 5, 6 or 7 bits, else 0.
        per_element: items of one element; below 1 for packed elements, hence a fraction: numerator, denominator.
    """

    count: int
    itemsize: int
    mantissa_bits: int
    packed_bits: int
    per_element: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes of all items."""
        return self.count * self.itemsize


class BlockLayout(NamedTuple):
    """How items are divided.

    Attributes:
        block_items: items of each block but the last.
        row_items: items of a row; each block begins with one.
        sizes: bytes of each block.
        zstd: whether some block is compressed with zstd.
    """

    block_items: int
    row_items: int
    sizes: tuple[int, ...]
    zstd: bool


def items_of(dtype: DType, count: int) -> Items:
    """The items of ``count`` elements."""
    if dtype.is_packed:
        packed = dtype.bits if dtype.bits in (3, 5, 6, 7) else 0
        return Items((count * dtype.bits + 7) // 8, 1, 0, packed, (dtype.bits, 8))
    halves = 2 if dtype.kind == "complex" else 1
    mantissa = _MANTISSA.get(dtype.name, 52 if dtype.name == "complex128" else 0)
    return Items(count * halves, dtype.itemsize // halves, mantissa, 0, (halves, 1))


def choose_layout(items: Items, row_length: int) -> tuple[int, int]:
    """Items of a block and of a row for a tensor whose rows have ``row_length`` elements."""
    numerator, denominator = items.per_element
    row = row_length * numerator // denominator if row_length * numerator % denominator == 0 else 0
    if items.packed_bits:
        row = 128 * items.packed_bits
    elif not 1 <= row <= 2**15:
        row = 1024
    elif row < 64:
        row *= -(-64 // row)
    most = {1: 2**20, 2: 2**18, 4: 2**18, 8: 2**17}[items.itemsize]
    rows = most // row
    step = 8 // gcd(row, 8)  # blocks of whole bytes in masks and fields
    rows = max(1, rows // step * step)
    return rows * row, row


def write_frame(block_items: int, row_items: int, sizes: Sequence[int], zstd: bool) -> bytes:
    """Header and block table."""
    head = _HEAD.pack(_ZSTD_FLAG if zstd else 0, block_items, row_items)
    return head + np.asarray(sizes, "<u4").tobytes() if len(sizes) > 1 else head


def _bad(message: str) -> NnbitsError:
    return NnbitsError(ReasonCode.LOSSLESS_BLOCK, f"lossless payload: {message}", hint="The data are damaged")


def read_head(payload: memoryview | bytes) -> tuple[bool, int, int]:
    """Whether blocks may be compressed with zstd, items of a block, items of a row.

    Raises:
        NnbitsError: LOSSLESS_BLOCK if they are not possible.
    """
    if len(payload) < HEAD_SIZE:
        raise _bad(f"{len(payload)} bytes are too few for its header")
    flags, block_items, row_items = _HEAD.unpack_from(payload)
    if flags & ~_ZSTD_FLAG:
        raise _bad(f"flags {flags:#x}")
    if not 1 <= block_items <= MAX_BLOCK_ITEMS or not 1 <= row_items <= block_items or block_items % row_items:
        raise _bad(f"blocks of {block_items} items in rows of {row_items}")
    return flags == _ZSTD_FLAG, block_items, row_items


def read_frame(payload: memoryview | bytes, count: int) -> tuple[BlockLayout, int]:
    """Header and block table, and the offset of the first block.

    Raises:
        NnbitsError: LOSSLESS_BLOCK if they are not what an encoder writes for ``count`` items.
    """
    zstd, block_items, row_items = read_head(payload)
    blocks = -(-count // block_items)
    start = HEAD_SIZE
    if blocks == 1:
        return BlockLayout(block_items, row_items, (len(payload) - start,), zstd), start
    if (len(payload) - start) // 4 < blocks:
        raise _bad(f"{len(payload)} bytes are too few for {blocks} blocks")
    sizes = np.frombuffer(payload, "<u4", blocks, start)
    start += 4 * blocks
    if int(sizes.sum(dtype=np.uint64)) != len(payload) - start:
        raise _bad("the sizes of its blocks do not add up")
    return BlockLayout(block_items, row_items, tuple(sizes.tolist()), zstd), start
