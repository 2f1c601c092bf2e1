"""The search: never worse, deterministic, and right where the answer is known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnbits
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import BlockPlan, EncodePlan, TensorPlan
from nnbits.codec.types import Model, from_numpy
from nnbits.formats.registry import adapter_for_file
from nnbits.tools.methods.search import Choice, plan_search

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits.safetensors"


def _model(arrays: dict[str, np.ndarray]) -> Model:
    return Model([from_numpy(name, array) for name, array in arrays.items()])


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def _size(model: Model, plan: EncodePlan) -> int:
    return len(nnbits.encode(model, plan=plan))


@pytest.fixture(scope="module")
def digits() -> Model:
    return adapter_for_file(DIGITS).read(DIGITS)


@pytest.mark.parametrize("dependent", [True, False])
def test_smaller_at_equal_error(digits: Model, dependent: bool) -> None:
    base = nnbits.plan_quantized(digits, qp=-24, dependent=dependent)
    choices: list[Choice] = []
    plan = plan_search(digits, base, on_choice=choices.append)
    assert _size(digits, plan) < 0.99 * _size(digits, base)
    assert [choice.name for choice in choices] == [t.info.name for t in digits if t.info.dtype.kind == "float"]
    for choice in choices:
        assert choice.after == plan.tensors[choice.name]
        saved = 8 * (choice.bytes_before - choice.bytes_after)
        elements = math.prod(next(t.info.shape for t in digits if t.info.name == choice.name))
        if choice.error_before:
            saved -= elements / 2 * math.log2(choice.error_after / choice.error_before)
            assert abs(math.log2(choice.error_after / choice.error_before)) < 1
        assert saved >= -1e-6


def test_it_does_not_depend_on_threads(digits: Model) -> None:
    base = nnbits.plan_quantized(digits, qp=-20)
    assert plan_search(digits, base, threads=1) == plan_search(digits, base, threads=3)


def test_dependent_beats_uniform_on_dense_weights() -> None:
    model = _model({"w": _normal(128, 128)})
    for coding in ("uniform", "dependent"):
        plan = plan_search(model, EncodePlan({"w": TensorPlan(coding, -16)}))  # type: ignore[arg-type]
        assert plan.tensors["w"].coding == "dependent"


def test_a_codebook_for_few_values_far_apart() -> None:
    values = np.array([-9.0, -2.5, 0.25, 7.75, 30.0], np.float32)
    model = _model({"w": np.random.default_rng(0).choice(values, (64, 64))})
    base = EncodePlan({"w": TensorPlan("uniform", -8)})
    plan = plan_search(model, base)
    assert plan.tensors["w"].coding == "codebook"
    assert plan.tensors["w"].qp == -8
    assert _size(model, plan) < 0.9 * _size(model, base)


def test_an_exact_plan_stays_exact() -> None:
    model = _model({"w": np.round(_normal(50, 50) * 8) / 8})
    plan = plan_search(model, EncodePlan({"w": TensorPlan("uniform", -12)}))
    assert np.array_equal(nnbits.decode(nnbits.encode(model, plan=plan))["w"], model.tensors[0].read())


def test_only_what_is_asked_for(digits: Model) -> None:
    base = nnbits.plan_quantized(digits, qp=-24)
    assert plan_search(digits, base, codings=(), scan_orders=(), unary_lengths=()) == base
    plan = plan_search(digits, base, codings=(), scan_orders=())
    changed = {name for name in plan.tensors if plan.tensors[name] != base.tensors[name]}
    assert changed
    for name in changed:
        unary_length = plan.tensors[name].cabac_unary_length_minus1
        assert plan.tensors[name] == replace(base.tensors[name], cabac_unary_length_minus1=unary_length)


def test_what_is_not_quantized_stays() -> None:
    model = _model({"count": np.arange(4), "exact": _normal(3, 3), "empty": np.zeros((0, 2), np.float32)})
    base = EncodePlan({"count": TensorPlan("integer"), "exact": TensorPlan("raw"), "empty": TensorPlan("uniform", 0)})
    assert plan_search(model, base) == base


@pytest.mark.parametrize("name", ["float16", "float64", "bfloat16"])
def test_other_element_types(name: str) -> None:
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else np.dtype(name)
    model = _model({"w": _normal(20, 20).astype(dtype), "s": np.float32(0.5)})
    base = nnbits.plan_quantized(model, qp=-16)
    assert _size(model, plan_search(model, base)) <= _size(model, base)


def test_bit_depth_keeps_its_step() -> None:
    model = _model({"w": _normal(40, 40)})
    base = EncodePlan({"w": TensorPlan("uniform", -6, bitdepth=4)})
    after = plan_search(model, base).tensors["w"]
    assert after.coding in ("uniform", "codebook")
    assert (after.qp, after.bitdepth) == (-6, 4)


def test_modifications_stay() -> None:
    model = _model({"w": _normal(40, 40)})
    base = EncodePlan({"w": TensorPlan("dependent", -12, threshold=1.0, zero_rows=(1, 2))})
    plan = plan_search(model, base)
    assert (plan.tensors["w"].threshold, plan.tensors["w"].zero_rows) == (1.0, (1, 2))
    decoded = nnbits.decode(nnbits.encode(model, plan=plan))["w"]
    assert np.count_nonzero(decoded) < 0.4 * decoded.size


@pytest.mark.parametrize("fold", [None, 1e-5])
def test_blocks_stay_consistent(digits: Model, fold: float | None) -> None:
    """A few values far apart make a codebook of a weight whose vectors then become uniform."""
    arrays: dict[str, Any] = {t.info.name: t.read() for t in digits}
    levels = np.array([-0.5, -0.125, 0.0, 0.25, 1.0], np.float32)
    shape = arrays["conv2.weight"].shape
    arrays["conv2.weight"] = np.random.default_rng(0).choice(levels, shape)
    model = _model(arrays)
    blocks = tuple(
        BlockPlan(
            f"conv{i}.weight", None, (f"bn{i}.bias", f"bn{i}.weight", f"bn{i}.running_mean", f"bn{i}.running_var")
        )
        for i in (1, 2, 3)
    )
    blocks = (*(replace(block, fold_epsilon=fold) for block in blocks), BlockPlan("fc1.weight", "fc1.bias", rank=50))
    base = replace(nnbits.plan_quantized(model, qp=-20, dependent=False), blocks=blocks)
    plan = plan_search(model, base)
    assert plan.tensors["conv2.weight"].coding == "codebook"
    assert plan.tensors["conv3.weight"].coding == "dependent"
    assert plan.tensors["bn2.bias"].coding == "uniform"
    assert plan.tensors["bn3.bias"].coding == "dependent"
    after = replace(plan.tensors["fc1.weight"], cabac_unary_length_minus1=10)
    assert after == base.tensors["fc1.weight"]
    assert _size(model, plan) < _size(model, base)


@pytest.mark.parametrize("options", [{"codings": ["raw"]}, {"scan_orders": [5]}, {"unary_lengths": [256]}])
def test_options_out_of_range(options: Any) -> None:
    model = _model({"w": _normal(4, 4)})
    with pytest.raises(NnbitsError) as caught:
        plan_search(model, EncodePlan({"w": TensorPlan("uniform", 0)}), **options)
    assert caught.value.code is ReasonCode.BAD_OPTION


def test_a_tensor_that_the_plan_forgets() -> None:
    with pytest.raises(NnbitsError) as caught:
        plan_search(_model({"w": _normal(4, 4)}), EncodePlan())
    assert caught.value.code is ReasonCode.BAD_OPTION
