"""Lowest bytes of floats in halves (coding FLOAT, flag 2): sizes, shapes, and the reference decoder."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.lossless import Coding, Speed, decode_values, encode_values
from nnbits.codec.types import DTYPES, Array, DType

ByReference = Callable[[bytes, DType, int], bytes]
Verdicts = Callable[[bytes, DType, int], tuple["bytes | ReasonCode", "bytes | ReasonCode"]]

SPEEDS: tuple[Speed, ...] = ("fast", "balanced", "small")
HEAD = 9
HALVES = 4


def sums(dtype: DType, count: int, seed: int = 1, unit: float = 1.0) -> Array:
    """Numbers that are multiples of about the last place of the greatest ones."""
    bits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}[dtype.name]
    whole = np.rint(np.random.default_rng(seed).normal(size=count) ** 3 * 2.0**bits)
    values = (whole * unit).astype(np.float64 if dtype.name == "float64" else np.float32)
    if dtype.name == "bfloat16":
        return (values.view(np.uint32) >> 16).astype(dtype.storage)
    with np.errstate(over="ignore"):  # a few become infinite
        return values.astype(dtype.storage)


@pytest.mark.parametrize("name", ["float32", "float64"])
@pytest.mark.parametrize("speed", SPEEDS)
def test_sums_are_shorter(by_reference: ByReference, name: str, speed: Speed) -> None:
    """Than with whole bytes, which is what they cost if each has the place of another."""
    dtype = DTYPES[name]
    values = sums(dtype, 50000)
    code = bytes(encode_values(values, dtype, row_length=values.size, speed=speed))
    assert code[HEAD] == Coding.FLOAT
    assert code[HEAD + 2] & HALVES
    assert decode_values(code, dtype, values.size).tobytes() == values.tobytes()
    assert by_reference(code, dtype, values.size) == values.tobytes()
    mixed = values.view(np.uint8).reshape(-1, dtype.itemsize).copy()
    mixed[:, 0] = np.random.default_rng(2).permutation(mixed[:, 0])
    other = encode_values(mixed.reshape(-1).view(dtype.storage), dtype, row_length=values.size, speed=speed)
    assert len(code) < len(other) - values.size * 0.05


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_shapes(by_reference: ByReference, data: st.DataObject) -> None:
    dtype = DTYPES[data.draw(st.sampled_from(["float32", "float64", "float16", "bfloat16"]))]
    count = data.draw(st.integers(1, 20000))
    values = sums(dtype, count, data.draw(st.integers(0, 2**32 - 1)), 2.0 ** data.draw(st.integers(-30, 3)))
    if data.draw(st.booleans()):
        values[np.random.default_rng(3).random(count) < 0.3] = 0
    row = data.draw(st.sampled_from([1, 8, 50, 384, count]))
    code = bytes(encode_values(values, dtype, row_length=row, speed=data.draw(st.sampled_from(SPEEDS))))
    assert decode_values(code, dtype, count).tobytes() == values.tobytes()
    if code[0] == 0:
        assert by_reference(code, dtype, count) == values.tobytes()


@pytest.mark.parametrize("speed", SPEEDS)
def test_random_bytes_stay_whole(speed: Speed) -> None:
    values = np.random.default_rng(4).normal(size=50000).astype(np.float32)
    code = bytes(encode_values(values, DTYPES["float32"], row_length=values.size, speed=speed))
    assert code[HEAD] == Coding.FLOAT
    assert not code[HEAD + 2] & HALVES


def block(symbols: bytes, limit: int, upper: bytes, lower: bytes, others: bytes) -> bytes:
    """bfloat16 numbers with all of their sign and mantissa in the lowest byte."""
    planes = bytes([1]) + symbols + bytes([limit, 1]) + upper + b"\1" + lower
    if others:
        planes += b"\1" + others
    body = bytes([Coding.FLOAT, 0, HALVES]) + struct.pack("<H", 100) + planes
    return struct.pack("<BII", 0, len(symbols), len(symbols)) + body


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_bytes_come_from_where_their_symbols_say(verdicts: Verdicts, data: st.DataObject) -> None:
    symbols = data.draw(st.binary(min_size=1, max_size=200))
    limit = data.draw(st.integers(0, 255))
    below = [k for k, symbol in enumerate(symbols) if symbol < limit]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    upper, others = rng.bytes((len(below) + 1) // 2), rng.bytes(len(symbols) - len(below))
    lower = bytes(rng.integers(0, 16, len(below), np.uint8))
    code = block(symbols, limit, upper, lower, others)
    core, reference = verdicts(code, DTYPES["bfloat16"], len(symbols))
    assert core == reference
    if not below:
        assert core is ReasonCode.LOSSLESS_BLOCK
        return
    lowest, rest = bytearray(len(symbols)), iter(others)
    for place, symbol in enumerate(symbols):
        if symbol >= limit:
            lowest[place] = next(rest)
    for k, place in enumerate(below):
        lowest[place] = (upper[k // 2] >> 4 * (k % 2) & 15) << 4 | lower[k]
    assert core == b"".join(
        struct.pack("<H", low >> 7 << 15 | (symbol + 100 & 255) << 7 | low & 127)
        for symbol, low in zip(symbols, lowest, strict=True)
    )


def test_lower_halves_are_below_16(verdicts: Verdicts) -> None:
    for place in range(40):
        lower = bytearray(40)
        lower[place] = 16
        code = block(bytes(40), 1, bytes(20), bytes(lower), b"")
        assert verdicts(code, DTYPES["bfloat16"], 40) == (ReasonCode.LOSSLESS_BLOCK,) * 2


def test_damage_is_refused_or_harmless(verdicts: Verdicts) -> None:
    """As the reference refuses it, too."""
    dtype = DTYPES["float32"]
    values = sums(dtype, 6000)
    code = bytes(encode_values(values, dtype, row_length=values.size, speed="small"))
    assert code[HEAD + 2] & HALVES
    rng = np.random.default_rng(5)
    refused = 0
    for place in [*range(HEAD, HEAD + 30), *rng.integers(HEAD, len(code), 40)]:
        damaged = bytearray(code)
        damaged[place] ^= 1 << rng.integers(0, 8)
        found = verdicts(bytes(damaged), dtype, values.size)
        assert found[0] == found[1]
        refused += found[0] is ReasonCode.LOSSLESS_BLOCK
    assert refused > 20
    for end in range(HEAD, len(code), 97):
        with pytest.raises(NnbitsError):
            decode_values(code[:end], dtype, values.size)


def test_pinned_bytes() -> None:
    """The format does not change unnoticed."""
    symbols, upper, lower, others = bytes([7, 1, 2, 9, 0]), b"\x21\xf3", bytes([4, 5, 6]), b"\x80\x7f"
    code = block(symbols, 7, upper, lower, others)
    assert code.hex() == "00" + "05000000" * 2 + "04000464000107010209000701" + "21f3" + "01040506" + "01807f"
    expected = [107 << 7 | 0x8000, 101 << 7 | 0x14, 102 << 7 | 0x25, 109 << 7 | 0x7F, 100 << 7 | 0x36]
    assert np.frombuffer(decode_values(code, DTYPES["bfloat16"], 5), np.uint16).tolist() == expected
