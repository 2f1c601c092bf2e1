"""Every code alone: pinned bits, round trips over the full ranges at any bit position, and its refusals."""

from __future__ import annotations

import math
import struct
from enum import IntEnum
from typing import Any

import pytest
from construct import Container, this
from hypothesis import given
from hypothesis import strategies as st

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.syntax import Trace, codes
from nnbits.codec.syntax.bits import BitReader, BitWriter
from nnbits.codec.syntax.float32 import float32_bits, float32_value
from nnbits.codec.syntax.tables import Array, Check, If, Loop, Table

OFFSET = 1000


def context(parsing: bool, **values: Any) -> Any:
    root = Container(_parsing=parsing, **values)
    root["_params"] = root
    return root


def bits(code: Any, value: Any, **values: Any) -> str:
    """The bits that a code writes."""
    writer = BitWriter()
    code._build(value, writer, context(False, **values), "x")
    width = writer.position
    writer.write(0, -width % 8)
    return f"{int.from_bytes(writer.getvalue(), 'big'):0{8 * math.ceil(width / 8)}b}"[:width] if width else ""


def from_bits(text: str) -> bytes:
    return int(text + "0" * (-len(text) % 8), 2).to_bytes(math.ceil(len(text) / 8), "big")


def parse(code: Any, data: bytes, skip: int = 0, **values: Any) -> Any:
    reader = BitReader(memoryview(data), offset=OFFSET)
    reader.read(skip, "skip")
    return code._parse(reader, context(True, **values), "x")


def round_trip(code: Any, value: Any, skip: int = 0, **values: Any) -> Any:
    """Write behind ``skip`` bits and before a pattern, read, and compare position and trace, too."""
    written, read = Trace(), Trace()
    writer = BitWriter(offset=OFFSET, trace=written)
    writer.write((1 << skip) - 1, skip)
    code._build(value, writer, context(False, **values), "x")
    end = writer.position
    writer.write(1, -end % 8 + 8)
    reader = BitReader(memoryview(writer.getvalue()), offset=OFFSET, trace=read)
    reader.read(skip, "skip")
    result = code._parse(reader, context(True, **values), "x")
    assert reader.position == end
    assert read.records == written.records or value != value
    assert all(record.position == 8 * OFFSET + skip and record.width == end - skip for record in read.records)
    return result


def fails(code: ReasonCode, function: Any, *arguments: Any, **values: Any) -> NnbitsError:
    with pytest.raises(NnbitsError) as caught:
        function(*arguments, **values)
    assert caught.value.code is code
    assert caught.value.path is not None
    assert caught.value.offset is not None
    return caught.value


# Section 2.1


@pytest.mark.parametrize(
    ("code", "value", "expected"),
    [
        (codes.ue(0), 0, "1"),
        (codes.ue(0), 1, "010"),
        (codes.ue(0), 2, "011"),
        (codes.ue(0), 3, "00100"),
        (codes.ue(1), 0, "10"),
        (codes.ue(1), 1, "11"),
        (codes.ue(1), 2, "0100"),
        (codes.ue(1), 3, "0101"),
        (codes.ue(7), 5, "10000101"),
        (codes.ie(2), 0, "100"),
        (codes.ie(2), 1, "101"),
        (codes.ie(2), -1, "110"),
        (codes.ie(2), 2, "111"),
        (codes.u(3), 5, "101"),
        (codes.i(3), -4, "100"),
        (codes.i(13), -1, "1" * 13),
        (codes.flt(32), 1.0, "00000000" + "00000000" + "10000000" + "00111111"),
        (codes.st(limit=9), "é", "11000011" + "10101001" + "00000000"),
        (codes.reserved(3), None, "000"),
        (codes.raw(12), b"\xab\xc0", "101010111100"),
    ],
)
def test_pinned(code: Any, value: Any, expected: str) -> None:
    assert bits(code, value) == expected
    assert parse(code, from_bits(expected)) == value


@given(st.integers(0, 7), st.data())
def test_fixed_width(skip: int, data: st.DataObject) -> None:
    width = data.draw(st.integers(1, 64))
    value = data.draw(st.integers(0, 2**width - 1))
    assert round_trip(codes.u(width), value, skip) == value
    assert round_trip(codes.u(this.n), value, skip, n=width) == value
    signed = data.draw(st.integers(-(2 ** (width - 1)), 2 ** (width - 1) - 1))
    assert round_trip(codes.i(width), signed, skip) == signed
    fails(ReasonCode.VALUE_RANGE, bits, codes.u(width), 2**width)
    fails(ReasonCode.VALUE_RANGE, bits, codes.u(width), -1)
    fails(ReasonCode.VALUE_RANGE, bits, codes.i(width), 2 ** (width - 1))
    fails(ReasonCode.VALUE_RANGE, bits, codes.i(width), -(2 ** (width - 1)) - 1)


