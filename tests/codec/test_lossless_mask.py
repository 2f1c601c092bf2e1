"""Masks of pruned weights by classes of rows (method 3): sizes, shapes, and the reference decoder."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnbits.codec.entropy import ans_reference
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.lossless import Coding, Speed, decode_values, encode_values
from nnbits.codec.lossless.reference import mask_table
from nnbits.codec.types import DTYPES, Array, DType

ByReference = Callable[[bytes, DType, int], bytes]
Verdicts = Callable[[bytes, DType, int], tuple["bytes | ReasonCode", "bytes | ReasonCode"]]

SPEEDS: tuple[Speed, ...] = ("fast", "balanced", "small")
HEAD = 9
BY_ROWS = 3


def pruned(dtype: DType, rows: int, columns: int, densities: Array, seed: int = 1) -> Array:
    """Numbers of which a row has a share of its density, at random places."""
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 100, (rows, columns)).astype(dtype.storage)
    if dtype.is_numpy and dtype.kind == "float":
        values = (rng.standard_normal((rows, columns)) * 0.02).astype(dtype.storage)
    values[rng.random((rows, columns)) >= np.resize(densities, rows)[:, None]] = 0
    return np.ascontiguousarray(values.reshape(-1))


def payload(mask: bytes, chances: bytes, bits: int, classes: bytes, row_items: int, numbers: list[int]) -> bytes:
    """Items of a byte, each its number among those that are there, below a mask."""
    code = ans_reference.encode(mask, [mask_table(chance) for chance in chances], numbers)
    ones = sum(byte.bit_count() for byte in mask)
    block = bytes([Coding.MASK, BY_ROWS, bits]) + chances + classes + struct.pack("<I", len(code)) + code
    return (
        struct.pack("<BII", 0, 8 * len(mask), row_items)
        + block
        + bytes([Coding.RAW])
        + bytes(k % 255 + 1 for k in range(ones))
    )


@pytest.mark.parametrize("chance", range(1, 256))
def test_tables(by_reference: ByReference, chance: int) -> None:
    """All of them are tables, near what they stand for, and the core has the same."""
    table = mask_table(chance)
    assert sum(table.values()) == ans_reference.SLOTS
    assert min(table.values()) >= 1
    assert sorted(table) == list(range(256))
    p = chance / 256
    q = np.array([p ** k.bit_count() * (1 - p) ** (8 - k.bit_count()) for k in range(256)])
    least = -(q * np.log2(q)).sum()
    bits = -(q * np.log2([table[k] / ans_reference.SLOTS for k in range(256)])).sum()
    assert bits < least * (1.0015 if 53 <= chance <= 203 else 1.016 if 20 <= chance <= 236 else 1.3)
    mask = bytes(range(256))
    code = payload(mask, bytes([chance]), 0, b"", 8, [0] * 256)
    expected = by_reference(code, DTYPES["uint8"], 2048)
    assert np.count_nonzero(np.frombuffer(expected, np.uint8)) == 1024
    assert decode_values(code, DTYPES["uint8"], 2048).tobytes() == expected


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_shapes(by_reference: ByReference, data: st.DataObject) -> None:
    dtype = DTYPES[data.draw(st.sampled_from(["float32", "bfloat16", "float64", "int16", "int8"]))]
    columns = data.draw(st.integers(1, 400))
    rows = data.draw(st.integers(1, 20000 // columns))
    densities = np.array(data.draw(st.lists(st.floats(0, 1), min_size=1, max_size=9)))
    values = pruned(dtype, rows, columns, densities, data.draw(st.integers(0, 2**32 - 1)))
    values = values[: data.draw(st.integers(1, values.size))]
    speed = data.draw(st.sampled_from(SPEEDS))
    code = bytes(encode_values(values, dtype, row_length=columns, speed=speed, force=Coding.MASK))
    assert decode_values(code, dtype, values.size).tobytes() == values.tobytes()
    if code[0] == 0:
        assert by_reference(code, dtype, values.size) == values.tobytes()


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "int8"])
def test_classes_of_rows(name: str) -> None:
    """Rows of four densities: the mask is near the entropy of an item given its row."""
    dtype = DTYPES[name]
    densities = np.array([0.1, 0.2, 0.35, 0.5])
    values = pruned(dtype, 200, 512, densities)
    code = bytes(encode_values(values, dtype, row_length=512, speed="small"))
    assert decode_values(code, dtype, values.size).tobytes() == values.tobytes()
    assert code[HEAD : HEAD + 3] == bytes([Coding.MASK, BY_ROWS, 2])
    at = HEAD + 3 + 4 + 200 * 2 // 8
    entropy = -(densities * np.log2(densities) + (1 - densities) * np.log2(1 - densities)).mean()
    assert int.from_bytes(code[at : at + 4], "little") < values.size / 8 * entropy * 1.01 + 256
    assert len(code) < len(encode_values(values, dtype, row_length=512, speed="balanced"))


def test_masks_of_other_kinds() -> None:
    """Where bytes tell more than densities do, or rows do not begin with bytes, masks are planes as others."""
    values = pruned(DTYPES["float32"], 256, 256, np.array([1.0])).reshape(-1, 4)
    rng = np.random.default_rng(2)
    values[np.arange(len(values))[:, None], rng.random((len(values), 4)).argsort(axis=1)[:, :2]] = 0
    for speed in SPEEDS:
        code = encode_values(values.reshape(-1), DTYPES["float32"], row_length=256, speed=speed)
        assert bytes(code[HEAD : HEAD + 2]) == bytes([Coding.MASK, 2])
        odd = pruned(DTYPES["float32"], 300, 73, np.array([0.1, 0.4]))
        code = encode_values(odd, DTYPES["float32"], row_length=73, speed=speed)
        assert bytes(code[HEAD : HEAD + 2]) == bytes([Coding.MASK, 2])


def test_one_class() -> None:
    """Of few rows, or rows that are alike, classes cost more than they save, and a table does all the more."""
    for rows in (10, 60):
        values = pruned(DTYPES["float32"], rows, 384, np.array([0.3]))
        code = bytes(encode_values(values, DTYPES["float32"], row_length=384, speed="small"))
        assert code[HEAD : HEAD + 3] == bytes([Coding.MASK, BY_ROWS, 0])
        assert decode_values(code, DTYPES["float32"], values.size).tobytes() == values.tobytes()


def test_damage_is_refused_or_harmless(verdicts: Verdicts) -> None:
    """As the reference refuses it, too."""
    dtype = DTYPES["float32"]
    values = pruned(dtype, 60, 64, np.array([0.05, 0.2, 0.4, 0.6]))
    code = bytes(encode_values(values, dtype, row_length=64, speed="small"))
    assert code[HEAD : HEAD + 3] == bytes([Coding.MASK, BY_ROWS, 2])
    rng = np.random.default_rng(3)
    of_core = []
    for place in [*range(HEAD, HEAD + 40), *rng.integers(HEAD, len(code), 60)]:
        damaged = bytearray(code)
        damaged[place] ^= 1 << rng.integers(0, 8)
        found = verdicts(bytes(damaged), dtype, values.size)
        assert found[0] == found[1]
        of_core.append(found[0])
    assert of_core.count(ReasonCode.LOSSLESS_BLOCK) > 30
    for end in range(HEAD, len(code), 7):
        with pytest.raises(NnbitsError) as refused:
            decode_values(code[:end], dtype, values.size)
        assert refused.value.code is ReasonCode.LOSSLESS_BLOCK


def test_what_is_not_wanted_is_refused(by_reference: ByReference) -> None:
    numbers = [0, 0, 1, 1, 2, 2, 3, 3]
    good = (b"\x03\x00\xff\x81\x10\x02\x07\x3c", b"\x20\x40\x80\xe0", 2, b"\xe4", 16, numbers)
    assert decode_values(payload(*good), DTYPES["uint8"], 64).size == 64
    code = payload(*good)
    for bad in (
        code.replace(bytes([Coding.MASK, BY_ROWS, 2]), bytes([Coding.MASK, BY_ROWS, 3])),
        code.replace(good[1], b"\x20\x40\x80\x00"),
        struct.pack("<BII", 0, 64, 4) + code[HEAD:],
    ):
        assert bad != code
        for read in (lambda c: decode_values(c, DTYPES["uint8"], 64), lambda c: by_reference(c, DTYPES["uint8"], 64)):
            with pytest.raises(NnbitsError) as refused:
                read(bad)
            assert refused.value.code is ReasonCode.LOSSLESS_BLOCK


def test_pinned_bytes() -> None:
    """The format does not change unnoticed."""
    head = "00 40000000 10000000" + "01 03 02 204080e0 e4 14000000"
    code = "a9593e8d 29732d03 f00f0001 12980500" + "7000c003"
    values = decode_values(
        bytes.fromhex(head + code + "08") + bytes(range(1, 22)), DTYPES["uint8"], 64, out=np.zeros(64, np.uint8)
    )
    assert np.packbits(values != 0, bitorder="little").tobytes() == bytes.fromhex("0300ff811002073c")
