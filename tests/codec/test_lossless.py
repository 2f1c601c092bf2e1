"""Exact coding of values: every dtype, every coding, ranges, threads, and payloads that are damaged."""

from __future__ import annotations

import gc
import struct
from collections.abc import Iterator

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.lossless import Coding, Speed, decode_range, decode_values, encode_values
from nnbits.codec.types import DTYPES, Array, DType

SPEEDS: tuple[Speed, ...] = ("fast", "balanced", "small")
HEAD = 9


def stored(dtype: DType, data: bytes) -> tuple[Array, int]:
    """Elements made of bytes, and their number; what is left of a last byte is zero."""
    raw = np.frombuffer(data[: len(data) // dtype.itemsize * dtype.itemsize], np.uint8).copy()
    if not dtype.is_packed:
        return raw.view(dtype.storage), raw.size // dtype.itemsize
    count = raw.size * 8 // dtype.bits
    if count * dtype.bits % 8:
        raw[-1] &= (1 << count * dtype.bits % 8) - 1
    return raw, count


def check(values: Array, dtype: DType, count: int, row_length: int, speed: Speed, force: Coding | None = None) -> bytes:
    code = bytes(encode_values(values, dtype, row_length=row_length, speed=speed, force=force))
    result = decode_values(code, dtype, count)
    assert result.dtype == dtype.storage
    assert result.tobytes() == values.tobytes()
    return code


def weights(dtype: DType, count: int, seed: int = 1) -> Array:
    """Numbers like weights, in any dtype."""
    x = np.random.default_rng(seed).standard_normal(count).astype(np.float32) * np.float32(0.02)
    if dtype.name == "bfloat16":
        return (x.view(np.uint32) >> 16).astype("<u2")
    if dtype.is_numpy and dtype.kind in ("float", "complex"):
        return x.astype(dtype.storage)
    if dtype.name == "complex32":
        return x[: count // 2 * 2].astype(np.float16).view("<u4")
    return (x * 1000).astype(np.int64).astype(dtype.storage)


@pytest.mark.parametrize("name", DTYPES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_bytes_come_back(name: str, data: st.DataObject) -> None:
    dtype = DTYPES[name]
    alphabet = data.draw(st.sampled_from([256, 2, 17]))
    size = data.draw(st.integers(0, 3000))
    raw = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).integers(0, alphabet, size, dtype=np.uint8)
    values, count = stored(dtype, raw.tobytes())
    check(values, dtype, count, data.draw(st.integers(1, 400)), data.draw(st.sampled_from(SPEEDS)))


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("speed", SPEEDS)
def test_every_coding_forced(name: str, speed: Speed) -> None:
    dtype = DTYPES[name]
    rng = np.random.default_rng(2)
    plain = weights(dtype, 5000)
    sparse = np.where(rng.random(plain.size) < 0.6, np.zeros((), dtype.storage), plain)
    few = plain[rng.integers(0, 20, 3000)]
    used = set()
    for values in (plain, sparse, few, plain[:1], np.repeat(plain[:1], 40)):
        values, count = stored(dtype, np.ascontiguousarray(values).tobytes())
        for force in Coding:
            used.add(check(values, dtype, count, 100, speed, force)[HEAD])
    expected = {Coding.RAW, Coding.ZSTD}
    expected |= {Coding.CONSTANT} if dtype.kind != "complex" and not dtype.is_packed else set()
    items = dtype.itemsize if dtype.kind != "complex" else dtype.itemsize // 2
    expected |= {Coding.UNPACKED} if dtype.is_packed and 8 % dtype.bits else {Coding.MASK, Coding.BYTES}
    expected |= {Coding.TABLE} if items > 1 else set()
    expected |= {Coding.FLOAT} if dtype.kind in ("float", "complex") and items > 1 else set()
    assert expected <= used


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16", "complex64"])
@pytest.mark.parametrize("speed", SPEEDS)
def test_all_bit_patterns_of_floats(name: str, speed: Speed) -> None:
    dtype = DTYPES[name]
    half = np.arange(2**16, dtype=np.uint16)
    with np.errstate(invalid="ignore"):  # NaN
        wide = (half.astype(np.uint32) << 16 | half[::-1]).view(np.float32).astype(np.float64)
    bits = {
        "float16": half,
        "bfloat16": half,
        "float32": half.view(np.float16).astype(np.float32),  # narrow, and as NumPy widens NaN
        "float64": wide,
        "complex64": half.astype(np.uint64) << 48 | half.astype(np.uint64) << 15,
    }[name]
    values = np.ascontiguousarray(bits).view(dtype.storage)
    shuffled = values[np.random.default_rng(3).permutation(values.size)]
    for array in (values, shuffled):
        check(array, dtype, array.size, 256, speed)
        check(array, dtype, array.size, 256, speed, Coding.FLOAT)


def test_every_half_is_narrow() -> None:
    """Those that are not numbers keep their bits, too, where a processor would set the quiet one."""
    half = np.arange(2**16, dtype=np.uint32)
    sign, magnitude = (half & 0x8000) << 16, half & 0x7FFF
    number = magnitude.astype(np.uint16).view(np.float16).astype(np.float32).view(np.uint32)
    bits = sign | np.where(magnitude > 0x7C00, 0x7F800000 | (magnitude & 0x3FF) << 13, number).astype(np.uint32)
    for order in (np.arange(2**16), np.random.default_rng(5).permutation(2**16)):
        values = bits[order].view(np.float32)
        code = check(values, DTYPES["float32"], values.size, 256, "balanced", Coding.NARROW)
        assert code[HEAD] == Coding.NARROW


def test_special_numbers() -> None:
    words = [
        0x7F800001,
        0xFFC12345,
        0x7FC00000,
        0x80000000,
        0,
        1,
        0x807FFFFF,
        0x7F800000,
        0x38800000,
        0x33800000,
        0x387FC000,
    ]
    for speed in SPEEDS:
        for count in (len(words), 4096):
            values = np.resize(np.array(words, "<u4"), count).view("<f4")
            check(values, DTYPES["float32"], count, 16, speed)


def test_half_precision_rows_are_found() -> None:
    dtype = DTYPES["float32"]
    values = weights(dtype, 64 * 256).reshape(64, 256)
    plain = len(encode_values(values.reshape(-1), dtype, row_length=256))
    values[::2] = values[::2].astype(np.float16)
    code = check(values.reshape(-1), dtype, values.size, 256, "balanced")
    assert code[HEAD] == Coding.SPLIT
    assert len(code) < plain - 32 * 256 * 12 // 8


def test_sizes_of_ordinary_weights() -> None:
    """The models of docs/lossless.md at work; bounds far from noise."""
    count = 2**17
    for name, balanced, small in (("bfloat16", 0.665, 0.662), ("float32", 0.83, 0.829), ("float16", 0.87, 0.868)):
        dtype = DTYPES[name]
        values = weights(dtype, count)
        sizes = {speed: len(encode_values(values, dtype, row_length=512, speed=speed)) for speed in SPEEDS}
        assert sizes["balanced"] < balanced * values.nbytes, name
        assert sizes["small"] < small * values.nbytes, name
        assert sizes["small"] <= sizes["balanced"] <= sizes["fast"], name


def test_scales_of_rows_and_columns() -> None:
    rng = np.random.default_rng(4)
    scale = np.exp2(rng.uniform(-4, 4, (256, 1)) + rng.uniform(-1, 1, 512)).astype(np.float32)
    values = (weights(DTYPES["float32"], 256 * 512).reshape(256, 512) * scale).reshape(-1)
    bf16 = (values.view(np.uint32) >> 16).astype("<u2")
    balanced = len(check(bf16, DTYPES["bfloat16"], bf16.size, 512, "balanced"))
    assert len(check(bf16, DTYPES["bfloat16"], bf16.size, 512, "small")) < 0.96 * balanced
    pruned = np.where(rng.random(values.size) < 0.5, np.float32(0), values)
    check(pruned, DTYPES["float32"], pruned.size, 512, "small")


def test_few_values_masks_and_deltas() -> None:
    rng = np.random.default_rng(5)
    few = weights(DTYPES["float32"], 16)[rng.integers(0, 16, 50000)]
    assert len(check(few, DTYPES["float32"], few.size, 100, "balanced")) < few.size * 0.55
    pruned = np.where(rng.random(50000) < 0.9, np.float32(0), weights(DTYPES["float32"], 50000))
    assert len(check(pruned, DTYPES["float32"], pruned.size, 100, "balanced")) < pruned.size * 0.95
    indices = np.arange(50000, dtype="<i8")
    assert len(check(indices, DTYPES["int64"], indices.size, 50000, "balanced")) < 400


def test_repetition_needs_zstd() -> None:
    values = np.tile(weights(DTYPES["float32"], 1000), 100)
    code = check(values, DTYPES["float32"], values.size, 999, "small")
    assert code[0] == 1
    assert code[HEAD] == Coding.ZSTD
    assert len(code) < 0.1 * values.nbytes
    assert encode_values(values, DTYPES["float32"], row_length=999, speed="balanced")[0] == 0


@pytest.fixture(scope="module")
def long_payload() -> tuple[Array, bytes]:
    values = weights(DTYPES["bfloat16"], 700_001)
    return values, bytes(encode_values(values, DTYPES["bfloat16"], row_length=1000))


def test_threads_do_not_change_bytes(long_payload: tuple[Array, bytes]) -> None:
    values, code = long_payload
    dtype = DTYPES["bfloat16"]
    for threads in (2, 5):
        assert encode_values(values, dtype, row_length=1000, threads=threads) == code
        assert decode_values(code, dtype, values.size, threads=threads).tobytes() == values.tobytes()


def test_ranges(long_payload: tuple[Array, bytes]) -> None:
    values, code = long_payload
    dtype = DTYPES["bfloat16"]
    for first, n in ((0, 1), (0, 700_001), (261_999, 3), (300_000, 390_000), (700_000, 1), (5, 0)):
        assert np.array_equal(decode_range(code, dtype, values.size, first, n, threads=2), values[first : first + n])
    for first, n in ((-1, 2), (0, 700_002), (700_001, 1), (3, -1)):
        with pytest.raises(NnbitsError) as error:
            decode_range(code, dtype, values.size, first, n)
        assert error.value.code is ReasonCode.BAD_OPTION
    damaged = bytearray(code)
    damaged[-1] ^= 1  # the last block, which the range does not touch
    assert np.array_equal(decode_range(damaged, dtype, values.size, 0, 10), values[:10])


def test_ranges_of_packed_and_complex() -> None:
    int4 = np.random.default_rng(6).integers(0, 256, 1001, dtype=np.uint8)
    code = encode_values(int4, DTYPES["int4"], row_length=64)
    assert np.array_equal(decode_range(code, DTYPES["int4"], 2002, 10, 20), int4[5:15])
    with pytest.raises(NnbitsError) as error:
        decode_range(code, DTYPES["int4"], 2002, 11, 20)
    assert error.value.code is ReasonCode.BAD_OPTION
    z = weights(DTYPES["complex64"], 1000)
    code = encode_values(z, DTYPES["complex64"], row_length=10)
    assert np.array_equal(decode_range(code, DTYPES["complex64"], 1000, 3, 7), z[3:10])


def test_callers_memory(long_payload: tuple[Array, bytes]) -> None:
    values, code = long_payload
    dtype = DTYPES["bfloat16"]
    out = np.zeros((700_001, 1), dtype.storage)
    result = decode_values(code, dtype, values.size, out=out)
    assert np.shares_memory(result, out)
    assert out.tobytes() == values.tobytes()
    unaligned = np.zeros(values.nbytes + 1, np.uint8)[1:].view(dtype.storage)
    assert decode_values(code, dtype, values.size, out=unaligned).tobytes() == values.tobytes()
    for wrong in (out[:-1], np.zeros(values.size, np.int16), np.zeros(2 * values.size, dtype.storage)[::2]):
        with pytest.raises(NnbitsError) as error:
            decode_values(code, dtype, values.size, out=wrong)
        assert error.value.code is ReasonCode.BUFFER_SIZE


def test_wrong_arguments() -> None:
    dtype = DTYPES["float32"]
    for values in (np.zeros(3, np.float64), np.zeros((2, 2), np.float32)):
        with pytest.raises(NnbitsError) as error:
            encode_values(values, dtype, row_length=1)
        assert error.value.code is ReasonCode.BAD_TENSOR
    with pytest.raises(NnbitsError) as error:
        encode_values(np.zeros(3, np.float32), dtype, row_length=1, speed="best")  # type: ignore[arg-type]
    assert error.value.code is ReasonCode.BAD_OPTION


def payloads() -> Iterator[tuple[DType, Array, bytes]]:
    rng = np.random.default_rng(7)
    for name in ("bfloat16", "float32", "int8", "int5", "int64"):
        dtype = DTYPES[name]
        plain = weights(dtype, 2500)
        sparse = np.where(rng.random(plain.size) < 0.6, np.zeros((), dtype.storage), plain)
        for values, speed, force in (
            (plain, "balanced", None),
            (plain, "small", None),
            (sparse, "small", None),
            (plain, "balanced", Coding.TABLE),
            (plain, "balanced", Coding.ZSTD),
        ):
            if dtype.is_packed:
                values, _ = stored(dtype, values.tobytes())
            code = encode_values(values, dtype, row_length=100, speed=speed, force=force)  # type: ignore[arg-type]
            yield dtype, values, bytes(code)
    halves = weights(DTYPES["float32"], 3000).reshape(30, 100)
    halves[::3] = halves[::3].astype(np.float16)
    yield (
        DTYPES["float32"],
        halves.reshape(-1),
        bytes(encode_values(halves.reshape(-1), DTYPES["float32"], row_length=100)),
    )


PAYLOADS = list(payloads())


def count_of(dtype: DType, values: Array) -> int:
    return values.size * 8 // dtype.bits if dtype.is_packed else values.size


@pytest.mark.parametrize("number", range(len(PAYLOADS)))
def test_cut_payloads_are_refused(number: int) -> None:
    dtype, values, code = PAYLOADS[number]
    count = count_of(dtype, values)
    for end in {*range(min(len(code), 64)), *range(0, len(code), 97), len(code) - 1}:
        with pytest.raises(NnbitsError) as error:
            decode_values(code[:end], dtype, count)
        assert error.value.code is ReasonCode.LOSSLESS_BLOCK
    with pytest.raises(NnbitsError) as error:
        decode_values(code + b"\0", dtype, count)
    assert error.value.code is ReasonCode.LOSSLESS_BLOCK


@pytest.mark.parametrize("number", range(len(PAYLOADS)))
def test_damaged_payloads_are_refused_or_harmless(number: int) -> None:
    dtype, values, code = PAYLOADS[number]
    count = count_of(dtype, values)
    rng = np.random.default_rng(number)
    refused = 0
    places = [*range(min(len(code), 80)), *rng.integers(0, len(code), 150)]
    for place in places:
        damaged = bytearray(code)
        damaged[place] ^= 1 << rng.integers(0, 8)
        try:
            assert decode_values(damaged, dtype, count).size == values.size
        except NnbitsError as error:
            assert error.code is ReasonCode.LOSSLESS_BLOCK  # noqa: PT017
            refused += 1
    assert refused > 5


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(sorted(DTYPES)), block=st.binary(max_size=200), count=st.integers(1, 2000))
def test_arbitrary_blocks(name: str, block: bytes, count: int) -> None:
    frame = struct.pack("<BII", 1, 2048, 64)
    for coding in Coding:
        try:
            decode_values(frame + bytes([coding]) + block, DTYPES[name], count)
        except NnbitsError as error:
            assert error.code is ReasonCode.LOSSLESS_BLOCK  # noqa: PT017


def test_wrong_counts_and_frames_are_refused() -> None:
    dtype, values, code = PAYLOADS[0]
    for count in (0, values.size - 1, values.size + 1, 2**40):
        with pytest.raises(NnbitsError) as error:
            decode_values(code, dtype, count)
        assert error.value.code is ReasonCode.LOSSLESS_BLOCK
    for block_items, row_items in ((0, 1), (2500, 0), (2500, 99), (2**20 + 100, 100), (2**32 - 1, 1)):
        frame = struct.pack("<BII", 0, block_items, row_items)
        with pytest.raises(NnbitsError) as error:
            decode_values(frame + code[HEAD:], dtype, values.size)
        assert error.value.code is ReasonCode.LOSSLESS_BLOCK


def test_zstd_bombs_are_refused() -> None:
    dtype = DTYPES["float32"]
    frame = struct.pack("<BII", 1, 4096, 64)
    bomb = zstandard.ZstdCompressor().compress(bytes(2**27))
    nested = zstandard.ZstdCompressor().compress(bytes([Coding.ZSTD]) + bomb)
    for block in (bomb, nested, b"", bomb[:20]):
        with pytest.raises(NnbitsError) as error:
            decode_values(frame + bytes([Coding.ZSTD]) + block, dtype, 1000)
        assert error.value.code is ReasonCode.LOSSLESS_BLOCK


def test_pinned_bytes() -> None:
    """The format does not change unnoticed."""
    values = np.array([1, -2, 3, 0, 0, 0, 7, 0], "<i2")
    frame = "00 40000000 40000000"
    mask, raw = "01 00 47", "08 01fe0307 00ff0000"
    assert encode_values(values, DTYPES["int16"], row_length=8) == bytes.fromhex(frame + mask + raw)
    # FLOAT with k = 0: exponents 127, 126, 128; sign and 7 mantissa bits
    block = "04 00 00 7e0001 01000201 008040"
    bits = np.array([0x3F80, 0xBF00, 0x4040], "<u2")
    frame = struct.pack("<BII", 0, 3, 3)
    assert np.array_equal(decode_values(frame + bytes.fromhex(block), DTYPES["bfloat16"], 3), bits)
    # SPLIT into two rows, the second narrow: 1.0 and 0.5 as float16
    block = "00 01 01 000108 0100 0200 0300 804002 08 0000 3c38"
    expected = np.array([0x80030201, 0x40000000, 0x3F800000, 0x3F000000], "<u4").view("<f4")
    frame = struct.pack("<BII", 0, 4, 2)
    assert decode_values(frame + bytes.fromhex(block), DTYPES["float32"], 4).tobytes() == expected.tobytes()


def test_errors_in_a_cycle_are_collected() -> None:
    """Python 3.11 crashes where a memoryview is collected, first of all, that somebody still uses the buffer of."""
    values = np.arange(5000, dtype=np.float32)
    code = bytearray(encode_values(values, DTYPES["float32"], row_length=5000, speed="balanced"))
    code[HEAD] = 255
    view = memoryview(bytes(code))
    errors: list[object] = []
    try:
        decode_values(view, DTYPES["float32"], 5000)
    except NnbitsError as error:
        errors.append(error)
    errors.append(errors)
    assert len(errors) == 2
    del view, errors
    gc.collect()
