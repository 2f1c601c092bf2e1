"""Sections of values: what is coded is decoded before it is written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import nnbits
from nnbits.codec import lossless, values
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.sparse import EncodedMap
from nnbits.codec.syntax import ValueCoding
from nnbits.codec.types import DTYPES


@pytest.mark.parametrize(("name", "count"), [("float32", 3_000_000), ("bfloat16", 5000), ("uint3", 9001), ("int8", 77)])
def test_a_fault_of_the_encoder_is_seen(monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> None:
    dtype = DTYPES[name]
    stored = np.zeros(values.stored_bytes(dtype, count), np.uint8)
    stored[:: max(1, dtype.itemsize)] = np.random.default_rng(1).integers(0, 3, stored[:: max(1, dtype.itemsize)].size)
    stored = stored.view(dtype.storage)
    good = values.encode_sections(stored, dtype, (count,), sparse_map="none")
    assert good.coding is ValueCoding.LOSSLESS
    encode = lossless.encode_values
    last = stored.copy()
    last[-1:].view(np.uint8)[:] ^= 1

    def of_another(_: object, *args: object, **options: object) -> memoryview:
        return encode(last, *args, **options)  # type: ignore[arg-type]

    def damaged(*args: object, **options: object) -> memoryview:
        return encode(*args, **options)[:-1]  # type: ignore[arg-type]

    for fault in (of_another, damaged):
        monkeypatch.setattr(lossless, "encode_values", fault)
        with pytest.warns(RuntimeWarning, match=f"{name}.*failed its check"):
            found = values.encode_sections(stored, dtype, (count,), sparse_map="none")
        assert found.coding is ValueCoding.RAW
        assert bytes(found.values) == stored.tobytes()


@pytest.mark.parametrize("name", ["float16", "int8", "uint4"])
def test_a_fault_of_a_sparse_map_is_seen(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    dtype = DTYPES[name]
    rng = np.random.default_rng(2)
    elements = rng.integers(1, 16, 4096) * (rng.random(4096) < 0.2)
    stored = (elements[::2] | elements[1::2] << 4).astype(np.uint8) if dtype.is_packed else elements
    stored = stored.astype(dtype.storage)
    good = values.encode_sections(stored, dtype, (64, 64), sparse_map="bitmask")
    assert good.value_count == np.count_nonzero(elements)
    make = values.encode_map

    def shifted(*args: object, **options: object) -> EncodedMap | None:
        found = make(*args, **options)  # type: ignore[arg-type]
        return found and replace(found, values=np.roll(found.values, 1))

    def of_another(*args: object, **options: object) -> EncodedMap | None:
        found = make(*args, **options)  # type: ignore[arg-type]
        payload = bytes(np.roll(np.frombuffer(found.payload, np.uint8), 1)) if found else b""
        return found and replace(found, payload=payload)

    for fault in (shifted, of_another):
        monkeypatch.setattr(values, "encode_map", fault)
        with pytest.warns(RuntimeWarning, match=f"{name}.*failed its check"):
            found = values.encode_sections(stored, dtype, (64, 64), sparse_map="bitmask")
        assert (found.coding, found.map_kind) == (ValueCoding.RAW, 0)
        assert bytes(found.values) == stored.tobytes()


@pytest.mark.parametrize("exact", [False, True])
def test_elements_that_no_reader_takes_are_refused(exact: bool) -> None:
    cases = [("bool", np.full(64, 2), ReasonCode.VALUE_RANGE), ("uint4", np.full(5, 0xFF), ReasonCode.RESERVED_BITS)]
    for name, stored, code in cases:
        dtype = DTYPES[name]
        raw = stored.astype(np.uint8).view(dtype.storage)
        with pytest.raises(NnbitsError) as caught:
            values.encode_sections(raw, dtype, (9 if dtype.is_packed else 64,), exact=exact)
        assert caught.value.code is code


def test_the_tensor_is_named() -> None:
    with pytest.raises(NnbitsError, match="a bool is neither 0 nor 1") as caught:
        nnbits.encode({"layer.mask": np.full(64, 2, np.uint8).view(np.bool_)})
    assert (caught.value.code, caught.value.path) == (ReasonCode.VALUE_RANGE, "layer.mask")
