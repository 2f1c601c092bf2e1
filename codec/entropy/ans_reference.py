"""rANS coding of bytes, slowly: docs/rans.md step by step, the other half of every test of the C core."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from ..errors import NnbitsError, ReasonCode

__all__ = ["build_buckets", "decode", "encode", "normalize", "read_tables", "state_count", "write_tables"]

BITS = 12
SLOTS = 1 << BITS
LOW = 1 << 16

Table = dict[int, int]
"""Frequency by symbol, without zeros; the sum is 4096."""

Slots = list[tuple[int, int]]
"""Symbol and rank of each of the 4096 slots."""


def _refuse(what: str) -> NnbitsError:
    return NnbitsError(ReasonCode.LOSSLESS_BLOCK, f"rANS: {what}")


def state_count(count: int) -> int:
    """Number of interleaved states for so many symbols."""
    return min(64, max(4, 1 << (count // 1024).bit_length() - 1 if count >= 1024 else 0))


def normalize(histogram: dict[int, int]) -> Table:
    """The frequencies that nnbits' encoder uses for symbols that occur so often."""
    histogram = {symbol: count for symbol, count in sorted(histogram.items()) if count}
    total = sum(histogram.values())
    if total == 0:
        return {0: SLOTS}
    table = {symbol: max(1, (count * SLOTS + total // 2) // total) for symbol, count in histogram.items()}
    while sum(table.values()) < SLOTS:
        table[max(table, key=lambda s: Fraction(histogram[s], 2 * table[s] + 1))] += 1
    while sum(table.values()) > SLOTS:
        above_one = [symbol for symbol in table if table[symbol] > 1]
        table[min(above_one, key=lambda s: Fraction(histogram[s], 2 * table[s] - 1))] -= 1
    return table


class _Bits:
    def __init__(self, data: bytes) -> None:
        self.text = "".join(f"{byte:08b}" for byte in data)
        self.position = 0

    def read(self, count: int) -> int:
        if self.position + count > len(self.text):
            raise _refuse("the tables are cut off")
        self.position += count
        return int("0" + self.text[self.position - count : self.position], 2)

    def golomb(self) -> int:
        zeros = 0
        while self.read(1) == 0:
            zeros += 1
            if zeros > 8:
                raise _refuse("an Exp-Golomb code of more than 17 bits")
        return (1 << zeros) - 1 + self.read(zeros)


def _golomb(value: int) -> str:
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def _bucket_bits(tables: Sequence[Table]) -> int:
    return (max(map(len, tables)) - 1).bit_length()


def write_tables(tables: Sequence[Table]) -> bytes:
    """Serialized tables."""
    text = f"{_bucket_bits(tables):04b}"
    for table in tables:
        symbols = sorted(table)
        text += f"{len(symbols) - 1:08b}"
        if len(symbols) < 256:
            text += f"{symbols[0]:08b}"
            text += "".join(_golomb(b - a - 1) for a, b in pairwise(symbols))
        before = 6
        for symbol in symbols[:-1]:
            digits = f"{table[symbol]:b}"
            change = len(digits) - before
            text += _golomb(2 * change - 1 if change > 0 else -2 * change) + digits[1:]
            before = len(digits)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def _read_table(bits: _Bits) -> Table:
    count = bits.read(8) + 1
    symbols = list(range(256))
    if count < 256:
        symbols = [bits.read(8)]
        while len(symbols) < count:
            symbols.append(symbols[-1] + 1 + bits.golomb())
        if symbols[-1] > 255:
            raise _refuse("a symbol above 255")
    frequencies = []
    length = 6
    for _ in symbols[:-1]:
        change = bits.golomb()
        length += (change + 1) // 2 if change % 2 else -(change // 2)
        if not 1 <= length <= BITS:
            raise _refuse("a frequency of no or more than 12 bits")
        frequencies.append(1 << (length - 1) | bits.read(length - 1))
    frequencies.append(SLOTS - sum(frequencies))
    if frequencies[-1] < 1:
        raise _refuse("frequencies above 4096")
    return dict(zip(symbols, frequencies, strict=True))


def read_tables(data: bytes, table_count: int) -> tuple[list[Table], int]:
    """Tables from the beginning of the bytes, and how many bytes they took."""
    bits = _Bits(data)
    bucket_bits = bits.read(4)
    tables = [_read_table(bits) for _ in range(table_count)]
    if bits.read(-bits.position % 8) != 0:
        raise _refuse("padding is not zero")
    if bucket_bits != _bucket_bits(tables):
        raise _refuse("bucket_bits is not the least possible")
    return tables, bits.position // 8


def build_buckets(table: Table, bucket_bits: int) -> Slots:
    """Symbol and rank of each slot, by the alias method in order of the symbols."""
    symbols = sorted(table)
    count = 1 << bucket_bits
    width = SLOTS // count
    left = [table[symbol] for symbol in symbols] + [0] * (count - len(symbols))
    owner = [(bucket, width, 0) for bucket in range(count)]  # alias, split, rank of the alias's first slot
    lights = [bucket for bucket in range(count) if left[bucket] <= width]
    heavies = [bucket for bucket in range(count) if left[bucket] > width]
    while heavies:
        heavy = heavies[0]
        if left[heavy] > width:
            target = lights.pop(0)
        else:
            target = heavies.pop(0)
            if not heavies:
                break
            heavy = heavies[0]
        if left[target] < width:
            left[heavy] -= width - left[target]
            owner[target] = (heavy, left[target], left[heavy])
    slots = []
    for bucket, (alias, split, rank) in enumerate(owner):
        for offset in range(width):
            own = offset < split
            slots.append((symbols[bucket], offset) if own else (symbols[alias], rank + offset - split))
    return slots


def _slots(tables: Sequence[Table]) -> list[Slots]:
    return [build_buckets(table, _bucket_bits(tables)) for table in tables]


def encode(symbols: bytes, tables: Sequence[Table], table_numbers: Sequence[int] | None = None) -> bytes:
    """The code of the symbols; table_numbers gives each one's table, None stands for table 0."""
    if not symbols:
        return b""
    slot_of = [{pair: slot for slot, pair in enumerate(slots)} for slots in _slots(tables)]
    states = [LOW] * state_count(len(symbols))
    words = []
    for i in range(len(symbols) - 1, -1, -1):
        t = 0 if table_numbers is None else table_numbers[i]
        frequency = tables[t][symbols[i]]
        x = states[i % len(states)]
        if x >= frequency << 20:
            words.append(x & 0xFFFF)
            x >>= 16
        states[i % len(states)] = x // frequency * SLOTS + slot_of[t][symbols[i], x % frequency]
    head = b"".join(x.to_bytes(4, "little") for x in states)
    return head + b"".join(word.to_bytes(2, "little") for word in reversed(words))


def decode(code: bytes, tables: Sequence[Table], count: int, table_numbers: Sequence[int] | None = None) -> bytes:
    """The symbols of a code."""
    if count == 0:
        if code:
            raise _refuse("a code of no symbols")
        return b""
    n = state_count(count)
    if len(code) < 4 * n or len(code) % 2:
        raise _refuse("the code is cut off")
    states = [int.from_bytes(code[4 * i : 4 * i + 4], "little") for i in range(n)]
    if min(states) < LOW:
        raise _refuse("a state below 65536")
    slots = _slots(tables)
    at = 4 * n
    result = bytearray()
    for i in range(count):
        t = 0 if table_numbers is None else table_numbers[i]
        x = states[i % n]
        symbol, rank = slots[t][x % SLOTS]
        x = tables[t][symbol] * (x // SLOTS) + rank
        if x < LOW:
            if at == len(code):
                raise _refuse("the code is cut off")
            x = x << 16 | int.from_bytes(code[at : at + 2], "little")
            at += 2
        states[i % n] = x
        result.append(symbol)
    if at != len(code) or states != [LOW] * n:
        raise _refuse("the code does not end where its symbols do")
    return bytes(result)