@given(st.integers(0, 7), st.integers(0, 15), st.integers(0, 63), st.data())
def test_exp_golomb(skip: int, order: int, size: int, data: st.DataObject) -> None:
    value = data.draw(st.integers(2**size - 1, min(2 ** (size + 1) - 2, 2**64 - 2**order - 1)))
    assert round_trip(codes.ue(order), value, skip) == value
    assert round_trip(codes.ue(this.k), value, skip, k=order) == value
    signed = data.draw(st.integers(-(2**size) + 1, 2**size - 1).filter(lambda v: abs(v) < 2**62))
    assert round_trip(codes.ie(order), signed, skip) == signed


@given(st.integers(0, 15))
def test_exp_golomb_ends_at_64_bits(order: int) -> None:
    largest = 2**64 - 2**order - 1
    assert len(bits(codes.ue(order), largest)) == 128 - order - 1
    fails(ReasonCode.VALUE_RANGE, bits, codes.ue(order), largest + 1)
    fails(ReasonCode.VALUE_RANGE, bits, codes.ue(order), -1)
    zeros = 64 - order
    fails(ReasonCode.OVERLONG_CODE, parse, codes.ue(order), from_bits("0" * zeros + "1" * 80))
    fails(ReasonCode.OVERLONG_CODE, parse, codes.ie(order), from_bits("0" * zeros))
    fails(ReasonCode.TRUNCATED, parse, codes.ue(order), from_bits("0" * (zeros - 8)))


def test_a_long_run_of_zeros_is_refused_at_once() -> None:
    fails(ReasonCode.OVERLONG_CODE, parse, codes.ue(0), bytes(10_000_000))


@given(st.integers(0, 7), st.integers(0, 2**32 - 1))
def test_float_keeps_every_bit_pattern(skip: int, pattern: int) -> None:
    assert float32_bits(float32_value(pattern)) == pattern
    value = round_trip(codes.flt(32), float32_value(pattern), skip)
    assert float32_bits(value) == pattern
    data = struct.pack("<I", pattern)
    if not math.isnan(value):
        assert struct.unpack("<f", data)[0] == value


@pytest.mark.parametrize("pattern", [0x7F800001, 0xFF800001, 0x7FC00000, 0xFFFFFFFF, 0x7F800000, 0x80000000, 1])
def test_float_special_patterns(pattern: int) -> None:
    assert float32_bits(round_trip(codes.flt(32), float32_value(pattern), 3)) == pattern


def test_float_refusals() -> None:
    fails(ReasonCode.VALUE_RANGE, bits, codes.flt(32), 1e39)
    fails(ReasonCode.BAD_OPTION, bits, codes.flt(32), "1")
    assert math.isnan(float32_value(float32_bits(struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000001))[0])))


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=2000))
def test_string(value: str) -> None:
    assert round_trip(codes.st(limit=8000), value) == value


@pytest.mark.parametrize("length", [0, 1, 255, 256, 257, 767, 768, 5000])
def test_string_lengths(length: int) -> None:
    assert round_trip(codes.st(limit=5000), "a" * length) == "a" * length
    if length:
        fails(ReasonCode.LIMIT, bits, codes.st(limit=length - 1), "a" * length)
        fails(ReasonCode.LIMIT, parse, codes.st(limit=length - 1), b"a" * length + b"\0")


def test_string_refusals() -> None:
    fails(ReasonCode.BAD_STRING, parse, codes.st(limit=9), b"abc")
    fails(ReasonCode.BAD_STRING, parse, codes.st(limit=9), b"")
    assert fails(ReasonCode.BAD_STRING, parse, codes.st(limit=9), b"ab\xff\0").offset == OFFSET + 2
    fails(ReasonCode.BAD_STRING, bits, codes.st(limit=9), "\udc80")
    fails(ReasonCode.BAD_STRING, bits, codes.st(limit=9), "a\0b")
    fails(ReasonCode.BAD_OPTION, bits, codes.st(limit=9), b"a")


