"""The codec for numcodecs: exact, registered, safe on damaged chunks."""

from __future__ import annotations

import numpy as np
import pytest

numcodecs = pytest.importorskip("numcodecs")

from nnbits import NnbitsError  # noqa: E402
from nnbits.numcodecs import NNBits  # noqa: E402


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "u2", "i1", "u1", "?", "c8", ">f4"])
@pytest.mark.parametrize("shape", [(0,), (1,), (7, 300), (70_000,)], ids=str)
def test_arrays_come_back(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(0, 1, shape).astype(dtype)
    codec = NNBits()
    coded = codec.encode(array)
    assert bytes(codec.decode(coded)) == array.tobytes()
    out = np.empty_like(array)
    codec.decode(coded, out)
    assert out.tobytes() == array.tobytes()


def test_weights_become_smaller_and_the_registry_knows_the_codec() -> None:
    weights = np.random.default_rng(0).normal(0, 0.02, 100_000).astype(np.float32)
    codec = numcodecs.get_codec({"id": "nnbits", "dtype": "float32", "speed": "fast"})
    assert isinstance(codec, NNBits)
    assert codec.get_config() == {"id": "nnbits", "dtype": "float32", "row_length": 0, "speed": "fast"}
    assert len(codec.encode(weights.tobytes())) < 0.9 * weights.nbytes


def test_damaged_chunks_are_refused() -> None:
    codec = NNBits()
    coded = codec.encode(np.arange(1000, dtype=np.float32))
    for cut in (0, 5, 9, len(coded) // 2, len(coded) - 1):
        with pytest.raises(NnbitsError):
            codec.decode(coded[:cut])
    with pytest.raises(NnbitsError):
        codec.decode(coded, np.empty(999, np.float32))
    with pytest.raises(NnbitsError):
        NNBits(dtype="float33")
