"""Quantizers that weigh the rate: the C core against the Python reference, and what they are for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nnbits
from nnbits.codec.entropy import native as entropy
from nnbits.codec.entropy import tables
from nnbits.codec.entropy.coding import LevelCoding, LevelsToCode
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import EncodePlan, TensorPlan
from nnbits.codec.quant import native, reference

SPECIFICATION = Path(__file__).resolve().parents[3] / "shared" / "spec"


def test_tables_are_those_of_the_specification() -> None:
    file = SPECIFICATION / "tables.json"
    if not file.exists():
        pytest.skip("../shared/spec is not there")
    given = json.loads(file.read_text())
    assert [list(pair) for pair in tables.est_bits()] == given["est_bits"]
    assert [list(row) for row in tables.RLPS] == given["RLPS_rows"]
    assert list(tables.STEPS) == given["D"]
    assert [list(row) for row in tables.NEXT] == given["NEXT"]
    assert [{**s._asdict(), "p": 16 * s.a + s.b} for s in tables.INITIAL_SETS] == given["init_sets"]


@pytest.mark.parametrize("p", [-4096, -4089, -9, -1, 0, 7, 8, 1000, 4095])
def test_estimate_follows_its_formula(p: int) -> None:
    """nnc-encoder-notes section 4: the less probable bin costs X(d), the more probable one what is left."""
    d = p >> 3 if p >= 0 else min(511, -(p >> 3))
    less = 32768 + 400.79895 * (d + 0.5)
    more = -32768 * math.log2(1 - 2 ** (-less / 32768))
    probable = int(p >= 0)
    pair = tables.est_bits()[512 + (p >> 3)]
    assert pair[1 - probable] == round(less)
    assert pair[probable] == round(more)


@st.composite
def problems(draw: Any) -> dict[str, Any]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    coding = LevelCoding(
        draw(st.integers(1, 20)),
        draw(st.sampled_from([1, 2, 7, 9, 20])),
        dq=draw(st.booleans()),
        unary_length=draw(st.sampled_from([1, 2, 11, 30, 256])),
        scan_order=draw(st.integers(0, 4)),
        parent=draw(st.booleans()),
        temporal=draw(st.booleans()),
    )
    scale = draw(st.sampled_from([0.3, 2.0, 10.0, 50.0, 1e9, 1e13]))
    x = (rng.laplace(size=(coding.height, coding.width)) * scale).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = rng.choice(np.array([0.0, -0.0], np.float32))
    sets = rng.integers(0, 9, coding.context_count).astype(np.uint8) if draw(st.booleans()) else None
    return {
        "x": x,
        "qp": draw(st.integers(-4, 4)),
        "qp_density": 2,
        "coding": coding,
        "lambda_scale": draw(st.sampled_from([1e-300, 1e-3, 0.5, 1.0, 2.0, 10.0, 1e5, 9e29])),
        "initial_sets": sets,
    }


@settings(max_examples=60, deadline=None)
@given(problems())
def test_the_core_decides_as_the_reference(problem: dict[str, Any]) -> None:
    levels, qp = native.quantize_weighed(**problem)
    expected, expected_qp = reference.quantize_weighed(**problem)
    assert qp == expected_qp
    np.testing.assert_array_equal(levels, expected)


def weights(seed: int = 1, shape: tuple[int, int] = (64, 90)) -> NDArray[np.float32]:
    return np.random.default_rng(seed).laplace(size=shape).astype(np.float32)


def coded_size(coding: LevelCoding, levels: NDArray[np.int32]) -> int:
    return len(entropy.encode_payload([LevelsToCode(coding, levels, initial_sets="cost")]).data)


@pytest.mark.parametrize("dq", [False, True])
@pytest.mark.parametrize("scan_order", [0, 2])
@pytest.mark.parametrize("qp", [-8, 0])
def test_rate_falls_where_error_rises_and_the_cost_is_least_at_its_lambda(dq: bool, scan_order: int, qp: int) -> None:
    x = weights()
    coding = LevelCoding(*x.shape, dq=dq, scan_order=scan_order)
    plain = (
        native.quantize_dependent(x, qp, 2, height=64, width=90, scan_order=scan_order)[0]
        if dq
        else native.quantize_uniform(x, qp, 2)[0]
    )
    sets = entropy.choose_initial_sets(LevelsToCode(coding, plain), "cost")
    lambdas = (0.5, 1.0, 2.0)
    options: dict[str, Any] = {"coding": coding, "initial_sets": sets}
    found = [plain, *(native.quantize_weighed(x, qp, 2, lambda_scale=s, **options)[0] for s in lambdas)]
    step = 2.0 ** (qp / 4)
    errors = [float(np.square(levels - x.reshape(-1) / step).sum()) for levels in found]
    sizes = [coded_size(coding, levels) for levels in found]
    assert errors == sorted(errors)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]
    slope = math.log(2) / 6 * (2.8 if dq else 1)
    for at, scale in enumerate(lambdas, 1):
        costs = [error + scale * slope * 8 * size for error, size in zip(errors, sizes, strict=True)]
        assert costs[at] < costs[0]


@pytest.mark.parametrize("dq", [False, True])
def test_a_vanishing_lambda_leaves_the_least_error(dq: bool) -> None:
    x = weights(2)
    coding = LevelCoding(*x.shape, dq=dq)
    plain = native.quantize_dependent(x, 0, 2, height=64, width=90) if dq else native.quantize_uniform(x, 0, 2)
    levels, _ = native.quantize_weighed(x, 0, 2, coding=coding, lambda_scale=1e-300)
    np.testing.assert_array_equal(levels, plain[0])


@pytest.mark.parametrize("coding", ["uniform", "dependent", "codebook"])
def test_streams_with_a_lambda(coding: Any) -> None:
    x = weights(3)

    def stream(scale: float, scan_order: int = 0) -> bytes:
        how = TensorPlan(coding, qp=-8, lambda_scale=scale, scan_order=scan_order)
        return nnbits.encode({"w": x}, plan=EncodePlan({"w": how}))

    plain = stream(0)
    for scan_order in (0, 1):
        weighed = stream(2, scan_order)
        values = nnbits.decode(weighed)["w"]
        assert 0 < np.abs(values - x).max() < 4 * 2.0**-2
    assert len(stream(2)) < len(plain)


def test_what_is_refused() -> None:
    x = np.ones((2, 3), np.float32)
    coding = LevelCoding(2, 3, dq=True)
    for changed, code in (
        ({"lambda_scale": 0.0}, ReasonCode.BAD_OPTION),
        ({"lambda_scale": -1.0}, ReasonCode.BAD_OPTION),
        ({"lambda_scale": math.nan}, ReasonCode.BAD_OPTION),
        ({"lambda_scale": 1e31}, ReasonCode.BAD_OPTION),
        ({"coding": LevelCoding(3, 3)}, ReasonCode.SHAPE_MISMATCH),
        ({"initial_sets": np.full(coding.context_count, 9, np.uint8)}, ReasonCode.BAD_OPTION),
        ({"initial_sets": np.zeros(5, np.uint8)}, ReasonCode.SHAPE_MISMATCH),
        ({"x": np.array([[1, 2, 3], [4, np.inf, 5]], np.float32)}, ReasonCode.BAD_TENSOR),
    ):
        options: dict[str, Any] = {"x": x, "qp": 0, "qp_density": 2, "coding": coding, "lambda_scale": 1.0, **changed}
        with pytest.raises(NnbitsError) as caught:
            native.quantize_weighed(**options)
        assert caught.value.code == code, changed


@pytest.mark.parametrize("dq", [False, True])
def test_nothing_to_quantize(dq: bool) -> None:
    for engine in (native, reference):
        options: dict[str, Any] = {"coding": LevelCoding(0, 3, dq=dq), "lambda_scale": 1.0}
        levels, qp = engine.quantize_weighed(np.zeros((0, 3), np.float32), 5, 2, **options)
        assert (levels.size, qp) == (0, 5)
