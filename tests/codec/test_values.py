"""Sections of values: what is coded is decoded before it is written."""

from __future__ import annotations

import numpy as np
import pytest

from nnbits.codec import lossless, values
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
