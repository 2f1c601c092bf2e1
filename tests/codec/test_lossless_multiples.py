"""Dequantized weights and weights that come back: codings MULTIPLES and DICTIONARY, and the reference decoder."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.lossless import Coding, decode_values, encode_values
from nnbits.codec.types import DTYPES, Array, DType

HEAD = 9
Verdicts = Callable[[bytes, DType, int], tuple["bytes | ReasonCode", "bytes | ReasonCode"]]


def rounded(x: Array, name: str) -> Array:
    """float32 numbers in another type, as they are stored; to even."""
    if name == "bfloat16":
        bits = np.ascontiguousarray(x).view(np.uint32)
        return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype("<u2")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(x.astype(name))


def dequantized(
    rows: int, columns: int, run: int, low: int, high: int, seed: int = 1, half: bool = False, spread: float = 2.0
) -> Array:
    """Integers of a bell curve times a scale for each run; run 0: for each column."""
    rng = np.random.default_rng(seed)
    q = np.clip(np.rint(rng.standard_normal((rows, columns)) * (high - low) / 6), low, high).astype(np.float32)
    shape = (1, columns, 1) if run == 0 else (rows, columns // run, 1)
    scales = (np.exp2(rng.uniform(-spread, spread, shape)) * 1e-3).astype(np.float16 if half else np.float32)
    return (q.reshape(rows, -1, max(run, 1)) * scales.astype(np.float32) + np.float32(0)).reshape(rows, columns)


def code_of(values: Array, name: str, row_length: int, **options: object) -> bytes:
    """Encodes, checks that the values come back, and that the reference sees the same."""
    dtype = DTYPES[name]
    code = encode_values(values.reshape(-1), dtype, row_length=row_length, **options)  # type: ignore[arg-type]
    assert decode_values(code, dtype, values.size).tobytes() == values.tobytes()
    return code


@pytest.mark.parametrize(("name", "share"), [("float32", 0.26), ("bfloat16", 0.52), ("float16", 0.52)])
@pytest.mark.parametrize("speed", ["fast", "balanced", "small"])
@pytest.mark.parametrize(("run", "low", "high"), [(512, -127, 127), (128, -8, 7), (32, -8, 7), (0, -127, 127)])
def test_dequantized_weights(name: str, share: float, speed: str, run: int, low: int, high: int) -> None:
    values = rounded(dequantized(256, 512, run, low, high), name)
    code = code_of(values, name, 512, speed=speed)
    assert code[HEAD] == Coding.MULTIPLES
    assert len(code) < share * values.nbytes


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("speed", ["fast", "balanced", "small"])
@pytest.mark.parametrize("run", [16, 64])
@pytest.mark.parametrize("kind", ["random", "sums", "rows"])
def test_blocks_of_many_scales(name: str, speed: str, run: int, kind: str, verdicts: Verdicts) -> None:
    """They are sampled, their lowest bytes halved, and integers have scales of rows themselves."""
    rng = np.random.default_rng(7)
    rows, columns = 128, 2048
    q = np.clip(np.rint(rng.standard_normal((rows, columns)) * 2), -7, 7).astype(np.float32)
    shape = (rows, columns // run, 1)
    if kind == "rows":
        q = np.clip(np.rint(rng.standard_normal((rows, columns)) * np.geomspace(3, 40, rows)[:, None]), -127, 127)
        q = q.astype(np.float32)
    if kind == "sums":
        whole = np.rint(np.abs(rng.standard_normal(shape) ** 3) * 2.0**24)
        scales = np.maximum(whole, 1).astype(np.float32) * np.float32(2.0**-30)
    else:
        scales = np.exp2(rng.uniform(-1, 1, shape)).astype(np.float32)
    values = rounded((q.reshape(rows, -1, run) * scales + np.float32(0)).reshape(rows, columns), name)
    code = code_of(values, name, columns, speed=speed)
    if name == "float32" and (kind, run) != ("rows", 16):  # runs of so many different integers are not found
        assert code[HEAD] == Coding.MULTIPLES
        check(code, DTYPES[name], values.size, verdicts)


def test_integers_without_sign() -> None:
    for low, high in ((0, 255), (-255, 0), (-200, 55), (-40, 215)):
        values = dequantized(64, 256, 128, low, high, seed=3)
        code = code_of(values, "float32", 256)
        assert code[HEAD] == Coding.MULTIPLES, (low, high)
        assert len(code) < 0.29 * values.nbytes


def test_scales_that_were_half_precision_cost_half() -> None:
    plain, half = (len(code_of(dequantized(64, 512, 32, -8, 7, half=half), "float32", 512)) for half in (False, True))
    assert half < plain - 64 * 512 // 32


def test_runs_of_zeros_and_last_rows() -> None:
    values = dequantized(101, 384, 128, -8, 7)
    values[3] = 0
    values[50, 128:256] = 0
    assert code_of(values, "float32", 384)[HEAD] == Coding.MULTIPLES
    cut = values.reshape(-1)[:-100]
    assert code_of(cut, "float32", 384)[HEAD] == Coding.MULTIPLES
    negative = values.copy()
    negative[7, 7] = np.float32(-0.0)
    assert code_of(negative, "float32", 384)[HEAD] != Coding.MULTIPLES


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_scales_and_integers(data: st.DataObject, verdicts: Verdicts) -> None:
    name = data.draw(st.sampled_from(["float32", "bfloat16", "float16"]))
    run = data.draw(st.sampled_from([0, 8, 24, 48]))
    low = data.draw(st.integers(-255, 0))
    high = data.draw(st.integers(low + 1, low + 255))
    spread = data.draw(st.sampled_from([0.0, 1.0, 6.0, 20.0]))
    values = rounded(dequantized(20, 48, run, low, high, data.draw(st.integers(0, 99)), spread=spread), name)
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, values.size - 1))
        values.reshape(-1).view(f"<u{values.itemsize}")[place] ^= 1 << data.draw(
            st.integers(0, 8 * values.itemsize - 1)
        )
    for force in (None, Coding.MULTIPLES):
        code = code_of(values, name, 48, force=force)
    check(code, DTYPES[name], values.size, verdicts)


def check(code: bytes, dtype: DType, count: int, verdicts: Verdicts) -> None:
    """The reference decoder gives what the core gives, or refuses as it does."""
    core, reference = verdicts(code, dtype, count)
    assert core == reference


def repeated(name: str, count: int = 6000, entries: int = 700) -> Array:
    rng = np.random.default_rng(5)
    if "int" in name:
        return rng.integers(-(2**31), 2**31, entries).astype(name)[rng.integers(0, entries, count)]
    entry = rng.standard_normal(entries)
    entry = entry if name == "float64" else rounded(entry.astype(np.float32), name)
    return entry[rng.integers(0, entries, count)]


@pytest.mark.parametrize("name", ["float32", "float64", "int32", "int64", "float16", "bfloat16", "int16", "uint16"])
def test_values_that_come_back(name: str, verdicts: Verdicts) -> None:
    values = repeated(name)
    code = code_of(values, name, 100)
    assert code[HEAD] == Coding.DICTIONARY
    assert len(code) < 10 * values.size // 8 + 700 * (values.itemsize + 1) + 1000
    signed = np.concatenate([values, -values])
    check(code_of(signed, name, 100), DTYPES[name], signed.size, verdicts)


@pytest.mark.parametrize("name", ["float16", "uint16", "float32"])
def test_frequent_entries_share_a_byte_of_their_places(name: str) -> None:
    """Their codes then cost little more than their entropy, though they are two bytes."""
    rng = np.random.default_rng(6)
    numbers = np.rint(rng.standard_normal(60000) * 90 + 600).astype(np.int64)
    values = (numbers * 37).astype("uint16") if name == "uint16" else (1 + numbers * 0.0123).astype(name)
    times = np.unique(numbers, return_counts=True)[1]
    entropy = (times * np.log2(numbers.size / times)).sum() / 8
    assert times.size > 2 * 256
    code = code_of(values, name, 100)
    assert code[HEAD] == Coding.DICTIONARY
    assert len(code) < 1.03 * entropy + 900


def test_dictionary_is_not_chosen_for_weights() -> None:
    values = np.random.default_rng(1).standard_normal(20000).astype(np.float32)
    for name in ("float16", "bfloat16"):
        assert code_of(rounded(values, name), name, 100)[HEAD] == Coding.FLOAT
    assert code_of(values, "float32", 100)[HEAD] == Coding.FLOAT
    halves = values.astype(np.float16).astype(np.float32)
    assert code_of(halves, "float32", 100)[HEAD] == Coding.NARROW


def samples() -> Iterator[tuple[str, bytes, int]]:
    rng = np.random.default_rng(7)
    for name in ("bfloat16", "float16", "float32"):
        values = rounded(dequantized(16, 96, 32, -8, 7), name)
        yield name, code_of(values, name, 96), values.size
        values = rounded(dequantized(32, 48, 0, -100, 100), name)
        yield name, code_of(values, name, 48), values.size
    for name in ("float32", "int64", "float16", "int16"):
        values = repeated(name, 3000, 400)
        yield name, code_of(values, name, 100, force=Coding.DICTIONARY), values.size
    for name in ("float16", "bfloat16", "float32", "float64", "int8", "int16", "complex64", "int5"):
        dtype = DTYPES[name]
        x = rng.standard_normal(2000).astype(np.float32)
        if dtype.is_packed:
            values, count = rng.integers(0, 256, 1000, dtype=np.uint8), 1600
        elif name in ("int8", "int16"):
            values, count = (x * 20).astype(dtype.storage), 2000
        else:
            values, count = rounded(x, name) if name != "complex64" else x.astype(name), 2000
        for force in Coding:
            if force is not Coding.ZSTD:
                for speed in ("balanced", "small"):
                    code = encode_values(values, dtype, row_length=50, force=force, speed=speed)  # type: ignore[arg-type]
                    yield name, code, count
        zeros = values.copy()
        zeros[rng.random(values.size) < 0.5] = 0
        code = encode_values(zeros, dtype, row_length=50, speed="small")
        if code[0] == 0:  # no zstd
            yield name, code, count
    mixed = rng.standard_normal((20, 64)).astype(np.float32)
    mixed[::3] = mixed[::3].astype(np.float16)
    yield "float32", encode_values(mixed.reshape(-1), DTYPES["float32"], row_length=64), mixed.size


def test_reference_agrees(verdicts: Verdicts) -> None:
    for name, code, count in samples():
        check(code, DTYPES[name], count, verdicts)


def test_reference_agrees_on_damage(verdicts: Verdicts) -> None:
    rng = np.random.default_rng(8)
    for name, code, count in samples():
        for place in (*range(HEAD, min(HEAD + 24, len(code)), 3), *rng.integers(HEAD, len(code), 3)):
            damaged = bytearray(code)
            damaged[place] ^= 1 << rng.integers(0, 8)
            check(bytes(damaged), DTYPES[name], count, verdicts)


def test_wrong_fields_are_refused() -> None:
    scale = struct.pack("<f", 0.5)
    one = b"\x07" + scale  # a scale, CONSTANT
    q = b"\x07\x03"
    offsets = b"\0\x80"

    def decode(block: bytes, count: int = 16, row: int = 8, name: str = "float32") -> Array:
        return decode_values(struct.pack("<BII", 0, 64, row) + block, DTYPES[name], count)

    good = struct.pack("<BI", Coding.MULTIPLES, 8) + one + q + offsets
    assert np.array_equal(decode(good), np.full(16, 1.5, np.float32))
    columns = struct.pack("<BI", Coding.MULTIPLES, 0) + one + q + offsets
    assert np.array_equal(decode(columns), np.full(16, 1.5, np.float32))
    wrong = [
        good[:1] + struct.pack("<I", 4) + good[5:],  # too short a run
        good[:1] + struct.pack("<I", 16) + good[5:],  # longer than a row
        good + b"\0",
        good[:-1],
        columns[:5] + b"\x01" + columns[6:],  # MASK in the place of the scales
    ]
    for bits in (0, 0x80000000, 0x007FFFFF, 0x7F800000, 0x7FC00000, 246 << 23, 0xBF000000):
        wrong.append(good[:6] + struct.pack("<I", bits) + good[10:])
    for block in wrong:
        with pytest.raises(NnbitsError) as error:
            decode(block)
        assert error.value.code is ReasonCode.LOSSLESS_BLOCK
    with pytest.raises(NnbitsError):
        decode(columns, 15)
    for name in ("int32", "float64"):
        with pytest.raises(NnbitsError):
            decode(good, name=name)
    half = good[:6] + struct.pack("<I", 135 << 23) + good[10:]
    assert decode(half).shape == (16,)
    with pytest.raises(NnbitsError):
        decode(half, name="float16")
    entries = b"\x07" + scale
    index = b"\x07" + struct.pack("<H", 1)
    dictionary = struct.pack("<BH", Coding.DICTIONARY, 1) + entries + index
    assert np.array_equal(decode(dictionary), np.full(16, 0.5, np.float32))
    for block in (
        struct.pack("<BH", Coding.DICTIONARY, 0) + entries + index,  # an index too great
        struct.pack("<BH", Coding.DICTIONARY, 16) + entries + index,  # more entries than items
        dictionary + b"\0",
    ):
        with pytest.raises(NnbitsError) as error:
            decode(block)
        assert error.value.code is ReasonCode.LOSSLESS_BLOCK
    half = struct.pack("<BHBH", Coding.DICTIONARY, 1, Coding.CONSTANT, 0x3800) + index
    assert np.array_equal(decode(half, name="float16"), np.full(16, 0.5, np.float16))
    with pytest.raises(NnbitsError):
        decode(half[:4] + half[5:], name="int8")
