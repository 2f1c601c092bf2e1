"""Bit-depth plans: the steps of the notes, what stays exact, and the levels that come out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from nnbits.codec.api import decode, encode, plan_quantized
from nnbits.codec.decode import Stream
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import EncodePlan, TensorPlan
from nnbits.codec.quant.step import qp_range, step_size
from nnbits.codec.types import Model, from_numpy
from nnbits.tools.methods.quantize import plan_bits, plan_opt_qp


def model_of(arrays: Mapping[str, Any]) -> Model:
    return Model([from_numpy(name, array) for name, array in arrays.items()])


def qp_of(array: Any, bits: int, qp_density: int = 2) -> int:
    qp = plan_bits(model_of({"x": array}), bits, qp_density=qp_density).tensors["x"].qp
    assert qp is not None
    return qp


@pytest.mark.parametrize(
    ("number", "seed", "shape", "bits", "sha256", "qp"),
    [
        (88, 130, (16, 18), 4, "cc58dfe732ba31340554c113825a8d8ea3940df2acbd0710496b24bf7b6a6331", -6),
        (90, 132, (9, 8), 3, None, -2),
        (90, 133, (9,), 3, None, -24),
        (93, 136, (6, 8), 16, None, -57),
    ],
)
def test_qp_of_the_specification_vectors(
    number: int, seed: int, shape: tuple[int, ...], bits: int, sha256: str | None, qp: int
) -> None:
    x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    if sha256 is not None:
        assert hashlib.sha256(x.tobytes()).hexdigest() == sha256
    assert qp_of(x, bits) == qp


def test_qp_of_the_unsigned_specification_vector() -> None:
    assert qp_of(np.random.default_rng(131).random((16, 18)).astype(np.float32), 8) == -32


def test_step_is_the_percentile_over_the_largest_level() -> None:
    # 99.95 % of 2001 sorted magnitudes: the second largest, exactly.
    signed = np.linspace(-7, 7, 2001).reshape(3, 667).astype(np.float32)
    second = np.sort(np.abs(signed).ravel())[-2]
    for density in (2, 4, 7):
        step = step_size(qp_of(signed, 4, density), density)
        assert step == pytest.approx(second / 7, rel=2.0 ** -(density + 1))
    unsigned = np.abs(signed)
    assert step_size(qp_of(unsigned, 4, 7), 7) == pytest.approx(second / 15, rel=2.0**-8)


def test_outliers_are_clipped() -> None:
    x = np.ones((100, 100), np.float32)
    x[::2] = -1
    x[0, 0] = 1000
    plan = plan_bits(model_of({"x": x}), 4)
    qp = plan.tensors["x"].qp
    assert qp is not None
    decoded = decode(encode({"x": x}, plan=plan))["x"]
    levels = decoded / step_size(qp, 2)
    assert levels.max() == 7
    assert levels.min() >= -8
    assert np.abs(decoded.ravel()[1:] - x.ravel()[1:]).max() <= step_size(qp, 2) / 2


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8, 12])
def test_levels_have_so_many_bits(bits: int) -> None:
    rng = np.random.default_rng(7)
    arrays = {"signed": rng.normal(size=(40, 50)), "unsigned": rng.random((40, 50))}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    plan = plan_bits(model_of(arrays), bits)
    decoded = decode(encode(arrays, plan=plan))
    for name, values in decoded.items():
        qp = plan.tensors[name].qp
        assert qp is not None
        levels = np.round(values / step_size(qp, 2)).astype(int)
        assert levels.max() - levels.min() < 2**bits
        assert plan.tensors[name].bitdepth == bits


def test_nonweights_get_at_least_8_bits() -> None:
    x = np.linspace(-1, 1, 64).astype(np.float32)
    model = model_of({"matrix": x.reshape(8, 8), "vector": x, "scalar": np.float32(0.3)})
    plan = plan_bits(model, 4).tensors
    assert {name: item.bitdepth for name, item in plan.items()} == {"matrix": 4, "vector": 8, "scalar": 8}
    assert plan_bits(model, 10).tensors["vector"].bitdepth == 10


def test_what_stays_exact() -> None:
    arrays = {
        "integers": np.arange(5, dtype=np.int64),
        "flags": np.array([True, False]),
        "infinite": np.array([[1, np.inf]], np.float32),
        "nan": np.array([[1, np.nan]], np.float16),
        "empty": np.zeros((0, 3), np.float32),
        "weights": np.ones((2, 2), np.float32),
    }
    plan = plan_bits(model_of(arrays), 4)
    assert list(plan.tensors) == list(arrays)
    codings = {name: item.coding for name, item in plan.tensors.items()}
    assert codings == {
        "integers": "integer",
        "flags": "integer",
        "infinite": "raw",
        "nan": "raw",
        "empty": "raw",
        "weights": "uniform",
    }
    decoded = decode(encode(arrays, plan=plan))
    for name in ("integers", "flags", "infinite", "nan", "empty"):
        assert decoded[name].tobytes() == arrays[name].tobytes()


def test_extremes() -> None:
    assert plan_bits(model_of({"x": np.zeros((3, 3), np.float32)}), 4).tensors["x"] == TensorPlan(
        "uniform", 0, bitdepth=4
    )
    low, high = qp_range(2)
    assert qp_of(np.full((2, 2), 1e-42, np.float32), 16) == low
    assert qp_of(np.full((2, 2), 3e38, np.float32), 2) == high
    sparse = np.zeros((100, 100), np.float32)
    sparse[0, 0] = -7  # the percentile is 0: the largest magnitude is taken
    assert step_size(qp_of(sparse, 4), 2) == 1


@pytest.mark.parametrize("name", ["float16", "float64", "bfloat16"])
def test_other_float_types(name: str) -> None:
    x = np.linspace(-7, 7, 400).reshape(20, 20)
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16) if name == "bfloat16" else np.dtype(name)
    assert qp_of(x.astype(dtype), 4) == qp_of(x.astype(np.float32), 4)


@pytest.mark.parametrize(("bits", "density"), [(1, 2), (33, 2), (4, 8), (4, -1)])
def test_arguments_out_of_range(bits: int, density: int) -> None:
    with pytest.raises(NnbitsError) as caught:
        plan_bits(model_of({"x": np.ones((2, 2), np.float32)}), bits, qp_density=density)
    assert caught.value.code is ReasonCode.BAD_OPTION


def test_levels_of_the_bit_depth_vectors(vector: Any) -> None:
    """QP and levels are the peer's; under dependent quantization, where it clips wrongly, and codebooks, the QP is."""
    bits = vector.data["call"].get("arguments", {}).get("int_quant_bw")
    if not bits:
        pytest.skip("no bit depth")
    arrays = {name: vector.input(name) for name in vector.data["decoded"]}
    plan = plan_bits(model_of(arrays), bits)
    stream = Stream(memoryview(encode(arrays, plan=plan)))
    for unit in stream.data_units:
        (part,), (levels,) = unit.parts, stream.levels(unit)
        record = vector.data["decoded"][part.name]
        assert plan.tensors[part.name].qp == record["qp"]
        if record["method"] == "uniform" and not record["dq_flag"]:
            assert hashlib.sha256(levels.levels.astype("<i4").tobytes()).hexdigest() == record["levels_sha256"]


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_clipping_corrupts_nothing(bits: int) -> None:
    """Every value is the quantizer's, clipped; the peer's values after a clipped level may be anything."""
    x = np.random.default_rng(135).normal(size=(60, 70)).astype(np.float32)
    x[::7, ::5] *= 30
    plan = plan_bits(model_of({"x": x}), bits)
    qp = plan.tensors["x"].qp
    assert qp is not None
    step = step_size(qp, 2)
    decoded = decode(encode({"x": x}, plan=plan))["x"]
    assert (
        np.abs(decoded - np.clip(x, -(2 ** (bits - 1)) * step, (2 ** (bits - 1) - 1) * step)).max() <= step / 2 * 1.0001
    )


def test_opt_qp_of_the_specification_vector(vector: Any) -> None:
    arguments = vector.data["call"].get("arguments", {})
    if not arguments.get("opt_qp"):
        pytest.skip("no opt_qp")
    arrays = {name: vector.input(name) for name in vector.data["decoded"]}
    model = model_of(arrays)
    plan = plan_opt_qp(model, plan_quantized(model, qp=arguments["qp"], nonweight_qp=-75))
    assert {n: t.qp for n, t in plan.tensors.items()} == {n: r["qp"] for n, r in vector.data["decoded"].items()}


def test_opt_qp_leaves_exact_tensors() -> None:
    arrays = {"w": np.ones((3, 3), np.float32), "i": np.ones((3, 3), np.int8), "z": np.zeros((3, 0), np.float32)}
    model = model_of(arrays)
    base = plan_quantized(model, qp=-20)
    plan = plan_opt_qp(model, base)
    assert plan.tensors["w"].qp == -17  # a share of 1 counts as 0.15
    assert {n: t for n, t in plan.tensors.items() if n != "w"} == {n: t for n, t in base.tensors.items() if n != "w"}
    assert plan_opt_qp(model_of({}), EncodePlan()) == EncodePlan()