@given(st.integers(0, 7), st.binary(max_size=80), st.integers(0, 7))
def test_raw(skip: int, data: bytes, short: int) -> None:
    width = max(8 * len(data) - short, 0)
    value = (int.from_bytes(data, "big") >> short << short).to_bytes(len(data), "big") if width else b""
    value = value[: (width + 7) // 8]
    assert round_trip(codes.raw(this.n), value, skip, n=width) == value


def test_raw_refusals() -> None:
    fails(ReasonCode.BAD_OPTION, bits, codes.raw(256), b"short")
    fails(ReasonCode.VALUE_RANGE, bits, codes.raw(4), b"\x01")
    fails(ReasonCode.TRUNCATED, parse, codes.raw(256), bytes(31))


@pytest.mark.parametrize("skip", range(8))
def test_byte_alignment(skip: int) -> None:
    code = codes.byte_alignment().subcon
    assert bits(Table("", "", "pad" / codes.u(8), codes.byte_alignment()), {"pad": 1}) == "0000000110000000"
    round_trip(code, None, skip)
    good = "0" * skip + "1" + "0" * (7 - skip)
    parse(code, from_bits(good), skip)
    fails(ReasonCode.BAD_ALIGNMENT, parse, code, from_bits("0" * skip + "0" * (8 - skip)), skip)
    if skip < 7:
        error = fails(ReasonCode.BAD_ALIGNMENT, parse, code, from_bits(good[:-1] + "1"), skip)
        assert error.offset == OFFSET
    fails(ReasonCode.TRUNCATED, parse, code, b"")


def test_reserved() -> None:
    fails(ReasonCode.RESERVED_BITS, parse, codes.reserved(7), b"\x02")
    assert parse(codes.reserved(7), b"\x01") is None


class Colour(IntEnum):
    RED = 0
    BLUE = 5


def test_enum() -> None:
    code = codes.enum(3, Colour)
    assert parse(code, from_bits("101")) is Colour.BLUE
    assert bits(code, 5) == "101"
    fails(ReasonCode.UNKNOWN_VALUE, parse, code, from_bits("001"))
    fails(ReasonCode.UNKNOWN_VALUE, bits, code, 1)
    fails(ReasonCode.UNKNOWN_VALUE, bits, code, None)


def test_ranges() -> None:
    code = codes.u(8, minimum=2, maximum=9)
    assert parse(code, b"\x02") == 2
    fails(ReasonCode.VALUE_RANGE, parse, code, b"\x01")
    fails(ReasonCode.VALUE_RANGE, bits, code, 10)
    fails(ReasonCode.LIMIT, parse, codes.ue(0, limit=2), from_bits("00100"))
    fails(ReasonCode.BAD_OPTION, bits, code, "5")
    fails(ReasonCode.BAD_OPTION, bits, code, 5.0)


@given(st.integers(0, 200), st.integers(0, 200))
def test_reading_past_the_end(have: int, want: int) -> None:
    data = bytes(have // 8)
    if want > 8 * len(data):
        assert fails(ReasonCode.TRUNCATED, parse, codes.u(want), data).offset == OFFSET
    elif want:
        assert parse(codes.u(want), data) == 0


# Tables


TABLE = Table(
    "t()",
    "0",
    "count" / codes.u(8),
    "items" / Array(this.count, codes.u(16), limit=5),
    If(this.count > 1, "more" / codes.u(8, absent=7), otherwise=("less" / codes.u(8),)),
    Loop(this.count, "a" / codes.u(4), "b" / Array(this.a, codes.u(4), limit=15), limit=5),
    Check(this.count < 5, ReasonCode.VALUE_RANGE, "too many", "count"),
)


def test_table_parses_and_builds() -> None:
    data = from_bits("00000001" + "0000000000000010" + "00000011" + "0010" + "0101" + "0110")
    result = parse(TABLE, data)
    assert dict(result) == {"count": 1, "items": [2], "more": 7, "less": 3, "a": [2], "b": [[5, 6]]}
    assert from_bits(bits(TABLE, result)) == data


def test_table_errors_name_the_element() -> None:
    error = fails(ReasonCode.TRUNCATED, parse, Table("", "", "inner" / TABLE), bytes([2, 0, 0, 1]))
    assert (error.path, error.offset) == ("x.inner.items", OFFSET + 1)
    loop = Table("", "", "n" / codes.u(8), Loop(this.n, "a" / codes.u(4, maximum=3), limit=5))
    error = fails(ReasonCode.VALUE_RANGE, parse, loop, bytes([4, 0x00, 0x0F]))
    assert (error.path, error.offset) == ("x.a[3]", OFFSET + 2)
    error = fails(ReasonCode.LIMIT, parse, TABLE, bytes([6] + [0] * 100))
    assert error.path == "x.items"
    error = fails(ReasonCode.VALUE_RANGE, parse, TABLE, bytes([5] + [0] * 100))
    assert error.path == "x.count"


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"less": None}, "x.less"),
        ({"more": 8}, "x.more"),
        ({"items": [1, 2]}, "x.items"),
        ({"items": 3}, "x.items"),
        ({"b": [[5]]}, "x.b[0]"),
        ({"b": [[5, 6], [7]]}, "x.b"),
        ({"a": []}, "x.a[0]"),
        ({"count": "1"}, "x.count"),
    ],
)
def test_table_refuses_contradictions(changes: dict[str, Any], path: str) -> None:
    values = {"count": 1, "items": [2], "less": 3, "a": [2], "b": [[5, 6]]}
    assert bits(TABLE, values)
    assert fails(ReasonCode.BAD_OPTION, bits, TABLE, {**values, **changes}).path == path


def test_counts_are_bounded_by_the_input_before_anything_is_read() -> None:
    table = Table("", "", "n" / codes.ue(0), "items" / Array(this.n, codes.flt(32), limit=2**63))
    data = from_bits(bits(codes.ue(0), 2**40)) + bytes(1000)
    error = fails(ReasonCode.TRUNCATED, parse, table, data)
    assert error.path == "x.items"
