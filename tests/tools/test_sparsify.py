"""Thresholds and zeroed rows that reach a target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnbits
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import BlockPlan, EncodePlan, TensorPlan
from nnbits.codec.quant.step import step_size
from nnbits.codec.types import Model, from_numpy
from nnbits.tools.methods.sparsify import plan_sparsify, plan_structured


def _model(arrays: dict[str, np.ndarray]) -> Model:
    return Model([from_numpy(name, array) for name, array in arrays.items()])


def _weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "a": rng.normal(size=(50, 40)).astype(np.float32),
        "b": (0.05 * rng.normal(size=(30, 10, 3, 3)) + 0.01).astype(np.float32),
        "bias": rng.normal(size=50).astype(np.float32),
        "count": np.arange(4).reshape(2, 2),
    }


@pytest.mark.parametrize("target", [0.01, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("coding", ["uniform", "codebook"])
def test_target_share_of_zeros(target: float, coding: Any) -> None:
    arrays = _weights()
    model = _model(arrays)
    plans = {name: TensorPlan(coding, -40) for name in ("a", "b", "bias")}
    plan = plan_sparsify(model, EncodePlan({**plans, "count": TensorPlan("integer")}), target)
    decoded = nnbits.decode(nnbits.encode(model, plan=plan))
    zeros = sum(np.count_nonzero(decoded[name] == 0) for name in ("a", "b"))
    share = zeros / (arrays["a"].size + arrays["b"].size)
    assert share >= target
    assert share < max(target, 0.27) + 0.03  # delta starts at 0.25
    assert plan.tensors["bias"].threshold is None
    assert np.array_equal(decoded["count"], arrays["count"])


def test_threshold_rule() -> None:
    model = _model(_weights())
    plan = plan_sparsify(model, nnbits.plan_quantized(model, qp=-40), 0.01)
    for name in ("a", "b"):
        x = _weights()[name].astype(np.float64)
        want = max(abs(x.mean() - 0.25 * x.std()), abs(x.mean() + 0.25 * x.std()))
        assert plan.tensors[name].threshold == pytest.approx(want, rel=1e-9)
    coarse = plan_sparsify(model, nnbits.plan_quantized(model, qp=20), 0.01)
    assert coarse.tensors["a"].threshold == step_size(20, 2) / 2


def test_a_target_that_is_reached_already() -> None:
    x = np.where(_weights()["a"] > 0.5, _weights()["a"], 0)
    model = _model({"a": x})
    base = nnbits.plan_quantized(model, qp=-20)
    assert plan_sparsify(model, base, 0.6) == base
    assert plan_sparsify(_model(_weights()), base, 0.0) == base
    assert plan_sparsify(model, base, 0.9) != base


def test_rows_count_as_zeros() -> None:
    model = _model({"a": _weights()["a"]})
    rows = tuple(range(0, 50, 2))
    base = EncodePlan({"a": TensorPlan("uniform", -40, zero_rows=rows)})
    plain = EncodePlan({"a": TensorPlan("uniform", -40)})
    some, more = plan_sparsify(model, base, 0.8).tensors["a"], plan_sparsify(model, plain, 0.8).tensors["a"]
    assert some.zero_rows == rows
    assert some.threshold is not None
    assert more.threshold is not None
    assert some.threshold < more.threshold


def test_small_rows() -> None:
    x = np.ones((6, 2, 3), np.float32) * np.array([1, 2, 3, 10, 10, 10], np.float32).reshape(6, 1, 1)
    x[:, 0] *= -1
    model = _model({"x": x, "v": np.ones(3, np.float32)})
    base = EncodePlan({"x": TensorPlan("uniform", 0), "v": TensorPlan("uniform", 0)})
    plan = plan_structured(model, base, 0.6)
    assert plan.tensors["x"].zero_rows == (0, 1, 2)  # the average of the means is 6
    assert plan_structured(model, base, 0.2).tensors["x"].zero_rows == (0,)
    assert plan_structured(model, plan, 0).tensors["x"].zero_rows == ()
    decoded = nnbits.decode(nnbits.encode(model, plan=plan))["x"]
    assert np.array_equal(decoded[3:], x[3:])
    assert not decoded[:3].any()


def test_what_cannot_be_sparsified_stays() -> None:
    arrays = {"w": np.ones((4, 4)), "raw": np.ones((4, 4)), "nan": np.full((2, 2), np.nan), "empty": np.zeros((0, 2))}
    model = _model({name: array.astype(np.float32) for name, array in arrays.items()})
    tensors = {name: TensorPlan("uniform", -20) for name in ("w", "nan", "empty")}
    base = EncodePlan({**tensors, "raw": TensorPlan("raw")}, blocks=(BlockPlan("w", rank=1),))
    assert plan_sparsify(model, base, 0.5) == base
    assert plan_structured(model, base, 0.9) == base


@pytest.mark.parametrize("target", [-0.1, 1.0, float("nan")])
def test_targets_out_of_range(target: float) -> None:
    model = _model(_weights())
    with pytest.raises(NnbitsError) as caught:
        plan_sparsify(model, nnbits.plan_quantized(model, qp=-20), target)
    assert caught.value.code is ReasonCode.BAD_OPTION


def test_a_target_that_is_never_reached() -> None:
    model = _model({"w": np.ones((4, 4), np.float32)})
    with pytest.raises(NnbitsError) as caught:
        plan_sparsify(model, nnbits.plan_quantized(model, qp=-20), 0.5)
    assert caught.value.code is ReasonCode.BAD_OPTION
    with pytest.raises(NnbitsError):
        plan_structured(model, nnbits.plan_quantized(model, qp=-20), -1)
