"""Carriers of the standard profile: every bit pattern of the 16-bit types survives."""

from __future__ import annotations

import numpy as np
import pytest

from nnbits.codec.convert import (
    float32_is_exact,
    from_float32,
    from_int32,
    in_standard_profile,
    int32_is_exact,
    to_float32,
    to_int32,
)
from nnbits.codec.types import DTYPES

ALL_16 = np.arange(2**16, dtype=np.uint16)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_all_16_bit_patterns_survive_float32(name: str) -> None:
    dtype = DTYPES[name]
    stored = ALL_16.view(dtype.storage)
    back = from_float32(dtype, to_float32(dtype, stored))
    assert back.dtype == dtype.storage
    np.testing.assert_array_equal(back.view(np.uint16), ALL_16)


def test_bfloat16_agrees_with_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(1)
    values = rng.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    ours = from_float32(DTYPES["bfloat16"], values)
    with np.errstate(invalid="ignore"):
        theirs = values.astype(ml_dtypes.bfloat16).view(np.uint16)
    finite = ~np.isnan(values)
    np.testing.assert_array_equal(ours[finite], theirs[finite])
    assert (np.isnan(to_float32(DTYPES["bfloat16"], ours)) == ~finite).all()


def test_foreign_nan_stays_nan() -> None:
    nan = np.array([0x7F800001, 0xFF800001], np.uint32).view(np.float32)
    for name in ("float16", "bfloat16", "float64"):
        dtype = DTYPES[name]
        assert np.isnan(to_float32(dtype, from_float32(dtype, nan))).all()


def test_float64_exactness_is_judged_by_bits() -> None:
    dtype = DTYPES["float64"]
    assert float32_is_exact(dtype, np.array([0.5, -0.0, np.inf, 2.0**-149]))
    assert not float32_is_exact(dtype, np.array([0.5, 0.1]))
    assert not float32_is_exact(dtype, np.array([1e300]))
    assert not float32_is_exact(dtype, np.array([0x7FF0000000000001], np.uint64).view(np.float64))


@pytest.mark.parametrize("name", [n for n, d in DTYPES.items() if d.kind != "float" and in_standard_profile(d)])
def test_integers_survive_int32_where_they_fit(name: str) -> None:
    dtype = DTYPES[name]
    low, high = (0, 1) if name == "bool" else (np.iinfo(dtype.storage).min, np.iinfo(dtype.storage).max)
    low, high = max(low, -(2**31)), min(high, 2**31 - 1)
    stored = np.array([low, high, 0, 1]).astype(dtype.storage)
    assert int32_is_exact(dtype, stored)
    back = from_int32(dtype, to_int32(stored))
    np.testing.assert_array_equal(back, stored)
    assert back.dtype == dtype.storage


def test_wide_integers_are_refused() -> None:
    assert not int32_is_exact(DTYPES["int64"], np.array([2**31]))
    assert not int32_is_exact(DTYPES["int64"], np.array([-(2**31) - 1]))
    assert not int32_is_exact(DTYPES["uint32"], np.array([2**31], np.uint32))
    assert int32_is_exact(DTYPES["uint64"], np.array([], np.uint64))
