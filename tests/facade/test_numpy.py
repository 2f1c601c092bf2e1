"""``nnbits.numpy`` behaves as ``safetensors.numpy`` does, where it does not say otherwise."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnbits.numpy as ours
from nnbits import NnbitsError, ReasonCode

ml_dtypes = pytest.importorskip("ml_dtypes")
reference = pytest.importorskip("safetensors.numpy")

NUMPY_TYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?", "c8", "c16", ">f4"]
OTHER_TYPES = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "int4", "uint4", "float4_e2m1fn", "int2"]


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    found = {name: rng.integers(0, 2, (3, 5)).astype(name) for name in NUMPY_TYPES}
    found |= {name: rng.integers(0, 2, (3, 5)).astype(getattr(ml_dtypes, name)) for name in OTHER_TYPES}
    return found | {"scalar": np.float32(3).reshape(()), "empty": np.zeros((2, 0), np.float32)}


def test_signatures_are_those_of_safetensors() -> None:
    for name in ("save", "save_file", "load", "load_file"):
        theirs = [p for p in inspect.signature(getattr(reference, name)).parameters if p != "backend"]
        mine = [p for p in inspect.signature(getattr(ours, name)).parameters if p != "options"]
        assert mine == theirs, name


def test_every_element_type_comes_back(tmp_path: Path) -> None:
    given = arrays()
    ours.save_file(given, tmp_path / "m.nnc", {"k": "v"})
    for back in (ours.load_file(tmp_path / "m.nnc"), ours.load(ours.save(given))):
        assert list(back) == list(given)
        for name, array in given.items():
            assert back[name].dtype == array.dtype.newbyteorder("=")
            assert back[name].shape == array.shape
            same = array.astype(array.dtype.newbyteorder("=")) if array.dtype.str[0] == ">" else array
            assert back[name].tobytes() == same.tobytes()
    with ours.safe_open(tmp_path / "m.nnc") as file:
        assert file.metadata() == {"k": "v"}
        assert file.keys() == list(given)
        assert file.get_slice("f4").get_shape() == [3, 5]
        assert (file.get_slice("f4")[1:, ::2] == given["f4"][1:, ::2]).all()
        assert file.get_slice("f4")[-1, 2] == given["f4"][-1, 2]
        assert file.get_slice("scalar")[()] == 3
        assert (file.get_slice("int4")[1] == given["int4"][1]).all()


def test_what_cannot_be_stored_is_refused() -> None:
    for tensors in ({"a": [1.0]}, {"a": np.array(["x"])}, {2: np.zeros(1)}):
        with pytest.raises(NnbitsError) as caught:
            ours.save(tensors)  # type: ignore[arg-type]
        assert caught.value.code is ReasonCode.BAD_TENSOR
