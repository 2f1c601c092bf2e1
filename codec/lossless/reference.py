"""Blocks of exactly coded values decoded as docs/lossless.md is written: slow, to compare the C core with."""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray

from ..entropy import ans_reference
from ..errors import NnbitsError, ReasonCode
from .payload import Coding, Items

__all__ = ["decode_block", "mask_table"]

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]

_NARROW = {(4, 23): (2, 10), (8, 52): (4, 23)}


def _bad(what: str) -> NnbitsError:
    return NnbitsError(ReasonCode.LOSSLESS_BLOCK, f"lossless block: {what}", hint="The data are damaged")


def _bits(data: Bytes, width: int, count: int) -> Words:
    """Fields of ``width`` bits, lowest bits first."""
    bits = np.unpackbits(data, bitorder="little")[: width * count].reshape(count, width)
    fields: Words = (bits.astype(np.uint64) << np.arange(width, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
    return fields


def _widen(values: Words, from_bytes: int) -> Words:
    """Binary16 numbers as binary32, or binary32 as binary64, NaN payloads shifted with the mantissa."""
    mantissa, wider, bias = (10, 23, 112) if from_bytes == 2 else (23, 52, 896)
    exponent_bits, top = 8 * from_bytes - 1 - mantissa, 8 * from_bytes - 1
    result = []
    for value in map(int, values):
        sign, exponent, fraction = (
            value >> top,
            value >> mantissa & (1 << exponent_bits) - 1,
            value & (1 << mantissa) - 1,
        )
        if exponent == (1 << exponent_bits) - 1:
            exponent = (1 << (11 if wider == 52 else 8)) - 1
        elif exponent:
            exponent += bias
        elif fraction:
            shift = mantissa + 1 - fraction.bit_length()
            exponent, fraction = bias + 1 - shift, fraction << shift & (1 << mantissa) - 1
        result.append(sign << 16 * from_bytes - 1 | exponent << wider | fraction << wider - mantissa)
    return np.array(result, np.uint64)


def mask_table(chance: int) -> ans_reference.Table:
    """Frequencies of the bytes of a mask each of whose bits is 1 with a chance of ``chance / 256``."""
    rare = min(chance, 256 - chance)
    of = [max(1, (rare**k * (256 - rare) ** (8 - k) >> 51) + 1 >> 1) for k in range(9)]
    of[0] = ans_reference.SLOTS - sum(comb(8, k) * of[k] for k in range(1, 9))
    while of[0] < of[1]:
        of[0], of[1] = of[0] + 8, of[1] - 1
    return {byte: of[(byte if chance == rare else 255 - byte).bit_count()] for byte in range(256)}


class _Block:
    def __init__(self, code: bytes, row_items: int) -> None:
        self.code, self.at, self.row_items = code, 0, row_items
        self.present: Bytes | None = None  # mask of the items being read, one a byte

    def take(self, size: int) -> bytes:
        if len(self.code) - self.at < size:
            raise _bad("it ends early")
        self.at += size
        return self.code[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def plane(self, count: int, contexts: Words | None = None, tables: int = 1, most: int = 255) -> Bytes:
        """``most``: of a value that all bytes have."""
        method = self.number(1)
        if method == 0:
            value = self.number(1)
            if value > most:
                raise _bad("equal bytes")
            return np.full(count, value, np.uint8)
        if method == 1:
            return np.frombuffer(self.take(count), np.uint8)
        if method != 2:
            raise _bad(f"method {method}")
        data = self.take(self.number(4))
        read, used = ans_reference.read_tables(data, tables if contexts is not None else 1)
        numbers = None if contexts is None else contexts.tolist()
        return np.frombuffer(ans_reference.decode(data[used:], read, count, numbers), np.uint8)

    def mask(self, count: int) -> Bytes:
        size = -(-count // 8)
        if self.row_items % 8 or self.code[self.at : self.at + 1] != b"\3":
            return self.plane(size)
        bits = self.take(2)[1]
        if bits > 2 or 0 in (chances := self.take(1 << bits)):
            raise _bad("classes of MASK")
        rows = -(-count // self.row_items)
        classes = _bits(np.frombuffer(self.take(-(-rows * bits // 8)), np.uint8), bits, rows)
        numbers = np.repeat(classes, self.row_items // 8)[:size].tolist()
        code = self.take(self.number(4))
        return np.frombuffer(ans_reference.decode(code, [*map(mask_table, chances)], size, numbers), np.uint8)

    def words(self, count: int, itemsize: int) -> Words:
        planes = [self.plane(count).astype(np.uint64) << np.uint64(8 * i) for i in range(itemsize)]
        words: Words = np.bitwise_or.reduce(planes)
        return words

    def scales(self, count: int) -> Words:
        positions = count if self.present is None else self.present.size
        rows = self.plane(-(-positions // self.row_items)).astype(np.uint64)
        columns = self.plane(min(positions, self.row_items)).astype(np.uint64)
        at = np.arange(positions)
        sums = (rows[at // self.row_items] + columns[at % self.row_items]) % np.uint64(256)
        return sums if self.present is None else sums[self.present != 0]

    def float(self, items: Items, count: int) -> Words:
        upper, flags, base = self.number(1), self.number(1), self.number(2)
        if upper > min(5, items.mantissa_bits) or flags > 7:
            raise _bad("fields of FLOAT")
        shift = items.mantissa_bits - upper
        scale = self.scales(count) if flags & 2 else None
        field_bits, low_bytes = (shift + 1) % 8, (shift + 1) // 8
        if flags & 4 and (low_bytes == 0 or self.code[self.at : self.at + 1] == b"\0"):
            raise _bad("halves of no bytes, or of equal symbols")
        symbols = self.plane(count, None if scale is None else scale % np.uint64(4), 4).astype(np.uint64)
        rest = np.zeros(count, np.uint64)
        if field_bits:
            field = _bits(self.plane((count * field_bits + 7) // 8, most=0), field_bits, count)
            rest |= field << np.uint64(8 * low_bytes)
        for i in range(low_bytes):
            plane = self.halved(symbols) if flags & 4 and i == 0 else self.plane(count)
            rest |= plane.astype(np.uint64) << np.uint64(8 * i)
        high = symbols + np.uint64(base)
        if scale is not None:
            high += scale // np.uint64(4) << np.uint64(upper)
        high &= np.uint64((1 << 8 * items.itemsize - 1 - shift) - 1) & np.uint64(0xFFFF)
        if flags & 1:
            escapes = self.number(4)
            if np.count_nonzero(symbols == 0) != escapes or escapes == 0:
                raise _bad("number of escapes")
            low = self.plane(escapes).astype(np.uint64)
            values = low | self.plane(escapes).astype(np.uint64) << np.uint64(8)
            if values.max() >> np.uint64(8 * items.itemsize - 1 - shift):
                raise _bad("escape")
            high[symbols == 0] = values
        sign = rest >> np.uint64(shift) << np.uint64(8 * items.itemsize - 1)
        result: Words = sign | high << np.uint64(shift) | rest & np.uint64((1 << shift) - 1)
        return result

    def halved(self, symbols: Words) -> Bytes:
        """Lowest bytes, in halves where the symbol is below a limit."""
        below = symbols < self.number(1)
        count = int(np.count_nonzero(below))
        if count == 0:
            raise _bad("nothing is halved")
        upper = _bits(self.plane((count + 1) // 2), 4, count)
        lower = self.plane(count)
        if lower.max() > 15:
            raise _bad("lower halves")
        lowest = np.zeros(symbols.size, np.uint8)
        lowest[below] = upper.astype(np.uint8) << 4 | lower
        if count < symbols.size:
            lowest[~below] = self.plane(symbols.size - count)
        return lowest

    def bytes(self, items: Items, count: int) -> Words:
        flags = self.number(1)
        if flags > 3:
            raise _bad("flags of BYTES")
        if flags & 2 and items.itemsize > 1:
            raise _bad("scales of more than bytes")
        contexts = np.minimum(self.scales(count), 7).astype(np.uint64) if flags & 2 else None
        values = np.zeros(count, np.uint64)
        for i in range(items.itemsize):
            values |= self.plane(count, contexts, 8).astype(np.uint64) << np.uint64(8 * i)
        if flags & 1:
            values = np.cumsum(values >> np.uint64(1) ^ -(values & np.uint64(1)), dtype=np.uint64)
        return values & np.uint64((1 << 8 * items.itemsize) - 1)

    def leaf(self, items: Items, coding: int, count: int) -> Words:
        size = items.itemsize
        if coding == Coding.TABLE and size > 1:
            entries = self.number(1) + 1
            table = np.array([self.number(size) for _ in range(entries)], np.uint64)
            indices = self.plane(count)
            if indices.max() >= entries:
                raise _bad("index of TABLE")
            return table[indices]
        if coding == Coding.FLOAT and items.mantissa_bits:
            return self.float(items, count)
        if coding == Coding.BYTES:
            return self.bytes(items, count)
        if coding == Coding.UNPACKED and items.packed_bits and self.present is None:
            elements = self.plane(-(-8 * count // items.packed_bits))
            if elements.max() >> items.packed_bits:
                raise _bad("element of UNPACKED")
            bits = np.unpackbits(elements[:, None], axis=1, count=items.packed_bits, bitorder="little")
            return np.packbits(bits.reshape(-1)[: 8 * count], bitorder="little").astype(np.uint64)
        if coding == Coding.CONSTANT:
            return np.full(count, self.number(size), np.uint64)
        if coding == Coding.RAW:
            planes = np.frombuffer(self.take(size * count), np.uint8).reshape(size, count).astype(np.uint64)
            words: Words = np.bitwise_or.reduce(planes << (8 * np.arange(size, dtype=np.uint64))[:, None])
            return words
        raise _bad(f"coding {coding}")

    def narrow(self, items: Items, coding: int, count: int) -> Words:
        if coding != Coding.NARROW:
            return self.leaf(items, coding, count)
        if (items.itemsize, items.mantissa_bits) not in _NARROW:
            raise _bad("NARROW")
        size, mantissa = _NARROW[items.itemsize, items.mantissa_bits]
        return _widen(self.leaf(Items(count, size, mantissa, 0, (1, 1)), self.number(1), count), size)

    def multiples(self, items: Items, count: int) -> Words:
        run = self.number(4)
        if not items.mantissa_bits or items.itemsize > 4 or (run and (run < 8 or self.row_items % run)):
            raise _bad("run of MULTIPLES")
        if run == 0 and count < 2 * self.row_items:
            raise _bad("columns of MULTIPLES")
        number = -(-count // run) if run else self.row_items
        scales = self.narrow(Items(number, 4, 23, 0, (1, 1)), self.number(1), number).astype(np.uint32)
        exponents = scales >> 23
        if exponents.min() < 1 or exponents.max() > (134 if items.mantissa_bits == 10 else 245):
            raise _bad("scale of MULTIPLES")
        integers = self.leaf(Items(count, 1, 0, 0, (1, 1)), self.number(1), count).astype(np.int64)
        offsets = self.plane(number).astype(np.int64)
        which = np.arange(count) // run if run else np.arange(count) % number
        q = (integers + offsets[which]) % 256 - offsets[which]
        products = scales.view(np.float32)[which] * q.astype(np.float32)
        if items.itemsize == 4:
            return products.view(np.uint32).astype(np.uint64)
        if items.mantissa_bits == 10:
            return products.astype(np.float16).view(np.uint16).astype(np.uint64)
        bits = products.view(np.uint32).astype(np.uint64)
        return bits + np.uint64(0x7FFF) + (bits >> np.uint64(16) & np.uint64(1)) >> np.uint64(16)

    def dictionary(self, items: Items, count: int) -> Words:
        entries = self.number(2) + 1
        if items.itemsize < 2 or entries > count:
            raise _bad("entries of DICTIONARY")
        dictionary = self.leaf(items, self.number(1), entries)
        indices = self.leaf(Items(count, 2, 0, 0, (1, 1)), self.number(1), count)
        if indices.max() >= entries:
            raise _bad("index of DICTIONARY")
        return dictionary[indices]

    def group(self, items: Items, coding: int, count: int) -> Words:
        self.present = None
        if coding == Coding.MULTIPLES:
            return self.multiples(items, count)
        if coding == Coding.DICTIONARY:
            return self.dictionary(items, count)
        if coding != Coding.MASK:
            return self.narrow(items, coding, count)
        mask = np.unpackbits(self.mask(count), bitorder="little")
        ones = int(mask[:count].sum())
        if items.packed_bits or mask[count:].any() or ones in (0, count):
            raise _bad("MASK")
        self.present = mask[:count]
        values = np.zeros(count, np.uint64)
        values[self.present != 0] = self.narrow(items, self.number(1), ones)
        return values

    def split(self, items: Items, count: int) -> Words:
        last = self.number(1)
        classes = self.plane(-(-count // self.row_items))
        if items.packed_bits or not 1 <= last <= 15 or set(classes.tolist()) != set(range(last + 1)):
            raise _bad("classes of SPLIT")
        of_item = np.repeat(classes, self.row_items)[:count]
        values = np.zeros(count, np.uint64)
        for kind in range(last + 1):
            values[of_item == kind] = self.group(items, self.number(1), int(np.count_nonzero(of_item == kind)))
        return values


def decode_block(code: bytes, items: Items, row_items: int) -> Bytes:
    """The bytes of ``items.count`` items, little endian, of one block that is not compressed with zstd.

    Raises:
        NnbitsError: LOSSLESS_BLOCK if the code is not what an encoder writes for them.
    """
    block = _Block(bytes(code), row_items)
    coding = block.number(1)
    read = block.split(items, items.count) if coding == Coding.SPLIT else block.group(items, coding, items.count)
    if block.at != len(block.code):
        raise _bad("bytes are left over")
    return np.frombuffer(read.astype(f"<u{items.itemsize}").tobytes(), np.uint8)
