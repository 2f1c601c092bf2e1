"""Codes of GGML blocks whose bits lie in two fields, joined to one packed plane: together they shrink more.

Element ``e`` of a block has its low bits at ``low_byte[e]``, ``low_shift[e]`` of one field and its high bits likewise
in the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ._input import Bytes

__all__ = ["JOINED", "Joined", "join", "part"]

_CHUNK_BLOCKS: Final = 4096  # at once, to bound the memory

_Table = NDArray[np.intp]


@dataclass(frozen=True)
class Joined:
    """Where the bits of the elements of a block are; widths in bits, field sizes in bytes."""

    low_bits: int
    high_bits: int
    low_size: int
    high_size: int
    low_byte: _Table
    low_shift: _Table
    high_byte: _Table
    high_shift: _Table

    @property
    def bits(self) -> int:
        """Width of a whole code."""
        return self.low_bits + self.high_bits


def _table(elements: int, low_bits: int, high_bits: int, *places: _Table) -> Joined:
    return Joined(low_bits, high_bits, elements * low_bits // 8, elements * high_bits // 8, *places)


_E32: Final = np.arange(32)
_E: Final = np.arange(256)
_Q5: Final = _table(32, 4, 1, _E32 % 16, 4 * (_E32 // 16), _E32 // 8, _E32 % 8)

#: By the name of the block type.
JOINED: Final[Mapping[str, Joined]] = {
    "Q5_0": _Q5,
    "Q5_1": _Q5,
    "Q3_K": _table(256, 2, 1, 32 * (_E // 128) + _E % 32, 2 * (_E // 32 % 4), _E % 32, _E // 32),
    "Q5_K": _table(256, 4, 1, 32 * (_E // 64) + _E % 32, 4 * (_E // 32 % 2), _E % 32, _E // 32),
    "Q6_K": _table(
        256,
        4,
        2,
        64 * (_E // 128) + _E % 64,
        4 * (_E // 64 % 2),
        32 * (_E // 128) + _E % 32,
        2 * (_E // 32 % 4),
    ),
}


def join(kind: str, low: Bytes, high: Bytes) -> Bytes:
    """Codes of blocks, packed least significant bit first.

    Args:
        low, high: the fields, shape (blocks, bytes).
    """
    table = JOINED[kind]
    size = len(table.low_byte) * table.bits // 8
    out = np.empty((len(low), size), np.uint8)
    for at in range(0, len(low), _CHUNK_BLOCKS):
        rows = slice(at, at + _CHUNK_BLOCKS)
        codes = low[rows, table.low_byte] >> table.low_shift.astype(np.uint8) & (2**table.low_bits - 1)
        tops = high[rows, table.high_byte] >> table.high_shift.astype(np.uint8) & (2**table.high_bits - 1)
        codes = (codes | tops << table.low_bits).astype(np.uint8)
        planes = np.unpackbits(codes[:, :, None], axis=2, count=table.bits, bitorder="little")
        out[rows] = np.packbits(planes.reshape(len(codes), -1), axis=1, bitorder="little")
    return out.reshape(-1)


def part(kind: str, packed: Bytes) -> tuple[Bytes, Bytes]:
    """:func:`join` undone: the low and the high field, shape (blocks, bytes)."""
    table = JOINED[kind]
    elements = len(table.low_byte)
    packed = packed.reshape(-1, elements * table.bits // 8)
    low = np.zeros((len(packed), table.low_size), np.uint8)
    high = np.zeros((len(packed), table.high_size), np.uint8)
    for at in range(0, len(packed), _CHUNK_BLOCKS):
        rows = slice(at, at + _CHUNK_BLOCKS)
        planes = np.unpackbits(packed[rows], axis=1, bitorder="little").reshape(-1, elements, table.bits)
        codes = np.packbits(planes, axis=2, bitorder="little").reshape(-1, elements)
        _put(low[rows], (codes & (2**table.low_bits - 1)).astype(np.uint8), table.low_byte, table.low_shift)
        _put(high[rows], (codes >> table.low_bits).astype(np.uint8), table.high_byte, table.high_shift)
    return low, high


def _put(field: Bytes, values: Bytes, places: _Table, shifts: _Table) -> None:
    for shift in np.unique(shifts):
        chosen = shifts == shift  # no byte twice among them
        field[:, places[chosen]] |= (values[:, chosen] << np.uint8(shift)).astype(np.uint8)
