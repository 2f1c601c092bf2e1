"""Ranks from energies, and the QPs of factors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnbits
from nnbits.codec.errors import NnbitsError, ReasonCode
from nnbits.codec.plan import BlockPlan, EncodePlan, TensorPlan
from nnbits.codec.types import Model, from_numpy
from nnbits.tools.methods.batch_norm import plan_batch_norm
from nnbits.tools.methods.low_rank import plan_low_rank, rank_for_energy


def _model(arrays: dict[str, np.ndarray]) -> Model:
    return Model([from_numpy(name, array) for name, array in arrays.items()])


def _low_rank(rows: int, columns: int, rank: int) -> np.ndarray:
    rng = np.random.default_rng(rank)
    return (rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))).astype(np.float32) / 8


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8).map(lambda s: sorted(s, reverse=True)), st.floats(0.01, 1))
def test_rank_is_the_smallest_that_keeps_the_energy(values: list[float], energy: float) -> None:
    s = np.array(values)
    rank = rank_for_energy(s, energy)
    assert 1 <= rank <= len(values)
    total = np.square(s).sum()
    assert np.square(s[:rank]).sum() >= energy * total * (1 - 1e-12)
    assert rank == 1 or np.square(s[: rank - 1]).sum() < energy * total


@pytest.mark.parametrize("qp", [-28, -16])
@pytest.mark.parametrize("coding", ["uniform", "dependent"])
def test_the_product_errs_as_the_weight_would(coding: Any, qp: int) -> None:
    model = _model({"w": _low_rank(96, 200, 8)})
    base = EncodePlan({"w": TensorPlan(coding, qp)})
    plan = plan_low_rank(model, base, energy=0.9999)
    assert plan.blocks == (BlockPlan("w", rank=8),)
    w = model.tensors[0].read()
    errors, sizes = [], []
    for item in (base, plan):
        data = nnbits.encode(model, plan=item)
        errors.append(float(np.mean((nnbits.decode(data)["w"] - w) ** 2)))
        sizes.append(len(data))
    assert 0.5 < errors[1] / errors[0] < 2
    assert sizes[1] < 0.3 * sizes[0]


def test_only_where_it_saves_numbers() -> None:
    rng = np.random.default_rng(0)
    model = _model(
        {"dense": rng.normal(size=(20, 30)).astype(np.float32), "low": _low_rank(20, 30, 3), "v": np.ones(5)}
    )
    plan = plan_low_rank(model, nnbits.plan_quantized(model, qp=-20), energy=0.99)
    assert [block.weight for block in plan.blocks] == ["low"]


def test_explicit_ranks_and_blocks_with_vectors() -> None:
    rng = np.random.default_rng(0)
    arrays = {"conv.weight": rng.normal(size=(12, 4, 3, 3)), "conv.bias": rng.normal(size=12)}
    arrays |= {f"bn.{key}": rng.random(12) + 0.5 for key in ("weight", "bias", "running_mean", "running_var")}
    model = _model({name: array.astype(np.float32) for name, array in arrays.items()})
    folded = plan_batch_norm(model, nnbits.plan_quantized(model, qp=-28))
    plan = plan_low_rank(model, folded, ranks={"conv.weight": 12})
    (block,) = plan.blocks
    assert (block.rank, block.bias, block.folds) == (12, "conv.bias", True)
    assert set(plan.tensors) - set(folded.tensors) == {"conv.weight_G", "conv.weight_H"}
    assert EncodePlan.from_dict(plan.to_dict()) == plan
    want, got = (nnbits.decode(nnbits.encode(model, plan=p)) for p in (folded, plan))
    assert np.abs(want["conv.weight"] - got["conv.weight"]).max() < 0.1
    assert np.array_equal(want["conv.bias"], got["conv.bias"])


def test_zeros_and_values_that_are_not_finite() -> None:
    arrays = {"zero": np.zeros((30, 40), np.float32), "nan": np.full((30, 40), np.nan, np.float32)}
    model = _model(arrays)
    base = EncodePlan({name: TensorPlan("uniform", -20) for name in arrays})
    plan = plan_low_rank(model, base, energy=0.9)
    assert [(block.weight, block.rank) for block in plan.blocks] == [("zero", 1)]
    zero = nnbits.encode({"zero": arrays["zero"]}, plan=EncodePlan({"zero": base.tensors["zero"]}, blocks=plan.blocks))
    assert not nnbits.decode(zero)["zero"].any()


@pytest.mark.parametrize(
    "options",
    [{}, {"energy": 0.0}, {"energy": 1.5}, {"energy": 0.5, "ranks": {}}, {"ranks": {"x": 1}}, {"ranks": {"exact": 1}}],
)
def test_wrong_arguments(options: dict[str, Any]) -> None:
    model = _model({"w": _low_rank(20, 30, 3), "exact": _low_rank(20, 30, 3)})
    base = EncodePlan({"w": TensorPlan("uniform", -20), "exact": TensorPlan("raw")})
    with pytest.raises(NnbitsError) as caught:
        plan_low_rank(model, base, **options)
    assert caught.value.code is ReasonCode.BAD_OPTION


def test_ranks_that_are_too_large_are_refused_when_encoding() -> None:
    model = _model({"w": _low_rank(4, 3, 2)})
    plan = plan_low_rank(model, EncodePlan({"w": TensorPlan("uniform", -20)}), ranks={"w": 4})
    with pytest.raises(NnbitsError) as caught:
        nnbits.encode(model, plan=plan)
    assert caught.value.code is ReasonCode.BAD_OPTION
