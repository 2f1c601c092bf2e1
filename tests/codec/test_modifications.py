"""What a plan does to values before they are quantized: thresholds, zeroed rows; and the rate's weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nnbits
from nnbits.codec.encode import modified
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import EncodePlan, TensorPlan


def _decoded(x: np.ndarray, how: TensorPlan) -> np.ndarray:
    result: np.ndarray = nnbits.decode(nnbits.encode({"x": x}, plan=EncodePlan({"x": how})))["x"]
    return result


@given(
    hnp.arrays(np.float32, (4, 5), elements=st.floats(-4, 4, width=32)),
    st.floats(1e-60, 8),
    st.sets(st.integers(0, 3)),
)
def test_threshold_and_rows(x: np.ndarray, threshold: float, rows: set[int]) -> None:
    before = x.copy()
    got = modified(x, TensorPlan("uniform", -20, threshold=threshold, zero_rows=tuple(sorted(rows))))
    assert np.array_equal(x, before)
    want = x.copy()
    want[np.abs(x.astype(np.float64)) < threshold] = 0
    want[sorted(rows)] = 0
    assert np.array_equal(got, want)


def test_a_threshold_between_two_float32_values() -> None:
    x = np.array([0.1, np.nextafter(np.float32(0.1), np.float32(1))], np.float32)
    below, above = float(x[0]), float(x[1])
    for threshold, kept in ((below, 2), ((below + above) / 2, 1), (above, 1), (above + 1e-9, 0)):
        assert np.count_nonzero(modified(x, TensorPlan("uniform", 0, threshold=threshold))) == kept


@pytest.mark.parametrize("coding", ["uniform", "dependent", "codebook"])
def test_they_reach_the_stream(coding: Any) -> None:
    x = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    plain = _decoded(x, TensorPlan(coding, -24))
    got = _decoded(x, TensorPlan(coding, -24, threshold=0.5, zero_rows=(0, 7, 39)))
    assert np.count_nonzero(got) < 0.68 * np.count_nonzero(plain)
    assert not got[[0, 7, 39]].any()
    small = np.abs(x) < 0.5
    # The trellis may make one step of a zero where that brings it into a better state.
    assert np.abs(got[small]).max() <= (2.0**-6 if coding == "dependent" else 0)
    assert np.count_nonzero(got[small]) < 0.06 * np.count_nonzero(small)


def test_zeroed_rows_cost_almost_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(100, 90)).astype(np.float32)

    def size(rows: tuple[int, ...]) -> int:
        return len(nnbits.encode({"x": x}, plan=EncodePlan({"x": TensorPlan("dependent", -24, zero_rows=rows)})))

    assert size(tuple(range(0, 100, 2))) < 0.52 * size(())


@pytest.mark.parametrize("shape", [(3, 2), (3,), ()])
def test_rows_that_do_not_exist(shape: tuple[int, ...]) -> None:
    with pytest.raises(NnbitsError) as caught:
        _decoded(np.ones(shape, np.float32), TensorPlan("uniform", 0, zero_rows=(0, 3)))
    assert caught.value.code is ReasonCode.BAD_OPTION
