"""Exactly coded values: each rule of docs/lossless.md and docs/rans.md broken, and blocks that no writer chooses."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import zstandard

from nnbits.codec import lossless
from nnbits.codec.entropy import ans_reference as rans
from nnbits.codec.lossless.payload import Coding
from nnbits.codec.lossless.reference import mask_table
from nnbits.codec.syntax import ValueCoding
from nnbits.codec.types import DTYPES
from nnbits.conformance.cases.building import Case
from nnbits.conformance.cases.pieces import AccessUnit, piece, stream

__all__ = ["cases"]

_FEATURES: Final = ("extended", "exact-values")
_N: Final = 16
#: Label, element type, elements, section, text.
Rule = tuple[str, str, int, bytes, str]


def _section(block: bytes, *, flags: int = 0, block_items: int = _N, row_items: int = _N) -> bytes:
    """A payload of one block."""
    return struct.pack("<BII", flags, block_items, row_items) + block


def _constant(value: int) -> bytes:
    return bytes([0, value])


def _plain(data: Any) -> bytes:
    return b"\1" + bytes(data)


def _coded(tables: bytes, code: bytes) -> bytes:
    return b"\2" + struct.pack("<I", len(tables) + len(code)) + tables + code


def _rans(data: Sequence[int], numbers: Sequence[int] | None = None, count: int = 1) -> bytes:
    """A plane by rANS, with as many equal tables as are wanted."""
    histogram = {symbol: list(data).count(symbol) for symbol in set(data)}
    tables = [rans.normalize(histogram)] * count
    return _coded(rans.write_tables(tables), rans.encode(bytes(data), tables, numbers))


def _block(coding: int, *parts: bytes) -> bytes:
    return bytes([coding]) + b"".join(parts)


def _stream(dtype: str, count: int, section: bytes) -> bytes:
    one = piece("t", dtype, (count,), value_coding=ValueCoding.LOSSLESS, value_bytes=len(section))
    return stream(AccessUnit([one], section))


def _frames() -> Iterator[Rule]:
    good = _block(Coding.RAW, bytes(_N))
    yield "head", "uint8", _N, b"\0" * 8, "a payload of 8 bytes"
    yield "no-bytes", "uint8", _N, b"", "a payload of no bytes"
    yield "flags", "uint8", _N, _section(good, flags=2), "flags 2"
    for label, block, row in (("block-zero", 0, 0), ("block-large", 2**20 + 1, 1), ("row-zero", _N, 0), ("row", _N, 5),
                              ("row-large", _N, 2 * _N)):  # fmt: skip
        yield (
            label,
            "uint8",
            _N,
            _section(good, block_items=block, row_items=row),
            f"blocks of {block} in rows of {row}",
        )
    yield "of-nothing", "uint8", 0, _section(b""), "bytes for no element"
    two = struct.pack("<II", 9, 9) + _block(Coding.RAW, bytes(8)) * 2
    yield "table", "uint8", _N, _section(two[:7], block_items=8, row_items=8), "a table of 2 blocks in 7 bytes"
    for label, body in (("sizes-more", two + b"\0"), ("sizes-less", two[:-1])):
        yield label, "uint8", _N, _section(body, block_items=8, row_items=8), "sizes of blocks that do not add up"
    wrapped = struct.pack("<II", 2**32 - 1, 19) + two[8:]
    yield (
        "sizes-wrap",
        "uint8",
        _N,
        _section(wrapped, block_items=8, row_items=8),
        "sizes whose sum is right modulo 2^32",
    )
    yield "empty", "uint8", _N, _section(b""), "a block of no bytes"
    yield "coding", "uint8", _N, _section(_block(10, bytes(_N))), "coding 10"
    yield "rest", "uint8", _N, _section(good + b"\0"), "a byte behind the last coding"
    frame = zstandard.ZstdCompressor().compress(good)
    yield "zstd-flag", "uint8", _N, _section(_block(Coding.ZSTD, frame)), "zstd without the flag"


def _zstd() -> Iterator[Rule]:
    good = _block(Coding.RAW, bytes(_N))
    compressor = zstandard.ZstdCompressor()
    bomb = compressor.compress(bytes(2**28))
    twice = _block(Coding.ZSTD, compressor.compress(_block(Coding.RAW, bytes(_N))))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(good)
    for label, frame, text in (("damaged", b"\x28\xb5\x2f\xfd" + b"\xff" * 9, "a damaged frame"),
                               ("bomb", bomb, "a frame of 2^28 bytes"),
                               ("unsized", unsized, "a frame that does not state its size"),
                               ("twice", compressor.compress(twice), "zstd in zstd"),
                               ("cut", compressor.compress(good)[:-1], "a frame without its last byte")):  # fmt: skip
        yield f"zstd-{label}", "uint8", _N, _section(_block(Coding.ZSTD, frame), flags=1), text


def _planes() -> Iterator[Rule]:
    data = [1, 2, 3, 3] * 4

    def block(*parts: bytes) -> bytes:
        return _section(_block(Coding.BYTES, *parts))

    yield "flags-none", "uint8", _N, _section(_block(Coding.BYTES)), "BYTES without flags"
    yield "flags-bytes", "uint8", _N, block(b"\4", _constant(1)), "flags 4 of BYTES"
    yield "method-none", "uint8", _N, block(b"\0"), "no plane"
    yield "method", "uint8", _N, block(b"\0", b"\3" + bytes(_N)), "plane by method 3"
    yield "constant", "uint8", _N, block(b"\0", b"\0"), "a constant plane without its value"
    yield "plain", "uint8", _N, block(b"\0", _plain(bytes(_N - 1))), "15 bytes of 16"
    yield "size-none", "uint8", _N, block(b"\0", b"\2\0\0\0"), "a coded plane without its size"
    yield "size", "uint8", _N, block(b"\0", _rans(data)[:-1]), "a coded plane that is cut"
    tables = rans.write_tables([rans.normalize({1: 4, 2: 4, 3: 8})])
    code = rans.encode(bytes(data), [rans.normalize({1: 4, 2: 4, 3: 8})])
    for label, broken, text in (
        ("code-short", code[:14], "four states in 14 bytes"),
        ("code-odd", code + b"\0", "an odd number of bytes"),
        ("code-more", code + b"\0\0", "two bytes behind the code"),
        ("code-cut", code[:-2], "a code without its last two bytes"),
        ("code-state", b"\0\0" + code[2:3] + b"\0" + code[4:], "a state below 2^16"),
        ("code-end", code[:5] + bytes([code[5] ^ 1]) + code[6:], "states that do not end as they began"),
    ):
        yield label, "uint8", _N, block(b"\0", _coded(tables, broken)), text
    halves = {1: 2048, 2: 2048}
    early = _coded(rans.write_tables([halves]), _early(bytes([1, 2] * 8), halves))
    yield "code-early", "uint8", _N, block(b"\0", early), "a state below 2^16 from which the symbols come all the same"
    long = bytes(np.random.default_rng(1).integers(0, 200, 5000, np.uint8))
    table = [rans.normalize({symbol: long.count(symbol) for symbol in set(long)})]
    good, head = rans.encode(long, table), rans.write_tables(table)
    for label, broken, text in (("cut", good[:-2], "a long code without its last two bytes"),
                                ("end", good[:90] + bytes([good[90] ^ 1]) + good[91:], "a long code with a wrong bit"),
                                ("more", good + b"\0\0", "two bytes behind a long code")):  # fmt: skip
        section = _section(_block(Coding.BYTES, b"\0", _coded(head, broken)), block_items=5000, row_items=5000)
        yield f"code-long-{label}", "uint8", 5000, section, text


def _early(symbols: bytes, table: rans.Table) -> bytes:
    """A code of two symbols that gave away 16 bits of its first state too soon."""
    code = rans.encode(symbols, [table])
    slots = rans.build_buckets(table, 1)
    x = int.from_bytes(code[:4], "little")
    symbol, rank = slots[x % rans.SLOTS]
    x = table[symbol] * (x // rans.SLOTS) + rank
    above = x >> 16
    first = above // table[symbol] * rans.SLOTS + slots.index((symbol, above % table[symbol]))
    states = 4 * rans.state_count(len(symbols))
    return first.to_bytes(4, "little") + code[4:states] + (x & 0xFFFF).to_bytes(2, "little") + code[states:]


def _tables() -> Iterator[Rule]:
    """Tables, bit by bit: bucket_bits u(4), symbols - 1 u(8), the first u(8), steps, lengths and frequencies."""
    code = rans.encode(b"\1" * _N, [{1: 4096}])

    def golomb(value: int) -> str:
        return rans._golomb(value)

    def section(text: str, pad: str = "0", code: bytes = code) -> bytes:
        text += pad * (-len(text) % 8)
        return _section(_block(Coding.BYTES, b"\0", _coded(bytes(int(text[at : at + 8], 2) for at in
                                                                 range(0, len(text), 8)), code)))  # fmt: skip

    one = f"{0:08b}{1:08b}"
    two = f"{1:08b}{1:08b}"
    half = golomb(11) + "0" * 11  # the length goes from 6 to 12, the frequency is 2048
    for label, text, what in (
        ("bucket-bits", f"{9:04b}" + one, "bucket_bits 9"),
        ("buckets-few", f"{0:04b}" + two + golomb(0) + half, "2 symbols in one bucket"),
        ("buckets-many", f"{1:04b}" + one, "1 symbol in two buckets"),
        ("symbol", f"{1:04b}{1:08b}{250:08b}" + golomb(9) + half, "symbol 260"),
        ("step", f"{1:04b}" + two + "0" * 9 + "1" + "0" * 9 + half, "a step of more than 9 bits"),
        ("step-256", f"{1:04b}" + two + golomb(256) + half, "a step of 256"),
        ("length-change", f"{1:04b}" + two + golomb(0) + golomb(23), "a change of the length by 12"),
        ("length-zero", f"{1:04b}" + two + golomb(0) + golomb(12), "a frequency of 0 bits"),
        ("length-13", f"{1:04b}" + two + golomb(0) + golomb(13) + "0" * 12, "a frequency of 13 bits"),
        ("frequency", f"{2:04b}{2:08b}{1:08b}" + golomb(0) * 2 + half + golomb(0) + "0" * 11,
         "frequencies that leave nothing for the last symbol"),
    ):  # fmt: skip
        yield f"tables-{label}", "uint8", _N, section(text), what
    of_two = rans.encode(bytes([1, 2] * 8), [{1: 2048, 2: 2048, 3: 0}])
    none = f"{2:04b}{2:08b}{1:08b}" + golomb(0) * 2 + half + golomb(0) + "0" * 11
    yield "tables-unused", "uint8", _N, section(none, code=of_two), "a symbol of frequency 0 that the code does not use"
    of_two = rans.encode(bytes([250, 251] * 8), [{250: 2048, 251: 2048}])
    beyond = f"{1:04b}{1:08b}{250:08b}" + golomb(5) + half
    yield "tables-symbol-256", "uint8", _N, section(beyond, code=of_two), "symbol 256, and a code of it"
    yield "tables-padding", "uint8", _N, section(f"{0:04b}" + one, "1"), "padding that is not zero"
    cut = _section(_block(Coding.BYTES, b"\0", _coded(b"\0\0", b"")))
    yield "tables-cut", "uint8", _N, cut, "tables that end inside"


def _codings() -> Iterator[Rule]:
    raw = _block(Coding.RAW, bytes(range(1, 1 + 4 * _N)))
    yield "raw", "float32", _N, _section(raw[:-1]), "63 raw bytes of 64"
    yield "constant-cut", "float32", _N, _section(_block(Coding.CONSTANT, b"abc")), "three bytes of a constant"
    yield "float-of-int", "int32", _N, _section(_block(Coding.FLOAT, bytes(4), _constant(1))), "FLOAT of integers"
    yield "table-of-bytes", "uint8", _N, _section(_block(Coding.TABLE, b"\0a", _constant(0))), "TABLE of bytes"
    yield "table-none", "float32", _N, _section(_block(Coding.TABLE)), "TABLE without entries"
    yield "table-cut", "float32", _N, _section(_block(Coding.TABLE, b"\1" + bytes(7))), "TABLE with half an entry"
    entries = b"\1" + bytes(8)
    beyond = [0, 1] * 7 + [0, 2]
    yield "table-entry", "float32", _N, _section(_block(Coding.TABLE, entries, _plain(beyond))), "entry 2 of 2"
    yield "unpacked-of-bytes", "uint8", _N, _section(_block(Coding.UNPACKED, _constant(0))), "UNPACKED of whole bytes"
    yield (
        "unpacked-large",
        "uint3",
        _N,
        _section(_block(Coding.UNPACKED, _constant(8)), block_items=6, row_items=6),
        "8 in 3 bits",
    )
    narrow = _block(Coding.NARROW, _block(Coding.RAW, bytes(2 * _N)))
    yield "narrow-of-half", "float16", _N, _section(narrow), "NARROW of float16"
    yield "narrow-of-int", "int32", _N, _section(narrow), "NARROW of integers"
    yield "narrow-none", "float32", _N, _section(_block(Coding.NARROW)), "NARROW and nothing more"
    deep = _block(Coding.NARROW, _block(Coding.NARROW, _block(Coding.RAW, bytes(2 * _N))))
    yield "narrow-twice", "float64", _N, _section(deep), "NARROW below NARROW"
    few = _plain(b"\x03\0")
    two = _block(Coding.RAW, bytes(range(8)))
    yield (
        "mask-of-packed",
        "uint3",
        _N,
        _section(_block(Coding.MASK, few, two), block_items=6, row_items=6),
        "MASK of packed elements",
    )
    fifteen = {"block_items": 15, "row_items": 15}
    yield (
        "mask-bits",
        "float32",
        15,
        _section(_block(Coding.MASK, _plain(b"\3\x80"), two), **fifteen),
        "a bit behind the last",
    )
    yield "mask-none", "float32", _N, _section(_block(Coding.MASK, _constant(0), two)), "a mask of nothing"
    yield "mask-all", "float32", _N, _section(_block(Coding.MASK, _constant(255), raw)), "a mask of everything"
    yield "mask-no-coding", "float32", _N, _section(_block(Coding.MASK, few)), "a mask and no coding"
    yield (
        "mask-twice",
        "float32",
        _N,
        _section(_block(Coding.MASK, few, _block(Coding.MASK, few, two))),
        "MASK below MASK",
    )
    for label, plane, row, text in (
        ("none", b"\3", 8, "a mask by rows and nothing more"),
        ("bits", _mask_by_rows(b"\3\0", bytes(range(60, 68)), 3), 8, "8 classes of rows"),
        ("chances", b"\3\1\x40", 8, "one chance of two"),
        ("chance", _mask_by_rows(b"\3\0", b"\0", 0), 8, "a chance of 0"),
        ("classes", b"\3\1\x40\x40", 8, "no classes of rows"),
        ("size", _mask_by_rows(b"\3\0", b"\x40", 0)[:5], 8, "a mask by rows without its size"),
        ("cut", _mask_by_rows(b"\3\0", b"\x40", 0)[:-2], 8, "a mask by rows that is cut"),
        ("code", _mask_by_rows(b"\3\0", b"\x40", 0)[:-1] + b"\xff", 8, "a mask by rows whose code ends wrong"),
        ("rows", _mask_by_rows(b"\3\0", b"\x40", 0), 4, "a mask by rows that do not begin with bytes"),
    ):
        section = _section(_block(Coding.MASK, plane, two), row_items=row)
        yield f"mask-by-rows-{label}", "float32", _N, section, text
    unpacked = _block(Coding.MASK, few, _block(Coding.UNPACKED, _constant(0)))
    yield "mask-unpacked", "float32", _N, _section(unpacked), "UNPACKED below MASK"
    rows = {"block_items": _N, "row_items": 4}
    half = _block(Coding.RAW, bytes(range(32)))

    def split(*parts: bytes) -> bytes:
        return _section(_block(Coding.SPLIT, *parts), **rows)

    yield (
        "split-of-packed",
        "uint3",
        _N,
        _section(_block(Coding.SPLIT, b"\1", _plain(b"\0\1"))),
        "SPLIT of packed elements",
    )
    yield "split-none", "float32", _N, split(), "SPLIT without its number of classes"
    yield "split-one", "float32", _N, split(b"\0", _constant(0), raw), "SPLIT in one class"
    yield "split-17", "float32", _N, split(b"\x10", _plain(b"\0\1\0\1"), half, half), "SPLIT in 17 classes"
    yield "split-class", "float32", _N, split(b"\1", _plain(b"\0\1\0\2"), half, half), "class 2 of 2"
    quarter = _block(Coding.RAW, bytes(range(16)))
    yield "split-beyond", "float32", _N, split(b"\1", _plain(b"\0\1\0\2"), half, quarter), "class 2 of 2, not coded"
    yield "split-empty", "float32", _N, split(b"\2", _plain(b"\0\1\0\1"), half, half, half), "a class without rows"
    yield "split-no-coding", "float32", _N, split(b"\1", _plain(b"\0\1\0\1"), half), "a class without a coding"
    yield (
        "split-twice",
        "float32",
        _N,
        split(b"\1", _plain(b"\0\1\0\1"), half, _block(Coding.SPLIT, b"\1")),
        "SPLIT below SPLIT",
    )


def _groups() -> Iterator[Rule]:
    rows = {"block_items": _N, "row_items": 8}
    raw, integers, offsets = _block(Coding.RAW, bytes(4 * _N)), _block(Coding.RAW, bytes(_N)), _constant(0)

    def scales(value: float) -> bytes:
        return _block(Coding.CONSTANT, struct.pack("<f", value))

    def multiples(*parts: bytes, run: int = 8) -> bytes:
        return _section(_block(Coding.MULTIPLES, struct.pack("<I", run), *parts), **rows)

    def dictionary(entries: int, *parts: bytes) -> bytes:
        return _section(_block(Coding.DICTIONARY, struct.pack("<H", entries - 1), *parts))

    yield "multiples-run", "float32", _N, multiples(scales(1), integers, offsets, run=5), "runs of 5 in rows of 8"
    yield "multiples-of-integers", "int32", _N, multiples(scales(1), integers, offsets), "MULTIPLES of integers"
    yield "multiples-no-scales", "float32", _N, multiples(), "MULTIPLES without scales"
    yield "multiples-scale", "float32", _N, multiples(scales(-1), integers, offsets), "a scale below zero"
    yield "multiples-no-integers", "float32", _N, multiples(scales(1)), "scales and no integers"
    yield "multiples-no-offsets", "float32", _N, multiples(scales(1), integers), "no offsets"
    unpacked = _block(Coding.UNPACKED, _constant(0))
    yield "multiples-unpacked", "float32", _N, multiples(scales(1), unpacked, offsets), "UNPACKED below MULTIPLES"
    yield "multiples-narrow", "float32", _N, multiples(unpacked, integers, offsets), "scales in UNPACKED"
    two, places = _block(Coding.RAW, bytes(8)), _block(Coding.RAW, bytes(2 * _N))
    byte = _block(Coding.RAW, bytes(2))
    yield "dictionary-of-bytes", "int8", _N, dictionary(2, byte, places), "DICTIONARY of items of a byte"
    yield "dictionary-no-size", "float32", _N, _section(_block(Coding.DICTIONARY)), "DICTIONARY without a size"
    yield "dictionary-large", "float32", _N, dictionary(_N + 1, raw, places), "more entries than items"
    yield "dictionary-no-entries", "float32", _N, dictionary(2), "DICTIONARY without entries"
    yield "dictionary-coding", "float32", _N, dictionary(2, _block(99), places), "entries in coding 99"
    yield "dictionary-no-places", "float32", _N, dictionary(2, two), "entries and no places"
    yield "dictionary-place-coding", "float32", _N, dictionary(2, two, _block(99)), "places in coding 99"
    beyond = _block(Coding.RAW, b"\2" * _N + bytes(_N))
    yield "dictionary-place", "float32", _N, dictionary(2, two, beyond), "place 2 of 2"
    halves = _block(Coding.RAW, bytes(4))
    yield "dictionary-half-place", "float16", _N, dictionary(2, halves, beyond), "place 2 of 2, items of 2 bytes"
    scaled = _block(Coding.BYTES, b"\2", _constant(0), _constant(0), *([_constant(0)] * 2))
    yield "scaled-words", "uint16", _N, _section(scaled), "scaled bytes of items of 2 bytes"


def _floats() -> Iterator[Rule]:
    def block(upper: int, flags: int, *parts: bytes, base: int = 0) -> bytes:
        return _section(_block(Coding.FLOAT, struct.pack("<BBH", upper, flags, base), *parts))

    low = [_constant(1)] * 3  # with k = 0 a binary32 number has three bytes of sign and mantissa
    yield "float-head", "float32", _N, _section(_block(Coding.FLOAT, b"\0\0\0")), "the head of FLOAT is cut"
    yield "float-upper", "float32", _N, block(6, 0, _constant(1), *low), "6 upper bits"
    parts = [_constant(0), *low[:2]]
    yield "float-upper-whole", "float32", _N, block(6, 0, _constant(1), *parts), "6 upper bits, and planes as they want"
    yield "float-flags", "float32", _N, block(0, 8, _constant(1), *low), "flags 8 of FLOAT"
    yield (
        "float-field",
        "float32",
        _N,
        block(1, 0, _constant(1), _constant(9), *low[:2]),
        "a field that is constant, and not 0",
    )
    yield "float-short", "float32", _N, block(0, 0, _constant(1), *low[:2]), "a plane is missing"
    some = [0, 3] * 8

    def escapes(count: int, *lists: bytes) -> bytes:
        return block(0, 1, _plain(some), *low, struct.pack("<I", count), *lists)

    halves = [_plain(range(4)), _plain(range(8)), _plain(range(8))]  # of 8 symbols below the limit, and the others
    for label, parts, text in (
        ("constant", [_constant(3), b"\4", _plain(range(8)), _plain(range(16))], "halves where all symbols are equal"),
        ("none", [_plain(some)], "halves without their limit"),
        ("limit", [_plain(some), b"\0", _plain(b""), _plain(b""), _plain(range(16))], "halves of no symbols"),
        ("upper", [_plain(some), b"\3"], "no upper halves"),
        ("lower", [_plain(some), b"\3", halves[0]], "no lower halves"),
        ("large", [_plain(some), b"\3", halves[0], _plain([*range(7), 16]), halves[2]], "16 as a lower half"),
        ("first", [_plain(some), b"\3", halves[0], _plain([16, *range(7)]), halves[2]], "16 as the first lower half"),
        ("others", [_plain(some), b"\3", *halves[:2]], "no bytes of the other items"),
    ):
        rest = [] if label in ("none", "upper", "lower", "others") else low[1:]
        yield f"halves-{label}", "float32", _N, block(0, 4, *parts, *rest), text
    odd = [_plain([0] * 7 + [3] * 9), b"\3", _plain(range(4)), _plain([0] * 6 + [16]), _plain(range(9)), *low[1:]]
    yield "halves-last", "float32", _N, block(0, 4, *odd), "16 as the last lower half of 7"
    no_bytes = block(1, 4, _plain(some), b"\3", *halves, _plain(range(14)))
    yield "halves-no-bytes", "bfloat16", _N, no_bytes, "halves of 7 bits"

    values = [_constant(5), _constant(0)]
    yield "escapes-none", "float32", _N, block(0, 1, _plain(some), *low), "no number of escapes"
    yield "escapes-zero", "float32", _N, escapes(0, *values), "no escapes"
    unused = block(0, 1, _constant(3), *low, struct.pack("<I", 0), *values)
    yield "escapes-unused", "float32", _N, unused, "no escapes, and no item that wants one"
    yield "escapes-many", "float32", _N, escapes(_N + 1, *values), "17 escapes of 16"
    yield "escapes-few", "float32", _N, escapes(7, *values), "7 escapes for 8 items"
    yield "escapes-more", "float32", _N, escapes(9, *values), "9 escapes for 8 items"
    yield (
        "escapes-large",
        "float32",
        _N,
        escapes(8, _constant(0), _constant(1)),
        "an escape of 9 bits for an exponent of 8",
    )


def _valid() -> Iterator[Case]:
    """Blocks that a writer would not choose."""
    n = 64
    generator = np.random.default_rng(11)
    names = ("uint8", "int16", "float16", "bfloat16", "float32", "float64", "int64", "complex64", "uint3", "uint6")
    for dtype in names:
        kind = DTYPES[dtype]
        items = n * kind.bits // 8 if kind.is_packed else 2 * n if kind.kind == "complex" else n
        width = 1 if kind.is_packed else kind.itemsize // (2 if kind.kind == "complex" else 1)
        planes = [generator.integers(0, 9, items).tolist() for _ in range(width)]
        forms = {"plain": [_plain(p) for p in planes], "coded": [_rans(p) for p in planes],
                 "constant": [_constant(k + 1) for k in range(width)]}  # fmt: skip
        for form, parts in forms.items():
            for flags in (0, 1):
                section = _section(_block(Coding.BYTES, bytes([flags]), *parts), block_items=items, row_items=items)
                yield Case(f"exact-bytes-{dtype}-{form}-{flags}", _stream(dtype, n, section),
                           f"{dtype} as {form} planes, flags {flags}", _FEATURES, pick=form != "coded")  # fmt: skip
    for dtype, most in (("float16", 5), ("bfloat16", 5), ("float32", 5), ("float64", 5)):
        for speed in ("fast", "balanced", "small"):
            array = generator.normal(size=2000).astype(np.float32)
            array[::7] = 0
            stored = _as(dtype, array)
            section = bytes(lossless.encode_values(stored, DTYPES[dtype], row_length=40, speed=speed))
            one = ("zstd",) if section[0] else ()
            yield Case(f"exact-{dtype}-{speed}", _stream(dtype, 2000, section), f"{dtype}, speed {speed}",
                       (*_FEATURES, *one))  # fmt: skip
        for upper in range(most + 1):
            section = _float_block(dtype, upper, generator)
            yield Case(f"exact-upper-{dtype}-{upper}", _stream(dtype, 24, section), f"{dtype} with {upper} upper bits",
                       _FEATURES)  # fmt: skip
    section = _scaled_block()
    yield Case("exact-scales", _stream("float32", _N, section), "scales of rows and columns, modulo the 4 tables",
               _FEATURES)  # fmt: skip
    good = zstandard.ZstdCompressor().compress(_block(Coding.RAW, bytes(range(_N))))
    yield Case("exact-zstd", _stream("uint8", _N, _section(_block(Coding.ZSTD, good), flags=1)), "a block in zstd",
               (*_FEATURES, "zstd"))  # fmt: skip
    classes = [row % 16 for row in range(40)]
    parts = [_block(Coding.CONSTANT, bytes([k, 0, 0, 1])) for k in range(16)]
    section = _section(_block(Coding.SPLIT, b"\x0f", _plain(classes), *parts), block_items=200, row_items=5)
    yield Case("exact-split-16", _stream("int32", 198, section), "rows of 16 classes, the last row cut", _FEATURES)
    mask = bytes(range(256))
    values = _block(Coding.RAW, bytes(k % 255 + 1 for k in range(1024)))
    for bits, chances in ((0, b"\x80"), (1, b"\x01\xff"), (2, b"\x14\x4d\x77\xb3")):
        block = _block(Coding.MASK, _mask_by_rows(mask, chances, bits, 24), values)
        yield Case(f"exact-mask-by-rows-{1 << bits}", _stream("uint8", 2048, _section(block, block_items=2064,
                   row_items=24)), f"a mask by {1 << bits} classes of rows, the last row cut", _FEATURES)  # fmt: skip
    blocks = []
    for first in range(1, 256, 4):
        mask = bytes((29 * first + 73 * k) % 256 for k in range(32))
        plane = _mask_by_rows(mask, bytes(min(first + k, 255) for k in range(4)), 2, 64)
        blocks.append(_block(Coding.MASK, plane, _block(Coding.CONSTANT, bytes([first]))))
    table = struct.pack(f"<{len(blocks)}I", *map(len, blocks))
    section = _section(table + b"".join(blocks), block_items=256, row_items=64)
    yield Case("exact-mask-by-rows-all", _stream("uint8", 256 * len(blocks), section), "masks with all tables",
               _FEATURES)  # fmt: skip
    yield from _halves()
    yield _scaled_integers()
    entries = bytes(range(256)) * 2
    section = _section(_block(Coding.TABLE, b"\xff", entries, _plain(range(255, -1, -1))), block_items=256, row_items=1)
    yield Case("exact-table-256", _stream("uint16", 256, section), "a table of 256 entries", _FEATURES)
    entries = _block(Coding.RAW, bytes(range(10, 15)), bytes(range(60, 65)))
    places = _block(Coding.BYTES, b"\0", _rans([k % 5 for k in range(_N)]), _constant(0))
    dictionary = _block(Coding.DICTIONARY, struct.pack("<H", 4), entries, places)
    yield Case("exact-dictionary-of-half", _stream("float16", _N, _section(dictionary)), "a dictionary of float16",
               _FEATURES)  # fmt: skip
    entries = _block(Coding.BYTES, b"\1", _plain(range(0, 10, 2)), _constant(0))
    places = _block(Coding.TABLE, b"\1", bytes([4, 0, 1, 0]), _plain([0, 1] * (_N // 2)))
    dictionary = _block(Coding.DICTIONARY, struct.pack("<H", 4), entries, places)
    section = _section(_block(Coding.SPLIT, b"\1", _plain([1, 0, 1]), _block(Coding.CONSTANT, b"\3\1"), dictionary),
                       block_items=24, row_items=8)  # fmt: skip
    yield Case("exact-dictionary-in-split", _stream("uint16", 24, section), "a dictionary below SPLIT",
               _FEATURES)  # fmt: skip


def _halves() -> Iterator[Case]:
    generator = np.random.default_rng(13)
    n = 37
    symbols = generator.integers(0, 9, n).tolist()
    for dtype, upper, limit in (("float16", 2, 4), ("bfloat16", 0, 3), ("float32", 0, 1), ("float32", 3, 8),
                                ("float64", 1, 9)):  # fmt: skip
        mantissa = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}[dtype]
        low, field = divmod(mantissa - upper + 1, 8)
        below = sum(symbol < limit for symbol in symbols)
        halves = generator.integers(0, 16, (2, n)).tolist()
        lower = {1: _constant(15), 4: _plain(halves[0][:below]), 8: _rans(halves[0][:below])}
        parts = [_plain(symbols)]
        if field:
            parts.append(_plain(generator.integers(0, 256, (n * field + 7) // 8).tolist()))
        first = _constant(0xA5) if limit == 1 else _plain(generator.integers(0, 256, (below + 1) // 2).tolist())
        parts += [bytes([limit]), first, lower.get(limit, _plain(halves[1][:below]))]
        if below < n:
            parts.append(_plain(generator.integers(0, 256, n - below).tolist()))
        parts += [_plain(generator.integers(0, 256, n).tolist()) for _ in range(low - 1)]
        section = _section(_block(Coding.FLOAT, struct.pack("<BBH", upper, 4, 20), *parts), block_items=n, row_items=n)
        text = f"{below} lowest bytes in halves, {dtype}"
        yield Case(f"exact-halves-{dtype}-{limit}", _stream(dtype, n, section), text, _FEATURES)
    values = np.rint(generator.normal(size=5000) * 2.0**25).astype(np.float32)
    values[:900] *= np.float32(2) ** np.repeat(np.arange(-4, 5, dtype=np.float32), 100)
    for speed in ("fast", "small"):
        section = bytes(lossless.encode_values(values, DTYPES["float32"], row_length=100, speed=speed))
        yield Case(f"exact-halves-{speed}", _stream("float32", 5000, section), f"sums of numbers, speed {speed}",
                   _FEATURES)  # fmt: skip


def _scaled_integers() -> Case:
    """Eight tables of 256 rows below MULTIPLES, whose items are no bytes."""
    rows, columns = [0, 2, 3, 5], [0, 1, 2, 9, 1, 0, 4, 1]
    contexts = [row + column for row in rows for column in columns]
    tables = [{1: 256 * (t + 1), 2 + t: 4096 - 256 * (t + 1)} for t in range(7)]
    tables.append(dict.fromkeys(range(1, 256), 16) | {0: 16})
    numbers = [min(context, 7) for context in contexts]
    symbols = [1 if k % 3 else 2 + number for k, number in enumerate(numbers)]
    plane = _coded(rans.write_tables(tables), rans.encode(bytes(symbols), tables, numbers))
    integers = _block(Coding.BYTES, b"\2", _plain(rows), _plain(columns), plane)
    scales = _block(Coding.RAW, bytes(range(8)), bytes([0x80] * 4), bytes([0x3F] * 4))
    block = _block(Coding.MULTIPLES, struct.pack("<I", 8), scales, integers, _constant(4))
    section = _section(block, block_items=32, row_items=8)
    return Case("exact-multiples-scaled", _stream("float32", 32, section), "integers with scales of rows and columns",
                _FEATURES)  # fmt: skip


def _mask_by_rows(mask: bytes, chances: bytes, bits: int, row_items: int = 8) -> bytes:
    """A plane by method 3, rows in classes 0, 1, ... in turn."""
    rows = -(-len(mask) * 8 // row_items)
    numbers = [row % len(chances) for row in range(rows)]
    classes = sum(number << bits * row for row, number in enumerate(numbers)).to_bytes(-(-rows * bits // 8), "little")
    of_bytes = [numbers[8 * k // row_items] for k in range(len(mask))]
    code = rans.encode(mask, [mask_table(chance) for chance in chances], of_bytes)
    return bytes([3, bits]) + chances + classes + struct.pack("<I", len(code)) + code


def _as(dtype: str, array: Any) -> Any:
    if dtype == "bfloat16":
        return (array.view(np.uint32) >> 16).astype(DTYPES["bfloat16"].storage)
    return array.astype(DTYPES[dtype].storage)


def _float_block(dtype: str, upper: int, generator: Any) -> bytes:
    """FLOAT with a field and an escape at each end."""
    mantissa = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}[dtype]
    low, field = divmod(mantissa - upper + 1, 8)
    n = 24
    symbols = [0, *generator.integers(1, 9, n - 2).tolist(), 0]
    planes = [_rans(symbols)]
    if field:
        planes.append(_plain(generator.integers(0, 256, (n * field + 7) // 8).tolist()))
    planes += [_plain(generator.integers(0, 256, n).tolist()) for _ in range(low)]
    largest = 31 if dtype == "float16" else 255
    escapes = struct.pack("<I", 2) + _plain([1, largest]) + _constant(0)
    head = struct.pack("<BBH", upper, 1, 65535)
    return _section(_block(Coding.FLOAT, head, *planes, escapes), block_items=n, row_items=6)


def _scaled_block() -> bytes:
    """FLOAT with four different tables, and contexts that are greater than their number."""
    rows, columns = [0, 3, 6, 11], [0, 1, 2, 9]
    contexts = [row + column for row in rows for column in columns]
    tables = [{1: 512 * (t + 1) - 256, 2 + t: 4096 - (512 * (t + 1) - 256)} for t in range(4)]
    symbols = [1 if k % 3 else 2 + context % 4 for k, context in enumerate(contexts)]
    numbers = [context % 4 for context in contexts]
    plane = _coded(rans.write_tables(tables), rans.encode(bytes(symbols), tables, numbers))
    head = struct.pack("<BBH", 0, 2, 100)
    low = [_constant(k) for k in (5, 6, 7)]
    block = _block(Coding.FLOAT, head, _plain(rows), _plain(columns), plane, *low)
    return _section(block, row_items=4)


def cases(seed: int) -> Iterator[Case]:
    """The streams."""
    del seed  # nothing is random
    yield from _valid()
    for maker in (_frames, _zstd, _planes, _tables, _codings, _groups, _floats):
        for label, dtype, count, section, text in maker():
            features = (*_FEATURES, "zstd") if maker is _zstd else _FEATURES
            yield Case(f"exact-{label}", _stream(dtype, count, section), f"exactly coded values: {text}", features,
                       code="LOSSLESS_BLOCK")  # fmt: skip
